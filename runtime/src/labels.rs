//! `process.apparmorProfile` and `process.selinuxLabel`, applied to the monitor: the guest's kernel has no security modules,
//! but what a takeover of the monitor could reach is confined as the container would be.
//!
//! The monitor executes nothing, so the label is that of the process from now on and not that of its next program. Hooks are
//! run before. SELinux refuses it to a process with several threads.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::plan::Labels;

/// A label that the host's security module does not let the monitor have.
#[derive(Debug, thiserror::Error)]
#[error("config.json: {field}: {label:?}: {module} does not let the monitor have it: {}", path.display())]
pub(crate) struct LabelError {
    field: &'static str,
    label: String,
    module: Module,
    path: PathBuf,
    source: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    AppArmor,
    SeLinux,
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppArmor => "AppArmor",
            Self::SeLinux => "SELinux",
        })
    }
}

impl Module {
    fn field(self) -> &'static str {
        match self {
            Self::AppArmor => "process.apparmorProfile",
            Self::SeLinux => "process.selinuxLabel",
        }
    }

    /// Whether the host has it, with `root` for its root directory. In a container that is not shown selinuxfs SELinux is
    /// not ours to use, as for libselinux.
    fn is_enabled(self, root: &Path) -> bool {
        match self {
            Self::AppArmor => fs::read_to_string(root.join("sys/module/apparmor/parameters/enabled"))
                .is_ok_and(|enabled| enabled.trim() == "Y"),
            Self::SeLinux => root.join("sys/fs/selinux/enforce").exists(),
        }
    }

    /// Where this thread's label is.
    fn file(self, root: &Path) -> PathBuf {
        let own = root.join("proc/thread-self/attr");
        let modern = own.join("apparmor/current");
        match self {
            Self::AppArmor if modern.exists() => modern,
            _ => own.join("current"),
        }
    }

    /// What is written there for a label.
    fn request(self, label: &str) -> String {
        match self {
            Self::AppArmor => format!("changeprofile {label}"),
            Self::SeLinux => label.to_owned(),
        }
    }

    fn apply(self, label: &str, root: &Path) -> Result<(), LabelError> {
        let path = self.file(root);
        let current = fs::read_to_string(&path).unwrap_or_default();
        // AppArmor tells the profile's mode as well: `name (enforce)`.
        let current = current.trim_end_matches(['\0', '\n']).split(" (").next().unwrap_or_default();
        if current == label {
            return Ok(());
        }
        // The whole of it must be one write(2).
        let written = File::options()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(self.request(label).as_bytes()));
        let (field, label, module) = (self.field(), label.to_owned(), self);
        written.map_err(|source| LabelError { field, label, module, path, source })
    }
}

/// Says which labels the monitor will not have, since this host does not have their modules.
pub(crate) fn warn_of_missing(labels: &Labels) {
    for module in missing(labels, Path::new("/")) {
        log::warn!("config.json: {}: not applied to the monitor: no {module} on this host", module.field());
    }
}

/// Gives this process its labels, as far as the host has their modules.
pub(crate) fn apply(labels: &Labels) -> Result<(), LabelError> {
    apply_in(labels, Path::new("/"))
}

fn apply_in(labels: &Labels, root: &Path) -> Result<(), LabelError> {
    given(labels)
        .filter(|(module, _)| module.is_enabled(root))
        .try_for_each(|(module, label)| module.apply(label, root))
}

fn missing(labels: &Labels, root: &Path) -> Vec<Module> {
    given(labels).map(|(module, _)| module).filter(|module| !module.is_enabled(root)).collect()
}

fn given(labels: &Labels) -> impl Iterator<Item = (Module, &str)> {
    let pairs =
        [(Module::AppArmor, labels.apparmor.as_deref()), (Module::SeLinux, labels.selinux.as_deref())];
    pairs.into_iter().filter_map(|(module, label)| Some((module, label?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::chain;

    const CONTEXT: &str = "system_u:system_r:container_kvm_t:s0:c1,c2";

    fn labels() -> Labels {
        Labels { apparmor: Some("guarded".into()), selinux: Some(CONTEXT.into()), mount: None }
    }

    /// A host, as files say what it has.
    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn read(root: &tempfile::TempDir, path: &str) -> String {
        fs::read_to_string(root.path().join(path)).unwrap()
    }

    #[test]
    fn a_host_without_the_modules_is_told_of_and_nothing_is_written() {
        for files in [
            [("sys/module/apparmor/parameters/enabled", "N\n"), ("proc/thread-self/attr/current", "x")],
            [("sys/fs/cgroup", ""), ("proc/thread-self/attr/current", "x")],
        ] {
            let root = host(&files);
            assert_eq!(missing(&labels(), root.path()), [Module::AppArmor, Module::SeLinux]);
            apply_in(&labels(), root.path()).unwrap();
            assert_eq!(read(&root, "proc/thread-self/attr/current"), "x");
        }
        let root = host(&[]);
        assert_eq!(missing(&Labels::default(), root.path()), []);
    }

    #[test]
    fn the_profile_is_changed() {
        let enabled = ("sys/module/apparmor/parameters/enabled", "Y\n");
        for file in ["proc/thread-self/attr/apparmor/current", "proc/thread-self/attr/current"] {
            let root = host(&[enabled, (file, "")]);
            assert_eq!(missing(&labels(), root.path()), [Module::SeLinux]);
            apply_in(&labels(), root.path()).unwrap();
            assert_eq!(read(&root, file), "changeprofile guarded");
        }
    }

    #[test]
    fn the_context_is_changed() {
        let current = "proc/thread-self/attr/current";
        let root = host(&[("sys/fs/selinux/enforce", "1"), (current, "")]);
        assert_eq!(missing(&labels(), root.path()), [Module::AppArmor]);
        apply_in(&labels(), root.path()).unwrap();
        assert_eq!(read(&root, current), CONTEXT);
    }

    #[test]
    fn a_label_that_the_process_has_is_left() {
        for current in ["guarded (enforce)\n", "guarded\n"] {
            let file = "proc/thread-self/attr/apparmor/current";
            let root = host(&[("sys/module/apparmor/parameters/enabled", "Y"), (file, current)]);
            apply_in(&labels(), root.path()).unwrap();
            assert_eq!(read(&root, file), current);
        }
        let file = "proc/thread-self/attr/current";
        let root = host(&[("sys/fs/selinux/enforce", "0"), (file, &format!("{CONTEXT}\0"))]);
        apply_in(&labels(), root.path()).unwrap();
        assert_eq!(read(&root, file), format!("{CONTEXT}\0"));
    }

    #[test]
    fn a_label_that_the_host_refuses_is_named() {
        let root = host(&[("sys/module/apparmor/parameters/enabled", "Y")]);
        let error = chain(&apply_in(&labels(), root.path()).unwrap_err());
        let start =
            "config.json: process.apparmorProfile: \"guarded\": AppArmor does not let the monitor have it: ";
        assert!(
            error.starts_with(start) && error.ends_with("No such file or directory (os error 2)"),
            "{error}"
        );
        let root = host(&[("sys/fs/selinux/enforce", "1")]);
        let error = chain(&apply_in(&labels(), root.path()).unwrap_err());
        assert!(error.starts_with("config.json: process.selinuxLabel: "), "{error}");
    }
}
