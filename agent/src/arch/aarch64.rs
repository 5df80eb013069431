//! aarch64: PSCI `SYSTEM_OFF`, which the kernel calls on reboot(2).

use rustix::system::{RebootCommand, reboot};

/// Powers the machine off; returns when the kernel could not.
pub(crate) fn power_off() {
    let _ = reboot(RebootCommand::PowerOff);
}
