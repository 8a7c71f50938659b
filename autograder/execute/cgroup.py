"""A control group (cgroup v2) for each job, where this process may make some.

The kernel then shares the processors among jobs, however many processes one has, ends what takes
too much memory, and counts exactly what was used. Where there is none, `autograder.execute.place`
has substitutes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from pathlib import Path

from autograder.job import Limits

__all__ = ["Group", "delegated", "new_group"]

_CONTROLLERS = ("cpu", "memory", "pids")
_NAME = "autograder"
_PERIOD = 100_000  # microseconds, the kernel's own
_SLACK = 2**28  # bytes for what the kernel counts beside a process's own memory
_numbers = itertools.count(1)


def _mounted(own: str) -> Path | None:
    """Where a cgroup of the v2 hierarchy is to be seen, if it is."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            root, point = before.split()[3:5]
            with contextlib.suppress(ValueError):  # it is not below what is mounted there
                return Path(point) / Path(own).relative_to(root)
    return None


def _is_ours(folder: Path, own: str) -> bool:
    """Whether somebody has left this cgroup to us: another manager's are not to be touched."""
    if not all(os.access(folder / name, os.W_OK) for name in ("", "cgroup.procs")):
        return False
    if own == "/":  # of a container, or of a machine on which nobody manages cgroups
        return True
    for name in ("user.delegate", "trusted.delegate"):  # what systemd writes beside Delegate=yes
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _enable(folder: Path) -> None:
    """Have children of the folder controlled, as far as it goes."""
    if not (folder / "cgroup.type").exists():  # the machine's own root: others live there, too
        return
    there = (folder / "cgroup.controllers").read_text().split()
    order = " ".join(f"+{name}" for name in _CONTROLLERS if name in there)
    with contextlib.suppress(OSError):
        (folder / "cgroup.subtree_control").write_text(order)
        return
    # A cgroup with processes of its own cannot control children: this one moves to a leaf.
    with contextlib.suppress(OSError):
        leaf = folder / f"{_NAME}-host-{os.getpid()}"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (folder / "cgroup.subtree_control").write_text(order)


@functools.cache
def _delegated(pid: int) -> Path | None:
    with contextlib.suppress(OSError, StopIteration, IndexError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        folder = _mounted(own)
        if folder is not None and _is_ours(folder, own):
            _enable(folder)
            for old in folder.glob(f"{_NAME}-*"):  # of graders that were killed
                with contextlib.suppress(OSError):  # in use
                    old.rmdir()
            return folder
    return None


def delegated() -> Path | None:
    """The cgroup in which this process may make others; `None` where there is none."""
    return _delegated(os.getpid())


def new_group(limits: Limits) -> Group | None:
    """A cgroup for a job; `None` where none can be had."""
    folder = delegated()
    if folder is None:
        return None
    with contextlib.suppress(OSError):
        return Group(folder / f"{_NAME}-{os.getpid()}-{next(_numbers)}", limits)
    return None


class Group:
    """The cgroup of a job, both of whose halves live in it.

    Args:
        folder: which is made.
        limits: of one half.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        folder.mkdir()
        memory = 2 * limits.memory
        for name, value in (
            ("cpu.weight", "100"),  # the same for each job, however many processes it has
            ("cpu.max", f"{_PERIOD} {_PERIOD}"),  # one core, as without cgroups
            ("memory.max", str(memory + memory // 4 + _SLACK)),
            ("memory.swap.max", "0"),  # else it swaps, and with it the neighbours wait
            ("pids.max", str(2 * limits.processes + 8)),
        ):
            with contextlib.suppress(OSError):  # a controller that is not there
                self._write(name, value)

    def _write(self, name: str, value: str) -> None:
        fd = os.open(self._folder / name, os.O_WRONLY)  # which makes no files
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

    def _value(self, file: str, name: str) -> int | None:
        """The number behind a name, as in `usage_usec 12` or `full avg10=0.00 … total=12`."""
        with contextlib.suppress(OSError, ValueError):
            for line in (self._folder / file).read_text().splitlines():
                first, *rest = line.split()
                if first == name:
                    return int(rest[-1].rpartition("=")[2])
        return None

    def add(self, pid: int) -> bool:
        """Take a process in, and with it all that it starts from now on."""
        try:
            self._write("cgroup.procs", str(pid))
        except OSError:
            return False
        return True

    def used(self) -> float | None:
        """Seconds of processor time of all that ever ran in it."""
        found = self._value("cpu.stat", "usage_usec")
        return None if found is None else found / 1e6

    def starved(self) -> float | None:
        """Seconds in which something in it could have run, and nothing did."""
        found = self._value("cpu.pressure", "full")
        return None if found is None else found / 1e6

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has ended a process in it for its memory."""
        return bool(self._value("memory.events", "oom_kill"))

    def close(self) -> None:
        """End what is left in it, and remove it."""
        for _ in range(100):
            with contextlib.suppress(OSError):  # older kernels: the sandbox's end has to do
                self._write("cgroup.kill", "1")
            try:
                return self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:  # what was killed is not gone yet
                time.sleep(0.01)
