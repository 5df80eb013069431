//! The guest-physical address space and the interrupt lines.
//!
//! ```text
//! 0x0000_0500  GDT                      0x0002_0000  kernel command line
//! 0x0000_7000  zero page (boot_params)  0x0003_0000  setup_data: random seed
//! 0x0000_8ff0  boot stack               0x0009_fc00  MP table
//! 0x0000_9000  page tables              0x0010_0000  high memory: kernel ... initramfs
//! 0xd000_0000  end of low RAM, virtio-mmio devices
//! 0xfec0_0000  IOAPIC, 0xfee0_0000 local APICs, 0xfffb_d000 KVM's TSS pages
//! 0x1_0000_0000  RAM beyond 3.25 GiB
//! ```

use vm_memory::GuestAddress;

use crate::config::MemorySize;

pub(super) const PAGE: u64 = 4096;
pub(super) const GDT: u64 = 0x500;
pub(super) const ZERO_PAGE: u64 = 0x7000;
pub(super) const BOOT_STACK: u64 = 0x8ff0;
pub(super) const PML4: u64 = 0x9000;
pub(super) const PDPT: u64 = 0xa000;
pub(super) const PAGE_DIRECTORY: u64 = 0xb000;
pub(super) const CMDLINE: u64 = 0x2_0000;
/// The kernel takes 2047 bytes (`COMMAND_LINE_SIZE` of x86) and a null.
pub(super) const CMDLINE_MAX: usize = 2048;
pub(super) const SETUP_DATA: u64 = 0x3_0000;
/// The last KiB of the 640 KiB of base memory, where the kernel looks for an MP table.
pub(super) const MP_TABLE: u64 = 0x9_fc00;
pub(super) const MP_TABLE_END: u64 = 0xa_0000;
pub(super) const HIGH_MEMORY: u64 = 0x10_0000;
/// End of the RAM below 4 GiB.
pub(super) const LOW_RAM_END: u64 = 0xd000_0000;
/// Start of the RAM above the device hole.
pub(super) const HIGH_RAM: u64 = 1 << 32;
pub(super) const IOAPIC: u32 = 0xfec0_0000;
pub(super) const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages that KVM on Intel processors needs for itself.
pub(super) const KVM_TSS: usize = 0xfffb_d000;

/// RAM of a guest with `size` of it.
pub(crate) fn memory_regions(size: MemorySize) -> Vec<(GuestAddress, usize)> {
    let low = size.bytes().min(LOW_RAM_END);
    [(0, low), (HIGH_RAM, size.bytes() - low)]
        .into_iter()
        .filter(|(_, length)| *length > 0)
        .map(|(start, length)| (GuestAddress(start), usize::try_from(length).unwrap_or(usize::MAX)))
        .collect()
}

/// Places for virtio-mmio devices.
#[derive(Debug)]
pub(crate) struct MmioSlots;

impl MmioSlots {
    /// Bytes that a device's registers take.
    pub(crate) const SIZE: u64 = PAGE;
    /// The first interrupt line that no legacy device claims.
    const FIRST_IRQ: u32 = 5;
    /// Lines of the IOAPIC that are left.
    pub(crate) const COUNT: u32 = 24 - Self::FIRST_IRQ;

    /// Guest-physical address of the registers of device `index`.
    pub(crate) fn address(index: u32) -> u64 {
        LOW_RAM_END + u64::from(index) * Self::SIZE
    }

    /// Its interrupt line.
    pub(crate) fn irq(index: u32) -> u32 {
        Self::FIRST_IRQ + index
    }

    /// What tells the guest's kernel of it (`VIRTIO_MMIO_CMDLINE_DEVICES`).
    pub(crate) fn cmdline(index: u32) -> String {
        format!("virtio_mmio.device=4K@{:#x}:{}", Self::address(index), Self::irq(index))
    }
}

/// Addresses of the fixed devices: I/O ports here.
#[derive(Debug)]
pub(crate) struct PlatformDevice;

impl PlatformDevice {
    /// COM1: eight registers.
    pub(crate) const CONSOLE: (u64, u64) = (0x3f8, 8);
    /// Status and command register of the keyboard controller, by which a PC is reset.
    pub(crate) const RESET: (u64, u64) = (0x64, 1);
    /// Sleep control register (ACPI 6.5, 4.8.3.7), by which the machine is powered off.
    pub(crate) const POWER: (u64, u64) = (0x600, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_the_device_hole_free() {
        let regions = |mib: u64| {
            memory_regions(MemorySize::from_bytes(mib << 20).unwrap())
                .into_iter()
                .map(|(start, length)| (start.0, length as u64))
                .collect::<Vec<_>>()
        };
        assert_eq!(regions(128), [(0, 128 << 20)]);
        assert_eq!(regions(3328), [(0, 3328 << 20)]);
        assert_eq!(regions(4096), [(0, 3328 << 20), (1 << 32, 768 << 20)]);
    }
}
