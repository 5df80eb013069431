//! The guest kernel's log as messages, for a monitor that has no stderr of its own.

use std::io::{self, Write};

/// Longest line that is kept together.
const LONGEST: usize = 1024;

/// Turns lines into messages.
#[derive(Debug, Default)]
pub(crate) struct KernelLog(Vec<u8>);

impl Write for KernelLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            if byte != b'\n' {
                self.0.push(byte);
            }
            if byte == b'\n' || self.0.len() >= LONGEST {
                log::debug!("guest: {}", String::from_utf8_lossy(&self.0).trim_end());
                self.0.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
