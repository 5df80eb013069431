//! A share behaves like the host's file system below it: the same random calls (images/fscalls) give the same results
//! in a container on a share and on the host, on one disk, and leave the same tree.
//!
//! A failure shows the first difference and how to make it again. `DRUPE_TEST_SHRINK=1` has it looked for with as few
//! calls as possible.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bundle::fscalls_program;
use crate::case::{Case, is_soak};
use crate::disk::{Disk, available};
use crate::stage::Stage;

/// Calls of one run. The tree is compared after them.
const CALLS: u32 = 1000;

/// Runs of each cast in the soak: 10^5 calls.
const SEEDS_OF_SOAK: u32 = 34;

/// Calls that differ for root without CAP_FSETID: FUSE says of these calls who makes them, not with which capabilities, so
/// that set-user-ID stays.
const LEFT_OUT_BARE: &str = "fallocate,copy";

/// What the program needs, as any container may have it.
const CAPABILITIES: [&str; 10] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in 1..=if is_soak() { SEEDS_OF_SOAK } else { 1 } {
        for cast in ["root", "user", "bare"] {
            let body = move |stage: &Stage| same(stage, cast, seed);
            cases.push(Case::new(format!("fscalls::as_{cast}_{seed}"), body).needs(available).cost(5));
        }
    }
    cases
}

fn same(stage: &Stage, cast: &str, seed: u32) {
    let disk = Disk::new(stage, 1024);
    let pair = Pair { stage, disk: &disk, cast, seed };
    let Some(difference) = pair.difference(&["--first", "0", "--count", &CALLS.to_string()]) else { return };
    let again = pair.again(&difference);
    panic!("seed {seed} as {cast}:\n{}\n  {again}", difference.text);
}

#[track_caller]
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {} {complaint}", output.status);
    output.stdout
}

/// The same calls on the host and in a container.
struct Pair<'t> {
    stage: &'t Stage,
    disk: &'t Disk,
    cast: &'t str,
    seed: u32,
}

/// The first line that differs.
struct Difference {
    /// The operation that it is about, or the last one before the tree that it is in.
    operation: u64,
    /// Whether it is about a tree.
    in_tree: bool,
    text: String,
}

impl Pair<'_> {
    fn difference(&self, which: &[&str]) -> Option<Difference> {
        let options = self.options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let (ours, shared) = (self.disk.directory("host"), self.disk.directory("share"));
        let mut on_host = Command::new(fscalls_program());
        let host = run(on_host.args(&options).args(which).arg(&ours));
        let args = [&["/fscalls"], &options[..], which, &["/data"]].concat();
        let bundle = self.stage.bundle(&args).capabilities(&CAPABILITIES);
        fs::copy(fscalls_program(), bundle.rootfs().join("fscalls")).expect("a copy of the program");
        let output = bundle.bind(&shared, "/data", &["rbind", "rw"]).run();
        if let Some(difference) = first_difference(&host, &output.stdout) {
            return Some(difference);
        }
        output.assert_status(0);
        // What the host finds afterwards is what the container has seen.
        let (ours, theirs) = (dump(&ours), dump(&shared));
        first_difference(&ours, &theirs)
    }

    fn options(&self) -> Vec<String> {
        let seed = self.seed.to_string();
        let mut options = vec!["--as", self.cast, "--seed", &seed];
        if self.cast == "bare" {
            options.extend(["--without", LEFT_OUT_BARE]);
        }
        options.into_iter().map(str::to_owned).collect()
    }

    /// How to see a difference again.
    fn again(&self, difference: &Difference) -> String {
        let first = difference.operation / 1000 * 1000;
        let mut which = format!("--first {first} --count {}", difference.operation + 1 - first);
        if std::env::var_os("DRUPE_TEST_SHRINK").is_some() {
            let list = self.shrink((first..=difference.operation).collect(), difference);
            let list: Vec<String> = list.iter().map(u64::to_string).collect();
            which = format!("--only {}", list.join(","));
            if let Some(difference) = self.difference(&which.split(' ').collect::<Vec<_>>()) {
                which = format!("{which}\nwhere it is\n{}\nof\n{}", difference.text, self.listing(&which));
            }
        }
        format!("again with: fscalls {} {which}", self.options().join(" "))
    }

    /// What the host's run prints.
    fn listing(&self, which: &str) -> String {
        let mut command = Command::new(fscalls_program());
        command.args(self.options()).args(which.split(' '));
        String::from_utf8_lossy(&run(command.arg(self.disk.directory("host")))).into_owned()
    }

    /// Leaves out operations for as long as a difference of the same operation stays.
    fn shrink(&self, mut list: Vec<u64>, difference: &Difference) -> Vec<u64> {
        let mut piece = list.len().div_ceil(2);
        loop {
            let mut from = 0;
            while from < list.len() {
                let rest: Vec<u64> = list
                    .iter()
                    .copied()
                    .enumerate()
                    .filter(|(at, _)| !(from..from + piece).contains(at))
                    .map(|(_, number)| number)
                    .collect();
                let numbers: Vec<String> = rest.iter().map(u64::to_string).collect();
                let stays = !rest.is_empty()
                    && self.difference(&["--only", &numbers.join(",")]).is_some_and(|found| {
                        found.in_tree == difference.in_tree
                            && (found.in_tree || found.operation == difference.operation)
                    });
                if stays { list = rest } else { from += piece }
            }
            if piece == 1 {
                return list;
            }
            piece = piece.div_ceil(2);
        }
    }
}

fn dump(directory: &Path) -> Vec<u8> {
    run(Command::new(fscalls_program()).arg("dump").arg(directory))
}

fn first_difference(host: &[u8], share: &[u8]) -> Option<Difference> {
    let mut operation = 0;
    let (mut ours, mut theirs) = (host.split(|byte| *byte == b'\n'), share.split(|byte| *byte == b'\n'));
    loop {
        let (our, their) = match (ours.next(), theirs.next()) {
            (None, None) => return None,
            (our, their) => (text(our), text(their)),
        };
        let number = our.split([' ', '\'']).next().and_then(|word| word.parse().ok());
        operation = number.unwrap_or(operation);
        if our != their {
            let in_tree = number.is_none();
            return Some(Difference { operation, in_tree, text: format!("host:  {our}\nshare: {their}") });
        }
    }
}

fn text(line: Option<&[u8]>) -> String {
    line.map_or_else(|| "(the end)".to_owned(), |line| String::from_utf8_lossy(line).into_owned())
}
