//! The operator's `[writable_layer]` -> what the agent lays over the root filesystem, and the disk that it is on.

use drupe_protocol::{Layer, MountConfig, MountSource, RecursiveAttributes};
use drupe_vmm::MemorySize;

use super::DiskPlan;
use crate::lexical::clean;
use crate::settings::{LayerKind, WritableLayer};

/// The only disk of a machine.
const DEVICE: &str = "/dev/vda";

/// A layer, if there is to be one.
#[derive(Debug, Default)]
pub(crate) struct LayerPlan {
    pub(crate) guest: Option<Layer>,
    pub(crate) disk: Option<DiskPlan>,
    /// The mounts of its volumes, which come before all others.
    pub(crate) volumes: Vec<MountConfig>,
}

/// Works it out for a machine with so much memory. A root that is read-only needs none.
pub(crate) fn layer(settings: &WritableLayer, memory: MemorySize, readonly: bool) -> LayerPlan {
    let bytes = settings.size.0;
    let (guest, disk) = match settings.kind {
        _ if readonly => return LayerPlan::default(),
        LayerKind::None => return LayerPlan::default(),
        // More than that would end processes for want of memory before the layer is full.
        LayerKind::Tmpfs => (Layer::Tmpfs { bytes: bytes.min(memory.bytes() / 2) }, None),
        LayerKind::Ext4 => {
            let disk = DiskPlan { directory: settings.directory.clone(), bytes };
            (Layer::Ext4 { device: DEVICE.into() }, Some(disk))
        }
    };
    let volumes = settings.volumes.iter().enumerate().map(|(index, path)| MountConfig {
        field: format!("writable_layer.volumes[{index}]"),
        destination: clean(path).to_string_lossy().into_owned(),
        source: MountSource::Layer { name: format!("volume{index}") },
        flags: 0,
        propagation: Vec::new(),
        recursive: RecursiveAttributes::default(),
        copy_up: true,
    });
    LayerPlan { guest: Some(guest), disk, volumes: volumes.collect() }
}
