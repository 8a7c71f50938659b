"""What a forked process gives up before it runs anything of a submission (Linux, no dependencies).

`enter_namespaces`, `mount_private`, `limit` and `drop_privileges` are called in this order, by a
fork of a warm parent that is itself in a sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import math
import os
import platform
import resource
import socket
import stat
import struct
import sys
from pathlib import Path

from autograder.inside.seccomp import NEW_NAMESPACES, seccomp_program
from autograder.job import Limits

__all__ = [
    "HOME",
    "be_subreaper",
    "drop_privileges",
    "enter_namespaces",
    "leave_root",
    "limit",
    "listen",
    "mount_private",
    "own_descriptors",
    "set_dumpable",
]

HOME = "/home/student"

_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_SECCOMP = 4, 24, 22
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 36, 38, 47
_SECCOMP_MODE_FILTER = 2
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
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


def leave_root() -> None:
    """Where this is root of the machine, without its privileges: start anew as nobody."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        os.execv(sys.executable, sys.orig_argv)


def enter_namespaces() -> None:
    """Move to user, mount, IPC, UTS, network and cgroup namespaces of one's own.

    Children that are forked from now on are in a pid namespace of their own, the first as its init.

    Raises:
        OSError: the kernel or its configuration forbids it.
    """
    uid, gid = os.getuid(), os.getgid()
    set_dumpable(True)  # otherwise the files under /proc/self belong to root
    _check(_libc.unshare(NEW_NAMESPACES), "unshare")
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

    `HOME`, /tmp and /dev/shm become empty, each of at most `disk` bytes; /dev/pts is new; /proc
    keeps only what belongs to this process, and copies of what describes the machine. Read-only
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
    # Of itself, too, a submission may change nothing there: not who goes first without memory.
    read_only = _MS_REMOUNT | _MS_BIND | bare | _MS_NOEXEC | _MS_RDONLY
    _mount("none", "/proc/self", flags=read_only)
    _mount("none", "/proc", flags=read_only)
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
        (resource.RLIMIT_CPU, math.ceil(limits.total_seconds) + 60),  # should the host be gone
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NICE, 0),  # whoever may go first on this machine, no submission does
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_SIGPENDING, 256),  # all processes of a user share a number of these
    ):
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def listen() -> socket.socket:
    """A socket that takes connections of this network namespace, where nothing else leads out."""
    listener = socket.socket()
    up = struct.pack("16sH22x", b"lo", _IFF_UP)
    fcntl.ioctl(listener, _SIOCSIFFLAGS, up)
    listener.bind(("127.0.0.1", 3128))
    listener.listen(8)
    return listener


def drop_privileges(network: bool) -> None:
    """Give up every capability and the ways to get one back, and install the seccomp filter.

    Args:
        network: whether connections may be made in this network namespace.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):  # those that this kernel does not know are errors
        _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    _prctl(_PR_CAP_AMBIENT, 4)
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    nothing = ctypes.create_string_buffer(24)
    _check(_libc.capset(header, nothing), "capset")
    code = seccomp_program(platform.machine(), network)
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
