//! An independent reading of profiles: what the specification and runc say, call by call, with the numbers of the
//! kernel's headers.

use std::collections::HashMap;
use std::fs;

use drupe::seccomp::{Argument, Profile};

use crate::interpreter::Data;
use crate::{AUDIT_I386, AUDIT_X86_64, ENOSYS};

const X32: u32 = 0x4000_0000;

/// Numbers by name, of x86_64, x86 and x32.
pub(crate) struct Reading {
    tables: [HashMap<String, u32>; 3],
}

/// Which of the three tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Abi {
    Native,
    I386,
    X32,
}

impl Reading {
    pub(crate) fn new() -> Self {
        let table = |name: &str, base: u32| -> HashMap<String, u32> {
            let path = format!("/usr/include/x86_64-linux-gnu/asm/unistd_{name}.h");
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let number = |line: &str| {
                let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
                let number = number.trim_start_matches("(__X32_SYSCALL_BIT + ").trim_end_matches(')');
                Some((name.to_owned(), base + number.parse::<u32>().ok()?))
            };
            text.lines().filter_map(number).collect()
        };
        Self { tables: [table("64", 0), table("32", 0), table("x32", X32)] }
    }

    /// All names, in an order that does not change.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> =
            self.tables.iter().flat_map(|table| table.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The numbers that a name has.
    pub(crate) fn numbers(&self, name: &str) -> Vec<u32> {
        self.tables.iter().filter_map(|table| table.get(name).copied()).collect()
    }

    /// The largest number that a profile names for the ABI of a call.
    pub(crate) fn last(&self, profile: &Profile, data: &Data) -> u32 {
        let table = &self.tables[abi(data).unwrap_or(Abi::Native) as usize];
        let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
        names.filter_map(|name| table.get(name).copied()).max().unwrap_or(0)
    }

    pub(crate) fn verdict(&self, profile: &Profile, data: &Data) -> u32 {
        let default = action(&profile.default_action, profile.default_errno_ret);
        let listed = |name: &str| profile.architectures.iter().any(|listed| listed == name);
        let permissive =
            matches!(profile.default_action.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE");
        let abi = match abi(data) {
            Some(Abi::I386) if !listed("SCMP_ARCH_X86") => return 0,
            Some(Abi::X32) if !listed("SCMP_ARCH_X32") => {
                return if data.number == u32::MAX { default } else { 0 };
            }
            Some(abi) => abi,
            None => return 0,
        };
        let last = self.last(profile, data);
        if !permissive && last != 0 && data.number > last {
            return ENOSYS;
        }
        if abi == Abi::Native && data.number >= X32 && !listed("SCMP_ARCH_X32") {
            return 0;
        }
        let table = &self.tables[abi as usize];
        let mut conditional = None;
        for rule in &profile.syscalls {
            let action = action(&rule.action, rule.errno_ret);
            let own = rule.names.iter().any(|name| table.get(name) == Some(&data.number));
            if action == default || !own {
                continue;
            }
            if rule.args.is_empty() {
                return action;
            }
            let wide = abi == Abi::Native;
            let repeated =
                rule.args.iter().any(|a| rule.args.iter().filter(|b| a.index == b.index).count() > 1);
            let mut each = rule.args.iter().map(|argument| holds(argument, data, wide));
            if if repeated { each.any(|holds| holds) } else { each.all(|holds| holds) } {
                conditional = conditional.or(Some(action));
            }
        }
        conditional.unwrap_or(default)
    }
}

fn abi(data: &Data) -> Option<Abi> {
    match data.audit {
        AUDIT_X86_64 if data.number & X32 != 0 => Some(Abi::X32),
        AUDIT_X86_64 => Some(Abi::Native),
        AUDIT_I386 => Some(Abi::I386),
        _ => None,
    }
}

fn holds(argument: &Argument, data: &Data, wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (given, value) = (cut(data.args[argument.index as usize]), cut(argument.value));
    match argument.op.as_str() {
        "SCMP_CMP_NE" => given != value,
        "SCMP_CMP_LT" => given < value,
        "SCMP_CMP_LE" => given <= value,
        "SCMP_CMP_EQ" => given == value,
        "SCMP_CMP_GE" => given >= value,
        "SCMP_CMP_GT" => given > value,
        "SCMP_CMP_MASKED_EQ" => given & value == value & argument.value_two,
        op => panic!("{op}"),
    }
}

fn action(name: &str, errno: Option<u32>) -> u32 {
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        name => panic!("{name}"),
    }
}
