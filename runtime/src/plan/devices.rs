//! `linux.devices` -> nodes in the container's /dev.
//!
//! A node stands for a device of the guest: those of the host are not passed in.

use std::collections::BTreeSet;
use std::path::Path;

use drupe_protocol::DeviceNode;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::support::Warning;
use crate::bundle::{Config, FieldError, Problem, is_bind, require_absolute};
use crate::lexical::clean;

/// Bounds of the kernel (include/linux/kdev_t.h).
const MAX_MAJOR: u64 = (1 << 12) - 1;
const MAX_MINOR: u64 = (1 << 20) - 1;
/// The mode of a node when none is given, as with runc.
const DEFAULT_MODE: u32 = 0o666;

/// Character devices that the guest has, by number; `None` is any minor number.
const IN_GUEST: &[(i64, Option<i64>)] = &[
    (1, None),       // null, zero, full, random, urandom
    (5, None),       // tty, console, ptmx
    (10, Some(200)), // net/tun
    (10, Some(229)), // fuse
    (136, None),     // pts
];

/// The nodes, in their order.
pub(crate) fn devices(config: &Config, warnings: &mut Vec<Warning>) -> Result<Vec<DeviceNode>, FieldError> {
    let dev_is_bound =
        config.mounts().iter().any(|mount| is_bind(mount) && clean(mount.destination()) == Path::new("/dev"));
    let mut paths = BTreeSet::new();
    let mut nodes = Vec::new();
    for (index, device) in config.linux().devices().iter().flatten().enumerate() {
        let field = format!("linux.devices[{index}]");
        require_absolute(format!("{field}.path"), device.path())?;
        let node = node(field.clone(), device)?;
        if !paths.insert(node.path.clone()) {
            return Err(FieldError::text(format!("{field}.path"), &node.path, Problem::Duplicate));
        }
        if dev_is_bound && Path::new(&node.path).starts_with("/dev") {
            // As with runc: it would leave a file in the host's directory.
            let reason = format!("{:?}: /dev is a bind mount, in which no nodes are made", node.path);
            warnings.push(Warning { field, reason });
            continue;
        }
        let numbers = (device.major(), device.minor());
        let in_guest = IN_GUEST
            .iter()
            .any(|&(major, minor)| major == numbers.0 && minor.is_none_or(|minor| minor == numbers.1));
        if node.kind == libc::S_IFBLK || (node.kind == libc::S_IFCHR && !in_guest) {
            let reason =
                format!("{:?}: a device of the guest, if it has one; the host's is not passed in", node.path);
            warnings.push(Warning { field, reason });
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn node(field: String, device: &LinuxDevice) -> Result<DeviceNode, FieldError> {
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => {
            return Err(FieldError::text(
                format!("{field}.type"),
                "a",
                Problem::Invalid("must be c, b, u or p"),
            ));
        }
    };
    let number = |name: &str, number: i64, most: u64| match u32::try_from(number) {
        Ok(number) if u64::from(number) <= most => Ok(number),
        _ if number < 0 => Err(FieldError::number(format!("{field}.{name}"), number, Problem::TooSmall(0))),
        _ => Err(FieldError::number(format!("{field}.{name}"), number, Problem::TooLarge(most))),
    };
    // They mean nothing for a fifo.
    let (major, minor) = match kind {
        libc::S_IFIFO => (0, 0),
        _ => (number("major", device.major(), MAX_MAJOR)?, number("minor", device.minor(), MAX_MINOR)?),
    };
    Ok(DeviceNode {
        path: clean(Path::new(device.path())).to_string_lossy().into_owned(),
        kind,
        major,
        minor,
        // Some tools give the type along.
        mode: device.file_mode().unwrap_or(DEFAULT_MODE) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        field,
    })
}
