//! The JSON schema of configurations, read into what it says about each field.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// What the schema says about a field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constraint {
    /// Names that an object must have.
    pub(crate) required: Vec<String>,
    minimum: Option<i128>,
    maximum: Option<i128>,
    chosen: bool,
}

impl Constraint {
    /// Values of the right type that it forbids.
    pub(crate) fn forbidden(&self) -> Vec<Value> {
        let beyond = [self.minimum.map(|least| least - 1), self.maximum.map(|most| most + 1)];
        let numbers = beyond.into_iter().flatten().filter_map(|number| {
            i64::try_from(number).map(Value::from).or_else(|_| u64::try_from(number).map(Value::from)).ok()
        });
        numbers.chain(self.chosen.then(|| json!("~none of these~"))).collect()
    }
}

/// What the schema in a directory says, by field; `[]` stands for any index.
pub(crate) fn constraints(directory: &Path) -> BTreeMap<String, Constraint> {
    let schema = Schema { directory };
    let mut found = BTreeMap::new();
    schema.walk("config-schema.json", &schema.read("config-schema.json"), "", &mut found);
    assert!(found.len() > 100, "{directory:?} does not hold the schema");
    found
}

struct Schema<'a> {
    directory: &'a Path,
}

impl Schema<'_> {
    fn read(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.directory.join(file)).unwrap()).unwrap()
    }

    fn walk(&self, file: &str, node: &Value, field: &str, found: &mut BTreeMap<String, Constraint>) {
        let constraint = found.entry(field.to_owned()).or_default();
        let names = node["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        constraint.required.extend(names.map(str::to_owned));
        let number = |name: &str| {
            let number = &node[name];
            number.as_i64().map(i128::from).or(number.as_u64().map(i128::from))
        };
        constraint.minimum = constraint.minimum.or(number("minimum"));
        constraint.maximum = constraint.maximum.or(number("maximum"));
        constraint.chosen |= node.get("enum").is_some() || node.get("pattern").is_some();
        if let Some(reference) = node["$ref"].as_str() {
            let (target, pointer) = reference.split_once('#').unwrap();
            let target = if target.is_empty() { file } else { target };
            let document = self.read(target);
            self.walk(target, document.pointer(pointer).unwrap(), field, found);
        }
        for part in ["allOf", "anyOf", "oneOf"].iter().filter_map(|name| node[*name].as_array()).flatten() {
            self.walk(file, part, field, found);
        }
        for (name, property) in node["properties"].as_object().into_iter().flatten() {
            let dot = if field.is_empty() { "" } else { "." };
            self.walk(file, property, &format!("{field}{dot}{name}"), found);
        }
        if let Some(items) = node.get("items") {
            self.walk(file, items, &format!("{field}[]"), found);
        }
    }
}
