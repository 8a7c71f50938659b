"""The host's handle of one submission's half.

Nothing here trusts what a fork says: messages are capped and checked, process ids come from the
kernel with the message that names them, and the end of a process is seen, not told.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from autograder.execute.place import Place
from autograder.inside.confine import HOME
from autograder.inside.control import BadMessage, frame, take
from autograder.job import Limits

__all__ = ["Fork"]

_CREDENTIALS = struct.Struct("3i")


_READ = 1 << 16


class Fork:
    """The host's handle of one submission's half: `init` and `main` in their sandbox.

    Attributes:
        ended: how `main` ended (an exit code, negative for a signal); `None` while it lives.
        broken: what it did against the protocol, or why it did not start.
        done: the last message that ended a cell.
        lost: whether its sandbox is gone, and neither it nor the host has ended it.
    """

    def __init__(
        self,
        control: socket.socket,
        status: socket.socket,
        out: int,
        err: int,
        limits: Limits,
        isolated: bool,
        place: Place,
    ) -> None:
        self.limits = limits
        self._place = place
        self.ended: int | None = None
        self.broken: str | None = None
        self.done: dict[str, Any] | None = None
        self.lost = False
        self._killed = False
        self._control, self._status = control, status
        self._pipes = {out: "stdout", err: "stderr"}
        self._init: int | None = None
        self._main: int | None = None
        self._pids: list[int] = []
        self._inherited = 0
        self._in, self._out = bytearray(), bytearray()
        self._isolated = isolated
        self.home = HOME if isolated else tempfile.mkdtemp(prefix="autograder-")
        control.setblocking(False)
        status.setblocking(False)
        for fd in self._pipes:
            os.set_blocking(fd, False)

    # what the loop of `autograder.execute.run` watches and calls

    def readable(self) -> list[int]:
        """The file descriptors to watch for input."""
        sockets = [s.fileno() for s in (self._control, self._status) if s.fileno() >= 0]
        return [*sockets, *self._pipes]

    def writable(self) -> list[int]:
        """Those to watch for room, because something is queued."""
        return [self._control.fileno()] if self._out and self._control.fileno() >= 0 else []

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; the loop writes it."""
        self._out += frame(message)
        self.write()

    def write(self) -> None:
        """Write as much of the queue as is taken now."""
        try:
            while self._out:
                del self._out[: self._control.send(self._out[: 1 << 20])]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()  # its end is seen on the status socket

    def read(self, fd: int) -> Iterator[dict[str, Any]]:
        """What can be read now from one of `readable()`: checked messages.

        Raw output of the file descriptors comes as `stream` messages, all of a cell's before the
        message that ends it, but in no certain order with others.
        """
        if fd in self._pipes:
            yield from self._read_pipe(fd)
        elif fd == self._status.fileno():
            self._read_status()
        elif fd == self._control.fileno():
            try:
                part = self._control.recv(_READ)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            for pipe in list(self._pipes):
                yield from self._read_pipe(pipe)
            if not part:
                self._control.close()
                return
            self._in += part
            yield from self._messages()

    def _read_pipe(self, fd: int) -> Iterator[dict[str, Any]]:
        for _ in range(16):  # what a pipe holds; a flood must not keep the loop here
            try:
                part = os.read(fd, _READ)
            except BlockingIOError:
                return
            if not part:
                self._pipes_close(fd)
                return
            yield {"stream": self._pipes[fd], "text": part.decode(errors="replace")}

    def _pipes_close(self, fd: int) -> None:
        os.close(fd)
        del self._pipes[fd]

    def _messages(self) -> Iterator[dict[str, Any]]:
        try:
            for message in take(self._in, self.limits):
                if message.get("done") is True:
                    self.done = message
                else:
                    yield message
        except BadMessage as error:
            self.broken = str(error)

    def _read_status(self) -> None:
        space = socket.CMSG_SPACE(_CREDENTIALS.size)
        try:
            text, extra, _, _ = self._status.recvmsg(_READ, space)
        except BlockingIOError:
            return
        except OSError:
            text, extra = b"", []
        kind, _, rest = text.decode(errors="replace").partition(" ")
        pid = next(
            (
                _CREDENTIALS.unpack(data)[0]
                for level, what, data in extra
                if (level, what) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
            ),
            0,
        )
        if kind in ("init", "main"):
            with contextlib.suppress(ProcessLookupError):
                self._pids.append(pid)
                setattr(self, f"_{kind}", os.pidfd_open(pid))
                if kind == "init":  # which waits until it is in its place
                    self._place.add(pid)
                    with contextlib.suppress(OSError):
                        self._status.send(b"go")
                self._inherited = _field(pid, "status", ("RssAnon", "RssShmem"))
        elif kind == "ended":
            self.ended = int(rest)
        elif kind in ("error", "files"):
            self.broken = f"{kind} {rest}"
        else:  # init is gone, and with it everything
            self._status.close()
            if self.ended is None:
                self.lost = not self._killed
                self.ended = -signal.SIGKILL

    # what it is told and asked

    @property
    def started(self) -> bool:
        """Whether it has shut itself in and waits for cells."""
        return self._main is not None

    @property
    def usable(self) -> bool:
        """Whether it lives and keeps to the protocol."""
        return self.ended is None and self.broken is None

    def interrupt(self) -> None:
        """What a keyboard interrupt would do."""
        if self._main is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._main, signal.SIGINT)

    def processes(self) -> list[int]:
        """The ids of all its processes."""
        return [self._pids[0], *_descendants(self._pids[0])] if self._pids else []

    def memory(self) -> int:
        """Bytes of memory that all its processes took since the fork; shared pages count once."""
        pids = self.processes()[1:]
        resident = sum(_field(pid, "status", ("RssAnon", "RssShmem")) for pid in pids)
        if resident - self._inherited > self.limits.memory and len(pids) > 1:
            resident = sum(_field(pid, "smaps_rollup", ("Pss_Anon", "Pss_Shmem")) for pid in pids)
        return max(0, resident - self._inherited)

    def kill(self) -> None:
        """End all its processes, and wait until they are gone."""
        self._killed = True
        if self._init is None:
            return
        if not self._isolated:
            with contextlib.suppress(ProcessLookupError):  # else it ends before the last orphan
                signal.pidfd_send_signal(self._init, signal.SIGSTOP)
            for _ in range(100):
                others = [*filter(_lives, _descendants(self._pids[0]))]
                for pid in others:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if not others:
                    break
                time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        _wait_for(self._init, 10)

    def close(self) -> None:
        """`kill`, and give back what the host held for it."""
        self.kill()
        for pidfd in (self._init, self._main):
            if pidfd is not None:
                os.close(pidfd)
        self._init = self._main = None
        self._control.close()
        self._status.close()
        for fd in list(self._pipes):
            self._pipes_close(fd)
        if not self._isolated:
            shutil.rmtree(self.home, ignore_errors=True)


def _wait_for(pidfd: int, seconds: float) -> None:
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    waiting.poll(int(seconds * 1000))


def _descendants(pid: int) -> Iterator[int]:
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, listing.read_text().split()):
                yield child
                yield from _descendants(child)


def _lives(pid: int) -> bool:
    """Whether it is there and no zombie, which only its parent can end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _field(pid: int, file: str, names: Iterable[str]) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in names:
                total += int(value.split()[0]) * 1024
    return total
