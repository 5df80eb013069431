//! The program, run by an interpreter, against a reading of the rules one kind of access at a time.

use super::*;

/// `struct bpf_cgroup_dev_ctx`.
#[derive(Clone, Copy, Debug)]
struct Use {
    kind: u32,
    access: u32,
    major: u32,
    minor: u32,
}

fn allows(program: &[u64], device: Use) -> bool {
    let context = [device.access << 16 | device.kind, device.major, device.minor];
    let mut registers = [0_u64; 6];
    let mut at = 0;
    if program.is_empty() {
        return true;
    }
    for _ in 0..=program.len() {
        let bytes = program[at].to_le_bytes();
        let (to, from) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
        let offset = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        let k = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        at += 1;
        match bytes[0] {
            0x61 => registers[to] = u64::from(context[offset / 4]),
            0xb7 => registers[to] = u64::from(k),
            0xbf => registers[to] = registers[from],
            0x57 => registers[to] &= u64::from(k),
            0x77 => registers[to] >>= k,
            0x05 => at += offset,
            0x56 if registers[to] != u64::from(k) => at += offset,
            0x46 if registers[to] & u64::from(k) != 0 => at += offset,
            0x56 | 0x46 => {}
            0x95 => return registers[0] == 1,
            code => panic!("code {code:#x}"),
        }
    }
    panic!("the program does not end");
}

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    let text = |text: &str| Some(text.to_owned());
    DeviceRule { allow, kind: text(kind), major: Some(major), minor: Some(minor), access: text(access) }
}

const DENY_ALL: DeviceRule = DeviceRule { allow: false, kind: None, major: None, minor: None, access: None };

#[test]
fn a_container_has_the_usual_devices() {
    for rules in [vec![], vec![DENY_ALL], vec![rule(false, "a", -1, -1, "rwm")]] {
        let program = compile(&rules).unwrap();
        let character =
            |major, minor, access| allows(&program, Use { kind: CHARACTER, access, major, minor });
        for minor in [3, 5, 7, 8, 9] {
            assert!(character(1, minor, ANY), "{minor}");
        }
        assert!(character(5, 0, ANY) && character(5, 2, READ | WRITE) && character(136, 12, READ));
        assert!(!character(1, 1, READ) && !character(10, 229, WRITE) && !character(10, 229, MAKE | READ));
        assert!(character(10, 229, MAKE));
        assert!(allows(&program, Use { kind: BLOCK, access: MAKE, major: 8, minor: 0 }));
        assert!(!allows(&program, Use { kind: BLOCK, access: READ, major: 8, minor: 0 }));
        assert!(!allows(&program, Use { kind: BLOCK, access: READ, major: 1, minor: 3 }));
    }
}

#[test]
fn the_last_rule_decides() {
    let rules = [
        DENY_ALL,
        rule(true, "c", 10, -1, "rwm"),
        rule(false, "c", 10, 200, "w"),
        rule(true, "b", -1, 7, "r"),
    ];
    let program = compile(&rules).unwrap();
    let character = |major, minor, access| allows(&program, Use { kind: CHARACTER, access, major, minor });
    assert!(character(10, 229, READ | WRITE) && character(10, 200, READ));
    assert!(!character(10, 200, READ | WRITE) && !character(10, 200, WRITE));
    assert!(allows(&program, Use { kind: BLOCK, access: READ, major: 900, minor: 7 }));
    assert!(!allows(&program, Use { kind: BLOCK, access: WRITE, major: 900, minor: 7 }));
}

#[test]
fn a_privileged_container_needs_no_program() {
    assert_eq!(compile(&[DENY_ALL, rule(true, "a", -1, -1, "rwm")]), Ok(vec![]));
    let all_but_one = compile(&[rule(true, "a", -1, -1, ""), rule(false, "b", 8, 0, "w")]).unwrap();
    let disk = |access, minor| allows(&all_but_one, Use { kind: BLOCK, access, major: 8, minor });
    assert!(disk(READ, 0) && disk(WRITE, 1) && !disk(WRITE, 0) && !disk(READ | WRITE, 0));
}

#[test]
fn random_rules_do_what_they_say() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut below = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    for _ in 0..2000 {
        let mut rules = Vec::new();
        for _ in 0..below(8) {
            let pick = |index: u64, from: &[&str]| from[usize::try_from(index).unwrap()].to_owned();
            let number = |number: u64| Some(i64::try_from(number).unwrap() - 1).filter(|number| *number < 3);
            rules.push(DeviceRule {
                allow: below(2) == 0,
                kind: Some(pick(below(4), &["a", "b", "c", ""])),
                major: number(below(5)),
                minor: number(below(5)),
                access: Some(pick(below(7), &["r", "w", "m", "rw", "rm", "rwm", ""])),
            });
        }
        let program = compile(&rules).unwrap();
        for _ in 0..40 {
            let mut number = || u32::try_from(below(4)).unwrap();
            let device =
                Use { kind: 1 + number() % 2, access: 1 + number() % 7, major: number(), minor: number() };
            let each = [MAKE, READ, WRITE].into_iter().filter(|access| device.access & access != 0);
            let expected = each.clone().all(|access| one_access(&rules, Use { access, ..device }));
            assert_eq!(allows(&program, device), expected, "{device:?} under {rules:?}");
        }
    }
}

/// What the rules say about one kind of access.
fn one_access(rules: &[DeviceRule], device: Use) -> bool {
    let letter = match device.access {
        MAKE => 'm',
        READ => 'r',
        _ => 'w',
    };
    let usual = device.access == MAKE || (device.kind == CHARACTER && device.major == 1 && device.minor == 3);
    usual
        || rules.iter().fold(false, |allowed, rule| {
            let is = |rule: Option<i64>, number: u32| {
                rule.is_none_or(|rule| rule < 0 || rule == i64::from(number))
            };
            let kind = match rule.kind.as_deref().unwrap() {
                "b" => device.kind == BLOCK,
                "c" => device.kind == CHARACTER,
                _ => true,
            };
            let access = rule.access.as_deref().unwrap();
            let matches = kind && is(rule.major, device.major) && is(rule.minor, device.minor);
            if matches && (access.is_empty() || access.contains(letter)) { rule.allow } else { allowed }
        })
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = [
        (rule(true, "p", 0, 0, "r"), "type"),
        (rule(true, "c", 1 << 32, 0, "r"), "major"),
        (rule(true, "c", 0, 1 << 40, "r"), "minor"),
        (rule(true, "c", 0, 0, "rx"), "access"),
    ];
    for (rule, part) in wrong {
        assert_eq!(
            compile(&[DENY_ALL, rule]).unwrap_err().field,
            format!("linux.resources.devices[1].{part}")
        );
    }
}
