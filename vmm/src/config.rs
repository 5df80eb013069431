//! What a machine is made of: [`MachineConfig`] is plain data that can be compared and printed,
//! [`MachineFiles`] are the open files and live objects that go with it.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use crate::devices::virtio::vsock::HostPort;

/// The shape of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// Number of virtual processors.
    pub vcpus: VcpuCount,
    /// Guest memory.
    pub memory: MemorySize,
    /// Words for the guest's kernel command line, after those that the machine itself needs.
    pub cmdline: Vec<String>,
    /// The guest's kernel prints its log to [`MachineFiles::console`] from its first line on.
    pub console: bool,
}

impl Default for MachineConfig {
    /// One vCPU, 128 MiB, no console.
    fn default() -> Self {
        Self { vcpus: VcpuCount::ONE, memory: MemorySize::DEFAULT, cmdline: Vec::new(), console: false }
    }
}

/// The open files of a machine. Nothing is opened by path after this.
pub struct MachineFiles {
    /// /dev/kvm, open for reading and writing.
    pub kvm: File,
    /// The kernel: an uncompressed ELF image (x86_64).
    pub kernel: File,
    /// The initramfs, as the kernel takes it.
    pub initramfs: Option<File>,
    /// Shares in the root of the virtio-fs device; with none there is no such device.
    pub shares: Vec<ShareFile>,
    /// Disks, which the guest's kernel knows as vda, vdb ... in this order.
    pub disks: Vec<DiskFile>,
    /// Host ports of the vsock device; with none there is no such device.
    pub ports: Vec<(u32, Box<dyn HostPort>)>,
    /// Where the guest kernel's log goes when [`MachineConfig::console`] is set.
    pub console: Option<Box<dyn Write + Send>>,
}

impl std::fmt::Debug for MachineFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineFiles")
            .field("kvm", &self.kvm)
            .field("kernel", &self.kernel)
            .field("initramfs", &self.initramfs)
            .field("shares", &self.shares)
            .field("disks", &self.disks)
            .field("ports", &self.ports.iter().map(|(port, _)| port).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// One entry in the root of the virtio-fs device.
#[derive(Debug)]
pub struct ShareFile {
    /// Its name in the device's root: one path component.
    pub name: String,
    /// The directory that is shared, opened with `O_PATH`. What the mount behind it forbids (writing, say) is
    /// forbidden to the guest.
    pub root: OwnedFd,
    /// Share only the file of this name in `root`: the entry in the device's root then is that file, and nothing
    /// else of `root` can be reached.
    pub only: Option<CString>,
    /// Who changes it while the guest runs.
    pub cache: ShareCache,
}

/// How long a guest may believe what it knows of a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareCache {
    /// Others may change it: what they change is seen within a second.
    #[default]
    Shared,
    /// Nobody but the guest changes it. When all shares are such, the guest opens files without asking.
    Immutable,
}

/// A disk of the guest's.
#[derive(Debug)]
pub struct DiskFile {
    /// Its content. Its size when the machine is built is that of the disk, and must not change.
    pub file: File,
    /// Its name: the guest sees the first 20 bytes of it.
    pub name: String,
    /// What the guest writes need not outlive the machine, so that there is nothing that it has to wait for: it is
    /// not offered to flush the disk.
    pub scratch: bool,
}

/// Number of vCPUs, 1 to [`VcpuCount::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VcpuCount(u8);

impl VcpuCount {
    /// One vCPU.
    pub const ONE: Self = Self(1);
    /// The most that a machine can have.
    pub const MAX: Self = Self(32);

    /// Checks a count: `None` for 0 and for more than [`VcpuCount::MAX`].
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        let count = u8::try_from(count).ok()?;
        (1..=Self::MAX.0).contains(&count).then_some(Self(count))
    }

    /// The count.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// Size of guest memory: whole mebibytes, [`MemorySize::MIN`] or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

impl MemorySize {
    /// The least that a guest kernel with its initramfs starts in.
    pub const MIN: Self = Self(32 << 20);
    /// What a machine gets when nothing is asked for.
    pub const DEFAULT: Self = Self(128 << 20);
    /// The most: what the address layout of the machine has room for.
    pub const MAX: Self = Self(1 << 40);

    /// Rounds `bytes` up to a mebibyte; `None` outside [`MemorySize::MIN`] and [`MemorySize::MAX`].
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        let bytes = bytes.checked_next_multiple_of(1 << 20)?;
        (Self::MIN.0..=Self::MAX.0).contains(&bytes).then_some(Self(bytes))
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_count_is_1_to_32() {
        assert_eq!(
            [0, 1, 32, 33, 256, u32::MAX].map(|n| VcpuCount::new(n).map(VcpuCount::get)),
            [None, Some(1), Some(32), None, None, None]
        );
    }

    #[test]
    fn memory_is_rounded_up_and_bounded() {
        const MIB: u64 = 1 << 20;
        let size = |bytes| MemorySize::from_bytes(bytes).map(MemorySize::bytes);
        assert_eq!(size(64 * MIB), Some(64 * MIB));
        assert_eq!(size(64 * MIB + 1), Some(65 * MIB));
        assert_eq!(size(31 * MIB), None);
        assert_eq!(size((1 << 40) + 1), None);
        assert_eq!(size(u64::MAX), None);
    }
}
