//! `linux.resources.devices` becomes the program that a kernel asks about every use of a device in a cgroup: the
//! guest's in the container's, and a host's with cgroups of version 2 in the monitor's.
//!
//! Rules are applied in their order, so for each kind of access (make the node, read, write) the last rule that matches
//! decides; without one the device is denied. After the rules of the config come those that the specification and runc
//! allow every container: making any node, and the use of null, zero, full, random, urandom, tty, console, ptmx and pts.

use std::fmt;

use crate::resources;

/// One entry of `linux.resources.devices`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow, or deny.
    pub allow: bool,
    /// `a` (all, the default), `c` or `b`.
    pub kind: Option<String>,
    /// Major number; any when it is missing or negative.
    pub major: Option<i64>,
    /// Minor number; any when it is missing or negative.
    pub minor: Option<i64>,
    /// Some of `r`, `w` and `m`; all of them when it is missing or empty.
    pub access: Option<String>,
}

impl From<&resources::DeviceRule> for DeviceRule {
    fn from(rule: &resources::DeviceRule) -> Self {
        Self {
            allow: rule.allow,
            kind: rule.kind.clone(),
            major: rule.major,
            minor: rule.minor,
            access: rule.access.clone(),
        }
    }
}

/// A rule that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRuleError {
    /// The field, from the root of config.json (`linux.resources.devices[1].type`).
    pub field: String,
    /// What is wrong with it, and its value.
    pub reason: String,
}

impl fmt::Display for DeviceRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for DeviceRuleError {}

/// Compiles rules to a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, each `struct bpf_insn` as one little-endian integer.
/// It is empty when every device is allowed.
///
/// # Errors
///
/// The field of a rule that is wrong.
pub fn compile(rules: &[DeviceRule]) -> Result<Vec<u64>, DeviceRuleError> {
    let own = rules.iter().enumerate().map(|(index, rule)| Rule::new(index, rule));
    let mut checked = own.collect::<Result<Vec<_>, _>>()?;
    checked.extend(always_allowed());
    // Before a rule about everything nothing matters.
    let start = checked.iter().rposition(Rule::is_about_everything).unwrap_or(0);
    let rules = checked.split_off(start);
    if rules.iter().all(|rule| rule.allow) && rules[0].is_about_everything() {
        return Ok(Vec::new());
    }
    Ok(assemble(&rules))
}

const BLOCK: u32 = 1; // BPF_DEVCG_DEV_BLOCK
const CHARACTER: u32 = 2; // BPF_DEVCG_DEV_CHAR
const MAKE: u32 = 1; // BPF_DEVCG_ACC_MKNOD
const READ: u32 = 2; // BPF_DEVCG_ACC_READ
const WRITE: u32 = 4; // BPF_DEVCG_ACC_WRITE
const ANY: u32 = MAKE | READ | WRITE;

/// A rule, checked.
#[derive(Clone, Copy, Debug)]
struct Rule {
    allow: bool,
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

impl Rule {
    fn new(index: usize, rule: &DeviceRule) -> Result<Self, DeviceRuleError> {
        let error = |part: &str, reason: String| DeviceRuleError {
            field: format!("linux.resources.devices[{index}].{part}"),
            reason,
        };
        let kind = match rule.kind.as_deref() {
            None | Some("" | "a") => None,
            Some("c" | "u") => Some(CHARACTER),
            Some("b") => Some(BLOCK),
            Some(kind) => return Err(error("type", format!("{kind:?} is not a, c or b"))),
        };
        let number = |part: &str, number: Option<i64>| match number {
            None | Some(..=-1) => Ok(None),
            Some(number) => {
                let number = u32::try_from(number)
                    .map_err(|_| error(part, format!("{number} is larger than the number of any device")));
                number.map(Some)
            }
        };
        let mut access = 0;
        for letter in rule.access.as_deref().unwrap_or("").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                _ => return Err(error("access", format!("{letter:?} is not r, w or m"))),
            };
        }
        Ok(Self {
            allow: rule.allow,
            kind,
            major: number("major", rule.major)?,
            minor: number("minor", rule.minor)?,
            access: if access == 0 { ANY } else { access },
        })
    }

    fn is_about_everything(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ANY
    }
}

fn always_allowed() -> impl Iterator<Item = Rule> {
    const NODES: [(u32, Option<u32>); 9] = [
        (1, Some(3)), // null
        (1, Some(5)), // zero
        (1, Some(7)), // full
        (1, Some(8)), // random
        (1, Some(9)), // urandom
        (5, Some(0)), // tty
        (5, Some(1)), // console
        (5, Some(2)), // ptmx
        (136, None),  // pts
    ];
    let make = |kind| Rule { allow: true, kind: Some(kind), major: None, minor: None, access: MAKE };
    let node =
        |(major, minor)| Rule { allow: true, kind: Some(CHARACTER), major: Some(major), minor, access: ANY };
    [make(CHARACTER), make(BLOCK)].into_iter().chain(NODES.into_iter().map(node))
}

// Registers.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The kinds of access that no rule has allowed so far.
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD: u8 = 0x61; // BPF_LDX | BPF_W | BPF_MEM
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const COPY: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const JUMP: u8 = 0x05; // BPF_JMP | BPF_JA
const IF_NOT: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const IF_ANY: u8 = 0x46; // BPF_JMP32 | BPF_JSET | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// One `struct bpf_insn`.
fn instruction(code: u8, to: u8, from: u8, offset: u16, k: u32) -> u64 {
    u64::from(k) << 32 | u64::from(offset) << 16 | u64::from(from << 4 | to) << 8 | u64::from(code)
}

/// The last rule is asked first: it allows some of what is wanted, or denies it all.
fn assemble(rules: &[Rule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD, KIND, CONTEXT, 0, 0),
        instruction(COPY, WANTED, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, WANTED, 0, 0, 16),
        instruction(LOAD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD, MINOR, CONTEXT, 8, 0),
    ];
    let end =
        |allow: bool| [instruction(MOVE, RESULT, 0, 0, u32::from(allow)), instruction(EXIT, 0, 0, 0, 0)];
    for rule in rules.iter().rev() {
        if rule.is_about_everything() {
            // The kernel takes no instruction that is never reached.
            program.extend(end(rule.allow));
            return program;
        }
        let decide: Vec<u64> = if rule.allow {
            let keep = ANY & !rule.access;
            [instruction(AND, WANTED, 0, 0, keep), instruction(IF_NOT, WANTED, 0, 2, 0)]
                .into_iter()
                .chain(end(true))
                .collect()
        } else {
            [instruction(IF_ANY, WANTED, 0, 1, rule.access), instruction(JUMP, 0, 0, 2, 0)]
                .into_iter()
                .chain(end(false))
                .collect()
        };
        let conditions = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
        let mut conditions: Vec<_> =
            conditions.into_iter().filter_map(|(register, value)| Some((register, value?))).collect();
        let mut skip = u16::try_from(decide.len()).unwrap_or(0);
        let mut tests = Vec::new();
        while let Some((register, value)) = conditions.pop() {
            tests.push(instruction(IF_NOT, register, 0, skip, value));
            skip += 1;
        }
        program.extend(tests.into_iter().rev());
        program.extend(decide);
    }
    program.extend(end(false));
    program
}

#[cfg(test)]
#[path = "device_program/tests.rs"]
mod tests;
