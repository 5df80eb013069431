//! Instructions that fault, on x86_64.

/// Divides by zero.
pub(crate) fn fpe() {
    // SAFETY: divides by zero and so never gets further; the registers it names are declared.
    unsafe { std::arch::asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
}

/// An undefined instruction.
pub(crate) fn ill() {
    // SAFETY: an undefined instruction changes nothing.
    unsafe { std::arch::asm!("ud2") };
}

/// A breakpoint.
pub(crate) fn trap() {
    // SAFETY: a breakpoint changes nothing.
    unsafe { std::arch::asm!("int3") };
}
