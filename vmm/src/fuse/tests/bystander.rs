//! A tree as it was: what must not have changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All that can be told of a file: attributes, contents or target, extended attributes.
type Known = (Vec<i64>, Vec<u8>, Vec<Vec<u8>>);

/// What is known of each file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree(BTreeMap<PathBuf, Known>);

impl Tree {
    /// The tree below a path as it is now.
    pub(super) fn of(path: &Path) -> Self {
        let mut found = BTreeMap::new();
        add(path, &mut found);
        Self(found)
    }
}

fn add(path: &Path, found: &mut BTreeMap<PathBuf, Known>) {
    let of = fs::symlink_metadata(path).unwrap();
    let attributes = vec![
        of.ino().cast_signed(),
        of.mode().into(),
        of.nlink().cast_signed(),
        of.uid().into(),
        of.gid().into(),
        of.size().cast_signed(),
        of.mtime(),
        of.mtime_nsec(),
        of.ctime(),
        of.ctime_nsec(),
    ];
    let data = if of.is_file() {
        fs::read(path).unwrap()
    } else if of.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut values = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        values.push([name, b"=", &value[..length]].concat());
    }
    found.insert(path.to_owned(), (attributes, data, values));
    if of.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            add(&entry.unwrap().path(), found);
        }
    }
}
