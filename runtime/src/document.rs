//! Files that people write and drupe reads whole: config.json and the operator's settings.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why such a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The system does not let it be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is a directory, a fifo or a device.
    #[error("{}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// It is longer than any real one.
    #[error("{}: longer than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
}

impl DocumentError {
    /// Nothing has that name.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a file of at most `limit` bytes, and tells whose it is.
pub(crate) fn read(path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), DocumentError> {
    let error = |source| DocumentError::Read { path: path.to_owned(), source };
    // Nonblocking: a fifo with that name must not hold us.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if !metadata.is_file() {
        return Err(DocumentError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(error)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(DocumentError::TooLong { path: path.to_owned(), limit });
    }
    Ok((bytes, metadata))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_file_of_a_likely_length_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(read(&path, 3).unwrap_err().is_missing());
        fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap().0, b"abc");
        let line = |error: DocumentError| error.to_string().replace(path.to_str().unwrap(), "F");
        assert_eq!(line(read(&path, 2).unwrap_err()), "F: longer than 2 bytes");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(line(read(&path, 3).unwrap_err()), "F: not a regular file");
    }
}
