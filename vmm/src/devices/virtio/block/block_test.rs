//! The device with a driver that speaks raw virtio-blk: what a guest's kernel could send, right or wrong.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::devices::virtio::testing::{self, GuestQueue};
use crate::devices::virtio::{ActiveQueue, Interrupt};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
/// What a status byte is before the device has written it.
const NONE: u8 = 0xee;

const SECTORS: u64 = 64;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

struct Guest {
    device: Option<Block>,
    thread: Option<DeviceThread>,
    memory: GuestMemoryMmap,
    queue: GuestQueue,
    kick: EventFd,
    line: EventFd,
    /// The host's view of the disk.
    file: File,
}

impl Guest {
    /// A disk whose sectors are filled with their numbers.
    fn new(scratch: bool) -> Self {
        let file = tempfile::tempfile().unwrap();
        for sector in 0..SECTORS {
            file.write_all_at(&[u8::try_from(sector).unwrap(); 512], sector * SECTOR).unwrap();
        }
        let disk = DiskFile { file: file.try_clone().unwrap(), name: "layer".into(), scratch };
        let (device, thread) = block(disk).unwrap();
        let memory = testing::memory(1);
        let mut guest = Self {
            device: Some(device),
            thread: Some(thread.start().unwrap()),
            queue: GuestQueue::new(&memory, 0),
            memory,
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            line: EventFd::new(EFD_NONBLOCK).unwrap(),
            file,
        };
        guest.activate();
        guest
    }

    fn activate(&mut self) {
        // Rings as a driver makes them: empty.
        self.memory.write_slice(&[0; 0x1_0000], GuestAddress(0)).unwrap();
        self.queue = GuestQueue::new(&self.memory, 0);
        let queue = ActiveQueue { queue: self.queue.queue(), kick: self.kick.try_clone().unwrap() };
        self.device.as_mut().unwrap().activate(Activation {
            memory: self.memory.clone(),
            queues: vec![Some(queue)],
            features: 0,
            interrupt: Interrupt::new(self.line.try_clone().unwrap()),
        });
    }

    fn used(&mut self) -> (u32, u32) {
        self.kick.write(1).unwrap();
        self.queue.wait()
    }

    /// One request with its buffers as they are given: its status, and what is then in the writable ones.
    fn send(&mut self, readable: &[&[u8]], writable: &[u32]) -> (u8, Vec<u8>) {
        self.queue.recycle();
        let rooms = self.queue.send(readable, writable);
        for (room, length) in rooms.iter().zip(writable) {
            self.memory.write_slice(&vec![NONE; *length as usize], *room).unwrap();
        }
        let (_, written) = self.used();
        let mut data = Vec::new();
        for (room, length) in rooms.iter().zip(writable) {
            let mut bytes = vec![0; *length as usize];
            self.memory.read_slice(&mut bytes, *room).unwrap();
            data.extend(bytes);
        }
        let status = data.pop().unwrap_or(NONE);
        let expected = match status {
            OK => data.len() + 1,
            NONE => 0,
            _ => 1,
        };
        assert_eq!(written as usize, expected, "the length that was written, with status {status}");
        (status, data)
    }

    fn request(&mut self, kind: u32, sector: u64, data: &[u8], room: u32) -> (u8, Vec<u8>) {
        let header = header(kind, sector);
        let readable: &[&[u8]] = if data.is_empty() { &[&header] } else { &[&header, data] };
        if room == 0 { self.send(readable, &[1]) } else { self.send(readable, &[room, 1]) }
    }

    fn sector(&self, sector: u64) -> [u8; 512] {
        let mut bytes = [0; 512];
        self.file.read_exact_at(&mut bytes, sector * SECTOR).unwrap();
        bytes
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.device = None;
        self.thread.take().unwrap().join();
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn the_configuration_tells_the_size_and_what_is_offered() {
    let guest = Guest::new(true);
    let device = guest.device.as_ref().unwrap();
    assert_eq!(device.config()[..8], SECTORS.to_le_bytes());
    assert_eq!(device.features() & (1 << VIRTIO_BLK_F_FLUSH), 0);
    let lasting = Guest::new(false);
    assert_ne!(lasting.device.as_ref().unwrap().features() & (1 << VIRTIO_BLK_F_FLUSH), 0);
    assert!(device.queue_sizes().iter().all(|size| size.is_power_of_two()));

    let empty = DiskFile { file: tempfile::tempfile().unwrap(), name: "none".into(), scratch: true };
    assert!(matches!(block(empty), Err(BlockError::Empty(name)) if name == "none"));
}

#[test]
fn what_is_written_is_read_back_and_is_in_the_file() {
    let mut guest = Guest::new(true);
    assert_eq!(guest.request(IN, 3, &[], 1024), (OK, [[3; 512], [4; 512]].concat()));
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(1536).collect();
    assert_eq!(guest.request(OUT, SECTORS - 3, &data, 0).0, OK);
    assert_eq!(guest.request(IN, SECTORS - 3, &[], 1536), (OK, data.clone()));
    assert_eq!(guest.sector(SECTORS - 2), data[512..1024]);
    assert_eq!(guest.sector(SECTORS - 4), [60; 512]);
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let mut guest = Guest::new(true);
    let header = header(OUT, 1);
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(512).collect();
    let parts: [&[u8]; 6] = [&header[..1], &header[1..7], &header[7..], &data[..100], &[], &data[100..]];
    assert_eq!(guest.send(&parts, &[1]).0, OK);
    let whole = [&header[..], &data].concat();
    assert_eq!(guest.sector(1), data[..]);
    assert_eq!(guest.send(&[&whole], &[1]).0, OK);
    let header = self::header(IN, 1);
    assert_eq!(guest.send(&[&header], &[3, 500, 10]), (OK, data.clone()));
    assert_eq!(guest.send(&[&header], &[513]), (OK, data));
}

#[test]
fn what_leaves_the_disk_or_is_no_sector_is_refused_and_changes_nothing() {
    let mut guest = Guest::new(true);
    for (sector, length) in [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (1 << 55, 512),
        (0, 511),
        (0, 513),
        (0, 0),
    ] {
        assert_eq!(guest.request(IN, sector, &[], length).0, IOERR, "read {sector} {length}");
        let data = vec![0xff; length as usize];
        assert_eq!(guest.request(OUT, sector, &data, 0).0, IOERR, "write {sector} {length}");
    }
    for (sector, sectors) in [(SECTORS, 1), (SECTORS - 1, 2), (u64::MAX, 1), (0, 0), (0, 65)] {
        for kind in [DISCARD, WRITE_ZEROES] {
            let status = guest.request(kind, 0, &segment(sector, sectors, 0), 0).0;
            assert_eq!(status, IOERR, "erase {sector} {sectors}");
        }
    }
    for sector in 0..SECTORS {
        assert_eq!(guest.sector(sector), [u8::try_from(sector).unwrap(); 512]);
    }
    assert_eq!(guest.file.metadata().unwrap().len(), SECTORS * SECTOR);
}

#[test]
fn discarded_sectors_are_zeros_and_take_no_place() {
    let mut guest = Guest::new(true);
    let before = guest.file.metadata().unwrap().blocks();
    assert_eq!(guest.request(DISCARD, 0, &segment(8, 32, 0), 0).0, OK);
    assert_eq!((guest.sector(8), guest.sector(39)), ([0; 512], [0; 512]));
    assert_eq!((guest.sector(7), guest.sector(40)), ([7; 512], [40; 512]));
    assert!(guest.file.metadata().unwrap().blocks() < before, "the host has nothing back");
    assert_eq!(guest.request(WRITE_ZEROES, 0, &segment(40, 8, 1), 0).0, OK);
    assert_eq!(guest.sector(40), [0; 512]);
    // Where the host's filesystem cannot zero in place, the guest's kernel is told to do it itself.
    let status = guest.request(WRITE_ZEROES, 0, &segment(48, 8, 0), 0).0;
    assert_eq!(guest.sector(48), if status == OK { [0; 512] } else { [48; 512] });
    assert!([OK, UNSUPP].contains(&status));
    for (kind, data, status) in [
        (DISCARD, segment(48, 8, 1), UNSUPP),
        (WRITE_ZEROES, segment(48, 8, 2), UNSUPP),
        (DISCARD, segment(48, ERASE_SECTORS + 1, 0), IOERR),
        (DISCARD, [segment(48, 8, 0), segment(56, 8, 0)].concat(), IOERR),
        (DISCARD, segment(48, 8, 0)[..15].to_vec(), IOERR),
        (DISCARD, Vec::new(), IOERR),
    ] {
        assert_eq!(guest.request(kind, 0, &data, 0).0, status, "{kind} {data:?}");
    }
    assert_eq!(guest.sector(56), [56; 512]);
}

#[test]
fn flush_and_id() {
    let mut guest = Guest::new(false);
    assert_eq!(guest.request(FLUSH, 0, &[], 0).0, OK);
    let (status, id) = guest.request(GET_ID, 0, &[], 20);
    assert_eq!((status, id), (OK, b"layer\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()));
    assert_eq!(guest.request(GET_ID, 0, &[], 19).0, IOERR);
    assert_eq!(Guest::new(true).request(FLUSH, 0, &[], 0).0, UNSUPP);
    for kind in [2, 3, 5, 6, 7, 9, 10, 12, 14, 16, u32::MAX] {
        assert_eq!(guest.request(kind, 0, &[], 512).0, UNSUPP, "{kind}");
    }
}

#[test]
fn chains_without_a_request_are_given_back() {
    let mut guest = Guest::new(true);
    let whole = header(IN, 0);
    for readable in [&b""[..], b"short", &whole[..15]] {
        assert_eq!(guest.send(&[readable], &[1]).0, IOERR, "{readable:?}");
    }
    // No place for a status.
    assert_eq!(guest.send(&[&whole], &[]).0, NONE);
    guest.send(&[&whole], &[0]);
    let end = GuestQueue::SPAN;
    type Chain<'a> = &'a [(u64, u32, u16)];
    let chains: [Chain<'_>; 6] = [
        // A readable buffer behind a writable one.
        &[(0x1_0000, 16, NEXT), (0x1_1000, 512, WRITE | NEXT), (0x1_2000, 16, 0)],
        // Buffers that leave guest memory, in whole or in part.
        &[(end, 16, NEXT), (0x1_1000, 1, WRITE)],
        &[(0x1_0000, 16, NEXT), (end - 1, 513, WRITE)],
        &[(0x1_0000, 16, NEXT), (u64::MAX, 512, WRITE | NEXT), (0x1_1000, 1, WRITE)],
        &[(0x1_0000, 16, NEXT), (0x1_1000, u32::MAX, WRITE | NEXT), (0x1_1000, 1, WRITE)],
        // One that leads back into itself.
        &[(0x1_0000, 16, NEXT); 64],
    ];
    for chain in chains {
        guest.device.as_mut().unwrap().reset();
        guest.activate();
        for (address, length, flags) in chain {
            guest.queue.descriptor(*address, *length, *flags);
        }
        guest.queue.offer(0);
        assert_eq!(guest.used(), (0, 0), "{chain:x?}");
    }
    guest.device.as_mut().unwrap().reset();
    guest.activate();
    assert_eq!(guest.request(IN, 5, &[], 512), (OK, vec![5; 512]));
}

#[test]
fn an_indirect_table_is_no_longer_than_a_ring() {
    const TABLE: u64 = 0x2_0000;
    let mut guest = Guest::new(true);
    guest.memory.write_slice(&header(IN, 0), GuestAddress(0x1_0000)).unwrap();
    for (count, written) in [(256_u16, 63 * 512 + 1), (257, 0)] {
        guest.device.as_mut().unwrap().reset();
        guest.activate();
        for index in 0..count {
            let (address, length, flags) = match index {
                0 => (0x1_0000_u64, 16_u32, NEXT),
                1..=252 => (0x1_1000, 128, NEXT | WRITE),
                _ if index + 1 < count => (0x1_1000, 0, NEXT | WRITE),
                _ => (0x1_2000, 1, WRITE),
            };
            let at = GuestAddress(TABLE + 16 * u64::from(index));
            let descriptor = [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes()];
            guest
                .memory
                .write_slice(&[&descriptor.concat()[..], &(index + 1).to_le_bytes()].concat(), at)
                .unwrap();
        }
        guest.queue.descriptor(TABLE, 16 * u32::from(count), INDIRECT);
        guest.queue.offer(0);
        assert_eq!(guest.used(), (0, written), "{count} descriptors");
    }
}

#[test]
fn a_file_that_fails_gives_an_error_and_the_device_lives_on() {
    let mut guest = Guest::new(true);
    // It shrinks behind the device's back: there is nothing to read any more.
    guest.file.set_len(SECTOR).unwrap();
    assert_eq!(guest.request(IN, 5, &[], 512).0, IOERR);
    assert_eq!(guest.request(IN, 0, &[], 512), (OK, vec![0; 512]));
}

#[test]
fn a_broken_ring_asks_for_a_reset_and_reset_heals_it() {
    let mut guest = Guest::new(true);
    let breaks: [fn(&mut Guest); 2] =
        [|guest| guest.queue.set_available(u16::MAX), |guest| guest.queue.offer(u16::MAX)];
    for spoil in breaks {
        while guest.line.read().is_ok() {}
        spoil(&mut guest);
        guest.kick.write(1).unwrap();
        let give_up = Instant::now() + Duration::from_secs(20);
        while guest.line.read().is_err() {
            assert!(Instant::now() < give_up, "the driver is not told");
            std::thread::yield_now();
        }
        guest.device.as_mut().unwrap().reset();
        guest.activate();
        assert_eq!(guest.request(IN, 1, &[], 512), (OK, vec![1; 512]));
    }
}
