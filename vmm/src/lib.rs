//! A small KVM virtual machine.
//!
//! It boots an uncompressed 64-bit Linux kernel with an initramfs, no firmware and no PCI, and gives it
//! virtio-mmio devices: a filesystem made of shares, disks, and a vsock that ends in this process. It knows nothing
//! of OCI, JSON or the agent in the guest.
//!
//! ```no_run
//! use drupe_vmm::{Machine, MachineConfig, MachineFiles, StopReason};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let files = MachineFiles {
//!     kvm: std::fs::File::options().read(true).write(true).open("/dev/kvm")?,
//!     kernel: std::fs::File::open("vmlinux")?,
//!     initramfs: Some(std::fs::File::open("initramfs")?),
//!     shares: Vec::new(),
//!     disks: Vec::new(),
//!     ports: Vec::new(),
//!     console: Some(Box::new(std::io::stderr())),
//! };
//! let machine = Machine::build(&MachineConfig::default(), files)?;
//! match machine.run(Vec::new())? {
//!     StopReason::PowerOff => {}
//!     reason => eprintln!("the machine stopped: {reason}"),
//! }
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod arch;
mod buffers;
mod config;
pub mod devices;
mod fuse;
mod gate;
mod kvm;
mod machine;
mod vcpu;

pub use arch::LoadError;
pub use config::{DiskFile, MachineConfig, MachineFiles, MemorySize, ShareCache, ShareFile, VcpuCount};
pub use devices::virtio::fs::FsHandle;
pub use devices::virtio::vsock::{HostPort, HostPorts, HostStream};
pub use fuse::FsCounts;
pub use kvm::KvmError;
pub use machine::{BuildError, Machine, MachineHandle, RunError, StopReason};

/// The file server without a machine, for the fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::fuse::{Client, Reply};
}

/// Runs on the machine's event loop beside its devices.
pub use event_manager::MutEventSubscriber;
