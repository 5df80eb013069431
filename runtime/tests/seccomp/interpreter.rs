//! What the kernel does with a seccomp filter: checks the program, then runs it on a system call.

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub(crate) number: u32,
    pub(crate) audit: u32,
    pub(crate) args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        assert_eq!(offset % 4, 0);
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                u32::try_from(if offset.is_multiple_of(8) { arg & 0xffff_ffff } else { arg >> 32 }).unwrap()
            }
            _ => panic!("the word at {offset} is not used"),
        }
    }
}

/// What the program returns.
pub(crate) fn run(program: &[u64], data: &Data) -> u32 {
    execute(program, data).0
}

/// How many instructions it runs for that.
pub(crate) fn steps(program: &[u64], data: &Data) -> usize {
    execute(program, data).1
}

fn execute(program: &[u64], data: &Data) -> (u32, usize) {
    assert!(program.len() <= 4096);
    let (mut at, mut accumulator) = (0, 0);
    for step in 1..=program.len() {
        let instruction = program[at];
        let (code, k) = (instruction >> 48, u32::try_from(instruction & 0xffff_ffff).unwrap());
        let (if_true, if_false) = ((instruction >> 40 & 0xff) as usize, (instruction >> 32 & 0xff) as usize);
        let jump = |holds: bool| if holds { if_true } else { if_false };
        at += 1;
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x45 => at += jump(accumulator & k != 0),
            0x06 => return (k, step),
            _ => panic!("code {code:#x} is not used"),
        }
    }
    panic!("the program does not end");
}
