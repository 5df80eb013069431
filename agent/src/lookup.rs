//! Finds the program of a process as a shell does: 127 when there is none, 126 when it cannot be executed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use drupe_protocol::{Failure, FailureKind};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use crate::failure::{Result, cause, of_kind};

const FIELD: &str = "process.args[0]";

/// The program that `name` means for the calling process, with its user, root and working directory.
///
/// A name without a slash is looked up in `path`, the value of `PATH`. As with runc there is no default for it.
pub(crate) fn program(name: &str, path: Option<&str>) -> Result<PathBuf> {
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| name.into()).map_err(|errno| refused(name, errno));
    }
    if name.is_empty() {
        return Err(of_kind(FailureKind::NotFound, FIELD, "\"\": no program named"));
    }
    let Some(path) = path else {
        return Err(of_kind(FailureKind::NotFound, FIELD, format_args!("{name:?}: no PATH in process.env")));
    };
    let mut not_executable = None;
    for directory in path.split(':') {
        // An empty entry is the working directory.
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(OsStr::new(name));
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS | Errno::ISDIR) if exists(&candidate) => not_executable = Some(candidate),
            Err(_) => {}
        }
    }
    Err(match not_executable {
        Some(found) => of_kind(
            FailureKind::NotExecutable,
            FIELD,
            format_args!("{name:?}: {}: permission denied", found.display()),
        ),
        None => of_kind(
            FailureKind::NotFound,
            FIELD,
            format_args!("{name:?}: executable file not found in $PATH ({path})"),
        ),
    })
}

/// What a failed lookup or exec means.
pub(crate) fn refused(name: &str, errno: Errno) -> Failure {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => FailureKind::NotFound,
        Errno::TOOBIG | Errno::NOMEM | Errno::IO | Errno::MFILE | Errno::NFILE => FailureKind::Setup,
        _ => FailureKind::NotExecutable,
    };
    of_kind(kind, FIELD, format_args!("{name:?}: {}", cause(&errno.into())))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let mode = stat(path)?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Directory => Err(Errno::ISDIR),
        FileType::RegularFile => may_execute(path, mode),
        _ => Err(Errno::ACCESS),
    }
}

/// Asks the kernel. Where the filter of the process does not allow the question, exec itself tells.
fn may_execute(path: &Path, mode: u32) -> Result<(), Errno> {
    // The real ids are the effective ones: the older call, which takes no flags, means the same.
    for flags in [AtFlags::EACCESS, AtFlags::empty()] {
        match accessat(CWD, path, Access::EXEC_OK, flags) {
            Err(Errno::PERM | Errno::NOSYS) => {}
            answer => return answer,
        }
    }
    if mode & 0o111 == 0 { Err(Errno::ACCESS) } else { Ok(()) }
}

fn exists(path: &Path) -> bool {
    stat(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn lookup_table() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for name in ["a", "b"] {
            fs::create_dir(at(name)).unwrap();
        }
        let file = |name: &str, mode: u32| {
            fs::write(at(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        file("a/plain", 0o644);
        file("b/plain", 0o755);
        file("a/only-plain", 0o644);
        fs::create_dir(at("a/directory")).unwrap();
        symlink("nowhere", at("a/dangling")).unwrap();
        symlink("../b/plain", at("a/link")).unwrap();
        let path = format!("{}:{}:{}", at("missing"), at("a"), at("b"));

        use FailureKind::{NotExecutable, NotFound};
        let cases: [(&str, Option<&str>, Result<String, FailureKind>); 16] = [
            ("plain", Some(&path), Ok(at("b/plain"))),
            ("link", Some(&path), Ok(at("a/link"))),
            ("only-plain", Some(&path), Err(NotExecutable)),
            ("directory", Some(&path), Err(NotExecutable)),
            ("dangling", Some(&path), Err(NotFound)),
            ("absent", Some(&path), Err(NotFound)),
            ("", Some(&path), Err(NotFound)),
            ("plain", None, Err(NotFound)),
            ("plain", Some(""), Err(NotFound)),
            (&at("b/plain"), None, Ok(at("b/plain"))),
            (&at("a/only-plain"), None, Err(NotExecutable)),
            (&at("a"), None, Err(NotExecutable)),
            (&at("a/dangling"), None, Err(NotFound)),
            (&at("b/plain/x"), None, Err(NotFound)),
            (&at("absent/x"), None, Err(NotFound)),
            ("/dev/null", None, Err(NotExecutable)),
        ];
        for (name, path, expected) in cases {
            let found = program(name, path);
            if let Err(failure) = &found {
                assert_eq!(failure.field, FIELD);
            }
            let found = found.map(|path| path.to_str().unwrap().to_owned()).map_err(|failure| failure.kind);
            assert_eq!(found, expected, "{name:?} in {path:?}");
        }
    }
}
