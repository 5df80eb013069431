//! Files whose kind changes on the host while the guest knows of them: it gets an errno, or what it had, and nothing from
//! outside the share; nothing waits.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode};

use super::*;

/// Files that are looked up so that descriptors of earlier ones are dropped.
const OTHERS: usize = 5000;

/// What takes the place of a file or directory.
type Replace = fn(path: &Path, outside: &Path);

const KINDS: [(&str, Replace); 6] = [
    ("nothing", |_, _| {}),
    ("directory", |path, _| fs::create_dir(path).unwrap()),
    ("link to a file outside", |path, outside| symlink(outside.join("secret"), path).unwrap()),
    ("link to a directory outside", |path, outside| symlink(outside, path).unwrap()),
    ("fifo", |path, _| rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap()),
    ("socket", |path, _| drop(UnixListener::bind(path).unwrap())),
];

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        for directory in ["share/directory", "outside/below"] {
            fs::create_dir_all(place.path(directory)).unwrap();
        }
        for (name, text) in
            [("share/file", "inside"), ("share/directory/secret", "inside"), ("outside/secret", "outside")]
        {
            fs::write(place.path(name), text).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts something else in the place of both.
    fn replace(&self, replace: Replace) {
        fs::remove_file(self.path("share/file")).unwrap();
        fs::remove_dir_all(self.path("share/directory")).unwrap();
        for name in ["share/file", "share/directory"] {
            replace(&self.path(name), &self.path("outside"));
        }
    }

    fn assert_outside_untouched(&self, kind: &str) {
        assert_eq!(fs::read(self.path("outside/secret")).unwrap(), b"outside", "{kind}");
        let mut names: Vec<_> =
            fs::read_dir(self.path("outside")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["below", "secret"], "{kind}");
        assert_eq!(fs::read_dir(self.path("outside/below")).unwrap().count(), 0, "{kind}");
    }
}

/// Asks everything of a file and a directory that are others by now.
fn use_old(client: &mut Client, (file, directory): (u64, u64), kind: &str) {
    for flags in [libc::O_RDONLY, libc::O_RDWR | libc::O_TRUNC, libc::O_WRONLY | libc::O_APPEND] {
        if let Ok(handle) = client.open(file, flags) {
            assert!(!client.read(file, handle).is_ok_and(|read| read == b"outside"), "{kind}");
            client.write(file, handle, b"changed");
            client.release(file, handle);
        }
    }
    let _ = client.call(GETATTR, file, &[0; 16]);
    // FATTR_MODE and FATTR_SIZE
    let mut body = Body::default();
    body.u32((1 << 0) | (1 << 3)).u32(0).u64(0).u64(0).zeros(44).u32(0o777).zeros(16);
    let _ = client.call(SETATTR, file, &body.0);
    let _ = client.call(GETXATTR, file, &request(None, &[100, 0], &[b"user.name"]));
    let _ = client.call(LINK, directory, &request(Some(file), &[], &[b"linked"]));
    for name in [&b"secret"[..], b"below"] {
        assert!(
            !client.lookup(directory, name).is_ok_and(|node| {
                let handle = client.open(node, libc::O_RDONLY);
                handle.is_ok_and(|handle| client.read(node, handle).is_ok_and(|read| read == b"outside"))
            }),
            "{kind}: {name:?} was found"
        );
        let _ = client.call(UNLINK, directory, &request(None, &[], &[name]));
        let _ = client.call(RMDIR, directory, &request(None, &[], &[name]));
    }
    let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC).cast_unsigned();
    for name in [&b"secret"[..], b"new"] {
        let _ = client.call(CREATE, directory, &request(None, &[flags, 0o644, 0, 0], &[name]));
        let _ = client.call(MKDIR, directory, &request(None, &[0o755, 0], &[name]));
        let _ = client.call(SYMLINK, directory, &request(None, &[], &[name, b"target"]));
    }
    let _ = client.call(READDIRPLUS, directory, &request(Some(0), &[0, 0, 4096, 0, 0, 0, 0, 0], &[]));
    if let Ok(handle) = client.open_dir(directory) {
        let mut body = Body::default();
        body.u64(handle).u64(0).u32(4096).zeros(20);
        let listed = client.call(READDIR, directory, &body.0).body;
        assert!(!listed.windows(5).any(|name| name == b"below"), "{kind}: what is outside was listed");
    }
}

#[test]
fn what_a_guest_knows_of_leads_nowhere_else_when_the_host_replaces_it() {
    let others_dir = tempfile::tempdir().unwrap();
    for other in 0..OTHERS {
        fs::write(others_dir.path().join(other.to_string()), "").unwrap();
    }
    for (kind, replace) in KINDS {
        for is_forgotten in [false, true] {
            let place = Place::new();
            let (share, others) = (plain(&place.path("share")), plain(others_dir.path()));
            child::in_child(|| {
                let shares = vec![super::share("rootfs", share), super::share("others", others)];
                let mut client = Client::new(shares, MEMORY, DESCRIPTORS).unwrap();
                client.init();
                let rootfs = client.lookup(ROOT, b"rootfs").unwrap();
                let known =
                    (client.lookup(rootfs, b"file").unwrap(), client.lookup(rootfs, b"directory").unwrap());
                if is_forgotten {
                    let others = client.lookup(ROOT, b"others").unwrap();
                    for other in 0..OTHERS {
                        client.lookup(others, other.to_string().as_bytes()).unwrap();
                    }
                }
                place.replace(replace);
                use_old(&mut client, known, kind);
                place.assert_outside_untouched(kind);
                // A new lookup finds what is there now.
                for name in [&b"file"[..], b"directory"] {
                    match client.lookup(rootfs, name) {
                        Ok(node) => assert_ne!((kind, node == known.0 || node == known.1), ("nothing", true)),
                        Err(errno) => assert_eq!((kind, errno), ("nothing", libc::ENOENT)),
                    }
                }
            });
        }
    }
}
