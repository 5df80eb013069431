//! Paths cleaned by their text alone, with no file looked at.

use std::path::{Component, Path, PathBuf};

/// The absolute path without `.`, `..` and doubled slashes.
pub(crate) fn clean(path: &Path) -> PathBuf {
    Path::new("/").join(within(path))
}

/// The path without `.` and `..`, none of which leads out of where it begins; relative.
pub(crate) fn within(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        for (path, cleaned) in [
            ("", ""),
            ("/", ""),
            ("a/b", "a/b"),
            ("//a/./b/", "a/b"),
            ("../../a", "a"),
            ("/a/../../b/..", ""),
        ] {
            assert_eq!(within(Path::new(path)), Path::new(cleaned), "{path:?}");
            assert_eq!(clean(Path::new(path)), Path::new("/").join(cleaned), "{path:?}");
        }
    }
}
