//! The table of fields.

use super::Support::{self, Applied, Parts, Refused, Warned};

/// Applied by the agent, to the workload.
const GUEST: Support = Applied("in the guest");
/// Applied by the kernel of the host, or by the runtime itself.
const HOST: Support = Applied("on the host");
/// Applied by the host's kernel where it has cgroup version 1, as version 2 has no such limit.
const HOST_V1: Support = Applied("on the host, where it has cgroup version 1");
/// Applied on both sides: the container meets the guest's limit first.
const BOTH: Support = Applied("in the guest and, with what the machine needs, on the host");
/// As BOTH, and the machine has a size to match.
const EVERYWHERE: Support = Applied("in the guest, by the machine's size, and on the host");
/// Applied by the machine where the operator says so.
const ALLOWED: Support = Applied("by the machine, where /etc/drupe/config.toml allows it");

const LABEL: Support = Warned(
    "the guest's kernel has no such security module; the monitor is confined so, where the host has it",
);
const MOUNT_LABEL: Support = Warned("the guest's kernel has no SELinux");
const KERNEL_MEMORY: Support = Warned("no kernel limits it apart from the rest any more");
const PASSTHROUGH: Support = Refused("hardware of the host is not passed to the guest");
const DISK: Support = Refused("the root filesystem is a directory (root.path); disk images come later");
const OURSELVES: Support = Refused("drupe itself is what runs the machine");
const OTHER_SYSTEM: Support = Refused("this is a container for another operating system");

/// The fields, in the order of the specification. `[]` stands for any index.
pub const FIELDS: &[(&str, Support)] = &[
    ("ociVersion", HOST),
    ("process", Parts),
    ("process.terminal", GUEST),
    ("process.consoleSize", GUEST),
    ("process.user", Parts),
    ("process.user.uid", GUEST),
    ("process.user.gid", GUEST),
    ("process.user.umask", GUEST),
    ("process.user.additionalGids", GUEST),
    ("process.user.username", Warned("it is a field for Windows; user.uid counts")),
    ("process.args", GUEST),
    ("process.commandLine", Warned("it is a field for Windows; args counts")),
    ("process.env", GUEST),
    ("process.cwd", GUEST),
    ("process.capabilities", Parts),
    ("process.capabilities.bounding", GUEST),
    ("process.capabilities.effective", GUEST),
    ("process.capabilities.inheritable", GUEST),
    ("process.capabilities.permitted", GUEST),
    ("process.capabilities.ambient", GUEST),
    (
        "process.rlimits",
        Applied("in the guest; those that are not given are the caller's, but for core dumps"),
    ),
    ("process.noNewPrivileges", GUEST),
    ("process.apparmorProfile", LABEL),
    ("process.oomScoreAdj", GUEST),
    ("process.selinuxLabel", LABEL),
    ("process.scheduler", GUEST),
    ("process.ioPriority", GUEST),
    (
        "process.execCPUAffinity",
        Applied(
            "in the guest, to what exec starts: the guest's processors stand for `cpu.cpus` in their order",
        ),
    ),
    ("root", Parts),
    ("root.path", HOST),
    ("root.readonly", Applied("on the host and in the guest")),
    ("hostname", GUEST),
    ("domainname", GUEST),
    ("mounts", Parts),
    ("mounts[]", Parts),
    ("mounts[].destination", GUEST),
    ("mounts[].type", Applied("in the guest; filesystems of devices or directories are refused")),
    ("mounts[].source", Applied("on the host for bind mounts, in the guest for others")),
    (
        "mounts[].options",
        Applied(
            "in the guest; read-only bind mounts on the host too, where `ro` is as `rro`: what is mounted below is \
             read-only as well",
        ),
    ),
    ("mounts[].uidMappings", HOST),
    ("mounts[].gidMappings", HOST),
    ("hooks", Parts),
    ("hooks.prestart", HOST),
    ("hooks.createRuntime", HOST),
    ("hooks.createContainer", HOST),
    ("hooks.startContainer", GUEST),
    ("hooks.poststart", HOST),
    ("hooks.poststop", HOST),
    (
        "annotations",
        Applied(
            "in the container's state; `drupe.immutable` lists destinations of bind mounts (`/` for the root) that the \
             host does not change while the container runs; nothing else is made of them",
        ),
    ),
    ("linux", Parts),
    ("linux.namespaces", GUEST),
    ("linux.uidMappings", GUEST),
    ("linux.gidMappings", GUEST),
    ("linux.timeOffsets", GUEST),
    (
        "linux.devices",
        Applied("in the guest: the nodes are those of its devices; none below a /dev that is a bind mount"),
    ),
    ("linux.netDevices", Refused("network devices are not handed to the guest yet")),
    ("linux.cgroupsPath", HOST),
    ("linux.sysctl", GUEST),
    ("linux.seccomp", GUEST),
    ("linux.rootfsPropagation", GUEST),
    ("linux.maskedPaths", GUEST),
    ("linux.readonlyPaths", GUEST),
    ("linux.mountLabel", MOUNT_LABEL),
    ("linux.intelRdt", Refused("cache and bandwidth classes are not set")),
    ("linux.memoryPolicy", Refused("the guest has one memory node")),
    ("linux.personality", Parts),
    ("linux.personality.domain", GUEST),
    ("linux.personality.flags", Warned("the specification defines none")),
    ("linux.resources", Parts),
    (
        "linux.resources.devices",
        Applied("in the guest, to its devices; on the host to the monitor, which has /dev/kvm beside them"),
    ),
    ("linux.resources.memory", Parts),
    ("linux.resources.memory.limit", EVERYWHERE),
    ("linux.resources.memory.reservation", BOTH),
    ("linux.resources.memory.swap", BOTH),
    ("linux.resources.memory.kernel", KERNEL_MEMORY),
    ("linux.resources.memory.kernelTCP", HOST_V1),
    ("linux.resources.memory.swappiness", HOST_V1),
    ("linux.resources.memory.disableOOMKiller", HOST_V1),
    ("linux.resources.memory.useHierarchy", Applied("by every kernel, whether it is asked for or not")),
    ("linux.resources.memory.checkBeforeUpdate", Applied("by update")),
    ("linux.resources.cpu", Parts),
    ("linux.resources.cpu.shares", EVERYWHERE),
    ("linux.resources.cpu.quota", EVERYWHERE),
    ("linux.resources.cpu.period", EVERYWHERE),
    ("linux.resources.cpu.cpus", Applied("by the machine's number of processors, and on the host")),
    ("linux.resources.cpu.burst", BOTH),
    ("linux.resources.cpu.idle", BOTH),
    ("linux.resources.cpu.mems", HOST),
    ("linux.resources.cpu.realtimeRuntime", HOST_V1),
    ("linux.resources.cpu.realtimePeriod", HOST_V1),
    ("linux.resources.pids", BOTH),
    ("linux.resources.blockIO", HOST),
    ("linux.resources.hugepageLimits", BOTH),
    ("linux.resources.network", HOST_V1),
    ("linux.resources.rdma", HOST),
    ("linux.resources.unified", BOTH),
    ("vm", Parts),
    ("vm.hypervisor", Parts),
    ("vm.hypervisor.path", OURSELVES),
    ("vm.hypervisor.parameters", OURSELVES),
    ("vm.kernel", Parts),
    ("vm.kernel.path", ALLOWED),
    ("vm.kernel.parameters", ALLOWED),
    ("vm.kernel.initrd", ALLOWED),
    ("vm.image", Parts),
    ("vm.image.path", DISK),
    ("vm.image.format", DISK),
    ("vm.hwConfig", Parts),
    ("vm.hwConfig.deviceTree", PASSTHROUGH),
    ("vm.hwConfig.vcpus", ALLOWED),
    ("vm.hwConfig.memory", ALLOWED),
    ("vm.hwConfig.dtdevs", PASSTHROUGH),
    ("vm.hwConfig.iomems", PASSTHROUGH),
    ("vm.hwConfig.irqs", PASSTHROUGH),
    ("solaris", OTHER_SYSTEM),
    ("windows", OTHER_SYSTEM),
    ("zos", OTHER_SYSTEM),
    ("freebsd", OTHER_SYSTEM),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_as_they_are_meant() {
        // Whatever a config.json says of a machine is the operator's to allow.
        for (field, support) in FIELDS.iter().filter(|(field, _)| field.starts_with("vm.")) {
            assert!(matches!(support, Parts | Refused(_)) || *support == ALLOWED, "{field}");
        }
    }
}
