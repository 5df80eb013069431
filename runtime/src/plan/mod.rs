//! The plan: what a bundle means for the machine, for the guest and for the host.
//!
//! [`plan`] is a pure function: no file is opened and nothing is asked of the system, so the goldens in
//! `tests/goldens` show exactly what a config.json turns into.

mod cpu_list;
pub mod exec;
mod mounts;
mod names;
mod namespaces;
mod options;
mod process;
mod resources;
mod scheduling;
pub mod support;

use std::path::PathBuf;

use drupe_protocol::{CgroupConfig, GuestConfig};
use drupe_vmm::MachineConfig;

use crate::bundle::{Bundle, FieldError};
use crate::container::ContainerId;
use support::Warning;

pub(crate) use names::{capability_names, mount_option_names, namespace_names};

/// What a bundle turns into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The machine.
    pub machine: MachineConfig,
    /// What the agent does in it.
    pub guest: GuestConfig,
    /// What the host contributes.
    pub host: HostPlan,
    /// What was asked for and is not applied.
    pub warnings: Vec<Warning>,
}

/// What the host contributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Files and directories that the guest sees.
    pub shares: Vec<SharePlan>,
}

/// A file or directory of the host that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharePlan {
    /// The field of config.json that asks for it.
    pub field: String,
    /// Its name in the root of the guest's virtio-fs.
    pub name: String,
    /// Where it is on the host.
    pub path: PathBuf,
    /// The host lets nobody write through it.
    pub readonly: bool,
    /// With what is mounted below it.
    pub recursive: bool,
    /// It is a file, not a directory.
    pub file: bool,
    /// A symbolic link at its path is followed.
    pub follow: bool,
}

/// Works out what a bundle means. `debug` turns the guest kernel's log on.
///
/// # Errors
/// [`FieldError`] names a field that asks for what cannot be had.
pub fn plan(bundle: &Bundle, id: &ContainerId, debug: bool) -> Result<Plan, FieldError> {
    let config = &bundle.config;
    let (spec, linux) = (config.spec(), config.linux());
    let mut warnings = support::check(config.raw())?;
    warnings.extend(process::unknown_capabilities(config.process()));
    let resources = linux.resources().as_ref();
    let machine = MachineConfig {
        vcpus: resources::vcpus(resources)?,
        memory: resources::memory(resources)?,
        console: debug,
        ..MachineConfig::default()
    };
    let namespaces = namespaces::namespaces(config, &mut warnings)?;
    let (root, root_share) = mounts::root(bundle);
    let mounts = mounts::mounts(bundle)?;
    warnings.extend(mounts.warnings);
    let guest = GuestConfig {
        id: id.to_string(),
        root,
        mounts: mounts.mounts,
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        namespaces,
        sysctl: linux.sysctl().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        rootfs_propagation: None,
        devices: Vec::new(),
        cgroup: CgroupConfig::default(),
        start_hooks: Vec::new(),
        process: process::process(config)?,
    };
    let shares = std::iter::once(root_share).chain(mounts.shares).collect();
    Ok(Plan { machine, guest, host: HostPlan { shares }, warnings })
}
