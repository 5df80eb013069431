//! The gate between vCPU threads and the guest: closed while the machine is paused.
//!
//! A thread says that it is inside before it looks whether the gate is closed, and who closes the gate says so before
//! it looks who is inside, all in one order (`SeqCst`): one of the two sees the other. A thread that waits elsewhere,
//! for a device, is not inside, and needs not be waited for: it comes by the gate before the guest goes on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_sys_util::signal::{Killable, SIGRTMIN};

/// How long to wait between two kicks of the same thread.
const RETRY: Duration = Duration::from_micros(100);

/// The gate of one machine.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
    /// Threads that wait for the gate hold this while they look at it, and who changes it while it changes.
    waiting: Mutex<()>,
    changed: Condvar,
    threads: Mutex<Vec<VcpuThread>>,
}

/// A thread that goes through the gate.
#[derive(Debug)]
struct VcpuThread {
    thread: JoinHandle<()>,
    pass: Pass,
}

/// Whether a thread is inside: in the guest, or on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pass(Arc<AtomicBool>);

impl Gate {
    /// Starts threads that go through the gate. None is there to be kicked before all are.
    pub(crate) fn start<F>(&self, threads: impl Iterator<Item = F>) -> io::Result<()>
    where
        F: FnOnce(Pass) -> io::Result<JoinHandle<()>>,
    {
        let mut started = lock(&self.threads);
        for start in threads {
            let pass = Pass::default();
            started.push(VcpuThread { thread: start(pass.clone())?, pass });
        }
        Ok(())
    }

    /// Enters, after waiting until the gate is open. False when `is_over` before that.
    pub(crate) fn enter(&self, pass: &Pass, is_over: impl Fn() -> bool) -> bool {
        loop {
            pass.0.store(true, Ordering::SeqCst);
            if !self.is_closed() {
                return true;
            }
            pass.leave();
            if is_over() {
                return false;
            }
            let mut waiting = lock(&self.waiting);
            while self.is_closed() && !is_over() {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Closes the gate, and waits until nobody is inside.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for VcpuThread { thread, pass } in lock(&self.threads).iter() {
            while pass.is_inside() && !thread.is_finished() {
                // A signal that comes just before KVM_RUN has no effect: it is sent until the thread has come out.
                let _ = thread.kill(kick_signal());
                thread::sleep(RETRY);
            }
        }
    }

    /// Opens the gate.
    pub(crate) fn open(&self) {
        let waiting = lock(&self.waiting);
        self.is_closed.store(false, Ordering::SeqCst);
        self.changed.notify_all();
        drop(waiting);
    }

    /// Whether the gate is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Wakes and kicks every thread that has not ended. What `is_over` asks for must be true by now.
    pub(crate) fn kick(&self) {
        drop(lock(&self.waiting));
        self.changed.notify_all();
        for VcpuThread { thread, .. } in lock(&self.threads).iter().filter(|vcpu| !vcpu.thread.is_finished())
        {
            let _ = thread.kill(kick_signal());
        }
    }

    /// Waits for the threads, which have ended.
    pub(crate) fn join(&self) {
        for VcpuThread { thread, .. } in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
    }
}

impl Pass {
    /// The thread is outside again.
    pub(crate) fn leave(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    fn is_inside(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Takes a vCPU out of KVM_RUN.
pub(crate) fn kick_signal() -> i32 {
    SIGRTMIN()
}

/// What these locks guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
