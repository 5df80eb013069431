//! How a guest ends its machine: one register to power off, one to reset.

use super::{BusDevice, Outcome};
use crate::StopReason;

/// Sleep control register (ACPI 6.5, 4.8.3.7): writing `SLP_EN` with the sleep type of S5 powers off.
#[derive(Debug, Default)]
pub struct PowerRegister;

/// `SLP_EN`, and S5 in `SLP_TYP` (bits 2 to 4).
const POWER_OFF: u8 = (1 << 5) | (5 << 2);

impl BusDevice for PowerRegister {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Outcome {
        if data == [POWER_OFF] { Outcome::Stop(StopReason::PowerOff) } else { Outcome::Continue }
    }
}

/// Command register of a PC's keyboard controller: its command "pulse the reset line" is how a kernel resets
/// a PC (`reboot=k`). No keyboard is behind it.
#[derive(Debug, Default)]
pub struct ResetRegister;

const PULSE_RESET_LINE: u8 = 0xfe;

impl BusDevice for ResetRegister {
    /// Status: the input buffer is empty, so that a kernel does not wait before it writes its command.
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) -> Outcome {
        if data == [PULSE_RESET_LINE] { Outcome::Stop(StopReason::Reset) } else { Outcome::Continue }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_commands_stop_the_machine() {
        for value in 0..=u8::MAX {
            let power = PowerRegister.write(0, &[value]);
            assert_eq!(power == Outcome::Stop(StopReason::PowerOff), value == 0x34, "{value:#x}");
            let reset = ResetRegister.write(0, &[value]);
            assert_eq!(reset == Outcome::Stop(StopReason::Reset), value == 0xfe, "{value:#x}");
        }
        assert_eq!(PowerRegister.write(0, &[0x34, 0]), Outcome::Continue);
        assert_eq!(ResetRegister.write(0, &[]), Outcome::Continue);
    }
}
