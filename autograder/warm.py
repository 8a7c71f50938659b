"""The host's side of the sandboxes: warm parents, and the forks that each run one submission.

Nothing here trusts what a fork says: messages are capped and checked, process ids come from the
kernel with the message that names them, and the end of a process is seen, not told.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autograder import sandbox
from autograder.confine import HOME
from autograder.job import Limits

__all__ = ["Fork", "Pairs", "Parent", "here", "stop"]

_START_SECONDS = 120.0
_CREDENTIALS = struct.Struct("3i")
_MESSAGE_SLACK = 1 << 16
_READ = 1 << 16


class Parent:
    """A warm parent in its sandbox; `wait` until it is one.

    Raises:
        SandboxError: it cannot be started; the message says why.
    """

    def __init__(
        self,
        role: str,
        imports: tuple[str, ...],
        withheld: tuple[str, ...],
        isolated: bool,
        starter: Executor,
    ) -> None:
        self.role, self.isolated = role, isolated
        self._lock = threading.Lock()
        self._broken = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._requests, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = inside.fileno()
        try:
            with inside:
                starting = starter.submit(
                    subprocess.Popen,
                    sandbox.command(
                        role, fd, imports=imports, withheld=withheld, isolated=isolated
                    ),
                    pass_fds=[fd],
                    env=sandbox.environment(role),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                )
                self._process = starting.result()
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Wait until it has imported what it should.

        Raises:
            SandboxError: it could not start; the message says why.
        """
        self._requests.settimeout(_START_SECONDS)
        try:
            answer = self._requests.recv(_READ).decode(errors="replace")
        except TimeoutError:
            answer = f"error it said nothing for {_START_SECONDS:.0f} s"
        except OSError:
            answer = "error it was closed while it started"
        if answer == "ready":
            return
        said = ""
        with contextlib.suppress(ValueError):  # `close` has closed the file
            self._errors.seek(0)
            said = self._errors.read()[-2000:].decode(errors="replace").strip()
        reason = answer.removeprefix("error ") or said or "it ended without a word"
        problem = sandbox.problem() if self.isolated else None
        raise sandbox.SandboxError(
            f"The {self.role} process cannot start: {reason}" + (f"\n{problem}" if problem else "")
        )

    def alive(self) -> bool:
        """Whether it can still be asked for forks."""
        return not self._broken and self._process.poll() is None

    def fork(self, limits: Limits, link: socket.socket) -> Fork:
        """A new process for one submission, joined to its other half by `link`."""
        control, control_inside = socket.socketpair()
        status, status_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        out, out_inside = os.pipe()
        err, err_inside = os.pipe()
        try:
            with control_inside, status_inside, self._lock:
                fds = [control_inside.fileno(), link.fileno(), out_inside, err_inside]
                request = json.dumps(asdict(limits)).encode()
                socket.send_fds(self._requests, [request], [*fds, status_inside.fileno()])
        except OSError as error:
            for end in (control, status):
                end.close()
            for fd in (out, err):
                os.close(fd)
            self._broken = True
            raise sandbox.SandboxError(f"The {self.role} parent has ended: {error}") from error
        finally:
            os.close(out_inside)
            os.close(err_inside)
        return Fork(control, status, out, err, limits, self.isolated)

    def close(self) -> None:
        """End it, and with it everything in its sandbox."""
        self._broken = True
        with self._lock:
            self._requests.close()
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
        self._errors.close()


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
    ) -> None:
        self.limits = limits
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

    # what the loop of `autograder.execute` watches and calls

    def readable(self) -> list[int]:
        """The file descriptors to watch for input."""
        sockets = [s.fileno() for s in (self._control, self._status) if s.fileno() >= 0]
        return [*sockets, *self._pipes]

    def writable(self) -> list[int]:
        """Those to watch for room, because something is queued."""
        return [self._control.fileno()] if self._out and self._control.fileno() >= 0 else []

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; the loop writes it."""
        body = json.dumps(message).encode()
        self._out += struct.pack("!I", len(body)) + body
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
        while len(self._in) >= 4:
            (length,) = struct.unpack("!I", self._in[:4])
            if length > 6 * self.limits.output + _MESSAGE_SLACK:  # "\u0000" for a character
                self.broken = f"a message of {length} bytes"
                return
            if len(self._in) < 4 + length:
                return
            body = bytes(self._in[4 : 4 + length])
            del self._in[: 4 + length]
            try:
                message = json.loads(body)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                self.broken = "a message that is not a JSON object"
                return
            if message.get("done") is True:
                self.done = message
            else:
                yield message

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

    def memory(self) -> int:
        """Bytes of memory that all its processes took since the fork; shared pages count once."""
        pids = [*_descendants(self._pids[0])] if self._pids else []
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


# ------------------------------------------------------------------------------ one pair a process


class Pairs:
    """The warm parents of this process: a pair for all jobs that import the same."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        # A parent dies with the *thread* that started it, so a lasting one does it.
        self._starter = ThreadPoolExecutor(1, "autograder-starter")
        self._lock = threading.Lock()
        self._pairs: dict[tuple[Any, ...], tuple[Any, tuple[Parent, Parent]]] = {}  # by imports
        self._started: list[Parent] = []
        self._closed = False

    def pair(
        self, imports: tuple[str, ...], withheld: tuple[str, ...], isolated: bool
    ) -> tuple[Parent, Parent]:
        """The parents for the student's and the tests' half, started if need be.

        Only the student's half is without the withheld modules.

        Raises:
            SandboxError: they cannot be started, or are closed.
        """
        key = (imports, withheld, isolated)
        version = sandbox.fingerprint((*imports, *withheld))
        with self._lock:
            if self._closed:
                raise sandbox.SandboxError("The grader is ending.")
            if key in self._pairs:
                found, pair = self._pairs[key]
                if found == version and all(parent.alive() for parent in pair):
                    return pair
                self._end(self._pairs.pop(key)[1])
            pair = self._start(imports, withheld, isolated)
            self._pairs[key] = version, pair
            return pair

    def _start(
        self, imports: tuple[str, ...], withheld: tuple[str, ...], isolated: bool
    ) -> tuple[Parent, Parent]:
        started: list[Parent] = []
        try:
            for role in ("student", "tests"):
                started.append(Parent(role, imports, withheld, isolated, self._starter))
                self._started.append(started[-1])
                if self._closed:  # `close` may not have seen it
                    raise sandbox.SandboxError("The grader is ending.")
            for parent in started:
                parent.wait()
        except BaseException:
            self._end(started)
            raise
        return started[0], started[1]

    def _end(self, parents: Iterable[Parent]) -> None:
        for parent in parents:
            parent.close()
            self._started.remove(parent)

    def close(self) -> None:
        """End them, also those that are being started, and with them what runs in sandboxes."""
        self._closed = True
        if self._pid == os.getpid():
            for parent in list(self._started):
                parent.close()


_here: Pairs | None = None
_guard = threading.Lock()


def here() -> Pairs:
    """The warm parents of this process; a fork of it has its own."""
    global _here
    with _guard:
        if _here is None:
            _here = Pairs()
            atexit.register(_here.close)
        return _here


def stop() -> None:
    """End the warm parents of this process; a job that runs ends by a `SandboxError`."""
    global _here
    with _guard:
        ended, _here = _here, None
    if ended is not None:
        ended.close()


def _forget() -> None:
    """In a fork of this process: what it has inherited is not its own."""
    global _here, _guard
    _here, _guard = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
