//! What is wrong with a bundle: always the file, the field, the value and the cause, one line together.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::document::DocumentError;

/// Why a bundle cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// config.json cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// config.json is not JSON.
    #[error("{}: not valid JSON", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where: line and column.
        source: serde_json::Error,
    },
    /// A field of config.json is wrong.
    #[error("config.json")]
    Field(#[from] FieldError),
}

/// What is wrong with one field of config.json.
#[derive(Debug, thiserror::Error)]
pub struct FieldError {
    /// Its path: `process.cwd`, `mounts[2].source`.
    pub field: String,
    /// Its value, when it has one that says something.
    pub value: Option<String>,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

impl FieldError {
    /// A field whose value is no help, as one that is missing.
    pub fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), value: None, problem }
    }

    /// A field with a text for its value.
    pub fn text(field: impl Into<String>, value: &str, problem: Problem) -> Self {
        Self { field: field.into(), value: Some(format!("{value:?}")), problem }
    }

    /// A field with a number for its value.
    pub fn number(field: impl Into<String>, value: i64, problem: Problem) -> Self {
        Self { field: field.into(), value: Some(value.to_string()), problem }
    }

    /// A field with a number for its value, that may be a large one.
    pub fn unsigned(field: impl Into<String>, value: u64, problem: Problem) -> Self {
        Self { field: field.into(), value: Some(value.to_string()), problem }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {value}", self.field),
            None => f.write_str(&self.field),
        }
    }
}

/// What can be wrong with a field.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A required field is not there.
    #[error("missing")]
    Missing,
    /// A list or text that must have something in it has not.
    #[error("must not be empty")]
    Empty,
    /// Its type, or one of the words that it may have.
    #[error(transparent)]
    Type(serde_json::Error),
    /// The specification's version.
    #[error("not a version that drupe knows (1.x)")]
    Version,
    /// A path that must be absolute.
    #[error("must be an absolute path")]
    Relative,
    /// A path that nothing can be mounted on.
    #[error("must not be the root directory")]
    RootDirectory,
    /// A text for the kernel with a NUL in it.
    #[error("must not contain a NUL")]
    Nul,
    /// An environment variable.
    #[error("must have the form NAME=value")]
    Environment,
    /// Something that may be given once.
    #[error("given twice")]
    Duplicate,
    /// A list of processors.
    #[error("not a list of processors such as 0-3,5")]
    CpuList,
    /// A value outside of what it may be, which the text says.
    #[error("{0}")]
    Invalid(&'static str),
    /// A limit of memory that is used up already.
    #[error("not above the {0} bytes in use")]
    InUse(u64),
    /// More memory than a machine has that runs, in MiB.
    #[error("the machine has {0} MiB, part of them for itself, and keeps them for as long as it runs")]
    MachineMemory(u64),
    /// More processors than a machine has that runs.
    #[error("the machine has {0} processors, and keeps them for as long as it runs")]
    MachineCpus(u8),
    /// What the module that the field is for says about it.
    #[error("{0}")]
    Reason(String),
    /// A number below its minimum.
    #[error("below the minimum of {0}")]
    TooSmall(u64),
    /// A number above its maximum.
    #[error("above the maximum of {0}")]
    TooLarge(u64),
    /// A host path that cannot be opened.
    #[error(transparent)]
    Path(io::Error),
    /// A host path that may not be a symbolic link.
    #[error("must not be a symbolic link")]
    Symlink,
    /// A host path that must be a directory.
    #[error("must be a directory")]
    NotADirectory,
    /// Something that the operator of the host has to allow, by a key of the settings.
    #[error("not allowed by the operator: allow.{0} is not true in /etc/drupe/config.toml")]
    NotAllowed(&'static str),
    /// An option that is not honoured, and that must not be dropped.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
}
