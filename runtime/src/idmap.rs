//! Mounts whose files' owners are mapped (`mounts[].uidMappings`): to the guest a file on the disk belongs to somebody else.
//!
//! The kernel takes the mappings from a user namespace, so one is made for them, held by a process that does nothing.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use drupe_protocol::IdRange;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::plan::IdMappings;
use crate::sys::{self, MountChange};

/// Maps the owners of a mount that is in no mount namespace.
pub(crate) fn map(mount: impl AsFd, mappings: &IdMappings) -> io::Result<()> {
    let namespace = namespace(mappings)?;
    let owners = Some(namespace.as_fd());
    sys::change_mount(mount, MountChange { owners, recursive: mappings.recursive, ..MountChange::default() })
}

/// A user namespace with these mappings.
fn namespace(mappings: &IdMappings) -> io::Result<OwnedFd> {
    let (reading, writing) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, writing) = sys::hold_namespace(reading, writing)?;
    let namespace = fs::write(format!("/proc/{pid}/uid_map"), lines(&mappings.uids))
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), lines(&mappings.gids)))
        .and_then(|()| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty())?)
        });
    drop(writing);
    sys::reap_namespace(pid);
    namespace
}

/// Mappings as the kernel's files have them.
fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_the_mappings_and_nothing_stays_behind() {
        let ranges = vec![
            IdRange { inside: 0, outside: 1000, count: 1 },
            IdRange { inside: 5, outside: 2000, count: 9 },
        ];
        assert_eq!(lines(&ranges), "0 1000 1\n5 2000 9\n");
        let mappings =
            IdMappings { field: "mounts[0]".into(), uids: ranges.clone(), gids: ranges, recursive: false };
        match namespace(&mappings) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: no CAP_SETUID, so no mappings");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
