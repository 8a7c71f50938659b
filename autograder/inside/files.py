"""Which files of its folder a test opens: the submission's own process may have changed them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Files", "digests"]


class Files:
    """Sees what is opened below the current folder; modules that are imported do not count.

    Attributes:
        opened: names relative to that folder, in the last cell that was watched.
    """

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self._home = str(Path.cwd())
        self._watching = False
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def watched(self, watching: bool) -> Iterator[None]:
        """Sees the files that are opened within it, or none."""
        self.opened, self._watching = set(), watching
        try:
            yield
        finally:
            self._watching = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching or event not in ("open", "sqlite3.connect"):
            return
        path = arguments[0]
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str) or path.endswith((".py", ".pyc")):
            return
        path = os.path.normpath(Path.cwd() / path)
        if path.startswith(self._home + os.sep):
            self.opened.add(os.path.relpath(path, self._home))


def digests(names: list[str]) -> dict[str, str | None]:
    """The SHA-256 of files; `None` of those that cannot be read."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        except OSError:
            found[name] = None
    return found
