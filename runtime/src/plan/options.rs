//! Mount options, as mount(8) and runc name them.

use libc::{
    MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME, MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC,
    MS_NOSUID, MS_NOSYMFOLLOW, MS_POSIXACL, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT,
    MS_SHARED, MS_SILENT, MS_SLAVE, MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE,
};

use crate::bundle::Problem;

/// The options of one mount, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `MS_*` flags of the mount itself.
    pub(crate) flags: u64,
    /// Propagation flags, in their order.
    pub(crate) propagation: Vec<u64>,
    /// What is below a bind mount's source comes along (`rbind`).
    pub(crate) recursive: bool,
    /// Options that are not flags: the filesystem understands them.
    pub(crate) data: Vec<String>,
}

#[derive(Clone, Copy)]
enum Meaning {
    Set(u64),
    Clear(u64),
    Propagation(u64),
    Bind { recursive: bool },
    Nothing,
    Refused(&'static str),
}

use Meaning::{Bind, Clear, Nothing, Propagation, Refused, Set};

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
    ("idmap", Refused("id-mapped mounts come later")),
    ("ridmap", Refused("id-mapped mounts come later")),
    ("tmpcopyup", Refused("an option of runc alone; copying into a tmpfs comes later")),
];

/// Options that have a form for all mounts below (`rro` and so on). In the guest a mount has none below it: a
/// share is one filesystem there, whatever the host mounts in it. So they mean what they mean without the r.
const RECURSIVE_FORMS: &[&str] = &[
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "noatime",
    "atime",
    "nodiratime",
    "diratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "nosymfollow",
    "symfollow",
];

fn meaning(option: &str) -> Option<Meaning> {
    let name = option.strip_prefix('r').filter(|plain| RECURSIVE_FORMS.contains(plain)).unwrap_or(option);
    MEANINGS.iter().find(|(known, _)| *known == name).map(|&(_, meaning)| meaning)
}

/// The names of the options that are not refused, with their recursive forms.
pub(crate) fn names() -> Vec<String> {
    let plain = MEANINGS.iter().filter(|(_, meaning)| !matches!(meaning, Refused(_)));
    let plain = plain.map(|(name, _)| (*name).to_owned());
    plain.chain(RECURSIVE_FORMS.iter().map(|name| format!("r{name}"))).collect()
}

/// Sorts options; a later one overrides an earlier one. The error names the option by its place.
pub(crate) fn parse(options: &[String]) -> Result<MountOptions, (usize, Problem)> {
    let mut parsed = MountOptions::default();
    for (index, option) in options.iter().enumerate() {
        match meaning(option) {
            Some(Set(flag)) => parsed.flags |= flag,
            Some(Clear(flag)) => parsed.flags &= !flag,
            Some(Propagation(flags)) => parsed.propagation.push(flags),
            Some(Bind { recursive }) => parsed.recursive |= recursive,
            Some(Nothing) => {}
            Some(Refused(why)) => return Err((index, Problem::Unsupported(why))),
            None => parsed.data.push(option.clone()),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parsed(options: &str) -> MountOptions {
        parse(&options.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn every_option_is_in_the_table_once_and_every_recursive_form_has_a_plain_one() {
        let names: BTreeSet<_> = MEANINGS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), MEANINGS.len());
        for plain in RECURSIVE_FORMS {
            assert!(matches!(meaning(plain), Some(Set(_) | Clear(_))), "{plain}");
            assert_eq!(parsed(&format!("r{plain}")).flags, parsed(plain).flags);
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
        // Looks like a recursive form, and is not one.
        assert_eq!(parsed("rmode=1").data, ["rmode=1"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_place() {
        for option in ["idmap", "ridmap", "tmpcopyup"] {
            let options = ["ro".to_owned(), option.to_owned()];
            assert!(matches!(parse(&options), Err((1, Problem::Unsupported(_)))));
        }
    }
}
