"""A course's log: what each run told and recorded, and when, in `.autograder/grade.log`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

__all__ = ["Log", "log_of"]

Log = logging.LoggerAdapter[logging.Logger]

BYTES, OLDER = 2**20, 3
"""The size at which a new file is begun, and how many older ones are kept."""


class _OneLine(logging.Formatter):
    """A line for each record, whatever is in a name or an error."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(super().format(record).split())


class _WhileThereIsSpace(RotatingFileHandler):
    """Leaves out what cannot be written: a log neither ends a run nor hides why it ended."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def log_of(folder: Path, assignment: str) -> Iterator[Log]:
    """A logger that writes into the folder, a line each with its time and the assignment."""
    logger = logging.Logger("autograder.log")  # no child of the root: nothing on the terminal
    handler = _WhileThereIsSpace(
        folder / "grade.log",
        maxBytes=BYTES,
        backupCount=OLDER,
        encoding="utf-8",
        errors="backslashreplace",  # a folder's name need not be text
    )
    handler.setFormatter(_OneLine("%(asctime)s %(assignment)s: %(message)s"))
    logger.addHandler(handler)
    adapter = logging.LoggerAdapter(logger, {"assignment": assignment})
    try:
        yield adapter
    except BaseException as error:
        adapter.error("the run ended: %s: %s", type(error).__name__, error)
        raise
    finally:
        handler.close()
