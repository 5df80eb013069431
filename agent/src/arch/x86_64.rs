//! x86_64: the machine has an ACPI sleep control register at a fixed port, and no ACPI tables to find it by.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::pwrite;

const SLEEP_CONTROL_PORT: u64 = 0x600;
/// `SLP_EN`, and 5 (S5, soft off) in `SLP_TYP` (ACPI 6.5, 4.8.3.7).
const SOFT_OFF: u8 = 1 << 5 | 5 << 2;

/// Powers the machine off; returns when there is no such register.
pub(crate) fn power_off() {
    if let Ok(port) = openat(CWD, c"/dev/port", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = pwrite(port, &[SOFT_OFF], SLEEP_CONTROL_PORT);
    }
}
