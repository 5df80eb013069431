//! The rules of the house that no compiler knows: who depends on whom, where foreign types may be named, how long
//! files are, and that the documentation of fields is the table that the code uses.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use drupe::plan::support::{FIELDS, Support};

const LONGEST_FILE: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the members, by its path from the root of the workspace.
fn rust_files() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    for member in ["vmm", "protocol", "agent", "runtime", "images", "benches"] {
        walk(&root.join(member), &mut found);
    }
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    assert!(found.len() > 50, "{found:?}");
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Files outside `allowed` whose code, without comments, holds `word`.
fn users(word: &str, allowed: &[&str]) -> Vec<String> {
    let uses =
        |text: &str| text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
    rust_files()
        .into_iter()
        .filter(|(path, text)| !path.ends_with("house.rs") && uses(text))
        .map(|(path, _)| path)
        .filter(|path| !allowed.iter().any(|allowed| path.starts_with(allowed)))
        .collect()
}

#[test]
fn members_depend_in_one_direction() {
    let ours = |member: &str| -> Vec<String> {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let names = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("drupe")).map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(ours("vmm"), Vec::<String>::new());
    assert_eq!(ours("protocol"), Vec::<String>::new());
    assert_eq!(ours("agent"), ["drupe-protocol"]);
    assert_eq!(ours("runtime"), ["drupe-protocol", "drupe-vmm"]);
}

#[test]
fn foreign_types_stay_where_they_belong() {
    let none = Vec::<String>::new();
    let oci = ["runtime/src/bundle", "runtime/src/plan", "runtime/src/state"];
    assert_eq!(users("oci_spec::", &oci), none);
    let kvm = ["vmm/src/kvm", "vmm/src/arch"];
    assert_eq!(users("kvm_ioctls::", &kvm), none);
    assert_eq!(users("kvm_bindings::", &kvm), none);
    let arch = ["vmm", "runtime", "agent", "images/probe"].map(|member| format!("{member}/src/arch/mod.rs"));
    assert_eq!(users("target_arch", &arch.each_ref().map(String::as_str)), none);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (path, text) in rust_files() {
        assert!(text.lines().count() <= LONGEST_FILE, "{path} has over {LONGEST_FILE} lines");
        assert!(text.starts_with("//!"), "{path} does not begin with a //! that says what it is");
    }
}

/// `UPDATE_GOLDENS=1 cargo test -p drupe --test house` writes the document anew.
#[test]
fn the_document_of_fields_is_the_table() {
    let mut text = String::from(
        "# What becomes of each field of config.json\n\n\
         The fields of the OCI runtime specification for Linux, as `runtime/src/plan/support/fields.rs` has them; this file\n\
         is printed from it. *Applied*: with all that is below it, and where. *Warned*: the container runs without it, and\n\
         says so by name. *Refused*: the container does not run, and the field is named. Unknown fields are ignored, as the\n\
         specification demands. A test compares the table with the specification's JSON schema, in both directions.\n\n\
         | field | | |\n|---|---|---|\n",
    );
    for (field, support) in FIELDS {
        let (word, reason) = match support {
            Support::Applied(place) => ("applied", *place),
            Support::Parts => continue,
            Support::Warned(reason) => ("warned", *reason),
            Support::Refused(reason) => ("refused", *reason),
        };
        writeln!(text, "| `{field}` | {word} | {reason} |").unwrap();
    }
    let path = root().join("docs/oci-support.md");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "see the comment above this test");
}
