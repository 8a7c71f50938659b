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
from collections.abc import Iterable, Iterator
from typing import Any

from autograder.execute.place import Place
from autograder.execute.processes import Memory, end_descendants, tree
from autograder.inside.confine import HOME
from autograder.inside.control import BadMessage, frame, take
from autograder.job import Limits

__all__ = ["Fork"]

_CREDENTIALS, _INT = struct.Struct("3i"), struct.Struct("i")


_READ = 1 << 16


class Fork:
    """The host's handle of one submission's half: `init` and `main` in their sandbox.

    Attributes:
        ended: how `main` ended (an exit code, negative for a signal); `None` while it lives.
        broken: what it did against the protocol, or why it did not start.
        done: the last message that ended a cell.
        lost: whether its sandbox is gone, and neither it nor the host has ended it.
        reports: the pipe by which forks of the student's process report (see `Verdict`).
        listener: where its connections to the network arrive, if it may make any.
    """

    def __init__(
        self,
        orders: int,
        answers: int,
        reports: int,
        status: socket.socket,
        out: int,
        err: int,
        limits: Limits,
        isolated: bool,
        place: Place,
    ) -> None:
        self.limits, self.reports = limits, reports
        self._place = place
        self.ended: int | None = None
        self.broken: str | None = None
        self.done: dict[str, Any] | None = None
        self.lost = False
        self.listener: socket.socket | None = None
        self._killed = False
        self._orders, self._answers, self._status = orders, answers, status
        self._pipes = {out: "stdout", err: "stderr"}
        self._init: int | None = None
        self._main: int | None = None
        self._pids: list[int] = []
        self._memory: Memory | None = None
        self._in, self._out = bytearray(), bytearray()
        self._isolated = isolated
        self.home = HOME if isolated else tempfile.mkdtemp(prefix="autograder-")
        status.setblocking(False)
        for fd in (orders, answers, reports, out, err):
            os.set_blocking(fd, False)

    # what the loop of `autograder.execute.run` watches and calls

    def readable(self) -> list[int]:
        """The file descriptors to watch for input."""
        return [fd for fd in (self._answers, self._status.fileno(), *self._pipes) if fd >= 0]

    def writable(self) -> list[int]:
        """Those to watch for room, because something is queued."""
        return [self._orders] if self._out else []

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; the loop writes it."""
        self._out += frame(message)
        self.write()

    def write(self) -> None:
        """Write as much of the queue as is taken now."""
        try:
            while self._out:
                del self._out[: os.write(self._orders, self._out[:_READ])]
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
        elif fd == self._answers:
            try:
                part = os.read(fd, _READ)
            except BlockingIOError:
                return
            for pipe in list(self._pipes):
                yield from self._read_pipe(pipe)
            if not part:
                os.close(fd)
                self._answers = -1
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
        space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_INT.size)
        try:
            text, extra, _, _ = self._status.recvmsg(_READ, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            text, extra = b"", []
        kind, _, rest = text.decode(errors="replace").partition(" ")
        pid, fd = _beside(extra)
        if kind in ("init", "main"):
            with contextlib.suppress(ProcessLookupError):
                self._pids.append(pid)
                setattr(self, f"_{kind}", os.pidfd_open(pid))
                if kind == "init":  # which waits until it is in its place
                    self._place.add(pid)
                    with contextlib.suppress(OSError):
                        self._status.send(b"go")
                else:
                    self._memory = Memory(pid, self.limits.memory, self._isolated)
        elif kind == "listens" and fd < 0:
            self.broken = "error its socket has not come: this process has too many open files"
        elif kind == "listens":
            self.listener = socket.socket(fileno=fd)
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
        return tree(self._pids[0]) if self._pids else []

    def memory(self) -> int:
        """Bytes that its processes, files and sockets took since the fork."""
        return self._memory.used(self.processes()[1:]) if self._memory else 0

    def kill(self) -> None:
        """End all its processes, and wait until they are gone."""
        self._killed = True
        if self._init is None:
            return
        if not self._isolated:
            with contextlib.suppress(ProcessLookupError):  # else it ends before the last orphan
                signal.pidfd_send_signal(self._init, signal.SIGSTOP)
            end_descendants(self._pids[0])
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
        if self._memory is not None:
            self._memory.close()
        self._status.close()
        if self.listener is not None:
            self.listener.close()
        self._out.clear()
        for fd in (self._orders, self._answers, self.reports, *self._pipes):
            if fd >= 0:
                os.close(fd)
        self._orders = self._answers = self.reports = -1
        self._pipes.clear()
        if not self._isolated:
            shutil.rmtree(self.home, ignore_errors=True)


def _beside(extra: Iterable[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Who has sent a message, by the kernel's word, and the file descriptor that came with it."""
    found = {kind: data for level, kind, data in extra if level == socket.SOL_SOCKET}
    sender = found.get(socket.SCM_CREDENTIALS, bytes(_CREDENTIALS.size))
    (fd,) = _INT.unpack(found.get(socket.SCM_RIGHTS, _INT.pack(-1)))
    return _CREDENTIALS.unpack(sender)[0], fd


def _wait_for(pidfd: int, seconds: float) -> None:
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    waiting.poll(int(seconds * 1000))
