//! The file of `--pid-file`: never seen empty or half-written by who waits for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why the file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("pid file {}", path.display())]
pub(crate) struct PidFileError {
    path: PathBuf,
    source: io::Error,
}

/// Puts the pid, in digits alone, into the file, in the place of what is there.
pub(crate) fn write(path: &Path, pid: u32) -> Result<(), PidFileError> {
    let error = |source| PidFileError { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| error(io::ErrorKind::InvalidInput.into()))?;
    // A name that no other process writes to at the same time.
    let mut unfinished = OsString::from(".");
    unfinished.push(name);
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = path.with_file_name(unfinished);
    // Whatever the process's umask is: who can write it says whom root signals.
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What went wrong before is what the caller hears of.
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_has_the_digits_alone_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        write(&path, 7).unwrap();
        write(&path, 12_345).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "12345");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o133, 0);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let error = write(Path::new("/no/such/dir/pid"), 1).unwrap_err();
        assert_eq!(error.to_string(), "pid file /no/such/dir/pid");
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pid")).unwrap();
        assert!(write(&dir.path().join("pid"), 1).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
