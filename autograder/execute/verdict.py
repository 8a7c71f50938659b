"""What the host hears of a test cell that is judged in a fork of the student's process.

The student's code runs in that fork, too, and may write into the pipe by which cells report. So a
verdict counts only with the token that the cell's order has brought, a new one for each cell; all
else that comes there is output, and what was there before the cell is thrown away.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

from autograder.execute.outputs import Outputs
from autograder.inside.control import BadMessage, take
from autograder.job import Limits

__all__ = ["Streams", "Verdict"]

_READ = 1 << 16
_PIPE = 1 << 20  # the most that a pipe may hold
_OUTPUT = ("stream", "display", "clear", "full", "flood")


class Verdict:
    """What comes by that pipe for one cell.

    Args:
        reports: the host's end of the pipe, which does not block.
        limits: of the job.

    Attributes:
        token: what a verdict has to hold.
        final: the verdict, when it has come.
    """

    def __init__(self, reports: int, limits: Limits) -> None:
        self.token = secrets.token_hex(16)
        self.final: dict[str, Any] | None = None
        self._reports, self._limits = reports, limits
        self._ended = False
        self._buffer = bytearray()
        for _ in range(_PIPE // _READ + 1):
            if not self._part():
                break

    def _part(self) -> bytes | None:
        """What is there; `None` where that is nothing yet."""
        try:
            return os.read(self._reports, _READ)
        except BlockingIOError:
            return None

    def readable(self) -> list[int]:
        """The file descriptor to watch."""
        return [] if self._ended else [self._reports]

    def writable(self) -> list[int]:
        """None: nothing is sent here."""
        return []

    def write(self) -> None:
        """Nothing is."""

    def read(self, fd: int) -> Iterator[dict[str, Any]]:
        """The outputs that have come; keeps the verdict."""
        part = self._part()
        if part is None:
            return
        self._ended = not part
        self._buffer += part
        try:
            for message in take(self._buffer, self._limits):
                if message.get("done") is True and message.get("token") == self.token:
                    self.final = self.final or message
                elif any(kind in message for kind in _OUTPUT):
                    yield {k: v for k, v in message.items() if k not in ("error", "result")}
        except BadMessage:
            self._ended = True

    def rest(self) -> Iterator[dict[str, Any]]:
        """The outputs that are left where the cell's process has ended."""
        for _ in range(_PIPE // _READ + 1):
            yield from self.read(self._reports)


class Streams:
    """Takes of a process only what it prints: the verdict comes elsewhere."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def add(self, message: dict[str, Any]) -> None:
        """Take a message, if it is of a stream."""
        if message.get("stream") or message.get("flood"):
            self._outputs.add(message)
