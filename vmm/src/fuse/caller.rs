//! Whom the serving thread acts as: the user whose request it serves, so that what is made has the owner, group and mode
//! that it would have without a virtual machine.
//!
//! The guest's kernel checks permissions (virtio-fs always has `default_permissions`), so the thread keeps its
//! capabilities whoever it acts as: the host is the store. Without the privilege to act as others everything is done as,
//! and may no more than, whoever started drupe.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::sys::{self, Capabilities};

/// The serving thread's identity. It belongs to the thread that made it.
#[derive(Debug)]
pub(super) struct Caller {
    /// `None`: not privileged.
    capabilities: Option<Capabilities>,
    uid: u32,
    gid: u32,
    umask: u32,
    /// It is bound to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Caller {
    /// Makes the calling thread one that serves: it gets a working directory of its own, `/proc/self/fd`, in which the
    /// name of each descriptor leads to what the descriptor refers to, and an umask of its own.
    ///
    /// # Errors
    /// When it is not possible, as without /proc.
    pub(super) fn enter() -> Result<Self, Errno> {
        sys::unshare_fs()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        rustix::process::fchdir(descriptors.as_fd())?;
        sys::block_sigxfsz()?;
        sys::set_umask(0);
        let privileged = rustix::process::geteuid().is_root() && sys::keep_capabilities().is_ok();
        let capabilities = if privileged { Some(Capabilities::current()?) } else { None };
        if privileged {
            // Where a user namespace forbids it, there are none.
            let _ = sys::leave_groups();
        }
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Ok(Self { capabilities, uid, gid, umask: 0, _thread: std::marker::PhantomData })
    }

    /// Acts as this user and group from now on.
    ///
    /// # Errors
    /// `EOVERFLOW`: there is no such id in the user namespace that this process is in.
    pub(super) fn act_as(&mut self, uid: u32, gid: u32) -> Result<(), Errno> {
        if self.capabilities.is_none() {
            return Ok(());
        }
        if self.gid != gid {
            self.gid = sys::set_fs_group(gid);
        }
        if self.uid != uid {
            self.uid = sys::set_fs_user(uid);
        }
        if (self.uid, self.gid) == (uid, gid) { Ok(()) } else { Err(Errno::OVERFLOW) }
    }

    /// Masks the modes of what is made from now on.
    pub(super) fn mask(&mut self, umask: u32) {
        if self.umask != umask {
            sys::set_umask(umask);
            self.umask = umask;
        }
    }

    /// Does something as this user and group, and as one who may not keep set-user-ID and set-group-ID bits on files that
    /// are changed. Which other groups the user is in is not known here.
    pub(super) fn without_fsetid<T>(
        &mut self,
        uid: u32,
        gid: u32,
        act: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let Some(capabilities) = self.capabilities else { return act() };
        self.act_as(uid, gid)?;
        capabilities.without_fsetid().set()?;
        let result = act();
        capabilities.set()?;
        result
    }
}
