//! The monitor with an agent that is a test: frames in, frames out, how it ends.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use drupe_protocol::frame::{self, Decoder};
use drupe_protocol::{
    BUILD, ExitStatus, Failure, FailureKind, GuestMessage, HostMessage, Process, RootConfig, SignalTarget,
    StdioPorts, VERSION,
};
use drupe_vmm::MutEventSubscriber;
use event_manager::{EventManager, SubscriberOps};

use super::fake_machine::FakeMachine;
use super::*;
use crate::container::record::tests::record as record_of;
use crate::container::{Entry, Status, Store};
use crate::text::chain;

fn guest_config() -> GuestConfig {
    GuestConfig {
        id: "c".into(),
        root: RootConfig { share: "rootfs".into(), readonly: false, layer: None },
        process: Process {
            args: vec!["true".into()],
            cwd: "/".into(),
            stdio: StdioPorts { stdout: Some(2), stderr: Some(3), ..StdioPorts::default() },
            ..Process::default()
        },
        ..GuestConfig::default()
    }
}

/// The monitor's event loop, and the ends that the guest and the user have.
pub(super) struct Scene {
    events: EventManager<Box<dyn MutEventSubscriber>>,
    pub(super) record: Rc<RefCell<Record>>,
    control_port: control::ControlPort,
    stdio: Vec<stdio::Port>,
    agent_in: Option<File>,
    agent_out: Option<File>,
    decoder: Decoder,
    signals: File,
    pub(super) told: Rc<RefCell<Vec<String>>>,
    stopped: Rc<RefCell<u32>>,
    pub(super) machine: FakeMachine,
    clocks: usize,
    pub(super) entry: Entry,
    _dir: tempfile::TempDir,
}

/// Writes down what it is told.
struct Told(Rc<RefCell<Vec<String>>>);

impl Lifecycle for Told {
    fn machine_made(&mut self) -> Result<(), MonitorError> {
        Ok(())
    }

    fn created(&mut self) -> Result<(), MonitorError> {
        self.0.borrow_mut().push("created".into());
        Ok(())
    }

    fn start_state(&self) -> String {
        "{}".into()
    }

    fn started(&mut self) {
        self.0.borrow_mut().push("started".into());
    }

    fn changed(&mut self, status: Status) {
        self.0.borrow_mut().push(status.to_string());
    }

    fn ended(&mut self, exit: Option<ExitStatus>) {
        self.0.borrow_mut().push(format!("ended {exit:?}"));
    }
}

impl Scene {
    /// One in which the program is executed as soon as it can be.
    fn new() -> Self {
        Self::setting(true)
    }

    /// One in which everything may take as long as a test does.
    pub(super) fn setting(starts: bool) -> Self {
        Self::with_patience(starts, Duration::from_secs(3600))
    }

    /// One whose guest is waited for no longer than this, when it is paused or its workload is killed.
    pub(super) fn with_patience(starts: bool, patience: Duration) -> Self {
        Self::with_bounds(starts, patience, Duration::from_secs(3600))
    }

    fn with_bounds(starts: bool, patience: Duration, ready_timeout: Duration) -> Self {
        let (control, control_port) = control::channel().unwrap();
        let mut config = guest_config();
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let duplicate = |fd: &dyn AsFd| Some(fd.as_fd().try_clone_to_owned().unwrap());
        let fds =
            StreamFds { stdout: duplicate(&stdout), stderr: duplicate(&stderr), ..StreamFds::default() };
        let changed = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let stdio::Streams { ports: stdio, outputs } =
            stdio::open(fds, stdio::Numbers::From(1), &mut config.process, &changed).unwrap();
        let machine = FakeMachine::default();
        let bounds = Bounds { freeze: patience, answer: patience };
        let tasks = Tasks::new("c", Box::new(machine.clone()), Arc::clone(&changed), bounds).unwrap();
        let (signals, signal_writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let record = Rc::new(RefCell::new(Record { stages: Stages::begin(), status: None, result: None }));
        let (told, stopped) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(0)));
        let count = Rc::clone(&stopped);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        let (entry, _) = store.create(&"c".parse().unwrap(), &record_of("c")).unwrap();
        let listener = Listener::bind(entry.dir().as_fd()).unwrap();
        let supervisor = Supervisor {
            conversation: Conversation::new(config),
            control,
            signals: Signals::from_file(File::from(signals)),
            outputs,
            changed,
            tasks,
            timer: Timer::new().unwrap(),
            ready_timeout,
            deadline: Timer::new().unwrap(),
            kill_timeout: patience,
            patience: 2,
            record: Rc::clone(&record),
            lifecycle: Box::new(Told(Rc::clone(&told))),
            clients: Clients::new(Some(listener)),
            starts,
            stop: Box::new(move || *count.borrow_mut() += 1),
        };
        let mut events: EventManager<Box<dyn MutEventSubscriber>> = EventManager::new().unwrap();
        events.add_subscriber(Box::new(supervisor));
        Self {
            events,
            record,
            control_port,
            stdio,
            agent_in: None,
            agent_out: None,
            decoder: Decoder::new(),
            signals: File::from(signal_writer),
            told,
            stopped,
            machine,
            clocks: 0,
            entry,
            _dir: dir,
        }
    }

    /// A scene in which the agent has connected.
    fn connected() -> Self {
        Self::new().connect()
    }

    pub(super) fn connect(self) -> Self {
        let mut scene = self;
        let stream = scene.control_port.connect(1).unwrap();
        assert!(scene.control_port.connect(2).is_none(), "the agent connects once");
        scene.agent_in = stream.input.map(File::from);
        scene.agent_out = stream.output.map(File::from);
        scene
    }

    /// A scene in which these messages have been sent, and answered.
    pub(super) fn after(messages: &[GuestMessage]) -> Self {
        Self::connected().then(messages)
    }

    pub(super) fn then(self, messages: &[GuestMessage]) -> Self {
        let mut scene = self;
        for message in messages {
            scene.send(message);
            assert!(scene.record.borrow().result.is_none(), "{message:?}");
        }
        scene.received();
        scene
    }

    pub(super) fn turn(&mut self) {
        while self.events.run_with_timeout(0).unwrap() > 0 && self.record.borrow().result.is_none() {}
    }

    pub(super) fn send(&mut self, message: &GuestMessage) {
        self.send_bytes(&frame::encode(message).unwrap());
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(4096) {
            self.agent_out.as_mut().unwrap().write_all(piece).unwrap();
            self.turn();
        }
    }

    fn signal(&mut self, number: i32) {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        record[..4].copy_from_slice(&number.to_ne_bytes());
        self.signals.write_all(&record).unwrap();
        self.turn();
    }

    /// What the guest was told since this was asked, but for the time of day.
    pub(super) fn received(&mut self) -> Vec<HostMessage> {
        let (clocks, others): (Vec<_>, Vec<_>) =
            self.receive_all().into_iter().partition(|message| matches!(message, HostMessage::Clock { .. }));
        self.clocks += clocks.len();
        others
    }

    /// How often the guest was told the time of day since this was asked.
    pub(super) fn clocks(&mut self) -> usize {
        self.received();
        std::mem::take(&mut self.clocks)
    }

    pub(super) fn receive_all(&mut self) -> Vec<HostMessage> {
        let mut bytes = vec![0; 1 << 20];
        loop {
            match self.agent_in.as_mut().unwrap().read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => self.decoder.push(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            self.turn();
        }
        std::iter::from_fn(|| self.decoder.take().unwrap()).collect()
    }

    pub(super) fn ending(&self) -> Ending {
        assert_eq!(*self.stopped.borrow(), 1, "the machine is stopped once");
        *self.record.borrow().result.as_ref().unwrap().as_ref().unwrap()
    }

    /// The line that the error gives, and its exit status.
    pub(super) fn error(&self) -> (String, u8) {
        assert_eq!(*self.stopped.borrow(), 1, "the machine is stopped once");
        let record = self.record.borrow();
        let error = record.result.as_ref().unwrap().as_ref().unwrap_err();
        (chain(error), error.exit_status())
    }
}

pub(super) fn hello() -> GuestMessage {
    GuestMessage::Hello { version: VERSION, build: BUILD.into(), pid1_us: 1, now_us: 2 }
}

pub(super) fn ready() -> GuestMessage {
    GuestMessage::Ready { container: "c".into(), configured_us: 3, mounted_us: 4, now_us: 5 }
}

pub(super) fn started() -> GuestMessage {
    GuestMessage::Started { container: "c".into(), pid: 7, now_us: 6 }
}

pub(super) fn exited(status: ExitStatus) -> GuestMessage {
    GuestMessage::Exited { container: "c".into(), status }
}

pub(super) fn failed(kind: FailureKind) -> GuestMessage {
    let failure = Failure { kind, field: "process.args[0]".into(), message: "\"x\": not found".into() };
    GuestMessage::Failed { container: "c".into(), failure }
}

#[test]
fn a_container_runs_to_its_end() {
    let mut scene = Scene::connected();
    scene.send(&hello());
    assert_eq!(scene.received(), [HostMessage::Configure { config: Box::new(guest_config()) }]);
    scene.send(&ready());
    assert_eq!(scene.received(), [HostMessage::Start { container: "c".into(), state: "{}".into() }]);
    assert_eq!(*scene.told.borrow(), ["created"]);
    scene.send(&started());
    assert_eq!(*scene.told.borrow(), ["created", "started"]);
    assert_eq!(scene.received(), []);
    scene.send(&exited(ExitStatus::Code(3)));
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Code(3)));
}

#[test]
fn a_big_configuration_gets_through_a_small_pipe() {
    let mut config = guest_config();
    config.process.args = vec!["x".repeat(1 << 20)];
    let (mut control, mut port) = control::channel().unwrap();
    let stream = port.connect(1).unwrap();
    let message = HostMessage::Configure { config: Box::new(config) };
    control.queue(&message).unwrap();
    let mut decoder = Decoder::new();
    let mut agent = File::from(stream.input.unwrap());
    let mut bytes = vec![0; 1 << 16];
    while control.is_unsent() {
        control.flush();
        let length = agent.read(&mut bytes).unwrap();
        decoder.push(&bytes[..length]);
    }
    while let Ok(length) = agent.read(&mut bytes) {
        decoder.push(&bytes[..length]);
    }
    assert_eq!(decoder.take::<HostMessage>().unwrap(), Some(message));
}

#[test]
fn signals_do_not_pile_up_for_a_guest_that_does_not_read() {
    let (mut control, _port) = control::channel().unwrap();
    let message = HostMessage::Signal { container: "c".into(), target: SignalTarget::Main, signal: 15 };
    for _ in 0..200_000 {
        control.queue(&message).unwrap();
        control.flush();
    }
    assert!(control.is_unsent());
}

#[test]
fn the_end_waits_for_the_outputs() {
    let mut scene = Scene::after(&[hello(), ready(), started()]);
    for (_, port) in &mut scene.stdio {
        assert!(port.connect(1).is_some());
    }
    scene.send(&exited(ExitStatus::Signal(9)));
    // The agent may end its connection now; that is no loss.
    scene.agent_out = None;
    scene.turn();
    scene.stdio[0].1.closed(1);
    scene.turn();
    assert!(scene.record.borrow().result.is_none());
    scene.stdio[1].1.closed(1);
    scene.turn();
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Signal(9)));
}

#[test]
fn a_guest_that_never_ends_its_output_is_not_waited_for_for_ever() {
    let mut scene = Scene::after(&[hello(), ready(), started()]);
    assert!(scene.stdio[0].1.connect(1).is_some());
    scene.send(&exited(ExitStatus::Code(0)));
    for _ in 0..2 {
        assert!(scene.record.borrow().result.is_none());
        scene.events.run_with_timeout(5_000).unwrap();
    }
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Code(0)));
}

#[test]
fn another_version_or_build_is_refused_with_both_named() {
    let mut scene = Scene::connected();
    scene.send(&GuestMessage::Hello { version: 999, build: BUILD.into(), pid1_us: 0, now_us: 0 });
    let (line, status) = scene.error();
    assert_eq!(status, 1);
    let expected = format!("speaks version 999 of the protocol and drupe speaks {VERSION}");
    assert!(line.contains(&expected), "{line}");
    assert_eq!(scene.received(), []);

    let mut scene = Scene::connected();
    let build = "9.9\u{1b}[2J".to_owned();
    scene.send(&GuestMessage::Hello { version: VERSION, build, pid1_us: 0, now_us: 0 });
    let (line, _) = scene.error();
    assert!(line.contains("is of build") && line.contains(BUILD) && !line.contains('\u{1b}'), "{line}");
}

#[test]
fn a_guest_that_does_not_get_ready_is_given_up() {
    let mut scene = Scene::with_bounds(true, Duration::ZERO, Duration::from_millis(1)).connect();
    scene.send(&hello());
    while scene.record.borrow().result.is_none() {
        scene.events.run_with_timeout(5_000).unwrap();
    }
    assert!(scene.error().0.starts_with("the guest did not set the container up within 600 s"));
}

#[test]
fn a_failure_has_the_status_of_a_shell() {
    for (kind, expected) in
        [(FailureKind::NotFound, 127), (FailureKind::NotExecutable, 126), (FailureKind::Setup, 1)]
    {
        for before in [vec![hello()], vec![hello(), ready()]] {
            let mut scene = Scene::after(&before);
            scene.send(&failed(kind));
            assert_eq!(
                scene.error(),
                ("config.json: process.args[0]: \"x\": not found".to_owned(), expected)
            );
        }
    }
}

#[test]
fn whatever_is_out_of_turn_ends_the_conversation() {
    let turns = [hello(), ready(), started(), exited(ExitStatus::Code(0))];
    for state in 0..4 {
        let mut scene = Scene::after(&turns[..state]);
        scene.send_bytes(b"\x05\0\0\0junk!");
        assert_eq!(scene.error().1, 1);
        let greeting = "did not begin with a Hello that drupe knows: the initramfs may be of another version";
        assert_eq!(scene.error().0.contains(greeting), state == 0, "{:?}", scene.error());
        assert!(scene.error().0.contains(": malformed message: "), "{:?}", scene.error());

        let mut scene = Scene::after(&turns[..state]);
        scene.send_bytes(&u32::MAX.to_le_bytes());
        assert!(scene.error().0.contains("over the limit"), "{:?}", scene.error());

        let mut scene = Scene::after(&turns[..state]);
        scene.agent_out = None;
        scene.turn();
        assert!(scene.error().0.starts_with("the guest's agent ended its connection while drupe waited for"));

        let mut scene = Scene::after(&turns[..state]);
        scene.send_bytes(b"\x05\0");
        scene.agent_out = None;
        scene.turn();
        assert!(scene.error().0.contains("connection ended inside a message"), "{:?}", scene.error());

        for (index, message) in turns.iter().enumerate().filter(|&(index, _)| index != state) {
            let mut scene = Scene::after(&turns[..state]);
            scene.send(message);
            assert!(scene.error().0.contains("while drupe waited for"), "state {state}, message {index}");
        }
    }
    let mut scene = Scene::after(&[hello()]);
    scene.send(&GuestMessage::Ready {
        container: "other".into(),
        configured_us: 0,
        mounted_us: 0,
        now_us: 0,
    });
    assert!(scene.error().0.contains("for a container \"other\" that it does not have"));
    let mut scene = Scene::connected();
    scene.send(&failed(FailureKind::NotFound));
    assert_eq!(scene.error().1, 1);
}

#[test]
fn signals_reach_the_workload_once_there_is_one() {
    let signal = |signal| HostMessage::Signal { container: "c".into(), target: SignalTarget::Main, signal };
    let mut scene = Scene::connected();
    scene.signal(libc::SIGUSR1);
    scene.signal(libc::SIGUSR1);
    scene.send(&hello());
    scene.send(&ready());
    scene.signal(libc::SIGTERM);
    scene.received();
    scene.send(&started());
    assert_eq!(scene.received(), [signal(libc::SIGUSR1), signal(libc::SIGTERM)]);
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGINT, libc::SIGHUP, libc::SIGWINCH] {
        scene.signal(number);
        assert_eq!(scene.received(), [signal(number)]);
    }
}

#[test]
fn a_signal_ends_a_machine_that_has_no_workload_yet() {
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let mut scene = Scene::connected();
        scene.signal(number);
        assert_eq!(scene.ending(), Ending::Interrupted(number));

        let mut scene = Scene::after(&[hello()]);
        scene.signal(number);
        assert!(scene.record.borrow().result.is_none());
        scene.send(&ready());
        scene.signal(number);
        assert_eq!(scene.ending(), Ending::Interrupted(number));
    }
}

#[test]
fn a_signal_after_the_exit_ends_the_wait_for_a_reader() {
    let mut scene = Scene::after(&[hello(), ready(), started()]);
    assert!(scene.stdio[0].1.connect(1).is_some());
    scene.send(&exited(ExitStatus::Code(5)));
    scene.signal(libc::SIGUSR1);
    assert!(scene.record.borrow().result.is_none());
    scene.signal(libc::SIGTERM);
    assert_eq!(scene.ending(), Ending::Exited(ExitStatus::Code(5)));
}

#[test]
fn a_machine_that_ends_by_itself_is_an_error_with_its_reason() {
    let line = |reason| chain(&conclude(None, Ok(reason)).unwrap_err());
    assert!(line(StopReason::Reset).starts_with("the guest's kernel stopped ("));
    assert!(line(StopReason::Reset).ends_with("before the container ended: run with --debug to see its log"));
    let unrunnable = line(StopReason::Unrunnable("KVM_EXIT_X".into()));
    assert!(unrunnable.starts_with("/dev/kvm: cannot run a Linux guest: KVM_EXIT_X"), "{unrunnable}");
    let exited = cut_off(ExitStatus::Code(1), &Ok(StopReason::PowerOff));
    let ending = conclude(exited, Ok(StopReason::PowerOff)).unwrap();
    assert_eq!(ending, Ending::Exited(ExitStatus::Code(1)));
}
