//! Makes an empty ext4 filesystem in a sparse file: for a writable layer, so that starting a container neither runs
//! mkfs.ext4 nor needs it on the host.
//!
//! Such a filesystem lives no longer than its machine. It has no journal and no copies of its superblock; the kernel
//! initialises groups when it first uses them, so that a dozen blocks are all that is written whatever the size.
//! Fields: Linux, Documentation/filesystems/ext4. Only bytes that are made here are ever written by the host, and
//! nothing that a guest has written is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The least and the most bytes of a filesystem.
pub(crate) const SIZES: std::ops::RangeInclusive<u64> = (16 << 20)..=(8 << 40);

const BLOCK: usize = 4096;
/// Blocks of a group: as many as its bitmap of one block has bits.
const GROUP: u32 = 32_768;
const INODE: usize = 256;
const INODES_OF_BLOCK: u32 = 16;
/// A group has an inode for each 16 KiB, as mkfs.ext4 makes them.
const BLOCKS_OF_INODE: u32 = 4;
const DESCRIPTOR: usize = 32;
const DESCRIPTORS_OF_BLOCK: u32 = 128;
/// Inodes that the format reserves, from 1 on; the root directory is one of them.
const RESERVED_INODES: u32 = 10;
const ROOT_INODE: u32 = 2;
/// A last group with less room than this beside its tables is left out.
const LEAST_ROOM: u32 = 64;

/// `ext_attr`, `dir_index`, `sparse_super2` (with no backup at all).
const COMPATIBLE: u32 = 0x8 | 0x20 | 0x200;
/// `filetype`, `extent`.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// `large_file`, `huge_file`, `uninit_bg`, `dir_nlink`, `extra_isize`.
const READ_ONLY_COMPATIBLE: u32 = 0x2 | 0x8 | 0x10 | 0x20 | 0x40;

const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
/// The inode table is zeros already: a file's holes are.
const INODE_ZEROED: u16 = 4;

/// The filesystem's UUID, and the seed of its hashes. One for all: each is alone in its machine.
const UUID: [u8; 16] = *b"drupe layer ext4";

/// Where things are in a filesystem of a size.
#[derive(Clone, Copy, Debug)]
struct Layout {
    blocks: u32,
    groups: u32,
    inodes_per_group: u32,
    /// Blocks of the group descriptors, which follow the superblock.
    descriptor_blocks: u32,
}

/// Makes a filesystem of `bytes` in `file`, which is empty: rounded down to whole blocks, and up to [`SIZES`].
///
/// # Errors
/// The file cannot be written or be so large.
pub(crate) fn format(file: &File, bytes: u64) -> io::Result<()> {
    let layout = Layout::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
    file.set_len(u64::from(layout.blocks) * BLOCK as u64)?;
    let mut start = vec![0; BLOCK];
    layout.superblock(start.get_mut(1024..).unwrap_or_default());
    start.extend((0..layout.groups).flat_map(|group| layout.descriptor(group)));
    start.resize(at(layout.bitmaps(0)), 0);
    start.extend(layout.block_bitmap(0));
    start.extend(inode_bitmap(layout.inodes_per_group));
    start.resize(start.len() + INODE * (ROOT_INODE as usize - 1), 0);
    start.extend(root_inode(layout.root_block()));
    file.write_all_at(&start, 0)?;
    file.write_all_at(&root_directory(), at(layout.root_block()) as u64)?;
    if layout.groups > 1 {
        let last = layout.groups - 1;
        file.write_all_at(&layout.block_bitmap(last), at(layout.bitmaps(last)) as u64)?;
    }
    Ok(())
}

/// Where a block starts, in bytes.
fn at(block: u32) -> usize {
    block as usize * BLOCK
}

impl Layout {
    fn new(bytes: u64) -> Option<Self> {
        let blocks = u32::try_from(bytes.max(*SIZES.start()) / BLOCK as u64).ok()?;
        let inodes_per_group = (GROUP.min(blocks) / BLOCKS_OF_INODE).next_multiple_of(INODES_OF_BLOCK);
        let rest = blocks % GROUP;
        let tables = 2 + inodes_per_group / INODES_OF_BLOCK;
        let blocks = if blocks > GROUP && rest < tables + LEAST_ROOM { blocks - rest } else { blocks };
        let groups = blocks.div_ceil(GROUP);
        let descriptor_blocks = groups.div_ceil(DESCRIPTORS_OF_BLOCK);
        Some(Self { blocks, groups, inodes_per_group, descriptor_blocks })
    }

    fn blocks_of(&self, group: u32) -> u32 {
        GROUP.min(self.blocks - group * GROUP)
    }

    /// The first of a group's two bitmaps, which its inode table follows.
    fn bitmaps(&self, group: u32) -> u32 {
        if group == 0 { 1 + self.descriptor_blocks } else { group * GROUP }
    }

    fn root_block(&self) -> u32 {
        self.bitmaps(0) + 2 + self.inodes_per_group / INODES_OF_BLOCK
    }

    fn used_blocks(&self, group: u32) -> u32 {
        if group == 0 { self.root_block() + 1 } else { 2 + self.inodes_per_group / INODES_OF_BLOCK }
    }

    fn superblock(&self, to: &mut [u8]) {
        let used: u32 = (0..self.groups).map(|group| self.used_blocks(group)).sum();
        let inodes = self.inodes_per_group * self.groups;
        let words = [
            (0, inodes),
            (4, self.blocks),
            (12, self.blocks - used),
            (16, inodes - RESERVED_INODES),
            (24, 2), // s_log_block_size: 1024 << 2
            (28, 2),
            (32, GROUP),
            (36, GROUP),
            (40, self.inodes_per_group),
            (52, 0xffff_0000), // s_mnt_count, s_max_mnt_count: never checked
            (56, 0x0001_ef53), // s_magic, s_state: clean
            (60, 1),           // s_errors: go on
            (76, 1),           // s_rev_level
            (84, RESERVED_INODES + 1),
            (88, 256), // s_inode_size
            (92, COMPATIBLE),
            (96, INCOMPATIBLE),
            (100, READ_ONLY_COMPATIBLE),
            (252, 1),           // s_def_hash_version: half MD4
            (256, 0xc),         // s_default_mount_opts: user_xattr, acl
            (348, 0x0020_0020), // s_min_extra_isize, s_want_extra_isize
            (352, 1),           // s_flags: signed directory hash
        ];
        for (at, value) in words {
            put(to, at, &value.to_le_bytes());
        }
        put(to, 104, &UUID);
        put(to, 236, &UUID); // s_hash_seed
    }

    fn descriptor(&self, group: u32) -> [u8; DESCRIPTOR] {
        let mut bytes = [0; DESCRIPTOR];
        let bitmaps = self.bitmaps(group);
        for (at, block) in [(0, bitmaps), (4, bitmaps + 1), (8, bitmaps + 2)] {
            put(&mut bytes, at, &block.to_le_bytes());
        }
        let is_first = group == 0;
        let used_inodes = if is_first { RESERVED_INODES } else { 0 };
        let free_inodes = self.inodes_per_group - used_inodes;
        let mut flags = INODE_ZEROED;
        if !is_first {
            flags |= INODE_UNINIT;
        }
        if !is_first && group + 1 < self.groups {
            flags |= BLOCK_UNINIT;
        }
        let free_blocks = self.blocks_of(group) - self.used_blocks(group);
        let halves = [
            (12, free_blocks),
            (14, free_inodes),
            (16, u32::from(is_first)), // bg_used_dirs_count
            (18, flags.into()),
            (28, free_inodes), // bg_itable_unused
        ];
        for (at, value) in halves {
            put(&mut bytes, at, &u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes());
        }
        let sum = [&UUID[..], &group.to_le_bytes(), bytes.get(..30).unwrap_or_default()];
        let sum = sum.iter().fold(u16::MAX, |sum, part| crc16(sum, part));
        put(&mut bytes, 30, &sum.to_le_bytes());
        bytes
    }

    fn block_bitmap(&self, group: u32) -> Vec<u8> {
        let (used, there) = (self.used_blocks(group), self.blocks_of(group));
        bitmap(|block| block < used || block >= there)
    }
}

fn inode_bitmap(inodes: u32) -> Vec<u8> {
    bitmap(|index| index < RESERVED_INODES || index >= inodes)
}

/// A block with a bit for each number.
fn bitmap(is_used: impl Fn(u32) -> bool) -> Vec<u8> {
    let byte = |first: u32| (0..8).fold(0, |byte, bit| byte | (u8::from(is_used(first + bit)) << bit));
    (0..GROUP).step_by(8).map(byte).collect()
}

/// A directory of one block.
fn root_inode(block: u32) -> [u8; INODE] {
    let mut inode = [0; INODE];
    let words = [
        (0, 0o40_755),     // i_mode; the root's
        (4, 4096),         // i_size
        (24, 2 << 16),     // i_links_count
        (28, 8),           // i_blocks, of 512 bytes
        (32, 0x8_0000),    // i_flags: extents
        (40, 0x0001_f30a), // eh_magic, eh_entries
        (44, 4),           // eh_max, eh_depth
        (56, 1),           // ee_len, ee_start_hi
        (60, block),
        (128, 32), // i_extra_isize
    ];
    for (at, value) in words {
        put(&mut inode, at, &u32::to_le_bytes(value));
    }
    inode
}

fn root_directory() -> Vec<u8> {
    let entry = |name: &[u8], length: usize| {
        let mut entry = vec![0; length];
        put(&mut entry, 0, &ROOT_INODE.to_le_bytes());
        put(&mut entry, 4, &u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        put(&mut entry, 6, &[u8::try_from(name.len()).unwrap_or(u8::MAX), 2]); // 2: a directory
        put(&mut entry, 8, name);
        entry
    };
    [entry(b".", 12), entry(b"..", BLOCK - 12)].concat()
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in to.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// CRC-16 as the kernel's `crc16()` (polynomial 0x8005, reflected).
fn crc16(sum: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(sum, |sum, byte| {
        (0..8)
            .fold(sum ^ u16::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xa001 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    const MIB: u64 = 1 << 20;
    const SBIN: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

    /// e2fsck is the judge: it recomputes every bitmap, count and checksum.
    #[test]
    fn e2fsck_finds_nothing_to_mend() {
        // One group, whole and not; a last group that has room for its tables, just has it, and has none; many groups.
        let group = 128 * MIB;
        let sizes = [16 * MIB, 16 * MIB + 4095, 100 * MIB, group, group + MIB, group + 600 * 4096, 2 * group];
        for bytes in sizes.into_iter().chain([10 << 30, (100 << 30) + 77 * MIB]) {
            let file = tempfile::NamedTempFile::new().unwrap();
            format(file.as_file(), bytes).unwrap();
            let check = Command::new("e2fsck")
                .env("PATH", SBIN)
                .arg("-fn")
                .arg(file.path())
                .output()
                .expect("e2fsck (Debian: e2fsprogs)");
            let text = String::from_utf8_lossy(&check.stdout);
            assert!(check.status.success(), "{bytes}: {text}");
            let metadata = file.as_file().metadata().unwrap();
            assert!(metadata.len() <= bytes && bytes - metadata.len() < group, "{bytes}: {}", metadata.len());
            assert!(
                metadata.blocks() * 512 < MIB + bytes / 100_000,
                "{bytes}: {} sectors",
                metadata.blocks()
            );
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let file = tempfile::tempfile().unwrap();
        format(&file, 0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), *SIZES.start());
        assert!(Layout::new(*SIZES.end()).is_some_and(|layout| layout.root_block() < GROUP));
        assert_eq!(format(&file, u64::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_checksum_is_the_kernels() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
