//! `drupe features`: what drupe can do, from the tables that decide it.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use crate::bundle::SPEC_VERSION;
use crate::cli::{FeaturesArgs, GlobalArgs};
use crate::plan::support::{FIELDS, Support, support};
use crate::plan::{capability_names, mount_option_names, namespace_names};
use crate::seccomp;

use super::Failure;

/// The features document of the specification (features.md).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: Vec<&'static str>,
    mount_options: Vec<String>,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    /// Annotations that change what drupe does. None does.
    potentially_unsafe_config_annotations: [&'static str; 0],
}

/// Its part for Linux (features-linux.md).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<&'static str>,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: Vec<&'static str>,
    operators: Vec<&'static str>,
    archs: &'static [&'static str],
    known_flags: Vec<&'static str>,
    supported_flags: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

/// What `linux.memoryPolicy` may be.
#[derive(Debug, Serialize)]
struct MemoryPolicy {
    modes: [&'static str; 0],
    flags: [&'static str; 0],
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// Prints the document.
pub(crate) fn features(_global: &GlobalArgs, _args: &FeaturesArgs) -> Result<u8, Failure> {
    let mut text = serde_json::to_string_pretty(&document())?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

fn document() -> Features {
    let hooks = FIELDS.iter().filter(|(_, support)| support.is_applied());
    let hooks = hooks.filter_map(|(field, _)| field.strip_prefix("hooks.")).collect();
    let intel_rdt = applied("linux.intelRdt").enabled;
    let has_cgroups = applied("linux.cgroupsPath").enabled;
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: SPEC_VERSION,
        hooks,
        mount_options: mount_option_names(),
        linux: Linux {
            namespaces: namespace_names(),
            capabilities: capability_names(),
            cgroup: Cgroup {
                v1: has_cgroups,
                v2: has_cgroups,
                systemd: has_cgroups,
                systemd_user: has_cgroups,
                rdma: applied("linux.resources.rdma").enabled,
            },
            seccomp: Seccomp {
                enabled: applied("linux.seccomp").enabled,
                actions: seccomp::actions(),
                operators: seccomp::operators(),
                archs: seccomp::ARCHITECTURES,
                known_flags: seccomp::known_flags(),
                supported_flags: seccomp::supported_flags(),
            },
            apparmor: applied("process.apparmorProfile"),
            selinux: applied("process.selinuxLabel"),
            intel_rdt: IntelRdt { enabled: intel_rdt, schemata: intel_rdt, monitoring: intel_rdt },
            memory_policy: MemoryPolicy { modes: [], flags: [] },
            mount_extensions: MountExtensions { idmap: applied("mounts[].uidMappings") },
            net_devices: applied("linux.netDevices"),
        },
        annotations: BTreeMap::from([
            ("drupe.immutable", "destinations of bind mounts, separated by commas".to_owned()),
            ("drupe.isolation", "kvm".to_owned()),
            ("drupe.protocol", drupe_protocol::VERSION.to_string()),
            ("drupe.version", env!("CARGO_PKG_VERSION").to_owned()),
        ]),
        potentially_unsafe_config_annotations: [],
    }
}

/// Whether a field of config.json is applied.
fn applied(field: &str) -> Enabled {
    Enabled { enabled: support(field).is_some_and(Support::is_applied) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_promised_is_done() {
        let document = serde_json::to_value(document()).unwrap();
        let options = document["mountOptions"].as_array().unwrap();
        assert!(options.contains(&json!("ro")) && options.contains(&json!("rro")));
        let capabilities = document["linux"]["capabilities"].as_array().unwrap();
        assert!(capabilities.contains(&json!("CAP_CHECKPOINT_RESTORE")) && capabilities.len() == 41);
        for name in ["cgroup", "ipc", "mount", "network", "pid", "uts"] {
            assert!(document["linux"]["namespaces"].as_array().unwrap().contains(&json!(name)), "{name}");
        }
        for hook in document["hooks"].as_array().unwrap() {
            let support = support(&format!("hooks.{}", hook.as_str().unwrap()));
            assert!(support.is_some_and(Support::is_applied), "{hook}");
        }
    }

    fn names<'a>(document: &'a Value, pointer: &str) -> Vec<&'a str> {
        let list = document.pointer(pointer).and_then(Value::as_array).unwrap();
        list.iter().map(|name| name.as_str().unwrap()).collect()
    }

    #[test]
    fn every_name_for_a_seccomp_profile_can_be_used_in_one() {
        let document = serde_json::to_value(document()).unwrap();
        let names = |list: &str| names(&document, &format!("/linux/seccomp/{list}"));
        let accepted = |part: &str, name: &str| {
            let mut profile = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] }],
            });
            match part {
                "actions" => profile["syscalls"][0]["action"] = json!(name),
                "operators" => profile["syscalls"][0]["args"][0]["op"] = json!(name),
                "archs" => profile["architectures"] = json!([name]),
                _ => profile["flags"] = json!([name]),
            }
            seccomp::compile(&seccomp::Profile::from_json(&profile).unwrap()).is_ok()
        };
        for (part, count) in [("actions", 8), ("operators", 7), ("archs", 23), ("supportedFlags", 3)] {
            assert_eq!(names(part).len(), count, "{part}");
            for name in names(part) {
                assert!(accepted(part, name), "{part}: {name}");
            }
        }
        let refused: Vec<_> =
            names("knownFlags").into_iter().filter(|name| !accepted("flags", name)).collect();
        assert_eq!(refused, ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
        assert!(!names("supportedFlags").contains(&refused[0]));
        assert!(!names("actions").contains(&"SCMP_ACT_NOTIFY") && !accepted("actions", "SCMP_ACT_NOTIFY"));
    }

    #[test]
    fn what_no_table_has_is_said_to_be_missing() {
        assert!(!applied("linux.memoryPolicy").enabled);
        let document = serde_json::to_value(document()).unwrap();
        assert_eq!(names(&document, "/linux/memoryPolicy/modes"), [""; 0]);
        let rdt = &document["linux"]["intelRdt"];
        assert_eq!(*rdt, json!({ "enabled": false, "schemata": false, "monitoring": false }));
    }

    #[test]
    fn every_name_is_one_of_the_specification() {
        let document = serde_json::to_value(document()).unwrap();
        let names: Vec<_> = document.as_object().unwrap().keys().cloned().collect();
        let expected = [
            "annotations",
            "hooks",
            "linux",
            "mountOptions",
            "ociVersionMax",
            "ociVersionMin",
            "potentiallyUnsafeConfigAnnotations",
        ];
        assert_eq!(names, expected);
        assert!(document["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean());
    }
}
