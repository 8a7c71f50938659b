"""The system calls that a submission may not make, as a seccomp filter (classic BPF)."""

from __future__ import annotations

import struct

__all__ = ["NEW_NAMESPACES", "seccomp_program"]

_CLONE_NEWNS, _CLONE_NEWCGROUP, _CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000


_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)


NEW_NAMESPACES = (
    _CLONE_NEWNS
    | _CLONE_NEWCGROUP
    | _CLONE_NEWUTS
    | _CLONE_NEWIPC
    | _CLONE_NEWUSER
    | _CLONE_NEWPID
    | _CLONE_NEWNET
)


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
        "sched_setaffinity": 203,
        "sched_setattr": 314,
        "sched_setparam": 142,
        "sched_setscheduler": 144,
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
        "sched_setaffinity": 122,
        "sched_setattr": 274,
        "sched_setparam": 118,
        "sched_setscheduler": 119,
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
        (_ANY_BIT, 0, 1, NEW_NAMESPACES),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 3, _SOCKET[machine]),
        (_LOAD, 0, 0, first_argument),
        (_EQUAL, 1, 0, _AF_UNIX),
        (_RETURN, 0, 0, _ERRNO | _EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *statement) for statement in program)
