//! The zero page: what the 64-bit boot protocol passes to the kernel
//! (Linux Documentation/arch/x86/zero-page.rst), and the random seed behind it.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

use super::layout;
use crate::arch::LoadError;

/// A range of guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) size: u64,
}

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// "An undefined loader" (boot.rst, `type_of_loader`).
const LOADER_UNDEFINED: u8 = 0xff;
const BOOT_FLAG_MAGIC: u16 = 0xaa55;
/// "HdrS".
const HEADER_MAGIC: u32 = 0x5372_6448;
const KERNEL_ALIGNMENT: u32 = 0x100_0000;
/// `SETUP_RNG_SEED` of `struct setup_data`.
const SETUP_RNG_SEED: u32 = 9;
const SEED_BYTES: usize = 32;

/// Writes the zero page for a command line of `cmdline_length` bytes at [`layout::CMDLINE`].
pub(super) fn write(
    memory: &GuestMemoryMmap,
    cmdline_length: usize,
    initramfs: Option<Range>,
) -> Result<(), LoadError> {
    write_seed(memory)?;
    let mut params = boot_params::default();
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.boot_flag = BOOT_FLAG_MAGIC;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.kernel_alignment = KERNEL_ALIGNMENT;
    params.hdr.cmd_line_ptr = low_address(layout::CMDLINE);
    params.hdr.cmdline_size = u32::try_from(cmdline_length).unwrap_or(u32::MAX);
    params.hdr.setup_data = layout::SETUP_DATA;
    if let Some(initramfs) = initramfs {
        params.hdr.ramdisk_image = low_address(initramfs.start);
        params.hdr.ramdisk_size = low_address(initramfs.size);
    }
    let map = e820(memory);
    for (to, from) in params.e820_table.iter_mut().zip(&map) {
        *to = *from;
    }
    params.e820_entries = u8::try_from(map.len()).unwrap_or(u8::MAX);
    memory.write_obj(params, GuestAddress(layout::ZERO_PAGE))?;
    Ok(())
}

/// All of RAM, with the last KiB of base memory kept for the MP table.
fn e820(memory: &GuestMemoryMmap) -> Vec<boot_e820_entry> {
    let entry = |addr, end: u64, type_| boot_e820_entry { addr, size: end - addr, type_ };
    let mut map = vec![
        entry(0, layout::MP_TABLE, E820_RAM),
        entry(layout::MP_TABLE, layout::MP_TABLE_END, E820_RESERVED),
    ];
    map.extend(memory.iter().map(|region| {
        let start = region.start_addr().0;
        entry(start.max(layout::HIGH_MEMORY), start + region.len(), E820_RAM)
    }));
    map
}

/// `struct setup_data` with 32 random bytes: the guest's generator is seeded before its first line of log, so
/// that nothing waits for entropy.
fn write_seed(memory: &GuestMemoryMmap) -> Result<(), LoadError> {
    let mut seed = [0_u8; SEED_BYTES];
    let filled = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| LoadError::Random(e.into()))?;
    debug_assert_eq!(filled, SEED_BYTES, "getrandom(2) gives up to 256 bytes whole");
    let mut at = layout::SETUP_DATA;
    let length = u32::try_from(SEED_BYTES).unwrap_or_default();
    for field in [&0_u64.to_le_bytes()[..], &SETUP_RNG_SEED.to_le_bytes(), &length.to_le_bytes(), &seed] {
        memory.write_slice(field, GuestAddress(at))?;
        at += field.len() as u64;
    }
    Ok(())
}

/// Everything that the header's 32-bit fields name lies below 4 GiB.
fn low_address(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::memory_regions;
    use crate::config::MemorySize;

    #[test]
    fn the_map_covers_all_memory_once() {
        for mib in [32, 128, 3328, 3329, 8192] {
            let size = MemorySize::from_bytes(mib << 20).unwrap();
            let memory = GuestMemoryMmap::from_ranges(&memory_regions(size)).unwrap();
            let map = e820(&memory);
            let total: u64 = map.iter().map(|entry| entry.size).sum();
            let legacy_hole = layout::HIGH_MEMORY - layout::MP_TABLE_END;
            assert_eq!(total, size.bytes() - legacy_hole, "{mib} MiB");
            assert!(map.windows(2).all(|pair| pair[0].addr + pair[0].size <= pair[1].addr), "{map:?}");
        }
    }

    #[test]
    fn every_machine_gets_another_seed() {
        let seed = || {
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
            write_seed(&memory).unwrap();
            let mut data = [0_u8; 16 + SEED_BYTES];
            memory.read_slice(&mut data, GuestAddress(layout::SETUP_DATA)).unwrap();
            data
        };
        let (one, other) = (seed(), seed());
        assert_eq!(one[..16], [0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 32, 0, 0, 0]);
        assert_ne!(one[16..], other[16..]);
    }
}
