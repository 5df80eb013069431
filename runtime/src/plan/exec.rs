//! One more process of a container: the container's own, with what the flags of `exec` change, or that of a file.
//!
//! What is not said is as it is for the container: limits, capabilities, scheduling (as with runc).

use std::path::PathBuf;

use drupe_protocol::Process;
use serde_json::{Map, Value, json};

use super::process::{of_object, unknown_capabilities};
use super::scheduling;
use super::support::{self, Warning};
use crate::bundle::{
    Config, FieldError, Problem, ProcessObject, check_nul, check_variable, require_absolute, without_nulls,
};

/// What `exec` was asked for.
#[derive(Clone, Debug)]
pub enum ExecRequest {
    /// `--process FILE`.
    File {
        /// The file's path, for messages.
        path: PathBuf,
        /// Its content: a `process` object.
        json: Vec<u8>,
    },
    /// Arguments and flags.
    Flags(ExecFlags),
}

/// The flags of `exec` that change the container's process, as they were given.
#[derive(Clone, Debug, Default)]
pub struct ExecFlags {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `--cwd`.
    pub cwd: Option<String>,
    /// `--env`, behind the container's own.
    pub env: Vec<String>,
    /// `--user`: `UID` or `UID:GID`.
    pub user: Option<String>,
    /// `--additional-gids`, behind the container's own.
    pub additional_gids: Vec<u32>,
    /// `--cap`, beside the container's own.
    pub capabilities: Vec<String>,
    /// `--tty`.
    pub terminal: bool,
    /// `--no-new-privs`.
    pub no_new_privileges: bool,
    /// `--apparmor`.
    pub apparmor: Option<String>,
    /// `--process-label`.
    pub process_label: Option<String>,
}

/// Why a process cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The file is not JSON.
    #[error("{}: not valid JSON", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
    /// A field of the file.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The field.
        source: FieldError,
    },
    /// A flag.
    #[error(transparent)]
    Flag(FieldError),
    /// The container's own process.
    #[error("config.json")]
    Container(#[source] FieldError),
}

/// The process, without ports for its streams, and what of it is not applied, in a machine with this many processors.
///
/// # Errors
/// [`ExecError`] names the field or flag that asks for what cannot be had.
pub fn process(
    container: &Config,
    request: &ExecRequest,
    vcpus: u8,
) -> Result<(Process, Vec<Warning>), ExecError> {
    let object = match request {
        ExecRequest::File { path, json } => from_file(container, path, json)?,
        ExecRequest::Flags(flags) => from_flags(container, flags)?,
    };
    let error = |error| match request {
        ExecRequest::File { path, .. } => ExecError::File { path: path.clone(), source: error },
        ExecRequest::Flags(_) => ExecError::Container(error),
    };
    let mut warnings = support::check_process(object.raw(), object.prefix()).map_err(error)?;
    warnings.extend(unknown_capabilities(&object));
    let mut process = of_object(&object, container).map_err(error)?;
    let processors = scheduling::Processors {
        of_host: container.resources().cpu.cpus.as_deref().filter(|list| !list.is_empty()),
        vcpus: vcpus.into(),
    };
    process.cpu_affinity = scheduling::affinity(&object, processors, &mut warnings).map_err(error)?;
    Ok((process, warnings))
}

/// Fields that a file may leave to the container.
const INHERITED: &[&str] = &[
    "capabilities",
    "rlimits",
    "noNewPrivileges",
    "oomScoreAdj",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
];

fn from_file(container: &Config, path: &std::path::Path, json: &[u8]) -> Result<ProcessObject, ExecError> {
    let file = |source| ExecError::File { path: path.to_owned(), source };
    let mut raw: Value =
        serde_json::from_slice(json).map_err(|source| ExecError::Syntax { path: path.to_owned(), source })?;
    check_nul(&raw, "").map_err(file)?;
    without_nulls(&mut raw);
    if let Some(fields) = raw.as_object_mut() {
        for name in INHERITED {
            let inherited = container.process().raw().get(name);
            if let (None, Some(value)) = (fields.get(*name), inherited) {
                fields.insert((*name).to_owned(), value.clone());
            }
        }
    }
    ProcessObject::parse(&raw, "").map_err(file)
}

fn from_flags(container: &Config, flags: &ExecFlags) -> Result<ProcessObject, ExecError> {
    check_flags(flags).map_err(ExecError::Flag)?;
    let mut raw = container.process().raw().clone();
    if let Some(fields) = raw.as_object_mut() {
        change(fields, flags).map_err(ExecError::Flag)?;
    }
    ProcessObject::parse(&raw, "process").map_err(ExecError::Container)
}

fn check_flags(flags: &ExecFlags) -> Result<(), FieldError> {
    if flags.args.is_empty() {
        return Err(FieldError::new("the program's arguments", Problem::Missing));
    }
    if let Some(cwd) = &flags.cwd {
        require_absolute("--cwd".into(), cwd.as_ref())?;
    }
    flags.env.iter().try_for_each(|variable| check_variable("--env", variable))?;
    let texts = flags.args.iter().map(|arg| ("the program's arguments", arg));
    let texts = texts.chain(flags.env.iter().map(|variable| ("--env", variable)));
    for (name, text) in texts.chain(flags.cwd.iter().map(|cwd| ("--cwd", cwd))) {
        check_nul(&json!(text), name)?;
    }
    Ok(())
}

fn change(process: &mut Map<String, Value>, flags: &ExecFlags) -> Result<(), FieldError> {
    process.insert("args".into(), json!(flags.args));
    process.insert("terminal".into(), json!(flags.terminal));
    if let Some(cwd) = &flags.cwd {
        process.insert("cwd".into(), json!(cwd));
    }
    append(process, "env", flags.env.iter().map(|variable| json!(variable)));
    if flags.no_new_privileges {
        process.insert("noNewPrivileges".into(), json!(true));
    }
    for (name, label) in [("apparmorProfile", &flags.apparmor), ("selinuxLabel", &flags.process_label)] {
        if let Some(label) = label {
            process.insert(name.into(), json!(label));
        }
    }
    if let Some(user) = object(process, "user") {
        if let Some(asked) = &flags.user {
            let (uid, gid) = ids(asked)?;
            user.insert("uid".into(), json!(uid));
            if let Some(gid) = gid {
                user.insert("gid".into(), json!(gid));
            }
        }
        append(user, "additionalGids", flags.additional_gids.iter().map(|gid| json!(gid)));
    }
    if !flags.capabilities.is_empty()
        && let Some(sets) = object(process, "capabilities")
    {
        // Ambient ones must be inheritable too, so they are for containers that have some, as with runc.
        let ambient = sets.contains_key("inheritable").then_some("ambient");
        for set in ["bounding", "effective", "permitted"].into_iter().chain(ambient) {
            append(sets, set, flags.capabilities.iter().map(|capability| json!(capability)));
        }
    }
    Ok(())
}

fn object<'a>(parent: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    parent.entry(name).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

fn append(parent: &mut Map<String, Value>, name: &str, values: impl Iterator<Item = Value>) {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return;
    }
    if let Some(list) = parent.entry(name).or_insert_with(|| json!([])).as_array_mut() {
        list.extend(values);
    }
}

/// `UID` or `UID:GID`.
fn ids(user: &str) -> Result<(u32, Option<u32>), FieldError> {
    let error = || FieldError::text("--user", user, Problem::Invalid("must be UID or UID:GID, in numbers"));
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (user, None),
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| error());
    Ok((number(uid)?, gid.map(number).transpose()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::text::chain;

    fn container() -> Config {
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": { "uid": 1, "gid": 2, "additionalGids": [3], "umask": 7 },
                "args": ["init"],
                "env": ["A=1", "PATH=/bin"],
                "cwd": "/srv",
                "terminal": true,
                "consoleSize": { "height": 25, "width": 80 },
                "noNewPrivileges": true,
                "oomScoreAdj": 100,
                "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": 20 }],
                "execCPUAffinity": { "initial": "0", "final": "1" },
            },
            "root": { "path": "rootfs" },
        });
        Config::parse(config.to_string().as_bytes(), Path::new("config.json")).unwrap()
    }

    fn flags(flags: ExecFlags) -> Result<Process, String> {
        let args = vec!["sh".to_owned(), "-c".to_owned()];
        let request = ExecRequest::Flags(ExecFlags { args, ..flags });
        process(&container(), &request, 2).map(|(process, _)| process).map_err(|error| chain(&error))
    }

    fn file(object: &Value) -> Result<(Process, Vec<Warning>), String> {
        let request = ExecRequest::File { path: "p.json".into(), json: object.to_string().into_bytes() };
        process(&container(), &request, 2).map_err(|error| chain(&error))
    }

    #[test]
    fn without_flags_it_is_as_the_container_but_for_its_arguments_and_terminal() {
        let process = flags(ExecFlags::default()).unwrap();
        let (container, _) = file(container().process().raw()).unwrap();
        assert_eq!(process.args, ["sh", "-c"]);
        assert_eq!(process.terminal, None);
        assert_eq!(process.stdio, drupe_protocol::StdioPorts::default());
        assert_eq!(process.cpu_affinity.initial, [0]);
        assert_eq!(process.cpu_affinity.last, [1]);
        assert_eq!(
            Process { args: container.args.clone(), terminal: container.terminal, ..process },
            container
        );
    }

    #[test]
    fn flags_change_what_they_name() {
        let process = flags(ExecFlags {
            cwd: Some("/".into()),
            env: vec!["A=2".into(), "B=3".into()],
            user: Some("5:6".into()),
            additional_gids: vec![7],
            capabilities: vec!["CAP_CHOWN".into()],
            terminal: true,
            ..ExecFlags::default()
        })
        .unwrap();
        assert_eq!(process.cwd, "/");
        assert_eq!(process.env, ["PATH=/bin", "A=2", "B=3"]);
        assert_eq!((process.user.uid, process.user.gid, process.user.umask), (5, 6, Some(7)));
        assert_eq!(process.user.additional_gids, [3, 7]);
        assert_eq!(process.capabilities.effective, ["CAP_CHOWN", "CAP_KILL"]);
        assert!(process.capabilities.ambient.is_empty());
        assert!(process.terminal.is_some_and(|terminal| terminal.size.is_some()));
        assert_eq!(flags(ExecFlags { user: Some("5".into()), ..ExecFlags::default() }).unwrap().user.gid, 2);
    }

    #[test]
    fn a_file_is_a_process_of_its_own_with_the_container_s_limits() {
        let (process, warnings) = file(&json!({
            "args": ["id"], "cwd": "/", "user": null, "apparmorProfile": "x", "rlimits": [],
        }))
        .unwrap();
        assert_eq!((process.user.uid, process.user.additional_gids.len(), process.env.len()), (0, 0, 0));
        assert_eq!(process.capabilities.bounding, ["CAP_KILL"]);
        assert!(process.no_new_privileges && process.rlimits.is_empty());
        assert_eq!(process.oom_score_adj, Some(100));
        assert_eq!(
            warnings.iter().map(|warning| warning.field.as_str()).collect::<Vec<_>>(),
            ["apparmorProfile"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_as_it_was_given() {
        for (object, error) in [
            (json!({ "args": ["a"], "cwd": "x" }), "p.json: cwd: \"x\": must be an absolute path"),
            (json!({ "args": ["a"] }), "p.json: cwd: missing"),
            (json!({ "cwd": "/" }), "p.json: args: missing"),
            (json!([]), "p.json: the process: must be an object"),
            (
                json!({ "args": ["a"], "cwd": "/", "user": { "uid": "0" } }),
                "p.json: user.uid: invalid type: string \"0\", expected u32",
            ),
        ] {
            assert_eq!(file(&object).unwrap_err(), error);
        }
        let default = ExecFlags::default;
        for (given, error) in [
            (ExecFlags { cwd: Some("x".into()), ..default() }, "--cwd: \"x\": must be an absolute path"),
            (ExecFlags { env: vec!["x".into()], ..default() }, "--env: \"x\": must have the form NAME=value"),
            (
                ExecFlags { user: Some("root".into()), ..default() },
                "--user: \"root\": must be UID or UID:GID, in numbers",
            ),
            (
                ExecFlags { user: Some("1:".into()), ..default() },
                "--user: \"1:\": must be UID or UID:GID, in numbers",
            ),
        ] {
            assert_eq!(flags(given).unwrap_err(), error);
        }
        let request = ExecRequest::File { path: "p.json".into(), json: b"{".to_vec() };
        let error = chain(&process(&container(), &request, 2).unwrap_err());
        assert!(error.starts_with("p.json: not valid JSON: "), "{error}");
    }
}
