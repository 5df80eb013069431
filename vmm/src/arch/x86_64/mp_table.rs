//! The MP table (Intel MultiProcessor Specification 1.4): tells the kernel of its processors and the IOAPIC
//! without ACPI.
//!
//! The table lies in the last KiB of base memory: 16 bytes of floating pointer, a header of 44, 20 a
//! processor and 8 for each other entry leave room for more than [`VcpuCount::MAX`] processors.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;
use crate::config::VcpuCount;

const SPEC_REVISION_1_4: u8 = 4;
const APIC_VERSION: u8 = 0x14;
const CPU_ENABLED: u8 = 1;
const CPU_BOOTSTRAP: u8 = 2;
/// Family 6, model 0, stepping 0.
const CPU_SIGNATURE: u32 = 0x600;
/// APIC and FPU on chip.
const CPU_FEATURES: u32 = 0x201;
const BUS_ISA: u8 = 0;
const IOAPIC_USABLE: u8 = 1;
const INTERRUPT_VECTORED: u8 = 0;
const INTERRUPT_NMI: u8 = 1;
const INTERRUPT_EXTINT: u8 = 3;
const ALL_LOCAL_APICS: u8 = 0xff;
/// ISA has 16 interrupt lines, wired to the first pins; virtio-mmio devices use them and those behind.
const IOAPIC_PINS: u8 = 24;

/// Entry types (section 4.3).
mod entry {
    pub(super) const PROCESSOR: u8 = 0;
    pub(super) const BUS: u8 = 1;
    pub(super) const IOAPIC: u8 = 2;
    pub(super) const IO_INTERRUPT: u8 = 3;
    pub(super) const LOCAL_INTERRUPT: u8 = 4;
}

/// Writes the table for `vcpus` processors.
pub(super) fn write(memory: &GuestMemoryMmap, vcpus: VcpuCount) -> Result<(), GuestMemoryError> {
    let table = configuration_table(vcpus);
    let pointer = floating_pointer(layout::MP_TABLE + 16);
    memory.write_slice(&pointer, GuestAddress(layout::MP_TABLE))?;
    memory.write_slice(&table, GuestAddress(layout::MP_TABLE + 16))
}

/// Section 4.1.
fn floating_pointer(table: u64) -> Vec<u8> {
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(u32::try_from(table).unwrap_or_default().to_le_bytes());
    bytes.extend([1, SPEC_REVISION_1_4, 0, 0, 0, 0, 0, 0]); // one paragraph long, then the checksum
    set_checksum(&mut bytes, 10);
    bytes
}

/// Sections 4.2 and 4.3.
fn configuration_table(vcpus: VcpuCount) -> Vec<u8> {
    let ioapic_id = vcpus.get();
    let mut entries: Vec<Vec<u8>> = (0..vcpus.get()).map(processor).collect();
    entries.push([&[entry::BUS, 0][..], b"ISA   "].concat());
    entries.push(
        [&[entry::IOAPIC, ioapic_id, APIC_VERSION, IOAPIC_USABLE][..], &layout::IOAPIC.to_le_bytes()]
            .concat(),
    );
    entries.extend(
        (0..IOAPIC_PINS)
            .map(|pin| vec![entry::IO_INTERRUPT, INTERRUPT_VECTORED, 0, 0, BUS_ISA, pin, ioapic_id, pin]),
    );
    entries.push(vec![entry::LOCAL_INTERRUPT, INTERRUPT_EXTINT, 0, 0, BUS_ISA, 0, 0, 0]);
    entries.push(vec![entry::LOCAL_INTERRUPT, INTERRUPT_NMI, 0, 0, BUS_ISA, 0, ALL_LOCAL_APICS, 1]);

    let body = entries.concat();
    let length = u16::try_from(HEADER_BYTES + body.len()).unwrap_or_default();
    let count = u16::try_from(entries.len()).unwrap_or_default();
    let mut table = b"PCMP".to_vec();
    table.extend(length.to_le_bytes());
    table.extend([SPEC_REVISION_1_4, 0]); // then the checksum
    table.extend(b"DRUPE   microVM     "); // OEM id (8), product id (12)
    table.extend([0; 6]); // no OEM table
    table.extend(count.to_le_bytes());
    table.extend(layout::LOCAL_APIC.to_le_bytes());
    table.extend([0; 4]); // no extended entries
    table.extend(body);
    set_checksum(&mut table, 7);
    table
}

const HEADER_BYTES: usize = 44;

fn processor(apic_id: u8) -> Vec<u8> {
    let flags = CPU_ENABLED | if apic_id == 0 { CPU_BOOTSTRAP } else { 0 };
    let mut bytes = vec![entry::PROCESSOR, apic_id, APIC_VERSION, flags];
    bytes.extend(CPU_SIGNATURE.to_le_bytes());
    bytes.extend(CPU_FEATURES.to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// All bytes of a structure sum to zero (section 4.1).
fn set_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = sum.wrapping_neg();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn checksums_lengths_and_counts_are_right_for_every_size() {
        for count in 1..=VcpuCount::MAX.get() {
            let table = configuration_table(VcpuCount::new(count.into()).unwrap());
            assert_eq!(sum(&table), 0);
            assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
            let entries = u16::from_le_bytes([table[34], table[35]]);
            assert_eq!(entries, u16::from(count) + 1 + 1 + 24 + 2);
            assert_eq!(table.len(), HEADER_BYTES + 20 * usize::from(count) + 8 * 28);
            assert!(16 + table.len() as u64 <= layout::MP_TABLE_END - layout::MP_TABLE);
        }
    }

    #[test]
    fn the_floating_pointer_names_the_table() {
        let pointer = floating_pointer(0x9_fc10);
        assert_eq!(pointer.len(), 16);
        assert_eq!(sum(&pointer), 0);
        assert_eq!(pointer[4..8], 0x9_fc10_u32.to_le_bytes());
    }
}
