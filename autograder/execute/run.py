"""Stage 2: run a job. Bytes in, bytes out, nothing else seen or left behind.

`execute` may be called in any process or thread, by `concurrent.futures` or by Dask. Each process
keeps a pair of warm parents, one for the students' cells and one for the tests', and forks each
once a job.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import os
import re
import time
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from autograder.bindings import bound, needed, used
from autograder.execute import proxy
from autograder.execute.fork import Fork
from autograder.execute.halves import Halves
from autograder.execute.outputs import Outputs, ran_out_of_memory
from autograder.execute.parents import Pairs, here
from autograder.execute.place import Place
from autograder.execute.sandbox import SandboxError
from autograder.execute.verdict import Verdict
from autograder.inside.plain import judges
from autograder.job import Cell, CellResult, Job, Reason, Result

__all__ = ["execute"]

_CELLS = 16  # so many cells' outputs may a notebook have, however many cells it has
_NEVER = {"display", "get_ipython"}  # by which a test cell shows, and runs its magics


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
        again = done is not None and done[0].halves.lost
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
    skipped = [cell.source for cell in what.cells if not cell.needed]
    if done is not None and _asks_for(done[1], set().union(*map(bound, skipped))):
        done = _run(what, pairs, isolated, everything=True)
    if done is None:
        return _not_run(what, "malformed", isolated)
    run, cells = done
    reason = next((cell.reason for cell in cells if cell.reason), None)
    seconds = time.monotonic() - start
    return Result(cells, reason, run.halves.tampering, seconds, isolated, run.starved).to_bytes()


def _run(
    job: Job, pairs: Pairs, isolated: bool, everything: bool = False
) -> tuple[_Run, list[CellResult]] | None:
    """Run a job on two new forks; `None` if its files cannot be written."""
    with contextlib.ExitStack() as forks:
        run = _start(job, pairs, isolated, forks)
        if run is None:
            return None
        cells = [run.cell(cell) for cell in job.cells if cell.needed or everything]
        run.starved = run.halves.starved  # its processes are still there to be asked
        return run, cells


def _start(job: Job, pairs: Pairs, isolated: bool, stack: contextlib.ExitStack) -> _Run | None:
    """A run on two new forks, which the stack ends; `None` if its files cannot be written."""
    parents = pairs.pair(job.imports, job.withheld, isolated)
    outside = (c.source for c in job.cells if c.role == "test" and c.mode == "outside")
    parents[1].rehearse("\n".join(outside))
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
    halves = Halves(job, place, *forks)
    if not halves.start():
        return None
    if (listener := halves.student.listener) is not None:
        try:
            stack.callback(proxy.end, proxy.start(listener, job.network))
        except OSError as error:
            raise SandboxError(f"The proxy to the network cannot start: {error}.") from error
    return _Run(job, halves)


def _asks_for(cells: list[CellResult], names: set[str]) -> bool:
    """Whether a cell has failed for want of one of these names."""
    texts = (out["evalue"] for c in cells for out in c.outputs if out["output_type"] == "error")
    return any(name in names for text in texts for name in re.findall(r"name '(\w+)'", text))


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
    """One job's cells, each where it belongs."""

    def __init__(self, job: Job, halves: Halves) -> None:
        self.halves = halves
        self.starved = 0.0
        self._job = job
        self._bound: set[str] = set()
        self._left = _CELLS * job.limits.output
        self._earlier: list[tuple[str | None, str]] = []
        self._tried: list[str] = []  # the sources of tests judged inside
        self._doubted: set[str] = set()  # what tests have bound outside before they were
        self._unsettled = False  # whether tests have run since the submission's last order
        self._helpers = {
            name: job.files[name].decode(errors="replace")
            for name in job.given
            if name.endswith(".py") and name in job.files
        }

    def cell(self, cell: Cell) -> CellResult:
        """Run one cell where it belongs."""
        start = time.monotonic()
        outputs = self._outputs()
        mode, unjudged = cell.mode, ""
        if cell.role != "test":
            reason = self._given(cell, outputs)
        elif mode == "inside":
            reason = self._inside(cell, outputs)
            if self._is_needed(cell):
                self._on_tests(cell, Outputs(self._job.limits))
        elif used(cell.source) & self._doubted:
            mode, unjudged = "inside", "it uses what a test that was judged inside has bound"
            reason = self._inside(cell, outputs, noticed=True)
        else:
            said = self.halves.loop.sinks[self.halves.student] = Outputs(self._job.limits)
            reason = self._on_tests(cell, outputs)
            unjudged = self._unjudged(said)
            if self._job.noticing and reason is None and unjudged:
                mode, outputs = "inside", self._outputs()
                reason = self._inside(cell, outputs, noticed=True)
                self._doubted |= bound(cell.source) - judges(cell.source)
            reason = reason or self.halves.missed(outputs)
        self._earlier.append((cell.source if cell.role == "test" else None, cell.source))
        if cell.binds and self.halves.lives(self.halves.student):
            self.halves.on(
                self.halves.student, Outputs(self._job.limits), {"run": cell.binds, "locked": True}
            )
        self._left -= outputs.size
        seconds = time.monotonic() - start
        return CellResult(cell.id, outputs.items, seconds, reason, mode, unjudged)

    def _given(self, cell: Cell, outputs: Outputs) -> Reason | None:
        """Run what is not a test in the student's process; if locked, in the tests' as well."""
        locked = cell.role == "shared"
        self._settle()
        order = {"run": cell.source, "locked": locked}
        reason = self.halves.on(self.halves.student, outputs, order)
        if locked:
            self._on_tests(cell, Outputs(self._job.limits))
        else:
            self._bound |= _names((self.halves.student.done or {}).get("bound"))
            # What is given, and changed in place where the solution binds it anew, counts as well.
            named = used(cell.source) | bound(cell.source)  # `x += 1` binds x to what it was
            self._bound |= named & set(self._job.asked or ())
        return reason

    def _settle(self) -> None:
        """Wait for what tests have made the submission print: it is no output of the next cell.

        The submission answers a test before it sends what it has printed meanwhile.
        """
        if self._unsettled and self.halves.lives(self.halves.student):
            self.halves.on(self.halves.student, Outputs(self._job.limits), {"files": []})
        self._unsettled = False

    def _outputs(self) -> Outputs:
        """Room for a cell's outputs: its own limit, or what the notebook has left."""
        limits = self._job.limits
        return Outputs(limits, max(0, min(limits.output, self._left)))

    def _unjudged(self, said: Outputs) -> str:
        """Why the test that has just been judged outside has to be judged inside.

        Args:
            said: what the submission has printed meanwhile.
        """
        done = self.halves.tests.done or {}
        if done.get("captured") and self.halves.lives(self.halves.student):
            self.halves.on(self.halves.student, said, {"files": []})  # until all of it has come
            if any(item["output_type"] == "stream" for item in said.items):
                return "it captures what is printed, and the submission prints"
        self.halves.loop.sinks[self.halves.student] = None
        given = {name: self._job.files[name] for name in self._job.given}
        opened = [name for name in done.get("files") or [] if name in given]
        if opened and not done.get("unjudged") and self.halves.lives(self.halves.student):
            self.halves.on(self.halves.student, Outputs(self._job.limits), {"files": opened})
            found = (self.halves.student.done or {}).get("files")
            for name in opened:
                digest = hashlib.sha256(given[name]).hexdigest()
                if not isinstance(found, dict) or found.get(name) != digest:
                    return f"the submission has changed the file {name}"
        return _text(done.get("unjudged"))

    def _is_needed(self, cell: Cell) -> bool:
        """Whether a later test that is judged outside uses names that this one binds."""
        later = self._job.cells[self._job.cells.index(cell) + 1 :]
        names = bound(cell.source)
        return any(
            other.role == "test" and other.mode == "outside" and names & used(other.source)
            for other in later
        )

    def _on_tests(self, cell: Cell, outputs: Outputs) -> Reason | None:
        """Run a cell in the tests' process."""
        order = {"run": cell.source, "test": cell.role == "test", "objects": cell.objects}
        asked = self._bound if self._job.asked is None else self._bound & set(self._job.asked)
        order |= {"bound": sorted(asked), "own": sorted(asked & vars(builtins).keys() - _NEVER)}
        self._bound.clear()
        reason = self.halves.on(self.halves.tests, outputs, order)
        self._unsettled = True
        if self.halves.tests.done and self.halves.lives(self.halves.student):
            reason = self.halves.broken(self.halves.tests.done.get("broken"), cell.id) or reason
        return reason

    def _before(self, cell: Cell) -> list[str]:
        """The tests whose names, or changes of the notebook, a test that is judged inside needs."""
        names = needed(cell.source, self._earlier)
        tests = (key for key, _ in self._earlier if key is not None)
        return [key for key in tests if key in names or (cell.follows and key in self._tried)]

    def _inside(self, cell: Cell, outputs: Outputs, noticed: bool = False) -> Reason | None:
        """Run a test cell in a fork of the student's process, which is then thrown away."""
        self._settle()
        verdict = Verdict(self.halves.student.reports, self._job.limits)
        self.halves.loop.sinks[verdict] = outputs
        order = {
            "inside": cell.source,
            "before": self._before(cell),
            "token": verdict.token,
            "given": self._helpers,
            "asked": self._job.asked,
            "noticed": noticed,
        }
        self._tried.append(cell.source)
        reason = self.halves.on(self.halves.student, outputs, order, verdict)
        for message in verdict.rest():
            outputs.add(message)
        del self.halves.loop.sinks[verdict]
        if verdict.final:
            outputs.add({k: v for k, v in verdict.final.items() if k in ("error", "result")})
            if reason is None and ran_out_of_memory(outputs.items):
                reason = "out of memory"
        elif reason is None:
            why = _text((self.halves.student.done or {}).get("why")) or "it gave no verdict"
            outputs.error("DeadKernelError", f"The process ended in this cell: {why}.")
            reason = "crashed"
        return reason


def _text(found: Any) -> str:
    return found[:200] if isinstance(found, str) else ""


def _names(found: Any) -> set[str]:
    """Names that a student's process says its cell has bound."""
    if not isinstance(found, list):
        return set()
    return {name for name in found if isinstance(name, str) and name.isidentifier()}
