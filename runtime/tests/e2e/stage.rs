//! Where one case plays: a temporary directory, a state root, ids that nobody else uses, and the check that
//! nothing is left when the case is over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::bundle::{Bundle, Image};
use crate::subject::{Kind, Subject};

/// Ids are numbered over the whole run.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// How often, and how long between, to look for something to be gone: ending a process takes the kernel a while.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// The surroundings of one case.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) subject: &'static Subject,
    dir: TempDir,
    ids: Mutex<Vec<String>>,
}

impl Stage {
    pub(crate) fn new(subject: &'static Subject) -> Self {
        let dir = tempfile::Builder::new().prefix("drupe-e2e-").tempdir().expect("a temporary directory");
        // Others than root must get through to bind mounts in it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("own directory");
        Self { subject, dir, ids: Mutex::default() }
    }

    /// The state root: `--root`.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A path in the case's directory that nothing is at yet.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory of the host for a mount; everyone may write to it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("a new directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("own directory");
        path
    }

    /// A file of the host.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a new file");
        path
    }

    fn ids(&self) -> MutexGuard<'_, Vec<String>> {
        self.ids.lock().expect("no panic while it is held")
    }

    /// An id of its own for a container.
    pub(crate) fn id(&self) -> String {
        let id = format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.ids().push(id.clone());
        id
    }

    /// A busybox bundle whose root filesystem is a copy of its own.
    pub(crate) fn bundle(&self, args: &[&str]) -> Bundle<'_> {
        Bundle::copy(self, args)
    }

    /// A busybox bundle that has the probe at /probe.
    pub(crate) fn probe(&self, args: &[&str]) -> Bundle<'_> {
        let bundle = Bundle::copy(self, args);
        bundle.add_probe();
        bundle
    }

    /// A bundle on an image that is shared, read-only.
    pub(crate) fn shared(&self, image: Image, args: &[&str]) -> Bundle<'_> {
        Bundle::shared(self, image, args)
    }

    /// Fails if anything of the case's containers is still there.
    pub(crate) fn assert_nothing_left(&self) {
        let mut left = Vec::new();
        for _ in 0..LOOKS {
            left = self.left();
            if left.is_empty() {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("left behind: {left:#?}");
    }

    /// Processes of this case's containers, the runtime's own included: pid and command line.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let ids = self.ids();
        let pids = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
            let ours = |text: &str| ids.iter().any(|id| mentions(text, id));
            (ours(&command) || ours(&cgroup)).then_some((pid, command))
        })
        .collect()
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let state = fs::read_dir(self.state()).into_iter().flatten().flatten();
        left.extend(state.map(|entry| format!("state {}", entry.path().display())));
        left.extend(self.processes().iter().map(|(pid, command)| format!("process {pid}: {command}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let dir = self.dir.path().to_str().expect("UTF-8");
        left.extend(mounts.lines().filter(|line| line.contains(dir)).map(|line| format!("mount {line}")));
        self.cgroups(Path::new("/sys/fs/cgroup"), 4, &mut left);
        left
    }

    fn cgroups(&self, dir: &Path, depth: u32, left: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_ours = self.ids().iter().any(|id| mentions(&name, id));
            // runc gives up on a cgroup that is busy for a moment: it is the machine's slowness, not a case's matter.
            let is_forgiven = || self.subject.kind == Kind::Other && fs::remove_dir(entry.path()).is_ok();
            if is_ours && !is_forgiven() {
                left.push(format!("cgroup {}", entry.path().display()));
            }
            if depth > 1 {
                self.cgroups(&entry.path(), depth - 1, left);
            }
        }
    }
}

/// Whether a text has the id, and not just a longer one that begins like it.
fn mentions(text: &str, id: &str) -> bool {
    text.match_indices(id)
        .any(|(at, _)| !text[at + id.len()..].starts_with(|next: char| next.is_ascii_digit()))
}
