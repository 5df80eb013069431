//! `drupe spec`: a config.json to begin with.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::cli::{GlobalArgs, SpecArgs};

use super::Failure;

/// What is written.
const CONFIG: &str = include_str!("spec.json");

/// Where `--rootless` adds something.
const LINUX: &str = "\t\"linux\": {\n";
const NAMESPACES: &str = "\t\t\"namespaces\": [\n";

/// Why config.json was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("{} exists: remove it first, or name another directory with --bundle", .0.display())]
    Exists(PathBuf),
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Writes config.json into the bundle.
pub(crate) fn spec(_global: &GlobalArgs, args: &SpecArgs) -> Result<u8, Failure> {
    let path = args.bundle.join("config.json");
    let text = config(args.rootless);
    let written = File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(SpecError::Exists(path).into()),
        Err(source) => Err(SpecError::File { path, source }.into()),
    }
}

/// The text of config.json. It is changed as text, so that its fields stay in the order that a reader expects.
fn config(rootless: bool) -> String {
    if !rootless {
        return CONFIG.to_owned();
    }
    // Root in the container is the caller outside of it; there are no other users.
    let mapping = |field: &str, id: u32| {
        format!(
            "\t\t\"{field}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {id},\n\t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],\n"
        )
    };
    let uids = mapping("uidMappings", rustix::process::geteuid().as_raw());
    let gids = mapping("gidMappings", rustix::process::getegid().as_raw());
    let user = "\t\t\t{\n\t\t\t\t\"type\": \"user\"\n\t\t\t},\n";
    CONFIG.replacen(LINUX, &format!("{LINUX}{uids}{gids}"), 1).replacen(
        NAMESPACES,
        &format!("{NAMESPACES}{user}"),
        1,
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::bundle::{Config, SPEC_VERSION};

    #[test]
    fn both_forms_are_configurations_without_a_fault() {
        for rootless in [false, true] {
            let text = config(rootless);
            Config::parse(text.as_bytes(), Path::new("config.json")).unwrap();
            let config: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(config["ociVersion"], SPEC_VERSION);
            let user = json!({ "type": "user" });
            let namespaces = config["linux"]["namespaces"].as_array().unwrap();
            assert_eq!(namespaces.contains(&user), rootless);
            assert_eq!(config["linux"]["uidMappings"].is_array(), rootless);
        }
    }
}
