//! pjdfstest: hundreds of small tests of what POSIX says, in a guest and natively on the same directory. The verdicts are the
//! same, but for a list that is published.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bundle::Bundle;
use crate::case::Case;
use crate::container::Container;
use crate::disk::Disk;
use crate::stage::Stage;
use crate::subject::Subject;
use crate::{TOOLS, TOOLS_INSIDE, VOLUME_INSIDE, with_tools};

const DIFFERENCES: &str = include_str!("differences");
const PUBLISHED: &str = include_str!("../../../docs/filesystem.md");
const MOST_DIFFERENCES: usize = 5;
const CONFIGURATION: &str = include_str!("pjdfstest.toml");
/// All tests, by what they are called; several runs, so that each ends before it counts as hung. `link::` is in `unlink::` and
/// `symlink::`, `truncate::` in `ftruncate::`.
const RUNS: [&[&str]; 5] = [
    &["chmod::", "chown::"],
    &["link::"],
    &["mkdir::", "mkfifo::", "mknod::"],
    &["rename::"],
    &["open::", "posix_fallocate::", "rmdir::", "truncate::", "utimensat::"],
];
/// As many as version 0.2.2 has for Linux.
const TESTS: usize = 398;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("pjdfstest::the_guest_and_the_host_agree", agree)
            .drupe_only("the comparison is with runc")
            .needs_variable(TOOLS)
            .cost(80),
        Case::new("pjdfstest::the_differences_are_few_and_published", published)
            .drupe_only("they are drupe's")
            .before_any_machine(),
    ]
}

/// A line of the list.
struct Difference {
    /// A name, or `*` and the end of names.
    test: &'static str,
    natively: &'static str,
    in_the_guest: &'static str,
    reason: &'static str,
}

impl Difference {
    fn names(&self, test: &str) -> bool {
        self.test.strip_prefix('*').map_or(self.test == test, |end| test.ends_with(end))
    }
}

fn differences() -> Vec<Difference> {
    let lines = DIFFERENCES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let difference = |line: &'static str| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("differences: {line:?}: a word is missing"));
        Difference { test: word(), natively: word(), in_the_guest: word(), reason: word() }
    };
    lines.map(difference).collect()
}

fn published(_: &Stage) {
    let differences = differences();
    assert!(differences.len() <= MOST_DIFFERENCES, "more than {MOST_DIFFERENCES} differences");
    for Difference { test, reason, .. } in differences {
        let row = format!("| `{test}` | {reason} |");
        assert!(PUBLISHED.lines().any(|line| line == row), "docs/filesystem.md lacks the line {row}");
    }
}

fn agree(stage: &Stage) {
    let native: &'static Subject = Box::leak(Box::new(Subject::of("runc".into())));
    let disk = Disk::new(stage, 512);
    let volume = disk.directory("volume");
    let mut here = verdicts(stage, &volume);
    let native_stage = Stage::new(native);
    let there = verdicts(&native_stage, &volume);
    native_stage.assert_nothing_left();
    assert_eq!((here.len(), there.len()), (TESTS, TESTS), "tests that were run");

    let mut wrong = Vec::new();
    for difference in differences() {
        let Difference { test, natively, in_the_guest, .. } = difference;
        let named: Vec<_> = there.iter().filter(|(name, _)| difference.names(name)).collect();
        if named.is_empty() {
            wrong.push(format!("{test}: listed as a difference, and no such test"));
        }
        for (name, native) in named {
            let guest = here.get_mut(name).unwrap_or_else(|| panic!("{name}: only natively"));
            if (native.word.as_str(), guest.word.as_str()) == (natively, in_the_guest) {
                guest.clone_from(native);
            } else {
                let (native, guest) = (native.text(), guest.text());
                wrong.push(format!(
                    "{name}: listed as {natively} natively and {in_the_guest} in the guest, and it is {native} and {guest}"
                ));
                here.remove(name);
            }
        }
    }
    for (test, native) in &there {
        if let Some(guest) = here.get(test).filter(|guest| guest.word != native.word) {
            let (native, guest) = (native.text(), guest.text());
            wrong.push(format!("{test}: natively {native}, in the guest {guest}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What became of a test.
#[derive(Clone, PartialEq, Eq)]
struct Verdict {
    /// `ok`, `FAILED` or `skipped`.
    word: String,
    /// Why it is not `ok`.
    why: String,
}

impl Verdict {
    fn text(&self) -> String {
        format!("{} {}", self.word, self.why).trim_end().to_owned()
    }
}

/// Runs all tests in a container of the stage's runtime.
fn verdicts(stage: &Stage, volume: &Path) -> BTreeMap<String, Verdict> {
    let container = Container::started(prepared(with_tools(stage, volume)));
    let program = format!("{TOOLS_INSIDE}/pjdfstest");
    let mut verdicts = BTreeMap::new();
    // Files that a test leaves open for writing keep a filesystem from being made read-only: those tests are on their own.
    let runs = RUNS.iter().map(|names| ("/pjdfstest.toml", *names));
    let mut skipped = BTreeMap::new();
    for (configuration, names) in runs.chain([("/remounts.toml", &["erofs"][..])]) {
        let words: [&str; 7] = [&program, "-c", configuration, "-p", VOLUME_INSIDE, "-s", "/second"];
        let output = container.exec(&[&words[..], names].concat());
        let text = output.stdout_text();
        assert!(text.contains("Summary: "), "{names:?}: {output:?}");
        for (test, verdict) in parse(&text) {
            let until_later = configuration == "/pjdfstest.toml" && test.contains("erofs");
            let into = if until_later { &mut skipped } else { &mut verdicts };
            assert!(into.insert(test.clone(), verdict).is_none(), "{test}: twice");
        }
    }
    assert!(skipped.keys().all(|test| verdicts.contains_key(test)), "tests of EROFS that were not run");
    container.end();
    verdicts
}

/// Adds what pjdfstest wants: its settings, another filesystem, rights, and a `sleep` that sleeps whatever it is called.
fn prepared(bundle: Bundle<'_>) -> Bundle<'_> {
    let root = bundle.rootfs();
    fs::write(root.join("pjdfstest.toml"), CONFIGURATION).expect("a file");
    let remounts = CONFIGURATION.replace("allow_remount = false", "allow_remount = true");
    fs::write(root.join("remounts.toml"), remounts).expect("a file");
    fs::create_dir_all(root.join("usr/local/bin")).expect("directories");
    fs::copy(root.join("probe"), root.join("usr/local/bin/sleep")).expect("a copy");
    let names: Vec<_> = RIGHTS.iter().map(|name| format!("CAP_{name}")).collect();
    let bundle = bundle.capabilities(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let second = json!({ "destination": "/second", "type": "tmpfs", "source": "tmpfs" });
    bundle.mount(second).with(|config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["process"]["env"].as_array_mut().expect("variables").push(json!("NO_COLOR=1"));
    })
}

const RIGHTS: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "SETGID",
    "SETUID",
    "SYS_ADMIN",
    "SYS_CHROOT",
];

/// The verdicts in what pjdfstest prints: a line with the name and the word; lines that say why begin with a tab.
fn parse(text: &str) -> Vec<(String, Verdict)> {
    let mut verdicts: Vec<(String, Verdict)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(test), Some(word @ ("ok" | "FAILED" | "skipped")), None) if test.contains("::") => {
                let verdict = Verdict { word: word.to_owned(), why: String::new() };
                verdicts.push((test.to_owned(), verdict));
            }
            _ if line.starts_with('\t') => {
                if let Some((_, verdict)) = verdicts.last_mut().filter(|(_, verdict)| verdict.why.is_empty())
                {
                    line.trim().clone_into(&mut verdict.why);
                }
            }
            _ => {}
        }
    }
    verdicts
}
