//! The register file, with a test that plays the driver.

use std::sync::{Arc, Mutex};

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;

const OFFERED: u64 = 1 << 29;

/// What the transport did to the device.
#[derive(Default)]
struct Calls {
    activations: Vec<Activation>,
    resets: usize,
}

struct TestDevice(Arc<Mutex<Calls>>);

impl VirtioDevice for TestDevice {
    fn device_type(&self) -> u32 {
        42
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 8]
    }
    fn features(&self) -> u64 {
        OFFERED
    }
    fn config(&self) -> &[u8] {
        &[1, 2, 3, 4, 5]
    }
    fn activate(&mut self, activation: Activation) {
        self.0.lock().unwrap().activations.push(activation);
    }
    fn reset(&mut self) {
        self.0.lock().unwrap().resets += 1;
    }
}

struct Driver {
    transport: MmioTransport,
    calls: Arc<Mutex<Calls>>,
    kicks: Vec<EventFd>,
}

impl Driver {
    fn new() -> Self {
        let calls = Arc::<Mutex<Calls>>::default();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let kicks: Vec<_> = (0..2).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        let transport = MmioTransport::new(
            Box::new(TestDevice(calls.clone())),
            memory,
            Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap()),
            kicks.iter().map(|kick| kick.try_clone().unwrap()).collect(),
        );
        Self { transport, calls, kicks }
    }

    fn read(&mut self, offset: u64) -> u32 {
        let mut data = [0xff; 4];
        self.transport.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, offset: u64, value: u32) {
        assert_eq!(self.transport.write(offset, &value.to_le_bytes()), Outcome::Continue);
    }

    fn status(&mut self) -> u32 {
        self.read(0x70)
    }

    fn negotiate(&mut self, features: u64) {
        self.write(0x70, 1);
        self.write(0x70, 3);
        for half in [0_u32, 1] {
            self.write(0x24, half);
            self.write(0x20, u32::try_from(features >> (32 * half) & 0xffff_ffff).unwrap());
        }
        self.write(0x70, 11);
    }

    fn configure_queue(&mut self, queue: u32, base: u32) {
        self.write(0x30, queue);
        self.write(0x38, 8);
        self.write(0x80, base);
        self.write(0x90, base + 0x100);
        self.write(0xa0, base + 0x200);
        self.write(0x44, 1);
    }

    fn started() -> Self {
        let mut driver = Self::new();
        driver.negotiate(OFFERED | FEATURE_VERSION_1);
        driver.configure_queue(0, 0x1000);
        driver.configure_queue(1, 0x2000);
        driver.write(0x70, 15);
        driver
    }

    fn activations(&self) -> usize {
        self.calls.lock().unwrap().activations.len()
    }
}

#[test]
fn identity_features_and_configuration_can_be_read() {
    let mut driver = Driver::new();
    assert_eq!([0, 4, 8].map(|offset| driver.read(offset)), [0x7472_6976, 2, 42]);
    assert_eq!(driver.read(0x10), 1 << 29);
    driver.write(0x14, 1);
    assert_eq!(driver.read(0x10), 1, "VIRTIO_F_VERSION_1");
    driver.write(0x14, 2);
    assert_eq!(driver.read(0x10), 0);
    assert_eq!(driver.read(0x34), 16);
    driver.write(0x30, 2);
    assert_eq!(driver.read(0x34), 0, "no such queue");
    assert_eq!(driver.read(0xb0), u32::MAX, "no shared memory region");
    let mut config = [0xff; 8];
    driver.transport.read(0x100, &mut config);
    assert_eq!(config, [1, 2, 3, 4, 5, 0, 0, 0]);
    let mut byte = [0xff];
    driver.transport.read(0x102, &mut byte);
    assert_eq!(byte, [3]);
}

#[test]
fn queues_move_to_the_device_once_with_what_was_agreed() {
    let mut driver = Driver::started();
    assert_eq!(driver.status(), 15);
    driver.write(0x70, 15);
    assert_eq!(driver.activations(), 1);
    let calls = driver.calls.lock().unwrap();
    let activation = &calls.activations[0];
    assert_eq!(activation.features, OFFERED | FEATURE_VERSION_1);
    let queues: Vec<_> = activation.queues.iter().map(|queue| &queue.as_ref().unwrap().queue).collect();
    assert_eq!(queues.iter().map(|queue| queue.size()).collect::<Vec<_>>(), [8, 8]);
    assert_eq!(queues.iter().map(|queue| queue.desc_table()).collect::<Vec<_>>(), [0x1000, 0x2000]);
    assert!(queues[0].event_idx_enabled());
}

#[test]
fn features_that_were_not_offered_or_version_0_are_refused() {
    for features in [OFFERED, OFFERED | FEATURE_VERSION_1 | 1, FEATURE_VERSION_1 | (1 << 33)] {
        let mut driver = Driver::new();
        driver.negotiate(features);
        assert_eq!(driver.status(), 3, "{features:#x}");
        driver.write(0x70, 7);
        assert_eq!(driver.status(), 3);
        assert_eq!(driver.activations(), 0);
    }
}

#[test]
fn status_bits_are_set_in_order_and_cleared_only_by_reset() {
    let mut driver = Driver::new();
    for value in [2, 4, 8, 15, 3, 5] {
        driver.write(0x70, value);
        assert_eq!(driver.status(), 0, "{value} out of turn");
    }
    driver.negotiate(FEATURE_VERSION_1);
    driver.write(0x70, 3);
    assert_eq!(driver.status(), 11, "bits are not cleared one by one");
    driver.write(0x70, 0);
    assert_eq!(driver.status(), 0);
    assert_eq!(driver.calls.lock().unwrap().resets, 0, "the device was not active");
}

#[test]
fn queue_registers_are_frozen_outside_configuration() {
    let mut driver = Driver::new();
    driver.configure_queue(0, 0x1000);
    assert_eq!(driver.read(0x44), 0, "before FEATURES_OK");
    driver.negotiate(FEATURE_VERSION_1);
    driver.configure_queue(0, 0x1000);
    driver.write(0x38, 4);
    driver.write(0x80, 0x3000);
    driver.write(0x70, 15);
    driver.write(0x44, 0);
    driver.write(0x38, 2);
    driver.write(0x80, 0x4000);
    assert_eq!(driver.read(0x44), 1);
    let calls = driver.calls.lock().unwrap();
    let queue = &calls.activations[0].queues[0].as_ref().unwrap().queue;
    assert_eq!((queue.size(), queue.desc_table()), (8, 0x1000));
    assert!(calls.activations[0].queues[1].is_none(), "it was never made ready");
}

#[test]
fn rings_outside_memory_need_a_reset() {
    let mut driver = Driver::new();
    driver.negotiate(FEATURE_VERSION_1);
    driver.configure_queue(0, 0xffff_0000);
    driver.write(0x70, 15);
    assert_eq!(driver.status(), 15 | 64);
    assert_eq!(driver.read(0x60), 2, "configuration change");
    assert_eq!(driver.activations(), 0);
    driver.write(0x70, 0);
    assert_eq!((driver.status(), driver.read(0x60)), (0, 0));
}

#[test]
fn reset_returns_to_the_beginning() {
    let mut driver = Driver::started();
    driver.write(0x70, 0);
    assert_eq!(driver.calls.lock().unwrap().resets, 1);
    driver.write(0x30, 0);
    assert_eq!(driver.read(0x44), 0);
    driver.negotiate(FEATURE_VERSION_1);
    driver.configure_queue(0, 0x1000);
    driver.write(0x70, 15);
    assert_eq!(driver.activations(), 2);
}

#[test]
fn notifications_reach_a_running_queue_only() {
    let mut driver = Driver::new();
    driver.write(0x50, 0);
    assert!(driver.kicks[0].read().is_err(), "not running");
    let mut driver = Driver::started();
    driver.write(0x50, 1);
    driver.write(0x50, 2);
    driver.write(0x50, u32::MAX);
    assert!(driver.kicks[0].read().is_err());
    assert_eq!(driver.kicks[1].read().unwrap(), 1);
}

#[test]
fn interrupts_are_reported_and_acknowledged() {
    let mut driver = Driver::started();
    let interrupt = driver.calls.lock().unwrap().activations[0].interrupt.clone();
    interrupt.used_buffer();
    assert_eq!(interrupt.line().read().unwrap(), 1);
    assert_eq!(driver.read(0x60), 1);
    driver.write(0x64, 1);
    assert_eq!(driver.read(0x60), 0);
}

#[test]
fn accesses_of_wrong_size_or_place_have_no_effect() {
    let mut driver = Driver::new();
    for (offset, length) in [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4)] {
        let mut data = vec![0xff; length];
        driver.transport.read(offset, &mut data);
        assert_eq!(data, vec![0xff; length], "read of {length} bytes at {offset}");
    }
    for (offset, length) in [(0x70, 1), (0x70, 2), (0x70, 8), (0x71, 4), (0x100, 4), (0xffc, 4), (0xfff, 8)] {
        driver.transport.write(offset, &vec![1; length]);
    }
    assert_eq!(driver.status(), 0);
}

/// Any sequence of accesses leaves a device that still answers, and nothing runs that was not agreed on.
#[test]
fn random_accesses_do_no_harm() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut driver = Driver::new();
    for _ in 0..200_000 {
        let (choice, value) = (random(), random());
        let offset = if choice & 1 == 0 { (choice >> 8) & 0x1ff } else { (choice >> 8) & 0xfc };
        let mut bytes = value.to_le_bytes();
        let length = [1, 2, 4, 4, 4, 8][usize::try_from((choice >> 32) % 6).unwrap()];
        if choice & 2 == 0 {
            driver.transport.read(offset, &mut bytes[..length]);
        } else {
            driver.transport.write(offset, &bytes[..length]);
        }
    }
    assert_eq!(driver.read(0), MAGIC);
}
