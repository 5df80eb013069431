//! JSON into types, with an error that names the field.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{FieldError, Problem};

/// The path of a field below another, which may be none.
pub(crate) fn below(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// Parses what is at `field`.
pub(crate) fn typed<T: DeserializeOwned>(value: &Value, field: &str) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            // The value itself.
            path if path == "." => field.to_owned(),
            path if path.starts_with('[') => format!("{field}{path}"),
            path => below(field, &path),
        };
        type_error(&path, error.into_inner())
    })
}

/// What the types do not take. A missing field is named by its own path: serde names its parent's, and the field
/// in the text.
fn type_error(path: &str, error: serde_json::Error) -> FieldError {
    let text = error.to_string();
    match text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        Some(name) => FieldError::new(below(path, name), Problem::Missing),
        None => FieldError::new(path, Problem::Type(error)),
    }
}

/// Takes every `null` out of objects: it stands for a field that is not given, as in all that Go programs write.
pub(crate) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Texts end up in system calls, where a NUL would cut them short.
pub(crate) fn check_nul(value: &Value, field: &str) -> Result<(), FieldError> {
    match value {
        Value::String(text) if text.contains('\0') => Err(FieldError::text(field, text, Problem::Nul)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_nul(item, &format!("{field}[{index}]"))),
        Value::Object(fields) => fields.iter().try_for_each(|(name, item)| {
            let path = below(field, name);
            if name.contains('\0') {
                return Err(FieldError::new(path, Problem::Nul));
            }
            check_nul(item, &path)
        }),
        _ => Ok(()),
    }
}
