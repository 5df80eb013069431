//! Names of capabilities that drupe does not know. The specification (config.md, "Linux Process") wants them warned
//! about and the container run, so that a configuration may name those of a newer kernel.

use oci_spec::runtime::Capability;
use serde::Deserialize;
use serde_json::Value;

/// A name in `capabilities` that is nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownCapability {
    /// Where it is.
    pub(crate) field: String,
    /// The name.
    pub(crate) name: String,
}

/// Takes the unknown names out of a process, whose `capabilities` are at `field`. What is no name stays, for the typed parse to refuse.
pub(super) fn take_unknown(process: &mut Value, field: &str) -> Vec<UnknownCapability> {
    let mut unknown = Vec::new();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for (set, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        let mut index = 0;
        names.retain(|value| {
            let field = format!("{field}.{set}[{index}]");
            index += 1;
            match value.as_str().filter(|_| Capability::deserialize(value).is_err()) {
                Some(name) => unknown.push(UnknownCapability { field, name: name.to_owned() }),
                None => return true,
            }
            false
        });
    }
    unknown
}
