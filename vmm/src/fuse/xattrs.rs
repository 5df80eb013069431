//! Extended attributes: `FUSE_GETXATTR`, `FUSE_LISTXATTR`, `FUSE_SETXATTR`, `FUSE_REMOVEXATTR`.

use std::ffi::CString;

use rustix::fs::{AtFlags, CWD, Mode, XattrFlags};
use rustix::io::Errno;

use super::FuseServer;
use super::dispatch::Reply;
use super::host::{self, Status};
use super::shares::refuse_in_root;
use super::wire::{Body, Fields, Header, ROOT};

/// The longest value, and the longest list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX: usize = 64 << 10;

/// `FUSE_SETXATTR_ACL_KILL_SGID`
const ACL_KILL_SGID: u32 = 1;

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// Whether a guest may see and set an attribute. Others are the host's: labels of its security modules, for one.
fn is_allowed(name: &[u8]) -> bool {
    let exact: [&[u8]; 3] = [b"security.capability", ACCESS_ACL, b"system.posix_acl_default"];
    name.starts_with(b"user.") || name.starts_with(b"trusted.") || exact.contains(&name)
}

fn checked(name: &[u8]) -> Result<CString, Errno> {
    if is_allowed(name) { CString::new(name).map_err(|_| Errno::INVAL) } else { Err(Errno::OPNOTSUPP) }
}

impl FuseServer {
    pub(super) fn getxattr(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (size, _) = (body.u32()?, body.u32()?);
        let name = checked(body.last_string()?)?;
        if header.node == ROOT {
            return Err(Errno::NODATA);
        }
        let file = self.nodes.descriptor(header.node)?;
        let path = host::path(&file);
        if size == 0 {
            return Ok(sized(0, Vec::new(), rustix::fs::getxattr_query(path, &name)?));
        }
        let mut value = vec![0; MAX.min(usize::try_from(size).unwrap_or(MAX))];
        let length = rustix::fs::getxattr(path, &name, value.as_mut_slice())?;
        Ok(sized(size, value, length))
    }

    pub(super) fn listxattr(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let size = body.u32()?;
        if header.node == ROOT {
            return Ok(sized(size, Vec::new(), 0));
        }
        let file = self.nodes.descriptor(header.node)?;
        let mut list = vec![0; MAX];
        let length = rustix::fs::listxattr(host::path(&file), list.as_mut_slice())?;
        list.truncate(length);
        let names = list.split_inclusive(|byte| *byte == 0);
        let names: Vec<u8> = names
            .filter(|name| is_allowed(name.strip_suffix(b"\0").unwrap_or(name)))
            .flatten()
            .copied()
            .collect();
        if size != 0 && usize::try_from(size).is_ok_and(|size| size < names.len()) {
            return Err(Errno::RANGE);
        }
        let length = names.len();
        Ok(sized(size, names, length))
    }

    pub(super) fn setxattr(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let (size, flags) = (body.u32()?, body.u32()?);
        let mut more = 0;
        if self.session.setxattr_ext {
            more = body.u32()?;
            body.skip(4)?;
        }
        let name = checked(body.string()?)?;
        let value = body.last_bytes(size)?;
        refuse_in_root(header.node)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let file = self.nodes.descriptor(header.node)?;
        rustix::fs::setxattr(host::path(&file), &name, value, flags)?;
        // The guest says so of default ACLs as well, which change no mode.
        if more & ACL_KILL_SGID != 0 && name.as_bytes() == ACCESS_ACL {
            let mode = Status::of(&file)?.attr.mode;
            let kept = Mode::from_raw_mode(mode & 0o5777);
            if mode & libc::S_ISGID != 0 {
                rustix::fs::chmodat(CWD, host::path(&file), kept, AtFlags::empty())?;
            }
        }
        Ok(Reply::done())
    }

    pub(super) fn removexattr(&mut self, header: &Header, mut body: Fields<'_>) -> Result<Reply, Errno> {
        let name = checked(body.last_string()?)?;
        refuse_in_root(header.node)?;
        let file = self.nodes.descriptor(header.node)?;
        rustix::fs::removexattr(host::path(&file), &name)?;
        Ok(Reply::done())
    }
}

/// The value, or how long it is for a guest that asks for that with a size of 0.
fn sized(size: u32, mut value: Vec<u8>, length: usize) -> Reply {
    let mut body = Body::default();
    if size == 0 {
        body.u32(u32::try_from(length).unwrap_or(u32::MAX)).u32(0);
    } else {
        value.truncate(length);
        body = Body(value);
    }
    Reply::Body(body)
}
