//! The plan: what a bundle means for the machine, for the guest and for the host.
//!
//! [`plan`] is a pure function: no file is opened and nothing is asked of the system, so the goldens in
//! `tests/goldens` show exactly what a config.json turns into.

mod cache;
mod cpu_list;
mod devices;
pub mod exec;
mod hooks;
mod layer;
mod mounts;
mod names;
mod namespaces;
mod options;
mod process;
mod resources;
mod scheduling;
pub mod support;
mod vm;

use std::path::{Path, PathBuf};

use drupe_protocol::{CgroupConfig, GuestConfig, IdMode, IdRange};
use drupe_vmm::{MachineConfig, ShareCache};

use crate::bundle::{Bundle, Config, FieldError, Problem};
use crate::container::ContainerId;
use crate::device_program;
use crate::resources::{self as limits, Resources};
use crate::settings::Settings;
use support::Warning;

pub use hooks::HostHooks;

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
    /// The disk of a writable layer.
    pub disk: Option<DiskPlan>,
    /// `linux.cgroupsPath`: the cgroup that the monitor is put into.
    pub cgroups_path: Option<String>,
    /// `linux.resources`: what the container may use.
    pub resources: Resources,
    /// Programs that the host runs.
    pub hooks: HostHooks,
    /// Labels of security modules.
    pub labels: Labels,
    /// The guest's kernel.
    pub kernel: ImagePlan,
    /// The guest's initramfs.
    pub initramfs: ImagePlan,
}

/// A file without a name that is a disk of the guest's, with an empty filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// The directory in whose filesystem it is.
    pub directory: PathBuf,
    /// The most that it takes.
    pub bytes: u64,
}

/// Which file the guest starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePlan {
    /// The bundle's own (`vm.kernel`), if the operator allows it.
    pub bundle: Option<PathBuf>,
    /// The operator's, from the settings.
    pub operator: Option<PathBuf>,
}

impl ImagePlan {
    /// The file, when the command line gives one or none: what the bundle may choose comes first, then what is given.
    #[must_use]
    pub fn path<'a>(&'a self, given: Option<&'a Path>) -> Option<&'a Path> {
        self.bundle.as_deref().or(given).or(self.operator.as_deref())
    }
}

/// Labels of the host's security modules, for the monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// `process.apparmorProfile`.
    pub apparmor: Option<String>,
    /// `process.selinuxLabel`.
    pub selinux: Option<String>,
    /// `linux.mountLabel`.
    pub mount: Option<String>,
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
    /// What is mounted read-only at its path is writable through it.
    pub writable: bool,
    /// With what is mounted below it.
    pub recursive: bool,
    /// It is a file, not a directory.
    pub file: bool,
    /// A symbolic link at its path is followed.
    pub follow: bool,
    /// Owners of files are mapped.
    pub idmap: Option<IdMappings>,
    /// Who changes it while the container runs.
    pub cache: ShareCache,
}

/// How owners of files are mapped (`mounts[].uidMappings`): from those on the disk, which are `inside`, to those that
/// the guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMappings {
    /// The field of config.json that asks for it.
    pub field: String,
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
    /// For the mounts below it too.
    pub recursive: bool,
}

/// Works out what a bundle means on a host with these settings. `debug` turns the guest kernel's log on.
///
/// # Errors
/// [`FieldError`] names a field that asks for what cannot be had.
pub fn plan(bundle: &Bundle, id: &ContainerId, settings: &Settings, debug: bool) -> Result<Plan, FieldError> {
    let config = &bundle.config;
    let (spec, linux) = (config.spec(), config.linux());
    let mut warnings = support::check(config.raw())?;
    warnings.extend(process::unknown_capabilities(config.process()));
    let resources = config.resources();
    let vm = vm::vm(config, settings)?;
    let machine = MachineConfig {
        vcpus: vm.vcpus.map_or_else(|| resources::vcpus(resources, &settings.vcpus), Ok)?,
        memory: vm.memory.map_or_else(|| resources::memory(resources, &settings.memory), Ok)?,
        cmdline: vm.cmdline,
        console: debug,
    };
    let namespaces = namespaces::namespaces(config, &mut warnings)?;
    // A small init of the agent's is one of the container's tasks.
    let inits = u64::from(namespaces.pid == IdMode::BehindInit);
    let cgroup = CgroupConfig {
        settings: limits::guest::settings(resources, limits::FIELD, inits),
        device_program: device_program(resources)?,
    };
    let (mut root, mut root_share) = mounts::root(bundle);
    let mut mounts = mounts::mounts(bundle)?;
    cache::mark(bundle, &mut root_share, &mut mounts)?;
    let layer = layer::layer(&settings.writable_layer, machine.memory, root.readonly);
    root.layer = layer.guest;
    // The host sees to it that nothing is written to what lies below a layer.
    root_share.readonly |= root.layer.is_some();
    warnings.extend(mounts.warnings);
    let guest = GuestConfig {
        id: id.to_string(),
        root,
        mounts: layer.volumes.into_iter().chain(mounts.mounts).collect(),
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        namespaces,
        sysctl: linux.sysctl().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        rootfs_propagation: mounts::root_propagation(bundle, &mut warnings)?,
        devices: devices::devices(config, &mut warnings)?,
        cgroup,
        start_hooks: hooks::start(config)?,
        process: process::process(config)?,
    };
    let host = HostPlan {
        shares: std::iter::once(root_share).chain(mounts.shares).collect(),
        disk: layer.disk,
        cgroups_path: linux.cgroups_path().as_ref().map(|path| path.to_string_lossy().into_owned()),
        resources: resources.clone(),
        hooks: hooks::host(config)?,
        labels: labels(config),
        kernel: ImagePlan { bundle: vm.kernel, operator: settings.kernel.clone() },
        initramfs: ImagePlan { bundle: vm.initramfs, operator: settings.initramfs.clone() },
    };
    Ok(Plan { machine, guest, host, warnings })
}

/// The rules for devices, as the guest's kernel keeps them.
fn device_program(resources: &Resources) -> Result<Vec<u64>, FieldError> {
    let rules: Vec<_> = resources.devices.iter().map(Into::into).collect();
    device_program::compile(&rules)
        .map_err(|error| FieldError::new(error.field, Problem::Reason(error.reason)))
}

fn labels(config: &Config) -> Labels {
    let given = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
    let process = config.process().spec();
    Labels {
        apparmor: given(process.apparmor_profile()),
        selinux: given(process.selinux_label()),
        mount: given(config.linux().mount_label()),
    }
}
