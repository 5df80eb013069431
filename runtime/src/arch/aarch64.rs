//! aarch64: KVM exists only where the kernel was entered at EL2, so an open /dev/kvm is proof enough.

/// Whose system calls a seccomp filter is compiled for.
pub(crate) use crate::seccomp::AARCH64 as SECCOMP;

/// Whether the processor offers hardware virtualisation to this machine.
pub(crate) fn hardware_virtualisation() -> bool {
    true
}
