"""The two processes of a job, student's and tests', within the job's limits."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any

from autograder.execute.clock import Clock, Reading, within
from autograder.execute.fork import Fork
from autograder.execute.loop import LOOK_SECONDS, Loop
from autograder.execute.outputs import Outputs, ran_out_of_memory
from autograder.execute.place import Place
from autograder.execute.sandbox import NAMESPACES, SandboxError
from autograder.execute.verdict import Streams, Verdict
from autograder.job import Job, Reason

__all__ = ["Halves"]

_GRACE_SECONDS = 2.0
_START_SECONDS = 60.0
_PART = 1 << 20
_MEMORY_SLACK = 1.25  # a single process meets its limit first, by a MemoryError, and lives


class Halves:
    """One job's two forks.

    Attributes:
        student, tests: the forks.
        loop: serves them.
        clock: the job's own time.
        tampering: what was seen of attempts to reach beyond the exercise.
    """

    def __init__(self, job: Job, place: Place, student: Fork, tests: Fork) -> None:
        self.tampering: list[str] = []
        self.student, self.tests = student, tests
        self.loop = Loop(student, tests)
        self.clock = Clock(lambda: [*student.processes(), *tests.processes()], lambda: place.group)
        self._job, self._place = job, place
        self._begun = Reading(0.0, 0.0, 0.0)
        self._dead: dict[Fork, tuple[Reason, str]] = {}
        self._looked = 0.0

    @property
    def starved(self) -> float:
        """Seconds in which others kept it from running, through no fault of its own."""
        starved = self.clock.read().starved - self._begun.starved
        return 0.0 if self._place.crowded else starved

    @property
    def lost(self) -> bool:
        """Whether a sandbox has gone that nobody here has ended."""
        return self.student.lost or self.tests.lost

    def lives(self, fork: Fork) -> bool:
        """Whether a process has not come to its end."""
        return fork not in self._dead

    def start(self) -> bool:
        """Bring the files, and wait until both halves have shut themselves in.

        Returns:
            Whether the files could be written.

        Raises:
            SandboxError: they cannot.
        """
        left = within(_START_SECONDS)
        files, both = self._job.files, (self.student, self.tests)
        given = {name: files[name] for name in self._job.given if name in files}
        network = bool(self._job.network)
        self.student.send({"home": self.student.home, "network": network})
        self.tests.send({"home": self.tests.home, "network": False})
        self._write(self.student, files, left)
        self._write(self.tests, given, left)
        self.loop.until(lambda: all(f.started or not f.usable for f in both), left)
        if any((fork.broken or "").startswith("files") for fork in both):
            return False
        for fork in both:
            if not fork.started or fork.broken:
                raise SandboxError(
                    "A fork of a warm parent cannot shut itself in: "
                    f"{fork.broken or 'it did not start in time'}. {NAMESPACES}"
                )
        self._begun = self.clock.read()
        return True

    def _write(self, fork: Fork, files: Mapping[str, bytes], left: Callable[[], float]) -> None:
        """Send files in parts, so that no more than a part is held here twice."""
        for name, content in files.items():
            for start in range(0, max(1, len(content)), _PART):
                part = base64.b64encode(content[start : start + _PART]).decode()
                fork.send({"write": name, "part": part})
                self.loop.until(lambda: not fork.writable() or not fork.usable, left)
        fork.send({"written": True})

    def on(
        self,
        fork: Fork,
        outputs: Outputs,
        order: dict[str, Any],
        verdict: Verdict | None = None,
    ) -> Reason | None:
        """Have a process do something, within its limits."""
        if fork in self._dead:
            _, why = self._dead[fork]
            outputs.error("DeadKernelError", f"The process had ended before this cell: {why}.")
            return "stopped"
        limits = self._job.limits
        whole = limits.total_seconds - self.clock.spent(self._begun)
        if whole <= 0:
            self._timeout(outputs, whole=True)
            return "timeout"
        self.loop.sinks[fork] = outputs if verdict is None else Streams(outputs)
        fork.done = None
        fork.send(order)

        def over() -> bool:
            return fork.done is not None or not fork.usable or self._too_much(fork, outputs)

        reason: Reason | None = None
        if not self.loop.until(over, self.clock.within(min(limits.cell_seconds, whole))):
            reason = "timeout"
            self._stop(fork)
            self._timeout(outputs, whole=whole < limits.cell_seconds)
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
        self.loop.sinks[fork] = None
        return reason

    def broken(self, broken: Any, cell: str) -> Reason | None:
        """End the student's process where the tests say that the link to it is gone."""
        if not broken:
            return None
        kind, why = broken
        if kind == "Tampered":
            self.tampering.append(f"{cell}: {why}")
            self._dead[self.student] = ("tampered", f"it answered a test falsely: {why}")
        elif kind == "TimedOut":
            self._dead[self.student] = ("timeout", "it did not answer a test in time")
        else:
            self.loop.until(lambda: not self.student.usable, self.clock.within(_GRACE_SECONDS))
        return self._bury(self.student)

    def missed(self, outputs: Outputs) -> Reason | None:
        """Why a test failed, where it is that the student's process is not there to answer it."""
        before = self.student in self._dead
        if not before and not self.student.usable:
            self._bury(self.student)
        if self.student not in self._dead or not any(
            item["output_type"] == "error" for item in outputs.items
        ):
            return None
        reason, why = self._dead[self.student]
        outputs.error("DeadKernelError", f"The student's process is not there to answer: {why}.")
        return "stopped" if before else reason

    def _timeout(self, outputs: Outputs, whole: bool) -> None:
        limits = self._job.limits
        what = "the whole notebook" if whole else "this cell"
        seconds = limits.total_seconds if whole else limits.cell_seconds
        outputs.error("CellTimeoutError", f"{what} ran longer than {seconds:g} s")

    def _too_much(self, fork: Fork, outputs: Outputs) -> bool:
        """Whether memory or output are used up; looks at the memory once in a while."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._place.watch([*self.student.processes(), *self.tests.processes()])
            for one in (self.student, self.tests):
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
        for one in (self.student, self.tests) if fork is self.tests else (fork,):
            left = self.clock.within(_GRACE_SECONDS)
            while left() > 0:
                one.interrupt()
                if self.loop.until(
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
