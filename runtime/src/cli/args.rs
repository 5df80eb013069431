//! The options of each verb.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::values::{self, UserId};

/// Which kernel and agent the machine runs.
#[derive(Debug, Args)]
pub(crate) struct MachineArgs {
    /// Guest kernel, an ELF vmlinux [default: ../lib/drupe/vmlinux beside the program's directory]
    #[arg(long, value_name = "FILE", env = "DRUPE_KERNEL", hide_env_values = true)]
    pub(crate) kernel: Option<PathBuf>,
    /// Guest initramfs with drupe's agent [default: ../lib/drupe/initramfs beside the program's directory]
    #[arg(long, value_name = "FILE", env = "DRUPE_INITRAMFS", hide_env_values = true)]
    pub(crate) initramfs: Option<PathBuf>,
}

/// What the caller gives to a process and is told of it.
#[derive(Debug, Args)]
pub(crate) struct HandoverArgs {
    /// Unix socket that gets the master of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File that gets the host's pid of the process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Pass this many descriptors on from 3, besides those of LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
}

/// Make a container, up to the execution of its program.
#[derive(Debug, Args)]
#[command(
    after_help = "The container is ready when this returns: `start` executes its program. stdin, stdout and stderr become \
                        the container's.

Examples:
  drupe create --bundle /srv/web web
  drupe create -b /srv/web --pid-file /run/web.pid web"
)]
pub(crate) struct CreateArgs {
    /// The bundle: the directory with config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) handover: HandoverArgs,
    /// Accepted for callers of runc: the guest's root is never pivoted on the host
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the session keyring of the caller
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Name of the container, unique below --root
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Execute the program of a container that was created.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  drupe create -b /srv/web web && drupe start web")]
pub(crate) struct StartArgs {
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Print the state of a container as JSON.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints ociVersion, id, pid (of the machine on the host), status (creating, created, running, paused, \
                        stopped), bundle, rootfs, created, annotations, owner.

Examples:
  drupe state web
  drupe state web | jq -r .status"
)]
pub(crate) struct StateArgs {
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Send a signal to a container's first process.
#[derive(Debug, Args)]
#[command(
    after_help = "The signal is delivered inside the machine. SIGKILL always ends the machine, whatever its kernel does.

Examples:
  drupe kill web                            SIGTERM
  drupe kill web KILL                       names with or without SIG, or numbers
  drupe kill --all web USR1                 every process of the container"
)]
pub(crate) struct KillArgs {
    /// Send it to all processes of the container
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Signal by name or number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    pub(crate) signal: String,
}

/// Remove a container that has stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  drupe delete web
  drupe delete --force web                  end it first; no error when there is none")]
pub(crate) struct DeleteArgs {
    /// End the container with SIGKILL if it runs
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Create and start a container, and exit with its status.
#[derive(Debug, Args)]
#[command(
    after_help = "stdin, stdout and stderr are the container's. SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, \
                        SIGUSR2 and SIGWINCH reach it.

Exit status: the container's; 128+n if signal n ended it; 127 if its program does not exist, 126 if it cannot
be executed; 1 if drupe failed, with one line on stderr that says why.

Examples:
  drupe run --bundle /srv/hello hello
  drupe run hello                           the bundle is the current directory
  drupe run -d -b /srv/web --pid-file /run/web.pid web"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Return when the container runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Keep the state of the container after its end, until it is deleted
    #[arg(long)]
    pub(crate) keep: bool,
    /// Accepted for callers of runc: the container's processes are never children on the host
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

/// Run another process in a running container.
#[derive(Debug, Args)]
#[command(
    after_help = "Options come before ID; what follows ID is the command. Without options the process is like the \
                        container's own: user, environment, working directory, capabilities, limits.

Exit status: the command's; 128+n if signal n ended it; 255 if drupe failed.

Examples:
  drupe exec web ps aux
  drupe exec --tty --cwd /srv web sh -l
  drupe exec --user 1000:1000 -e HOME=/tmp web id
  drupe exec --detach --pid-file /run/job.pid --process job.json web"
)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) handover: HandoverArgs,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Add to the environment; may be given more than once
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Give the process a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Run as this user and group
    #[arg(long, short, value_name = "UID[:GID]", value_parser = values::user)]
    pub(crate) user: Option<UserId>,
    /// Add a supplementary group; may be given more than once
    #[arg(long, short = 'g', value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Take the whole process from a file in the form of config.json's process
    #[arg(long, short, value_name = "FILE", conflicts_with = "command")]
    pub(crate) process: Option<PathBuf>,
    /// Return when the process runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// Deny the process new privileges
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Add a capability to all of the process's sets; may be given more than once
    #[arg(long, short, value_name = "CAP")]
    pub(crate) cap: Vec<String>,
    /// Run in this cgroup below the container's; may be given more than once
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Do not fail when the container is paused: the process runs when it is resumed
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Program and arguments
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "process"
    )]
    pub(crate) command: Vec<String>,
}

/// Form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

/// Show the processes of a container.
#[derive(Debug, Args)]
#[command(after_help = "Pids are those inside the machine: the host has none for them.

Examples:
  drupe ps web
  drupe ps web -o pid,user,args
  drupe ps --format json web                the pids alone")]
pub(crate) struct PsArgs {
    /// Form of the list
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = ListFormat::Table)]
    pub(crate) format: ListFormat,
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Options as for ps(1)
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

/// Show the containers below --root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  drupe list
  drupe list --format json
  drupe list -q | xargs -n 1 drupe delete --force")]
pub(crate) struct ListArgs {
    /// Form of the list
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t = ListFormat::Table)]
    pub(crate) format: ListFormat,
    /// Only the ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Stop all processes of a container until it is resumed.
#[derive(Debug, Args)]
#[command(after_help = "The processors of the machine stop; its clock is right again when it is resumed.

Examples:
  drupe pause web; drupe resume web")]
pub(crate) struct PauseArgs {
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Let a paused container go on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  drupe pause web; drupe resume web")]
pub(crate) struct ResumeArgs {
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Print what a container uses, and when its memory runs out.
#[derive(Debug, Args)]
#[command(after_help = "One JSON object per line, as runc's, from the cgroup inside the machine.

Examples:
  drupe events --stats web                  once
  drupe events --interval 1s web            until the container ends")]
pub(crate) struct EventsArgs {
    /// Time between two events, as 5s, 500ms or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = values::duration)]
    pub(crate) interval: Duration,
    /// Print one event and return
    #[arg(long)]
    pub(crate) stats: bool,
    /// Name of the container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Print what drupe can do, as JSON.
#[derive(Debug, Args)]
#[command(after_help = "The form is that of the runtime specification (features.md).

Examples:
  drupe features | jq .linux.namespaces")]
pub(crate) struct FeaturesArgs {}

/// Write a config.json to begin with.
#[derive(Debug, Args)]
#[command(after_help = "A config.json that is there is not replaced.

Examples:
  mkdir -p web/rootfs && drupe spec --bundle web")]
pub(crate) struct SpecArgs {
    /// Directory that gets config.json
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// With a user namespace that maps root to the caller
    #[arg(long = "rootless", id = "rootless-spec")]
    pub(crate) rootless: bool,
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  drupe completion bash > /etc/bash_completion.d/drupe
  drupe completion fish > ~/.config/fish/completions/drupe.fish")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: CompletionShell,
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
