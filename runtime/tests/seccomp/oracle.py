# Reads profiles, prints the programs that libseccomp makes of them when it is fed as runc feeds it.
import json, seccomp, struct, sys, tempfile

ACTIONS = {
    "SCMP_ACT_KILL": lambda n: seccomp.KILL,
    "SCMP_ACT_KILL_THREAD": lambda n: seccomp.KILL,
    "SCMP_ACT_KILL_PROCESS": lambda n: seccomp.KILL_PROCESS,
    "SCMP_ACT_TRAP": lambda n: seccomp.TRAP,
    "SCMP_ACT_ERRNO": lambda n: seccomp.ERRNO(1 if n is None else n),
    "SCMP_ACT_TRACE": lambda n: seccomp.TRACE(1 if n is None else n),
    "SCMP_ACT_ALLOW": lambda n: seccomp.ALLOW,
    "SCMP_ACT_LOG": lambda n: seccomp.LOG,
}
OPERATORS = {"SCMP_CMP_" + name: getattr(seccomp, name) for name in "NE LT LE EQ GE GT MASKED_EQ".split()}
ARCHITECTURES = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "x86", "SCMP_ARCH_X32": "x32"}
NO_SUCH_CALL = -1


def alternatives(args):
    """runc makes a rule of each condition when two are about one argument."""
    conditions = [seccomp.Arg(index, OPERATORS[op], value, two) for index, op, value, two in args]
    repeated = len({arg[0] for arg in args}) < len(args)
    return [[condition] for condition in conditions] if repeated else [conditions]


def program(profile, file):
    act = lambda pair: ACTIONS[pair[0]](pair[1])
    default = act(profile["default"])
    loaded = seccomp.SyscallFilter(default)
    for name in profile["architectures"]:
        if not loaded.exist_arch(seccomp.Arch(ARCHITECTURES[name])):
            loaded.add_arch(seccomp.Arch(ARCHITECTURES[name]))
    for names, action, args in profile["rules"]:
        for name in names if act(action) != default else []:
            number = seccomp.resolve_syscall(seccomp.Arch(), name)
            for conditions in alternatives(args) if number != NO_SUCH_CALL else []:
                loaded.add_rule(act(action), number, *conditions)
    file.truncate(0)
    file.seek(0)
    loaded.export_bpf(file)
    file.seek(0)
    return [code << 48 | jt << 40 | jf << 32 | k for code, jt, jf, k in struct.iter_unpack("<HBBI", file.read())]


with tempfile.TemporaryFile() as file:
    print(json.dumps([program(profile, file) for profile in json.load(sys.stdin)]))
