//! A name in a directory, checked: the only thing by which a guest can choose a file.

use std::ffi::CStr;
#[cfg(test)]
use std::{cell::Cell, ffi::CString};

use rustix::io::Errno;

/// One component of a path: 1 to 255 bytes without `/` and NUL, neither `.` nor `..`.
///
/// There is no other way to make one than [`Name::new`], and no other type that calls with a directory and a name take.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Name(Box<[u8]>);

/// The longest name (`NAME_MAX`).
const MAX: usize = 255;

#[cfg(test)]
thread_local! {
    /// Every string is a name for this thread: what else holds is tested by that.
    pub(super) static UNCHECKED: Cell<bool> = const { Cell::new(false) };
}

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, or `EINVAL` for what is no single component.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, Errno> {
        #[cfg(test)]
        if UNCHECKED.get() {
            return Ok(Self(
                CString::new(bytes).unwrap_or_default().into_bytes_with_nul().into_boxed_slice(),
            ));
        }
        if bytes.len() > MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let is_component =
            !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        if !is_component {
            return Err(Errno::INVAL);
        }
        let mut name = Vec::with_capacity(bytes.len() + 1);
        name.extend(bytes);
        name.push(0);
        Ok(Self(name.into_boxed_slice()))
    }

    /// The name as system calls take it.
    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_c_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_are_names() {
        for bad in [&b""[..], b".", b"..", b"/", b"/etc", b"a/b", b"../x", b"a/", b"a\0b", b"\0"] {
            assert_eq!(Name::new(bad), Err(Errno::INVAL), "{bad:?}");
        }
        assert_eq!(Name::new(&[b'x'; 256]), Err(Errno::NAMETOOLONG));
        for good in [&b"a"[..], b"...", b"..a", b".a", b"\xff\xfe", &[b'x'; 255]] {
            assert_eq!(Name::new(good).unwrap().as_c_str().to_bytes(), good);
        }
    }
}
