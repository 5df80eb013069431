//! The shared filesystem under tools that others have made for filesystems, and under power cuts: what a container finds on a
//! volume, and what it has synced, is what a process of the host would.
//!
//! The volume is on an ext4 of its own. The cases of fsx and of the power cuts run against runc as well, which proves that
//! they are right; those of pjdfstest compare with runc.
//!
//! | variable | meaning |
//! |---|---|
//! | `DRUPE_TEST_RUNTIME` | the runtime to test; default: the drupe of this build |
//! | `DRUPE_TEST_PROBE` | the probe program; default: the drupe-probe of this build |
//! | `DRUPE_TEST_TOOLS` | the directory that `runtime/tests/filesystem/tools` prints |
//! | `DRUPE_REQUIRE_KVM=1` | cases that need a machine fail where there is none, instead of being ignored |
//! | `DRUPE_TEST_SCALE=full`, `soak` | 10^5 operations of each configuration of fsx instead of 5,000, or 10^6; all power cuts |
//! | `DRUPE_TEST_ONLY` | only the cases of these names |
//! | `DRUPE_TEST_SHARD=K/N` | only the K-th (from 1) of N parts of about the same length |

#![allow(dead_code, reason = "modules of the end-to-end tests, of which this program uses a part")]

#[path = "../e2e/bundle.rs"]
mod bundle;
#[path = "../e2e/case.rs"]
mod case;
#[path = "../e2e/container.rs"]
mod container;
#[path = "../e2e/disk.rs"]
mod disk;
mod fsx;
#[path = "../../../images/probe/src/pattern.rs"]
mod pattern;
mod pjdfstest;
mod power_cut;
#[path = "../e2e/running.rs"]
mod running;
#[path = "../e2e/stage.rs"]
mod stage;
#[path = "../e2e/subject.rs"]
mod subject;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::Arguments;

use bundle::Bundle;
use stage::Stage;
use subject::Subject;

/// Where the tools are.
const TOOLS: &str = "DRUPE_TEST_TOOLS";
/// Where a container has them, and where it has the volume.
const TOOLS_INSIDE: &str = "/tools";
const VOLUME_INSIDE: &str = "/volume";

fn main() -> ExitCode {
    let args = Arguments::from_args();
    running::default_signals();
    case::keep_panics();
    let subject: &'static Subject = Box::leak(Box::new(Subject::from_env()));
    let cases = [pjdfstest::cases(), fsx::cases(), power_cut::cases()].into_iter().flatten();
    let cases = cases.map(|case| case.needs(disk::available)).collect();
    let cases = case::selected(cases);
    let trials = cases.into_iter().map(|case| case.into_trial(subject)).collect();
    libtest_mimic::run(&args, trials).exit_code()
}

/// Whether there is time for more than a sample: `DRUPE_TEST_SCALE=full`, or more than that.
fn is_full() -> bool {
    case::is_soak() || env::var_os("DRUPE_TEST_SCALE").is_some_and(|value| value == "full")
}

/// A container that waits, with a volume and the tools, and with the rights that they need to try everything.
fn with_tools<'a>(stage: &'a Stage, volume: &Path) -> Bundle<'a> {
    let tools = PathBuf::from(env::var_os(TOOLS).expect("checked before"));
    let own = stage.directory("tools");
    for tool in ["pjdfstest", "fsx"] {
        std::fs::copy(tools.join(tool), own.join(tool)).expect("a tool");
    }
    let bundle = stage.probe(&["sleep", "100000"]).bind(&own, TOOLS_INSIDE, &["rbind", "ro"]);
    bundle.bind(volume, VOLUME_INSIDE, &["rbind", "rw"])
}
