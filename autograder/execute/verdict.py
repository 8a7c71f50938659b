"""What the host hears of a test cell that is judged in a fork of the student's process.

The student's code runs in that fork, too. So the socket is a new one for each cell, and a verdict
counts only with the token that the cell's order has brought; all else that comes there is output.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from typing import Any

from autograder.execute.outputs import Outputs
from autograder.inside.control import BadMessage, take
from autograder.job import Limits

__all__ = ["Streams", "Verdict"]

_OUTPUT = ("stream", "display", "clear", "full", "flood")


class Verdict:
    """The host's end of the socket by which one cell reports.

    Attributes:
        token: what a verdict has to hold.
        inside: the other end, for the order to take along; closed here once it has.
        final: the verdict, when it has come.
        ended: whether nothing comes any more.
    """

    def __init__(self, limits: Limits) -> None:
        self.token = secrets.token_hex(16)
        self.final: dict[str, Any] | None = None
        self.ended = False
        self._limits = limits
        self._buffer = bytearray()
        self._socket, self.inside = socket.socketpair()
        self._socket.setblocking(False)

    @property
    def over(self) -> bool:
        """Whether the verdict has come, or none will."""
        return self.ended or self.final is not None

    def readable(self) -> list[int]:
        """The file descriptor to watch."""
        return [] if self.ended else [self._socket.fileno()]

    def writable(self) -> list[int]:
        """None: nothing is sent here."""
        return []

    def write(self) -> None:
        """Nothing is."""

    def read(self, fd: int) -> Iterator[dict[str, Any]]:
        """The outputs that have come; keeps the verdict."""
        try:
            part = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self.ended = not part
        self._buffer += part
        try:
            for message in take(self._buffer, self._limits):
                if message.get("done") is True and message.get("token") == self.token:
                    self.final = self.final or message
                elif any(kind in message for kind in _OUTPUT):
                    yield {k: v for k, v in message.items() if k not in ("error", "result")}
        except BadMessage:
            self.ended = True

    def close(self) -> None:
        """Close both ends."""
        self._socket.close()
        self.inside.close()


class Streams:
    """Takes of a process only what it prints: the verdict comes elsewhere."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def add(self, message: dict[str, Any]) -> None:
        """Take a message, if it is of a stream."""
        if message.get("stream") or message.get("flood"):
            self._outputs.add(message)
