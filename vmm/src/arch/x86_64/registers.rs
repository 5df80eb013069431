//! Registers of a vCPU at the kernel's 64-bit entry point: flat segments, paging on with the first GiB mapped
//! one to one, `rsi` at the zero page (boot.rst, "64-bit Boot Protocol").

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_fpu, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::{Entry, cpuid, layout};
use crate::config::VcpuCount;

const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const RFLAGS_RESERVED: u64 = 1 << 1;
const PRESENT_WRITABLE: u64 = 0b11;
const HUGE: u64 = 1 << 7;
/// Code: 64-bit, readable, at ring 0. Data: writable. Both flat, 4 KiB granularity.
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
/// `__BOOT_CS` and `__BOOT_DS` of the boot protocol.
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;

/// What all vCPUs of a machine have in common.
#[derive(Debug)]
pub(crate) struct VcpuTemplate {
    cpuid: CpuId,
    vcpus: VcpuCount,
}

impl VcpuTemplate {
    /// The processor features that this host's KVM offers to guests.
    pub(crate) fn new(kvm: &Kvm, vcpus: VcpuCount) -> Result<Self, kvm_ioctls::Error> {
        Ok(Self { cpuid: kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?, vcpus })
    }

    /// The boot processor starts at `entry`; the others wait for the kernel to start them (INIT, SIPI), which
    /// sets their registers.
    pub(crate) fn configure(&self, vcpu: &VcpuFd, index: u8, entry: Entry) -> Result<(), kvm_ioctls::Error> {
        vcpu.set_cpuid2(&cpuid::for_vcpu(&self.cpuid, index, self.vcpus)?)?;
        if index != 0 {
            return Ok(());
        }
        vcpu.set_fpu(&kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() })?;
        vcpu.set_regs(&kvm_regs {
            rip: entry.0,
            rsi: layout::ZERO_PAGE,
            rsp: layout::BOOT_STACK,
            rbp: layout::BOOT_STACK,
            rflags: RFLAGS_RESERVED,
            ..Default::default()
        })?;
        let mut sregs = vcpu.get_sregs()?;
        let data = segment(BOOT_DS, 0x3);
        sregs.cs = kvm_segment { l: 1, db: 0, ..segment(BOOT_CS, 0xb) };
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.gdt = kvm_dtable { base: layout::GDT, limit: 8 * 4 - 1, ..Default::default() };
        sregs.cr0 |= CR0_PE | CR0_PG;
        sregs.cr3 = layout::PML4;
        sregs.cr4 |= CR4_PAE;
        sregs.efer |= EFER_LME | EFER_LMA;
        vcpu.set_sregs(&sregs)
    }
}

fn segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..Default::default()
    }
}

/// Writes the GDT, and page tables that map the first GiB with 2 MiB pages.
pub(super) fn write_tables(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    let tables = [
        (layout::GDT, GDT.to_vec()),
        (layout::PML4, vec![layout::PDPT | PRESENT_WRITABLE]),
        (layout::PDPT, vec![layout::PAGE_DIRECTORY | PRESENT_WRITABLE]),
        (layout::PAGE_DIRECTORY, (0..512).map(|page| (page << 21) | HUGE | PRESENT_WRITABLE).collect()),
    ];
    for (address, entries) in tables {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        memory.write_slice(&bytes, GuestAddress(address))?;
    }
    Ok(())
}
