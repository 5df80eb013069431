//! What differs between processors: how a guest is powered off.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::power_off;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::power_off;
