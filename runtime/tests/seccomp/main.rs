//! Compiled seccomp profiles, run by an interpreter: against an independent reading of the profile, and against what
//! libseccomp makes of it (Debian's python3-seccomp, which `lab/setup check` installs).

mod interpreter;
mod oracle;
mod random;
mod reading;

use drupe::seccomp::{AARCH64, Argument, Profile, SeccompError, Syscall, X86_64, compile_for};
use interpreter::{Data, run};
use random::Random;
use reading::Reading;
use serde_json::json;

const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn program(profile: &Profile) -> Vec<u64> {
    compile_for(&X86_64, profile).unwrap().program
}

fn call(number: u32, args: [u64; 6]) -> Data {
    Data { number, audit: AUDIT_X86_64, args }
}

fn profile(value: serde_json::Value) -> Profile {
    Profile::from_json(&value).unwrap()
}

#[test]
fn random_profiles_do_what_they_say() {
    let reading = Reading::new();
    let mut random = Random::new(1);
    for round in 0..200 {
        let profile = random.profile(&reading, false);
        let program = program(&profile);
        for _ in 0..150 {
            let data = random.data(&reading, &profile);
            if oracle::multiplexes(&data) {
                continue;
            }
            let expected = reading.verdict(&profile, &data);
            assert_eq!(run(&program, &data), expected, "round {round}: {data:x?} under {profile:#x?}");
        }
    }
}

#[test]
fn random_profiles_do_what_libseccomp_makes_of_them() {
    let reading = Reading::new();
    let mut random = Random::new(2);
    let profiles: Vec<_> = (0..100).map(|_| random.profile(&reading, true)).collect();
    for (profile, theirs) in profiles.iter().zip(oracle::programs(&profiles)) {
        let ours = program(profile);
        for _ in 0..200 {
            let data = random.data(&reading, profile);
            oracle::compare(&reading, profile, &ours, &theirs, &data);
        }
    }
}

/// The profile that podman gives to every container, without and with capabilities.
#[test]
fn the_default_profile_does_what_libseccomp_makes_of_it() {
    let reading = Reading::new();
    let mut random = Random::new(3);
    let profiles =
        [oracle::default_profile(&[]), oracle::default_profile(&["CAP_SYS_ADMIN", "CAP_AUDIT_WRITE"])];
    for (profile, theirs) in profiles.iter().zip(oracle::programs(&profiles)) {
        let ours = program(profile);
        assert!(ours.len() < theirs.len() / 2, "{} against {}", ours.len(), theirs.len());
        for audit in [AUDIT_X86_64, AUDIT_I386] {
            for number in (0..600).chain(0x4000_0000..0x4000_0300).chain([u32::MAX]) {
                let args = std::array::from_fn(|_| random.below(20));
                oracle::compare(&reading, profile, &ours, &theirs, &Data { number, audit, args });
            }
        }
        for _ in 0..5_000 {
            let data = random.data(&reading, profile);
            oracle::compare(&reading, profile, &ours, &theirs, &data);
        }
        let steps = (0..450).map(|number| interpreter::steps(&ours, &call(number, [0; 6]))).max().unwrap();
        assert!(steps < 25, "{steps} instructions for a system call");
    }
}

#[test]
fn syscalls_newer_than_the_profile_do_not_exist() {
    let rules = json!([{ "names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW" }]);
    let of = |action: &str| program(&profile(json!({ "defaultAction": action, "syscalls": rules })));
    let strict = of("SCMP_ACT_ERRNO");
    assert_eq!(run(&strict, &call(0, [0; 6])), ALLOW);
    assert_eq!(run(&strict, &call(436, [0; 6])), EPERM);
    assert_eq!(run(&strict, &call(439, [0; 6])), ENOSYS);
    assert_eq!(run(&of("SCMP_ACT_KILL"), &call(439, [0; 6])), ENOSYS);
    assert_eq!(run(&of("SCMP_ACT_LOG"), &call(439, [0; 6])), 0x7ffc_0000);
    assert_eq!(run(&of("SCMP_ACT_TRACE"), &call(439, [0; 6])), 0x7ff0_0001);
}

#[test]
fn calls_of_another_architecture_kill_unless_it_is_listed() {
    let of = |architectures: &[&str]| {
        let syscalls = json!([{ "names": ["getpid", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7 }]);
        let value = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": syscalls });
        program(&profile(value))
    };
    let (i386, x32) = (Data { number: 20, audit: AUDIT_I386, args: [0; 6] }, call(0x4000_0027, [0; 6]));
    let alone = of(&["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]);
    assert_eq!([run(&alone, &i386), run(&alone, &x32), run(&alone, &call(39, [0; 6]))], [0, 0, 0x0005_0007]);
    let all = of(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    assert_eq!([run(&all, &i386), run(&all, &x32)], [0x0005_0007; 2]);
}

#[test]
fn arm_has_its_own_numbers() {
    let value = json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"],
        "syscalls": [{ "names": ["openat", "open"], "action": "SCMP_ACT_ALLOW" }] });
    let program = compile_for(&AARCH64, &profile(value)).unwrap().program;
    let verdict = |audit, number| run(&program, &Data { number, audit, args: [0; 6] });
    assert_eq!([verdict(0xc000_00b7, 56), verdict(0xc000_00b7, 5)], [ALLOW, EPERM]);
    assert_eq!([verdict(0x4000_0028, 322), verdict(0x4000_0028, 5)], [ALLOW, ALLOW]);
    assert_eq!(verdict(AUDIT_X86_64, 0), 0);
}

#[test]
fn long_jumps_and_the_largest_program() {
    let rule = |name: &str, value| Syscall {
        names: vec![name.into()],
        action: "SCMP_ACT_ALLOW".into(),
        args: vec![Argument { value, op: "SCMP_CMP_EQ".into(), ..Argument::default() }],
        ..Syscall::default()
    };
    let of = |count: u64| Profile {
        default_action: "SCMP_ACT_ERRNO".into(),
        syscalls: (0..count)
            .flat_map(|value| [rule("read", value << 32 | 1), rule("write", value)])
            .collect(),
        ..Profile::default()
    };
    let program = program(&of(400));
    for value in [0, 1, 200, 399] {
        assert_eq!(run(&program, &call(0, [value << 32 | 1, 0, 0, 0, 0, 0])), ALLOW);
        assert_eq!(run(&program, &call(1, [value, 0, 0, 0, 0, 0])), ALLOW);
        assert_eq!(run(&program, &call(1, [value << 32 | 1 << 50, 0, 0, 0, 0, 0])), EPERM);
    }
    assert_eq!(run(&program, &call(1, [400, 0, 0, 0, 0, 0])), EPERM);
    let error = compile_for(&X86_64, &of(600)).unwrap_err();
    assert_eq!(error.field, "linux.seccomp");
    assert!(error.reason.ends_with("instructions; the kernel takes at most 4096"), "{error}");
}

#[test]
fn flags_are_those_of_the_kernel() {
    let flags =
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    let value = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags });
    assert_eq!(compile_for(&X86_64, &profile(value)).unwrap().flags, 6);
}

#[test]
fn what_is_wrong_is_named() {
    let of = |mut rule: serde_json::Value, more: serde_json::Value| -> String {
        if rule["names"].is_null() {
            rule["names"] = json!(["read"]);
        }
        if rule["action"].is_null() {
            rule["action"] = json!("SCMP_ACT_ALLOW");
        }
        let mut value = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let compiled = Profile::from_json(&value).and_then(|profile| compile_for(&X86_64, &profile));
        compiled.map_err(|SeccompError { field, .. }| field).unwrap_err()
    };
    let good = || json!({});
    let wrong_profiles = [
        (json!({ "defaultAction": "SCMP_ACT_DENY" }), "linux.seccomp.defaultAction"),
        (json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }), "linux.seccomp.defaultErrnoRet"),
        (json!({ "defaultAction": "SCMP_ACT_NOTIFY" }), "linux.seccomp.defaultAction"),
        (json!({ "defaultErrnoRet": 65536 }), "linux.seccomp.defaultErrnoRet"),
        (json!({ "defaultErrnoRet": "EPERM" }), "linux.seccomp.defaultErrnoRet"),
        (json!({ "listenerPath": "/run/agent.sock" }), "linux.seccomp.listenerPath"),
        (json!({ "listenerMetadata": "x" }), "linux.seccomp.listenerMetadata"),
        (json!({ "architectures": ["SCMP_ARCH_X86", "amd64"] }), "linux.seccomp.architectures[1]"),
        (json!({ "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"] }), "linux.seccomp.flags[0]"),
        (json!({ "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] }), "linux.seccomp.flags[0]"),
    ];
    for (wrong, field) in wrong_profiles {
        assert_eq!(of(good(), wrong), field);
    }
    let argument = |index: u64, op: &str| json!({ "args": [{ "index": index, "value": 0, "op": op }] });
    let wrong_rules = [
        (json!({ "names": [] }), "names"),
        (json!({ "names": ["read", ""] }), "names[1]"),
        (json!({ "action": "SCMP_ACT_NOTIFY" }), "action"),
        (json!({ "action": "ALLOW" }), "action"),
        (json!({ "errnoRet": 1 }), "errnoRet"),
        (argument(6, "SCMP_CMP_EQ"), "args[0].index"),
        (argument(0, "=="), "args[0].op"),
        (json!({ "args": [{ "index": 0, "op": "SCMP_CMP_EQ" }] }), "args[0].value"),
    ];
    for (wrong, field) in wrong_rules {
        assert_eq!(of(wrong, json!({})), format!("linux.seccomp.syscalls[0].{field}"));
    }
}

#[test]
fn unknown_names_and_fields_are_skipped() {
    let value = json!({ "defaultAction": "SCMP_ACT_ERRNO", "unknown": 1,
        "syscalls": [{ "names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "" }] });
    assert_eq!(run(&program(&profile(value)), &call(0, [0; 6])), ALLOW);
}
