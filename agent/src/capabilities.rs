//! The five capability sets of a process, in the order of runc: bounding before the user changes, the rest after.

use std::str::FromStr;

use drupe_protocol::Capabilities;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs,
};

use crate::failure::{Named, Result, setup};

const FIELD: &str = "process.capabilities";

/// Parsed sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    /// Reads the names. One that the agent does not know is an error that names it.
    pub(crate) fn parse(config: &Capabilities) -> Result<Self> {
        let set = |name: &str, names: &[String]| {
            names.iter().try_fold(CapabilitySet::empty(), |set, text| {
                let capability = caps::Capability::from_str(text).map_err(|_| {
                    setup(format!("{FIELD}.{name}"), format_args!("{text:?}: unknown capability"))
                })?;
                Ok(set | CapabilitySet::from_bits_retain(1 << capability.index()))
            })
        };
        Ok(Self {
            bounding: set("bounding", &config.bounding)?,
            effective: set("effective", &config.effective)?,
            permitted: set("permitted", &config.permitted)?,
            inheritable: set("inheritable", &config.inheritable)?,
            ambient: set("ambient", &config.ambient)?,
        })
    }

    /// Removes everything else from the bounding set. Needs CAP_SETPCAP: before the user changes.
    pub(crate) fn bound(&self) -> Result<()> {
        match bound_to(self.bounding) {
            Ok(()) => Ok(()),
            Err((capability, error)) => {
                Err(error).named(format!("{FIELD}.bounding"), format_args!("{capability:?}"))
            }
        }
    }

    /// Sets the others. Ambient capabilities that are not permitted and inheritable cannot be; they are left out.
    pub(crate) fn apply(&self) -> Result<()> {
        clear_ambient_capability_set().named(format!("{FIELD}.ambient"), "cannot be cleared")?;
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        };
        set_capabilities(None, sets).named(FIELD, "cannot be set")?;
        for capability in
            every().filter(|one| (self.ambient & self.permitted & self.inheritable).contains(*one))
        {
            configure_capability_in_ambient_set(capability, true)
                .named(format!("{FIELD}.ambient"), format_args!("{capability:?}"))?;
        }
        Ok(())
    }
}

/// Drops every capability of this process for good: also one that is made to execute something, by who may trace it,
/// gets none back, though it is root.
pub(crate) fn give_up() -> Result<(), Errno> {
    let none = CapabilitySet::empty();
    bound_to(none).map_err(|(_, error)| error)?;
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    set_no_new_privs(true)?;
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Removes all others from the bounding set; an error comes with the one that could not be.
fn bound_to(kept: CapabilitySet) -> Result<(), (CapabilitySet, Errno)> {
    for capability in every().filter(|one| !kept.contains(*one)) {
        match remove_capability_from_bounding_set(capability) {
            // The kernel knows none from here on. Its list in /proc would be the container's to forge.
            Err(Errno::INVAL) => break,
            result => result.map_err(|error| (capability, error))?,
        }
    }
    Ok(())
}

fn every() -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_named() {
        let config =
            Capabilities { ambient: vec!["CAP_KILL".into(), "CAP_FLY".into()], ..Default::default() };
        let failure = Sets::parse(&config).unwrap_err();
        assert_eq!(failure.field, "process.capabilities.ambient");
        assert_eq!(failure.message, "\"CAP_FLY\": unknown capability");
    }

    #[test]
    fn names_become_bits() {
        let config = Capabilities {
            bounding: vec!["CAP_CHOWN".into(), "CAP_CHECKPOINT_RESTORE".into()],
            ..Default::default()
        };
        assert_eq!(Sets::parse(&config).unwrap().bounding.bits(), 1 | 1 << 40);
    }
}
