//! The command line: runc's names where runc has one.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bundle::SPEC_VERSION;
use crate::text;

/// What `--version` says behind the name, in the lines that callers of runc look for.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\nbuild: {}\nprotocol: {}\nspec: {SPEC_VERSION}",
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
    verbatim_doc_comment,
    after_help = "Examples:
  drupe run --bundle /srv/hello hello       run the bundle in /srv/hello; exits with its status
  echo hi | drupe run -b /srv/cat cat       streams are the container's own
  drupe --debug run -b /srv/hello hello     with the guest kernel's log and the start-up stages
  drupe completion bash > /etc/bash_completion.d/drupe

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
    /// Run a container in the foreground and exit with its status
    Run(RunArgs),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: CompletionShell,
    },
}

/// Run a container in the foreground and exit with its status.
#[derive(Debug, Args)]
#[command(
    after_help = "stdin, stdout and stderr are the container's. SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, \
                        SIGUSR2 and SIGWINCH reach it.

Exit status: the container's; 128+n if signal n ended it; 127 if its program does not exist, 126 if it cannot
be executed; 1 if drupe failed, with one line on stderr that says why.

Examples:
  drupe run --bundle /srv/hello hello
  drupe run hello                           the bundle is the current directory"
)]
pub(crate) struct RunArgs {
    /// The bundle: the directory with config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Guest kernel, an ELF vmlinux [default: ../lib/drupe/vmlinux beside the program's directory]
    #[arg(long, value_name = "FILE", env = "DRUPE_KERNEL", hide_env_values = true)]
    pub(crate) kernel: Option<PathBuf>,
    /// Guest initramfs with drupe's agent [default: ../lib/drupe/initramfs beside the program's directory]
    #[arg(long, value_name = "FILE", env = "DRUPE_INITRAMFS", hide_env_values = true)]
    pub(crate) initramfs: Option<PathBuf>,
    /// Name of the container, unique below --root
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Shells that completion scripts are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

impl From<CompletionShell> for Shell {
    fn from(shell: CompletionShell) -> Self {
        match shell {
            CompletionShell::Bash => Self::Bash,
            CompletionShell::Zsh => Self::Zsh,
            CompletionShell::Fish => Self::Fish,
        }
    }
}

/// What a command line that is not a verb gets: help, the version, or one line that says what is wrong.
#[derive(Debug)]
pub(crate) struct Answer(clap::Error);

impl Answer {
    pub(crate) fn print(&self) -> ExitCode {
        let text = self.0.render().to_string();
        // A closed stdout or stderr leaves the exit status to speak.
        match self.0.kind() {
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
                let _ = writeln!(std::io::stderr(), "drupe: {}", one_line(&text));
                ExitCode::FAILURE
            }
        }
    }
}

/// Parses a command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Answer> {
    Cli::try_parse_from(args).map_err(Answer)
}

/// The first paragraph of clap's message, which says what is wrong; the usage that follows is in `--help`.
fn one_line(message: &str) -> String {
    let wrong = message.strip_prefix("error: ").unwrap_or(message).split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = wrong.split_whitespace().collect();
    format!("{}; see drupe --help", text::printable(&words.join(" ")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
            let Verb::Run(run) = cli.verb else { panic!("not run") };
            assert_eq!(run.id.as_str(), "x");
            assert_eq!(run.bundle, PathBuf::from("/b"));
            assert_eq!((run.kernel, run.initramfs), (Some("/k".into()), Some("/i".into())));
            assert_eq!((cli.global.root, cli.global.debug), (Some("/r".into()), true));
        }
    }

    #[test]
    fn what_is_wrong_is_one_line() {
        for (line, wrong) in [
            ("drupe run", "the following required arguments were not provided: <ID>"),
            ("drupe run a b", "unexpected argument 'b' found"),
            ("drupe fly", "unrecognized subcommand 'fly'"),
            (
                "drupe completion tcsh",
                "invalid value 'tcsh' for '<SHELL>' [possible values: bash, zsh, fish]",
            ),
            (
                "drupe --log-format xml run a",
                "invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json]",
            ),
        ] {
            let answer = words(line).unwrap_err();
            assert_eq!(one_line(&answer.0.render().to_string()), format!("{wrong}; see drupe --help"));
        }
    }
}
