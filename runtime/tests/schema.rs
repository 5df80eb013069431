//! The specification's own JSON schema against the table of fields, and against what is accepted.
//!
//! The schema is the one of Debian's golang-github-opencontainers-specs-dev (1.1); `schema/later.json` lists the fields
//! that 1.2 and 1.3 added. The specification's good and bad examples are not in the package: here each field of a good
//! configuration gets every kind of value that the schema forbids, and must be refused by its name.

mod schema {
    pub(crate) mod document;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use drupe::bundle::{Bundle, Config, FieldError, SourceKind};
use drupe::plan::plan;
use drupe::plan::support::{FIELDS, Support, support};
use drupe::settings::{Allow, Settings};
use schema::document::{Constraint, constraints};
use serde_json::{Value, json};

/// Where Debian has the schema.
const SCHEMA: &str = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";

/// What the schema demands and drupe does not, and why.
const LENIENT: &[(&str, &str)] = &[
    ("linux.devices[].fileMode", "the schema's maximum is below what every tool writes"),
    ("linux.intelRdt.memBwSchema", "refused, and not looked at"),
    ("linux.resources.pids.limit", "optional since 1.3"),
    ("vm.hypervisor.path", "an empty object asks for nothing"),
    ("vm.image.path", "an empty object asks for nothing"),
    ("vm.image.format", "an empty object asks for nothing"),
    ("vm.kernel", "vm.hwConfig is of use without it"),
    ("vm.kernel.path", "vm.hwConfig is of use without it"),
];

/// The constraints by field, or `None` where there is no schema, which is said aloud.
fn schema() -> Option<BTreeMap<String, Constraint>> {
    if !Path::new(SCHEMA).is_dir() {
        assert!(std::env::var_os("CI").is_none(), "{SCHEMA} is missing: lab/setup check installs it");
        eprintln!("skipped: {SCHEMA} is missing: lab/setup check installs it");
        return None;
    }
    Some(constraints(Path::new(SCHEMA)))
}

/// The fields that later versions added.
fn later() -> BTreeSet<String> {
    serde_json::from_str(include_str!("schema/later.json")).unwrap()
}

/// Whether the table says what becomes of a field, by itself or by what it is a part of.
fn decided(field: &str) -> bool {
    let mut field = field;
    loop {
        match support(field) {
            Some(Support::Parts) => return true,
            Some(_) => return true,
            None => {}
        }
        let Some(end) = field.rfind(['.', '[']) else { return false };
        field = &field[..end];
        if support(field) == Some(Support::Parts) {
            return false;
        }
    }
}

#[test]
fn every_field_of_the_schema_is_in_the_table() {
    let Some(schema) = schema() else { return };
    let missing: Vec<_> =
        schema.keys().cloned().chain(later()).filter(|field| !field.is_empty() && !decided(field)).collect();
    assert!(missing.is_empty(), "not in the table of fields: {missing:?}");
}

#[test]
fn every_field_of_the_table_is_in_the_schema() {
    let Some(schema) = schema() else { return };
    let later = later();
    let foreign: Vec<_> = FIELDS
        .iter()
        .map(|(field, _)| *field)
        .filter(|field| !schema.contains_key(*field) && !later.contains(*field))
        .collect();
    assert!(foreign.is_empty(), "in no schema: {foreign:?}");
}

/// A configuration with every field that is not refused.
fn good() -> Value {
    let mut config: Value = serde_json::from_str(include_str!("../src/plan/every-field.json")).unwrap();
    for (field, _) in FIELDS.iter().filter(|(_, support)| matches!(support, Support::Refused(_))) {
        let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
        let parent = config.pointer_mut(&pointer(parent)).unwrap();
        parent.as_object_mut().unwrap().remove(name);
    }
    config
}

fn pointer(field: &str) -> String {
    let parts = field.split(['.', '[']).filter(|part| !part.is_empty());
    parts
        .map(|part| format!("/{}", part.trim_end_matches(']').replace('~', "~0").replace('/', "~1")))
        .collect()
}

fn outcome(config: &Value) -> Result<(), String> {
    let parsed = Config::parse(config.to_string().as_bytes(), Path::new("config.json"));
    let config = parsed.map_err(|error| match error {
        drupe::bundle::BundleError::Field(FieldError { field, .. }) => field,
        error => error.to_string(),
    })?;
    let allow = Allow { vm_kernel: true, vm_parameters: true, vm_initrd: true, vm_hardware: true };
    let settings = Settings { allow, ..Settings::default() };
    let bundle = Bundle { dir: "/bundle".into(), config, sources: [(0, SourceKind::Directory)].into() };
    plan(&bundle, &"schema".parse().unwrap(), &settings, false).map(drop).map_err(|error| error.field)
}

/// Every place of a configuration: its path, and the path with `[]` for indices.
fn places(value: &Value, field: &str, pattern: &str, found: &mut Vec<(String, String)>) {
    if !field.is_empty() {
        found.push((field.to_owned(), pattern.to_owned()));
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if field.is_empty() { "" } else { "." };
                places(value, &format!("{field}{dot}{name}"), &format!("{pattern}{dot}{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{field}[{index}]"), &format!("{pattern}[]"), found);
            }
        }
        _ => {}
    }
}

/// The good configuration's places, but for keys with dots in them, which paths cannot tell apart.
fn all_places(config: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    places(config, "", "", &mut found);
    found.retain(|(field, _)| config.pointer(&pointer(field)).is_some());
    found
}

fn lenient(pattern: &str) -> bool {
    LENIENT.iter().any(|(field, _)| *field == pattern)
}

/// Changes the good configuration and expects that the place is named.
fn refused(field: &str, why: &str, change: impl FnOnce(&mut Value), wrong: &mut Vec<String>) {
    let mut config = good();
    change(&mut config);
    match outcome(&config) {
        Err(named) if named.starts_with(field) => {}
        result => wrong.push(format!("{field}: {why}: {result:?}")),
    }
}

#[test]
fn a_configuration_with_every_field_is_accepted() {
    assert_eq!(outcome(&good()), Ok(()));
}

#[test]
fn a_value_of_another_type_is_refused_by_name() {
    let config = good();
    let mut wrong = Vec::new();
    for (field, _) in all_places(&config) {
        let other = match config.pointer(&pointer(&field)).unwrap() {
            Value::String(_) => json!(7),
            _ => json!("x"),
        };
        refused(&field, "another type", |c| *c.pointer_mut(&pointer(&field)).unwrap() = other, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_value_that_the_schema_forbids_is_refused_by_name() {
    let Some(schema) = schema() else { return };
    let mut wrong = Vec::new();
    for (field, pattern) in all_places(&good()).into_iter().filter(|(_, pattern)| !lenient(pattern)) {
        let Some(constraint) = schema.get(&pattern) else { continue };
        for value in constraint.forbidden() {
            let why = value.to_string();
            refused(&field, &why, |c| *c.pointer_mut(&pointer(&field)).unwrap() = value, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_field_that_the_schema_requires_is_missed_by_name() {
    let Some(schema) = schema() else { return };
    let mut wrong = Vec::new();
    for (field, pattern) in std::iter::once(Default::default()).chain(all_places(&good())) {
        let Some(constraint) = schema.get(&pattern) else { continue };
        for name in &constraint.required {
            let join = |path: &str| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if lenient(&join(&pattern)) {
                continue;
            }
            let remove = |c: &mut Value| {
                c.pointer_mut(&pointer(&field)).unwrap().as_object_mut().unwrap().remove(name);
            };
            refused(&join(&field), "missing", remove, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
