"""Runs jobs on any executor. Workers elsewhere import little but this module."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)

from autograder.execute.packages import environment
from autograder.execute.parents import stop
from autograder.execute.sandbox import SandboxError
from autograder.job import Result

__all__ = ["Execute", "Pool", "run"]

Execute = Callable[[bytes, bool], bytes]

_LARGE = 2**23  # bytes of all that are held
_DOUBT = 0.1  # of a job's time: what others may take before its timeout is in doubt


def run(job: bytes, isolated: bool) -> bytes:
    """Executes a job: the bytes of a `Job` in, those of a `Result` out."""
    from autograder.execute.run import execute  # only where jobs run

    return execute(job, isolated=isolated)


def _work(execute: Execute, job: bytes, isolated: bool, expected: str) -> bytes:
    """What a worker does: maybe on another machine, which has to have the same packages."""
    if environment() != expected:
        raise SandboxError("A worker has another Python or other packages than this machine.")
    return execute(job, isolated)


def _allow_open_files(n: int) -> None:
    """Raises the limit to n where it is lower: each job has sockets and pipes to its sandboxes."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= now < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n if most < 0 else min(n, most), most))


def _in_doubt(result: Result) -> bool:
    """Whether it ran out of time while others kept it from running for a good part of that."""
    ran_out = any(cell.reason == "timeout" for cell in result.cells)
    return ran_out and result.starved > _DOUBT * result.seconds


class Pool:
    """Runs jobs; once more those whose worker was lost, and alone those that neighbours delayed.

    Args:
        executor: to run them on; by default threads of this process, each of which waits for a
            sandbox.
        workers: how many threads there are then; one for each core.
        isolated: whether there has to be a sandbox.
        execute: what runs a job; workers have to be able to import it.
    """

    def __init__(
        self,
        executor: Executor | None = None,
        workers: int | None = None,
        isolated: bool = True,
        execute: Execute = run,
    ) -> None:
        workers = workers or os.cpu_count() or 1
        self._own = None
        if executor is None:
            _allow_open_files(64 * workers + 256)
            executor = self._own = ThreadPoolExecutor(workers, "autograder-job")
        self._executor: Executor = executor
        self.isolated = isolated
        self._execute = execute
        self._futures: dict[Future[bytes], str] = {}
        self._doubtful: list[str] = []  # to run once more, when nothing else does
        self._alone: set[str] = set()  # that have run so
        self.running: dict[str, bytes] = {}
        self.executed = 0
        #: How many jobs may be held: enough to keep all busy, few enough for the memory.
        self.room = 4 * workers if self._own else 64

    @property
    def full(self) -> bool:
        """Whether no more jobs may be held; of large ones, only as many as run at once."""
        held = len(self.running)
        large = sum(map(len, self.running.values())) > _LARGE
        return held >= (self.room // 4 if large else self.room)

    def _submit(self, job: bytes) -> Future[bytes]:
        return self._executor.submit(_work, self._execute, job, self.isolated, environment())

    def submit(self, key: str, job: bytes) -> None:
        """Has a job run; `completed` gives its result under `key`.

        Raises:
            BrokenExecutor: the executor cannot run anything any more.
        """
        self.running[key] = job
        self._futures[self._submit(job)] = key

    def completed(self, block: bool = True) -> Iterator[tuple[str, Result]]:
        """The jobs that are done; waits for one where none is, unless told not to.

        Raises:
            SandboxError: jobs cannot be run at all.
            BrokenExecutor: the executor cannot run anything any more.
        """
        if not self._futures and self._doubtful and block:
            key = self._doubtful.pop()
            self._alone.add(key)
            self._futures[self._submit(self.running[key])] = key
        if not self._futures:
            return
        timeout = None if block else 0
        for future in wait(self._futures, timeout, return_when=FIRST_COMPLETED).done:
            key = self._futures.pop(future)
            try:
                result = Result.from_bytes(future.result())
            except (SandboxError, BrokenExecutor):
                raise
            except Exception:  # its worker was lost
                result = self._again(key)
            if _in_doubt(result) and key not in self._alone:
                self._doubtful.append(key)
                continue
            del self.running[key]
            self.executed += 1
            yield key, result

    def _again(self, key: str) -> Result:
        try:
            return Result.from_bytes(self._submit(self.running[key]).result())
        except (SandboxError, BrokenExecutor):
            raise
        except CancelledError as error:  # by the executor, and no doing of the job
            raise BrokenExecutor("its workers have left it twice") from error
        except Exception as error:
            return Result([], reason="crashed", tampering=[f"its run ended twice: {error!r}"])

    def close(self) -> None:
        """Ends this machine's workers, and the jobs that still run or wait."""
        if self._own is not None:
            self._own.shutdown(wait=False, cancel_futures=True)
            if self.running:
                stop()
            self._own.shutdown()
