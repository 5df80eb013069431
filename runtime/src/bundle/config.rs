//! config.json as a value: parsed into the types of the `oci-spec` crate, then checked.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime::{Linux, Mount, Root, Spec};
use serde_json::{Map, Value};

use super::error::{BundleError, FieldError, Problem};
use super::json::{check_nul, typed, without_nulls};
use super::process::ProcessObject;
use super::required;
use crate::lexical::clean;
use crate::resources::{self, Resources};

/// A checked config.json.
#[derive(Clone, Debug)]
pub struct Config {
    raw: Value,
    spec: Spec,
    process: ProcessObject,
    root: Root,
    linux: Linux,
    resources: Resources,
}

impl Config {
    /// Parses and checks config.json. `path` names it in messages.
    ///
    /// # Errors
    /// [`BundleError`] names the file, and the field if there is one.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self, BundleError> {
        let raw: Value = serde_json::from_slice(json)
            .map_err(|source| BundleError::Syntax { path: path.to_owned(), source })?;
        Ok(Self::check(raw)?)
    }

    /// Checks what config.json was read as.
    ///
    /// # Errors
    /// [`FieldError`] names the field.
    pub(crate) fn of_value(raw: Value) -> Result<Self, FieldError> {
        Self::check(raw)
    }

    fn check(mut raw: Value) -> Result<Self, FieldError> {
        without_nulls(&mut raw);
        check_version(&raw)?;
        check_nul(&raw, "")?;
        required::check(&raw)?;
        let missing = |field: &'static str| move || FieldError::new(field, Problem::Missing);
        let mut rest = raw.clone();
        let process = rest.as_object_mut().and_then(|fields| {
            // So that `linux` is there whether it is given or not; its fields are all optional.
            let linux = fields.entry("linux").or_insert_with(|| Value::Object(Map::new()));
            // Read by modules of their own.
            if let Some(linux) = linux.as_object_mut() {
                linux.remove("resources");
                linux.remove("seccomp");
            }
            fields.remove("vm");
            fields.remove("process")
        });
        let process = ProcessObject::parse(&process.ok_or_else(missing("process"))?, "process")?;
        let spec: Spec = typed(&rest, "")?;
        let root = spec.root().clone().ok_or_else(missing("root"))?;
        let linux = spec.linux().clone().ok_or_else(missing("linux"))?;
        if root.path().as_os_str().is_empty() {
            return Err(missing("root.path")());
        }
        let resources = match raw.pointer("/linux/resources") {
            Some(resources) => Resources::parse(resources, resources::FIELD)?,
            None => Resources::default(),
        };
        let config = Self { raw, spec, process, root, linux, resources };
        config.check_mounts()?;
        config.check_linux()?;
        Ok(config)
    }

    fn check_mounts(&self) -> Result<(), FieldError> {
        for (index, mount) in self.mounts().iter().enumerate() {
            let field = format!("mounts[{index}].destination");
            // A relative one starts at the root: deprecated by the specification (config.md, "Mounts"), but valid.
            if mount.destination().as_os_str().is_empty() {
                return Err(FieldError::new(field, Problem::Empty));
            }
            if clean(mount.destination()) == Path::new("/") {
                let value = mount.destination().to_string_lossy();
                return Err(FieldError::text(field, &value, Problem::RootDirectory));
            }
            if mount.typ().as_deref().unwrap_or_default().is_empty() && !is_bind(mount) {
                return Err(FieldError::new(format!("mounts[{index}].type"), Problem::Missing));
            }
        }
        Ok(())
    }

    fn check_linux(&self) -> Result<(), FieldError> {
        let mut types = BTreeSet::new();
        for (index, namespace) in self.linux.namespaces().iter().flatten().enumerate() {
            let name = word(&namespace.typ());
            if !types.insert(name.clone()) {
                return Err(FieldError::text(
                    format!("linux.namespaces[{index}].type"),
                    &name,
                    Problem::Duplicate,
                ));
            }
        }
        for (name, paths) in
            [("maskedPaths", self.linux.masked_paths()), ("readonlyPaths", self.linux.readonly_paths())]
        {
            for (index, path) in paths.iter().flatten().enumerate() {
                require_absolute(format!("linux.{name}[{index}]"), Path::new(path))?;
            }
        }
        Ok(())
    }

    /// The JSON as it was given, for what the types do not keep.
    pub(crate) fn raw(&self) -> &Value {
        &self.raw
    }

    /// `linux.resources`.
    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    pub(crate) fn process(&self) -> &ProcessObject {
        &self.process
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn linux(&self) -> &Linux {
        &self.linux
    }

    pub(crate) fn mounts(&self) -> &[Mount] {
        self.spec.mounts().as_deref().unwrap_or_default()
    }
}

/// Whether a mount is a bind mount, whatever its type says (as for runc).
pub(crate) fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
}

/// Whether a mount is no new one: its options are for one that was made before.
pub(crate) fn is_remount(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|option| option == "remount")
}

/// A word of the specification as config.json has it.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    // These are all enums without fields, so this is always a string.
    serde_json::to_value(value).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(crate) fn require_absolute(field: String, path: &Path) -> Result<(), FieldError> {
    let value = path.to_string_lossy();
    match value.as_ref() {
        "" => Err(FieldError::new(field, Problem::Empty)),
        _ if path.is_absolute() => Ok(()),
        _ => Err(FieldError::text(field, &value, Problem::Relative)),
    }
}

/// Any 1.x: minor versions add fields, and those that drupe does not know are looked at one by one. The 0.x before it
/// as well: the specification's own example says so still.
fn check_version(raw: &Value) -> Result<(), FieldError> {
    let version = match raw.get("ociVersion") {
        None => return Err(FieldError::new("ociVersion", Problem::Missing)),
        Some(Value::String(version)) => version,
        // The typed parse says what type it should have.
        Some(_) => return Ok(()),
    };
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<_> = numbers.split('.').collect();
    match parts.as_slice() {
        ["0" | "1", rest @ ..] if (1..=2).contains(&rest.len()) && rest.iter().all(|part| digits(part)) => {
            Ok(())
        }
        _ => Err(FieldError::text("ociVersion", version, Problem::Version)),
    }
}
