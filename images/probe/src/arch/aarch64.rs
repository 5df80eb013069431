//! Instructions that fault, on aarch64.

/// No integer division traps on this architecture.
pub(crate) fn fpe() {}

/// An undefined instruction.
pub(crate) fn ill() {
    // SAFETY: an undefined instruction changes nothing.
    unsafe { std::arch::asm!("udf #0") };
}

/// A breakpoint.
pub(crate) fn trap() {
    // SAFETY: a breakpoint changes nothing.
    unsafe { std::arch::asm!("brk #0") };
}
