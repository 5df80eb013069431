//! Threads for requests that may wait for the host's disk: a slow one does not hold up the others.
//!
//! They are started when there is work for them, so that a guest that never waits has none. Most requests never come
//! here: handing one to another thread takes longer than most of them do.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::devices::virtio::chain::Places;
use crate::fuse::{JobResult, Pending, Ticket};

/// Threads at most.
const MAX_THREADS: usize = 4;

/// Jobs under way at most, each of which holds a file; more are done as they come.
const MAX_WAITING: usize = 256;

/// A request that waits for its job: the chain that it came in, and where its reply goes.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The queue, by its index.
    pub(super) queue: u32,
    /// The chain, by its first descriptor.
    pub(super) head: u16,
    pub(super) ticket: Ticket,
    /// Addresses and lengths, as they were when the request was read.
    pub(super) reply: Places,
}

/// Jobs under way. Readable when one is done.
pub(super) struct Jobs {
    waiting: HashMap<u64, Waiting>,
    next: u64,
    /// Jobs whose results have not come: more than those that somebody waits for, after a reset.
    under_way: usize,
    threads: usize,
    work: Sender<(u64, Pending)>,
    todo: Arc<Mutex<Receiver<(u64, Pending)>>>,
    done: Sender<(u64, JobResult)>,
    results: Receiver<(u64, JobResult)>,
    wake: Arc<EventFd>,
}

impl Jobs {
    pub(super) fn new() -> io::Result<Self> {
        let (work, todo) = channel();
        let (done, results) = channel();
        Ok(Self {
            waiting: HashMap::new(),
            next: 0,
            under_way: 0,
            threads: 0,
            work,
            todo: Arc::new(Mutex::new(todo)),
            done,
            results,
            wake: Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?),
        })
    }

    /// Has a job run, on another thread where possible. Its result comes from [`Jobs::finished`].
    pub(super) fn run(&mut self, waiting: Waiting, pending: Pending) {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, waiting);
        self.under_way += 1;
        if self.threads < self.under_way.min(MAX_THREADS) {
            self.start_thread();
        }
        if self.threads == 0 || self.under_way > MAX_WAITING {
            let _ = self.done.send((number, pending.run()));
            let _ = self.wake.write(1);
        } else {
            let _ = self.work.send((number, pending));
        }
    }

    /// A request whose job is done, and its result. Call it until it gives `None`: only then is another wake-up certain
    /// to come.
    pub(super) fn finished(&mut self) -> Option<(Waiting, JobResult)> {
        let _ = self.wake.read();
        loop {
            let (number, result) = self.results.try_recv().ok()?;
            self.under_way = self.under_way.saturating_sub(1);
            if let Some(waiting) = self.waiting.remove(&number) {
                return Some((waiting, result));
            }
        }
    }

    /// Nobody waits for results any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    fn start_thread(&mut self) {
        let (todo, done, wake) = (Arc::clone(&self.todo), self.done.clone(), Arc::clone(&self.wake));
        let started = Builder::new().name("fs-disk".to_owned()).spawn(move || {
            loop {
                // The lock is held while waiting, by one thread at a time; the others wait for it.
                let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((number, pending)) = next else { return };
                if done.send((number, pending.run())).is_err() {
                    return;
                }
                let _ = wake.write(1);
            }
        });
        match started {
            Ok(_) => self.threads += 1,
            Err(error) => log::warn!("shared filesystem: no thread for slow requests: {error}"),
        }
    }
}

impl AsRawFd for Jobs {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::time::{Duration, Instant};

    use super::*;

    /// What jobs wait for.
    #[derive(Default)]
    struct Gate(Mutex<bool>, Condvar);

    impl Gate {
        fn pass(&self) {
            let open = self.0.lock().unwrap();
            drop(self.1.wait_while(open, |open| !*open).unwrap());
        }

        fn open(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }
    }

    fn waiting(head: u16) -> Waiting {
        Waiting { queue: 1, head, ticket: Pending::of(|| ()).ticket, reply: Places::default() }
    }

    fn heads(jobs: &mut Jobs) -> Vec<u16> {
        std::iter::from_fn(|| jobs.finished()).map(|(waiting, _)| waiting.head).collect()
    }

    #[test]
    fn jobs_of_a_guest_that_resets_again_and_again_are_bounded() {
        let mut jobs = Jobs::new().unwrap();
        let gate = Arc::new(Gate::default());
        for number in 0..MAX_WAITING {
            let gate = Arc::clone(&gate);
            jobs.run(waiting(1), Pending::of(move || gate.pass()));
            if number % 16 == 15 {
                jobs.forget();
            }
        }
        assert!(jobs.threads <= MAX_THREADS, "{} threads", jobs.threads);
        assert!(heads(&mut jobs).is_empty(), "nothing is done");

        // All threads wait, and so much is queued that what comes now is done at once.
        for head in [2, 3, 4] {
            jobs.run(waiting(head), Pending::of(|| ()));
            assert_eq!(heads(&mut jobs), [head]);
            assert!(jobs.under_way <= MAX_WAITING && jobs.threads <= MAX_THREADS);
        }

        // What the earlier guests asked for ends, and answers nobody.
        gate.open();
        let give_up = Instant::now() + Duration::from_secs(60);
        while jobs.under_way > 0 {
            assert!(heads(&mut jobs).is_empty());
            assert!(Instant::now() < give_up, "{} jobs do not end", jobs.under_way);
            std::thread::yield_now();
        }
        jobs.run(waiting(5), Pending::of(|| ()));
        let mut answered = Vec::new();
        while answered.is_empty() {
            answered = heads(&mut jobs);
            assert!(Instant::now() < give_up, "the new guest is not answered");
        }
        assert_eq!(answered, [5]);
    }
}
