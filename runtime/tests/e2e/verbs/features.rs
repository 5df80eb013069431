//! `features`: the document of the specification.

use serde_json::Value;

use crate::case::Case;
use crate::container::Container;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::features::the_document_names_what_can_be_asked_for", |stage| {
            let container = Container::new(stage.bundle(&["true"]));
            let features: Value = serde_json::from_str(&container.ok("features")).expect("JSON");
            assert_eq!(features["ociVersionMin"], "1.0.0");
            assert!(features["ociVersionMax"].as_str().expect("a version").starts_with("1."));
            let has = |pointer: &str, name: &str| {
                let list = features.pointer(pointer).and_then(Value::as_array).expect("a list");
                assert!(list.iter().any(|entry| entry == name), "no {name} in {pointer}");
            };
            for option in ["bind", "rbind", "ro", "rro", "rprivate", "nosuid", "strictatime"] {
                has("/mountOptions", option);
            }
            for namespace in ["pid", "network", "ipc", "uts", "mount", "cgroup"] {
                has("/linux/namespaces", namespace);
            }
            has("/linux/capabilities", "CAP_NET_ADMIN");
            has("/linux/seccomp/actions", "SCMP_ACT_ERRNO");
            has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ");
            has("/linux/seccomp/archs", "SCMP_ARCH_X86_64");
            for pointer in ["/linux/cgroup/v2", "/linux/seccomp/enabled", "/linux/selinux/enabled"] {
                assert!(features.pointer(pointer).is_some_and(Value::is_boolean), "{pointer}");
            }
        })
        .before_any_machine(),
    ]
}
