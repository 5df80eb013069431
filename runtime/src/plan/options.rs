//! Mount options, as mount(8), the specification and runc name them.

use drupe_protocol::RecursiveAttributes;
use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MS_DIRSYNC,
    MS_I_VERSION, MS_LAZYTIME, MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID,
    MS_NOSYMFOLLOW, MS_POSIXACL, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT, MS_SHARED,
    MS_SILENT, MS_SLAVE, MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE,
};

/// The options of one mount, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `MS_*` flags of the mount itself.
    pub(crate) flags: u64,
    /// Propagation flags, in their order.
    pub(crate) propagation: Vec<u64>,
    /// Attributes of the mount and all below it.
    pub(crate) attributes: RecursiveAttributes,
    /// What is below a bind mount's source comes along (`rbind`).
    pub(crate) recursive: bool,
    /// Its files' owners are mapped.
    pub(crate) idmap: Option<Idmap>,
    /// A tmpfs begins with a copy of what the image has in its place.
    pub(crate) copy_up: bool,
    /// Options that are not flags: the filesystem understands them.
    pub(crate) data: Vec<String>,
}

/// How far a mapping of owners reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idmap {
    /// The mount alone (`idmap`).
    Mount,
    /// The mount and all below it (`ridmap`).
    Tree,
}

impl MountOptions {
    /// Nothing can be written through the mount, if it has no others below it.
    pub(crate) fn readonly(&self) -> bool {
        let RecursiveAttributes { set, clear } = self.attributes;
        set & MOUNT_ATTR_RDONLY != 0 || (self.flags & MS_RDONLY != 0 && clear & MOUNT_ATTR_RDONLY == 0)
    }

    /// What is read-only in the source is to be written (`rrw`).
    pub(crate) fn writable(&self) -> bool {
        self.attributes.clear & MOUNT_ATTR_RDONLY != 0
    }
}

#[derive(Clone, Copy)]
enum Meaning {
    Set(u64),
    Clear(u64),
    Propagation(u64),
    SetBelow(u64),
    ClearBelow(u64),
    AccessTime(u64),
    Bind { recursive: bool },
    Map(Idmap),
    CopyUp,
    Nothing,
}

use Meaning::{AccessTime, Bind, Clear, ClearBelow, CopyUp, Map, Nothing, Propagation, Set, SetBelow};

const MEANINGS: &[(&str, Meaning)] = &[
    ("defaults", Nothing),
    ("ro", Set(MS_RDONLY)),
    ("rw", Clear(MS_RDONLY)),
    ("nosuid", Set(MS_NOSUID)),
    ("suid", Clear(MS_NOSUID)),
    ("nodev", Set(MS_NODEV)),
    ("dev", Clear(MS_NODEV)),
    ("noexec", Set(MS_NOEXEC)),
    ("exec", Clear(MS_NOEXEC)),
    ("sync", Set(MS_SYNCHRONOUS)),
    ("async", Clear(MS_SYNCHRONOUS)),
    ("dirsync", Set(MS_DIRSYNC)),
    ("remount", Set(MS_REMOUNT)),
    ("mand", Set(MS_MANDLOCK)),
    ("nomand", Clear(MS_MANDLOCK)),
    ("noatime", Set(MS_NOATIME)),
    ("atime", Clear(MS_NOATIME)),
    ("nodiratime", Set(MS_NODIRATIME)),
    ("diratime", Clear(MS_NODIRATIME)),
    ("relatime", Set(MS_RELATIME)),
    ("norelatime", Clear(MS_RELATIME)),
    ("strictatime", Set(MS_STRICTATIME)),
    ("nostrictatime", Clear(MS_STRICTATIME)),
    ("lazytime", Set(MS_LAZYTIME)),
    ("nolazytime", Clear(MS_LAZYTIME)),
    ("iversion", Set(MS_I_VERSION)),
    ("noiversion", Clear(MS_I_VERSION)),
    ("silent", Set(MS_SILENT)),
    ("loud", Clear(MS_SILENT)),
    ("acl", Set(MS_POSIXACL)),
    ("noacl", Clear(MS_POSIXACL)),
    ("nosymfollow", Set(MS_NOSYMFOLLOW)),
    ("symfollow", Clear(MS_NOSYMFOLLOW)),
    ("bind", Bind { recursive: false }),
    ("rbind", Bind { recursive: true }),
    ("shared", Propagation(MS_SHARED)),
    ("rshared", Propagation(MS_SHARED | MS_REC)),
    ("slave", Propagation(MS_SLAVE)),
    ("rslave", Propagation(MS_SLAVE | MS_REC)),
    ("private", Propagation(MS_PRIVATE)),
    ("rprivate", Propagation(MS_PRIVATE | MS_REC)),
    ("unbindable", Propagation(MS_UNBINDABLE)),
    ("runbindable", Propagation(MS_UNBINDABLE | MS_REC)),
    ("rro", SetBelow(MOUNT_ATTR_RDONLY)),
    ("rrw", ClearBelow(MOUNT_ATTR_RDONLY)),
    ("rnosuid", SetBelow(MOUNT_ATTR_NOSUID)),
    ("rsuid", ClearBelow(MOUNT_ATTR_NOSUID)),
    ("rnodev", SetBelow(MOUNT_ATTR_NODEV)),
    ("rdev", ClearBelow(MOUNT_ATTR_NODEV)),
    ("rnoexec", SetBelow(MOUNT_ATTR_NOEXEC)),
    ("rexec", ClearBelow(MOUNT_ATTR_NOEXEC)),
    ("rnodiratime", SetBelow(MOUNT_ATTR_NODIRATIME)),
    ("rdiratime", ClearBelow(MOUNT_ATTR_NODIRATIME)),
    ("rnosymfollow", SetBelow(MOUNT_ATTR_NOSYMFOLLOW)),
    ("rsymfollow", ClearBelow(MOUNT_ATTR_NOSYMFOLLOW)),
    // Of these a mount has exactly one; `relatime`, which has the value 0, is the kernel's default.
    ("rrelatime", AccessTime(0)),
    ("rnorelatime", AccessTime(0)),
    ("rnoatime", AccessTime(MOUNT_ATTR_NOATIME)),
    ("ratime", AccessTime(0)),
    ("rstrictatime", AccessTime(MOUNT_ATTR_STRICTATIME)),
    ("rnostrictatime", AccessTime(0)),
    ("idmap", Map(Idmap::Mount)),
    ("ridmap", Map(Idmap::Tree)),
    ("tmpcopyup", CopyUp),
];

fn meaning(option: &str) -> Option<Meaning> {
    MEANINGS.iter().find(|(known, _)| *known == option).map(|&(_, meaning)| meaning)
}

/// The names of the options that mean something here.
pub(crate) fn names() -> Vec<&'static str> {
    MEANINGS.iter().map(|(name, _)| *name).collect()
}

/// Propagation flags by their name.
pub(crate) fn propagation(name: &str) -> Option<u64> {
    match meaning(name) {
        Some(Propagation(flags)) => Some(flags),
        _ => None,
    }
}

/// Sorts options; a later one overrides an earlier one.
pub(crate) fn parse(options: &[String]) -> MountOptions {
    let mut parsed = MountOptions::default();
    let below = &mut parsed.attributes;
    for option in options {
        match meaning(option) {
            Some(Set(flag)) => parsed.flags |= flag,
            Some(Clear(flag)) => parsed.flags &= !flag,
            Some(Propagation(flags)) => parsed.propagation.push(flags),
            Some(SetBelow(attribute)) => {
                below.set |= attribute;
                below.clear &= !attribute;
            }
            Some(ClearBelow(attribute)) => {
                below.set &= !attribute;
                below.clear |= attribute;
            }
            Some(AccessTime(value)) => {
                below.set = below.set & !MOUNT_ATTR__ATIME | value;
                below.clear |= MOUNT_ATTR__ATIME;
            }
            Some(Bind { recursive }) => parsed.recursive |= recursive,
            Some(Map(idmap)) => parsed.idmap = Some(idmap),
            Some(CopyUp) => parsed.copy_up = true,
            Some(Nothing) => {}
            None => parsed.data.push(option.clone()),
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parsed(options: &str) -> MountOptions {
        parse(&options.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_option_is_in_the_table_once_and_every_recursive_form_has_a_plain_one() {
        let names: BTreeSet<_> = MEANINGS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), MEANINGS.len());
        for (name, meaning) in MEANINGS {
            if let SetBelow(_) | ClearBelow(_) | AccessTime(_) = meaning {
                assert!(names.contains(&name.strip_prefix('r').unwrap()), "{name}");
            }
        }
    }

    #[test]
    fn an_opposite_undoes_its_option() {
        for (name, meaning) in MEANINGS {
            let Clear(flag) = meaning else { continue };
            let (opposite, _) = MEANINGS.iter().find(|(_, m)| matches!(m, Set(set) if set == flag)).unwrap();
            assert_eq!(parsed(opposite).flags, *flag);
            assert_eq!(parsed(&format!("{opposite},{name}")).flags, 0, "{name}");
            assert_eq!(parsed(&format!("{name},{opposite}")).flags, *flag, "{name}");
        }
    }

    #[test]
    fn options_are_sorted() {
        let options = parsed("nosuid,strictatime,mode=755,rprivate,size=65536k,noexec,shared");
        assert_eq!(options.flags, MS_NOSUID | MS_STRICTATIME | MS_NOEXEC);
        assert_eq!(options.propagation, [MS_PRIVATE | MS_REC, MS_SHARED]);
        assert_eq!(options.data, ["mode=755", "size=65536k"]);
        assert!(!options.recursive);
        assert!(parsed("rbind,ro").recursive);
        assert_eq!(parsed("bind,ridmap").idmap, Some(Idmap::Tree));
        assert!(parsed("tmpcopyup").copy_up);
        // Looks like a recursive form, and is not one.
        assert_eq!(parsed("rmode=1").data, ["rmode=1"]);
    }

    #[test]
    fn recursive_forms_are_attributes_of_all_mounts_below() {
        let attributes = |options: &str| {
            let RecursiveAttributes { set, clear } = parsed(options).attributes;
            (set, clear)
        };
        assert_eq!(attributes("ro,nosuid"), (0, 0));
        assert_eq!(
            attributes("rro,rnosuid,rexec"),
            (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOEXEC)
        );
        assert_eq!(attributes("rro,rrw"), (0, MOUNT_ATTR_RDONLY));
        // The kernel wants all of the bits cleared of which one is set.
        assert_eq!(attributes("rnoatime"), (MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME));
        assert_eq!(attributes("rnoatime,rstrictatime"), (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME));
        assert_eq!(attributes("rnoatime,rrelatime"), (0, MOUNT_ATTR__ATIME));
    }

    #[test]
    fn what_is_read_only_is_so_in_every_form() {
        for (options, readonly, writable) in [
            ("ro", true, false),
            ("rw", false, false),
            ("rro", true, false),
            ("rw,rro", true, false),
            ("ro,rrw", false, true),
            ("rrw,ro", false, true),
        ] {
            let parsed = parsed(options);
            assert_eq!((parsed.readonly(), parsed.writable()), (readonly, writable), "{options}");
        }
    }
}
