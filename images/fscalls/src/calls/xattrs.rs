//! Extended attributes, and what is kept in them: access control lists and file capabilities.

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::line::{errno, quoted};
use crate::random::Random;
use crate::world::{Call, say};

const ACCESS_ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";
const CAPABILITY: &str = "security.capability";

const NAMES: [&str; 8] =
    ["user.a", "user.a", "user.b", "user.c", "user.", "nothing.a", "trusted.a", CAPABILITY];

fn name(random: &mut Random) -> String {
    match random.below(40) {
        0 => format!("user.{}", "n".repeat(250)),
        1 => format!("user.{}", "n".repeat(251)),
        2 => String::new(),
        _ => random.pick(&NAMES).to_owned(),
    }
}

/// A path's value is set with or without following a symbolic link at its end.
pub(super) fn set(call: &mut Call<'_>) {
    let (path, name, follow) = (call.random.path(), user_name(call), call.random.one_in(2));
    let (value, flags) = (value(call), flags(call));
    say!(call, "setxattr {} {} {} bytes ", quoted(&path), quoted(name.as_bytes()), value.len());
    say!(call, "flags {} follow {follow}", flags.bits());
    let set = if follow {
        rustix::fs::setxattr(&path, &name, &value, flags)
    } else {
        rustix::fs::lsetxattr(&path, &name, &value, flags)
    };
    call.line.outcome(set);
}

pub(super) fn set_descriptor(call: &mut Call<'_>) {
    let (slot, name) = (call.slot(), user_name(call));
    let (value, flags) = (value(call), flags(call));
    say!(call, "fsetxattr {slot} {} {} bytes flags {}", quoted(name.as_bytes()), value.len(), flags.bits());
    let set = call.with_slot(slot, |fd| rustix::fs::fsetxattr(fd, &name, &value, flags));
    call.line.outcome(set);
    let mut buffer = vec![0; 8192];
    let got = call.with_slot(slot, |fd| rustix::fs::fgetxattr(fd, &name, &mut buffer[..]));
    call.line.bytes(got.map(|count| &buffer[..count]));
}

/// A name whose value can be any bytes.
fn user_name(call: &mut Call<'_>) -> String {
    loop {
        let name = name(&mut call.random);
        if name != CAPABILITY {
            return name;
        }
    }
}

fn value(call: &mut Call<'_>) -> Vec<u8> {
    let length = call.random.pick(&[0, 1, 10, 10, 30, 100, 300, 1000, 3900, 5000, 65_536, 65_537]);
    call.random.bytes(length)
}

fn flags(call: &mut Call<'_>) -> XattrFlags {
    let none = XattrFlags::empty();
    call.random.pick(&[none, none, XattrFlags::CREATE, XattrFlags::REPLACE])
}

pub(super) fn get(call: &mut Call<'_>) {
    let (path, name, follow) = (call.random.path(), name(&mut call.random), call.random.one_in(2));
    let room = call.random.pick(&[0, 10, 8192, 8192, 70_000]);
    say!(call, "getxattr {} {} room {room} follow {follow}", quoted(&path), quoted(name.as_bytes()));
    let mut buffer = vec![0; room];
    let got = match (room, follow) {
        (0, true) => return call.line.count(rustix::fs::getxattr_query(&path, &name)),
        (0, false) => return call.line.count(rustix::fs::lgetxattr_query(&path, &name)),
        (_, true) => rustix::fs::getxattr(&path, &name, &mut buffer[..]),
        (_, false) => rustix::fs::lgetxattr(&path, &name, &mut buffer[..]),
    };
    call.line.bytes(got.map(|count| &buffer[..count]));
}

pub(super) fn list(call: &mut Call<'_>) {
    let (path, room) = (call.random.path(), call.random.pick(&[0, 8, 4096, 4096]));
    say!(call, "listxattr {} room {room}", quoted(&path));
    if room == 0 {
        return call.line.count(rustix::fs::llistxattr_query(&path));
    }
    let mut buffer = vec![0; room];
    let listed = rustix::fs::llistxattr(&path, &mut buffer[..]);
    if let Some(count) = call.line.outcome(listed) {
        let mut names: Vec<String> = buffer[..count].split(|byte| *byte == 0).map(quoted).collect();
        names.sort();
        say!(call, " {}", names.join(" "));
    }
}

pub(super) fn remove(call: &mut Call<'_>) {
    let (path, name) = (call.random.path(), name(&mut call.random));
    say!(call, "removexattr {} {}", quoted(&path), quoted(name.as_bytes()));
    call.line.outcome(rustix::fs::removexattr(&path, &name));
    show_mode(call, &path);
}

/// Sets an access or default ACL, now and then one that is not valid. What it does to the mode shows.
pub(super) fn set_acl(call: &mut Call<'_>) {
    let path = call.random.path();
    let name = call.random.pick(&[ACCESS_ACL, DEFAULT_ACL]);
    let value = acl(&mut call.random);
    say!(call, "setacl {} {name} {} bytes", quoted(&path), value.len());
    let set = rustix::fs::setxattr(&path, name, &value, XattrFlags::empty());
    if call.line.outcome(set).is_some() {
        let mut buffer = vec![0; 512];
        let got = rustix::fs::getxattr(&path, name, &mut buffer[..]);
        call.line.bytes(got.map(|count| &buffer[..count]));
        show_mode(call, &path);
    }
}

/// Reads an ACL, or removes it.
pub(super) fn get_acl(call: &mut Call<'_>) {
    let (path, name) = (call.random.path(), call.random.pick(&[ACCESS_ACL, DEFAULT_ACL]));
    if call.random.one_in(2) {
        say!(call, "removeacl {} {name}", quoted(&path));
        call.line.outcome(rustix::fs::removexattr(&path, name));
        return show_mode(call, &path);
    }
    say!(call, "getacl {} {name}", quoted(&path));
    let mut buffer = [0; 512];
    let got = rustix::fs::getxattr(&path, name, &mut buffer[..]);
    call.line.bytes(got.map(|count| &buffer[..count]));
}

/// The kernel's format of an ACL: version 2, then entries of tag, permissions and ID.
fn acl(random: &mut Random) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    const MASK: u16 = 0x10;
    let mut entries: Vec<(u16, u32)> = vec![(0x01, NO_ID)];
    let named = random.below(4);
    entries.extend((1000..).take(usize::from(named & 1 != 0)).map(|id| (0x02, id)));
    entries.push((0x04, NO_ID));
    entries.extend((1001..).take(usize::from(named & 2 != 0)).map(|id| (0x08, id)));
    if named != 0 || random.one_in(3) {
        entries.push((MASK, NO_ID));
    }
    entries.push((0x20, NO_ID));
    if random.one_in(12) {
        entries.pop();
    }
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in entries {
        let permissions = random.pick(&[7, 7, 6, 5, 4, 0]);
        value.extend(tag.to_le_bytes());
        value.extend(u16::to_le_bytes(permissions));
        value.extend(id.to_le_bytes());
    }
    value
}

/// Gives a file a capability, version 2 of the format; a write takes it away again.
pub(super) fn set_capability(call: &mut Call<'_>) {
    let path = call.random.path();
    let bits = u32::try_from(call.random.below(1 << 10)).unwrap_or(0);
    say!(call, "setcap {} {bits:x}", quoted(&path));
    let words = [0x0200_0001_u32, bits, 0, 0, 0];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    call.line.outcome(rustix::fs::setxattr(&path, CAPABILITY, &value, XattrFlags::empty()));
    let mut buffer = [0; 64];
    let got = rustix::fs::getxattr(&path, CAPABILITY, &mut buffer[..]);
    call.line.bytes(got.map(|count| &buffer[..count]));
}

fn show_mode(call: &mut Call<'_>, path: &[u8]) {
    let mode: Result<_, Errno> = rustix::fs::stat(path).map(|stat| stat.st_mode);
    match mode {
        Ok(mode) => say!(call, " mode {mode:o}"),
        Err(error) => say!(call, " {}", errno(error)),
    }
}
