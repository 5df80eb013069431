//! Hooks are real programs here: /bin/sh, as the config would name it.

use std::fs;

use super::*;

const STATE: &[u8] = br#"{"id":"one"}"#;

/// The directory that hooks start in.
const BUNDLE: &str = "/usr";

fn sh(script: &str, arguments: &[&str]) -> Hook {
    let args = ["a-name", "-c", script, "sh"].iter().chain(arguments).map(|arg| (*arg).to_owned()).collect();
    Hook { path: "/bin/sh".into(), args, ..Hook::default() }
}

/// A directory, and the path of a file in it.
fn file() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file").to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn a_hook_reads_the_state_and_has_only_what_the_config_gives() {
    let (_directory, path) = file();
    let script = r#"{ cat; echo; /usr/bin/tr '\0' '\n' <"/proc/$$/environ"; /usr/bin/tr '\0' ' ' <"/proc/$$/cmdline"; } >"$1""#;
    let mut hook = sh(script, &[&path]);
    hook.env = vec!["KEY=a=b".into()];
    run_all(HookKind::CreateRuntime, &[hook], BUNDLE.as_ref(), STATE).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], [r#"{"id":"one"}"#, "KEY=a=b"], "{text}");
    assert!(lines[2].starts_with("a-name -c "), "{text}");
}

#[test]
fn without_arguments_the_path_is_the_name() {
    let (_directory, path) = file();
    fs::write(&path, "#!/bin/sh\necho \"$0\" $# >\"$0.out\"\n").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    run_all(
        HookKind::Prestart,
        &[Hook { path: path.clone().into(), ..Hook::default() }],
        BUNDLE.as_ref(),
        STATE,
    )
    .unwrap();
    assert_eq!(fs::read_to_string(format!("{path}.out")).unwrap(), format!("{path} 0\n"));
}

#[test]
fn the_first_failure_of_a_create_ends_it_and_says_why() {
    let (_directory, path) = file();
    let hooks =
        [sh("echo 1 >>$1", &[&path]), sh("echo no such thing >&2; exit 3", &[]), sh("echo 3 >>$1", &[&path])];
    let error = run_all(HookKind::CreateContainer, &hooks, BUNDLE.as_ref(), STATE).unwrap_err();
    assert_eq!(error.to_string(), "hooks.createContainer[1]: /bin/sh: exit status 3: no such thing");
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
}

#[test]
fn failures_at_the_end_do_not_keep_other_hooks_from_running() {
    let (_directory, path) = file();
    let hooks = [sh("kill -9 $$", &[]), sh("echo ran >>$1", &[&path])];
    run_all(HookKind::Poststop, &hooks, BUNDLE.as_ref(), STATE).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "ran\n");
}

#[test]
fn a_hook_starts_in_the_bundle_or_where_that_is_gone_in_the_root() {
    let (_directory, path) = file();
    for bundle in [BUNDLE, "/no/such/bundle"] {
        run_all(HookKind::Poststop, &[sh("pwd >>$1", &[&path])], bundle.as_ref(), STATE).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "/usr\n/\n");
}

#[test]
fn what_is_not_there_is_named() {
    let hook = Hook { path: "/no/such/hook".into(), ..Hook::default() };
    let error = run_all(HookKind::Prestart, &[hook], BUNDLE.as_ref(), STATE).unwrap_err();
    assert!(error.to_string().starts_with("hooks.prestart[0]: /no/such/hook: No such file"), "{error}");
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_children() {
    let (_directory, path) = file();
    let mut hook = sh("sleep 1000 & echo $! >$1; wait", &[&path]);
    hook.timeout = Some(2);
    let error = run_all(HookKind::CreateRuntime, &[hook], BUNDLE.as_ref(), STATE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "hooks.createRuntime[0]: /bin/sh: not finished after 2 s (timeout), killed"
    );
    let child = fs::read_to_string(&path).unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    // The signal is sent; that it has acted takes its time.
    let ended = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let stat = stat();
        stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
    });
    assert!(ended, "{}", stat());
}

#[test]
fn a_hook_need_not_read_or_be_read() {
    let state = vec![b' '; 1 << 20];
    run_all(
        HookKind::CreateRuntime,
        &[sh("head -c 1000000 /dev/zero; (sleep 5; echo late) &", &[])],
        BUNDLE.as_ref(),
        &state,
    )
    .unwrap();
}

#[test]
fn within_its_time_a_hook_succeeds() {
    let mut hook = sh("exit 0", &[]);
    hook.timeout = Some(60);
    run_all(HookKind::Poststart, &[hook.clone()], BUNDLE.as_ref(), STATE).unwrap();
    run_all(HookKind::CreateRuntime, &[hook], BUNDLE.as_ref(), STATE).unwrap();
}
