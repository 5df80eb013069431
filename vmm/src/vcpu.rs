//! The thread of a vCPU: runs it, takes its exits to the buses, and ends when the machine stops.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use vmm_sys_util::signal::register_signal_handler;

use crate::devices::Outcome;
use crate::devices::bus::Bus;
use crate::gate::{Gate, Pass, kick_signal};
use crate::kvm::{Exit, Vcpu};
use crate::machine::{Stop, StopReason};

/// The buses of a machine, as its vCPUs see them.
#[derive(Debug, Default)]
pub(crate) struct Buses {
    pub(crate) mmio: Bus,
    pub(crate) port: Bus,
}

/// The running vCPU threads.
#[derive(Debug)]
pub(crate) struct VcpuThreads {
    gate: Arc<Gate>,
    /// Disconnected when the last thread has ended.
    alive: Receiver<()>,
}

impl VcpuThreads {
    /// Starts a thread for each vCPU.
    pub(crate) fn start(
        vcpus: Vec<Vcpu>,
        buses: &Arc<Buses>,
        stop: &Arc<Stop>,
        gate: &Arc<Gate>,
    ) -> io::Result<Self> {
        register_signal_handler(kick_signal(), ignore)?;
        let (sender, receiver) = channel();
        let starts = vcpus.into_iter().enumerate().map(|(index, vcpu)| {
            let (buses, stop, gate) = (Arc::clone(buses), Arc::clone(stop), Arc::clone(gate));
            let alive = Sender::clone(&sender);
            move |pass: Pass| {
                Builder::new().name(format!("vcpu{index}")).spawn(move || {
                    run(vcpu, &buses, &stop, &gate, &pass);
                    drop(alive);
                })
            }
        });
        let started = gate.start(starts);
        drop(sender);
        let threads = Self { gate: Arc::clone(gate), alive: receiver };
        if let Err(error) = started {
            stop.request(StopReason::Requested);
            threads.join();
            return Err(error);
        }
        Ok(threads)
    }

    /// Ends the threads. The machine must have been stopped.
    pub(crate) fn join(self) {
        const RETRY: Duration = Duration::from_millis(1);
        loop {
            // A signal that comes just before KVM_RUN has no effect: it is sent until the thread has ended.
            self.gate.kick();
            if self.alive.recv_timeout(RETRY) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        self.gate.join();
    }
}

extern "C" fn ignore(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {}

fn run(mut vcpu: Vcpu, buses: &Buses, stop: &Stop, gate: &Gate, pass: &Pass) {
    while !stop.is_requested() && gate.enter(pass, || stop.is_requested()) {
        let exit = vcpu.run();
        pass.leave();
        let outcome = match exit {
            Exit::PortRead(port, data) => {
                buses.port.read(port, data);
                Outcome::Continue
            }
            Exit::PortWrite(port, data) => buses.port.write(port, data),
            Exit::MmioRead(address, data) => {
                buses.mmio.read(address, data);
                Outcome::Continue
            }
            Exit::MmioWrite(address, data) => buses.mmio.write(address, data),
            Exit::Interrupted => Outcome::Continue,
            Exit::Shutdown => Outcome::Stop(StopReason::TripleFault),
            Exit::Unrunnable(why) => Outcome::Stop(StopReason::Unrunnable(why)),
        };
        if let Outcome::Stop(reason) = outcome {
            stop.request(reason);
        }
    }
}
