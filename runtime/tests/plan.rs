//! What a config.json turns into, compared with the goldens in `tests/goldens`, byte for byte.
//!
//! `UPDATE_GOLDENS=1 cargo test -p drupe --test plan` writes them anew: read the difference before it is committed.

use std::path::{Path, PathBuf};

use drupe::bundle::{Bundle, Config, SourceKind};
use drupe::plan::plan;
use drupe::settings::Settings;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// The settings of `NAME.toml`; the defaults where there is none.
fn settings(name: &str) -> Settings {
    let path = goldens().join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    Settings::parse(&text, &path).unwrap()
}

/// The plan of `NAME.json`, whose bundle is in /bundle and whose bind mounts have these sources.
fn planned(name: &str, sources: &[(usize, SourceKind)]) -> String {
    let path = goldens().join(format!("{name}.json"));
    let config = Config::parse(&std::fs::read(&path).unwrap(), &path).unwrap();
    let bundle = Bundle { dir: "/bundle".into(), config, sources: sources.iter().copied().collect() };
    match plan(&bundle, &"golden".parse().unwrap(), &settings(name), false) {
        Ok(plan) => format!("{plan:#?}\n"),
        Err(error) => format!("{error}: {}\n", error.problem),
    }
}

fn check(name: &str, sources: &[(usize, SourceKind)]) {
    let got = planned(name, sources);
    assert_eq!(got, planned(name, sources), "{name}: two plans of one bundle differ");
    let path = goldens().join(format!("{name}.plan"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(got, golden, "{name}: see the comment on top of this file");
}

#[test]
fn minimal() {
    check("minimal", &[]);
}

/// What `runc spec` writes, without its terminal.
#[test]
fn runc_spec() {
    check("runc-spec", &[]);
}

#[test]
fn binds() {
    check(
        "binds",
        &[
            (1, SourceKind::Directory),
            (2, SourceKind::File),
            (3, SourceKind::Directory),
            (4, SourceKind::Special),
        ],
    );
}

/// Nearly every field that is applied, in one bundle.
#[test]
fn full() {
    let directory = SourceKind::Directory;
    check("full", &[(1, directory), (2, directory), (3, SourceKind::File)]);
}

/// Nodes are not made in a directory of the host.
#[test]
fn bound_dev() {
    check("bound-dev", &[(0, SourceKind::Directory)]);
}

/// The guest has a network of its own, whatever is asked for.
#[test]
fn network_path() {
    check("network-path", &[]);
}

#[test]
fn resources() {
    check("resources", &[]);
}

/// What the caller promises not to change.
#[test]
fn immutable() {
    check("immutable", &[(0, SourceKind::Directory), (1, SourceKind::Directory)]);
    check("refused-immutable", &[(0, SourceKind::Directory), (1, SourceKind::Directory)]);
}

#[test]
fn writable_layers() {
    check("layer-tmpfs", &[]);
    check("layer-ext4", &[(0, SourceKind::Directory)]);
    check("layer-readonly", &[]);
}

#[test]
fn refused() {
    check("refused-user-namespace", &[]);
    check("refused-network-host", &[]);
    check("refused-overlay", &[]);
    for name in ["refused-remount", "refused-idmap", "refused-option"] {
        check(name, &[(0, SourceKind::Directory)]);
    }
}

#[test]
fn debug_turns_the_console_on() {
    let path = goldens().join("minimal.json");
    let config = Config::parse(&std::fs::read(&path).unwrap(), &path).unwrap();
    let bundle = Bundle { dir: "/bundle".into(), config, sources: Default::default() };
    assert!(plan(&bundle, &"golden".parse().unwrap(), &Settings::default(), true).unwrap().machine.console);
}

/// Annotations come with images: nothing but state.json repeats them.
#[test]
fn annotations_change_nothing() {
    let path = goldens().join("minimal.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let plan_of = |json: &serde_json::Value| {
        let config = Config::parse(json.to_string().as_bytes(), &path).unwrap();
        let bundle = Bundle { dir: "/bundle".into(), config, sources: Default::default() };
        plan(&bundle, &"golden".parse().unwrap(), &Settings::default(), false).unwrap()
    };
    let without = plan_of(&json);
    json["annotations"] = serde_json::json!({
        "io.katacontainers.config.hypervisor.kernel": "/evil",
        "run.oci.handler": "krun",
        "org.drupe.kernel": "/evil",
        "io.kubernetes.cri.sandbox-memory": "1",
    });
    assert_eq!(plan_of(&json), without);
}
