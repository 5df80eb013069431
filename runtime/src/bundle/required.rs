//! Fields that the specification requires, where the types would take their absence for zero.

use serde_json::Value;

use super::error::{FieldError, Problem};

/// Objects, and the fields that each must have. `[]` stands for every element of a list.
const REQUIRED: &[(&str, &[&str])] = &[
    ("process.consoleSize", &["height", "width"]),
    ("process.rlimits[]", &["type", "soft", "hard"]),
    ("root", &["path"]),
    ("mounts[]", &["destination"]),
    ("mounts[].uidMappings[]", &["containerID", "hostID", "size"]),
    ("mounts[].gidMappings[]", &["containerID", "hostID", "size"]),
    ("linux.namespaces[]", &["type"]),
    ("linux.uidMappings[]", &["containerID", "hostID", "size"]),
    ("linux.gidMappings[]", &["containerID", "hostID", "size"]),
    ("linux.devices[]", &["type", "path"]),
    ("linux.resources.devices[]", &["allow"]),
    ("linux.resources.network.priorities[]", &["name", "priority"]),
    ("linux.personality", &["domain"]),
];

/// Refuses what lacks a required field.
pub(super) fn check(config: &Value) -> Result<(), FieldError> {
    REQUIRED.iter().try_for_each(|(pattern, names)| each(config, "", pattern, names))
}

/// Looks at each object that the pattern leads to, from `value` on, which is at `field`.
fn each(value: &Value, field: &str, pattern: &str, names: &[&str]) -> Result<(), FieldError> {
    if let Some(rest) = pattern.strip_prefix("[]") {
        let items = value.as_array().into_iter().flatten().enumerate();
        return items
            .into_iter()
            .try_for_each(|(index, item)| each(item, &format!("{field}[{index}]"), rest, names));
    }
    let pattern = pattern.strip_prefix('.').unwrap_or(pattern);
    // What is of a wrong type is for the typed parse to name.
    let Some(object) = value.as_object() else { return Ok(()) };
    if pattern.is_empty() {
        let missing = names.iter().find(|name| !object.contains_key(**name));
        return missing
            .map_or(Ok(()), |name| Err(FieldError::new(format!("{field}.{name}"), Problem::Missing)));
    }
    let end = pattern.find(['.', '[']).unwrap_or(pattern.len());
    let (name, rest) = pattern.split_at(end);
    object.get(name).map_or(Ok(()), |value| each(value, &super::below(field, name), rest, names))
}
