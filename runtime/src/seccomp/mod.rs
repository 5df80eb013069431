//! `linux.seccomp` becomes the program that the guest's kernel runs before every system call of the workload.
//!
//! ```text
//! Profile (JSON) -> policy (names and numbers of actions and flags, checked)
//!                -> table (one per ABI: syscall number -> what to do) -> program (classic BPF, a binary search)
//! ```
//!
//! The meaning of a profile is what runc and libseccomp make of it:
//!
//! * A rule applies when all of its conditions hold; two conditions on one argument make two rules of it.
//! * A rule whose action is the default is dropped. The first rule of a syscall without conditions is the only one that
//!   counts for it; among rules with conditions the first that applies does.
//! * Names that an architecture does not have are skipped. So are architectures that the guest cannot run.
//! * A profile that does not allow by default was written before the newest syscalls were: those with a number above all
//!   that it names give `ENOSYS`, so that programs fall back to what it knows.
//! * Calls of an architecture that the profile does not list kill the thread.

mod abi;
mod error;
mod names;
mod policy;
mod profile;
mod program;
mod table;

pub(crate) use abi::ARCHITECTURES;
pub use abi::{AARCH64, Family, X86_64};
pub use error::SeccompError;
pub(crate) use names::{actions, known_flags, operators, supported_flags};
pub use profile::{Argument, Profile, Syscall};

use drupe_protocol::SeccompFilter;

use policy::Policy;

/// Compiles a profile for guests of this machine's architecture.
///
/// # Errors
///
/// The field of the profile that is wrong, or that cannot be honoured, and why.
pub fn compile(profile: &Profile) -> Result<SeccompFilter, SeccompError> {
    compile_for(&crate::arch::SECCOMP, profile)
}

/// Compiles a profile for guests of any architecture.
///
/// # Errors
///
/// As for [`compile`].
pub fn compile_for(family: &Family, profile: &Profile) -> Result<SeccompFilter, SeccompError> {
    let policy = Policy::new(profile)?;
    let tables = table::tables(family, &policy);
    let program = program::assemble(&tables)?;
    Ok(SeccompFilter { flags: policy.flags, program })
}
