//! Bad input that shows only with a machine: programs that cannot run, a kernel or an initramfs that is none,
//! and options that are not honoured yet.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bad_input::assert_refused;
use crate::case::Case;
use crate::pattern;
use crate::running::Running;
use crate::stage::Stage;

const NO_SUCH_PARTS: &str = "other runtimes have neither kernel nor initramfs";

const OTHER_INITRAMFS: &str = "DRUPE_TEST_OTHER_INITRAMFS";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = commands();
    cases.extend(machine_files());
    cases.extend(options());
    cases.push(
        Case::new("bad_guest::agent_of_another_build", |stage| {
            let other = PathBuf::from(std::env::var_os(OTHER_INITRAMFS).expect("checked before"));
            run_with(stage, "DRUPE_INITRAMFS", &other, &["agent"]);
        })
        .drupe_only(NO_SUCH_PARTS)
        .needs_variable(OTHER_INITRAMFS),
    );
    cases
}

/// The status is a shell's: 127 for a program that is not there, 126 for one that cannot be executed.
fn commands() -> Vec<Case> {
    let commands = [
        ("name_not_in_path", "no-such-program", 127),
        ("path_not_there", "/bin/no-such-program", 127),
        ("directory_not_there", "/nowhere/program", 127),
        ("not_executable", "/etc/passwd", 126),
        ("a_directory", "/etc", 126),
        ("not_a_program", "/garbage", 126),
    ];
    let case = |(name, program, status): (&str, &'static str, i32)| {
        Case::new(format!("bad_guest::command_{name}"), move |stage| {
            let bundle = stage.bundle(&[program]);
            let garbage = bundle.rootfs().join("garbage");
            fs::write(&garbage, "\u{1}\u{2}\u{3}").expect("a file");
            fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755)).expect("own file");
            assert_refused(stage, &bundle.run(), status, &[program]);
        })
    };
    commands.into_iter().map(case).collect()
}

/// A kernel or an initramfs that cannot be used, made from the one that can.
fn machine_files() -> Vec<Case> {
    type Spoil = fn(&Path, &Path);
    let half: Spoil = |good, bad| {
        let bytes = fs::read(good).expect("the good file");
        fs::write(bad, &bytes[..bytes.len() / 2]).expect("a file");
    };
    let garbage: Spoil = |_, bad| {
        let mut bytes = vec![0; 1 << 20];
        pattern::fill(0, &mut bytes);
        fs::write(bad, bytes).expect("a file");
    };
    let spoilers: [(&str, Spoil); 4] = [
        ("absent", |_, _| ()),
        ("empty", |_, bad| fs::write(bad, "").expect("a file")),
        ("cut_in_half", half),
        ("garbage", garbage),
    ];
    let mut cases = Vec::new();
    for variable in ["DRUPE_KERNEL", "DRUPE_INITRAMFS"] {
        for (name, spoil) in spoilers {
            let part = variable.trim_start_matches("DRUPE_").to_lowercase();
            let case = Case::new(format!("bad_guest::{part}_{name}"), move |stage| {
                let good = std::env::var_os(variable).expect("checked before");
                let bad = stage.path("spoiled");
                spoil(Path::new(&good), &bad);
                run_with(stage, variable, &bad, &[bad.to_str().expect("UTF-8")]);
            });
            cases.push(case.drupe_only(NO_SUCH_PARTS).needs_variable(variable));
        }
    }
    cases
}

/// Runs with one variable changed; it must be refused, and name what is wrong.
fn run_with(stage: &Stage, variable: &str, value: &Path, names: &[&str]) {
    let bundle = stage.bundle(&["echo", "ran"]);
    bundle.write();
    let mut command = bundle.command();
    let output = Running::start(command.env(variable, value).stdin(std::process::Stdio::null())).finish();
    assert_refused(stage, &output, 1, names);
}

/// Options that drupe does not honour yet: it says so by name, and either refuses or goes on. An option leaves
/// this list when it is honoured, and a case that shows it takes its place.
fn options() -> Vec<Case> {
    type Set = fn(&mut Value);
    let options: [(&str, Set); 4] = [
        ("process.apparmorProfile", |c| c["process"]["apparmorProfile"] = json!("unconfined")),
        ("process.selinuxLabel", |c| {
            c["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0")
        }),
        ("linux.mountLabel", |c| c["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0")),
        ("linux.intelRdt", |c| c["linux"]["intelRdt"] = json!({ "closID": "a" })),
    ];
    let case = |(field, set): (&'static str, Set)| {
        let case = Case::new(format!("bad_guest::not_honoured_{field}"), move |stage| {
            let output = stage.bundle(&["true"]).with(set).run();
            let text = output.stderr_text();
            assert!(text.lines().any(|line| line.contains(field)), "{field} is silently dropped: {output:?}");
        });
        case.drupe_only("what is honoured differs between runtimes")
    };
    options.into_iter().map(case).collect()
}
