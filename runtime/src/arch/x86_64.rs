//! x86_64: VMX (Intel) or SVM (AMD), as CPUID tells.

use std::arch::x86_64::__cpuid;

/// Whose system calls a seccomp filter is compiled for.
pub(crate) use crate::seccomp::X86_64 as SECCOMP;

/// Whether the processor offers hardware virtualisation to this machine. Without it a /dev/kvm is one that
/// emulates in software (kvm_pvm), and that runs only kernels made for it.
pub(crate) fn hardware_virtualisation() -> bool {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    let has_extended = __cpuid(0x8000_0000).eax >= 0x8000_0001;
    __cpuid(1).ecx & VMX != 0 || (has_extended && __cpuid(0x8000_0001).ecx & SVM != 0)
}
