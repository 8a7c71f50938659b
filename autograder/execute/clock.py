"""A job's own time, which goes on while it runs and while it sleeps, but not while it queues.

Limits are kept by this time: whoever else is on the machine takes none of it.

    own time = max(processor time, wall time - time starved)

It is starved while something of it could run, and nothing of it does. A cgroup tells both exactly.
Without one, processor time is the sum over its processes and those that they have waited for, and
from one look to the next it was starved at least for

    max over its threads of (what the thread queued - what all others of the job ran)

because all that a thread of a job on one core waits for is the job's other threads, or a stranger.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.execute.cgroup import Group
from autograder.execute.processes import threads

__all__ = ["PATIENCE", "Clock", "Reading", "within"]

PATIENCE = 6
"""A limit ends a job after so many times its seconds of wall time, however starved it was."""

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Reading:
    """Of a clock: seconds of wall time, of processor time, and of time starved."""

    wall: float
    used: float
    starved: float


class Clock:
    """The clock of one job.

    Args:
        processes: gives the ids of all its processes.
        group: gives its cgroup, if there is one.
    """

    def __init__(
        self, processes: Callable[[], list[int]], group: Callable[[], Group | None]
    ) -> None:
        self._processes, self._group = processes, group
        self._seen = _Seen()
        self._last: Reading | None = None

    def read(self) -> Reading:
        """What it shows now, or showed a moment ago."""
        now, last = time.monotonic(), self._last
        if last is not None and now - last.wall < _LOOK_SECONDS / 2:
            return last
        group = self._group()
        used = group.used() if group else None
        starved = group.starved() if group else None
        if used is None or starved is None:
            self._seen.look(self._processes())
            used = self._seen.used if used is None else used
            starved = self._seen.starved if starved is None else starved
        if last is not None:  # what a killed process used is not forgotten
            used, starved = max(used, last.used), max(starved, last.starved)
        self._last = Reading(now, used, starved)
        return self._last

    def spent(self, since: Reading) -> float:
        """Seconds of own time since a reading."""
        now = self.read()
        wall = now.wall - since.wall
        own = max(now.used - since.used, wall - (now.starved - since.starved))
        return max(own, wall / PATIENCE)

    def within(self, seconds: float) -> Callable[[], float]:
        """From now on: how much is left of so many seconds of own time."""
        since = self.read()
        return lambda: seconds - self.spent(since)


def within(seconds: float) -> Callable[[], float]:
    """From now on: how much is left of so many seconds of wall time."""
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


class _Seen:
    """What /proc tells of the processes of a job, from look to look."""

    def __init__(self) -> None:
        self.used = self.starved = 0.0
        self._lost = 0.0  # of processes that ended and that nobody has waited for
        self._total = 0.0
        self._threads: dict[tuple[int, int], tuple[float, float]] = {}

    def look(self, pids: list[int]) -> None:
        """Look at all its processes."""
        total = sum(map(_processor_seconds, pids))
        self._lost += max(0.0, self._total - total)
        ticks = total - self._total  # of those that have ended, too, but coarse
        self._total = total
        self.used = total + self._lost
        now = dict(_threads(pids))
        own = {key: ran - self._threads.get(key, (0.0, 0.0))[0] for key, (ran, _) in now.items()}
        ran = sum(own.values())
        if ticks - ran > 3 * _TICK:
            ran = ticks
        queued = {
            key: queued - self._threads[key][1]
            for key, (_, queued) in now.items()
            if key in self._threads
        }
        self.starved += max([0.0, *(queued[key] - (ran - own[key]) for key in queued)])
        self._threads = now


def _processor_seconds(pid: int) -> float:
    """Of a process, its ended threads, and the children that it has waited for."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) * _TICK
    return 0.0


def _threads(pids: list[int]) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
    """Of each thread, how long it has run and queued."""
    for pid in pids:
        for thread in threads(pid):
            with contextlib.suppress(OSError, ValueError):  # it ended, or nobody counts
                text = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
                ran, queued, _ = map(int, text.split())
                yield (pid, thread), (ran / 1e9, queued / 1e9)
