"""Warn of every file of the finished book that holds a solution or a hidden test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# nbgrader's own delimiters (its ClearSolutions, ClearHiddenTests and ClearMarkScheme).
MARKERS = ("BEGIN SOLUTION", "BEGIN HIDDEN TESTS", "BEGIN MARK SCHEME")


def check(app: Sphinx, exception: Exception | None) -> None:
    """Search every file that the build has written."""
    if exception:
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            for marker in MARKERS:
                if marker.encode() in content:
                    logger.warning("%r in %s", marker, path.relative_to(app.outdir))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("build-finished", check, priority=900)  # after the others have written their files
    return {"parallel_read_safe": True, "parallel_write_safe": True}
