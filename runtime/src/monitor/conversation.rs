//! The conversation with the agent, without its connection: messages and signals in, messages out.
//!
//! ```text
//! WaitHello --Hello--> Configuring --Ready--> Ready --(start)--> Starting --Started--> Running --Exited--> Exited
//!                           |                                        |
//!                           +---------------- Failed ----------------+----> an error, with its exit status
//! ```
//!
//! Anything else in any state is an error that ends the conversation: the guest is not trusted to be ours.

use drupe_protocol::frame::FrameError;
use drupe_protocol::{
    ExitStatus, Failure, FailureKind, GuestConfig, GuestMessage, HostMessage, SignalTarget,
};

use crate::text::printable;

/// Why the conversation cannot go on. Texts that the guest chose are made printable when the line is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConversationError {
    #[error(
        "the guest's agent speaks version {theirs} of the protocol and drupe speaks {ours}: the initramfs is of \
         another version"
    )]
    Version { theirs: u32, ours: u32 },
    #[error(
        "the guest's agent is of build {theirs:?} and drupe of build {ours:?}: the initramfs is of another build"
    )]
    Build { theirs: String, ours: &'static str },
    #[error("the guest's agent sent {message} while drupe waited for {expected}")]
    Unexpected { message: &'static str, expected: &'static str },
    #[error("the guest's agent sent {message} for a container {container:?} that it does not have")]
    Stranger { message: &'static str, container: String },
    #[error("the guest's agent sent {message} with the number {number}, which is not in turn")]
    UnknownTask { message: &'static str, number: u32 },
    #[error("config.json: {}: {}", .0.field, .0.message)]
    Failed(Failure),
    #[error(
        "the guest's agent did not begin with a Hello that drupe knows: the initramfs may be of another version"
    )]
    Greeting(#[source] FrameError),
    #[error("the guest's agent")]
    Frame(#[from] FrameError),
    #[error("the guest's agent ended its connection while drupe waited for {0}")]
    Lost(&'static str),
}

impl ConversationError {
    /// The exit status that the error stands for.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Failed(Failure { kind: FailureKind::NotFound, .. }) => 127,
            Self::Failed(Failure { kind: FailureKind::NotExecutable, .. }) => 126,
            _ => 1,
        }
    }
}

/// Where the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The guest boots.
    WaitHello,
    /// The agent sets the container up.
    Configuring,
    /// The container is one exec away.
    Ready,
    /// The agent executes the program.
    Starting,
    /// The program runs.
    Running,
    /// The program has ended.
    Exited(ExitStatus),
}

impl State {
    /// What the agent should send next.
    fn expected(self) -> &'static str {
        match self {
            Self::WaitHello => "Hello",
            Self::Configuring => "Ready",
            Self::Ready => "nothing, before the start",
            Self::Starting => "Started",
            Self::Running => "Exited",
            Self::Exited(_) => "nothing",
        }
    }
}

/// What a signal to drupe leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignalAction {
    /// The workload gets it.
    Send(HostMessage),
    /// The workload gets it when it runs.
    Hold,
    /// The machine ends, whatever the guest does.
    End,
    /// Nobody is left to get it.
    Ignore,
}

/// The conversation about one container.
#[derive(Debug)]
pub(crate) struct Conversation {
    container: String,
    config: Option<Box<GuestConfig>>,
    state: State,
    held: Vec<i32>,
}

impl Conversation {
    /// A conversation that will configure this container.
    pub(crate) fn new(config: GuestConfig) -> Self {
        Self {
            container: config.id.clone(),
            config: Some(Box::new(config)),
            state: State::WaitHello,
            held: Vec::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Takes a message from the agent and gives the answers to it.
    pub(crate) fn receive(&mut self, message: &GuestMessage) -> Result<Vec<HostMessage>, ConversationError> {
        let name = name(message);
        self.check_container(message)?;
        let container = || self.container.clone();
        match (self.state, message) {
            (State::WaitHello, GuestMessage::Hello { version, build, .. }) => {
                check_build(*version, build)?;
                self.state = State::Configuring;
                Ok(self.config.take().map(|config| HostMessage::Configure { config }).into_iter().collect())
            }
            (State::Configuring, GuestMessage::Ready { .. }) => {
                self.state = State::Ready;
                Ok(Vec::new())
            }
            (State::Starting, GuestMessage::Started { .. }) => {
                self.state = State::Running;
                let held = std::mem::take(&mut self.held).into_iter();
                Ok(held
                    .map(|signal| HostMessage::Signal {
                        container: container(),
                        target: SignalTarget::Main,
                        signal,
                    })
                    .collect())
            }
            (State::Running, GuestMessage::Exited { status, .. }) => {
                self.state = State::Exited(*status);
                Ok(Vec::new())
            }
            (State::Configuring | State::Starting, GuestMessage::Failed { failure, .. }) => {
                Err(ConversationError::Failed(failure.clone()))
            }
            (state, _) => Err(ConversationError::Unexpected { message: name, expected: state.expected() }),
        }
    }

    /// The id of the container.
    pub(crate) fn container(&self) -> &str {
        &self.container
    }

    /// The message must be about the container, or about none.
    pub(crate) fn check_container(&self, message: &GuestMessage) -> Result<(), ConversationError> {
        match container(message).filter(|&container| container != self.container) {
            Some(container) => {
                let container = printable(container);
                Err(ConversationError::Stranger { message: name(message), container })
            }
            None => Ok(()),
        }
    }

    /// The program is to be executed; `state` is for the hooks that run in the container.
    pub(crate) fn start(&mut self, state: String) -> Option<HostMessage> {
        if self.state != State::Ready {
            return None;
        }
        self.state = State::Starting;
        Some(HostMessage::Start { container: self.container.clone(), state })
    }

    /// What the agent sent is no message. Before its first one that may be because it is not ours.
    pub(crate) fn malformed(&self, error: FrameError) -> ConversationError {
        match self.state {
            State::WaitHello => ConversationError::Greeting(error),
            _ => ConversationError::Frame(error),
        }
    }

    /// The agent's connection has ended: an error unless the program had.
    pub(crate) fn lost(&self) -> Result<(), ConversationError> {
        match self.state {
            State::Exited(_) => Ok(()),
            state => Err(ConversationError::Lost(state.expected())),
        }
    }

    /// Takes a signal that is meant for the workload. Before there is one, a signal that asks for an end gets it: at
    /// once while the guest boots or the container waits for its start, at the second time while the agent works.
    pub(crate) fn signal(&mut self, signal: i32, target: SignalTarget) -> SignalAction {
        let asks = matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT);
        let ends = asks || signal == libc::SIGKILL;
        match self.state {
            State::WaitHello if ends => SignalAction::End,
            State::Ready if is_deadly(signal) => SignalAction::End,
            State::Ready => SignalAction::Ignore,
            State::Configuring | State::Starting if signal == libc::SIGKILL => SignalAction::End,
            State::Configuring | State::Starting if asks && self.held.contains(&signal) => SignalAction::End,
            State::WaitHello | State::Configuring | State::Starting => {
                // As the kernel does with signals that are pending: each at most once.
                if !self.held.contains(&signal) {
                    self.held.push(signal);
                }
                SignalAction::Hold
            }
            State::Running => {
                SignalAction::Send(HostMessage::Signal { container: self.container.clone(), target, signal })
            }
            State::Exited(_) if ends => SignalAction::End,
            State::Exited(_) => SignalAction::Ignore,
        }
    }
}

/// Whether a signal ends a process that does nothing about it (signal(7)).
fn is_deadly(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
    )
}

fn check_build(version: u32, build: &str) -> Result<(), ConversationError> {
    if version != drupe_protocol::VERSION {
        return Err(ConversationError::Version { theirs: version, ours: drupe_protocol::VERSION });
    }
    if build != drupe_protocol::BUILD {
        return Err(ConversationError::Build { theirs: printable(build), ours: drupe_protocol::BUILD });
    }
    Ok(())
}

fn name(message: &GuestMessage) -> &'static str {
    match message {
        GuestMessage::Hello { .. } => "Hello",
        GuestMessage::Ready { .. } => "Ready",
        GuestMessage::Started { .. } => "Started",
        GuestMessage::Exited { .. } => "Exited",
        GuestMessage::Failed { .. } => "Failed",
        GuestMessage::ExecStarted { .. } => "ExecStarted",
        GuestMessage::ExecFailed { .. } => "ExecFailed",
        GuestMessage::ExecExited { .. } => "ExecExited",
        GuestMessage::Answer { .. } => "Answer",
    }
}

fn container(message: &GuestMessage) -> Option<&str> {
    match message {
        GuestMessage::Hello { .. } => None,
        GuestMessage::Ready { container, .. }
        | GuestMessage::Started { container, .. }
        | GuestMessage::Exited { container, .. }
        | GuestMessage::Failed { container, .. }
        | GuestMessage::ExecStarted { container, .. }
        | GuestMessage::ExecFailed { container, .. }
        | GuestMessage::ExecExited { container, .. }
        | GuestMessage::Answer { container, .. } => Some(container),
    }
}
