//! Chains and rings as a hostile driver makes them.

use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use super::super::packet::Op;
use super::super::testing::{Driver, Layout, QUEUE_SIZE, RX_SLOT, Socket, TestPort};
use super::*;
use crate::devices::virtio::VirtioDevice;

const NEXT: u32 = VRING_DESC_F_NEXT;
const WRITE: u32 = VRING_DESC_F_WRITE;
const INDIRECT: u32 = VRING_DESC_F_INDIRECT;

/// A descriptor that no packet of the driver's uses, and memory for it.
const SPARE: u16 = 250;
const SPARE_MEMORY: u64 = 0x8_0000;
/// The last bytes before the hole in memory.
const BEFORE_HOLE: u64 = (8 << 20) - 20;

fn driver() -> Driver {
    Driver::with_port(&TestPort::default(), 64)
}

/// A packet that is answered by an RST.
fn stray(driver: &Driver, address: u64) {
    let stray = Header {
        src_cid: super::super::GUEST_CID,
        dst_cid: super::super::HOST_CID,
        ..Header::to_guest(1, 2, Op::Rw)
    };
    driver.memory.write_slice(&stray.to_bytes(), GuestAddress(address)).unwrap();
}

/// Publishes the chain at `SPARE` in the tx queue; true if it was taken for a packet.
fn is_packet(driver: &mut Driver) -> bool {
    driver.tx.publish(&driver.memory, SPARE);
    driver.tx.kick.write(1).unwrap();
    driver.run();
    assert_eq!(driver.tx.take_used(&driver.memory), Some((SPARE, 0)));
    assert!(!driver.interrupt.is_reset_needed());
    let replies = driver.ops();
    assert!(replies.iter().all(|reply| *reply == (Op::Rst, 0)));
    !replies.is_empty()
}

#[test]
fn a_chain_of_any_cut_is_read_and_a_chain_without_a_packet_goes_back() {
    let mut driver = driver();
    stray(&driver, SPARE_MEMORY);
    let hole = BEFORE_HOLE;
    type Chain<'a> = &'a [((u64, u32), u32)];
    let cases: [(Chain<'_>, bool); 13] = [
        (&[((SPARE_MEMORY, 44), 0)], true),
        (&[((SPARE_MEMORY, 4000), 0)], true),
        (&[((SPARE_MEMORY, 1), NEXT), ((SPARE_MEMORY + 1, 43), 0)], true),
        (&[((SPARE_MEMORY, 0), NEXT), ((SPARE_MEMORY, 44), NEXT), ((0, 0), 0)], true),
        (&[((SPARE_MEMORY, 43), 0)], false),
        (&[((SPARE_MEMORY, 0), 0)], false),
        (&[((SPARE_MEMORY, 44), WRITE)], false),
        (&[((SPARE_MEMORY, 44), NEXT), ((SPARE_MEMORY, 44), WRITE)], false),
        (&[((hole, 44), 0)], false),
        (&[((u64::MAX, 44), 0)], false),
        (&[((SPARE_MEMORY, u32::MAX), 0)], false),
        (&[((SPARE_MEMORY, 43), INDIRECT)], false),
        // The first of an indirect table that names itself.
        (&[((SPARE_MEMORY + 64, 16), INDIRECT)], false),
    ];
    let itself = driver.memory.write_obj(SPARE_MEMORY + 64, GuestAddress(SPARE_MEMORY + 64));
    itself.unwrap();
    driver.memory.write_obj(16u32, GuestAddress(SPARE_MEMORY + 72)).unwrap();
    driver.memory.write_obj(u16::try_from(INDIRECT).unwrap(), GuestAddress(SPARE_MEMORY + 76)).unwrap();
    for (chain, expected) in cases {
        for (index, (buffer, flags)) in (SPARE..).zip(chain) {
            driver.tx.describe(&driver.memory, index, *buffer, *flags);
        }
        assert_eq!(is_packet(&mut driver), expected, "{chain:x?}");
    }
}

#[test]
fn a_chain_that_never_ends_is_looked_at_for_a_while() {
    let mut driver = driver();
    stray(&driver, SPARE_MEMORY);
    for index in 0..QUEUE_SIZE {
        driver.tx.describe(&driver.memory, index, (SPARE_MEMORY, 0), NEXT);
    }
    assert!(!is_packet(&mut driver));
}

#[test]
fn a_ring_that_makes_no_sense_needs_a_reset_and_is_left_alone() {
    type Break = fn(&mut Driver);
    let breaks: [Break; 4] = [
        // More chains than the queue has room for, in either queue.
        |driver| driver.tx.set_available(&driver.memory, QUEUE_SIZE + 1),
        |driver| driver.rx.set_available(&driver.memory, 0x8000),
        // A head that is no descriptor.
        |driver| driver.tx.publish(&driver.memory, QUEUE_SIZE),
        |driver| driver.tx.publish(&driver.memory, u16::MAX),
    ];
    for breaks in breaks {
        let port = TestPort::default();
        let (_reader, output) = std::io::pipe().unwrap();
        port.offer(crate::HostStream { input: None, output: Some(output.into()) });
        let mut driver = Driver::with_port(&port, 0);
        breaks(&mut driver);
        // Makes the device look at both.
        let request = Header {
            src_cid: super::super::GUEST_CID,
            dst_cid: super::super::HOST_CID,
            ..Header::to_guest(1024, 9, Op::Request)
        };
        driver.post(request, &[]);
        driver.rx.kick.write(1).unwrap();
        driver.run();
        assert!(driver.interrupt.is_reset_needed());
        assert_eq!(driver.interrupts(), 1);
        driver.tx.kick.write(1).unwrap();
        driver.run();
        assert_eq!(driver.interrupts(), 0);

        driver.reset();
        driver.activate(64);
        port.log().streams.clear();
        let (_reader, output) = std::io::pipe().unwrap();
        port.offer(crate::HostStream { input: None, output: Some(output.into()) });
        assert!(Socket::connect(&mut driver, 5, 1000).is_connected, "as good as new");
    }
}

#[test]
fn a_driver_without_queues_or_with_queues_outside_of_memory_is_refused() {
    type Spoil = fn(&mut crate::devices::virtio::Activation);
    let spoils: [Spoil; 4] = [
        |activation| activation.queues.clear(),
        |activation| activation.queues[1] = None,
        |activation| {
            let queue = &mut activation.queues[0].as_mut().unwrap().queue;
            queue.set_used_ring_address(Some(u32::MAX - 3), None);
        },
        |activation| activation.queues[0].as_mut().unwrap().queue.set_ready(false),
    ];
    for spoil in spoils {
        let mut driver = driver();
        driver.reset();
        let mut activation = driver.activation();
        spoil(&mut activation);
        driver.device.activate(activation);
        driver.run();
        assert!(driver.interrupt.is_reset_needed());
        driver.reset();
    }
}

#[test]
fn rings_over_the_hole_in_memory_need_a_reset() {
    let mut driver = driver();
    driver.reset();
    let mut activation = driver.activation();
    // It starts in the hole and ends behind it, where there is memory.
    let queue = &mut activation.queues[1].as_mut().unwrap().queue;
    queue.set_avail_ring_address(Some((16 << 20) - 16), None);
    driver.device.activate(activation);
    driver.run();
    assert!(driver.interrupt.is_reset_needed());
}

#[test]
fn packets_are_spread_over_the_buffers_that_there_are() {
    let port = TestPort::default();
    let (input, mut ours) = std::io::pipe().unwrap();
    port.offer(crate::HostStream { input: Some(input.into()), output: None });
    let mut driver = Driver::with_port(&port, 2);
    assert!(Socket::connect(&mut driver, 5, 100_000).is_connected);
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(9000).collect();
    std::io::Write::write_all(&mut ours, &data).unwrap();
    driver.run();
    let mut got = Vec::new();
    while got.len() < 2 * (usize::try_from(RX_SLOT).unwrap() - HEADER_LEN) {
        let before = got.len();
        let (_, data) = driver.receive_without_refill().unwrap();
        got.extend(data);
        assert!(got.len() > before);
    }
    // Three unusable buffers (too small, not writable, over the hole), then one of three pieces, the first of
    // which ends within the header.
    let describe = |driver: &mut Driver, index, buffer, flags| {
        driver.rx.describe(&driver.memory, index, buffer, flags);
    };
    describe(&mut driver, 100, (SPARE_MEMORY, 43), WRITE);
    describe(&mut driver, 101, (SPARE_MEMORY, 4096), 0);
    describe(&mut driver, 102, (BEFORE_HOLE, 100), WRITE);
    describe(&mut driver, 110, (SPARE_MEMORY, 40), WRITE | NEXT);
    describe(&mut driver, 111, (SPARE_MEMORY + 100, 5), WRITE | NEXT);
    describe(&mut driver, 112, (SPARE_MEMORY + 200, 500), WRITE);
    for head in [100, 101, 102, 110] {
        driver.rx.publish(&driver.memory, head);
    }
    driver.rx.kick.write(1).unwrap();
    driver.run();
    for head in [100, 101, 102] {
        assert_eq!(driver.rx.take_used(&driver.memory), Some((head, 0)));
    }
    assert_eq!(driver.rx.take_used(&driver.memory), Some((110, 545)));
    let mut pieces = vec![0; 501];
    driver.memory.read_slice(&mut pieces[..1], GuestAddress(SPARE_MEMORY + 104)).unwrap();
    driver.memory.read_slice(&mut pieces[1..], GuestAddress(SPARE_MEMORY + 200)).unwrap();
    got.extend(pieces);
    assert!(got == data[..got.len()]);
    assert!(!driver.interrupt.is_reset_needed());
}

#[test]
fn without_event_idx_the_device_works_too() {
    let port = TestPort::default();
    let mut driver = Driver::with_port(&port, 64);
    driver.reset();
    let mut activation = driver.activation();
    activation.features = 0;
    driver.device.activate(activation);
    driver.run();
    for (guest_port, layout) in (10..).zip([Layout::Whole, Layout::Split, Layout::Shredded]) {
        driver.layout = layout;
        let (mut ours, output) = std::io::pipe().unwrap();
        port.offer(crate::HostStream { input: None, output: Some(output.into()) });
        let mut socket = Socket::connect(&mut driver, guest_port, 1000);
        let data = vec![layout as u8; 30_000];
        assert_eq!(socket.write(&mut driver, &data), 30_000);
        let mut got = vec![0; 30_000];
        std::io::Read::read_exact(&mut ours, &mut got).unwrap();
        assert!(got == data);
    }
}
