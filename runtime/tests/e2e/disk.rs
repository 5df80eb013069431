//! A filesystem of its own for a case: ext4 in a file, which can fill up, become read-only and fail, as a disk does.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::container::until;
use crate::stage::Stage;

/// `EXT4_IOC_SHUTDOWN` of Linux's fs/ext4/ext4.h: `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: u32 = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not on the disk yet, the journal included, never comes there.
const NOLOGFLUSH: u32 = 2;

/// A mounted filesystem. Dropped, it is unmounted.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// A new filesystem of this size in MiB.
    pub(crate) fn new(stage: &Stage, mebibytes: u64) -> Self {
        let disk = Self { image: stage.path("disk.image"), at: stage.path("disk") };
        fs::create_dir(&disk.at).expect("a new directory");
        File::create(&disk.image).and_then(|file| file.set_len(mebibytes << 20)).expect("a new file");
        run(Command::new("mkfs.ext4").arg("-q").arg(&disk.image));
        disk.mount();
        disk
    }

    /// Mounts it; the journal is played back after a cut. Nothing is written before somebody asks for it, for so long as
    /// a case takes.
    pub(crate) fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop,commit=3600"]).arg(&self.image).arg(&self.at));
    }

    /// Unmounts it; whoever used it may take a moment to let go.
    pub(crate) fn unmount(&self) {
        let unmounted = || {
            let status = Command::new("umount").arg(&self.at).stderr(Stdio::null()).status();
            status.expect("umount").success()
        };
        assert!(until(unmounted), "{} is in use", self.at.display());
    }

    /// Cuts the power: every call fails from now on, and what is not on the disk is lost.
    pub(crate) fn shut_down(&self) {
        let root = File::open(&self.at).expect("the disk's root");
        let flags = NOLOGFLUSH;
        // SAFETY: the argument points to a number of this frame, which the kernel reads.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN.into(), &raw const flags) };
        assert_eq!(result, 0, "EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }

    /// Makes the whole filesystem `ro` or `rw`.
    pub(crate) fn remount(&self, access: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{access}")]).arg(&self.at));
    }

    /// Takes it out of the host's tree, for who has it open all the same to go on with.
    pub(crate) fn detach(&self) {
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }

    /// A new and empty directory on it; everyone may write to it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.at.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).expect("own directory");
        }
        fs::create_dir(&path).expect("a new directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("own directory");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).stderr(Stdio::null()).status();
    }
}

/// Whether disks can be made: for root of a machine with loop devices.
pub(crate) fn available() -> Result<(), String> {
    if Path::new("/dev/loop-control").exists() {
        Ok(())
    } else {
        Err("there are no loop devices here".into())
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
