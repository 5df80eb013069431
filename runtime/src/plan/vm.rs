//! The `vm` object -> the kernel and the size of the machine, as far as the operator lets a bundle choose them.

use std::path::{Path, PathBuf};

use drupe_vmm::{MemorySize, VcpuCount};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::bundle::{Config, FieldError, Problem, require_absolute, typed};
use crate::settings::{Allow, Settings};

/// What a bundle chooses for its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VmPlan {
    pub(crate) kernel: Option<PathBuf>,
    pub(crate) initramfs: Option<PathBuf>,
    pub(crate) cmdline: Vec<String>,
    pub(crate) vcpus: Option<VcpuCount>,
    pub(crate) memory: Option<MemorySize>,
}

/// The object. The table of fields refuses what is in those of its parts that cannot be had.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VmObject {
    #[serde(rename = "hypervisor")]
    _hypervisor: Map<String, Value>,
    #[serde(rename = "image")]
    _image: Map<String, Value>,
    kernel: KernelObject,
    #[serde(rename = "hwConfig")]
    hardware: HardwareObject,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KernelObject {
    path: String,
    parameters: Vec<String>,
    initrd: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HardwareObject {
    vcpus: Option<u32>,
    memory: Option<u64>,
}

/// Works out what a bundle chooses.
pub(crate) fn vm(config: &Config, settings: &Settings) -> Result<VmPlan, FieldError> {
    let Some(value) = config.raw().get("vm") else { return Ok(VmPlan::default()) };
    let object: VmObject = typed(value, "vm")?;
    let (kernel, hardware, allow) = (&object.kernel, &object.hardware, &settings.allow);
    let (vcpus, memory) = (size_of_vcpus(hardware, settings)?, size_of_memory(hardware, settings)?);
    Ok(VmPlan {
        kernel: path("vm.kernel.path", &kernel.path, allow.vm_kernel, "vm_kernel")?,
        initramfs: path("vm.kernel.initrd", &kernel.initrd, allow.vm_initrd, "vm_initrd")?,
        cmdline: parameters(&kernel.parameters, allow)?,
        vcpus,
        memory,
    })
}

fn path(field: &str, path: &str, allowed: bool, key: &'static str) -> Result<Option<PathBuf>, FieldError> {
    if path.is_empty() {
        return Ok(None);
    }
    if !allowed {
        return Err(FieldError::text(field, path, Problem::NotAllowed(key)));
    }
    require_absolute(field.into(), Path::new(path))?;
    Ok(Some(path.into()))
}

/// Each is one word: a space would make two of it, and a control character anything.
fn parameters(words: &[String], allow: &Allow) -> Result<Vec<String>, FieldError> {
    for (index, word) in words.iter().enumerate() {
        let error = |problem| FieldError::text(format!("vm.kernel.parameters[{index}]"), word, problem);
        if !allow.vm_parameters {
            return Err(error(Problem::NotAllowed("vm_parameters")));
        }
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(error(Problem::Invalid("must be one word of ASCII letters, digits and signs")));
        }
    }
    Ok(words.to_vec())
}

fn size_of_vcpus(hardware: &HardwareObject, settings: &Settings) -> Result<Option<VcpuCount>, FieldError> {
    let Some(asked) = hardware.vcpus else { return Ok(None) };
    let error = |problem| FieldError::number("vm.hwConfig.vcpus", asked.into(), problem);
    if !settings.allow.vm_hardware {
        return Err(error(Problem::NotAllowed("vm_hardware")));
    }
    let most = settings.vcpus.max;
    match VcpuCount::new(asked) {
        Some(count) if count.get() <= most.get() => Ok(Some(count)),
        None if asked == 0 => Err(error(Problem::TooSmall(1))),
        _ => Err(error(Problem::TooLarge(most.get().into()))),
    }
}

fn size_of_memory(hardware: &HardwareObject, settings: &Settings) -> Result<Option<MemorySize>, FieldError> {
    let Some(asked) = hardware.memory else { return Ok(None) };
    let error = |problem| FieldError::unsigned("vm.hwConfig.memory", asked, problem);
    if !settings.allow.vm_hardware {
        return Err(error(Problem::NotAllowed("vm_hardware")));
    }
    let most = settings.memory.max;
    match MemorySize::from_bytes(asked) {
        Some(size) if size <= most => Ok(Some(size)),
        None if asked < MemorySize::MIN.bytes() => Err(error(Problem::TooSmall(MemorySize::MIN.bytes()))),
        _ => Err(error(Problem::TooLarge(most.bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::text::chain;

    fn planned(object: Value, settings: &Settings) -> Result<VmPlan, String> {
        let config = json!({
            "ociVersion": "1.3.0",
            "process": { "args": ["a"], "cwd": "/" },
            "root": { "path": "r" },
            "vm": object,
        });
        let config = Config::parse(config.to_string().as_bytes(), Path::new("config.json")).unwrap();
        vm(&config, settings).map_err(|error| chain(&error))
    }

    fn all_allowed() -> Settings {
        let allow = Allow { vm_kernel: true, vm_parameters: true, vm_initrd: true, vm_hardware: true };
        Settings { allow, ..Settings::default() }
    }

    #[test]
    fn without_the_operator_s_leave_each_part_is_refused_by_name() {
        let ask = "not allowed by the operator: allow";
        for (object, error) in [
            (json!({ "kernel": { "path": "/k" } }), format!("vm.kernel.path: \"/k\": {ask}.vm_kernel")),
            (json!({ "kernel": { "initrd": "/i" } }), format!("vm.kernel.initrd: \"/i\": {ask}.vm_initrd")),
            (
                json!({ "kernel": { "parameters": ["a"] } }),
                format!("vm.kernel.parameters[0]: \"a\": {ask}.vm_parameters"),
            ),
            (json!({ "hwConfig": { "vcpus": 2 } }), format!("vm.hwConfig.vcpus: 2: {ask}.vm_hardware")),
            (json!({ "hwConfig": { "memory": 9 } }), format!("vm.hwConfig.memory: 9: {ask}.vm_hardware")),
        ] {
            let refused = planned(object, &Settings::default()).unwrap_err();
            assert!(refused.starts_with(&error), "{refused}");
        }
        assert_eq!(planned(json!({}), &Settings::default()), Ok(VmPlan::default()));
    }

    #[test]
    fn what_is_allowed_is_planned() {
        let plan = planned(
            json!({
                "kernel": { "path": "/k", "parameters": ["quiet", "a=b"], "initrd": "/i" },
                "hwConfig": { "vcpus": 3, "memory": 64 << 20 },
            }),
            &all_allowed(),
        );
        let expected = VmPlan {
            kernel: Some("/k".into()),
            initramfs: Some("/i".into()),
            cmdline: vec!["quiet".into(), "a=b".into()],
            vcpus: VcpuCount::new(3),
            memory: MemorySize::from_bytes(64 << 20),
        };
        assert_eq!(plan, Ok(expected));
    }

    #[test]
    fn values_are_checked_even_then() {
        for (object, error) in [
            (json!({ "kernel": { "path": "k" } }), "vm.kernel.path: \"k\": must be an absolute path"),
            (
                json!({ "kernel": { "parameters": ["a b"] } }),
                "vm.kernel.parameters[0]: \"a b\": must be one word of ASCII letters, digits and signs",
            ),
            (json!({ "hwConfig": { "vcpus": 0 } }), "vm.hwConfig.vcpus: 0: below the minimum of 1"),
            (json!({ "hwConfig": { "vcpus": 33 } }), "vm.hwConfig.vcpus: 33: above the maximum of 32"),
            (json!({ "hwConfig": { "memory": 1 } }), "vm.hwConfig.memory: 1: below the minimum of 33554432"),
            (
                json!({ "hwConfig": 1 }),
                "vm.hwConfig: invalid type: integer `1`, expected struct HardwareObject",
            ),
        ] {
            assert_eq!(planned(object, &all_allowed()).unwrap_err(), error);
        }
    }
}
