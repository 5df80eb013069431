//! The ABIs by which a program can make system calls, and the numbers that names have in each.

/// The architectures that the specification knows, in alphabetical order.
pub(crate) const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// The ABIs of one kernel; the first is its own and always part of a filter.
#[derive(Debug)]
pub struct Family {
    pub(super) native: Abi,
    pub(super) others: &'static [Abi],
    /// The native ABI's calls with [`X32_BIT`] in their number, which the kernel tells by nothing else.
    pub(super) x32: Option<Abi>,
}

/// One way to make system calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abi {
    /// Its name in a profile.
    pub(super) name: &'static str,
    /// `AUDIT_ARCH_*`, by which the kernel names it.
    pub(super) audit: u32,
    /// Arguments have 32 bits.
    pub(super) narrow: bool,
    /// The number of a syscall.
    pub(super) number: fn(&str) -> Option<u32>,
    /// Syscalls that can also be made through another one, as (its name, its number, value of its first argument).
    pub(super) multiplexed: &'static [(&'static str, u32, u64)],
}

/// Set in the number of every call of x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// x86_64, with the ABIs that its kernel may offer beside its own.
pub const X86_64: Family = Family {
    native: Abi {
        name: "SCMP_ARCH_X86_64",
        audit: AUDIT_X86_64,
        narrow: false,
        number: |name| id(name.parse().map(|call: syscalls::x86_64::Sysno| call.id())),
        multiplexed: &[],
    },
    others: &[Abi {
        name: "SCMP_ARCH_X86",
        audit: 0x4000_0003,
        narrow: true,
        number: x86_number,
        multiplexed: MULTIPLEXED,
    }],
    x32: Some(Abi {
        name: "SCMP_ARCH_X32",
        audit: AUDIT_X86_64,
        narrow: true,
        number: x32_number,
        multiplexed: &[],
    }),
};

/// aarch64, with the ABIs that its kernel may offer beside its own.
pub const AARCH64: Family = Family {
    native: Abi {
        name: "SCMP_ARCH_AARCH64",
        audit: 0xc000_00b7,
        narrow: false,
        number: |name| id(name.parse().map(|call: syscalls::aarch64::Sysno| call.id())),
        multiplexed: &[],
    },
    others: &[Abi {
        name: "SCMP_ARCH_ARM",
        audit: 0x4000_0028,
        narrow: true,
        number: |name| id(name.parse().map(|call: syscalls::arm::Sysno| call.id())),
        multiplexed: &[],
    }],
    x32: None,
};

const AUDIT_X86_64: u32 = 0xc000_003e;

fn id(number: Result<i32, ()>) -> Option<u32> {
    number.ok().map(i32::cast_unsigned)
}

fn x86_number(name: &str) -> Option<u32> {
    // The table has this one as Rust writes an identifier that is a keyword.
    let name = if name == "break" { "r#break" } else { name };
    id(name.parse().map(|call: syscalls::x86::Sysno| call.id()))
}

fn x32_number(name: &str) -> Option<u32> {
    let own = || X32_OWN.iter().position(|own| *own == name).and_then(|index| u32::try_from(index).ok());
    if X32_WITHOUT.contains(&name) {
        return None;
    }
    own().map(|index| 512 + index).or_else(|| (X86_64.native.number)(name)).map(|number| X32_BIT | number)
}

/// Calls that have a number of their own in x32, from 512 on; the others have that of x86_64.
const X32_OWN: &[&str] = &[
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Calls of x86_64 that x32 does not have.
const X32_WITHOUT: &[&str] = &[
    "_sysctl",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "get_thread_area",
    "nfsservctl",
    "query_module",
    "set_thread_area",
    "uselib",
    "vserver",
];

const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// What 32-bit x86 has behind `socketcall` and `ipc`.
const MULTIPLEXED: &[(&str, u32, u64)] = &[
    ("socket", SOCKETCALL, 1),
    ("bind", SOCKETCALL, 2),
    ("connect", SOCKETCALL, 3),
    ("listen", SOCKETCALL, 4),
    ("accept", SOCKETCALL, 5),
    ("getsockname", SOCKETCALL, 6),
    ("getpeername", SOCKETCALL, 7),
    ("socketpair", SOCKETCALL, 8),
    ("send", SOCKETCALL, 9),
    ("recv", SOCKETCALL, 10),
    ("sendto", SOCKETCALL, 11),
    ("recvfrom", SOCKETCALL, 12),
    ("shutdown", SOCKETCALL, 13),
    ("setsockopt", SOCKETCALL, 14),
    ("getsockopt", SOCKETCALL, 15),
    ("sendmsg", SOCKETCALL, 16),
    ("recvmsg", SOCKETCALL, 17),
    ("accept4", SOCKETCALL, 18),
    ("recvmmsg", SOCKETCALL, 19),
    ("sendmmsg", SOCKETCALL, 20),
    ("semop", IPC, 1),
    ("semget", IPC, 2),
    ("semctl", IPC, 3),
    ("semtimedop", IPC, 4),
    ("msgsnd", IPC, 11),
    ("msgrcv", IPC, 12),
    ("msgget", IPC, 13),
    ("msgctl", IPC, 14),
    ("shmat", IPC, 21),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shmctl", IPC, 24),
];
