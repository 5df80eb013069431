//! Requests that no kernel sends: any opcode, node, handle, length and count gives an errno, and the server goes on.

use std::fs;

use super::*;

const FSYNC: u32 = 20;
const FSYNCDIR: u32 = 30;
const SYNCFS: u32 = 50;

/// Pseudorandom numbers (xorshift64), the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).unwrap()
    }
}

fn with_file() -> (tempfile::TempDir, Client, u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "contents").unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let (mut client, rootfs) = client(plain(dir.path()));
    let file = client.lookup(rootfs, b"file").unwrap();
    (dir, client, rootfs, file)
}

#[test]
fn what_is_not_needed_is_not_served() {
    const SERVED: &[u32] = &[
        1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 26, 27, 28, 29, 30,
        35, 36, 38, 42, 43, 44, 45, 46, 47, 50, 51, 52,
    ];
    let (_dir, mut client, _, file) = with_file();
    for opcode in (0..=4200).chain([u32::MAX, 1 << 31]).filter(|opcode| !SERVED.contains(opcode)) {
        assert_eq!(client.call(opcode, file, &[0; 64]).errno, libc::ENOSYS, "opcode {opcode}");
    }
}

#[test]
fn any_body_of_any_opcode_is_answered() {
    let (_dir, mut client, rootfs, file) = with_file();
    let mut random = Random(0x1234_5678_9abc_def1);
    let handle = client.open(file, libc::O_RDWR).unwrap();
    for round in 0..20_000 {
        let opcode = u32::try_from(random.below(56)).unwrap();
        // Each of these waits for a disk, so that few do.
        if [FSYNC, FSYNCDIR, SYNCFS].contains(&opcode) && round > 500 {
            continue;
        }
        let node = [0, 1, rootfs, file, 99, u64::MAX][random.below(6)];
        let length = random.below(120);
        let mut body: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
        if round % 2 == 0 && body.len() >= 8 {
            body[..8].copy_from_slice(&handle.to_ne_bytes());
        }
        if round % 3 == 0 && body.len() >= 20 {
            body[8..20].fill(0);
        }
        client.call(opcode, node, &body);
    }
    assert_eq!(client.init().errno, 0);
    assert!(client.lookup(ROOT, b"rootfs").is_ok());
}

#[test]
fn bytes_that_were_read_are_counted_wherever_they_come_from() {
    let (dir, mut client, _, file) = with_file();
    let on_host = File::open(dir.path().join("file")).unwrap();
    on_host.sync_all().unwrap();
    // Not in the host's memory any more, if its filesystem is on a disk.
    rustix::fs::fadvise(&on_host, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let handle = client.open(file, libc::O_RDONLY).unwrap();
    for count in 1..=2 {
        assert_eq!(client.read(file, handle).unwrap(), b"contents");
        assert_eq!(client.counts().read_bytes, 8 * count);
    }
}

/// Sends a request whose header says this length; gives the reply's length, and its errno where there is one.
fn send(client: &mut Client, node: u64, length: usize, body: &[u8], room: usize) -> (usize, Option<i32>) {
    let mut bytes = Body::default();
    bytes.u32(u32::try_from(length).unwrap()).u32(LOOKUP).u64(7).u64(node).zeros(16).bytes(body);
    let mut reply = vec![0; room];
    let written = client.exchange(&mut [&mut bytes.0], &mut [&mut reply]);
    reply.truncate(written);
    (written, reply.get(4..8).map(|word| -i32::from_ne_bytes(word.try_into().unwrap())))
}

#[test]
fn lengths_that_lie_are_invalid() {
    let (_dir, mut client, rootfs, file) = with_file();
    for length in [0, 1, 39, 46, 4096, 1 << 20, u32::MAX as usize] {
        assert_eq!(send(&mut client, rootfs, length, b"file\0", 256), (16, Some(libc::EINVAL)), "{length}");
    }
    // A name without its end, and one with more behind it.
    assert_eq!(send(&mut client, rootfs, 44, b"file\0", 256), (16, Some(libc::EINVAL)));
    assert_eq!(send(&mut client, rootfs, 46, b"file\0\0", 256), (16, Some(libc::EINVAL)));
    // Too little room for the reply: an error where that fits, and nothing where not even that does.
    for (room, expected) in [(0, 0), (15, 0), (16, 16), (143, 16), (144, 144)] {
        assert_eq!(send(&mut client, rootfs, 45, b"file\0", room).0, expected, "room for {room}");
    }
    let long = [vec![b'x'; 1 << 20], vec![0]].concat();
    assert_eq!(send(&mut client, rootfs, 40 + long.len(), &long, 256), (16, Some(libc::E2BIG)));
    // A write that says to be longer than it is, or than any may be.
    let handle = client.open(file, libc::O_RDWR).unwrap();
    for size in [8, (1 << 20) + 1, u32::MAX] {
        let mut body = Body::default();
        body.u64(handle).u64(0).u32(size).zeros(20).bytes(b"data");
        assert_eq!(client.call(WRITE, file, &body.0).errno, libc::EINVAL, "a write of {size}");
    }
    let longest = 1 << 20;
    assert_eq!(client.write(file, handle, &vec![b'x'; longest + 1]), libc::EINVAL);
    assert_eq!(client.read(file, handle).unwrap(), b"contents");
    assert_eq!(client.write(file, handle, &vec![b'x'; longest]), 0);
}

#[test]
fn requests_and_replies_are_cut_at_any_place() {
    let (_dir, mut client, rootfs, _) = with_file();
    let mut whole = Body::default();
    whole.u32(45).u32(LOOKUP).u64(7).u64(rootfs).zeros(16).bytes(b"file\0");
    for cut in 0..=45 {
        let mut bytes = whole.0.clone();
        let (head, tail) = bytes.split_at_mut(cut);
        let mut reply = [0; 144];
        let (one, rest) = reply.split_at_mut(cut * 3);
        let (two, three) = rest.split_at_mut(1);
        let written = client.exchange(&mut [head, &mut [], tail], &mut [one, two, &mut [], three]);
        assert_eq!(written, 144, "cut at {cut}");
        assert_eq!(reply[..4], 144_u32.to_ne_bytes());
        assert_eq!(reply[4..8], [0; 4]);
    }
}

#[test]
fn a_handle_serves_for_its_own_node() {
    let (_dir, mut client, rootfs, file) = with_file();
    let dir = client.lookup(rootfs, b"dir").unwrap();
    let (of_file, of_dir) = (client.open(file, libc::O_RDONLY).unwrap(), client.open_dir(dir).unwrap());
    assert_eq!(client.read(rootfs, of_file), Err(libc::EBADF));
    assert_eq!(client.read(dir, of_dir), Err(libc::EBADF));
    for handle in [0, of_file + 99, u64::MAX] {
        assert_eq!(client.read(file, handle), Err(libc::EBADF));
        assert_eq!(client.release(file, handle), libc::EBADF);
    }
    for opcode in [READDIR, READDIRPLUS] {
        for (node, handle, offset, errno) in [
            (file, of_file, 0, libc::ENOTDIR),
            (dir, of_file, 0, libc::EBADF),
            (rootfs, of_dir, 0, libc::EBADF),
            (dir, of_dir, u64::MAX, libc::EINVAL),
            (dir, of_dir, 1 << 63, libc::EINVAL),
            (dir, of_dir, 0, 0),
        ] {
            let mut body = Body::default();
            body.u64(handle).u64(offset).u32(4096).zeros(20);
            assert_eq!(client.call(opcode, node, &body.0).errno, errno, "{node} {handle} {offset:#x}");
        }
    }
    for node in [0, 999, u64::MAX] {
        assert_eq!(client.lookup(node, b"file"), Err(libc::ESTALE));
        assert_eq!(client.open(node, 0), Err(libc::ESTALE));
        assert_eq!(client.call(GETATTR, node, &[0; 16]).errno, libc::ESTALE);
    }
}

#[test]
fn what_a_guest_says_to_have_forgotten_is_not_believed_beyond_what_it_knew() {
    let (_dir, mut client, rootfs, file) = with_file();
    let handle = client.open(file, libc::O_RDONLY).unwrap();
    for (node, count) in [(ROOT, u64::MAX), (rootfs, u64::MAX), (0, 1), (999, 1), (file, u64::MAX), (file, 1)]
    {
        assert_eq!(client.call(FORGET, node, &count.to_ne_bytes()), Reply::default(), "FORGET has no reply");
    }
    // An open file stays; so does a share.
    assert_eq!(client.read(file, handle).unwrap(), b"contents");
    assert_eq!(client.lookup(rootfs, b"file"), Ok(file));
    let mut batch = Body::default();
    batch.u32(u32::MAX).u32(0);
    for node in [ROOT, rootfs, file, file, 999] {
        batch.u64(node).u64(u64::MAX);
    }
    assert_eq!(client.call(BATCH_FORGET, 0, &batch.0), Reply::default());
    assert_eq!(client.read(file, handle).unwrap(), b"contents");
    assert_eq!(client.release(file, handle), 0);
    assert_eq!(client.open(file, 0), Err(libc::ESTALE), "what nothing keeps is gone");
    assert!(client.lookup(rootfs, b"file").is_ok_and(|node| node != file));
}

#[test]
fn an_owner_that_cannot_be_is_invalid() {
    let (_dir, mut client, _, file) = with_file();
    for valid in [1 << 1, 1 << 2, 1 << 1 | 1 << 2] {
        let mut body = Body::default();
        body.u32(valid).u32(0).zeros(68).u32(u32::MAX).u32(u32::MAX).u32(0);
        assert_eq!(client.call(SETATTR, file, &body.0).errno, libc::EINVAL, "{valid}");
    }
}
