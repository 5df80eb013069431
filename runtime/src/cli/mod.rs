//! The command line: runc's names where runc has one.

mod args;
mod update;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::bundle::SPEC_VERSION;
use crate::text;

pub(crate) use args::*;
pub(crate) use update::UpdateArgs;

/// What `--version` says behind the name, in the lines that callers of runc look for.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "version {}\ncommit: {}\nspec: {SPEC_VERSION}\nprotocol: {}",
        env!("CARGO_PKG_VERSION"),
        drupe_protocol::BUILD,
        drupe_protocol::VERSION
    )
});

/// Run an OCI bundle in a KVM virtual machine of its own.
///
/// drupe takes what runc takes: a directory with a config.json and a root filesystem.
/// The container gets a Linux kernel of its own; its streams, signals and exit status are
/// those of an ordinary program.
#[derive(Debug, Parser)]
#[command(
    name = "drupe",
    version = VERSION.as_str(),
    disable_version_flag = true,
    verbatim_doc_comment,
    after_help = "Examples:
  drupe run --bundle /srv/hello hello       run the bundle in /srv/hello; exits with its status
  echo hi | drupe run -b /srv/cat cat       streams are the container's own
  drupe --debug run -b /srv/hello hello     with the guest kernel's log and the start-up stages
  drupe create -b /srv/web web && drupe start web
  drupe exec web ps aux                     a process of its own in the container
  drupe kill web KILL; drupe delete web
  drupe completion bash > /etc/bash_completion.d/drupe

`drupe VERB --help` has the options and examples of a verb.

drupe needs a /dev/kvm that runs Linux guests. Where there is none, `lab/lab -- drupe run ...` of drupe's
source tree emulates one."
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Directory of the containers' state [default: /run/drupe, or $XDG_RUNTIME_DIR/drupe unless root]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Write messages to FILE instead of stderr
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Form of the messages
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Show the guest kernel's log, and when each stage of the start-up ended, on stderr
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Let systemd make the cgroups: linux.cgroupsPath is SLICE:PREFIX:NAME
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
    /// Whether to ignore that cgroups cannot be made (true, false, auto: when not root)
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Rootless::Auto)]
    pub(crate) rootless: Rootless,
    /// Print the versions of the program, its protocol and the specification
    #[arg(long, short = 'v', action = ArgAction::Version)]
    version: Option<bool>,
}

/// Whether cgroups may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    True,
    False,
    Auto,
}

/// Form of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object per line: level, msg, time.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a container, up to the execution of its program
    Create(CreateArgs),
    /// Execute the program of a container that was created
    Start(StartArgs),
    /// Print the state of a container as JSON
    State(StateArgs),
    /// Send a signal to a container's first process
    Kill(KillArgs),
    /// Remove a container that has stopped
    Delete(DeleteArgs),
    /// Create and start a container, and exit with its status
    Run(RunArgs),
    /// Run another process in a running container
    Exec(ExecArgs),
    /// Show the processes of a container
    Ps(PsArgs),
    /// Show the containers below --root
    List(ListArgs),
    /// Stop all processes of a container until it is resumed
    Pause(PauseArgs),
    /// Let a paused container go on
    Resume(ResumeArgs),
    /// Print what a container uses, and when its memory runs out
    Events(EventsArgs),
    /// Change the resources of a container
    Update(UpdateArgs),
    /// Print what drupe can do, as JSON
    Features(FeaturesArgs),
    /// Write a config.json to begin with
    Spec(SpecArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
}

impl Verb {
    /// Whether the stderr of this process becomes that of another one, whose caller keeps it for the workload's.
    /// Under conmon it is the container's log. `run` in the foreground speaks to who typed it.
    pub(crate) fn shares_stderr(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Exec(_))
    }
}

/// What a command line that is not a verb gets: help, the version, or one line that says what is wrong.
#[derive(Debug)]
pub(crate) struct Answer {
    error: clap::Error,
    /// The verb that was meant, as far as that is known.
    verb: Option<String>,
}

impl Answer {
    pub(crate) fn print(&self) -> ExitCode {
        let text = self.error.render().to_string();
        // A closed stdout or stderr leaves the exit status to speak.
        match self.error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            // `drupe` alone: there is no line to say what is wrong that helps more than the help.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = std::io::stderr().write_all(text.as_bytes());
                ExitCode::FAILURE
            }
            _ => {
                let _ = writeln!(std::io::stderr(), "drupe: {}", self.line());
                ExitCode::FAILURE
            }
        }
    }

    /// The first paragraph of clap's message, which says what is wrong, and where more is said.
    fn line(&self) -> String {
        let message = self.error.render().to_string();
        let wrong =
            message.strip_prefix("error: ").unwrap_or(&message).split("\n\n").next().unwrap_or_default();
        let words: Vec<_> = wrong.split_whitespace().collect();
        let verb = self.verb.as_ref().map(|verb| format!("{verb} ")).unwrap_or_default();
        format!("{}; see drupe {verb}--help", text::printable(&words.join(" ")))
    }
}

/// Parses a command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Answer> {
    let args: Vec<OsString> = args.into_iter().collect();
    Cli::try_parse_from(&args).map_err(|error| Answer { error, verb: verb_of(&args) })
}

/// The verb of a command line that has something wrong in it.
fn verb_of(args: &[OsString]) -> Option<String> {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(args).ok()?;
    matches.subcommand_name().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::values::UserId;
    use super::*;

    fn words(line: &str) -> Result<Cli, Answer> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_its_options_in_any_place() {
        for line in [
            "drupe --root /r --debug run -b /b --kernel /k --initramfs /i x",
            "drupe run x --bundle /b --kernel /k --initramfs=/i --debug --root /r",
        ] {
            let cli = words(line).unwrap();
            let Verb::Run(RunArgs { create: run, .. }) = cli.verb else { panic!("not run") };
            assert_eq!(run.id.as_str(), "x");
            assert_eq!(run.bundle, PathBuf::from("/b"));
            assert_eq!((run.machine.kernel, run.machine.initramfs), (Some("/k".into()), Some("/i".into())));
            assert_eq!((cli.global.root, cli.global.debug), (Some("/r".into()), true));
        }
    }

    #[test]
    fn what_follows_the_id_of_exec_is_its_command() {
        for line in
            ["drupe exec -t -u 1:2 x ls -la --debug -t", "drupe exec --tty --user=1:2 x -- ls -la --debug -t"]
        {
            let cli = words(line).unwrap();
            assert!(!cli.global.debug);
            let Verb::Exec(exec) = cli.verb else { panic!("not exec") };
            assert_eq!((exec.id.as_str(), exec.tty), ("x", true));
            assert_eq!(exec.user, Some(UserId { uid: 1, gid: Some(2) }));
            assert_eq!(exec.command, ["ls", "-la", "--debug", "-t"]);
        }
        let Verb::Exec(exec) = words("drupe exec -p /p.json -d --pid-file f x").unwrap().verb else {
            panic!()
        };
        assert_eq!((exec.process, exec.command.len()), (Some("/p.json".into()), 0));
    }

    #[test]
    fn callers_of_runc_write_these() {
        for line in [
            "drupe --root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p \
             --console-socket /c --no-pivot --no-new-keyring --preserve-fds 2 --pidfd-socket /s x",
            "drupe --log-format=json --log=/l --rootless=auto start x",
            "drupe --rootless true run --detach --keep --no-subreaper x",
            "drupe kill --all x 9",
            "drupe kill x",
            "drupe delete --force x",
            "drupe list -f json",
            "drupe list --quiet",
            "drupe ps --format json x",
            "drupe ps x -o pid,args",
            "drupe events --stats x",
            "drupe events --interval 1m30.5s x",
            "drupe update --resources - x",
            "drupe update --cpu-quota -1 --memory 64M --memory-swap -1 --pids-limit -1 x",
            "drupe exec --cap CAP_CHOWN --cap CAP_KILL -e A=1 -e B -g 1 -g 2 --cgroup /a --ignore-paused x id",
            "drupe spec --rootless -b /b",
            "drupe features",
        ] {
            let line: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            parse(line.clone()).unwrap_or_else(|answer| panic!("{line:?}: {}", answer.line()));
        }
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        for (line, wrong) in [
            ("drupe run", "the following required arguments were not provided: <ID>; see drupe run --help"),
            ("drupe run a b", "unexpected argument 'b' found; see drupe run --help"),
            ("drupe --root r start a b", "unexpected argument 'b' found; see drupe start --help"),
            ("drupe fly", "unrecognized subcommand 'fly'; see drupe --help"),
            (
                "drupe completion tcsh",
                "invalid value 'tcsh' for '<SHELL>' [possible values: bash, zsh, fish]; see drupe completion --help",
            ),
            (
                "drupe --log-format xml run a",
                "invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json]; see drupe run --help",
            ),
            (
                "drupe exec -u joe a id",
                "invalid value 'joe' for '--user <UID[:GID]>': \"joe\" is not a number; see drupe exec --help",
            ),
        ] {
            assert_eq!(words(line).unwrap_err().line(), wrong);
        }
    }
}
