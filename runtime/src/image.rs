//! The guest's kernel and initramfs: where they are, opened, and looked at as far as a wrong file is a mistake
//! that people make. The machine looks at the rest.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const KERNEL: &str = "vmlinux";
const INITRAMFS: &str = "initramfs";

/// Lengths of an ELF header and of a program header, of 64 bits.
const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// The name of the entry that ends a cpio archive, and how far from the end of the file it is looked for:
/// archives are padded to blocks.
const CPIO_TRAILER: &[u8] = b"TRAILER!!!";
const CPIO_TAIL: u64 = 8192;
/// Archives as the kernel takes them: cpio (newc, with checksums), gzip, zstd, xz, lz4.
const CPIO_MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
const COMPRESSED_MAGICS: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"\x02\x21\x4c\x18"];

/// Why there is no kernel or initramfs to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("{name}: not found: looked for {looked_for}; name it with --{option} or {variable}")]
    NotFound { name: &'static str, looked_for: String, option: &'static str, variable: &'static str },
    #[error("{}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("{}: truncated: {length} bytes", path.display())]
    Truncated { path: PathBuf, length: u64 },
    #[error("{}: not an ELF file (a kernel is an uncompressed vmlinux)", .0.display())]
    NotAnElf(PathBuf),
    #[error("{}: not a cpio archive", .0.display())]
    NotACpio(PathBuf),
}

/// An open kernel, and where it is, for messages of those who look at the rest of it.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

/// Opens the kernel: the one that is named, or the installed one.
pub(crate) fn kernel(named: Option<&Path>) -> Result<Kernel, ImageError> {
    let path = find(named, KERNEL, "kernel", "DRUPE_KERNEL")?;
    let (file, length) = open(&path)?;
    let start = start(&file, &path)?;
    // Too short for a magic number is truncated, whatever it was.
    if !start.starts_with(b"\x7fELF") && length >= 4 {
        return Err(ImageError::NotAnElf(path));
    }
    let end = image_end(&file).map_err(|source| ImageError::Open { path: path.clone(), source })?;
    match end {
        Some(end) if end <= length => Ok(Kernel { file, path }),
        _ => Err(ImageError::Truncated { path, length }),
    }
}

/// Opens the initramfs: the one that is named, or the installed one.
pub(crate) fn initramfs(named: Option<&Path>) -> Result<File, ImageError> {
    let path = find(named, INITRAMFS, "initramfs", "DRUPE_INITRAMFS")?;
    let (file, length) = open(&path)?;
    let start = start(&file, &path)?;
    let is = |magics: &[&[u8]]| magics.iter().any(|magic| start.starts_with(magic));
    if is(&COMPRESSED_MAGICS) {
        return Ok(file);
    }
    if !is(&CPIO_MAGICS) && length >= 6 {
        return Err(ImageError::NotACpio(path));
    }
    let mut tail = vec![0; usize::try_from(length.min(CPIO_TAIL)).unwrap_or(0)];
    file.read_exact_at(&mut tail, length.saturating_sub(CPIO_TAIL))
        .map_err(|source| ImageError::Open { path: path.clone(), source })?;
    if tail.windows(CPIO_TRAILER.len()).any(|window| window == CPIO_TRAILER) {
        Ok(file)
    } else {
        Err(ImageError::Truncated { path, length })
    }
}

/// Where the last segment of a 64-bit little-endian ELF file ends; `None` if the file ends before its program
/// headers do. What another kind of ELF file gives here says nothing: the machine refuses it anyway.
fn image_end(file: &File) -> io::Result<Option<u64>> {
    let mut header = [0; ELF_HEADER];
    if !read_whole(file, &mut header, 0)? {
        return Ok(None);
    }
    let (table, size) = (u64_at(&header, 32), u64::from(u16_at(&header, 54)));
    let mut end = 0;
    for index in 0..u64::from(u16_at(&header, 56)) {
        let mut segment = [0; PROGRAM_HEADER];
        if !read_whole(file, &mut segment, table.saturating_add(index * size))? {
            return Ok(None);
        }
        end = end.max(u64_at(&segment, 8).saturating_add(u64_at(&segment, 32)));
    }
    Ok(Some(end))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Fills the buffer; `false` where the file ends before that, or cannot have such an offset.
fn read_whole(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> Result<(File, u64), ImageError> {
    let error = |source| ImageError::Open { path: path.into(), source };
    // Nonblocking: a fifo with that name must not hold us.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(ImageError::NotAFile(path.into())) }
}

fn start(file: &File, path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut start = vec![0; 8];
    let length =
        file.read_at(&mut start, 0).map_err(|source| ImageError::Open { path: path.into(), source })?;
    start.truncate(length);
    Ok(start)
}

fn find(
    named: Option<&Path>,
    name: &'static str,
    option: &'static str,
    variable: &'static str,
) -> Result<PathBuf, ImageError> {
    if let Some(path) = named {
        return Ok(path.into());
    }
    let candidates = candidates(std::env::current_exe().ok().as_deref(), name);
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => {
            let paths: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
            Err(ImageError::NotFound { name, looked_for: paths.join(", "), option, variable })
        }
    }
}

/// Where an installed file may be: beside our own `bin` first, so that several installations do not mix.
fn candidates(program: Option<&Path>, name: &str) -> Vec<PathBuf> {
    let prefix = program.and_then(Path::parent).and_then(Path::parent);
    let mut candidates: Vec<PathBuf> = Vec::new();
    for lib in prefix
        .map(|prefix| prefix.join("lib"))
        .into_iter()
        .chain(["/usr/lib", "/usr/local/lib"].map(PathBuf::from))
    {
        let path = lib.join("drupe").join(name);
        if !candidates.contains(&path) {
            candidates.push(path);
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::chain;

    fn opened<T>(open: fn(Option<&Path>) -> Result<T, ImageError>, content: &[u8]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, content).unwrap();
        let prefix = format!("{}/", dir.path().display());
        open(Some(&path)).map(drop).map_err(|error| chain(&error).replace(&prefix, ""))
    }

    #[test]
    fn a_kernel_is_an_elf() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        assert_eq!(opened(kernel, &elf), Ok(()));
        let not_elf = "image: not an ELF file (a kernel is an uncompressed vmlinux)";
        for (content, error) in [
            (&elf[..63], "image: truncated: 63 bytes"),
            (b"\x7fE", "image: truncated: 2 bytes"),
            (b"", "image: truncated: 0 bytes"),
            (b"\x1f\x8bcompressed", not_elf),
            (b"hello, world", not_elf),
        ] {
            assert_eq!(opened(kernel, content).unwrap_err(), error);
        }
    }

    #[test]
    fn a_kernel_is_whole() {
        let mut elf = vec![0; 64 + 2 * 56 + 1000];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[32] = 64; // program headers
        elf[54] = 56; // of this size
        elf[56] = 2; // so many
        elf[64 + 8] = 176; // the first segment's offset
        elf[64 + 56 + 8] = 176; // the second's
        elf[64 + 56 + 32..][..2].copy_from_slice(&1000_u16.to_le_bytes());
        assert_eq!(opened(kernel, &elf), Ok(()));
        for length in [64, 100, 175, 176, 1175] {
            let error = format!("image: truncated: {length} bytes");
            assert_eq!(opened(kernel, &elf[..length]), Err(error));
        }
        elf[32..40].fill(0xff);
        assert!(opened(kernel, &elf).unwrap_err().contains("truncated"));
    }

    #[test]
    fn an_initramfs_is_a_whole_archive() {
        let mut cpio = b"070701 files TRAILER!!!".to_vec();
        cpio.resize(4096, 0);
        assert_eq!(opened(initramfs, &cpio), Ok(()));
        assert_eq!(opened(initramfs, b"\x1f\x8b..."), Ok(()));
        for (content, error) in [
            (&cpio[..20], "image: truncated: 20 bytes"),
            (b"", "image: truncated: 0 bytes"),
            (b"\x7fELF....", "image: not a cpio archive"),
        ] {
            assert_eq!(opened(initramfs, content).unwrap_err(), error);
        }
    }

    #[test]
    fn what_is_not_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path| chain(&kernel(Some(path)).unwrap_err());
        let missing = dir.path().join("none");
        assert_eq!(
            message(&missing),
            format!("{}: No such file or directory (os error 2)", missing.display())
        );
        assert_eq!(message(dir.path()), format!("{}: not a regular file", dir.path().display()));
    }

    #[test]
    fn installed_files_are_looked_for_beside_the_program_first() {
        let of = |program: &str| candidates(Some(Path::new(program)), "vmlinux");
        let system = ["/usr/lib/drupe/vmlinux", "/usr/local/lib/drupe/vmlinux"].map(PathBuf::from);
        assert_eq!(of("/opt/d/bin/drupe")[0], Path::new("/opt/d/lib/drupe/vmlinux"));
        assert_eq!(of("/opt/d/bin/drupe")[1..], system);
        assert_eq!(of("/usr/bin/drupe"), system);
        assert_eq!(of("/usr/local/bin/drupe"), [system[1].clone(), system[0].clone()]);
    }
}
