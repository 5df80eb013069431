//! Settings files: the example that the documentation prints, and files that are wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::text::chain;

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(text, Path::new("c.toml")).map_err(|error| chain(&error))
}

/// docs/config.md has every key with its default, in a comment; without the comment signs it is the defaults.
#[test]
fn the_example_in_the_documentation_is_the_defaults() {
    let document = include_str!("../../../docs/config.md");
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let plain = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    let text: String =
        example.lines().map(|line| plain(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    let settings = parse(&text).unwrap();
    let beside = |name: &str| Some(PathBuf::from(format!("/usr/local/lib/drupe/{name}")));
    let defaults =
        Settings { kernel: beside("vmlinux"), initramfs: beside("initramfs"), ..Settings::default() };
    assert_eq!(settings, defaults);
    for key in [
        "kernel",
        "initramfs",
        "default",
        "max",
        "spare",
        "vm_kernel",
        "vm_parameters",
        "vm_initrd",
        "vm_hardware",
        "kind",
        "size",
        "directory",
        "volumes",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{key} = "))),
            "{key} is not in docs/config.md"
        );
    }
}

#[test]
fn every_key_is_read() {
    let settings = parse(
        "kernel = \"/k\"\ninitramfs = \"/i\"\n[memory]\ndefault = \"256M\"\nmax = \"4G\"\nspare = 1048576\n\
         [vcpus]\ndefault = 2\nmax = 8\n\
         [writable_layer]\nkind = \"ext4\"\nsize = \"1G\"\ndirectory = \"/d\"\nvolumes = [\"/v\"]\n\
         [allow]\nvm_kernel = true\nvm_parameters = true\nvm_initrd = true\nvm_hardware = true\n",
    )
    .unwrap();
    assert_eq!(settings.kernel.as_deref(), Some(Path::new("/k")));
    assert_eq!(settings.memory.default.bytes(), 256 << 20);
    assert_eq!(settings.memory.max.bytes(), 4 << 30);
    assert_eq!(settings.memory.spare, Size(1 << 20));
    assert_eq!((settings.vcpus.default.get(), settings.vcpus.max.get()), (2, 8));
    let layer = WritableLayer {
        kind: LayerKind::Ext4,
        size: Size(1 << 30),
        directory: "/d".into(),
        volumes: vec!["/v".into()],
    };
    assert_eq!(settings.writable_layer, layer);
    let allow = Allow { vm_kernel: true, vm_parameters: true, vm_initrd: true, vm_hardware: true };
    assert_eq!(settings.allow, allow);
    assert_eq!(parse("").unwrap(), Settings::default());
}

#[test]
fn what_is_wrong_is_named_with_file_and_line() {
    for (text, wrong) in [
        ("kernle = \"/k\"", "c.toml: line 1: unknown field `kernle`"),
        ("[allow]\nvm_kernel = true\nvm_kernal = true", "c.toml: line 3: unknown field `vm_kernal`"),
        ("[allow]\nvm_kernel = 1", "c.toml: line 2: invalid type: integer `1`, expected a boolean"),
        ("[memory]\ndefault = \"1M\"", "c.toml: line 2: 1048576: must be 32M to 1T"),
        ("[memory]\nspare = \"1,5G\"", "c.toml: line 2: \"1,5G\": not a size such as \"128M\""),
        ("[memory]\nspare = -1", "c.toml: line 2: -1: must not be negative"),
        ("\n[vcpus]\nmax = 33", "c.toml: line 3: 33: must be 1 to 32"),
        (
            "[writable_layer]\nkind = \"xfs\"",
            "c.toml: line 2: unknown variant `xfs`, expected one of `none`, `tmpfs`, `ext4`",
        ),
        ("[writable_layer]\nsize = \"15M\"", "c.toml: line 2: 15728640: must be 16M to 8T"),
        (
            "[writable_layer]\ndirectory = \"d\"",
            "c.toml: writable_layer.directory: \"d\": must be an absolute path",
        ),
        (
            "[writable_layer]\nvolumes = [\"/v\", \"w\"]",
            "c.toml: writable_layer.volumes: \"w\": must be an absolute path",
        ),
        ("kernel = \"k\"", "c.toml: kernel: \"k\": must be an absolute path"),
        ("kernel", "c.toml: line 1: "),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(wrong) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_that_others_may_write_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    assert_eq!(Settings::of_file(&path, false).unwrap(), Settings::default());
    assert!(
        matches!(Settings::of_file(&path, true), Err(SettingsError::Document(error)) if error.is_missing())
    );
    fs::write(&path, "[allow]\nvm_kernel = true").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(Settings::of_file(&path, true).unwrap().allow.vm_kernel);
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(Settings::of_file(&path, false), Err(SettingsError::Untrusted(_))));
    assert!(matches!(
        Settings::of_file(dir.path(), false),
        Err(SettingsError::Document(DocumentError::NotAFile(_)))
    ));
}
