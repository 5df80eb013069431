//! x86_64: 64-bit direct boot (Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"), an MP table,
//! the in-kernel interrupt controllers, port I/O for power and console.

mod boot_params;
mod cpuid;
mod layout;
mod mp_table;
mod registers;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use kvm_ioctls::VmFd;
use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

pub(crate) use layout::{MmioSlots, PlatformDevice, memory_regions};
pub(crate) use registers::VcpuTemplate;

use crate::arch::LoadError;
use crate::config::VcpuCount;

/// A panic resets, and reset is a command to the keyboard controller. The frequencies of TSC and APIC timer come
/// from KVM and are not doubted; no timer is behind the IOAPIC's pin 0.
pub(crate) const CMDLINE: &[&str] = &["reboot=k", "panic=-1", "no_timer_check", "tsc=reliable", "quiet"];

/// The kernel's own polled console on [`PlatformDevice::CONSOLE`]: works from its first line to a panic.
pub(crate) const CONSOLE_CMDLINE: &[&str] = &["earlyprintk=serial,0x3f8,115200,keep", "ignore_loglevel"];

/// What a kernel file must be.
const IMAGE_KIND: &str = "an x86_64 ELF executable";

/// Where the boot processor begins: address of its first instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry(u64);

/// What is loaded into guest memory.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) kernel: &'a mut File,
    pub(crate) initramfs: Option<&'a mut File>,
    pub(crate) cmdline: &'a str,
}

/// Interrupt controllers in KVM: IOAPIC, local APICs and the (unused) PICs. All memory must be set by now:
/// on host kernels from 6.18 on, a memory slot set after this waits 7 ms for an RCU grace period.
pub(crate) fn create_interrupt_controller(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    vm.set_tss_address(layout::KVM_TSS)?;
    vm.create_irq_chip()
}

/// Writes kernel, initramfs, command line and boot tables into guest memory.
pub(crate) fn load(memory: &GuestMemoryMmap, image: Image<'_>, vcpus: VcpuCount) -> Result<Entry, LoadError> {
    check_elf(image.kernel)?;
    let kernel = Elf::load(memory, None, image.kernel, Some(GuestAddress(layout::HIGH_MEMORY)))
        .map_err(LoadError::Kernel)?;
    let initramfs = match image.initramfs {
        Some(file) => Some(load_initramfs(memory, file, kernel.kernel_end)?),
        None if kernel.kernel_end > low_memory_end(memory) => {
            return Err(too_small(memory, kernel.kernel_end));
        }
        None => None,
    };
    let cmdline = image.cmdline.as_bytes();
    if cmdline.len() >= layout::CMDLINE_MAX {
        return Err(LoadError::CmdlineTooLong { length: cmdline.len(), limit: layout::CMDLINE_MAX });
    }
    memory.write_slice(cmdline, GuestAddress(layout::CMDLINE))?;
    memory.write_obj(0_u8, GuestAddress(layout::CMDLINE + cmdline.len() as u64))?;
    mp_table::write(memory, vcpus)?;
    boot_params::write(memory, cmdline.len(), initramfs)?;
    registers::write_tables(memory)?;
    Ok(Entry(kernel.kernel_load.0))
}

/// The kernel must be a 64-bit x86 executable: anything else would be loaded and then run as garbage.
fn check_elf(file: &mut File) -> Result<(), LoadError> {
    const EM_X86_64: [u8; 2] = 62_u16.to_le_bytes();
    let mut header = [0; 20];
    file.rewind().map_err(|e| LoadError::Read("kernel", e))?;
    file.read_exact(&mut header).map_err(|_| LoadError::NotBootable(IMAGE_KIND))?;
    let is_elf64_le = header.starts_with(b"\x7fELF\x02\x01");
    if is_elf64_le && header.ends_with(&EM_X86_64) { Ok(()) } else { Err(LoadError::NotBootable(IMAGE_KIND)) }
}

/// Puts the initramfs at the end of the first memory region, page-aligned, where the kernel does not reach.
fn load_initramfs(
    memory: &GuestMemoryMmap,
    file: &mut File,
    kernel_end: u64,
) -> Result<boot_params::Range, LoadError> {
    let size = file.seek(SeekFrom::End(0)).map_err(|e| LoadError::Read("initramfs", e))?;
    if size == 0 {
        return Err(LoadError::EmptyInitramfs);
    }
    let start = low_memory_end(memory).checked_sub(size).map(|start| start & !(layout::PAGE - 1));
    let Some(start) = start.filter(|start| *start >= kernel_end) else {
        return Err(too_small(memory, kernel_end.saturating_add(size)));
    };
    file.rewind().map_err(|e| LoadError::Read("initramfs", e))?;
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    memory.read_exact_volatile_from(GuestAddress(start), file, length).map_err(LoadError::Initramfs)?;
    Ok(boot_params::Range { start, size })
}

fn low_memory_end(memory: &GuestMemoryMmap) -> u64 {
    memory.find_region(GuestAddress(0)).map_or(0, GuestMemoryRegion::len)
}

fn too_small(memory: &GuestMemoryMmap, needed: u64) -> LoadError {
    LoadError::TooSmall { memory: low_memory_end(memory) >> 20, needed: needed.div_ceil(1 << 20) }
}
