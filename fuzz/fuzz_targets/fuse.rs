//! The file server of the shared filesystem: up to 64 requests, one after another, of a guest that makes use of what it
//! was told, or of anything else.
//!
//! Beside no panic it holds that each descriptor of the process leads into the share, that what lies beside the share
//! stays as it is, and that there are few descriptors. That a reply says its own length and names its request is what
//! the client checks.
#![no_main]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use arbitrary::Arbitrary;
use drupe_vmm::fuzzing::{Client, Reply};
use drupe_vmm::{ShareCache, ShareFile};
use libfuzzer_sys::fuzz_target;

const REQUESTS: usize = 64;
const GUEST_MEMORY: u64 = 1 << 20;
/// Makes the server keep 64 handles, 64 files without names, and 64 cached descriptors.
const DESCRIPTORS: u64 = 256;
/// What the server may have open in all: the three bounds, 256 files that were not asked for, and its own.
const MOST: usize = 3 * 64 + 256 + 16;

/// A node: one that the guest was told of, by its place, or any.
#[derive(Arbitrary, Debug)]
enum Node {
    Told(u8),
    Root,
    Share,
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Handle {
    Told(u8),
    None,
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Name {
    Short(u8),
    Known(u8),
    Hostile(u8),
    Long(u16),
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Request {
    Lookup(Node, Name),
    Forget(Node, u64),
    BatchForget(u32, Vec<(Node, u64)>),
    Getattr(Node, u32, Handle),
    Setattr(Node, u32, Handle, u64, [u64; 3], [u32; 3], u32, u32, u32),
    Readlink(Node),
    Symlink(Node, Name, Name),
    Mknod(Node, Name, u32, u32, u32),
    Mkdir(Node, Name, u32, u32),
    Unlink(Node, Name),
    Rmdir(Node, Name),
    Rename(Node, Name, Node, Name),
    Rename2(Node, Name, Node, Name, u32),
    Link(Node, Node, Name),
    Open(Node, u32, u32),
    Read(Node, Handle, u16, u32),
    Write(Node, Handle, u16, u32, u32, Vec<u8>),
    WriteThatLies(Node, Handle, u64, u32, Vec<u8>),
    Statfs(Node),
    Release(Node, Handle),
    Fsync(Node, Handle, u32),
    Setxattr(Node, Name, u32, Vec<u8>),
    Getxattr(Node, Name, u32),
    Listxattr(Node, u32),
    Removexattr(Node, Name),
    Init(u32, u32, u32, u32),
    Opendir(Node),
    Readdir(Node, Handle, u64, u32, bool),
    Releasedir(Node, Handle),
    Create(Node, Name, u32, u32, u32, u32),
    Destroy,
    Fallocate(Node, Handle, u16, u16, u32),
    Lseek(Node, Handle, u64, u32),
    Copy(Node, Handle, u16, Node, Handle, u16, u16, u64),
    Syncfs(Node),
    Tmpfile(Node, u32, u32, u32),
    Statx(Node, u32, Handle),
    Other(u32, Node, Vec<u8>),
    Bytes(Vec<u8>, u16),
}

#[derive(Arbitrary, Debug)]
struct Stream {
    as_other: bool,
    requests: Vec<Request>,
}

/// A guest, and what it was told.
struct Guest {
    client: Client,
    canary: PathBuf,
    nodes: Vec<u64>,
    handles: Vec<u64>,
}

#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn string(self, bytes: &[u8]) -> Self {
        self.bytes(bytes).bytes(b"\0")
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

impl Guest {
    fn node(&self, node: &Node) -> u64 {
        match node {
            Node::Told(place) => told(&self.nodes, *place),
            Node::Root => 1,
            Node::Share => self.nodes[0],
            Node::Any(node) => *node,
        }
    }

    fn handle(&self, handle: &Handle) -> u64 {
        match handle {
            Handle::Told(place) => told(&self.handles, *place),
            Handle::None => 0,
            Handle::Any(handle) => *handle,
        }
    }

    fn name(&self, name: &Name) -> Vec<u8> {
        let canary = self.canary.as_os_str().as_encoded_bytes();
        match name {
            Name::Short(letter) => vec![b'a' + letter % 4],
            Name::Known(which) => {
                let known = [
                    &b"rootfs"[..],
                    b"file",
                    b"dir",
                    b"user.a",
                    b"trusted.overlay.opaque",
                    b"security.capability",
                    b"system.posix_acl_access",
                    b"system.posix_acl_default",
                ];
                known[usize::from(*which) % known.len()].to_vec()
            }
            Name::Hostile(which) => {
                let hostile =
                    [&b".."[..], b".", b"", b"/", b"../canary", b"../canary/file", b"a/b", b"a/", canary];
                hostile[usize::from(*which) % hostile.len()].to_vec()
            }
            Name::Long(length) => vec![b'x'; usize::from(*length) % 5000],
            Name::Any(bytes) => bytes.clone(),
        }
    }

    fn send(&mut self, request: &Request) {
        let (opcode, node, body) = match self.body(request) {
            Ok(request) => request,
            Err((mut bytes, room)) => {
                self.client.exchange(&mut [&mut bytes], &mut [&mut vec![0; usize::from(room)]]);
                return;
            }
        };
        let reply = self.client.call(opcode, node, &body.0);
        self.learn(opcode, &reply);
    }

    /// Keeps nodes and handles for later requests.
    fn learn(&mut self, opcode: u32, reply: &Reply) {
        if reply.errno != 0 {
            return;
        }
        match opcode {
            1 | 6 | 8 | 9 | 13 => self.nodes.push(reply.word(0)),
            14 | 27 => self.handles.push(reply.word(0)),
            35 | 51 => {
                self.nodes.push(reply.word(0));
                self.handles.push(reply.word(128));
            }
            44 if reply.body.len() > 128 => self.nodes.push(reply.word(0)),
            _ => {}
        }
    }

    /// Opcode, node and body; what is no request at all is an error, with the room for its reply.
    #[allow(clippy::type_complexity)]
    fn body(&self, request: &Request) -> Result<(u32, u64, Body), (Vec<u8>, u16)> {
        use Request as R;
        let new = Body::default;
        let (opcode, node, body) = match request {
            R::Lookup(node, name) => (1, node, new().string(&self.name(name))),
            R::Forget(node, count) => (2, node, new().u64(*count)),
            R::BatchForget(count, list) => {
                let body = new().u32(*count).u32(0);
                let body =
                    list.iter().fold(body, |body, (node, count)| body.u64(self.node(node)).u64(*count));
                (42, &Node::Root, body)
            }
            R::Getattr(node, flags, handle) => (3, node, new().u32(*flags).u32(0).u64(self.handle(handle))),
            R::Setattr(node, valid, handle, size, times, nanoseconds, mode, uid, gid) => {
                // Sizes are kept small, so that the machine's disk is not what is tested.
                let size = if size % 4 == 0 { *size } else { size % 100_000 };
                let body = new().u32(*valid).u32(0).u64(self.handle(handle)).u64(size).u64(0);
                let body = times.iter().fold(body, |body, time| body.u64(*time));
                let body = nanoseconds.iter().fold(body, |body, time| body.u32(*time));
                (4, node, body.u32(*mode).u32(0).u32(*uid).u32(*gid).u32(0))
            }
            R::Readlink(node) => (5, node, new()),
            R::Symlink(node, name, target) => {
                (6, node, new().string(&self.name(name)).string(&self.name(target)))
            }
            R::Mknod(node, name, mode, device, umask) => {
                (8, node, new().u32(*mode).u32(*device).u32(*umask).u32(0).string(&self.name(name)))
            }
            R::Mkdir(node, name, mode, umask) => {
                (9, node, new().u32(*mode).u32(*umask).string(&self.name(name)))
            }
            R::Unlink(node, name) => (10, node, new().string(&self.name(name))),
            R::Rmdir(node, name) => (11, node, new().string(&self.name(name))),
            R::Rename(node, name, to, new_name) => {
                let body = new().u64(self.node(to)).string(&self.name(name));
                (12, node, body.string(&self.name(new_name)))
            }
            R::Rename2(node, name, to, new_name, flags) => {
                let body = new().u64(self.node(to)).u32(*flags).u32(0).string(&self.name(name));
                (45, node, body.string(&self.name(new_name)))
            }
            R::Link(node, old, name) => (13, node, new().u64(self.node(old)).string(&self.name(name))),
            R::Open(node, flags, more) => (14, node, new().u32(*flags).u32(*more)),
            R::Create(node, name, flags, mode, umask, more) => {
                let body = new().u32(*flags).u32(*mode).u32(*umask).u32(*more);
                (35, node, body.string(&self.name(name)))
            }
            R::Tmpfile(node, flags, mode, umask) => {
                (51, node, new().u32(*flags).u32(*mode).u32(*umask).u32(0).string(b""))
            }
            R::Other(opcode, node, bytes) => (*opcode, node, new().bytes(bytes)),
            R::Bytes(bytes, room) => return Err((bytes.clone(), *room)),
            request => return Ok(self.data_body(request)),
        };
        Ok((opcode, self.node(node), body))
    }

    /// Requests about what is in a file or a directory, or known about it.
    fn data_body(&self, request: &Request) -> (u32, u64, Body) {
        use Request as R;
        let new = Body::default;
        let pad = [0; 20];
        let (opcode, node, body) = match request {
            R::Read(node, handle, offset, size) => {
                (15, node, new().u64(self.handle(handle)).u64((*offset).into()).u32(*size).bytes(&pad))
            }
            R::Write(node, handle, offset, how, flags, data) => {
                let body = new().u64(self.handle(handle)).u64((*offset).into()).u32(length(data)).u32(*how);
                (16, node, body.u64(0).u32(*flags).u32(0).bytes(data))
            }
            R::WriteThatLies(node, handle, offset, size, data) => {
                let body = new().u64(self.handle(handle)).u64(*offset).u32(*size).bytes(&pad);
                (16, node, body.bytes(data))
            }
            R::Statfs(node) => (17, node, new()),
            R::Release(node, handle) => (18, node, new().u64(self.handle(handle)).u64(0).u64(0)),
            R::Fsync(node, handle, flags) => (20, node, new().u64(self.handle(handle)).u32(*flags).u32(0)),
            R::Setxattr(node, name, flags, value) => {
                let body = new().u32(length(value)).u32(*flags).u64(0).string(&self.name(name));
                (21, node, body.bytes(value))
            }
            R::Getxattr(node, name, size) => (22, node, new().u32(*size).u32(0).string(&self.name(name))),
            R::Listxattr(node, size) => (23, node, new().u32(*size).u32(0)),
            R::Removexattr(node, name) => (24, node, new().string(&self.name(name))),
            R::Init(major, minor, low, high) => {
                let body = new().u32(7 + major % 2).u32(minor % 64).u32(0).u32(*low).u32(*high);
                (26, &Node::Any(0), body.bytes(&[0; 44]))
            }
            R::Opendir(node) => (27, node, new().u64(0)),
            R::Readdir(node, handle, offset, size, plus) => {
                let body = new().u64(self.handle(handle)).u64(*offset).u32(*size).bytes(&pad);
                (if *plus { 44 } else { 28 }, node, body)
            }
            R::Releasedir(node, handle) => (29, node, new().u64(self.handle(handle)).u64(0).u64(0)),
            R::Fallocate(node, handle, offset, count, mode) => {
                let body = new().u64(self.handle(handle)).u64((*offset).into()).u64((*count).into());
                (43, node, body.u32(*mode).u32(0))
            }
            R::Lseek(node, handle, offset, whence) => {
                (46, node, new().u64(self.handle(handle)).u64(*offset).u32(*whence).u32(0))
            }
            R::Copy(node, handle, offset, to, to_handle, to_offset, count, flags) => {
                let body = new().u64(self.handle(handle)).u64((*offset).into()).u64(self.node(to));
                let body = body.u64(self.handle(to_handle)).u64((*to_offset).into());
                (47, node, body.u64((*count).into()).u64(*flags))
            }
            // Not SYNCFS of a share: it waits for everything else on the machine's disk.
            R::Syncfs(node) => {
                (50, if matches!(node, Node::Any(_)) { node } else { &Node::Any(0) }, new().u64(0))
            }
            R::Statx(node, flags, handle) => {
                (52, node, new().u32(*flags).u32(0).u64(self.handle(handle)).u64(0))
            }
            _ => (38, &Node::Root, new()),
        };
        (opcode, self.node(node), body)
    }
}

fn told(list: &[u64], place: u8) -> u64 {
    if list.is_empty() { 0 } else { list[usize::from(place) % list.len()] }
}

/// The directory that each run has anew, and the descriptors that are not the server's.
struct World {
    dir: tempfile::TempDir,
    before: BTreeSet<u64>,
}

type Files = BTreeMap<PathBuf, (u64, u32, u64, i64, i64, Vec<u8>)>;

impl World {
    fn new() -> Self {
        let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let dir = tempfile::tempdir_in(base).unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir_all(canary.join("dir")).unwrap();
        fs::write(canary.join("file"), "outside").unwrap();
        Self { dir, before: BTreeSet::new() }
    }

    fn share(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("canary")
    }
}

fn files(path: &Path) -> Files {
    let mut found = Files::new();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let of = fs::symlink_metadata(&path).unwrap();
        let data = if of.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        if of.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let times = (of.mtime_nsec(), of.ctime() * 1_000_000_000 + of.ctime_nsec());
        found.insert(path, (of.ino(), of.mode(), of.nlink(), times.0, times.1, data));
    }
    found
}

fn open_descriptors() -> BTreeMap<u64, PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let number = |entry: &fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    let known = entries.filter_map(|entry| Some((number(&entry)?, fs::read_link(entry.path()).ok()?)));
    known.collect()
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

fn run(stream: &Stream, world: &mut World) {
    let share = world.share();
    let _ = fs::remove_dir_all(&share);
    fs::create_dir_all(share.join("dir")).unwrap();
    fs::write(share.join("file"), "inside").unwrap();
    std::os::unix::fs::symlink("../canary", share.join("a")).unwrap();
    world.before = open_descriptors().into_keys().collect();
    let canary = files(&world.canary());
    let root = File::options().read(true).custom_flags(0o10_000_000).open(&share).unwrap();
    let share_file =
        ShareFile { name: "rootfs".to_owned(), root: root.into(), only: None, cache: ShareCache::Shared };
    let mut client = Client::new(vec![share_file], GUEST_MEMORY, DESCRIPTORS).unwrap();
    assert_eq!(client.init().errno, 0);
    if stream.as_other {
        (client.uid, client.gid) = (1000, 1000);
    }
    let rootfs = client.call(1, 1, b"rootfs\0").word(0);
    let mut guest = Guest { client, canary: world.canary(), nodes: vec![rootfs], handles: Vec::new() };
    for request in stream.requests.iter().take(REQUESTS) {
        guest.send(request);
    }
    check_descriptors(world, &share);
    assert_eq!(files(&world.canary()), canary, "what is beside the share has changed");
    drop(guest);
    assert!(open_descriptors().keys().filter(|number| !world.before.contains(number)).count() <= 1);
}

/// What the server has open lies in the share, or did before it was unlinked.
fn check_descriptors(world: &World, share: &Path) {
    let opened: Vec<_> =
        open_descriptors().into_iter().filter(|(number, _)| !world.before.contains(number)).collect();
    assert!(opened.len() <= MOST, "{} descriptors", opened.len());
    for (number, path) in opened {
        // The descriptor that this list was read through.
        if path.starts_with("/proc") {
            continue;
        }
        let is_inside = path.starts_with(share) || path.to_string_lossy().starts_with("/dev/shm/#");
        assert!(is_inside, "descriptor {number} is {}", path.display());
    }
}

fuzz_target!(|stream: Stream| {
    // A thread that serves has another working directory and acts as others: it must not be the fuzzer's own.
    WORLD.with_borrow_mut(|world| {
        std::thread::scope(|scope| {
            let _ = scope.spawn(|| run(&stream, world)).join();
        });
    });
});
