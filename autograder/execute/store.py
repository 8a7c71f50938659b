"""Keeps results by the key of their job, so that nothing that did not change runs again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from autograder.atomic import write
from autograder.execute.packages import environment
from autograder.job import Job, Result

__all__ = ["Store", "job_key"]


class Store:
    """Results in a folder, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Result | None:
        """The result, or `None` where there is none that can be read."""
        try:
            return Result.from_bytes(self._path(key).read_bytes())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, result: Result) -> None:
        """Keeps a result."""
        write(self._path(key), result.to_bytes())


def job_key(job: Job, *, isolated: bool = True) -> str:
    """A name for all that a job's result depends on: itself, the packages, this grader."""
    digest = hashlib.sha256()
    for part in job.parts():
        digest.update(part)
    modules = tuple(sorted({name.split(".")[0] for name in (*job.imports, *job.withheld)}))
    digest.update(json.dumps([isolated, environment(modules)]).encode())
    return digest.hexdigest()
