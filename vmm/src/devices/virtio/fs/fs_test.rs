//! The device with a driver that speaks raw FUSE: what a guest's kernel could send, right or wrong.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::config::ShareCache;
use crate::devices::virtio::testing::{self, GuestQueue};
use crate::devices::virtio::{ActiveQueue, Interrupt};

const LOOKUP: u32 = 1;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const INIT: u32 = 26;
const MKNOD: u32 = 8;
const ROOT: u64 = 1;

struct Guest {
    device: Fs,
    thread: Option<DeviceThread>,
    handle: FsHandle,
    memory: GuestMemoryMmap,
    queue: GuestQueue,
    kick: EventFd,
    line: EventFd,
    unique: u64,
}

struct Reply {
    error: i32,
    body: Vec<u8>,
}

impl Reply {
    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.body[at..at + 8].try_into().unwrap())
    }
}

fn share(name: &str, path: &Path) -> ShareFile {
    let root = File::options().read(true).custom_flags(libc::O_PATH).open(path).unwrap();
    ShareFile { name: name.to_owned(), root: OwnedFd::from(root), only: None, cache: ShareCache::Shared }
}

impl Guest {
    fn new(shares: Vec<ShareFile>) -> Self {
        let (mut device, thread, handle) = fs(shares, MemorySize::DEFAULT).unwrap();
        let thread = Some(thread.start().unwrap());
        let memory = testing::memory(2);
        let queue = GuestQueue::new(&memory, 1);
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        device.activate(Activation {
            memory: memory.clone(),
            queues: vec![None, Some(ActiveQueue { queue: queue.queue(), kick: kick.try_clone().unwrap() })],
            features: 0,
            interrupt: Interrupt::new(line.try_clone().unwrap()),
        });
        let mut guest = Self { device, thread, handle, memory, queue, kick, line, unique: 0 };
        let init = [7_u32, 41, 0x2_0000, !0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let bytes: Vec<u8> = init.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(guest.request(INIT, 0, &bytes).error, 0);
        guest
    }

    fn request(&mut self, opcode: u32, node: u64, body: &[u8]) -> Reply {
        self.unique += 1;
        let length = u32::try_from(40 + body.len()).unwrap();
        let mut header = Vec::new();
        header.extend(length.to_le_bytes());
        header.extend(opcode.to_le_bytes());
        header.extend(self.unique.to_le_bytes());
        header.extend(node.to_le_bytes());
        header.extend([0; 16]); // uid, gid, pid, no extensions
        self.queue.recycle();
        let room = self.queue.send(&[&header, body], &[16, 0x2_0000]);
        self.kick.write(1).unwrap();
        let (_, written) = self.queue.wait();
        let mut reply = vec![0; 16];
        self.memory.read_slice(&mut reply, room[0]).unwrap();
        assert_eq!(reply[..4], written.to_le_bytes(), "the reply says its own length");
        assert_eq!(reply[8..16], self.unique.to_le_bytes());
        let mut data = vec![0; usize::try_from(written).unwrap() - 16];
        self.memory.read_slice(&mut data, room[1]).unwrap();
        Reply { error: i32::from_le_bytes(reply[4..8].try_into().unwrap()), body: data }
    }

    fn lookup(&mut self, node: u64, name: &[u8]) -> Result<u64, i32> {
        let reply = self.request(LOOKUP, node, &[name, b"\0"].concat());
        if reply.error == 0 { Ok(reply.word(0)) } else { Err(reply.error) }
    }

    fn open(&mut self, node: u64, flags: i32) -> Result<u64, i32> {
        let body = [flags.to_le_bytes(), [0; 4]].concat();
        let reply = self.request(OPEN, node, &body);
        if reply.error == 0 { Ok(reply.word(0)) } else { Err(reply.error) }
    }

    fn read(&mut self, node: u64, handle: u64) -> Vec<u8> {
        let mut body = handle.to_le_bytes().to_vec();
        body.extend(0_u64.to_le_bytes());
        body.extend(4096_u32.to_le_bytes());
        body.extend([0; 20]);
        let reply = self.request(READ, node, &body);
        assert_eq!(reply.error, 0);
        reply.body
    }

    fn write(&mut self, node: u64, handle: u64, data: &[u8]) -> i32 {
        let mut body = handle.to_le_bytes().to_vec();
        body.extend(0_u64.to_le_bytes());
        body.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        body.extend([0; 20]);
        body.extend(data);
        self.request(WRITE, node, &body).error
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let (device, ..) = fs(Vec::new(), MemorySize::DEFAULT).unwrap();
        self.device = device;
        self.thread.take().unwrap().join();
    }
}

#[test]
fn each_share_is_an_entry_of_the_root() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("one")).unwrap();
    fs::write(dir.path().join("one/file"), "in one").unwrap();
    fs::write(dir.path().join("single"), "alone").unwrap();
    fs::write(dir.path().join("sibling"), "hidden").unwrap();
    let single = ShareFile { only: Some(c"single".to_owned()), ..share("mount0", dir.path()) };
    let shares = vec![share("rootfs", &dir.path().join("one")), single];
    let mut guest = Guest::new(shares);

    let rootfs = guest.lookup(ROOT, b"rootfs").unwrap();
    let file = guest.lookup(rootfs, b"file").unwrap();
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(file, handle), b"in one");

    let single = guest.lookup(ROOT, b"mount0").unwrap();
    let handle = guest.open(single, libc::O_RDWR).unwrap();
    assert_eq!(guest.read(single, handle), b"alone");
    assert_eq!(guest.write(single, handle, b"ALONE"), 0);
    assert_eq!(fs::read(dir.path().join("single")).unwrap(), b"ALONE");

    assert_eq!(guest.lookup(ROOT, b"mount1"), Err(-libc::ENOENT));
    assert_eq!(guest.lookup(ROOT, b"sibling"), Err(-libc::ENOENT));
    assert!(guest.lookup(single, b"..").is_err());
    assert!(guest.lookup(single, b"sibling").is_err());
}

#[test]
fn names_that_lead_out_of_a_share_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("share")).unwrap();
    fs::write(dir.path().join("canary"), "outside").unwrap();
    std::os::unix::fs::symlink("../canary", dir.path().join("share/link")).unwrap();
    let mut guest = Guest::new(vec![share("rootfs", &dir.path().join("share"))]);
    let rootfs = guest.lookup(ROOT, b"rootfs").unwrap();
    let absolute = dir.path().join("canary");
    for name in
        [&b".."[..], b"../canary", b"/etc/passwd", absolute.as_os_str().as_encoded_bytes(), b"a/../.."]
    {
        let node = guest.lookup(rootfs, name);
        let parent = fs::metadata(dir.path()).unwrap().ino();
        assert!(node.is_err() || node == Ok(rootfs), "{name:?} gave {node:?}, its parent is {parent}");
    }
    let link = guest.lookup(rootfs, b"link").unwrap();
    assert!(guest.open(link, libc::O_RDONLY).is_err(), "a symbolic link was followed on the host");
}

#[test]
fn requests_that_are_none_do_not_end_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut guest = Guest::new(vec![share("rootfs", dir.path())]);
    for (readable, room) in
        [(&b""[..], 16), (b"short", 16), (&[0xff; 40], 16), (&[0xff; 4096], 0), (&[0; 40], 4)]
    {
        guest.queue.recycle();
        guest.queue.send(&[readable], &[room]);
        guest.kick.write(1).unwrap();
        guest.queue.wait();
    }
    /// FORGET, INTERRUPT, DESTROY, NOTIFY_REPLY and BATCH_FORGET.
    const WITHOUT_REPLY: [u32; 5] = [2, 36, 38, 41, 42];
    for opcode in (0..60).filter(|opcode| !WITHOUT_REPLY.contains(opcode)) {
        guest.request(opcode, u64::MAX, &[0xff; 200]);
    }
    assert!(guest.lookup(ROOT, b"rootfs").is_ok());
}

#[test]
fn a_broken_ring_asks_for_a_reset_and_reset_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut guest = Guest::new(vec![share("rootfs", dir.path())]);
    while guest.line.read().is_ok() {}
    guest.queue.set_available(u16::MAX);
    guest.kick.write(1).unwrap();
    let give_up = Instant::now() + Duration::from_secs(20);
    while guest.line.read().is_err() {
        assert!(Instant::now() < give_up, "the driver is not told");
        std::thread::yield_now();
    }
    guest.device.reset();
    guest.queue = GuestQueue::new(&guest.memory, 0);
    guest.device.activate(Activation {
        memory: guest.memory.clone(),
        queues: vec![
            None,
            Some(ActiveQueue { queue: guest.queue.queue(), kick: guest.kick.try_clone().unwrap() }),
        ],
        features: 0,
        interrupt: Interrupt::new(guest.line.try_clone().unwrap()),
    });
    assert!(guest.lookup(ROOT, b"rootfs").is_ok());
}

#[test]
fn device_nodes_of_a_guest_mean_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut guest = Guest::new(vec![share("rootfs", dir.path())]);
    let rootfs = guest.lookup(ROOT, b"rootfs").unwrap();
    let mut body = (libc::S_IFCHR | 0o666).to_le_bytes().to_vec();
    body.extend(0x103_u32.to_le_bytes()); // 1:3, /dev/null
    body.extend([0; 8]);
    body.extend(b"null\0");
    guest.request(MKNOD, rootfs, &body);
    if let Ok(node) = guest.lookup(rootfs, b"null") {
        assert!(guest.open(node, libc::O_RDWR).is_err(), "a device of the host was opened");
    }
}

#[test]
fn shares_come_and_go_while_the_guest_runs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    let mut guest = Guest::new(vec![share("rootfs", dir.path())]);
    assert_eq!(guest.lookup(ROOT, b"volume"), Err(-libc::ENOENT));
    guest.handle.add(share("volume", dir.path())).unwrap();
    assert!(guest.handle.add(share("volume", dir.path())).is_err());
    let volume = guest.lookup(ROOT, b"volume").unwrap();
    let file = guest.lookup(volume, b"file").unwrap();
    let handle = guest.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(file, handle), b"content");
    let counts = guest.handle.counts();
    assert!(counts.requests.contains(&("LOOKUP", 3)), "{counts:?}");
    assert_eq!((counts.errors, counts.read_bytes, counts.open_files), (1, 7, 1));
    guest.handle.remove("volume").unwrap();
    assert!(guest.handle.remove("volume").is_err());
    assert_eq!(guest.lookup(ROOT, b"volume"), Err(-libc::ENOENT));
    assert_eq!(guest.lookup(volume, b"file"), Err(-libc::ESTALE));
    assert_eq!(guest.open(file, libc::O_RDONLY), Err(-libc::ESTALE));
    let counts = guest.handle.counts();
    assert_eq!((counts.nodes, counts.open_files), (1, 0), "{counts:?}");
    assert!(guest.lookup(ROOT, b"rootfs").is_ok());
}
