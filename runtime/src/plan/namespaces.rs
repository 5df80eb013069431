//! `linux.namespaces`, the mappings of user ids and the offsets of clocks -> what the agent makes for the container.
//!
//! The guest's namespaces are apart from the host's, whatever is asked for, and one of the host cannot be joined from
//! inside: sharing is refused where the container would see something else than what was asked for, and warned about
//! where it is merely alone.

use drupe_protocol::{IdMode, IdRange, Namespaces, TimeOffset, TimeOffsets, UserNamespace};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset};

use super::support::Warning;
use crate::bundle::{Config, FieldError, Problem};

/// What is made for the container.
pub(crate) fn namespaces(config: &Config, warnings: &mut Vec<Warning>) -> Result<Namespaces, FieldError> {
    let asked = config.linux().namespaces().as_deref().unwrap_or_default();
    for (index, namespace) in asked.iter().enumerate() {
        check_path(index, namespace, warnings)?;
    }
    let has = |wanted| asked.iter().any(|namespace| namespace.typ() == wanted);
    if !asked.is_empty() && !has(LinuxNamespaceType::Network) {
        // A list without it is how clients ask for the host's (`--network host`).
        let why =
            "without \"network\" it would share the network of the host, which a virtual machine cannot";
        return Err(FieldError::new("linux.namespaces", Problem::Unsupported(why)));
    }
    if !has(LinuxNamespaceType::Network) {
        warnings.push(Warning {
            field: "linux.namespaces".into(),
            reason: "without network it would share the host's; it has the guest's".into(),
        });
    }
    Ok(Namespaces {
        pid: if has(LinuxNamespaceType::Pid) { IdMode::Init } else { IdMode::BehindInit },
        user: user(config, has(LinuxNamespaceType::User))?,
        time: time(config, has(LinuxNamespaceType::Time))?,
    })
}

fn check_path(
    index: usize,
    namespace: &LinuxNamespace,
    warnings: &mut Vec<Warning>,
) -> Result<(), FieldError> {
    let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(());
    };
    let field = format!("linux.namespaces[{index}].path");
    if namespace.typ() == LinuxNamespaceType::Network {
        let reason =
            format!("{path:?}: networks come later; the guest has one of its own, with loopback alone");
        warnings.push(Warning { field, reason });
        return Ok(());
    }
    let why = match namespace.typ() {
        LinuxNamespaceType::Pid => "a pid namespace of the host cannot be joined from the guest",
        LinuxNamespaceType::Ipc => "an ipc namespace of the host cannot be joined from the guest",
        LinuxNamespaceType::User => "a user namespace of the host cannot be joined from the guest",
        _ => "a namespace of the host cannot be joined from the guest",
    };
    Err(FieldError::text(field, &path.to_string_lossy(), Problem::Unsupported(why)))
}

fn user(config: &Config, asked: bool) -> Result<Option<UserNamespace>, FieldError> {
    let linux = config.linux();
    let mappings = |name: &str, given: &Option<Vec<LinuxIdMapping>>| {
        let field = format!("linux.{name}");
        let given = given.as_deref().unwrap_or_default();
        match (asked, given.is_empty()) {
            (true, true) => Err(FieldError::new(field, Problem::Missing)),
            (false, false) => {
                Err(FieldError::new(field, Problem::Invalid("needs \"user\" in linux.namespaces")))
            }
            _ => id_ranges(&field, given),
        }
    };
    let uids = mappings("uidMappings", linux.uid_mappings())?;
    let gids = mappings("gidMappings", linux.gid_mappings())?;
    Ok(asked.then_some(UserNamespace { uids, gids }))
}

/// Mappings as the kernel takes them.
pub(super) fn id_ranges(field: &str, mappings: &[LinuxIdMapping]) -> Result<Vec<IdRange>, FieldError> {
    let range = |(index, mapping): (usize, &LinuxIdMapping)| {
        let (inside, outside, count) = (mapping.container_id(), mapping.host_id(), mapping.size());
        let error =
            |problem| FieldError::unsigned(format!("{field}[{index}].size"), u64::from(count), problem);
        if count == 0 {
            return Err(error(Problem::TooSmall(1)));
        }
        // The last id of all means "no id".
        let most = u32::MAX - inside.max(outside);
        if count > most {
            return Err(error(Problem::TooLarge(u64::from(most))));
        }
        Ok(IdRange { inside, outside, count })
    };
    mappings.iter().enumerate().map(range).collect()
}

fn time(config: &Config, asked: bool) -> Result<Option<TimeOffsets>, FieldError> {
    let mut offsets = TimeOffsets::default();
    for (clock, offset) in config.linux().time_offsets().iter().flatten() {
        let field = format!("linux.timeOffsets.{clock}");
        if !asked {
            return Err(FieldError::new(field, Problem::Invalid("needs \"time\" in linux.namespaces")));
        }
        let offset = time_offset(&field, offset)?;
        match clock.as_str() {
            "monotonic" => offsets.monotonic = Some(offset),
            "boottime" => offsets.boottime = Some(offset),
            _ => {
                let why = "only monotonic and boottime have offsets";
                return Err(FieldError::new(field, Problem::Unsupported(why)));
            }
        }
    }
    Ok(asked.then_some(offsets))
}

fn time_offset(field: &str, offset: &LinuxTimeOffset) -> Result<TimeOffset, FieldError> {
    let nanoseconds = offset.nanosecs().unwrap_or(0);
    if nanoseconds > 999_999_999 {
        let problem = Problem::TooLarge(999_999_999);
        return Err(FieldError::number(format!("{field}.nanosecs"), nanoseconds.into(), problem));
    }
    Ok(TimeOffset { seconds: offset.secs().unwrap_or(0), nanoseconds })
}
