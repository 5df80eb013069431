//! End-to-end cases: the real binary runs real bundles, and what comes out is compared with what a user of an
//! OCI runtime expects. The same cases run against runc, which proves that the cases are right.
//!
//! Each case has a temporary directory with its bundles and a state root of its own, and passes only if
//! nothing is left behind: no state, process, mount or cgroup.
//!
//! | variable | meaning |
//! |---|---|
//! | `DRUPE_TEST_RUNTIME` | the runtime to test; default: the drupe of this build |
//! | `DRUPE_TEST_PROBE` | the probe program; default: the drupe-probe of this build |
//! | `DRUPE_TEST_FSCALLS` | the program of file system calls; default: the drupe-fscalls of this build |
//! | `DRUPE_TEST_SHRINK=1` | a difference between share and host is looked for with as few calls as possible |
//! | `DRUPE_TEST_OTHER_INITRAMFS` | an initramfs whose agent is of another build |
//! | `DRUPE_REQUIRE_KVM=1` | cases that need a machine fail where there is none, instead of being ignored |
//! | `DRUPE_TEST_SCALE=soak` | ten times the repetitions |
//! | `DRUPE_TEST_ONLY` | only the cases of these names |
//! | `DRUPE_TEST_SHARD=K/N` | only the K-th (from 1) of N parts of about the same length |
//! | `DRUPE_KERNEL`, `DRUPE_INITRAMFS` | passed on to drupe |

mod bad_guest;
mod bad_input;
mod bundle;
mod caller;
mod case;
mod cgroups;
mod container;
mod crash;
mod crash_steps;
mod debian;
mod disk;
mod exit_status;
mod failing_disk;
mod fields;
mod filesystem;
mod fscalls;
mod hooks;
mod isolation;
mod labels;
mod layers;
mod many;
mod mount_safety;
mod mounts;
#[path = "../../../images/probe/src/pattern.rs"]
mod pattern;
mod pidfd_socket;
mod preserve_fds;
mod process;
mod receiver;
mod rootless;
mod round_trips;
mod running;
mod signals;
mod size;
mod stage;
mod stale;
mod state_machine;
mod stdio;
mod steps;
mod streaming;
mod stress;
mod subject;
mod systemd;
mod terminals;
mod verbs;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use case::Case;
use subject::{Kind, Subject};

fn main() -> ExitCode {
    if let Some(status) = caller::act() {
        return status;
    }
    let args = Arguments::from_args();
    running::default_signals();
    case::keep_panics();
    let subject: &'static Subject = Box::leak(Box::new(Subject::from_env()));
    let cases = case::selected(all());
    if !args.list {
        eprintln!("runtime under test: {}", subject.program.display());
        if let (Kind::Drupe, Err(reason)) = (subject.kind, subject.machine()) {
            eprintln!("cases that need a machine cannot run here: {reason}");
        }
    }
    let trials = cases.into_iter().map(|case| case.into_trial(subject)).collect();
    libtest_mimic::run(&args, trials).exit_code()
}

fn all() -> Vec<Case> {
    let areas = [
        exit_status::cases,
        stdio::cases,
        streaming::cases,
        signals::cases,
        mounts::cases,
        mount_safety::cases,
        failing_disk::cases,
        process::cases,
        fields::cases,
        filesystem::cases,
        fscalls::cases,
        size::cases,
        debian::cases,
        isolation::cases,
        layers::cases,
        labels::cases,
        cgroups::cases,
        rootless::cases,
        round_trips::cases,
        systemd::cases,
        many::cases,
        bad_input::cases,
        bad_guest::cases,
        verbs::cases,
        state_machine::cases,
        hooks::cases,
        preserve_fds::cases,
        pidfd_socket::cases,
        terminals::cases,
        stale::cases,
        crash::cases,
        crash_steps::cases,
        stress::cases,
    ];
    areas.iter().flat_map(|area| area()).collect()
}
