"""The warm parents of this process: each has imported what notebooks import, and forks per job."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from autograder.execute import sandbox
from autograder.execute.cgroup import delegated
from autograder.execute.fork import Fork
from autograder.execute.place import Place
from autograder.execute.processes import end_descendants
from autograder.inside.control import LONGEST_REQUEST
from autograder.job import Limits

__all__ = ["Pairs", "Parent", "here", "stop"]

_START_SECONDS = 120.0
_ANSWER = 1 << 16


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
        self._rehearsing = threading.Lock()
        self._rehearsed: set[str] = set()
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
            answer = self._requests.recv(_ANSWER).decode(errors="replace")
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

    def fork(self, limits: Limits, link: tuple[int, int], place: Place) -> Fork:
        """A new process for one submission, joined to its other half by the pipes `link`.

        Of what it is given, the submission's code is left with pipes alone.
        """
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            status, status_inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.enter_context(status)
            theirs.enter_context(status_inside)
            status.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            orders_inside, orders = _pipe(theirs, ours)
            answers, answers_inside = _pipe(ours, theirs)
            reports, reports_inside = _pipe(ours, theirs)
            out, out_inside = _pipe(ours, theirs)
            err, err_inside = _pipe(ours, theirs)
            fds = [orders_inside, answers_inside, *link, reports_inside, out_inside, err_inside]
            request = json.dumps(asdict(limits)).encode()
            try:
                with self._lock:
                    socket.send_fds(self._requests, [request], [*fds, status_inside.fileno()])
            except OSError as error:
                self._broken = True
                raise sandbox.SandboxError(f"The {self.role} parent has ended: {error}") from error
            ours.pop_all()  # from now on the fork's
        return Fork(orders, answers, reports, status, out, err, limits, self.isolated, place)

    def rehearse(self, source: str) -> None:
        """Have it work out, once, what these tests need of all submissions alike, and wait."""
        request = json.dumps({"rehearse": source}).encode()
        with self._rehearsing:
            if not source or source in self._rehearsed or len(request) > LONGEST_REQUEST:
                return
            self._rehearsed.add(source)
            with contextlib.suppress(OSError):  # it has ended, as the next fork will find
                self._requests.send(request)
                self._requests.recv(_ANSWER)

    def close(self) -> None:
        """End it, and with it everything in its sandbox."""
        self._broken = True
        with self._lock:
            self._requests.close()
        if hasattr(self, "_process"):
            # Bubblewrap's own child would wait for it for ever, if it ended before they have met.
            self._process.send_signal(signal.SIGSTOP)
            end_descendants(self._process.pid)
            self._process.kill()
            self._process.wait()
        self._errors.close()


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """The ends of a new pipe, each of which a stack closes."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write


class Pairs:
    """The warm parents of this process: a pair for all jobs that import the same."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        delegated()  # before there are children, which would be in the way of its controllers
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
