//! The states of a container, and the one table of what each verb does in each of them.
//!
//! ```text
//!          create            (done)            start            its process ends
//! none ------------> creating ------> created ------> running ------------------> stopped --delete--> none
//!                                                      |   ^
//!                                                pause v   | resume
//!                                                     paused
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a container that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// `create` is under way.
    Creating,
    /// Its program is one exec away.
    Created,
    /// Its program runs.
    Running,
    /// It stands still.
    Paused,
    /// It is over.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The state that a record and the locks on it amount to. `creating` and `alive` say whether the locks of these
/// names are held.
///
/// Of a monitor whose record says nothing it is known that it runs, and no more.
pub(crate) fn derive(recorded: Option<Status>, alive: bool, creating: bool) -> Status {
    match recorded {
        _ if creating => Status::Creating,
        _ if alive => recorded.unwrap_or(Status::Running),
        _ => Status::Stopped,
    }
}

/// The verbs that are about one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `create`, and `run`.
    Create,
    /// `start`
    Start,
    /// `state`
    State,
    /// `kill`
    Kill,
    /// `delete`
    Delete,
    /// `delete --force`
    ForceDelete,
    /// `exec`
    Exec,
    /// `exec --ignore-paused`
    ExecPaused,
    /// `ps`
    Ps,
    /// `pause`
    Pause,
    /// `resume`
    Resume,
    /// `events`
    Events,
    /// `update`
    Update,
}

/// What becomes of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is carried out.
    Allowed,
    /// It waits until the container is created, and is looked up again.
    Wait,
    /// There is nothing to do, which is no error.
    Nothing,
    /// It is an error.
    Refused(Refusal),
}

/// Why a verb is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    DoesNotExist,
    Exists,
    AlreadyRunning,
    HasStopped,
    StartPaused,
    NotRunning,
    NotPaused,
    ExecStopped,
    ExecPaused,
    ExecCreated,
    NotStopped(Status),
}

impl Refusal {
    /// The message, in runc's words where runc has some.
    pub(crate) fn message(self, id: &str) -> String {
        match self {
            Self::DoesNotExist => "container does not exist".into(),
            Self::Exists => "container with given ID already exists".into(),
            Self::AlreadyRunning => "cannot start an already running container".into(),
            Self::HasStopped => "cannot start a container that has stopped".into(),
            Self::StartPaused => "cannot start a container in the paused state".into(),
            Self::NotRunning => "container not running".into(),
            Self::NotPaused => "container not paused".into(),
            Self::ExecStopped => "cannot exec in a stopped container".into(),
            Self::ExecPaused => "cannot exec in a paused container (use --ignore-paused to override)".into(),
            Self::ExecCreated => "cannot exec in a container that is not started".into(),
            Self::NotStopped(status) => format!("cannot delete container {id} that is not stopped: {status}"),
        }
    }
}

/// The table: what a verb does in a state, `None` being a container that does not exist.
pub(crate) fn verdict(verb: Verb, status: Option<Status>) -> Verdict {
    use Refusal as R;
    use Status::{Created, Creating, Paused, Running, Stopped};
    use Verb as V;
    use Verdict::{Allowed, Nothing, Refused, Wait};

    let Some(status) = status else {
        return match verb {
            V::Create => Allowed,
            V::ForceDelete => Nothing,
            _ => Refused(R::DoesNotExist),
        };
    };
    match (verb, status) {
        (V::Create, _) => Refused(R::Exists),
        (V::State | V::ForceDelete, _) => Allowed,

        (V::Kill, Creating | Created | Running | Paused) => Allowed,
        (V::Kill, Stopped) => Refused(R::NotRunning),

        // Of a container that was created and not started the specification wants an error; runc's callers rely on its
        // going away.
        (V::Delete, Created | Stopped) => Allowed,
        (V::Delete, status) => Refused(R::NotStopped(status)),

        // Whatever else meets a container in the making waits for it.
        (_, Creating) => Wait,

        (V::Start, Created) => Allowed,
        (V::Start, Running) => Refused(R::AlreadyRunning),
        (V::Start, Paused) => Refused(R::StartPaused),
        (V::Start, Stopped) => Refused(R::HasStopped),

        (V::Exec | V::ExecPaused, Running) => Allowed,
        (V::Exec | V::ExecPaused, Created) => Refused(R::ExecCreated),
        (V::Exec | V::ExecPaused, Stopped) => Refused(R::ExecStopped),
        (V::Exec, Paused) => Refused(R::ExecPaused),
        (V::ExecPaused, Paused) => Allowed,

        (V::Ps | V::Events | V::Update, Created | Running | Paused) => Allowed,
        (V::Pause, Created | Running) => Allowed,
        (V::Pause, Paused) => Refused(R::NotRunning),
        (V::Resume, Paused) => Allowed,
        (V::Resume, _) => Refused(R::NotPaused),
        (V::Ps | V::Pause | V::Events | V::Update, Stopped) => Refused(R::NotRunning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Option<Status>; 6] = [
        None,
        Some(Status::Creating),
        Some(Status::Created),
        Some(Status::Running),
        Some(Status::Paused),
        Some(Status::Stopped),
    ];

    /// How a cell reads: `yes`, `wait`, `nothing`, or the message.
    fn cell(verb: Verb, status: Option<Status>) -> String {
        match verdict(verb, status) {
            Verdict::Allowed => "yes".into(),
            Verdict::Wait => "wait".into(),
            Verdict::Nothing => "nothing".into(),
            Verdict::Refused(refusal) => refusal.message("x"),
        }
    }

    #[test]
    fn each_cell_is_what_runc_says() {
        const NONE: &str = "container does not exist";
        const EXISTS: &str = "container with given ID already exists";
        const NOT_RUNNING: &str = "container not running";
        const NOT_PAUSED: &str = "container not paused";
        const CREATED: &str = "cannot exec in a container that is not started";
        const STOPPED: &str = "cannot exec in a stopped container";
        let not_stopped = |status: &str| format!("cannot delete container x that is not stopped: {status}");
        let (creating, running, paused) =
            (not_stopped("creating"), not_stopped("running"), not_stopped("paused"));
        let table: [(Verb, [&str; 6]); 13] = [
            (Verb::Create, ["yes", EXISTS, EXISTS, EXISTS, EXISTS, EXISTS]),
            (
                Verb::Start,
                [
                    NONE,
                    "wait",
                    "yes",
                    "cannot start an already running container",
                    "cannot start a container in the paused state",
                    "cannot start a container that has stopped",
                ],
            ),
            (Verb::State, [NONE, "yes", "yes", "yes", "yes", "yes"]),
            (Verb::Kill, [NONE, "yes", "yes", "yes", "yes", NOT_RUNNING]),
            (Verb::Delete, [NONE, &creating, "yes", &running, &paused, "yes"]),
            (Verb::ForceDelete, ["nothing", "yes", "yes", "yes", "yes", "yes"]),
            (
                Verb::Exec,
                [
                    NONE,
                    "wait",
                    CREATED,
                    "yes",
                    "cannot exec in a paused container (use --ignore-paused to override)",
                    STOPPED,
                ],
            ),
            (Verb::ExecPaused, [NONE, "wait", CREATED, "yes", "yes", STOPPED]),
            (Verb::Ps, [NONE, "wait", "yes", "yes", "yes", NOT_RUNNING]),
            (Verb::Pause, [NONE, "wait", "yes", "yes", NOT_RUNNING, NOT_RUNNING]),
            (Verb::Resume, [NONE, "wait", NOT_PAUSED, NOT_PAUSED, "yes", NOT_PAUSED]),
            (Verb::Events, [NONE, "wait", "yes", "yes", "yes", NOT_RUNNING]),
            (Verb::Update, [NONE, "wait", "yes", "yes", "yes", NOT_RUNNING]),
        ];
        for (verb, row) in table {
            for (status, expected) in STATES.into_iter().zip(row) {
                assert_eq!(cell(verb, status), expected, "{verb:?} in {status:?}");
            }
        }
    }

    #[test]
    fn locks_overrule_the_record() {
        for recorded in STATES {
            assert_eq!(derive(recorded, false, true), Status::Creating);
            assert_eq!(derive(recorded, true, true), Status::Creating);
            assert_eq!(derive(recorded, false, false), Status::Stopped);
            assert_eq!(derive(recorded, true, false), recorded.unwrap_or(Status::Running));
        }
    }
}
