//! Why a kernel could not be loaded into guest memory.

/// Why a kernel could not be loaded into guest memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel file is not what this machine boots.
    #[error("kernel: not {0}")]
    NotBootable(&'static str),
    /// The kernel file could not be loaded.
    #[error("kernel: truncated or damaged")]
    Kernel(#[source] linux_loader::loader::Error),
    /// Reading a file failed.
    #[error("{0}: cannot be read")]
    Read(&'static str, #[source] std::io::Error),
    /// The initramfs is empty.
    #[error("initramfs: empty file")]
    EmptyInitramfs,
    /// The initramfs could not be read into guest memory.
    #[error("initramfs: cannot be read into guest memory")]
    Initramfs(#[source] vm_memory::GuestMemoryError),
    /// Kernel and initramfs do not fit.
    #[error("{memory} MiB of guest memory are too little: kernel and initramfs need {needed} MiB")]
    TooSmall {
        /// Guest memory in MiB.
        memory: u64,
        /// What is needed in MiB.
        needed: u64,
    },
    /// The command line is too long.
    #[error("kernel command line of {length} bytes, over the limit of {limit}")]
    CmdlineTooLong {
        /// Its length.
        length: usize,
        /// The kernel's limit.
        limit: usize,
    },
    /// The machine's own tables could not be written.
    #[error("boot tables do not fit guest memory")]
    Tables(#[from] vm_memory::GuestMemoryError),
    /// No random bytes for the guest.
    #[error("no random bytes from the host's kernel")]
    Random(#[source] std::io::Error),
}
