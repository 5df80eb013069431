//! Instructions that fault, each architecture with the same names.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{fpe, ill, trap};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{fpe, ill, trap};
