//! The calls, each a function that draws its arguments, makes the call, and says what came of it. What is drawn never
//! depends on what came of a call.
//!
//! Left out, because they cannot agree by design: devices (the server refuses them; the whiteout, character 0:0, is in),
//! `FALLOC_FL_COLLAPSE_RANGE` and `FALLOC_FL_INSERT_RANGE` (FUSE has none), `O_DIRECT` (FUSE aligns nothing), sizes of
//! directories and `st_blocks` (depend on the disk's layout), access times, the order of directory entries.

mod attributes;
mod data;
mod directories;
mod layout;
mod locks;
mod names;
mod open;
mod xattrs;

use crate::random::Random;
use crate::world::Call;

type Function = fn(&mut Call<'_>);

/// Every call by name, with how often it is made.
pub(crate) const CALLS: &[(u64, (&str, Function))] = &[
    (220, ("open", open::open)),
    (20, ("tmpfile", open::tmpfile)),
    (10, ("close", open::close)),
    (12, ("dup", open::dup)),
    (12, ("setfl", open::setfl)),
    (20, ("linkfd", open::link_descriptor)),
    (40, ("read", data::read)),
    (50, ("write", data::write)),
    (30, ("pread", data::pread)),
    (40, ("pwrite", data::pwrite)),
    (16, ("pwritev", data::pwritev)),
    (20, ("lseek", data::lseek)),
    (30, ("mmap", data::mapped)),
    (30, ("ftruncate", data::ftruncate)),
    (24, ("truncate", data::truncate)),
    (30, ("fallocate", data::fallocate)),
    (24, ("copy", data::copy)),
    (8, ("fsync", data::fsync)),
    (10, ("layout", layout::layout)),
    (60, ("mkdir", names::mkdir)),
    (24, ("mknod", names::mknod)),
    (30, ("link", names::link)),
    (30, ("symlink", names::symlink)),
    (16, ("readlink", names::readlink)),
    (70, ("rename", names::rename)),
    (40, ("unlink", names::unlink)),
    (16, ("rmdir", names::rmdir)),
    (10, ("chdir", names::chdir)),
    (40, ("stat", attributes::stat)),
    (30, ("fstat", attributes::fstat)),
    (10, ("birth", attributes::birth)),
    (12, ("same", attributes::same)),
    (40, ("chmod", attributes::chmod)),
    (16, ("fchmod", attributes::fchmod)),
    (30, ("chown", attributes::chown)),
    (12, ("fchown", attributes::fchown)),
    (24, ("utimens", attributes::utimens)),
    (10, ("futimens", attributes::futimens)),
    (24, ("access", attributes::access)),
    (14, ("umask", attributes::umask)),
    (4, ("statfs", attributes::statfs)),
    (30, ("setxattr", xattrs::set)),
    (24, ("getxattr", xattrs::get)),
    (12, ("listxattr", xattrs::list)),
    (10, ("removexattr", xattrs::remove)),
    (10, ("fsetxattr", xattrs::set_descriptor)),
    (24, ("setacl", xattrs::set_acl)),
    (10, ("getacl", xattrs::get_acl)),
    (10, ("setcap", xattrs::set_capability)),
    (24, ("fcntl", locks::record)),
    (20, ("ofd", locks::description)),
    (16, ("flock", locks::flock)),
    (24, ("readdir", directories::list)),
    (8, ("readfd", directories::list_descriptor)),
    (2, ("mutate", directories::mutate)),
    (2, ("deep", directories::deep)),
];

/// What an operation is.
pub(crate) fn choose(random: &mut Random) -> (&'static str, Function) {
    *random.weighed(CALLS)
}
