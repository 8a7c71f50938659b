"""Keeps results by the key of their job, so that nothing that did not change runs again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from autograder.job import Result

__all__ = ["Store", "write"]


def write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: beside, to the disk, then renamed.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


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
