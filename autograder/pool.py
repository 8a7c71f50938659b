"""Stage 2 anywhere: runs jobs on an executor. Workers import this module and little else."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import site
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path

from autograder.job import Result
from autograder.sandbox import SandboxError
from autograder.warm import stop

__all__ = ["Execute", "Pool", "environment", "run"]

Execute = Callable[[bytes, bool], bytes]


def run(job: bytes, isolated: bool) -> bytes:
    """Executes a job: the bytes of a `Job` in, those of a `Result` out."""
    from autograder.execute import execute  # only where jobs run

    return execute(job, isolated=isolated)


@functools.cache
def environment(modules: tuple[str, ...] = ()) -> str:
    """A digest of the Python, the installed packages, and the sources of `modules`.

    A module that is installed in place changes without a new version, so its files count too.
    """
    # Not all of sys.path: some packages put their own copies of others there.
    installed = importlib.metadata.distributions(path=site.getsitepackages())
    packages = {f"{package.name}=={package.version}" for package in installed}
    digest = hashlib.sha256(json.dumps([platform.python_version(), sorted(packages)]).encode())
    for module in modules:
        spec = importlib.util.find_spec(module)
        for place in (spec and spec.submodule_search_locations) or ():
            if "site-packages" not in Path(place).parts:
                for path in sorted(Path(place).rglob("*.py")):
                    digest.update(path.read_bytes())
    return digest.hexdigest()


def _work(execute: Execute, job: bytes, isolated: bool, expected: str) -> bytes:
    """What a worker does: maybe on another machine, which has to have the same packages."""
    if environment() != expected:
        raise SandboxError("A worker has another Python or other packages than this machine.")
    return execute(job, isolated)


class Pool:
    """Runs jobs, and once more those whose worker was lost.

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
        self._own = None if executor else ThreadPoolExecutor(workers, "autograder-job")
        self._executor = executor or self._own
        self._isolated = isolated
        self._execute = execute
        self._futures: dict[Future[bytes], str] = {}
        self.running: dict[str, bytes] = {}
        self.executed = 0
        #: How many jobs may wait: enough to keep all busy, few enough to hold in memory.
        self.room = 4 * workers if executor is None else 64

    def _submit(self, job: bytes) -> Future[bytes]:
        assert self._executor is not None
        return self._executor.submit(_work, self._execute, job, self._isolated, environment())

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
        if not self._futures:
            return
        timeout = None if block else 0
        for future in wait(self._futures, timeout, return_when=FIRST_COMPLETED).done:
            key = self._futures.pop(future)
            result = self._result(future) if future.exception() is None else self._again(key)
            del self.running[key]
            self.executed += 1
            yield key, result

    def _again(self, key: str) -> Result:
        try:
            return self._result(self._submit(self.running[key]))
        except (SandboxError, BrokenExecutor):
            raise
        except Exception as error:
            return Result([], reason="crashed", tampering=[f"its run ended twice: {error!r}"])

    def _result(self, future: Future[bytes]) -> Result:
        return Result.from_bytes(future.result())

    def close(self) -> None:
        """Ends this machine's workers, and the jobs that still run or wait."""
        if self._own is not None:
            self._own.shutdown(wait=False, cancel_futures=True)
            if self.running:
                stop()
            self._own.shutdown()
