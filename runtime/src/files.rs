//! Plan -> open files: after this nothing of the host is named by a path again.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use drupe_vmm::{DiskFile, ShareFile};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::process::{Resource, Rlimit};

use crate::ext4;
use crate::idmap;
use crate::image::{self, ImageError, Kernel};
use crate::kvm::{self, KvmError};
use crate::plan::{DiskPlan, HostPlan, SharePlan};
use crate::sys::{self, MountChange};

/// Descriptors that the fd table gets room for at once. Growing it with several threads costs a grace period
/// of RCU, 12 ms and more; each slot costs 8 bytes.
const FD_SLOTS: u64 = 4096;

/// Descriptors that a machine may have open where the kernel's `fs.nr_open` is its default.
const FD_LIMIT: u64 = 1 << 20;

/// Why a file that the machine needs cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error("config.json: {field}: {path:?}")]
    Share { field: String, path: PathBuf, source: io::Error },
    #[error(
        "config.json: {field}: {path:?}: owners cannot be mapped: it needs root, a kernel and a filesystem with \
         id-mapped mounts, and one id for each id"
    )]
    Owners { field: String, path: PathBuf, source: io::Error },
    #[error("config.json: {field}: {path:?}: is no longer what it was when it was checked")]
    Changed { field: String, path: PathBuf },
    #[error(
        "config.json: {field}: {path:?}: read-only needs CAP_SYS_ADMIN, as root has: the host enforces it by a \
         mount of its own"
    )]
    ReadOnlyNeedsPrivilege { field: String, path: PathBuf },
    #[error(
        "writable_layer.directory: {directory:?}: no file of {bytes} bytes without a name can be made there"
    )]
    Disk { directory: PathBuf, bytes: u64, source: io::Error },
}

/// Every file of a machine but its ports.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) kvm: File,
    pub(crate) kernel: Kernel,
    pub(crate) initramfs: File,
    pub(crate) shares: Vec<ShareFile>,
    pub(crate) disk: Option<DiskFile>,
}

/// Opens them. /dev/kvm is last, so that a machine without KVM still tells everything else that is wrong.
pub(crate) fn open(
    plan: &HostPlan,
    kernel: Option<&Path>,
    initramfs: Option<&Path>,
) -> Result<Files, FilesError> {
    let kernel = image::kernel(plan.kernel.path(kernel))?;
    let initramfs = image::initramfs(plan.initramfs.path(initramfs))?;
    let shares = plan.shares.iter().map(share).collect::<Result<_, _>>()?;
    let disk = plan.disk.as_ref().map(disk).transpose()?;
    Ok(Files { kvm: kvm::open()?, kernel, initramfs, shares, disk })
}

/// Makes room for file descriptors before there are threads: the limit raised, and the table grown to [`FD_SLOTS`].
///
/// Each file and directory that the guest knows of is a descriptor here, so the limit is raised as far as the kernel
/// lets us: beyond the hard limit for who may, to the hard limit for others.
pub(crate) fn reserve_fds() {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let wanted = hard.map(|hard| hard.max(FD_LIMIT));
    let raise = |to| rustix::process::setrlimit(Resource::Nofile, Rlimit { current: to, maximum: to });
    // Neither is needed to run: without the first there are fewer descriptors, without the second a pause.
    let _ = raise(wanted).or_else(|_| raise(hard));
    let slots = hard.unwrap_or(FD_SLOTS).min(FD_SLOTS);
    if let Ok(highest) = i32::try_from(slots.saturating_sub(1)) {
        let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), highest);
    }
}

/// A sparse file with an empty filesystem. It has no name, and cannot be given one: it ends with its last descriptor,
/// whatever becomes of its machine.
fn disk(plan: &DiskPlan) -> Result<DiskFile, FilesError> {
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let made = rustix::fs::open(&plan.directory, flags, Mode::RUSR | Mode::WUSR);
    let made = made.map_err(io::Error::from).and_then(|file| {
        let file = File::from(file);
        ext4::format(&file, plan.bytes).map(|()| file)
    });
    let file = made.map_err(|source| {
        let directory = plan.directory.clone();
        FilesError::Disk { directory, bytes: plan.bytes, source }
    })?;
    Ok(DiskFile { file, name: "layer".into(), scratch: true })
}

fn share(plan: &SharePlan) -> Result<ShareFile, FilesError> {
    let error = |errno: Errno| FilesError::Share {
        field: plan.field.clone(),
        path: plan.path.clone(),
        source: errno.into(),
    };
    let changed = || FilesError::Changed { field: plan.field.clone(), path: plan.path.clone() };
    let follow = if plan.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::PATH | OFlags::CLOEXEC | follow;
    let plain = rustix::fs::open(&plan.path, flags, Mode::empty()).map_err(error)?;
    let stat = rustix::fs::fstat(&plain).map_err(error)?;
    if (FileType::from_raw_mode(stat.st_mode) == FileType::Directory) == plan.file {
        return Err(changed());
    }
    let (plain, only, recursive) = if plan.file {
        let (directory, name, is_mount) = directory_of(&plain).map_err(error)?.ok_or_else(changed)?;
        (directory, Some(name), is_mount)
    } else {
        (plain, None, plan.recursive)
    };
    let root = match detach(&plain, plan, recursive) {
        Ok(mount) => mount,
        // Without the privilege to mount, a plain descriptor does for what may be written anyway.
        Err(Errno::PERM) if !plan.readonly && plan.idmap.is_none() => plain,
        Err(Errno::PERM) => {
            let (field, path) = (plan.field.clone(), plan.path.clone());
            return Err(FilesError::ReadOnlyNeedsPrivilege { field, path });
        }
        Err(errno) => return Err(error(errno)),
    };
    if let Some(mappings) = &plan.idmap {
        idmap::map(&root, mappings).map_err(|source| FilesError::Owners {
            field: mappings.field.clone(),
            path: plan.path.clone(),
            source,
        })?;
    }
    Ok(ShareFile { name: plan.name.clone(), root, only, cache: plan.cache })
}

/// The directory that holds an open file, the file's name in it, and whether the file is a mount point there:
/// a file is shared through its directory, of which nothing else is shown. `None` when the file has no name any
/// more.
fn directory_of(file: &OwnedFd) -> Result<Option<(OwnedFd, CString, bool)>, Errno> {
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?;
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    let identify = |fd: &OwnedFd, name: &CStr, flags| {
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statx(fd, name, flags, StatxFlags::INO | StatxFlags::MNT_ID)?;
        Ok(((found.stx_dev_major, found.stx_dev_minor, found.stx_ino), found.stx_mnt_id))
    };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    let (opened, _) = identify(file, c"", AtFlags::EMPTY_PATH)?;
    let (_, mount) = identify(&directory, c"", AtFlags::EMPTY_PATH)?;
    match identify(&directory, &name, AtFlags::empty()) {
        Ok((named, own_mount)) if named == opened => Ok(Some((directory, name, own_mount != mount))),
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A mount of its own for what a descriptor refers to. It is in no mount namespace, and ends with the last
/// descriptor to it.
///
/// It is private, and device nodes do not open through it: for every mount in the tree, so that none below the first
/// escapes.
fn detach(of: impl AsFd, plan: &SharePlan, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = rustix::mount::open_tree(of, "", flags)?;
    let change = MountChange {
        set: libc::MOUNT_ATTR_NODEV | if plan.readonly { libc::MOUNT_ATTR_RDONLY } else { 0 },
        clear: if plan.writable { libc::MOUNT_ATTR_RDONLY } else { 0 },
        propagation: libc::MS_PRIVATE,
        owners: None,
        recursive: true,
    };
    sys::change_mount(&mount, change).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use drupe_vmm::ShareCache;

    use super::*;

    fn plan(path: &Path, readonly: bool, file: bool) -> SharePlan {
        SharePlan {
            field: "mounts[0].source".into(),
            name: "mount0".into(),
            path: path.into(),
            readonly,
            recursive: true,
            file,
            follow: true,
            writable: false,
            idmap: None,
            cache: ShareCache::Shared,
        }
    }

    fn write_below(root: &OwnedFd, name: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        rustix::fs::openat(root, name, flags, Mode::RUSR).map(drop)
    }

    #[test]
    fn read_only_holds_on_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let writable = share(&plan(dir.path(), false, false)).unwrap();
        assert_eq!(write_below(&writable.root, "a"), Ok(()));
        match share(&plan(dir.path(), true, false)) {
            Ok(share) => {
                assert_eq!(write_below(&share.root, "b"), Err(Errno::ROFS));
                assert!(rustix::fs::statat(&share.root, "a", rustix::fs::AtFlags::empty()).is_ok());
            }
            Err(FilesError::ReadOnlyNeedsPrivilege { .. }) => {
                eprintln!("skipped: no CAP_SYS_ADMIN, so no read-only share");
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn device_nodes_of_a_detached_mount_do_not_open() {
        let Ok(mount) = rustix::fs::open("/dev", OFlags::PATH, Mode::empty())
            .and_then(|dev| detach(&dev, &plan(Path::new("/dev"), false, false), false))
        else {
            eprintln!("skipped: no CAP_SYS_ADMIN, so no detached mount");
            return;
        };
        let opened = rustix::fs::openat(&mount, "null", OFlags::RDONLY, Mode::empty());
        assert_eq!(opened.map(drop), Err(Errno::ACCESS));
    }

    #[test]
    fn a_share_that_changed_its_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(share(&plan(dir.path(), false, true)), Err(FilesError::Changed { .. })));
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        assert!(matches!(share(&plan(&path, false, false)), Err(FilesError::Changed { .. })));
        assert!(share(&plan(&path, false, true)).is_ok());
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        let mut link = plan(&dir.path().join("link"), false, false);
        assert!(share(&link).is_ok());
        link.follow = false;
        assert!(matches!(share(&link), Err(FilesError::Changed { .. })));
        fs::remove_file(&path).unwrap();
        let error = crate::text::chain(&share(&plan(&path, false, true)).unwrap_err());
        let text = format!("config.json: mounts[0].source: {path:?}: No such file or directory (os error 2)");
        assert_eq!(error, text);
    }

    #[test]
    fn there_is_room_for_descriptors() {
        let before = rustix::process::getrlimit(Resource::Nofile);
        reserve_fds();
        let limit = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(limit.maximum.is_none() || limit.maximum >= before.maximum);
    }
}
