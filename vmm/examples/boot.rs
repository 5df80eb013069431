//! Boots a kernel and shows its log: `boot VMLINUX [INITRAMFS [MIB [VCPUS]]]`.

use std::fs::File;

use drupe_vmm::{Machine, MachineConfig, MachineFiles, MemorySize, VcpuCount};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let kernel = File::open(args.next().ok_or("usage: boot VMLINUX [INITRAMFS [MIB [VCPUS]]]")?)?;
    let initramfs = args.next().map(File::open).transpose()?;
    let mib: u64 = args.next().map_or(Ok(128), |mib| mib.parse())?;
    let vcpus: u32 = args.next().map_or(Ok(1), |vcpus| vcpus.parse())?;
    let config = MachineConfig {
        memory: MemorySize::from_bytes(mib << 20).ok_or("memory out of range")?,
        vcpus: VcpuCount::new(vcpus).ok_or("vcpus out of range")?,
        console: true,
        ..MachineConfig::default()
    };
    let files = MachineFiles {
        kvm: File::options().read(true).write(true).open("/dev/kvm")?,
        kernel,
        initramfs,
        shares: Vec::new(),
        disks: Vec::new(),
        ports: Vec::new(),
        console: Some(Box::new(std::io::stderr())),
    };
    let reason = Machine::build(&config, files)?.run(Vec::new())?;
    eprintln!("{reason}");
    Ok(())
}
