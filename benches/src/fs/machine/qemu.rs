//! QEMU's microvm with drupe's guest kernel and the C virtiofsd, which has no threads of its own for requests: it is faster so.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::{Counters, MEMORY, Workspace, copy, progress, run_program, wait};
use crate::error::FsError;
use crate::steps::STEPS;
use crate::work::TIMES;

const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
/// Counters of one mark in the file of `requests.c`.
const OPCODES: usize = 64;
/// FUSE_LOOKUP (linux/fuse.h).
const LOOKUP: usize = 1;
/// The guest's init: the share, and the steps in it. A reset ends QEMU.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t virtiofs root /root
/bin/busybox mount -t proc proc /root/proc
/bin/busybox mount -t sysfs sys /root/sys
/bin/busybox mount -t tmpfs tmpfs /root/dev
/bin/busybox mknod -m 666 /root/dev/null c 1 3
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox chroot /root /bin/sh -c 'cd /work && exec ./bench work --marks MARKS >/work/log 2>&1'
/bin/busybox reboot -f
";

/// Runs the steps; returns the counters at each mark, when `library` counts them.
pub(super) fn run(space: &Workspace, library: Option<&Path>) -> Result<Vec<Counters>, FsError> {
    initramfs(space, if library.is_some() { "lookup" } else { "none" })?;
    let (counters, preloaded) = (space.path("counters"), space.path("requests.so"));
    let mut server = Command::new(VIRTIOFSD);
    if let Some(library) = library {
        fs::write(&counters, "").map_err(FsError::io(&counters))?;
        copy(library, &preloaded)?;
        server
            .args(["--syslog", "-o", "log_level=debug"])
            .env("LD_PRELOAD", &preloaded)
            .env("DRUPE_REQUESTS", &counters);
    }
    let socket = space.path("socket");
    server.arg(format!("--socket-path={}", socket.display())).arg("-o");
    server.arg(format!("source={},cache=auto,xattr", space.path("root").display())).stdin(Stdio::null());
    let mut server = server.spawn().map_err(FsError::io(VIRTIOFSD))?;
    let done = machine(space, &socket, &mut server);
    let _ = server.kill();
    let _ = server.wait();
    done?;
    if library.is_none() {
        return Ok(Vec::new());
    }
    read_counters(&counters)
}

/// Starts QEMU as soon as the server listens, and waits for its end.
fn machine(space: &Workspace, socket: &Path, server: &mut Child) -> Result<(), FsError> {
    while !socket.exists() {
        if let Some(status) = server.try_wait().map_err(FsError::io(VIRTIOFSD))? {
            return Err(FsError::Program(VIRTIOFSD.to_owned(), status));
        }
        sleep(Duration::from_millis(10));
    }
    let console = space.path("console");
    let memory = format!("memory-backend-memfd,id=memory,share=on,size={MEMORY}M");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-M",
        "microvm,acpi=off,rtc=off,isa-serial=on,memory-backend=memory",
        "-accel",
        "kvm",
        "-cpu",
        "host",
    ]);
    qemu.args(["-m", &format!("{MEMORY}M"), "-object", &memory])
        .arg("-kernel")
        .arg(space.path("dist/lib/drupe/vmlinux"));
    qemu.arg("-initrd").arg(space.path("initramfs"));
    qemu.args(["-global", "virtio-mmio.force-legacy=false"]);
    qemu.args(["-append", "earlyprintk=serial,ttyS0,115200,keep panic=-1 reboot=t tsc=reliable quiet"]);
    qemu.arg("-chardev").arg(format!("socket,id=fs,path={}", socket.display()));
    qemu.args([
        "-device",
        "vhost-user-fs-device,chardev=fs,tag=root",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]);
    qemu.arg("-serial").arg(format!("file:{}", console.display())).stdin(Stdio::null());
    let child = qemu.spawn().map_err(FsError::io("qemu-system-x86_64"))?;
    let work = space.path("root/work");
    let end = wait(child, "virtiofsd", &work.join(TIMES));
    for log in [console, work.join("log")] {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().for_each(|line| progress(&format!("virtiofsd: {line}")));
    }
    end
}

/// A static busybox, and what it does.
fn initramfs(space: &Workspace, marks: &str) -> Result<(), FsError> {
    let tree = space.path("initramfs.d");
    for directory in ["bin", "root", "dev"] {
        fs::create_dir_all(tree.join(directory)).map_err(FsError::io(&tree))?;
    }
    let init = tree.join("init");
    fs::write(&init, INIT.replace("MARKS", marks)).map_err(FsError::io(&init))?;
    run_program(Command::new("chmod").arg("755").arg(&init))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
    copy(busybox.unwrap_or(Path::new("/bin/busybox")), &tree.join("bin/busybox"))?;
    symlink("busybox", tree.join("bin/sh")).map_err(FsError::io(&tree))?;
    let pack = "cd \"$0\" && find . | LC_ALL=C sort | cpio -o -H newc --quiet >\"$1\"";
    run_program(Command::new("sh").args(["-c", pack]).arg(&tree).arg(space.path("initramfs")))
}

/// The counters that `requests.c` has left, summed up to each mark. The lookup of a mark counts before it, and is taken out.
fn read_counters(path: &Path) -> Result<Vec<Counters>, FsError> {
    let bytes = fs::read(path).map_err(FsError::io(path))?;
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
    let mut sums = [0; OPCODES];
    let mut marks = Vec::new();
    for record in words.chunks_exact(OPCODES).take(2 * STEPS.len()) {
        for (opcode, (sum, count)) in sums.iter_mut().zip(record).enumerate() {
            *sum += count - u64::from(opcode == LOOKUP && *count > 0);
        }
        let named = sums.iter().enumerate().filter(|(_, count)| **count > 0);
        marks.push(named.map(|(opcode, count)| (opcode_name(opcode), *count)).collect());
    }
    Ok(marks)
}

/// As drupe names the opcodes; the number of others.
fn opcode_name(opcode: usize) -> String {
    const NAMES: [(usize, &str); 29] = [
        (1, "LOOKUP"),
        (2, "FORGET"),
        (3, "GETATTR"),
        (4, "SETATTR"),
        (5, "READLINK"),
        (6, "SYMLINK"),
        (8, "MKNOD"),
        (9, "MKDIR"),
        (10, "UNLINK"),
        (11, "RMDIR"),
        (12, "RENAME"),
        (13, "LINK"),
        (14, "OPEN"),
        (15, "READ"),
        (16, "WRITE"),
        (17, "STATFS"),
        (18, "RELEASE"),
        (20, "FSYNC"),
        (21, "SETXATTR"),
        (22, "GETXATTR"),
        (25, "FLUSH"),
        (27, "OPENDIR"),
        (28, "READDIR"),
        (29, "RELEASEDIR"),
        (35, "CREATE"),
        (39, "IOCTL"),
        (42, "BATCH_FORGET"),
        (44, "READDIRPLUS"),
        (45, "RENAME2"),
    ];
    let name = NAMES.iter().find(|(number, _)| *number == opcode);
    name.map_or_else(|| opcode.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_up_and_marks_are_not_counted() {
        let mut records = vec![0_u64; 3 * OPCODES];
        // Before the first mark: its own lookup and another, and one that a guest forgets.
        (records[LOOKUP], records[2]) = (2, 1);
        // In the step, with the lookup of the mark at its end; the rest comes later.
        (records[OPCODES + LOOKUP], records[OPCODES + 35]) = (4, 7);
        let path = std::env::temp_dir().join(format!("counters-{}", std::process::id()));
        let bytes: Vec<u8> = records.iter().flat_map(|word| word.to_le_bytes()).collect();
        fs::write(&path, bytes).unwrap();
        let marks = read_counters(&path);
        fs::remove_file(&path).unwrap();
        let marks = marks.unwrap();
        let named = |pairs: &[(&str, u64)]| -> Counters {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        assert_eq!(marks[0], named(&[("LOOKUP", 1), ("FORGET", 1)]));
        assert_eq!(marks[1], named(&[("LOOKUP", 4), ("FORGET", 1), ("CREATE", 7)]));
    }
}
