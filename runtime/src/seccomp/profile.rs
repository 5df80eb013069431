//! A profile as config.json has it. Names are strings here: what they mean is [`super::policy`]'s.

use serde::Deserialize;
use serde_json::Value;

use super::SeccompError;
use crate::bundle::{FieldError, typed};

/// `linux.seccomp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to syscalls without a rule that applies.
    pub default_action: String,
    /// The number that goes with `defaultAction`.
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_*`: whose calls may be made at all, beside the guest's own architecture.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_*`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Where the descriptor for notifications would go.
    pub listener_path: Option<String>,
    /// What would be sent along with it.
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default)]
    pub syscalls: Vec<Syscall>,
}

/// One entry of `linux.seccomp.syscalls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Syscall {
    /// Names of syscalls.
    pub names: Vec<String>,
    /// `SCMP_ACT_*`.
    pub action: String,
    /// The number that goes with `action`.
    pub errno_ret: Option<u32>,
    /// Conditions.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub args: Vec<Argument>,
}

/// A condition on an argument of a syscall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// Which argument, from 0.
    pub index: u32,
    /// What it is compared with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(default)]
    pub value_two: u64,
    /// `SCMP_CMP_*`.
    pub op: String,
}

impl Profile {
    /// Reads the value of `linux.seccomp`. Unknown fields are ignored, as the specification demands.
    ///
    /// # Errors
    ///
    /// The field that is missing or of a wrong type.
    pub fn from_json(value: &Value) -> Result<Self, SeccompError> {
        typed(value, "linux.seccomp").map_err(|error: FieldError| SeccompError {
            field: error.field,
            reason: error.problem.to_string(),
        })
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Argument>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
