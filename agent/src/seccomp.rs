//! `linux.seccomp`: the filter that the runtime has compiled, loaded as the last thing or nearly so.

use drupe_protocol::SeccompFilter;

use crate::failure::{Named, Result};
use crate::sys;

/// A filter that is ready to load. Loading allocates nothing, so that it can be followed by exec alone.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<libc::sock_filter>,
    flags: u32,
}

impl Filter {
    pub(crate) fn new(config: &SeccompFilter) -> Self {
        Self { program: config.program.iter().copied().map(instruction).collect(), flags: config.flags }
    }

    /// Loads it for this process and all that it will execute.
    pub(crate) fn load(&self) -> Result<()> {
        sys::load_filter(&self.program, self.flags).named(
            "linux.seccomp",
            format_args!(
                "filter of {} instructions with flags {:#x}: cannot be loaded",
                self.program.len(),
                self.flags
            ),
        )
    }
}

/// Code, jump if true, jump if false, operand, from the most significant byte on.
fn instruction(bits: u64) -> libc::sock_filter {
    let [code_high, code_low, jt, jf, k @ ..] = bits.to_be_bytes();
    libc::sock_filter { code: u16::from_be_bytes([code_high, code_low]), jt, jf, k: u32::from_be_bytes(k) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_one_integer() {
        let read = instruction(0x0015_0102_c000_003e);
        assert_eq!((read.code, read.jt, read.jf, read.k), (0x15, 1, 2, 0xc000_003e));
    }
}
