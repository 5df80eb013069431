//! What is under way in the guest beside the container's own process: execs and questions. Pure state: numbers in,
//! messages out, and what the guest's messages about them mean.
//!
//! ```text
//! exec      Asked --ExecStarted--> Running --ExecExited--> gone
//!             +-----ExecFailed-----------------------------> gone
//! question  Asked --Answer of its kind--> gone
//! ```
//!
//! A number is used once. What the guest says of another number, or out of turn, is an error that ends the
//! conversation. How many there can be at a time is bounded, so a guest that never answers costs a few bytes.

use std::collections::BTreeMap;

use drupe_protocol::{
    Answer, ExitStatus, Failure, GuestMessage, HostMessage, Process, Question, SignalTarget, WindowSize,
};

use super::conversation::ConversationError;

/// Execs at a time.
const MAX_EXECS: usize = 128;
/// Questions at a time, those that nobody waits for any more included.
const MAX_QUESTIONS: usize = 64;

/// There are too many already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Busy {
    #[error("the container has {MAX_EXECS} processes of exec: no more at a time")]
    Execs,
    #[error("the container's guest has {MAX_QUESTIONS} questions to answer: no more at a time")]
    Questions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExecState {
    Asked,
    Running,
}

/// Which answer fits a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Processes,
    Statistics,
    Update,
    Freeze,
    Thaw,
}

/// What a message of the guest means for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TaskEvent {
    /// The program of an exec runs.
    ExecStarted { exec: u32, pid: i32 },
    /// An exec came to nothing.
    ExecFailed { exec: u32, failure: Failure },
    /// The process of an exec has ended.
    ExecExited { exec: u32, status: ExitStatus },
    /// A question is answered.
    Answered { number: u32, answer: Answer },
}

/// The tasks of one container.
#[derive(Debug)]
pub(crate) struct Pending {
    container: String,
    execs: BTreeMap<u32, ExecState>,
    questions: BTreeMap<u32, Kind>,
    next_exec: u32,
    next_question: u32,
}

impl Pending {
    /// No tasks yet.
    pub(crate) fn new(container: &str) -> Self {
        Self {
            container: container.to_owned(),
            execs: BTreeMap::new(),
            questions: BTreeMap::new(),
            next_exec: 1,
            next_question: 1,
        }
    }

    /// Begins an exec: its number, and what to tell the guest.
    pub(crate) fn exec(&mut self, process: Process) -> Result<(u32, HostMessage), Busy> {
        let exec = self.next_exec;
        self.next_exec = exec.checked_add(1).filter(|_| self.execs.len() < MAX_EXECS).ok_or(Busy::Execs)?;
        self.execs.insert(exec, ExecState::Asked);
        let container = self.container.clone();
        Ok((exec, HostMessage::Exec { container, exec, process: Box::new(process) }))
    }

    /// Asks something: the question's number, and what to tell the guest.
    pub(crate) fn ask(&mut self, question: Question) -> Result<(u32, HostMessage), Busy> {
        let number = self.next_question;
        self.next_question =
            number.checked_add(1).filter(|_| self.questions.len() < MAX_QUESTIONS).ok_or(Busy::Questions)?;
        let kind = match question {
            Question::Processes => Kind::Processes,
            Question::Statistics => Kind::Statistics,
            Question::Update(_) => Kind::Update,
            Question::Freeze => Kind::Freeze,
            Question::Thaw => Kind::Thaw,
        };
        self.questions.insert(number, kind);
        Ok((number, HostMessage::Ask { container: self.container.clone(), number, question }))
    }

    /// A signal for the process of an exec; `None` when it has ended. One that is sent before the guest has said
    /// that the process runs is delivered behind its start.
    pub(crate) fn signal(&self, exec: u32, signal: i32) -> Option<HostMessage> {
        self.execs.contains_key(&exec).then(|| HostMessage::Signal {
            container: self.container.clone(),
            target: SignalTarget::Exec(exec),
            signal,
        })
    }

    /// A new size of the terminal of an exec; `None` when its process has ended.
    pub(crate) fn resize(&self, exec: u32, size: WindowSize) -> Option<HostMessage> {
        let container = || self.container.clone();
        self.execs.contains_key(&exec).then(|| HostMessage::Resize {
            container: container(),
            exec: Some(exec),
            size,
        })
    }

    /// Takes a message of the guest; `None` when it is about no task.
    pub(crate) fn receive(&mut self, message: &GuestMessage) -> Result<Option<TaskEvent>, ConversationError> {
        Ok(Some(match message {
            &GuestMessage::ExecStarted { exec, pid, .. } => {
                self.advance(exec, ExecState::Asked, Some(ExecState::Running), "ExecStarted")?;
                TaskEvent::ExecStarted { exec, pid }
            }
            GuestMessage::ExecFailed { exec, failure, .. } => {
                self.advance(*exec, ExecState::Asked, None, "ExecFailed")?;
                TaskEvent::ExecFailed { exec: *exec, failure: failure.clone() }
            }
            &GuestMessage::ExecExited { exec, status, .. } => {
                self.advance(exec, ExecState::Running, None, "ExecExited")?;
                TaskEvent::ExecExited { exec, status }
            }
            GuestMessage::Answer { number, answer, .. } => {
                let unknown =
                    || ConversationError::UnknownTask { message: "Answer", number: number.to_owned() };
                let kind = self.questions.remove(number).ok_or_else(unknown)?;
                let fits = match answer {
                    Answer::Processes(_) => kind == Kind::Processes,
                    Answer::Statistics(_) => kind == Kind::Statistics,
                    Answer::Updated => kind == Kind::Update,
                    Answer::Frozen => kind == Kind::Freeze,
                    Answer::Thawed => kind == Kind::Thaw,
                    Answer::Failed(_) => true,
                };
                if !fits {
                    return Err(unknown());
                }
                TaskEvent::Answered { number: *number, answer: answer.clone() }
            }
            GuestMessage::Hello { .. }
            | GuestMessage::Ready { .. }
            | GuestMessage::Started { .. }
            | GuestMessage::Exited { .. }
            | GuestMessage::Failed { .. } => return Ok(None),
        }))
    }

    fn advance(
        &mut self,
        exec: u32,
        from: ExecState,
        to: Option<ExecState>,
        message: &'static str,
    ) -> Result<(), ConversationError> {
        if self.execs.get(&exec) != Some(&from) {
            return Err(ConversationError::UnknownTask { message, number: exec });
        }
        match to {
            Some(to) => self.execs.insert(exec, to),
            None => self.execs.remove(&exec),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use drupe_protocol::FailureKind;

    use super::*;

    fn started(exec: u32) -> GuestMessage {
        GuestMessage::ExecStarted { container: "c".into(), exec, pid: 7 }
    }

    fn exited(exec: u32) -> GuestMessage {
        GuestMessage::ExecExited { container: "c".into(), exec, status: ExitStatus::Code(3) }
    }

    fn failed(exec: u32) -> GuestMessage {
        GuestMessage::ExecFailed { container: "c".into(), exec, failure: failure() }
    }

    fn failure() -> Failure {
        Failure { kind: FailureKind::NotFound, field: "process.args[0]".into(), message: "x".into() }
    }

    fn answer(number: u32, answer: Answer) -> GuestMessage {
        GuestMessage::Answer { container: "c".into(), number, answer }
    }

    #[test]
    fn an_exec_starts_and_ends_once() {
        let mut tasks = Pending::new("c");
        let (first, message) = tasks.exec(Process::default()).unwrap();
        assert!(matches!(message, HostMessage::Exec { exec, .. } if exec == first));
        let (second, _) = tasks.exec(Process::default()).unwrap();
        assert_ne!(first, second);
        let event = tasks.receive(&started(second)).unwrap();
        assert_eq!(event, Some(TaskEvent::ExecStarted { exec: second, pid: 7 }));
        assert!(tasks.receive(&started(second)).is_err());
        let event = tasks.receive(&failed(first)).unwrap();
        assert_eq!(event, Some(TaskEvent::ExecFailed { exec: first, failure: failure() }));
        let event = tasks.receive(&exited(second)).unwrap();
        assert_eq!(event, Some(TaskEvent::ExecExited { exec: second, status: ExitStatus::Code(3) }));
        assert_eq!((tasks.signal(second, 9), tasks.resize(second, WindowSize::default())), (None, None));
    }

    #[test]
    fn what_the_guest_makes_up_is_an_error() {
        for before in 0..3 {
            for message in [started(1), exited(1), failed(1), started(9), exited(9), failed(9)] {
                let mut tasks = Pending::new("c");
                if before > 0 {
                    tasks.exec(Process::default()).unwrap();
                }
                if before > 1 {
                    tasks.receive(&started(1)).unwrap();
                }
                let fits = match before {
                    0 => false,
                    1 => message == started(1) || message == failed(1),
                    _ => message == exited(1),
                };
                assert_eq!(tasks.receive(&message).is_ok(), fits, "{message:?} after {before}");
            }
        }
        let mut tasks = Pending::new("c");
        assert!(tasks.receive(&answer(1, Answer::Updated)).is_err());
        let (number, _) = tasks.ask(Question::Processes).unwrap();
        let line = tasks.receive(&answer(number, Answer::Updated)).unwrap_err().to_string();
        assert!(line.contains("Answer") && line.contains("number 1,"), "{line}");
    }

    #[test]
    fn a_question_is_answered_once_by_its_kind_or_a_failure() {
        let mut tasks = Pending::new("c");
        for (question, fitting) in [
            (Question::Processes, Answer::Processes(Vec::new())),
            (Question::Statistics, Answer::Statistics(BTreeMap::new())),
            (Question::Update(Vec::new()), Answer::Updated),
            (Question::Freeze, Answer::Frozen),
            (Question::Thaw, Answer::Thawed),
            (Question::Processes, Answer::Failed(failure())),
        ] {
            let (number, _) = tasks.ask(question).unwrap();
            let message = answer(number, fitting.clone());
            let event = tasks.receive(&message).unwrap();
            assert_eq!(event, Some(TaskEvent::Answered { number, answer: fitting }));
            assert!(tasks.receive(&message).is_err());
        }
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let mut tasks = Pending::new("c");
        for _ in 0..MAX_EXECS {
            tasks.exec(Process::default()).unwrap();
        }
        assert_eq!(tasks.exec(Process::default()).unwrap_err(), Busy::Execs);
        for _ in 0..MAX_QUESTIONS {
            tasks.ask(Question::Processes).unwrap();
        }
        assert_eq!(tasks.ask(Question::Processes).unwrap_err(), Busy::Questions);
        tasks.receive(&failed(5)).unwrap();
        assert!(tasks.exec(Process::default()).is_ok());
    }

    #[test]
    fn signals_and_sizes_reach_an_exec_from_its_beginning() {
        let mut tasks = Pending::new("c");
        let (exec, _) = tasks.exec(Process::default()).unwrap();
        let expected =
            HostMessage::Signal { container: "c".into(), target: SignalTarget::Exec(exec), signal: 15 };
        assert_eq!(tasks.signal(exec, 15), Some(expected));
        let size = WindowSize { rows: 1, columns: 2 };
        let expected = HostMessage::Resize { container: "c".into(), exec: Some(exec), size };
        assert_eq!(tasks.resize(exec, size), Some(expected));
        assert_eq!(tasks.signal(exec + 1, 15), None);
    }
}
