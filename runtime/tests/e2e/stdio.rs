//! Standard streams, short runs: every byte arrives once, in order, on the stream it was written to.

use std::process::{Command, Stdio};

use crate::case::{Case, scaled};
use crate::pattern;
use crate::running::Running;

const MIB: usize = 1 << 20;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("stdio::stderr_is_kept_apart", |stage| {
            let output = stage.bundle(&["sh", "-c", "echo out; echo err >&2; echo out2; exit 3"]).run();
            output.assert_status(3);
            assert_eq!((output.stdout_text(), output.stderr_text()), ("out\nout2\n".into(), "err\n".into()));
        }),
        Case::new("stdio::binary_both_ways", |stage| {
            let bytes: Vec<u8> = (0..=255).cycle().take(3 * 256 + 7).collect();
            let output = stage.bundle(&["cat"]).run_with(&bytes);
            output.assert_status(0);
            assert_eq!(output.stdout, bytes);
        }),
        Case::new("stdio::end_of_stdin_arrives_and_output_goes_on", |stage| {
            stage.bundle(&["sh", "-c", "cat; echo end"]).run_with(b"hello\n").assert(0, "hello\nend\n");
        }),
        Case::new("stdio::empty_stdin", |stage| {
            stage.bundle(&["wc", "-c"]).run().assert(0, "0\n");
        }),
        Case::new("stdio::stdin_that_nobody_reads_does_not_keep_it_alive", |stage| {
            let bundle = stage.bundle(&["sh", "-c", "echo done; exit 2"]);
            let running = bundle.start(); // stdin stays open
            assert!(running.stdin.is_some());
            running.finish().assert(2, "done\n");
        }),
        Case::new("stdio::a_conversation", conversation),
        Case::new("stdio::streams_that_are_closed_at_start", closed_streams),
        Case::new("stdio::no_terminal_is_made_up", |stage| {
            let script = "for fd in 0 1 2; do test -t $fd && echo tty $fd; done; exit 0";
            stage.bundle(&["sh", "-c", script]).run().assert(0, "");
        }),
        Case::new("stdio::output_through_dev_stdout", |stage| {
            let output = stage.bundle(&["sh", "-c", "echo a >/dev/stdout; echo b >/proc/self/fd/2"]).run();
            output.assert_status(0);
            assert_eq!((output.stdout_text(), output.stderr_text()), ("a\n".into(), "b\n".into()));
        }),
        Case::new("stdio::files_as_streams", files),
    ];
    for bytes in [1, 4095, 4096, 65_536, 65_537, 4 * MIB] {
        cases.push(Case::new(format!("stdio::flood_of_{bytes}_then_exit_at_once"), move |stage| {
            let output = stage.probe(&["/probe", "flood", &bytes.to_string(), "1", "9"]).run();
            output.assert_status(9);
            assert_pattern(&output.stdout, bytes);
        }));
    }
    cases.push(Case::new("stdio::floods_on_both_streams_at_once", |stage| {
        let size = (2 * MIB).to_string();
        let script = format!("/probe flood {size} 1 & /probe flood {size} 2 & wait");
        let output = stage.probe(&["sh", "-c", &script]).run();
        output.assert_status(0);
        assert_pattern(&output.stdout, 2 * MIB);
        assert_pattern(&output.stderr, 2 * MIB);
    }));
    // 100 runs (1,000 in a soak) in four cases, so that they can be shared out.
    for part in 0..4 {
        let runs = scaled(25);
        let case = Case::new(format!("stdio::no_byte_of_a_short_run_is_lost_{part}"), move |stage| {
            let mut bundle = stage.bundle(&[]);
            for n in part * runs..(part + 1) * runs {
                bundle.config["process"]["args"] = serde_json::json!(["echo", "-n", n.to_string()]);
                bundle.run().assert(0, &n.to_string());
            }
        });
        cases.push(case.cost(runs));
    }
    cases
}

/// Says where the first difference is: a diff of megabytes helps nobody.
#[track_caller]
pub(crate) fn assert_pattern(got: &[u8], length: usize) {
    let mut expected = vec![0; length];
    pattern::fill(0, &mut expected);
    let wrong = got.iter().zip(&expected).position(|(left, right)| left != right);
    assert!(
        wrong.is_none() && got.len() == length,
        "{} bytes of {length}, first wrong one: {wrong:?}",
        got.len()
    );
}

fn conversation(stage: &crate::stage::Stage) {
    let script = "while read -r word; do echo \"got $word\"; done; echo bye";
    let mut running = stage.bundle(&["sh", "-c", script]).start();
    for word in ["one", "two", "three"] {
        running.send(format!("{word}\n").as_bytes());
        assert_eq!(running.line(), format!("got {word}"));
    }
    running.close_stdin();
    running.finish().assert(0, "bye\n");
}

/// `<&-` and friends: the status is still exact, and what is open works.
fn closed_streams(stage: &crate::stage::Stage) {
    for (closed, stdout) in [("<&-", "0\n"), (">&-", ""), ("2>&-", "0\n"), ("<&- >&- 2>&-", "")] {
        let bundle = stage.bundle(&["sh", "-c", "cat | wc -c; exit 7"]);
        bundle.write();
        let run = bundle.command();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec \"$@\" {closed}")).arg("sh");
        shell.arg(run.get_program()).args(run.get_args());
        let output = Running::start(shell.stdin(Stdio::null())).finish();
        assert_eq!((output.status, output.stdout_text().as_str()), (7, stdout), "{closed}: {output:?}");
    }
}

fn files(stage: &crate::stage::Stage) {
    let (input, target) = (stage.file("input", "from a file\n"), stage.file("output", ""));
    let bundle = stage.bundle(&["sh", "-c", "cat; echo end"]);
    bundle.write();
    let open =
        |path: &std::path::Path| std::fs::File::options().read(true).write(true).open(path).expect("file");
    let status = bundle.command().stdin(open(&input)).stdout(open(&target)).status().expect("it runs");
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(target).expect("output"), "from a file\nend\n");
}
