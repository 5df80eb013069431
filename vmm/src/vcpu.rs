//! The thread of a vCPU: runs it, takes its exits to the buses, and ends when the machine stops.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::devices::Outcome;
use crate::devices::bus::Bus;
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
    threads: Vec<JoinHandle<()>>,
    /// Disconnected when the last thread has ended.
    alive: Receiver<()>,
}

impl VcpuThreads {
    /// Starts a thread for each vCPU.
    pub(crate) fn start(vcpus: Vec<Vcpu>, buses: &Arc<Buses>, stop: &Arc<Stop>) -> io::Result<Self> {
        register_signal_handler(kick_signal(), ignore)?;
        let (sender, receiver) = channel();
        let mut threads = Vec::with_capacity(vcpus.len());
        for (index, vcpu) in vcpus.into_iter().enumerate() {
            let (buses, thread_stop, alive) = (Arc::clone(buses), Arc::clone(stop), Sender::clone(&sender));
            let thread = Builder::new().name(format!("vcpu{index}")).spawn(move || {
                run(vcpu, &buses, &thread_stop);
                drop(alive);
            });
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    stop.request(StopReason::Requested);
                    drop(sender);
                    Self { threads, alive: receiver }.join();
                    return Err(error);
                }
            }
        }
        Ok(Self { threads, alive: receiver })
    }

    /// Ends the threads. The machine must have been stopped.
    pub(crate) fn join(self) {
        const RETRY: Duration = Duration::from_millis(1);
        loop {
            for thread in self.threads.iter().filter(|thread| !thread.is_finished()) {
                // A signal that comes just before KVM_RUN has no effect: it is sent until the thread has ended.
                let _ = thread.kill(kick_signal());
            }
            if self.alive.recv_timeout(RETRY) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Takes a vCPU out of KVM_RUN.
fn kick_signal() -> i32 {
    SIGRTMIN()
}

extern "C" fn ignore(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {}

fn run(mut vcpu: Vcpu, buses: &Buses, stop: &Stop) {
    while !stop.is_requested() {
        let outcome = match vcpu.run() {
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
