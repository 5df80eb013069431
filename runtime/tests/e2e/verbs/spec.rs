//! `spec`: a config.json that runs.

use std::fs;

use serde_json::{Value, json};

use crate::case::Case;
use crate::container::Container;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("verbs::spec::what_it_writes_runs", |stage| {
            let bundle = stage.bundle(&["true"]);
            let mut container = Container::new(bundle);
            let config = container.bundle.dir.join("config.json");
            container.refused("spec --bundle BUNDLE", "config.json");
            fs::remove_file(&config).expect("own file");
            assert_eq!(container.ok("spec --bundle BUNDLE"), "");
            let mut spec: Value = serde_json::from_slice(&fs::read(&config).expect("written")).expect("JSON");
            assert_eq!((&spec["root"]["path"], &spec["process"]["args"]), (&json!("rootfs"), &json!(["sh"])));
            spec["process"]["terminal"] = json!(false);
            spec["process"]["args"] = json!(["echo", "hello"]);
            container.bundle.config = spec;
            container.bundle.run().assert(0, "hello\n");
        }),
        Case::new("verbs::spec::rootless_maps_root_to_the_caller", |stage| {
            let container = Container::new(stage.bundle(&["true"]));
            let directory = stage.directory("new");
            let mut spec = container.line("spec --rootless");
            assert!(spec.current_dir(&directory).status().expect("the runtime").success());
            let text = fs::read(directory.join("config.json")).expect("written");
            let config: Value = serde_json::from_slice(&text).expect("JSON");
            let mapping = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
            assert_eq!(
                (&config["linux"]["uidMappings"], &config["linux"]["gidMappings"]),
                (&mapping, &mapping)
            );
            let namespaces = config["linux"]["namespaces"].as_array().expect("namespaces");
            assert!(namespaces.contains(&json!({ "type": "user" })));
        })
        .before_any_machine(),
    ]
}
