"""Stage 2 anywhere: runs jobs on an executor. Workers import this module and little else."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import site
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from pathlib import Path

from autograder.job import Result
from autograder.sandbox import SandboxError

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


def _watch_parent() -> None:
    """Ends a worker whose parent was killed; the executor would leave it waiting for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def _work(execute: Execute, job: bytes, isolated: bool, expected: str) -> bytes:
    """What a worker does: maybe on another machine, which has to have the same packages."""
    if environment() != expected:
        raise SandboxError("A worker has another Python or other packages than this machine.")
    return execute(job, isolated)


class Pool:
    """Runs jobs, and once more those whose worker was lost.

    Args:
        executor: to run them on; by default processes of this machine.
        workers: how many processes there are then; one for each core.
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
        self._given = executor
        self._own: ProcessPoolExecutor | None = None
        self._workers = workers or os.cpu_count() or 1
        self._isolated = isolated
        self._execute = execute
        self._futures: dict[Future[bytes], str] = {}
        self.running: dict[str, bytes] = {}
        self.executed = 0
        #: How many jobs may wait: enough to keep all busy, few enough to hold in memory.
        self.room = 4 * self._workers if executor is None else 64

    def _submit(self, job: bytes) -> Future[bytes]:
        executor = self._given or self._own
        if executor is None:
            executor = self._own = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_watch_parent,
            )
        return executor.submit(_work, self._execute, job, self._isolated, environment())

    def submit(self, key: str, job: bytes) -> None:
        """Has a job run; `completed` gives its result under `key`."""
        self.running[key] = job
        try:
            self._futures[self._submit(job)] = key
        except BrokenExecutor as error:
            # The jobs before it are about to be found lost, and this one with them.
            lost: Future[bytes] = Future()
            lost.set_exception(error)
            self._futures[lost] = key

    def completed(self, block: bool = True) -> Iterator[tuple[str, Result]]:
        """The jobs that are done; waits for one where none is, unless told not to.

        Raises:
            SandboxError: jobs cannot be run at all.
        """
        if not self._futures:
            return
        timeout = None if block else 0
        for future in wait(self._futures, timeout, return_when=FIRST_COMPLETED).done:
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                # All that ran are lost; which of them ended a worker shows when each runs alone.
                lost = list(self._futures.values())
                self._futures.clear()
                for suspect in lost:
                    yield self._finish(suspect, self._alone(self.running[suspect]))
                return
            key = self._futures.pop(future)
            job = self.running[key]
            yield self._finish(
                key, self._alone(job) if error else Result.from_bytes(future.result())
            )

    def _finish(self, key: str, result: Result) -> tuple[str, Result]:
        del self.running[key]
        self.executed += 1
        return key, result

    def _alone(self, job: bytes) -> Result:
        for _ in range(2):
            try:
                return Result.from_bytes(self._submit(job).result())
            except SandboxError:
                raise
            except BrokenExecutor as raised:
                error: Exception = raised
                self.close()
            except Exception as raised:
                error = raised
        return Result([], reason="crashed", tampering=[f"its run ended twice: {error!r}"])

    def close(self) -> None:
        """Ends this machine's workers; jobs that still wait are dropped."""
        if self._own is not None:
            self._own.shutdown(wait=True, cancel_futures=True)
            self._own = None
