//! Which devices of the host the monitor may use: those of `linux.resources.devices` and those of its own.
//!
//! In version 2 a program decides that is attached to the cgroup, beside whatever systemd attaches there, and it lives as
//! long as the cgroup. In version 1 the rules are written to the devices controller.
//!
//! What the monitor has open already it keeps. It opens no device after that, so the rules are for whoever takes it over.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use drupe_protocol::CgroupSetting;
use rustix::fs::{Mode, OFlags};

use super::{CgroupError, HostCgroup, directory};
use crate::device_program;
use crate::resources::DeviceRule;
use crate::sys::bpf;

/// /dev/kvm: major and minor number.
const KVM: (i64, i64) = (10, 232);

/// Whatever else is allowed in version 1: in version 2 it is part of every program ([`device_program`]).
const ALWAYS: [(&str, i64, i64, &str); 11] = [
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    ("c", 1, 3, "rwm"),    // null
    ("c", 1, 5, "rwm"),    // zero
    ("c", 1, 7, "rwm"),    // full
    ("c", 1, 8, "rwm"),    // random
    ("c", 1, 9, "rwm"),    // urandom
    ("c", 5, 0, "rwm"),    // tty
    ("c", 5, 1, "rwm"),    // console
    ("c", 5, 2, "rwm"),    // ptmx
    ("c", 136, -1, "rwm"), // pts
];

impl HostCgroup {
    /// Lets the processes of the cgroup use the devices of these rules and those of a monitor, and no others.
    pub(crate) fn confine_devices(&self, rules: &[DeviceRule], field: &str) -> Result<(), CgroupError> {
        match self.version {
            2 => self.members.iter().try_for_each(|member| self.attach(rules, &member.path, field)),
            1 => match self.directory("devices") {
                Some(path) => write(rules, path, field),
                None if self.tolerant => Ok(()),
                None => Err(CgroupError::NoController {
                    field: format!("{field}.devices"),
                    controller: "devices".into(),
                    place: "a mounted hierarchy of cgroups".into(),
                }),
            },
            _ => Ok(()),
        }
    }

    fn attach(&self, rules: &[DeviceRule], path: &Path, field: &str) -> Result<(), CgroupError> {
        let error = |source| CgroupError::Devices { field: field.into(), path: path.into(), source };
        let rules: Vec<_> = rules.iter().map(Into::into).chain([(&kvm()).into()]).collect();
        // The plan has compiled them for the guest.
        let program = device_program::compile(&rules).map_err(|wrong| error(io::Error::other(wrong)))?;
        // Every device is allowed.
        if program.is_empty() {
            return Ok(());
        }
        let attached = || -> io::Result<()> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let cgroup = rustix::fs::open(path, flags, Mode::empty())?;
            bpf::attach_device_program(cgroup.as_fd(), bpf::load_device_program(&program)?.as_fd())
        };
        match attached() {
            Err(source) if self.unprivileged && is_denied(&source) => {
                log::debug!("{}: no rules for devices: {source}", path.display());
                Ok(())
            }
            result => result.map_err(error),
        }
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}

fn kvm() -> DeviceRule {
    rule("c", KVM.0, KVM.1, "rw")
}

fn rule(kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some(kind.into()),
        major: Some(major),
        minor: Some(minor),
        access: Some(access.into()),
    }
}

/// Writes the rules to the devices controller of version 1.
fn write(rules: &[DeviceRule], path: &Path, field: &str) -> Result<(), CgroupError> {
    directory::write_all(
        settings(rules, field).into_iter().map(|setting| (PathBuf::from(path), setting)).collect(),
    )
}

fn settings(rules: &[DeviceRule], field: &str) -> Vec<CgroupSetting> {
    let own = ALWAYS.iter().map(|&(kind, major, minor, access)| rule(kind, major, minor, access));
    let own: Vec<_> = std::iter::once(DeviceRule::default()).chain(own).chain([kvm()]).collect();
    let setting = |field: String, rule: &DeviceRule| CgroupSetting {
        field,
        file: if rule.allow { "devices.allow" } else { "devices.deny" }.into(),
        value: rule.text(),
    };
    let (none, ours) = own.split_at(1);
    let given = rules.iter().enumerate();
    let given = given.map(|(index, rule)| setting(format!("{field}.devices[{index}]"), rule));
    let of_ours = |rule: &DeviceRule| setting(format!("{field}.devices"), rule);
    // At first a cgroup allows what the one above it allows.
    none.iter().map(of_ours).chain(given).chain(ours.iter().map(of_ours)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_denies_all_then_obeys_and_allows_what_a_monitor_needs() {
        let mut tun = rule("c", 10, 200, "rwm");
        let mut all = DeviceRule { allow: true, ..DeviceRule::default() };
        all.kind = Some("a".into());
        tun.allow = false;
        let settings = settings(&[all, tun], "linux.resources");
        let lines: Vec<_> =
            settings.iter().map(|setting| format!("{} {}", setting.file, setting.value)).collect();
        assert_eq!(
            lines[..3],
            ["devices.deny a *:* rwm", "devices.allow a *:* rwm", "devices.deny c 10:200 rwm"]
        );
        assert_eq!(lines[3], "devices.allow c *:* m");
        assert_eq!(lines[lines.len() - 2..], ["devices.allow c 136:* rwm", "devices.allow c 10:232 rw"]);
        assert_eq!(settings[1].field, "linux.resources.devices[0]");
    }
}
