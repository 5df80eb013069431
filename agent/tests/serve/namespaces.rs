//! User and time namespaces.

use drupe_protocol::{HostMessage, IdMode, Process, SignalTarget, TimeOffset, TimeOffsets};

use crate::host::{Host, command, script};

pub(crate) const TESTS: &[(&str, fn())] =
    &[("namespaces::time", time), ("namespaces::time_that_fails", time_that_fails)];

fn offsets(monotonic: i64, boottime: i64) -> TimeOffsets {
    let offset = |seconds| Some(TimeOffset { seconds, nanoseconds: 5 });
    TimeOffsets { monotonic: offset(monotonic), boottime: offset(boottime) }
}

/// Days that the system seems to be up, by the clock that counts also when it sleeps.
const DAYS_UP: &str = "read -r up idle </proc/uptime; echo $((${up%.*} / 86400))";

fn time() {
    let mut host = Host::new();
    let mut config = script(DAYS_UP);
    assert!(host.output(config.clone()).trim().parse::<u32>().unwrap() < 5000);
    for pid in [IdMode::Init, IdMode::BehindInit] {
        config.namespaces.pid = pid;
        config.namespaces.time = Some(offsets(1_000_000, 864_000_000));
        let days: u32 = host.output(config.clone()).trim().parse().unwrap();
        assert!((10_000..15_000).contains(&days), "{days}");
        // The times that are reported are the guest's (`Host::configure` compares them), and so are those of the next.
        config.namespaces.time = None;
        assert!(host.output(config.clone()).trim().parse::<u32>().unwrap() < 5000);
    }
    // So it is for an exec.
    let mut config = command(&["sleep", "1000"]);
    config.namespaces.time = Some(offsets(1_000_000, 864_000_000));
    host.configure(&config).unwrap();
    host.start("c1").unwrap();
    let process = Process { args: script(DAYS_UP).process.args, ..config.process.clone() };
    assert!(host.exec("c1", 1, process).unwrap().stdout.trim().parse::<u32>().unwrap() >= 10_000);
    host.send(&HostMessage::Signal { container: "c1".into(), target: SignalTarget::Main, signal: 9 });
    host.exited("c1");
}

fn time_that_fails() {
    let mut host = Host::new();
    let mut config = script(DAYS_UP);
    config.namespaces.time = Some(offsets(0, i64::MIN));
    let failure = host.configure(&config).unwrap_err();
    assert_eq!(failure.field, "linux.timeOffsets.boottime");
    assert_eq!(failure.message, format!("{} s, 5 ns: numerical result out of range", i64::MIN));
    config.namespaces.time = None;
    assert!(host.output(config).trim().parse::<u32>().unwrap() < 5000);
}
