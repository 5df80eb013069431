//! Records for a power cut: writes of many kinds, each of which is acknowledged once a call has said that it is on disk, and
//! the check of what an acknowledgement promises.
//!
//! `probe record DIR SEED` prints `KIND N` for the N-th record of a kind. Then that record and all of its kind before it
//! must be found by `probe recorded DIR KIND N`, or, of kinds that write over what they wrote before, that one or a later one.

use std::ffi::c_int;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, copy_file_range, fchown, setxattr, syncfs};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

use crate::pattern;

/// Bytes of a record of the kinds that append.
const RECORD: usize = 64;
/// Bytes of a piece at least; each is up to 8 KiB longer.
const PIECE: usize = 100;
const PAGE: usize = 4096;
const PAGES: u64 = 16;
/// The attribute that the kind `attributes` sets.
const ATTRIBUTE: &str = "user.record";

/// A way to write, and the check that what was written so is there.
struct Kind {
    name: &'static str,
    write: fn(&Recorder, &Kind, u64) -> io::Result<()>,
    check: fn(&Path, &Kind, u64) -> io::Result<bool>,
}

const KINDS: [Kind; 12] = [
    Kind { name: "append", write: append, check: appended },
    Kind { name: "append-data", write: append_data, check: appended },
    Kind { name: "append-through", write: append_through, check: appended },
    Kind { name: "create", write: create, check: created },
    Kind { name: "copy", write: copy, check: created },
    Kind { name: "replace", write: replace, check: replaced },
    Kind { name: "remove", write: remove, check: removed },
    Kind { name: "directory", write: directory, check: created_in_directory },
    Kind { name: "link", write: link, check: linked },
    Kind { name: "map", write: map, check: mapped },
    Kind { name: "attributes", write: attributes, check: attributed },
    Kind { name: "sync", write: sync_all, check: synced },
];

/// Writes records until something fails.
pub(crate) fn record(
    dir: &str,
    seed: u64,
    synced: bool,
    say: impl Fn(&str) -> io::Result<u8>,
) -> io::Result<u8> {
    let recorder = Recorder { dir: dir.into(), handle: File::open(dir)?, synced };
    let mut counts = [0; KINDS.len()];
    for step in 0.. {
        let mut word = [0; 2];
        pattern::fill((seed << 32) + step * 8, &mut word);
        let choice = usize::from(u16::from_le_bytes(word)) % KINDS.len();
        let (kind, count) = (&KINDS[choice], &mut counts[choice]);
        let named = |error| io::Error::other(format!("{} {count}: {error}", kind.name));
        (kind.write)(&recorder, kind, *count).map_err(named)?;
        say(&format!("{} {count}", kind.name))?;
        *count += 1;
    }
    Ok(0)
}

/// Says which records are missing of those that were acknowledged.
pub(crate) fn recorded(dir: &str, last: &[&str], say: impl Fn(&str) -> io::Result<u8>) -> io::Result<u8> {
    for pair in last.chunks(2) {
        let (Some(kind), Some(Ok(last))) =
            (KINDS.iter().find(|kind| kind.name == pair[0]), pair.get(1).map(|number| number.parse::<u64>()))
        else {
            return Err(io::Error::other(format!("{pair:?}: not a kind and a number")));
        };
        for number in 0..=last {
            match (kind.check)(Path::new(dir), kind, number) {
                Ok(true) => {}
                Ok(false) => _ = say(&format!("{} {number}: something else is there", kind.name))?,
                Err(error) => _ = say(&format!("{} {number}: {error}", kind.name))?,
            }
        }
    }
    Ok(0)
}

/// Where records go.
struct Recorder {
    dir: PathBuf,
    /// The directory itself.
    handle: File,
    /// Whether anything is put on disk before it is acknowledged.
    synced: bool,
}

impl Recorder {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.synced { file.sync_all() } else { Ok(()) }
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.sync(&self.handle)
    }

    /// A new file with the piece of a kind, on disk.
    fn piece(&self, name: &str, kind: &Kind, number: u64) -> io::Result<()> {
        let mut file = File::create_new(self.path(name))?;
        file.write_all(&piece(kind, number))?;
        self.sync(&file)
    }

    /// The first record of the kinds that write over theirs makes their file.
    fn first(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::write(self.path(name), bytes)?;
        self.sync(&File::open(self.path(name))?)?;
        self.sync_dir()
    }
}

/// What the kinds write: the number, then bytes that only this record of this kind has.
fn piece(kind: &Kind, number: u64) -> Vec<u8> {
    let hash = kind.name.bytes().fold(0, |hash: u32, byte| hash.wrapping_mul(31) ^ u32::from(byte));
    let position = (u64::from(hash) << 31) + (number << 16);
    let mut word = [0; 2];
    pattern::fill(position, &mut word);
    let mut bytes = vec![0; PIECE + usize::from(u16::from_le_bytes(word)) % 8192];
    pattern::fill(position + 2, &mut bytes);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The number that a piece begins with.
fn number_of(bytes: &[u8]) -> io::Result<u64> {
    let word = bytes.first_chunk().ok_or_else(|| io::Error::other(format!("{} bytes", bytes.len())))?;
    Ok(u64::from_le_bytes(*word))
}

fn append(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let (file, is_new) = appending(recorder, kind, 0)?;
    (&file).write_all(&piece(kind, number)[..RECORD])?;
    recorder.sync(&file)?;
    if is_new { recorder.sync_dir() } else { Ok(()) }
}

fn append_data(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let (file, is_new) = appending(recorder, kind, 0)?;
    (&file).write_all(&piece(kind, number)[..RECORD])?;
    if recorder.synced {
        file.sync_data()?;
    }
    if is_new { recorder.sync_dir() } else { Ok(()) }
}

fn append_through(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let flags = if recorder.synced { libc::O_DSYNC } else { 0 };
    let (file, is_new) = appending(recorder, kind, flags)?;
    (&file).write_all(&piece(kind, number)[..RECORD])?;
    if is_new { recorder.sync_dir() } else { Ok(()) }
}

fn appending(recorder: &Recorder, kind: &Kind, flags: c_int) -> io::Result<(File, bool)> {
    let path = recorder.path(kind.name);
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
    Ok((file, is_new))
}

fn appended(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    let mut record = [0; RECORD];
    let file = File::open(dir.join(kind.name))?;
    file.read_exact_at(&mut record, number * RECORD as u64)?;
    Ok(record[..] == piece(kind, number)[..RECORD])
}

fn create(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    recorder.piece(&format!("create-{number}"), kind, number)?;
    recorder.sync_dir()
}

fn copy(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let bytes = piece(kind, number);
    let source = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(recorder.path("source"))?;
    source.write_all_at(&bytes, 0)?;
    let target = File::create_new(recorder.path(&format!("copy-{number}")))?;
    let mut left = bytes.len();
    while left > 0 {
        match copy_file_range(&source, None, &target, None, left)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            copied => left -= copied,
        }
    }
    recorder.sync(&target)?;
    recorder.sync_dir()
}

fn created(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    Ok(fs::read(dir.join(format!("{}-{number}", kind.name)))? == piece(kind, number))
}

fn replace(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let new = recorder.path("replace.new");
    let mut file = File::create(&new)?;
    file.write_all(&piece(kind, number))?;
    recorder.sync(&file)?;
    fs::rename(new, recorder.path("replace"))?;
    recorder.sync_dir()
}

fn replaced(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    let bytes = fs::read(dir.join("replace"))?;
    let found = number_of(&bytes)?;
    Ok(found >= number && bytes == piece(kind, found))
}

fn remove(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let name = format!("remove-{number}");
    recorder.piece(&name, kind, number)?;
    recorder.sync_dir()?;
    fs::remove_file(recorder.path(&name))?;
    recorder.sync_dir()
}

fn removed(dir: &Path, _: &Kind, number: u64) -> io::Result<bool> {
    match fs::symlink_metadata(dir.join(format!("remove-{number}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(_) => Ok(false),
    }
}

fn directory(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let name = format!("directory-{number}");
    fs::create_dir(recorder.path(&name))?;
    recorder.piece(&format!("{name}/file"), kind, number)?;
    recorder.sync(&File::open(recorder.path(&name))?)?;
    recorder.sync_dir()
}

fn created_in_directory(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    Ok(fs::read(dir.join(format!("directory-{number}/file")))? == piece(kind, number))
}

fn link(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let name = format!("link-{number}");
    recorder.piece(&name, kind, number)?;
    fs::hard_link(recorder.path(&name), recorder.path(&format!("{name}.hard")))?;
    symlink(&name, recorder.path(&format!("{name}.soft")))?;
    recorder.sync_dir()
}

fn linked(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    let name = format!("link-{number}");
    let soft = fs::read_link(dir.join(format!("{name}.soft")))?;
    let hard = dir.join(format!("{name}.hard"));
    Ok(soft == Path::new(&name)
        && fs::metadata(&hard)?.nlink() == 2
        && fs::read(hard)? == piece(kind, number))
}

/// Writes the number to a page of a mapping.
fn map(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    if number == 0 {
        recorder.first(kind.name, &vec![0; PAGE * usize::try_from(PAGES).unwrap_or(0)])?;
    }
    let file = OpenOptions::new().read(true).write(true).open(recorder.path(kind.name))?;
    let offset = number % PAGES * PAGE as u64;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
    let page = unsafe { mmap(std::ptr::null_mut(), PAGE, protection, MapFlags::SHARED, &file, offset) }?;
    // SAFETY: the page is mapped for writing, and large enough and aligned for the number.
    unsafe { page.cast::<u64>().write_volatile(number.to_le()) };
    let flags = if recorder.synced { MsyncFlags::SYNC } else { MsyncFlags::ASYNC };
    // SAFETY: it is the mapping of above.
    let written = unsafe { msync(page, PAGE, flags) };
    // SAFETY: nothing refers to the mapping any more.
    unsafe { munmap(page, PAGE) }?;
    Ok(written?)
}

fn mapped(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    let mut word = [0; 8];
    File::open(dir.join(kind.name))?.read_exact_at(&mut word, number % PAGES * PAGE as u64)?;
    let found = u64::from_le_bytes(word);
    Ok(found >= number && found % PAGES == number % PAGES)
}

/// Everything about a file but its contents; all of it grows with the number.
fn attributes(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let path = recorder.path(kind.name);
    if number == 0 {
        recorder.first(kind.name, b"")?;
    }
    let file = OpenOptions::new().write(true).open(&path)?;
    let owner = u32::try_from(number).map_err(io::Error::other)?;
    fchown(&file, Some(rustix::fs::Uid::from_raw(owner)), None)?;
    setxattr(&path, ATTRIBUTE, &number.to_le_bytes(), XattrFlags::empty())?;
    file.set_len(number)?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number))?;
    recorder.sync(&file)
}

fn attributed(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    let path = dir.join(kind.name);
    let metadata = fs::metadata(&path)?;
    let mut attribute = [0; 8];
    rustix::fs::getxattr(&path, ATTRIBUTE, &mut attribute)?;
    let lowest = u64::from(metadata.uid()).min(metadata.size()).min(u64::from_le_bytes(attribute));
    Ok(lowest.min(u64::try_from(metadata.mtime()).unwrap_or(0)) >= number)
}

/// Files that nobody syncs, then the whole filesystem: by sync(2), which tells no error, and by syncfs(2) in turn.
fn sync_all(recorder: &Recorder, kind: &Kind, number: u64) -> io::Result<()> {
    let name = format!("sync-{number}");
    fs::create_dir(recorder.path(&name))?;
    fs::write(recorder.path(&format!("{name}/file")), piece(kind, number))?;
    if recorder.synced {
        match number % 2 {
            0 => rustix::fs::sync(),
            _ => syncfs(&recorder.handle)?,
        }
    }
    // Fails when the filesystem had gone before all was written: ext4 does not say so itself.
    fs::write(recorder.path(&format!("{name}/end")), "")
}

fn synced(dir: &Path, kind: &Kind, number: u64) -> io::Result<bool> {
    Ok(fs::read(dir.join(format!("sync-{number}/file")))? == piece(kind, number))
}
