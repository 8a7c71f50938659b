"""Where a job runs: on one core, below the grader, and apart from its neighbours.

A job that starts many processes shares one core among them. Which core is free is settled among
all graders of the machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

from autograder.execute.cgroup import Group, new_group
from autograder.execute.processes import runs, threads
from autograder.job import Limits

__all__ = ["Core", "Place"]

_NICE = 2  # the grader, which all jobs wait for, comes first
_CROWD = 8  # threads that want the core; where there are more, all go to the lowest priority
_LOWEST = 19

_held: set[socket.socket] = set()


def _forget() -> None:
    """In a fork of this process: its parent's cores are not its own to hold."""
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_forget)


class Core:
    """One of the cores that this process may use, if possible one that no other job has."""

    def __init__(self) -> None:
        self._lock: socket.socket | None = None
        cores = list(os.sched_getaffinity(0))
        random.shuffle(cores)  # another container's graders have names of their own
        for core in cores:
            # A name that the kernel gives to one, and takes back when its holder ends.
            lock = socket.socket(socket.AF_UNIX)
            try:
                lock.bind(f"\0autograder-core-{core}")
            except OSError:
                lock.close()
                continue
            self._lock, self.number = lock, core
            _held.add(lock)
            return
        self.number = random.choice(cores)

    def close(self) -> None:
        """Leave it to others."""
        if self._lock is not None:
            _held.discard(self._lock)
            self._lock.close()


class Place:
    """The place of one job, into which each of its halves is taken as it starts.

    Attributes:
        group: its cgroup, where there is one.
        crowded: whether the job has been put behind others for the number of its processes.
    """

    def __init__(self, limits: Limits) -> None:
        self._core = Core()
        self.crowded = self._seen_crowd = False
        self.group: Group | None = new_group(limits)

    def add(self, pid: int) -> None:
        """Take in a process that has run nothing of the submission, and all that it will start."""
        if self.group is not None and not self.group.add(pid):
            self.group.close()  # half a job in it would be measured wrong
            self.group = None
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, {self._core.number})
        self._lower(pid, _NICE)
        with contextlib.suppress(OSError):  # among sessions the kernel goes by this one
            Path(f"/proc/{pid}/autogroup").write_text(str(_NICE))

    def watch(self, pids: list[int]) -> None:
        """Keep the job's processes from outweighing the grader by their number."""
        every = [(pid, thread) for pid in pids for thread in threads(pid)]
        if len(every) <= _CROWD or sum(runs(*one) for one in every) <= _CROWD:
            self._seen_crowd = False
        elif not self._seen_crowd:
            self._seen_crowd = True  # once may be chance
        else:
            self.crowded = True
            for _, thread in every:
                self._lower(thread, _LOWEST)

    @staticmethod
    def _lower(thread: int, nice: int) -> None:
        with contextlib.suppress(OSError):
            if os.getpriority(os.PRIO_PROCESS, thread) < nice:
                os.setpriority(os.PRIO_PROCESS, thread, nice)

    def close(self) -> None:
        """Give it back; the job's processes have ended."""
        if self.group is not None:
            self.group.close()
        self._core.close()
