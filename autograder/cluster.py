"""A Dask cluster, each of whose workers is looked at before it gets a job.

A job holds hidden tests and a student's work, so it leaves this machine by TLS only. A worker gets
jobs if it has a sandbox and the same packages as this machine. Workers that come later are looked
at, too, and jobs that wait for workers that are gone are sent to others.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
)
from typing import Any

from autograder.course import CourseError
from autograder.execute.look import look
from autograder.execute.packages import versions

__all__ = ["executor", "workers"]

_CONNECT = 20  # seconds for the scheduler to answer
_FIRST = 60  # seconds for the first worker to come
_INTERVAL = 2  # seconds between two looks at who is there
_PATIENCE = 60  # seconds that a job waits for a worker when all are gone, or for the scheduler
_IDLE = 5  # looks in a row at which no worker has a job, though some have not come back
_TLS = "start Dask with certificates (distributed.comm.tls in its configuration)"


def workers(address: str) -> Iterator[tuple[str, str | None]]:
    """Each worker of a cluster, and what keeps it from running jobs in a sandbox (`None`: nothing).

    Raises:
        CourseError: the cluster cannot be reached.
    """
    with _connected(address) as client:
        for worker, lacks in _looked_at(client, client.nthreads(), isolated=True).items():
            yield f"worker {worker}", lacks


@contextlib.contextmanager
def executor(address: str, isolated: bool, tell: Callable[[str], None]) -> Iterator[Executor]:
    """Runs jobs on the workers that can run them.

    Args:
        address: of the scheduler.
        isolated: whether a worker has to have a sandbox.
        tell: is called with each worker that gets no job, and why.

    Raises:
        CourseError: the cluster cannot be reached, or none of its workers can run jobs.
    """
    with _connected(address) as client, _Executor(client, isolated, tell) as made:
        if not made.usable:
            raise CourseError(f"no worker of the Dask scheduler at {address} can run jobs")
        yield made


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the scheduler, with at least one worker."""
    try:
        from distributed import Client
    except ImportError:
        raise CourseError("--dask needs Dask: pip install distributed") from None
    try:
        if not _is_private(address):
            tls = f"tls://{address.rpartition('://')[2]}"
            raise CourseError(f"jobs leave this machine by TLS only: {_TLS}, and name {tls}")
        made: Any = Client
        client = made(address, timeout=_CONNECT)
    except TypeError as error:  # Dask's, where it has no certificates
        raise CourseError(f"no certificates for {address} were found here: {_TLS}") from error
    except (OSError, ValueError) as error:
        raise CourseError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_FIRST)
        except TimeoutError:
            raise CourseError(f"the Dask scheduler at {address} has no workers") from None
        yield client


def _is_private(address: str) -> bool:
    """Whether what is sent there is encrypted, or stays on this machine."""
    from distributed.comm.addressing import parse_address, parse_host_port

    scheme, where = parse_address(address)
    if scheme in ("tls", "inproc"):
        return True
    host, _ = parse_host_port(where)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return bool(host == "localhost")


def _looked_at(client: Any, names: Iterable[str], isolated: bool) -> dict[str, str | None]:
    """By worker, what keeps it from running jobs."""
    asked = [*names]
    found = client.run(look, workers=asked, on_error="return") if asked else {}
    return {name: _lacks(name, found.get(name), isolated) for name in asked}


def _lacks(name: str, there: Any, isolated: bool) -> str | None:
    if not isinstance(there, dict):
        return f"it cannot be asked: {there!r}"
    lacks = [] if _is_private(name) else [f"jobs would reach it without TLS: {_TLS}"]
    if isolated and there["sandbox"] is not None:
        lacks.append(there["sandbox"])
    lacks += _differences(there["versions"], versions())
    return "; ".join(lacks) or None


def _differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """In which versions a worker differs from this machine, in one phrase if it does."""
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    first = [f"{name} {there.get(name, '–')} (here {here.get(name, '–')})" for name in names[:5]]
    more = [f"{len(names) - 5} more"] if len(names) > 5 else []
    return [f"it has other versions: {', '.join([*first, *more])}"] if names else []


class _Executor(Executor):
    """Has jobs run by the workers that can.

    Attributes:
        usable: these workers.
    """

    def __init__(self, client: Any, isolated: bool, tell: Callable[[str], None]) -> None:
        self.usable: frozenset[str] = frozenset()
        self._client, self._isolated, self._tell = client, isolated, tell
        self._left_out: frozenset[str] = frozenset()
        #: Dask's own, each with the workers to which its jobs may go; the last one takes new jobs.
        self._executors: list[tuple[frozenset[str], Executor]] = []
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._waiting: set[Future[Any]] = set()  # the jobs that have not come back
        self._look()
        self._watch = threading.Thread(target=self._look_again, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        """Look at the workers that have come, and forget those that are gone."""
        there = frozenset(self._client.nthreads())
        known = self.usable | self._left_out
        if there == known:
            return
        new = _looked_at(self._client, sorted(there - known), self._isolated)
        for name, lacks in new.items():
            if lacks is not None:
                self._tell(f"worker {name} gets no job: {lacks}")
        good = frozenset(name for name, lacks in new.items() if lacks is None)
        with self._changed:
            self._left_out = (self._left_out | new.keys()) & there - good
            before, self.usable = self.usable, self.usable & there | good
            if self.usable == before:
                return
            gone = [old for names, old in self._executors if not names & self.usable]
            self._executors = [pair for pair in self._executors if pair[0] & self.usable]
            if self.usable:
                # Not by `allow_other_workers`: jobs would go to those that are left out, too.
                made = self._client.get_executor(pure=False, workers=sorted(self.usable))
                self._executors.append((self.usable, made))
            self._changed.notify_all()
        for old in gone:
            old.shutdown(wait=False)  # cancels jobs that would wait for ever

    def _look_again(self) -> None:
        idle, answered = 0, time.monotonic()
        lost: set[Future[Any]] = set()
        while not self._ended.wait(_INTERVAL):
            waiting = self._waiting.copy()
            try:
                self._look()
                busy = not self.usable or any(self._client.processing().values())
            except Exception as error:  # the client's, which are of many kinds
                if time.monotonic() - answered > _PATIENCE:
                    _fail(waiting, BrokenExecutor(f"the Dask scheduler is gone: {error}"))
                continue
            answered = time.monotonic()
            lost = lost & waiting if idle else waiting
            idle = 0 if busy else idle + 1
            if idle == _IDLE:
                # Dask forgets a result that was on a worker as it ended.
                _fail(lost, CancelledError("no worker has the job"))
                idle = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Has a job run.

        Raises:
            BrokenExecutor: all workers that can run jobs are gone.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._executors, _PATIENCE):
                raise BrokenExecutor("all workers that can run jobs are gone")
            future = self._executors[-1][1].submit(fn, *args, **kwargs)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the watch over the workers; the client ends the jobs."""
        self._ended.set()
        self._watch.join()


def _fail(jobs: set[Future[Any]], error: Exception) -> None:
    for job in jobs:
        with contextlib.suppress(InvalidStateError):  # it has just come back
            job.set_exception(error)
