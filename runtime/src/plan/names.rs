//! The names that config.json may use, for who asks before they write one (`drupe features`).

use super::options;
use super::support::{Support, support};

/// Capabilities, in the order of their numbers: those that the agent knows.
pub(crate) fn capability_names() -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

/// Mount options that are not left to the filesystem, in alphabetical order.
pub(crate) fn mount_option_names() -> Vec<String> {
    let mut names: Vec<_> = options::names().into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

/// Namespaces, each with the field without which it is of no use.
const NAMESPACES: [(&str, &str); 8] = [
    ("cgroup", "linux.namespaces"),
    ("ipc", "linux.namespaces"),
    ("mount", "linux.namespaces"),
    ("network", "linux.namespaces"),
    ("pid", "linux.namespaces"),
    ("time", "linux.timeOffsets"),
    ("user", "linux.uidMappings"),
    ("uts", "linux.namespaces"),
];

/// Namespaces that are made.
pub(crate) fn namespace_names() -> Vec<&'static str> {
    let made = NAMESPACES.iter().filter(|(_, field)| support(field).is_some_and(Support::is_applied));
    made.map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;
    use serde::Deserialize;

    use super::*;

    #[test]
    fn the_bundle_takes_every_capability_that_is_named() {
        for name in capability_names() {
            assert!(Capability::deserialize(serde_json::json!(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn no_option_is_named_that_is_refused() {
        for name in mount_option_names() {
            let parsed = options::parse(std::slice::from_ref(&name));
            assert!(parsed.data.is_empty(), "{name}");
        }
    }
}
