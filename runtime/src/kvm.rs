//! /dev/kvm: opened, or one line that says which of three things is wrong with it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::arch;

const DEVICE: &str = "/dev/kvm";

/// Why there is no KVM to run a machine with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvmError {
    #[error(
        "/dev/kvm: not there: switch virtualisation on in the firmware, then `modprobe kvm_intel` or \
         `modprobe kvm_amd`; without such a processor run it in the lab: `lab/lab -- drupe run ...`"
    )]
    Missing,
    #[error("/dev/kvm: permission denied for user {user}: it must be root or in the group {group}")]
    Denied { user: String, group: String },
    #[error(
        "/dev/kvm: cannot run a Linux guest: the processor offers no hardware virtualisation to this machine, \
         so KVM is emulated in software (as kvm_pvm does); run it in the lab: `lab/lab -- drupe run ...`"
    )]
    Software,
    #[error(
        "/dev/kvm: cannot run a Linux guest: {0}; if KVM is emulated in software (as kvm_pvm does), run it in \
         the lab: `lab/lab -- drupe run ...`"
    )]
    Unrunnable(String),
    #[error("/dev/kvm")]
    Open(#[source] io::Error),
}

/// Opens /dev/kvm, if it can run a Linux guest.
pub(crate) fn open() -> Result<File, KvmError> {
    let opened = File::options().read(true).write(true).open(DEVICE);
    check(opened, arch::hardware_virtualisation(), names)
}

/// `names` tells the current user and the group of the device; it is asked only if that matters.
fn check(
    opened: io::Result<File>,
    hardware: bool,
    names: impl FnOnce() -> (String, String),
) -> Result<File, KvmError> {
    match opened {
        Ok(_) if !hardware => Err(KvmError::Software),
        Ok(file) => Ok(file),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let (user, group) = names();
            Err(KvmError::Denied { user, group })
        }
        Err(error)
            if error.kind() == ErrorKind::NotFound
                || matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) =>
        {
            Err(KvmError::Missing)
        }
        Err(error) => Err(KvmError::Open(error)),
    }
}

/// The name of a user; empty when there is none.
pub(crate) fn user_name(uid: u32) -> String {
    std::fs::read_to_string("/etc/passwd").ok().and_then(|text| name_of(&text, uid)).unwrap_or_default()
}

fn names() -> (String, String) {
    let uid = rustix::process::geteuid().as_raw();
    let gid = std::fs::metadata(DEVICE).map(|metadata| metadata.gid()).ok();
    let name = |file: &str, id: u32| {
        std::fs::read_to_string(Path::new(file)).ok().and_then(|text| name_of(&text, id))
    };
    // Root's group is what the device has where nobody gave it to a group.
    let group = gid.filter(|&gid| gid != 0).and_then(|gid| name("/etc/group", gid));
    (name("/etc/passwd", uid).unwrap_or_else(|| uid.to_string()), group.unwrap_or_else(|| "kvm".to_owned()))
}

/// The name of an id in the text of /etc/passwd or /etc/group.
fn name_of(text: &str, id: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(opened: io::Result<File>, hardware: bool) -> String {
        let names = || ("alice".to_owned(), "kvm".to_owned());
        crate::text::chain(&check(opened, hardware, names).unwrap_err())
    }

    fn errno(number: i32) -> io::Result<File> {
        Err(io::Error::from_raw_os_error(number))
    }

    #[test]
    fn each_case_has_a_line_of_its_own() {
        for number in [libc::ENOENT, libc::ENODEV, libc::ENXIO] {
            assert!(message(errno(number), true).starts_with("/dev/kvm: not there: "));
        }
        for number in [libc::EACCES, libc::EPERM] {
            let text = "/dev/kvm: permission denied for user alice: it must be root or in the group kvm";
            assert_eq!(message(errno(number), true), text);
        }
        let software = message(File::open("/dev/null"), false);
        assert!(software.starts_with("/dev/kvm: cannot run a Linux guest: the processor offers no hardware"));
        assert!(software.contains("lab/lab -- drupe run"));
        assert_eq!(message(errno(libc::EMFILE), true), "/dev/kvm: Too many open files (os error 24)");
        assert!(check(File::open("/dev/null"), true, || unreachable!()).is_ok());
    }

    #[test]
    fn names_are_looked_up() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(name_of(passwd, 5), None);
    }
}
