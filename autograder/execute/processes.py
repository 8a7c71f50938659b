"""What the kernel tells of processes, by /proc: which there are, whether they live, what they take.

None of it is the word of the processes themselves.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from autograder.inside.confine import HOME

__all__ = ["Memory", "end_descendants", "runs", "threads", "tree"]

_DISKS = (HOME, "/tmp", "/dev/shm")  # of memory, and each submission's own
_SOCKET = 425_984  # bytes that may wait in one, at the kernel's usual limit
_RESIDENT = ("RssAnon", "RssShmem")
_PROPORTIONAL = ("Pss_Anon", "Pss_Shmem")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *_descendants(pid)]


def _descendants(pid: int) -> Iterator[int]:
    for thread in threads(pid):
        with contextlib.suppress(OSError):
            listing = Path(f"/proc/{pid}/task/{thread}/children").read_text()
            for child in map(int, listing.split()):
                yield child
                yield from _descendants(child)


def threads(pid: int) -> list[int]:
    """The ids of its threads."""
    with contextlib.suppress(OSError):
        return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    return []


def end_descendants(pid: int) -> None:
    """Kill what descends from a process, which starts nothing any more, until all are gone."""
    for _ in range(100):
        others = [*filter(_lives, _descendants(pid))]
        for other in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
        if not others:
            break
        time.sleep(0.01)


def runs(pid: int, thread: int) -> bool:
    """Whether a thread runs, or would if there was a processor."""
    return _state(f"{pid}/task/{thread}") == "R"


def _lives(pid: int) -> bool:
    """Whether it is there and no zombie, which only its parent can end."""
    return _state(str(pid)) not in ("Z", "")


def _state(where: str) -> str:
    try:
        return Path(f"/proc/{where}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


@functools.cache
def _most_in_tcp() -> int:
    """Bytes that may wait in a socket of TCP, whose buffers the kernel lets grow."""
    buffers = (Path(f"/proc/sys/net/ipv4/tcp_{name}") for name in ("rmem", "wmem"))
    return sum(int(path.read_text().split()[2]) for path in buffers)


def _field(pid: int, file: str, names: Iterable[str]) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in names:
                total += int(value.split()[0]) * 1024
    return total


class Memory:
    """Counts the memory of a fork's processes, files and sockets.

    Args:
        pid: of the process that will run the cells, and has run nothing yet.
        limit: bytes, above which it counts more exactly.
        isolated: whether it has file systems of memory and a network namespace of its own.
    """

    def __init__(self, pid: int, limit: int, isolated: bool) -> None:
        self._limit = limit
        self._inherited = _field(pid, "status", _RESIDENT)
        self._disks: list[int] = []
        self._sockets: int | None = None
        if isolated:  # opened now, they can be asked whatever becomes of the process
            with contextlib.suppress(OSError):
                for folder in _DISKS:
                    self._disks.append(os.open(f"/proc/{pid}/root{folder}", os.O_PATH))
                self._sockets = os.open(f"/proc/{pid}/net/sockstat", os.O_RDONLY)

    def used(self, pids: list[int]) -> int:
        """Bytes that these processes took since the fork; shared pages count once."""
        kept = self._on_disks() + self._in_sockets()
        resident = sum(_field(pid, "status", _RESIDENT) for pid in pids)
        used = max(0, resident - self._inherited)
        if used + kept > self._limit and len(pids) > 1:
            # A process may have closed the exact count to us: then it counts in full. One that has
            # ended by now has neither count.
            total = sum(
                _field(pid, "smaps_rollup", _PROPORTIONAL) or _field(pid, "status", _RESIDENT)
                for pid in pids
            )
            used = max(0, total - self._inherited)
        return used + kept

    def _on_disks(self) -> int:
        used = 0
        for fd in self._disks:
            with contextlib.suppress(OSError):
                found = os.statvfs(fd)
                used += (found.f_blocks - found.f_bfree) * found.f_frsize
        return used

    def _in_sockets(self) -> int:
        with contextlib.suppress(OSError, ValueError, IndexError):
            if self._sockets is not None:  # sockets: used 3 TCP: inuse 1 … mem 2
                found = os.pread(self._sockets, 200, 0).split()
                # The pages are those of all TCP on this machine, and bound what these hold.
                pages = int(found[13]) * os.sysconf("SC_PAGE_SIZE")
                return int(found[2]) * _SOCKET + min(int(found[5]) * _most_in_tcp(), pages)
        return 0

    def close(self) -> None:
        """Stop counting."""
        for fd in (*self._disks, *([] if self._sockets is None else [self._sockets])):
            os.close(fd)
        self._disks, self._sockets = [], None
