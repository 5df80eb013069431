//! `linux.sysctl`.

use std::fs;
use std::io::Write;

use drupe_protocol::GuestConfig;

use crate::failure::{Named, Result, setup};

/// Whose settings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Every one.
    All,
    /// Those of namespaces that a container with a user namespace has for itself.
    Container,
    /// The others, which take rights in the guest.
    Guest,
}

/// The kernel resolves these files by the namespaces of the writer, so the agent's /proc does, and is trusted.
pub(crate) fn write(config: &GuestConfig, part: Part) -> Result<()> {
    for (key, value) in &config.sysctl {
        let path = sysctl_path(key);
        if part != Part::All && (part == Part::Container) != is_containers(&path) {
            continue;
        }
        if path.split('/').any(|name| name.is_empty() || name == "..") {
            return Err(setup(format!("linux.sysctl[{key:?}]"), format_args!("{key:?}: not a name")));
        }
        fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/sys/{path}"))
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .named(format!("linux.sysctl[{key:?}]"), format_args!("{value:?}"))?;
    }
    Ok(())
}

fn is_containers(path: &str) -> bool {
    const PREFIXES: [&str; 8] = [
        "kernel/shm",
        "kernel/msg",
        "kernel/sem",
        "kernel/auto_msgmni",
        "kernel/hostname",
        "kernel/domainname",
        "fs/mqueue/",
        "user/",
    ];
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// As in sysctl.d(5): the separator that comes first separates, the other one is swapped for it.
fn sysctl_path(key: &str) -> String {
    if key.find(['.', '/']).is_some_and(|at| key.get(at..).is_some_and(|rest| rest.starts_with('/'))) {
        return key.to_owned();
    }
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(sysctl_path(key), path);
        }
    }
}
