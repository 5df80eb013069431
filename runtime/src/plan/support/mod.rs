//! Every field of the runtime specification (1.3) for Linux, and what drupe does with it.
//!
//! A field is applied, warned about by name, or refused by name; it is never dropped in silence. Fields that the
//! specification does not have are ignored, as it demands. A field counts as given unless its value is empty
//! (`null`, `false`, `""`, `[]`, `{}`).

mod fields;

use std::fmt;

use serde_json::Value;

use crate::bundle::{FieldError, Problem, below};
use Support::{Applied, Parts, Refused, Warned};

pub use fields::FIELDS;

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is applied, with all that is below it: where, in words.
    Applied(&'static str),
    /// Its parts are in the table one by one.
    Parts,
    /// The container runs without it, and says so.
    Warned(&'static str),
    /// The container does not run: without the field it would not be what was asked for.
    Refused(&'static str),
}

impl Support {
    /// Whether it is applied.
    #[must_use]
    pub fn is_applied(self) -> bool {
        matches!(self, Applied(_))
    }
}

/// A field that was given and is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The field's path.
    pub field: String,
    /// Why it is not applied, or what is done instead.
    pub reason: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config.json: {}: not applied: {}", self.field, self.reason)
    }
}

/// What becomes of a field, by its path with `[]` for indices; `None` for a field that the specification does
/// not have.
#[must_use]
pub fn support(path: &str) -> Option<Support> {
    place(path).and_then(|place| FIELDS.get(place)).map(|&(_, support)| support)
}

fn place(path: &str) -> Option<usize> {
    FIELDS.iter().position(|(field, _)| *field == path)
}

/// Looks at every field that config.json gives, in the order of the table.
pub(crate) fn check(config: &Value) -> Result<Vec<Warning>, FieldError> {
    look(config, "", "")
}

/// Looks at every field of a `process` object, whose paths begin with `prefix`.
pub(crate) fn check_process(process: &Value, prefix: &str) -> Result<Vec<Warning>, FieldError> {
    look(process, prefix, "process")
}

fn look(value: &Value, field: &str, pattern: &str) -> Result<Vec<Warning>, FieldError> {
    let mut given = Vec::new();
    descend(value, field, pattern, &mut given);
    given.sort_by_key(|(place, _)| *place);
    let mut warnings = Vec::new();
    for (place, field) in given {
        match FIELDS.get(place).map(|&(_, support)| support) {
            Some(Refused(reason)) => return Err(FieldError::new(field, Problem::Unsupported(reason))),
            Some(Warned(reason)) => warnings.push(Warning { field, reason: reason.into() }),
            Some(Applied(_) | Parts) | None => {}
        }
    }
    Ok(warnings)
}

/// Collects the fields that are given: the place of each in the table, and its path.
fn descend(value: &Value, field: &str, pattern: &str, given: &mut Vec<(usize, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                note(value, below(field, name), &below(pattern, name), given);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                note(value, format!("{field}[{index}]"), &format!("{pattern}[]"), given);
            }
        }
        // The typed parse has refused a plain value where parts belong.
        _ => {}
    }
}

fn note(value: &Value, field: String, pattern: &str, given: &mut Vec<(usize, String)>) {
    if is_empty(value) {
        return;
    }
    let Some(place) = place(pattern) else { return };
    if support(pattern) == Some(Parts) {
        descend(value, &field, pattern, given);
    }
    given.push((place, field));
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use oci_spec::runtime::Spec;

    use super::*;

    /// A configuration that gives every field of the specification.
    fn every_field() -> Value {
        serde_json::from_str(include_str!("../every-field.json")).unwrap()
    }

    fn paths(value: &Value, pattern: &str, found: &mut BTreeSet<String>) {
        if !pattern.is_empty() {
            found.insert(pattern.to_owned());
            if support(pattern) != Some(Parts) {
                return;
            }
        }
        let dot = if pattern.is_empty() { "" } else { "." };
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| paths(value, &format!("{pattern}{dot}{name}"), found));
            }
            Value::Array(items) => {
                items.iter().for_each(|value| paths(value, &format!("{pattern}[]"), found))
            }
            _ => {}
        }
    }

    #[test]
    fn the_table_has_every_field_and_no_other() {
        let mut found = BTreeSet::new();
        paths(&every_field(), "", &mut found);
        let listed: BTreeSet<_> = FIELDS.iter().map(|(field, _)| (*field).to_owned()).collect();
        assert_eq!(listed.len(), FIELDS.len(), "a field is listed twice");
        assert_eq!(found, listed);
    }

    #[test]
    fn the_types_that_we_parse_into_have_no_field_that_the_table_lacks() {
        let spec: Spec = serde_json::from_value(every_field()).unwrap();
        let mut found = BTreeSet::new();
        paths(&serde_json::to_value(spec).unwrap(), "", &mut found);
        for field in found {
            assert!(support(&field).is_some(), "{field}");
        }
    }

    #[test]
    fn empty_values_are_not_given() {
        let config = serde_json::json!({
            "process": { "terminal": false, "apparmorProfile": "", "selinuxLabel": null },
            "hooks": { "prestart": [] },
            "linux": { "devices": [], "resources": { "pids": {} } },
            "vm": null,
        });
        assert_eq!(check(&config).unwrap(), []);
    }

    #[test]
    fn a_field_that_is_given_is_named() {
        let config = serde_json::json!({ "linux": { "netDevices": { "eth0": {} } } });
        assert_eq!(check(&config).unwrap_err().field, "linux.netDevices");
        let config = serde_json::json!({ "linux": { "personality": { "flags": ["A"] } }, "unknown": 1 });
        assert_eq!(check(&config).unwrap()[0].field, "linux.personality.flags");
    }
}
