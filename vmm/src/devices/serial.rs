//! The console for the guest kernel's log: a 16550 UART that is only written to.
//!
//! It exists only when the log is asked for, so it costs nothing otherwise. The kernel polls it, so it has no
//! interrupt line.

use std::convert::Infallible;
use std::fmt;
use std::io::Write;

use vm_superio::Trigger;

use super::{BusDevice, Outcome};

/// A UART whose output goes to a writer.
pub struct Serial(vm_superio::Serial<NoInterrupt, vm_superio::serial::NoEvents, Box<dyn Write + Send>>);

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial").finish_non_exhaustive()
    }
}

struct NoInterrupt;

impl Trigger for NoInterrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Serial {
    /// A UART that writes to `output`. Errors of `output` are lost, as characters on an unplugged line are.
    #[must_use]
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        Self(vm_superio::Serial::new(NoInterrupt, output))
    }
}

impl BusDevice for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let (Ok(offset), [byte]) = (u8::try_from(offset), data) {
            *byte = self.0.read(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Outcome {
        if let (Ok(offset), [byte]) = (u8::try_from(offset), data) {
            let _ = self.0.write(offset, *byte);
        }
        Outcome::Continue
    }
}
