//! A machine's life: [`Machine::build`] makes all of it, in the one order that is fast and right, and
//! [`Machine::run`] runs it until it stops with a [`StopReason`].
//!
//! Threads: the caller of [`Machine::run`] has the event loop (vsock, and what the caller adds), the shared
//! filesystem has one, each disk has one, each vCPU has one.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::arch::{self, Image, LoadError, MmioSlots, PlatformDevice};
use crate::config::{MachineConfig, MachineFiles};
use crate::devices::bus::{Bus, Overlap, SharedDevice};
use crate::devices::power::{PowerRegister, ResetRegister};
use crate::devices::serial::Serial;
use crate::devices::virtio::block::{BlockError, BlockThread};
use crate::devices::virtio::fs::{FsError, FsHandle, FsThread};
use crate::devices::virtio::mmio::{MmioTransport, QUEUE_NOTIFY};
use crate::devices::virtio::vsock::{HostPorts, VsockWorker};
use crate::devices::virtio::{DeviceThread, Interrupt, VirtioDevice, block, fs, vsock};
use crate::gate::Gate;
use crate::kvm::{KvmError, Vcpu, Vm};
use crate::vcpu::{Buses, VcpuThreads};

/// Why a machine stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reset. A panicking kernel does.
    Reset,
    /// A vCPU had a triple fault.
    TripleFault,
    /// [`MachineHandle::stop`] was called.
    Requested,
    /// KVM could not go on running a vCPU, and why.
    Unrunnable(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Reset => f.write_str("the guest asked for a reset, as a panicking kernel does"),
            Self::TripleFault => f.write_str("the guest had a triple fault"),
            Self::Requested => f.write_str("it was asked to"),
            Self::Unrunnable(why) => write!(f, "kvm cannot run the guest: {why}"),
        }
    }
}

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Guest memory could not be mapped.
    #[error("mapping {0} bytes of guest memory")]
    Memory(u64, #[source] vm_memory::mmap::FromRangesError),
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Kernel or initramfs could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The shared filesystem could not be set up.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A disk could not be set up.
    #[error(transparent)]
    Disk(#[from] BlockError),
    /// An event file descriptor could not be made.
    #[error("making an eventfd")]
    EventFd(#[source] io::Error),
    /// Two devices at one address: a mistake in the layout.
    #[error(transparent)]
    Layout(#[from] Overlap),
}

/// Why a machine could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread could not be started.
    #[error("starting a thread of the machine")]
    Thread(#[source] io::Error),
    /// The shared filesystem cannot be served.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The event loop failed.
    #[error("waiting for events")]
    Events(#[source] event_manager::Error),
}

/// A machine that has not run yet.
#[derive(Debug)]
pub struct Machine {
    vcpus: Vec<Vcpu>,
    buses: Buses,
    vsock: Option<VsockWorker>,
    fs: Option<(FsThread, FsHandle)>,
    disks: Vec<BlockThread>,
    ports: HostPorts,
    stop: Arc<Stop>,
    gate: Arc<Gate>,
    /// Closed last: taking a virtual machine down is slow.
    vm: Vm,
}

/// Stops or pauses a machine from another thread or from an event subscriber.
#[derive(Clone, Debug)]
pub struct MachineHandle {
    stop: Arc<Stop>,
    gate: Arc<Gate>,
    ports: HostPorts,
    fs: Option<FsHandle>,
}

impl MachineHandle {
    /// Makes [`Machine::run`] return [`StopReason::Requested`], unless the machine has stopped already. A machine
    /// that is paused stops too.
    pub fn stop(&self) {
        self.stop.request(StopReason::Requested);
    }

    /// Takes every vCPU out of the guest. When this returns, no instruction of the guest is executed any more until
    /// [`MachineHandle::resume`]; devices still move what the guest handed to them. Pausing twice is pausing once.
    pub fn pause(&self) {
        self.gate.close();
    }

    /// Lets the vCPUs go on. The guest's monotonic clock has gone on meanwhile, as the host's has.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Whether the machine is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.gate.is_closed()
    }

    /// The host ports of the vsock device, to add to.
    #[must_use]
    pub fn ports(&self) -> &HostPorts {
        &self.ports
    }

    /// The shares of the virtio-fs device, if the machine was built with one.
    #[must_use]
    pub fn shares(&self) -> Option<&FsHandle> {
        self.fs.as_ref()
    }
}

impl Machine {
    /// Builds a machine: all of it but running.
    ///
    /// # Errors
    /// [`BuildError`]; nothing of the machine is left then.
    pub fn build(config: &MachineConfig, mut files: MachineFiles) -> Result<Self, BuildError> {
        let memory = GuestMemoryMmap::from_ranges(&arch::memory_regions(config.memory))
            .map_err(|e| BuildError::Memory(config.memory.bytes(), e))?;
        let vm = Vm::new(files.kvm, memory.clone())?;

        let mut devices =
            VirtioDevices { vm: &vm, memory: &memory, bus: Bus::default(), cmdline: Vec::new() };
        let mut fs = None;
        if !files.shares.is_empty() {
            let (device, thread, handle) = fs::fs(files.shares, config.memory)?;
            devices.add(Box::new(device))?;
            fs = Some((thread, handle));
        }
        let mut disks = Vec::new();
        for disk in files.disks {
            let (device, thread) = block::block(disk)?;
            devices.add(Box::new(device))?;
            disks.push(thread);
        }
        let mut vsock = None;
        let has_vsock = !files.ports.is_empty();
        let ports = HostPorts::new(files.ports).map_err(BuildError::EventFd)?;
        if has_vsock {
            let (device, worker) = vsock::vsock(ports.clone()).map_err(BuildError::EventFd)?;
            devices.add(Box::new(device))?;
            vsock = Some(worker);
        }
        let VirtioDevices { bus: mmio, cmdline: device_words, .. } = devices;
        let console = files.console.take().filter(|_| config.console);
        let cmdline = command_line(config, console.is_some(), &device_words);
        let port = port_devices(console)?;

        let image =
            Image { kernel: &mut files.kernel, initramfs: files.initramfs.as_mut(), cmdline: &cmdline };
        let entry = arch::load(&memory, image, config.vcpus)?;
        let vcpus = vm.create_vcpus(config.vcpus, entry)?;
        let stop = Arc::new(Stop::new().map_err(BuildError::EventFd)?);
        let gate = Arc::new(Gate::default());
        Ok(Self { vcpus, buses: Buses { mmio, port }, vsock, fs, disks, ports, stop, gate, vm })
    }

    /// A handle by which the machine can be stopped, paused, and given more ports.
    #[must_use]
    pub fn handle(&self) -> MachineHandle {
        MachineHandle {
            stop: Arc::clone(&self.stop),
            gate: Arc::clone(&self.gate),
            ports: self.ports.clone(),
            fs: self.fs.as_ref().map(|(_, handle)| handle.clone()),
        }
    }

    /// Runs the machine until it stops. `subscribers` run on this thread's event loop, beside the vsock device.
    ///
    /// # Errors
    /// [`RunError`]; the machine has ended then too.
    pub fn run(self, subscribers: Vec<Box<dyn MutEventSubscriber>>) -> Result<StopReason, RunError> {
        let mut events = EventManager::<Box<dyn MutEventSubscriber>>::new().map_err(RunError::Events)?;
        events.add_subscriber(Box::new(StopSubscriber(Arc::clone(&self.stop))));
        if let Some(vsock) = self.vsock {
            events.add_subscriber(Box::new(vsock));
        }
        for subscriber in subscribers {
            events.add_subscriber(subscriber);
        }
        let fs = self.fs.map(|(thread, _)| thread.start()).transpose()?;
        let disks = self.disks.into_iter().map(BlockThread::start).collect::<Result<Vec<_>, _>>();
        let disks = disks.map_err(RunError::Thread)?;
        let buses = Arc::new(self.buses);
        let vcpus =
            VcpuThreads::start(self.vcpus, &buses, &self.stop, &self.gate).map_err(RunError::Thread)?;

        let result = run_events(&mut events, &self.stop);
        self.stop.request(StopReason::Requested);
        drop(events); // a vCPU that is waiting for the vsock device to let go of its queues goes on
        vcpus.join();
        drop(buses); // the devices go, which ends the threads that serve them
        if let Some(fs) = fs {
            fs.join();
        }
        disks.into_iter().for_each(DeviceThread::join);
        drop(self.vm);
        result.map(|()| self.stop.reason())
    }
}

fn run_events(events: &mut EventManager<Box<dyn MutEventSubscriber>>, stop: &Stop) -> Result<(), RunError> {
    while !stop.is_requested() {
        match events.run() {
            Ok(_) => {}
            Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(RunError::Events(error)),
        }
    }
    Ok(())
}

/// Virtio devices while they are placed: each gets the next address, interrupt line and word on the command line.
struct VirtioDevices<'a> {
    vm: &'a Vm,
    memory: &'a GuestMemoryMmap,
    bus: Bus,
    cmdline: Vec<String>,
}

impl VirtioDevices<'_> {
    fn add(&mut self, device: Box<dyn VirtioDevice>) -> Result<(), BuildError> {
        let index = u32::try_from(self.cmdline.len()).unwrap_or(u32::MAX);
        debug_assert!(index < MmioSlots::COUNT, "a machine has few devices");
        let address = MmioSlots::address(index);
        let eventfd = || EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(BuildError::EventFd);

        let interrupt = Interrupt::new(eventfd()?);
        self.vm.connect_interrupt(interrupt.line(), MmioSlots::irq(index))?;
        let mut kicks = Vec::new();
        for (queue, _) in (0..).zip(device.queue_sizes()) {
            let kick = eventfd()?;
            self.vm.connect_kick(&kick, address + QUEUE_NOTIFY, queue)?;
            kicks.push(kick);
        }
        let transport = MmioTransport::new(device, self.memory.clone(), interrupt, kicks);
        self.bus.insert(address, MmioSlots::SIZE, Arc::new(Mutex::new(transport)))?;
        self.cmdline.push(MmioSlots::cmdline(index));
        Ok(())
    }
}

/// What every machine's kernel is told, then its devices, then what the caller adds.
fn command_line(config: &MachineConfig, console: bool, devices: &[String]) -> String {
    let console = if console { arch::CONSOLE_CMDLINE } else { &[] };
    let words = arch::CMDLINE.iter().chain(console).copied();
    let more = devices.iter().chain(&config.cmdline).map(String::as_str);
    words.chain(more).collect::<Vec<_>>().join(" ")
}

/// The devices at fixed places.
fn port_devices(console: Option<Box<dyn io::Write + Send>>) -> Result<Bus, Overlap> {
    let mut bus = Bus::default();
    let mut insert = |(start, length), device: SharedDevice| bus.insert(start, length, device);
    insert(PlatformDevice::POWER, Arc::new(Mutex::new(PowerRegister)))?;
    insert(PlatformDevice::RESET, Arc::new(Mutex::new(ResetRegister)))?;
    if let Some(output) = console {
        insert(PlatformDevice::CONSOLE, Arc::new(Mutex::new(Serial::new(output))))?;
    }
    Ok(bus)
}

/// The one place where it is known that, and why, the machine stops. The first reason counts.
#[derive(Debug)]
pub(crate) struct Stop {
    reason: OnceLock<StopReason>,
    event: EventFd,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { reason: OnceLock::new(), event: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)? })
    }

    pub(crate) fn request(&self, reason: StopReason) {
        if self.reason.set(reason).is_ok() {
            let _ = self.event.write(1);
        }
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.reason.get().is_some()
    }

    fn reason(&self) -> StopReason {
        self.reason.get().cloned().unwrap_or(StopReason::Requested)
    }
}

/// Wakes the event loop when the machine stops.
struct StopSubscriber(Arc<Stop>);

impl MutEventSubscriber for StopSubscriber {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.0.event, EventSet::IN)) {
            log::error!("cannot watch for the machine's stop: {error}");
            self.0.request(StopReason::Requested);
        }
    }

    fn process(&mut self, _events: Events, ops: &mut EventOps) {
        // The loop sees the reason; the event stays readable and must not wake it again.
        let _ = ops.remove(Events::empty(&self.0.event));
    }
}
