"""A Dask cluster on this machine, of processes that a test may kill."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Cluster:
    """A scheduler, to which workers can be added."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self._file = folder / "scheduler.json"
        self._folder = folder
        self._path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._variables = variables
        self.processes: list[subprocess.Popen[bytes]] = []
        host = () if "--host" in options else ("--host", "127.0.0.1")
        self._start("scheduler", *host, "--port", "0", *options)
        end = time.monotonic() + 60
        while not self._file.exists():
            assert time.monotonic() < end, "the scheduler does not start"
            time.sleep(0.1)
        self.address: str = json.loads(self._file.read_text())["address"]

    def _start(self, kind: str, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, [variables.pop("PYTHONPATH", ""), self._path]))
        line = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *options]
        made = subprocess.Popen(
            [*line, "--scheduler-file", str(self._file)],
            env={**os.environ, **self._variables, **variables, "PYTHONPATH": path},
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(made)
        return made

    def worker(self, *options: str, **variables: str) -> subprocess.Popen[bytes]:
        """Adds a worker with one thread, and with environment variables of its own."""
        host = () if "--host" in options else ("--host", "127.0.0.1")
        return self._start("worker", *host, "--nthreads", "1", "--no-nanny", *options, **variables)


@contextlib.contextmanager
def cluster(folder: Path, *options: str, **variables: str) -> Iterator[Cluster]:
    """A cluster that ends with the test."""
    made = None
    try:
        made = Cluster(folder, *options, **variables)
        yield made
    finally:
        for process in made.processes if made else []:
            process.kill()
        for process in made.processes if made else []:
            process.wait()
