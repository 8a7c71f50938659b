"""What a forked process gives up before it runs anything of a submission (Linux, no dependencies).

`enter_namespaces`, `mount_private`, `limit` and `drop_privileges` are called in this order, by a
fork of a warm parent that is itself in a sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import stat
import struct
from pathlib import Path

from autograder.job import Limits

__all__ = [
    "HOME",
    "be_subreaper",
    "drop_privileges",
    "enter_namespaces",
    "limit",
    "mount_private",
    "own_descriptors",
    "seccomp_program",
    "set_dumpable",
]

HOME = "/home/student"

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_SECCOMP = 4, 24, 22
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 36, 38, 47
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWNS, _CLONE_NEWCGROUP, _CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_NEW_NAMESPACES = (
    _CLONE_NEWNS
    | _CLONE_NEWCGROUP
    | _CLONE_NEWUTS
    | _CLONE_NEWIPC
    | _CLONE_NEWUSER
    | _CLONE_NEWPID
    | _CLONE_NEWNET
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_MOVE, _MS_REC, _MS_PRIVATE = 32, 4096, 8192, 16384, 1 << 18


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *arguments), f"prctl({option})")


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may trace this one and open its memory."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def be_subreaper() -> None:
    """Become the parent of descendants whose own parent has ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def enter_namespaces() -> None:
    """Move to user, mount, IPC, UTS, network and cgroup namespaces of one's own.

    Children that are forked from now on are in a pid namespace of their own, the first as its init.

    Raises:
        OSError: the kernel or its configuration forbids it.
    """
    uid, gid = os.getuid(), os.getgid()
    set_dumpable(True)  # otherwise the files under /proc/self belong to root
    _check(_libc.unshare(_NEW_NAMESPACES), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")


def _mount(
    source: str, target: str, kind: str | None = None, flags: int = 0, options: str = ""
) -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, f"mount {source} on {target}")


def mount_private(disk: int) -> None:
    """Put file systems of one's own over everything that siblings could share.

    `HOME`, /tmp and /dev/shm become empty, each of at most `disk` bytes; /dev/pts is new; of /proc
    there remains what belongs to this process, and copies of what describes the machine. Read-only
    folders that are mounted below /tmp stay.
    """
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    bare = _MS_NOSUID | _MS_NODEV
    for target in (HOME, "/dev/shm"):
        _mount("tmpfs", target, "tmpfs", bare, f"size={disk},nr_inodes=10000,mode=700")
    below = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    _mount("tmpfs", "/mnt", "tmpfs", bare, f"size={disk},nr_inodes=10000,mode=700")
    for folder in (Path(path) for path in below if path.startswith("/tmp/")):
        kept = Path("/mnt") / folder.relative_to("/tmp")
        if not kept.exists():  # where it does, the folder is inside one that has just been bound
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.mkdir() if folder.is_dir() else kept.touch()
            _mount(str(folder), str(kept), flags=_MS_BIND | _MS_REC)
    _mount("/mnt", "/tmp", flags=_MS_MOVE)
    _mount(
        "devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,max=16"
    )

    proc = Path("/tmp/proc")
    proc.mkdir()
    _mount("tmpfs", str(proc), "tmpfs", bare | _MS_NOEXEC, "size=1m,nr_inodes=64,mode=755")
    for name in ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version"):
        (proc / name).write_bytes((Path("/proc") / name).read_bytes())
    (proc / "self").mkdir()
    (proc / "mounts").symlink_to("self/mounts")
    (proc / str(os.getpid())).symlink_to("self")
    _mount("/proc/self", str(proc / "self"), flags=_MS_BIND)
    _mount(str(proc), "/proc", flags=_MS_MOVE)
    _mount("none", "/proc", flags=_MS_REMOUNT | _MS_BIND | bare | _MS_NOEXEC | _MS_RDONLY)
    proc.rmdir()


def own_descriptors(keep: set[int]) -> None:
    """Share no open file with parent and siblings: they would share its position, too.

    Files are opened once more; whatever else is inherited is closed.
    """
    for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if fd in keep:
            continue
        with contextlib.suppress(OSError):  # the one that listed the others is closed by now
            if stat.S_ISREG(os.fstat(fd).st_mode):
                new = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
                os.lseek(new, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
                os.dup2(new, fd, inheritable=False)
                os.close(new)
            else:
                os.close(fd)


def limit(limits: Limits) -> None:
    """Set the resource limits, of this process and of those it will start.

    The address space may grow by `limits.memory` beyond what is mapped already.
    """
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for name, value in (
        (resource.RLIMIT_AS, mapped + limits.memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes),
    ):
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


# System calls that a notebook has no use for: the kernel's wide or often broken doors, what makes
# namespaces, what reaches into other processes, and memory that no process is charged for.
_DENIED = {
    "x86_64": {
        "acct": 163,
        "add_key": 248,
        "adjtimex": 159,
        "bpf": 321,
        "chroot": 161,
        "clock_adjtime": 305,
        "clock_settime": 227,
        "delete_module": 176,
        "fanotify_init": 300,
        "finit_module": 313,
        "init_module": 175,
        "io_setup": 206,
        "ioperm": 173,
        "iopl": 172,
        "kcmp": 312,
        "kexec_file_load": 320,
        "kexec_load": 246,
        "keyctl": 250,
        "lookup_dcookie": 212,
        "memfd_create": 319,
        "migrate_pages": 256,
        "modify_ldt": 154,
        "mount": 165,
        "move_pages": 279,
        "mq_open": 240,
        "msgget": 68,
        "name_to_handle_at": 303,
        "nfsservctl": 180,
        "open_by_handle_at": 304,
        "perf_event_open": 298,
        "personality": 135,
        "pivot_root": 155,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "ptrace": 101,
        "quotactl": 179,
        "reboot": 169,
        "request_key": 249,
        "semget": 64,
        "setdomainname": 171,
        "sethostname": 170,
        "setns": 308,
        "settimeofday": 164,
        "shmget": 29,
        "swapoff": 168,
        "swapon": 167,
        "sysfs": 139,
        "syslog": 103,
        "umount2": 166,
        "unshare": 272,
        "uselib": 134,
        "userfaultfd": 323,
        "ustat": 136,
        "vhangup": 153,
        "vmsplice": 278,
    },
    "aarch64": {
        "acct": 89,
        "add_key": 217,
        "adjtimex": 171,
        "bpf": 280,
        "chroot": 51,
        "clock_adjtime": 266,
        "clock_settime": 112,
        "delete_module": 106,
        "fanotify_init": 262,
        "finit_module": 273,
        "init_module": 105,
        "io_setup": 0,
        "kcmp": 272,
        "kexec_file_load": 294,
        "kexec_load": 104,
        "keyctl": 219,
        "lookup_dcookie": 18,
        "memfd_create": 279,
        "migrate_pages": 238,
        "mount": 40,
        "move_pages": 239,
        "mq_open": 180,
        "msgget": 186,
        "name_to_handle_at": 264,
        "nfsservctl": 42,
        "open_by_handle_at": 265,
        "perf_event_open": 241,
        "personality": 92,
        "pivot_root": 41,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "ptrace": 117,
        "quotactl": 60,
        "reboot": 142,
        "request_key": 218,
        "semget": 190,
        "setdomainname": 162,
        "sethostname": 161,
        "setns": 268,
        "settimeofday": 170,
        "shmget": 194,
        "swapoff": 225,
        "swapon": 224,
        "syslog": 116,
        "umount2": 39,
        "unshare": 97,
        "userfaultfd": 282,
        "vhangup": 58,
        "vmsplice": 75,
    },
}
# From here on the numbers are the same everywhere. What is not listed (io_uring, pidfd, the new
# mount calls, whatever comes later) does not exist, so that libraries fall back on older calls.
_FIRST_COMMON = 424
_ALLOWED_COMMON = {
    "close_range": 436,
    "openat2": 437,
    "faccessat2": 439,
    "epoll_pwait2": 441,
    "futex_waitv": 449,
    "fchmodat2": 452,
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x50000
_EPERM, _ENOSYS, _EAFNOSUPPORT, _AF_UNIX = 1, 38, 97, 1


def seccomp_program(machine: str) -> bytes:
    """The seccomp filter for a machine (`platform.machine()`), as classic BPF.

    A denied system call returns EPERM, one unknown here ENOSYS; sockets other than Unix ones
    cannot be made; a call by another architecture's table kills the process.

    Raises:
        ValueError: nobody has listed the system calls of that machine.

    >>> len(seccomp_program("x86_64")) % 8
    0
    """
    if machine not in _DENIED:
        raise ValueError(
            f"machine: no seccomp filter for {machine!r}; known are {', '.join(sorted(_DENIED))}"
        )
    number, arch, first_argument = 0, 4, 16
    # Every test skips the one statement behind it where it does not hold.
    program = [(_LOAD, 0, 0, arch), (_EQUAL, 1, 0, _AUDIT_ARCH[machine]), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, number)]
    if machine == "x86_64":  # the x32 table, which shares the architecture
        program += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    for denied in sorted(_DENIED[machine].values()):
        program += [(_EQUAL, 0, 1, denied), (_RETURN, 0, 0, _ERRNO | _EPERM)]
    for allowed in _ALLOWED_COMMON.values():
        program += [(_EQUAL, 0, 1, allowed), (_RETURN, 0, 0, _ALLOW)]
    program += [(_AT_LEAST, 0, 1, _FIRST_COMMON), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    program += [
        (_EQUAL, 0, 4, _CLONE[machine]),
        (_LOAD, 0, 0, first_argument),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 3, _SOCKET[machine]),
        (_LOAD, 0, 0, first_argument),
        (_EQUAL, 1, 0, _AF_UNIX),
        (_RETURN, 0, 0, _ERRNO | _EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *statement) for statement in program)


def drop_privileges() -> None:
    """Give up every capability and the ways to get one back, and install the seccomp filter."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):  # those that this kernel does not know are errors
        _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    _prctl(_PR_CAP_AMBIENT, 4)
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    nothing = ctypes.create_string_buffer(24)
    _check(_libc.capset(header, nothing), "capset")
    code = seccomp_program(platform.machine())
    statements = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(
        struct.pack("@HP", len(code) // 8, ctypes.addressof(statements))
    )
    _check(
        _libc.prctl(
            _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), program, ctypes.c_ulong(0), 0
        ),
        "seccomp",
    )
