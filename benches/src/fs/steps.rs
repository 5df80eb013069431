//! What is measured, in order.

/// One thing that a guest does, and that is measured as a whole.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its name in reports.
    pub(crate) name: &'static str,
    /// Whether the guest forgets all it knows before. The host never does.
    pub(crate) cold: bool,
    /// What is done.
    pub(crate) work: Work,
}

/// What a step does, in the directory of the steps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// A program with its arguments.
    Program(&'static [&'static str]),
    /// Transfers of the file [`FILE`].
    Transfer(Transfer),
}

/// Equal reads or writes of one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    /// Whether it writes.
    pub(crate) writes: bool,
    /// Whether the places are random, or one after the other.
    pub(crate) random: bool,
    /// Bytes of each.
    pub(crate) block: usize,
    /// How many.
    pub(crate) count: usize,
}

/// The file of the transfers.
pub(crate) const FILE: &str = "data";
/// Its size in bytes.
pub(crate) const FILE_SIZE: usize = 64 << 20;

const fn program(name: &'static str, cold: bool, words: &'static [&'static str]) -> Step {
    Step { name, cold, work: Work::Program(words) }
}

const fn transfer(name: &'static str, writes: bool, random: bool, block: usize, count: usize) -> Step {
    Step { name, cold: true, work: Work::Transfer(Transfer { writes, random, block, count }) }
}

/// All steps. What is warm comes right after the same thing cold.
pub(crate) const STEPS: &[Step] = &[
    transfer("write 1 MiB, sequential", true, false, 1 << 20, FILE_SIZE >> 20),
    transfer("read 1 MiB, sequential", false, false, 1 << 20, FILE_SIZE >> 20),
    transfer("write 4 KiB, random", true, true, 4096, 1000),
    transfer("read 4 KiB, random", false, true, 4096, 1000),
    program("untar", true, &["tar", "-xf", "files.tar"]),
    program("find, cold", true, &["find", "files", "-type", "f", "-name", "none"]),
    program("find, warm", false, &["find", "files", "-type", "f", "-name", "none"]),
    program("find by size, cold", true, &["find", "files", "-size", "+1M"]),
    program("rm -rf", true, &["rm", "-rf", "files"]),
    program("git status, cold", true, &["git", "-C", "repository", "status", "--porcelain"]),
    program("git status, warm", false, &["git", "-C", "repository", "status", "--porcelain"]),
    program("perl, cold", true, &["perl", "-e", "1"]),
    program("perl, warm", false, &["perl", "-e", "1"]),
    program("python3, cold", true, &["python3", "-c", "1"]),
    program("python3, warm", false, &["python3", "-c", "1"]),
];
