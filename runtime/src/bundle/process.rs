//! A `process` object, of config.json or of a file that `exec` is given, parsed and checked.
//!
//! Errors name fields below a prefix: `process` in config.json, none in a file that is nothing but the object.

use std::collections::BTreeSet;

use oci_spec::runtime::Process;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::capabilities::{UnknownCapability, take_unknown};
use super::config::{require_absolute, word};
use super::error::{FieldError, Problem};
use super::json::{below, typed};

/// A checked `process` object.
#[derive(Clone, Debug)]
pub(crate) struct ProcessObject {
    prefix: String,
    raw: Value,
    spec: Process,
    args: Vec<String>,
    scheduler: Option<SchedulerObject>,
    affinity: AffinityObject,
    unknown_capabilities: Vec<UnknownCapability>,
}

/// `scheduler`. The type of the `oci-spec` crate spells two of the flags in a way of its own.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct SchedulerObject {
    pub(crate) policy: String,
    pub(crate) nice: Option<i32>,
    pub(crate) priority: Option<i32>,
    pub(crate) flags: Option<Vec<String>>,
    pub(crate) runtime: Option<u64>,
    pub(crate) deadline: Option<u64>,
    pub(crate) period: Option<u64>,
}

/// `execCPUAffinity`. The type of the `oci-spec` crate refuses empty lists, which the specification allows.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct AffinityObject {
    pub(crate) initial: Option<String>,
    #[serde(rename = "final")]
    pub(crate) last: Option<String>,
}

impl ProcessObject {
    /// Parses and checks a `process` object.
    pub(crate) fn parse(raw: &Value, prefix: &str) -> Result<Self, FieldError> {
        // The derived parsers would take a list for an object.
        if raw.is_array() {
            let field = if prefix.is_empty() { "the process" } else { prefix };
            return Err(FieldError::new(field, Problem::Invalid("must be an object")));
        }
        let mut rest = raw.clone();
        let unknown_capabilities = take_unknown(&mut rest, &below(prefix, "capabilities"));
        let mut scheduler = None;
        let mut affinity = AffinityObject::default();
        if let Some(fields) = rest.as_object_mut() {
            if let Some(value) = fields.remove("scheduler") {
                scheduler = Some(typed(&value, &below(prefix, "scheduler"))?);
            }
            if let Some(value) = fields.remove("execCPUAffinity") {
                affinity = typed(&value, &below(prefix, "execCPUAffinity"))?;
            }
            // Optional in the specification; 0 and 0 is what it means to leave it out.
            fields.entry("user").or_insert_with(|| Value::Object(Map::new()));
        }
        let spec: Process = typed(&rest, prefix)?;
        let missing = || FieldError::new(below(prefix, "args"), Problem::Missing);
        let args = spec.args().clone().ok_or_else(missing)?;
        let prefix = prefix.to_owned();
        let object = Self { prefix, raw: raw.clone(), spec, args, scheduler, affinity, unknown_capabilities };
        object.check()?;
        Ok(object)
    }

    fn check(&self) -> Result<(), FieldError> {
        if self.args.is_empty() {
            return Err(FieldError::new(self.field("args"), Problem::Empty));
        }
        require_absolute(self.field("cwd"), self.spec.cwd())?;
        for (index, variable) in self.spec.env().iter().flatten().enumerate() {
            check_variable(&self.field(&format!("env[{index}]")), variable)?;
        }
        let mut types = BTreeSet::new();
        for (index, limit) in self.spec.rlimits().iter().flatten().enumerate() {
            let name = word(&limit.typ());
            let field = |part: &str| self.field(&format!("rlimits[{index}].{part}"));
            if !types.insert(name.clone()) {
                return Err(FieldError::text(field("type"), &name, Problem::Duplicate));
            }
            if limit.soft() > limit.hard() {
                let problem = Problem::TooLarge(limit.hard());
                return Err(FieldError::unsigned(field("soft"), limit.soft(), problem));
            }
        }
        Ok(())
    }

    /// The path of a field of this object.
    pub(crate) fn field(&self, name: &str) -> String {
        below(&self.prefix, name)
    }

    /// What the paths of its fields begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The JSON as it was given.
    pub(crate) fn raw(&self) -> &Value {
        &self.raw
    }

    pub(crate) fn spec(&self) -> &Process {
        &self.spec
    }

    pub(crate) fn args(&self) -> &[String] {
        &self.args
    }

    pub(crate) fn scheduler(&self) -> Option<&SchedulerObject> {
        self.scheduler.as_ref()
    }

    pub(crate) fn affinity(&self) -> &AffinityObject {
        &self.affinity
    }

    /// The names in `capabilities` that were left out.
    pub(crate) fn unknown_capabilities(&self) -> &[UnknownCapability] {
        &self.unknown_capabilities
    }
}

/// A variable of an environment must have a name and a value.
pub(crate) fn check_variable(field: &str, variable: &str) -> Result<(), FieldError> {
    match variable.find('=') {
        None | Some(0) => Err(FieldError::text(field, variable, Problem::Environment)),
        Some(_) => Ok(()),
    }
}
