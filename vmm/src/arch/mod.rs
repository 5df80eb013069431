//! What differs between processor architectures.
//!
//! Each architecture is a folder that exports the same names; the rest of the crate says `arch::` and never
//! asks which one it is:
//!
//! | name | what it is |
//! |---|---|
//! | `CMDLINE` | words that the guest's kernel needs on its command line to boot this machine |
//! | `CONSOLE_CMDLINE` | words that turn the kernel's log on |
//! | `memory_regions(size)` | guest-physical ranges of RAM |
//! | `MmioSlots` | address and interrupt of the n-th virtio-mmio device, and its word on the command line |
//! | `PlatformDevice` | address of the n-th fixed device: power, console |
//! | `create_interrupt_controller(vm)` | after all memory, before any vCPU |
//! | `load(memory, image, vcpus)` | kernel, initramfs and boot data into guest memory, giving an `Entry` |
//! | `VcpuTemplate::new(kvm, vcpus)`, `.configure(vcpu, index, entry)` | registers of a vCPU at its first instruction |

mod error;

pub use error::LoadError;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("drupe runs on x86_64 (and, later, on aarch64)");
