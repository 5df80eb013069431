//! What depends on the processor: whether it can run a guest's Linux at full privilege, and how system calls are made.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{SECCOMP, hardware_virtualisation};

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{SECCOMP, hardware_virtualisation};
