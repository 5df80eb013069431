//! The virtual machine in KVM. Beside [`crate::arch`] this is the only code that knows KVM's types.

mod vcpu;

pub(crate) use vcpu::{Exit, Vcpu};

use std::fs::File;
use std::os::fd::{IntoRawFd, OwnedFd};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, VmFd};
use vm_memory::{Address, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::arch::{self, Entry, VcpuTemplate};
use crate::config::VcpuCount;

/// The version of the KVM interface that everything since Linux 2.6.22 has.
const API_VERSION: i32 = 12;

/// An operation of KVM that failed.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The file is not KVM, or not one that is known.
    #[error("/dev/kvm speaks version {0} of the interface, not {API_VERSION}")]
    Version(i32),
    /// More vCPUs than this host's KVM can give.
    #[error("{asked} vCPUs asked for, of which this host's kvm can give {limit}")]
    TooManyVcpus {
        /// How many were asked for.
        asked: u8,
        /// How many there can be.
        limit: usize,
    },
    /// An ioctl failed.
    #[error("{0}")]
    Ioctl(&'static str, #[source] kvm_ioctls::Error),
}

/// Gives a KVM error the name of its ioctl.
fn ioctl(name: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError::Ioctl(name, error)
}

/// A virtual machine.
#[derive(Debug)]
pub(crate) struct Vm {
    kvm: Kvm,
    fd: VmFd,
    /// Kept alive as long as the machine can reach it.
    _memory: GuestMemoryMmap,
}

impl Vm {
    /// Makes a virtual machine with `memory` and interrupt controllers, in the order that KVM is fast in: all
    /// memory slots before the first in-kernel device.
    pub(crate) fn new(kvm: File, memory: GuestMemoryMmap) -> Result<Self, KvmError> {
        let kvm = kvm_from_file(kvm);
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(KvmError::Version(version));
        }
        let fd = create_vm(&kvm)?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let region = kvm_userspace_memory_region {
                slot,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: region.as_ptr().addr() as u64,
                flags: 0,
            };
            // SAFETY: the range is one whole mapping, which `_memory` keeps alive as long as the virtual machine.
            unsafe { fd.set_user_memory_region(region) }.map_err(ioctl("KVM_SET_USER_MEMORY_REGION"))?;
        }
        arch::create_interrupt_controller(&fd).map_err(ioctl("KVM_CREATE_IRQCHIP"))?;
        Ok(Self { kvm, fd, _memory: memory })
    }

    /// Signals `kick` when the guest writes `queue` to the 32-bit register at `address`.
    pub(crate) fn connect_kick(&self, kick: &EventFd, address: u64, queue: u32) -> Result<(), KvmError> {
        self.fd.register_ioevent(kick, &IoEventAddress::Mmio(address), queue).map_err(ioctl("KVM_IOEVENTFD"))
    }

    /// Raises interrupt line `irq` when `line` is signalled.
    pub(crate) fn connect_interrupt(&self, line: &EventFd, irq: u32) -> Result<(), KvmError> {
        self.fd.register_irqfd(line, irq).map_err(ioctl("KVM_IRQFD"))
    }

    /// Makes the vCPUs; the first will begin at `entry`.
    pub(crate) fn create_vcpus(&self, count: VcpuCount, entry: Entry) -> Result<Vec<Vcpu>, KvmError> {
        let limit = self.kvm.get_max_vcpus();
        if usize::from(count.get()) > limit {
            return Err(KvmError::TooManyVcpus { asked: count.get(), limit });
        }
        let template = VcpuTemplate::new(&self.kvm, count).map_err(ioctl("KVM_GET_SUPPORTED_CPUID"))?;
        (0..count.get())
            .map(|index| {
                let fd = self.fd.create_vcpu(index.into()).map_err(ioctl("KVM_CREATE_VCPU"))?;
                template.configure(&fd, index, entry).map_err(ioctl("setting the registers of a vcpu"))?;
                Ok(Vcpu::new(fd))
            })
            .collect()
    }
}

/// KVM_CREATE_VM is interrupted by signals on busy hosts, and is then simply asked for again.
fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmError> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(ioctl("KVM_CREATE_VM")),
        }
    }
}

fn kvm_from_file(file: File) -> Kvm {
    use std::os::fd::FromRawFd;
    let fd = OwnedFd::from(file).into_raw_fd();
    // SAFETY: the descriptor is open, and this is its only owner.
    unsafe { Kvm::from_raw_fd(fd) }
}
