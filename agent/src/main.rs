//! `/init`: the boot of a guest, as a story. Every chapter is in the library.
#![no_main]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use drupe_agent::dial::VsockHost;
use drupe_agent::{Agent, boot, clock};
use std::error::Error;

/// C's `main`: what Rust's would do before ours aborts where there is no /dev/null, as in an initramfs.
#[allow(unsafe_code, reason = "the linker looks for this name")]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let pid1_us = clock::now_us();
    if std::process::id() != 1 {
        boot::explain(&std::io::Error::other("not the first process: only a guest's kernel starts this"));
        return 64;
    }
    if let Err(error) = live(pid1_us) {
        boot::explain(&*error);
    }
    boot::power_off()
}

fn live(pid1_us: u64) -> Result<(), Box<dyn Error>> {
    boot::block_signals()?;
    boot::protect_program()?;
    boot::leave_initramfs()?;
    boot::open_standard_streams()?;
    // The host answers while the rest is mounted.
    let control = boot::dial_host()?;
    boot::mount_kernel_filesystems()?;
    boot::protect_from_oom()?;
    boot::lift_limits();
    boot::loopback_up();
    boot::await_host(&control)?;
    let mut agent = Agent::new(control, VsockHost, boot::places())?;
    agent.hello(pid1_us)?;
    // The configuration is on its way.
    boot::mount_shares()?;
    agent.prepare_cgroups();
    Ok(agent.serve()?)
}
