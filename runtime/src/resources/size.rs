//! What a machine needs beside its container: the documented overhead.
//!
//! ```text
//! host's cgroup   | monitor            | machine                                        |
//! machine         |                    | guest's kernel, agent, page structures | limit |
//! guest's cgroup  |                    |                                        | limit |
//! ```
//!
//! So a container that reaches its limit meets the guest's cgroup first, and never ends its machine or the monitor.

/// What the guest's kernel with its initramfs and agent takes.
const GUEST: u64 = 32 << 20;
/// Of each page of the machine this part is the guest's for keeping account of it (`struct page`).
const GUEST_SHARE: u64 = 64;
/// What the monitor takes: its own memory, and the kernel's for its descriptors.
const MONITOR: u64 = 64 << 20;
/// Of each page of the machine this part is the host's for page tables.
const MONITOR_SHARE: u64 = 128;

/// Threads of the monitor: the event loop, the shared filesystem's, the kernel's own for KVM, and room for what is short-lived.
const MONITOR_TASKS: u64 = 16;

/// Memory of a machine whose container may use `limit` bytes.
#[must_use]
pub fn machine_memory(limit: u64) -> u64 {
    limit.saturating_add(GUEST).saturating_add(limit / GUEST_SHARE)
}

/// What a machine of `machine` bytes and its monitor take at most.
#[must_use]
pub fn host_memory(machine: u64) -> u64 {
    machine.saturating_add(MONITOR).saturating_add(machine / MONITOR_SHARE)
}

/// Tasks of a monitor of a machine with so many vCPUs.
#[must_use]
pub fn host_tasks(vcpus: u8) -> u64 {
    MONITOR_TASKS + u64::from(vcpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_room_for_what_is_in_it() {
        for limit in [0, 4 << 20, 64 << 20, 1 << 30, 1 << 40] {
            let machine = machine_memory(limit);
            assert!(machine >= limit + GUEST);
            assert!(host_memory(machine) > machine);
        }
        assert_eq!(host_memory(machine_memory(u64::MAX)), u64::MAX);
    }
}
