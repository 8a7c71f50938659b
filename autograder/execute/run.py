"""Stage 2: run a job. Bytes in, bytes out, nothing else seen or left behind.

`execute` may be called in any process or thread, by `concurrent.futures` or by Dask. Each process
keeps a pair of warm parents, one for the students' cells and one for the tests', and forks each
once a job.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from autograder.execute.clock import Clock, Reading, within
from autograder.execute.fork import Fork, served
from autograder.execute.outputs import Outputs, ran_out_of_memory
from autograder.execute.parents import Pairs, here
from autograder.execute.place import Place
from autograder.execute.sandbox import NAMESPACES, SandboxError
from autograder.job import Cell, CellResult, Job, Limits, Reason, Result

__all__ = ["execute"]

_START_SECONDS = 60.0
_GRACE_SECONDS = 2.0
_LOOK_SECONDS = 0.1  # between two looks at the memory
_MEMORY_SLACK = 1.25  # a single process meets its limit first, by a MemoryError, and lives


def execute(job: bytes, *, isolated: bool = True) -> bytes:
    """Run a job.

    Args:
        job: what `Job.to_bytes` gave.
        isolated: whether to run it in a sandbox; without one the result says so.

    Returns:
        What `Result.from_bytes` takes. Whatever the submission does ends in a result.

    Raises:
        SandboxError: no sandbox can be had, or the job's `imports` cannot be imported in it.
    """
    what = Job.from_bytes(job)
    for name in what.files:
        path = PurePosixPath(name)
        if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
            return _not_run(what, "malformed", isolated)
    start = time.monotonic()
    pairs = here()
    try:
        done = _run(what, pairs, isolated)
        again = done is not None and done[0].lost
    except SandboxError:
        again = True
    if again:  # a parent has ended: once more, with new ones
        try:
            done = _run(what, pairs, isolated)
        except SandboxError:
            # Whose doing is it? Where nothing of this submission can be started, nothing is left
            # to run; where something can, it is this one that is set aside, not the class.
            _run(replace(what, cells=(), files={}), pairs, isolated)
            return _not_run(what, "not started", isolated)
    if done is None:
        return _not_run(what, "malformed", isolated)
    run, cells = done
    reason = next((cell.reason for cell in cells if cell.reason), None)
    seconds = time.monotonic() - start
    return Result(cells, reason, run.tampering, seconds, isolated, run.starved).to_bytes()


def _run(job: Job, pairs: Pairs, isolated: bool) -> tuple[_Run, list[CellResult]] | None:
    """Run a job on two new forks; `None` if its files cannot be written."""
    with contextlib.ExitStack() as forks:
        run = _start(job, pairs, isolated, forks)
        return None if run is None else (run, [run.cell(cell) for cell in job.cells])


def _start(job: Job, pairs: Pairs, isolated: bool, stack: contextlib.ExitStack) -> _Run | None:
    """A run on two new forks, which the stack ends; `None` if its files cannot be written."""
    parents = pairs.pair(job.imports, job.withheld, isolated)
    forks: list[Fork] = []
    try:
        place = Place(job.limits)
        stack.callback(place.close)
        with contextlib.ExitStack() as ends:
            for parent, end in zip(parents, _joined(ends), strict=True):
                forks.append(parent.fork(job.limits, end, place))
                stack.callback(forks[-1].close)
    except OSError as error:  # such as too many open files, which is not the submission's doing
        raise SandboxError(f"No sandbox can be asked for: {error}.") from error
    run = _Run(job, place, *forks)
    return run if run.start() else None


def _joined(stack: contextlib.ExitStack) -> list[tuple[int, int]]:
    """The two ends of a connection, each a pipe to read from and one to write to."""
    fds: list[int] = []
    for _ in range(2):
        fds += os.pipe()
        for fd in fds[-2:]:
            stack.callback(os.close, fd)
    return [(fds[0], fds[3]), (fds[2], fds[1])]


def _not_run(job: Job, reason: Reason, isolated: bool) -> bytes:
    cells = [CellResult(cell.id, reason=reason) for cell in job.cells]
    return Result(cells, reason=reason, isolated=isolated).to_bytes()


class _Run:
    """One job on its two forks."""

    def __init__(self, job: Job, place: Place, student: Fork, tests: Fork) -> None:
        self.tampering: list[str] = []
        self._job, self._student, self._tests = job, student, tests
        self._sinks: dict[Fork, Outputs | None] = {student: None, tests: None}
        self._dead: dict[Fork, tuple[Reason, str]] = {}
        self._looked = 0.0
        self._bound: set[str] = set()
        self._place = place
        self._clock = Clock(lambda: [*student.processes(), *tests.processes()], lambda: place.group)
        self._begun = Reading(0.0, 0.0, 0.0)

    @property
    def starved(self) -> float:
        """Seconds in which others kept it from running, through no fault of its own."""
        starved = self._clock.read().starved - self._begun.starved
        return 0.0 if self._place.crowded else starved

    @property
    def lost(self) -> bool:
        """Whether a sandbox has gone that nobody here has ended."""
        return self._student.lost or self._tests.lost

    def start(self) -> bool:
        """Bring the files, and wait until both halves have shut themselves in.

        Returns:
            Whether the files could be written.

        Raises:
            SandboxError: they cannot.
        """
        files = {k: base64.b64encode(v).decode() for k, v in self._job.files.items()}
        for fork in (self._student, self._tests):
            fork.send({"files": files, "home": fork.home})
        both = (self._student, self._tests)
        self._until(lambda: all(f.started or not f.usable for f in both), within(_START_SECONDS))
        if any((fork.broken or "").startswith("files") for fork in both):
            return False
        for fork in both:
            if not fork.started or fork.broken:
                raise SandboxError(
                    "A fork of a warm parent cannot shut itself in: "
                    f"{fork.broken or 'it did not start in time'}. {NAMESPACES}"
                )
        self._begun = self._clock.read()
        return True

    def cell(self, cell: Cell) -> CellResult:
        """Run one cell where it belongs."""
        start = time.monotonic()
        outputs = Outputs(self._job.limits)
        reason: Reason | None = None
        if cell.role != "test":
            reason = self._on(self._student, cell, outputs)
            if cell.role == "student":
                self._bound |= _names((self._student.done or {}).get("bound"))
        if cell.role == "shared":
            self._on(self._tests, cell, Outputs(self._job.limits))
        if cell.role == "test":
            reason = self._on(self._tests, cell, outputs)
            reason = reason or self._missed(outputs)
        return CellResult(cell.id, outputs.items, time.monotonic() - start, reason)

    def _on(self, fork: Fork, cell: Cell, outputs: Outputs) -> Reason | None:
        if fork in self._dead:
            _, why = self._dead[fork]
            outputs.error("DeadKernelError", f"The process had ended before this cell: {why}.")
            return "stopped"
        limits = self._job.limits
        whole = limits.total_seconds - self._clock.spent(self._begun)
        if whole <= 0:
            _timeout(outputs, limits, whole=True)
            return "timeout"
        self._sinks[fork] = outputs
        fork.done = None
        order: dict[str, Any] = {"run": cell.source}
        if fork is self._tests:
            order["bound"] = sorted(self._bound)
            self._bound.clear()
        fork.send(order)

        def over() -> bool:
            return fork.done is not None or not fork.usable or self._too_much(fork, outputs)

        reason: Reason | None = None
        if not self._until(over, self._clock.within(min(limits.cell_seconds, whole))):
            reason = "timeout"
            self._stop(fork)
            _timeout(outputs, limits, whole=whole < limits.cell_seconds)
        elif outputs.flooded:
            reason = "output"
            self._stop(fork)
            outputs.error("OutputError", "This cell was stopped: it printed without end.")
        if not fork.usable or fork in self._dead:
            found = self._bury(fork)
            outputs.error(
                "DeadKernelError", f"The process ended in this cell: {self._dead[fork][1]}."
            )
            reason = reason or found
        elif reason is None and ran_out_of_memory(outputs.items):
            reason = "out of memory"
        if fork is self._tests and fork.done and self._student not in self._dead:
            reason = self._broken(fork.done.get("broken"), cell) or reason
        self._sinks[fork] = None
        return reason

    def _broken(self, broken: Any, cell: Cell) -> Reason | None:
        """End the student's process where the tests say that the link to it is gone."""
        if not broken:
            return None
        kind, why = broken
        if kind == "Tampered":
            self.tampering.append(f"{cell.id}: {why}")
            self._dead[self._student] = ("tampered", f"it answered a test falsely: {why}")
        elif kind == "TimedOut":
            self._dead[self._student] = ("timeout", "it did not answer a test in time")
        else:
            self._until(lambda: not self._student.usable, self._clock.within(_GRACE_SECONDS))
        return self._bury(self._student)

    def _missed(self, outputs: Outputs) -> Reason | None:
        """Why a test failed, where it is that the student's process is not there to answer it."""
        before = self._student in self._dead
        if not before and not self._student.usable:
            self._bury(self._student)
        if self._student not in self._dead or not any(
            item["output_type"] == "error" for item in outputs.items
        ):
            return None
        reason, why = self._dead[self._student]
        outputs.error("DeadKernelError", f"The student's process is not there to answer: {why}.")
        return "stopped" if before else reason

    def _too_much(self, fork: Fork, outputs: Outputs) -> bool:
        """Whether memory or output are used up; looks at the memory once in a while."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._place.watch([*self._student.processes(), *self._tests.processes()])
            for one in (self._student, self._tests):
                if one.usable and one not in self._dead:
                    used = one.memory()
                    if used > _MEMORY_SLACK * self._job.limits.memory:
                        one.kill()
                        self._dead[one] = ("out of memory", "it was out of memory")
        return outputs.flooded or fork in self._dead

    def _stop(self, fork: Fork) -> None:
        """Interrupt a cell, and end the process that does not obey.

        A test cell mostly waits for the student's process, which is therefore the first to be
        interrupted.
        """
        for one in (self._student, self._tests) if fork is self._tests else (fork,):
            left = self._clock.within(_GRACE_SECONDS)
            while left() > 0:
                one.interrupt()
                if self._until(
                    lambda: fork.done is not None or not fork.usable, within(_GRACE_SECONDS / 8)
                ):
                    return
        fork.kill()
        self._dead[fork] = ("timeout", "it did not obey an interrupt after its time")

    def _bury(self, fork: Fork) -> Reason:
        """Find out why a process has ended, or has to."""
        fork.kill()
        if fork in self._dead:
            pass
        elif fork.broken:
            self._dead[fork] = ("tampered", f"it sent {fork.broken}")
            self.tampering.append(f"the process of the cells sent {fork.broken}")
        elif self._place.group is not None and self._place.group.ran_out_of_memory():
            self._dead[fork] = ("out of memory", "it was out of memory")
        elif fork.ended is not None and fork.ended < 0:
            self._dead[fork] = ("crashed", f"signal {-fork.ended} ended it")
        else:
            self._dead[fork] = ("crashed", f"it left with exit code {fork.ended}")
        return self._dead[fork][0]

    def _until(self, condition: Callable[[], bool], left: Callable[[], float]) -> bool:
        """Serve both forks until the condition holds; `False` if no seconds are left before."""
        while not condition():
            seconds = left()
            if seconds <= 0:
                return False
            for fork, message in served(self._sinks, min(seconds, _LOOK_SECONDS)):
                sink = self._sinks[fork]
                if sink is not None:
                    sink.add(message)
        return True


def _timeout(outputs: Outputs, limits: Limits, whole: bool) -> None:
    what = "the whole notebook" if whole else "this cell"
    seconds = limits.total_seconds if whole else limits.cell_seconds
    outputs.error("CellTimeoutError", f"{what} ran longer than {seconds:g} s")


def _names(found: Any) -> set[str]:
    """Names that a student's process says its cell has bound."""
    if not isinstance(found, list):
        return set()
    return {name for name in found if isinstance(name, str) and name.isidentifier()}
