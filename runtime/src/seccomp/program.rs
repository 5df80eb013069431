//! Tables become a program of classic BPF: a jump for the architecture, then a binary search for the number.
//!
//! Jumps go forward only, and conditional ones at most 255 instructions, so the program is written from its end to its
//! beginning: whatever is jumped to is there already, and its distance is known.

use std::collections::BTreeMap;

use super::SeccompError;
use super::names::KILL_THREAD;
use super::policy::{Comparison, Condition, Rule};
use super::table::{Table, Verdict};

/// What the kernel takes at most (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;

/// Offsets in `struct seccomp_data`, for little-endian machines.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The program, each instruction as [`drupe_protocol::SeccompFilter`] has it.
pub(super) fn assemble(tables: &[Table]) -> Result<Vec<u64>, SeccompError> {
    let mut assembler = Assembler::default();
    let entries: Vec<_> = tables
        .iter()
        .map(|table| {
            let search = assembler.search(&table.ranges);
            (table.audit, assembler.load(NUMBER, search))
        })
        .collect();
    let mut next = assembler.finish(KILL_THREAD);
    for (audit, entry) in entries.into_iter().rev() {
        next = assembler.branch(IF_EQUAL, audit, entry, next);
    }
    assembler.load(ARCHITECTURE, next);
    let mut program = assembler.reversed;
    program.reverse();
    if program.len() > LONGEST {
        let reason =
            format!("makes a program of {} instructions; the kernel takes at most {LONGEST}", program.len());
        return Err(SeccompError::new("", reason));
    }
    Ok(program)
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug)]
struct Label(usize);

#[derive(Debug, Default)]
struct Assembler {
    /// The last instruction first.
    reversed: Vec<u64>,
    /// Where each value is returned that has been returned so far: the place nearest to the beginning.
    returns: BTreeMap<u32, Label>,
}

impl Assembler {
    fn put(&mut self, code: u16, if_true: u8, if_false: u8, k: u32) -> Label {
        let jumps = u64::from(if_true) << 40 | u64::from(if_false) << 32;
        self.reversed.push(u64::from(code) << 48 | jumps | u64::from(k));
        Label(self.reversed.len() - 1)
    }

    /// How many instructions the next one would have to skip to come to `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    /// The same as the place of the next instruction's successor.
    fn near(&mut self, label: Label) -> Label {
        match u32::try_from(self.distance(label)) {
            Ok(distance) if distance > 0 => self.put(JUMP, 0, 0, distance),
            _ => label,
        }
    }

    fn finish(&mut self, value: u32) -> Label {
        // Far enough away from 255 that the search tree's next branch still reaches it.
        let reachable = self.returns.get(&value).copied().filter(|label| self.distance(*label) < 240);
        reachable.unwrap_or_else(|| {
            let label = self.put(RETURN, 0, 0, value);
            self.returns.insert(value, label);
            label
        })
    }

    fn load(&mut self, offset: u32, then: Label) -> Label {
        self.near(then);
        self.put(LOAD, 0, 0, offset)
    }

    fn branch(&mut self, code: u16, k: u32, mut if_true: Label, mut if_false: Label) -> Label {
        loop {
            match (u8::try_from(self.distance(if_true)), u8::try_from(self.distance(if_false))) {
                (Ok(jump_true), Ok(jump_false)) => return self.put(code, jump_true, jump_false, k),
                (Err(_), _) => if_true = self.near(if_true),
                (_, Err(_)) => if_false = self.near(if_false),
            }
        }
    }

    /// Searches for the number in the accumulator.
    fn search(&mut self, ranges: &[(u32, Verdict)]) -> Label {
        match ranges {
            [] => self.finish(KILL_THREAD),
            [(_, verdict)] => self.verdict(verdict),
            _ => {
                let (lower, upper) = ranges.split_at(ranges.len() / 2);
                let from = upper[0].0;
                let upper = self.search(upper);
                let lower = self.search(lower);
                self.branch(IF_NOT_LESS, from, upper, lower)
            }
        }
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        match verdict {
            Verdict::Always(value) => self.finish(*value),
            Verdict::Rules { rules, narrow, otherwise } => {
                let mut next = self.finish(*otherwise);
                for rule in rules.iter().rev() {
                    next = self.rule(rule, *narrow, next);
                }
                next
            }
        }
    }

    fn rule(&mut self, rule: &Rule, narrow: bool, otherwise: Label) -> Label {
        let mut then = self.finish(rule.action);
        for condition in rule.conditions.iter().rev() {
            then = self.condition(condition, narrow, then, otherwise);
        }
        then
    }

    fn condition(&mut self, condition: &Condition, narrow: bool, then: Label, otherwise: Label) -> Label {
        let Condition { index, comparison, value } = *condition;
        let argument = Argument { offset: ARGUMENTS + 8 * index, narrow, value };
        match comparison {
            Comparison::Masked(mask) => self.equal(argument, mask, then, otherwise),
            Comparison::NotEqual => self.equal(argument, u64::MAX, otherwise, then),
            Comparison::Greater => self.above(IF_GREATER, argument, then, otherwise),
            Comparison::GreaterOrEqual => self.above(IF_NOT_LESS, argument, then, otherwise),
            Comparison::Less => self.above(IF_NOT_LESS, argument, otherwise, then),
            Comparison::LessOrEqual => self.above(IF_GREATER, argument, otherwise, then),
        }
    }

    /// Compares bits of an argument; no bits are equal to those of any value.
    fn equal(&mut self, argument: Argument, mask: u64, then: Label, otherwise: Label) -> Label {
        let (upper, lower) = halves(argument.value);
        let (upper_mask, lower_mask) = halves(mask);
        let mut next = self.half_equal(argument.offset, lower_mask, lower, then, otherwise);
        if !argument.narrow {
            next = self.half_equal(argument.offset + 4, upper_mask, upper, next, otherwise);
        }
        next
    }

    fn half_equal(&mut self, offset: u32, mask: u32, value: u32, then: Label, otherwise: Label) -> Label {
        if mask == 0 {
            return then;
        }
        let mut next = self.branch(IF_EQUAL, value, then, otherwise);
        if mask != u32::MAX {
            next = self.put(AND, 0, 0, mask);
        }
        self.load(offset, next)
    }

    /// Compares the lower half by `code`, unless the upper one decides.
    fn above(&mut self, code: u16, argument: Argument, then: Label, otherwise: Label) -> Label {
        let (upper, lower) = halves(argument.value);
        let next = self.branch(code, lower, then, otherwise);
        let next = self.load(argument.offset, next);
        if argument.narrow {
            return next;
        }
        let next = self.branch(IF_EQUAL, upper, next, otherwise);
        let next = self.branch(IF_GREATER, upper, then, next);
        self.load(argument.offset + 4, next)
    }
}

/// What is compared: the argument at an offset, with a value.
#[derive(Clone, Copy, Debug)]
struct Argument {
    offset: u32,
    narrow: bool,
    value: u64,
}

/// The upper and the lower 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "what it is for")]
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
