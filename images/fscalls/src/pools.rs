//! What operations are made of: names, paths, modes, times, lengths. The pools are small, so that operations meet.

use rustix::fs::{Gid, Mode, Timespec, UTIME_NOW, UTIME_OMIT, Uid};

use crate::random::Random;

/// Longest name of a file, in bytes.
const NAME_MAX: usize = 255;

/// Entries of the tree's root, most of which are made before the first operation.
const TOP: [&[u8]; 9] = [b"a", b"b", b"c", b"d", b"e", b"shared", b"sticky", b"inherit", b"mine"];
const MIDDLE: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"\xff\xfe\x80", b"sp ace\n\xc3\xbc"];
const LOW: [&[u8]; 3] = [b"a", b"b", b"x"];
const LONG: [u8; 5] = *b"jklmn";

impl Random {
    /// A path below the current directory.
    pub(crate) fn path(&mut self) -> Vec<u8> {
        match self.below(250) {
            0 => return Vec::new(),
            1 => return vec![b'n'; NAME_MAX + 1],
            2 => return b"a/".repeat(2100),
            3 => return b"a\0b".to_vec(),
            4 => return b"/tree/a".to_vec(),
            _ => {}
        }
        let mut path = self.pick(&TOP).to_vec();
        let depth = self.below(20);
        if depth > 5 {
            path.push(b'/');
            path.extend(self.name());
        }
        if depth > 17 {
            path.push(b'/');
            path.extend(self.pick(&LOW));
        }
        match self.below(80) {
            0 => path.push(b'/'),
            1 => path.extend(b"/."),
            // Never what the current directory is: its mode is to stay one that lets everyone go on.
            2 if depth > 5 => path.extend(b"/.."),
            3 => path.extend(b"//a"),
            4 => path.extend(b"/../b"),
            _ => {}
        }
        path
    }

    /// A single name.
    pub(crate) fn name(&mut self) -> Vec<u8> {
        if !self.one_in(16) {
            return self.pick(&MIDDLE).to_vec();
        }
        let length = self.pick(&[NAME_MAX, NAME_MAX, NAME_MAX - 1, 129, 64]);
        vec![self.pick(&LONG); length]
    }

    /// What a symbolic link says.
    pub(crate) fn target(&mut self) -> Vec<u8> {
        match self.below(20) {
            0 => Vec::new(),
            1 => vec![b't'; 4095],
            2 => vec![b't'; 4096],
            3 => b"/tree/mine".to_vec(),
            4 => b"../tree/a".to_vec(),
            5 => b"a/..".to_vec(),
            7 => b"/tree/b".to_vec(),
            8 => vec![b's'; 61],
            _ => self.path(),
        }
    }

    /// Permissions, mostly ones that let the owner work.
    pub(crate) fn mode(&mut self) -> Mode {
        const COMMON: [u32; 12] =
            [0o644, 0o600, 0o666, 0o755, 0o777, 0o700, 0o4755, 0o2775, 0o1777, 0o6711, 0o2644, 0o4711];
        const RARE: [u32; 6] = [0, 0o444, 0o111, 0o7777, 0o070, 0o2070];
        let mode = if self.one_in(10) { self.pick(&RARE) } else { self.pick(&COMMON) };
        Mode::from_raw_mode(mode)
    }

    /// An owner, a group or both: FUSE does not tell of a change of neither, which clears set-user-ID all the same.
    pub(crate) fn owner_and_group(&mut self) -> (Option<Uid>, Option<Gid>) {
        let owner = self.pick(&[None, None, Some(0), Some(1000), Some(1000), Some(1001)]);
        let group = self.pick(&[None, None, Some(0), Some(1000), Some(1001), Some(2000), Some(3000)]);
        let group = if owner.is_none() { group.or(Some(0)) } else { group };
        (owner.map(Uid::from_raw), group.map(Gid::from_raw))
    }

    /// A time that is told from the present: see [`crate::line::Line::time`].
    pub(crate) fn time(&mut self) -> Timespec {
        const SECONDS: [i64; 8] =
            [0, 1, 981_173_106, -1, -86_400, 5_000_000_000, 20_000_000_000, 1_234_567_890];
        match self.below(10) {
            0 => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            1 | 2 => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            3 => Timespec { tv_sec: 7, tv_nsec: 1_000_000_000 },
            _ => Timespec {
                tv_sec: self.pick(&SECONDS),
                tv_nsec: self.pick(&[0, 1, 123_456_789, 999_999_999]),
            },
        }
    }

    /// An offset in a file, in bytes.
    pub(crate) fn offset(&mut self) -> u64 {
        const EDGES: [u64; 10] = [0, 0, 1, 100, 4095, 4096, 4097, 8192, 65536, 131_071];
        const FAR: [u64; 5] = [1 << 20, (1 << 32) - 1, 1 << 33, 1 << 40, 1 << 62];
        match self.below(40) {
            0 => self.pick(&FAR),
            1..=15 => self.below(20_000),
            _ => self.pick(&EDGES),
        }
    }

    /// How many bytes to read, write or keep.
    pub(crate) fn length(&mut self) -> usize {
        let length = match self.below(30) {
            0 => 140_000,
            1 => 65_536,
            2..=12 => self.below(9000),
            _ => self.pick(&[0, 1, 10, 100, 511, 4095, 4096, 4097]),
        };
        usize::try_from(length).unwrap_or(0)
    }
}
