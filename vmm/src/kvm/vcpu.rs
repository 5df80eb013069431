//! A virtual processor in KVM: runs until the guest wants something, which is told in our own words.

use kvm_ioctls::{VcpuExit, VcpuFd};

/// What a vCPU stopped for.
#[derive(Debug)]
pub(crate) enum Exit<'a> {
    /// The guest reads from an I/O port.
    PortRead(u64, &'a mut [u8]),
    /// The guest writes to an I/O port.
    PortWrite(u64, &'a [u8]),
    /// The guest reads from an address that is no memory.
    MmioRead(u64, &'a mut [u8]),
    /// The guest writes to an address that is no memory.
    MmioWrite(u64, &'a [u8]),
    /// A signal came, or there is nothing to do for user space: run it again.
    Interrupted,
    /// Triple fault.
    Shutdown,
    /// The vCPU cannot go on; one line that says why.
    Unrunnable(String),
}

/// A virtual processor.
#[derive(Debug)]
pub(crate) struct Vcpu {
    fd: VcpuFd,
}

impl Vcpu {
    pub(super) fn new(fd: VcpuFd) -> Self {
        Self { fd }
    }

    /// Runs the guest until it wants something. Data of a read must be filled in before the next call.
    pub(crate) fn run(&mut self) -> Exit<'_> {
        let exit = match self.fd.run() {
            Ok(exit) => exit,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return Exit::Interrupted,
            Err(error) => return Exit::Unrunnable(format!("KVM_RUN: {error}")),
        };
        match exit {
            VcpuExit::IoIn(port, data) => Exit::PortRead(port.into(), data),
            VcpuExit::IoOut(port, data) => Exit::PortWrite(port.into(), data),
            VcpuExit::MmioRead(address, data) => Exit::MmioRead(address, data),
            VcpuExit::MmioWrite(address, data) => Exit::MmioWrite(address, data),
            VcpuExit::Shutdown => Exit::Shutdown,
            VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::Hlt => Exit::Interrupted,
            VcpuExit::InternalError => Exit::Unrunnable("kvm could not emulate an instruction".to_owned()),
            VcpuExit::FailEntry(reason, _) => {
                Exit::Unrunnable(format!("the processor refused the guest's state (reason {reason:#x})"))
            }
            VcpuExit::MemoryFault { gpa, .. } => {
                Exit::Unrunnable(format!("the memory at guest address {gpa:#x} is not accessible"))
            }
            other => Exit::Unrunnable(format!("unexpected exit {other:?}")),
        }
    }
}
