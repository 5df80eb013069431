//! Profiles and system calls by chance, the same ones in every run.

use std::collections::HashSet;

use drupe::seccomp::{Argument, Profile, Syscall};

use crate::interpreter::Data;
use crate::reading::Reading;
use crate::{AUDIT_I386, AUDIT_X86_64};

/// A xorshift generator.
pub(crate) struct Random(u64);

/// Reached through others on x86, which only libseccomp's comparison knows.
const MULTIPLEXING: [&str; 2] = ["socketcall", "ipc"];

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.below(from.len() as u64);
        &from[usize::try_from(index).unwrap()]
    }

    /// A number near those that matter: small, or at the edge of 32 bits, so that random ones meet.
    fn value(&mut self) -> u64 {
        let base =
            *self.pick(&[0, 0, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, 0x8000_0000_0000_0000, u64::MAX - 3]);
        base.wrapping_add(self.below(4))
    }

    /// With `simple` a syscall has one rule, perhaps more without conditions, and `NE` stands alone: of others libseccomp
    /// 2.5 makes something else than their sum (`NE` on 64 bits loses what follows), and conflicts it refuses. Nor is there x32, with which 2.5 may compare
    /// the number of the architecture with those of syscalls.
    pub(crate) fn profile(&mut self, reading: &Reading, simple: bool) -> Profile {
        let actions = [
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_TRAP",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_LOG",
            "SCMP_ACT_KILL",
        ];
        let mut names = reading.names();
        names.retain(|name| !MULTIPLEXING.contains(name));
        let names: Vec<_> = (0..1 + self.below(60)).map(|_| *self.pick(&names)).collect();
        let count = if simple { 1 } else { 3 };
        let architectures =
            &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"][..if simple { 2 } else { 3 }];
        let (mut syscalls, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..self.below(80) {
            let args: Vec<_> = (0..self.below(6).saturating_sub(2)).map(|_| self.argument()).collect();
            let names: Vec<String> =
                (0..1 + self.below(count)).map(|_| (*self.pick(&names)).into()).collect();
            let args = if simple && !seen.insert(names[0].clone()) { Vec::new() } else { args };
            let unequal = args.iter().find(|arg| simple && arg.op == "SCMP_CMP_NE").cloned();
            let args = unequal.map_or(args, |unequal| vec![unequal]);
            let action = if simple { actions[names[0].len() % actions.len()] } else { *self.pick(&actions) };
            let number =
                matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE") && !simple && self.below(2) == 0;
            syscalls.push(Syscall {
                names,
                action: action.into(),
                errno_ret: number.then(|| u32::try_from(self.below(3)).unwrap()),
                args,
            });
        }
        Profile {
            default_action: (*self.pick(&actions)).into(),
            architectures: architectures
                .iter()
                .filter(|_| self.below(3) > 0)
                .map(|&name| name.into())
                .collect(),
            syscalls,
            ..Profile::default()
        }
    }

    fn argument(&mut self) -> Argument {
        let operators = [
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ];
        Argument {
            index: u32::try_from(self.below(6)).unwrap(),
            value: self.value(),
            value_two: self.value(),
            op: (*self.pick(&operators)).into(),
        }
    }

    /// A call that the profile may have something to say about.
    pub(crate) fn data(&mut self, reading: &Reading, profile: &Profile) -> Data {
        let named: Vec<_> = profile.syscalls.iter().flat_map(|rule| &rule.names).collect();
        let number = match self.below(8) {
            0 => *self.pick(&[
                0,
                600,
                0x3fff_ffff,
                0x4000_0000,
                0x4000_0400,
                0x8000_0000,
                0xc000_0000,
                u32::MAX,
            ]),
            1 => u32::try_from(self.below(600)).unwrap(),
            _ if named.is_empty() => 1,
            _ => {
                let name: &str = self.pick::<&String>(&named);
                match reading.numbers(name) {
                    numbers if numbers.is_empty() => 1,
                    numbers => *self.pick(&numbers),
                }
            }
        };
        let number = number.wrapping_add(*self.pick(&[0, 0, 0, 0, 1, u32::MAX]));
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = self.value();
        }
        let audit = *self.pick(&[AUDIT_X86_64, AUDIT_X86_64, AUDIT_I386, AUDIT_I386, 0xc000_00b7]);
        let narrow = audit == AUDIT_I386 && self.below(4) > 0;
        Data { number, audit, args: if narrow { args.map(|arg| arg & 0xffff_ffff) } else { args } }
    }
}
