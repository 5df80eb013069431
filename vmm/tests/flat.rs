//! The machine with guests of a few instructions, on any /dev/kvm: how it starts, prints and stops.

use std::io::{Seek, Write};
use std::sync::{Arc, Mutex};

use drupe_vmm::{
    BuildError, LoadError, Machine, MachineConfig, MachineFiles, MemorySize, StopReason, VcpuCount,
};

const LOAD_ADDRESS: u64 = 0x10_0000;

/// `mov dx, port; mov al, value; out dx, al`
fn out(port: u16, value: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xb0, value, 0xee]
}

/// `jmp $`
const SPIN: [u8; 2] = [0xeb, 0xfe];
/// `ud2`: with no interrupt table, an exception is a triple fault.
const UD2: [u8; 2] = [0x0f, 0x0b];

/// An ELF executable with `code` at [`LOAD_ADDRESS`].
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let length = code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes()); // ET_EXEC, EM_X86_64
    }
    file.extend(1_u32.to_le_bytes());
    for word in [LOAD_ADDRESS, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, no section headers
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes()); // PT_LOAD
    file.extend(5_u32.to_le_bytes());
    for word in [HEADERS, LOAD_ADDRESS, LOAD_ADDRESS, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

fn file(content: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

fn files(kernel: &[u8]) -> MachineFiles {
    MachineFiles {
        kvm: std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .expect("these tests need /dev/kvm"),
        kernel: file(kernel),
        initramfs: None,
        shares: Vec::new(),
        disks: Vec::new(),
        ports: Vec::new(),
        console: None,
    }
}

fn run(code: &[u8]) -> StopReason {
    Machine::build(&MachineConfig::default(), files(&elf(code))).unwrap().run(Vec::new()).unwrap()
}

#[test]
fn a_guest_ends_its_machine_with_a_reason() {
    assert_eq!(run(&out(0x600, 0x34)), StopReason::PowerOff);
    assert_eq!(run(&out(0x64, 0xfe)), StopReason::Reset);
    assert_eq!(run(&UD2), StopReason::TripleFault);
}

#[test]
fn ports_without_a_device_are_ignored() {
    let code = [out(0x80, 1), out(0x3f8, b'x'), out(0x600, 0xff), out(0x600, 0x34)].concat();
    assert_eq!(run(&code), StopReason::PowerOff);
}

#[test]
fn a_spinning_guest_is_stopped_from_outside_on_every_vcpu() {
    for vcpus in [1, 2] {
        let config = MachineConfig { vcpus: VcpuCount::new(vcpus).unwrap(), ..MachineConfig::default() };
        let machine = Machine::build(&config, files(&elf(&SPIN))).unwrap();
        let handle = machine.handle();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            handle.stop();
        });
        assert_eq!(machine.run(Vec::new()).unwrap(), StopReason::Requested);
        stopper.join().unwrap();
    }
}

#[test]
fn a_machine_stopped_before_it_runs_does_not_run() {
    let machine = Machine::build(&MachineConfig::default(), files(&elf(&SPIN))).unwrap();
    machine.handle().stop();
    assert_eq!(machine.run(Vec::new()).unwrap(), StopReason::Requested);
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_console_prints_only_when_it_is_on() {
    let code = [out(0x3f8, b'h'), out(0x3f8, b'i'), out(0x600, 0x34)].concat();
    for (console, expected) in [(true, &b"hi"[..]), (false, b"")] {
        let output = Output::default();
        let files = MachineFiles { console: Some(Box::new(output.clone())), ..files(&elf(&code)) };
        let config = MachineConfig { console, ..MachineConfig::default() };
        assert_eq!(Machine::build(&config, files).unwrap().run(Vec::new()).unwrap(), StopReason::PowerOff);
        assert_eq!(*output.0.lock().unwrap(), expected);
    }
}

/// A guest that prints for ever.
fn chatty() -> Vec<u8> {
    let mut code = out(0x3f8, b'x');
    code.extend([0xeb, 0xfd]); // jmp to the `out` again
    code
}

/// Waits until a running machine has printed something more.
fn wait_for_more(output: &Output) {
    let before = output.0.lock().unwrap().len();
    while output.0.lock().unwrap().len() == before {
        std::thread::yield_now();
    }
}

#[test]
fn a_paused_guest_does_nothing_until_it_is_resumed() {
    let output = Output::default();
    let files = MachineFiles { console: Some(Box::new(output.clone())), ..files(&elf(&chatty())) };
    let config = MachineConfig { console: true, ..MachineConfig::default() };
    let machine = Machine::build(&config, files).unwrap();
    let handle = machine.handle();
    std::thread::scope(|scope| {
        let running = scope.spawn(move || machine_run(machine));
        for _ in 0..5 {
            wait_for_more(&output);
            handle.pause();
            handle.pause();
            assert!(handle.is_paused());
            // What the vCPU had left the guest for may still be done; nothing follows it.
            std::thread::sleep(std::time::Duration::from_millis(5));
            let printed = output.0.lock().unwrap().len();
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(output.0.lock().unwrap().len(), printed);
            handle.resume();
            handle.resume();
            assert!(!handle.is_paused());
        }
        handle.stop();
        assert_eq!(running.join().unwrap(), StopReason::Requested);
    });
}

fn machine_run(machine: Machine) -> StopReason {
    machine.run(Vec::new()).unwrap()
}

#[test]
fn a_guest_is_paused_out_of_a_loop_and_stopped_while_it_is() {
    for vcpus in [1, 2] {
        for pause_first in [true, false] {
            let config = MachineConfig { vcpus: VcpuCount::new(vcpus).unwrap(), ..MachineConfig::default() };
            let machine = Machine::build(&config, files(&elf(&SPIN))).unwrap();
            let handle = machine.handle();
            if pause_first {
                handle.pause();
            }
            std::thread::scope(|scope| {
                let running = scope.spawn(move || machine_run(machine));
                std::thread::sleep(std::time::Duration::from_millis(20));
                handle.pause();
                assert!(!running.is_finished());
                handle.stop();
                assert_eq!(running.join().unwrap(), StopReason::Requested);
            });
            handle.pause();
            handle.resume();
        }
    }
}

#[test]
fn files_that_are_no_kernel_are_refused() {
    let build = |kernel: &[u8]| match Machine::build(&MachineConfig::default(), files(kernel)) {
        Err(BuildError::Load(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(build(b""), "kernel: not an x86_64 ELF executable");
    assert_eq!(build(&[0x5a; 4096]), "kernel: not an x86_64 ELF executable");
    let mut other_machine = elf(&UD2);
    other_machine[18] = 183; // EM_AARCH64
    assert_eq!(build(&other_machine), "kernel: not an x86_64 ELF executable");
    let whole = elf(&[0x90; 4096]);
    for length in [64, 100, 120, 4000] {
        assert_eq!(build(&whole[..length]), "kernel: truncated or damaged", "{length} bytes");
    }
}

#[test]
fn an_initramfs_must_be_there_and_fit() {
    let build = |initramfs: std::fs::File| {
        let config = MachineConfig { memory: MemorySize::MIN, ..MachineConfig::default() };
        let files = MachineFiles { initramfs: Some(initramfs), ..files(&elf(&out(0x600, 0x34))) };
        Machine::build(&config, files)
    };
    assert!(matches!(build(file(b"")), Err(BuildError::Load(LoadError::EmptyInitramfs))));
    let large = tempfile::tempfile().unwrap();
    large.set_len(MemorySize::MIN.bytes()).unwrap();
    assert!(matches!(build(large), Err(BuildError::Load(LoadError::TooSmall { memory: 32, needed: 34 }))));
    assert_eq!(build(file(b"x")).unwrap().run(Vec::new()).unwrap(), StopReason::PowerOff);
}

#[test]
fn a_command_line_over_the_kernels_limit_is_refused() {
    let build = |length| {
        let config = MachineConfig { cmdline: vec!["x".repeat(length)], ..MachineConfig::default() };
        Machine::build(&config, files(&elf(&UD2)))
    };
    assert!(build(1024).is_ok());
    assert!(matches!(build(2048), Err(BuildError::Load(LoadError::CmdlineTooLong { .. }))));
}

#[test]
fn one_vcpu_after_another_up_to_the_hosts_limit() {
    let build = |vcpus| {
        let config = MachineConfig { vcpus: VcpuCount::new(vcpus).unwrap(), ..MachineConfig::default() };
        Machine::build(&config, files(&elf(&out(0x600, 0x34))))
            .map(|machine| machine.run(Vec::new()).unwrap())
    };
    for vcpus in [1, 2, 4, 32] {
        assert_eq!(build(vcpus).unwrap(), StopReason::PowerOff, "{vcpus} vcpus");
    }
}
