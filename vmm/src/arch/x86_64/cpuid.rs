//! What the CPUID instruction says in the guest: what KVM can virtualise on this host, with a topology of
//! one core per vCPU, one thread per core, one package.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use crate::config::VcpuCount;

const HYPERVISOR: u32 = 1 << 31; // leaf 1 ecx
const TSC_DEADLINE: u32 = 1 << 24; // leaf 1 ecx
const HYPER_THREADING: u32 = 1 << 28; // leaf 1 edx
const ARAT: u32 = 1 << 2; // leaf 6 eax: the APIC timer never stops
const LEVEL_SMT: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Fits `cpuid`, which is what KVM supports, to vCPU `index` of `vcpus`.
pub(super) fn for_vcpu(cpuid: &CpuId, index: u8, vcpus: VcpuCount) -> Result<CpuId, kvm_ioctls::Error> {
    let id = u32::from(index);
    let count = u32::from(vcpus.get());
    // KVM leaves the topology to us: of leaf 0xb it gives one empty subleaf, where the processor has it at all.
    let (topology, mut entries): (Vec<_>, Vec<_>) =
        cpuid.as_slice().iter().partition(|entry| matches!(entry.function, 0xb | 0x1f));
    if !topology.is_empty() {
        entries.extend((0..=2).map(|level| extended_topology(level, id, count)));
    }
    for entry in &mut entries {
        match entry.function {
            1 => {
                entry.ebx = (entry.ebx & 0xffff) | (count << 16) | (id << 24);
                // The kernel then knows its APIC timer's frequency, and needs no PIT to find it.
                entry.ecx |= HYPERVISOR | TSC_DEADLINE;
                entry.edx =
                    if count > 1 { entry.edx | HYPER_THREADING } else { entry.edx & !HYPER_THREADING };
            }
            4 => set_cache_sharing(entry, count),
            6 => entry.eax |= ARAT,
            0x8000_0008 => entry.ecx = (count - 1) | (apic_id_bits(count) << 12),
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id & 0xff, 0),
            _ => {}
        }
    }
    CpuId::from_entries(&entries).map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))
}

/// Leaf 4 (Intel): caches of levels 1 and 2 belong to a core, the third to all.
fn set_cache_sharing(entry: &mut kvm_cpuid_entry2, count: u32) {
    let level = (entry.eax >> 5) & 7;
    let sharing = if level >= 3 { count - 1 } else { 0 };
    entry.eax = (entry.eax & 0x3fff) | (sharing << 14) | ((count - 1) << 26);
}

/// Leaf 0xb: subleaf 0 is the threads of a core, subleaf 1 the cores of the package, subleaf 2 ends the list.
fn extended_topology(level: u32, id: u32, count: u32) -> kvm_cpuid_entry2 {
    let (eax, ebx, ecx) = match level {
        0 => (0, 1, LEVEL_SMT << 8),
        1 => (apic_id_bits(count), count, 1 | (LEVEL_CORE << 8)),
        _ => (0, 0, level),
    };
    let flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    kvm_cpuid_entry2 { function: 0xb, index: level, flags, eax, ebx, ecx, edx: id, ..Default::default() }
}

/// Bits that an APIC id of `count` processors takes.
fn apic_id_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid.as_slice().iter().find(|e| (e.function, e.index) == (function, index)).unwrap()
    }

    #[test]
    fn topology_is_one_core_per_vcpu() {
        let entries: Vec<_> = [(1, 0), (4, 3), (6, 0), (0xb, 0), (0x8000_0008, 0)]
            .map(|(function, index)| kvm_cpuid_entry2 { function, index, ..Default::default() })
            .into();
        let host = CpuId::from_entries(&entries).unwrap();
        let guest = for_vcpu(&host, 2, VcpuCount::new(3).unwrap()).unwrap();
        assert_eq!(leaf(&guest, 1, 0).ebx >> 16, 0x0203);
        assert_eq!(leaf(&guest, 1, 0).ecx, HYPERVISOR | TSC_DEADLINE);
        assert_eq!(leaf(&guest, 6, 0).eax, ARAT);
        let core = leaf(&guest, 0xb, 1);
        assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (2, 3, 0x201, 2));
        assert_eq!(leaf(&guest, 0xb, 2).ecx, 2);
        assert_eq!(leaf(&guest, 0x8000_0008, 0).ecx, 2 | (2 << 12));
    }

    #[test]
    fn apic_ids_take_as_few_bits_as_they_can() {
        assert_eq!([1, 2, 3, 4, 5, 32].map(apic_id_bits), [0, 1, 2, 2, 3, 5]);
    }
}
