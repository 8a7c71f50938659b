"""Collects from nbgrader's exchange without following links: what they lead to is not a student's.

`autograder.install` puts it where nbgrader looks for it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from nbgrader.exchange.default import ExchangeCollect

from autograder.prepare.files import Refused, read_bytes, walk

__all__ = ["Collect"]


class Collect(ExchangeCollect):  # type: ignore[misc]
    """nbgrader's, of plain files only: no links, hard links, pipes or devices."""

    def do_copy(self, src: str, dest: str, log: Any = None) -> None:
        """Copies what is plain; names the rest in the log."""
        most = 1000 * int(self.coursedir.max_file_size)
        if Path(src).is_symlink():
            self.log.warning("Not collected: %s is a link", src)
            return
        with tempfile.TemporaryDirectory(prefix="autograder-") as folder:
            plain = Path(folder, "plain")
            plain.mkdir()
            for name, entry in walk(Path(src)):
                path = plain / name
                if entry.is_dir(follow_symlinks=False):
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                try:
                    data = read_bytes(Path(entry.path), most)
                except (Refused, OSError) as error:
                    self.log.warning("Not collected from %s: %s", src, error)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            super().do_copy(str(plain), dest, log)
