//! aarch64: KVM exists only where the kernel was entered at EL2, so an open /dev/kvm is proof enough.

/// Whether the processor offers hardware virtualisation to this machine.
pub(crate) fn hardware_virtualisation() -> bool {
    true
}
