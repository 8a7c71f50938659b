"""What a cell writes: streams and messages to the host, within the limit on output."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from autograder.inside.control import Channel, send

__all__ = ["Messages", "Stream", "capture", "plain"]

_FLOOD = 64  # times the limit on output: a cell that goes on after so much is stopped


class Messages:
    """Sends outputs to the host while a cell runs; what is above the limit is left out here.

    Errors and the value of a test cell are never left out, but shortened.

    A process that a cell has forked does not send: it could cut a message in two.

    Attributes:
        limit: on the output of a cell.
        checkpoint: called where a cell that does little but send can be interrupted.
    """

    def __init__(self, channel: Channel, limit: int) -> None:
        self._channel = channel
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self.checkpoint: Callable[[], None] = lambda: None
        self.limit = limit
        self._left = limit

    def new_cell(self) -> None:
        """Let the limit begin anew."""
        self._left = self.limit

    def owned(self) -> bool:
        """Whether this is the process that may send."""
        return os.getpid() == self._owner

    def __call__(self, message: dict[str, Any]) -> None:
        """Send a message, whatever its size."""
        with self._lock:
            if self.owned():
                send(self._channel, message)

    def output(self, message: dict[str, Any]) -> None:
        """Send an output of a cell, or the news that there are too many."""
        with self._lock:
            size = len(json.dumps(message))
            within, self._left = self._left > 0, self._left - size
            if self._left >= 0:
                self(message)
            elif within:
                if "text" in message:
                    self({**message, "text": message["text"][: self._left]})
                self({"full": True})
            elif self._left < -_FLOOD * self.limit:
                self({"flood": True})
                self._left = -1

    def error(self, error: BaseException, lines: list[str]) -> None:
        """Send the error that ended a cell."""
        try:
            text = str(error)
        except Exception:
            text = "(its message cannot be shown)"
        kept = lines if len(lines) <= 200 else [lines[0], *lines[-199:]]
        shown = [line[:2000] for line in kept]
        self({"error": [type(error).__name__[:200], text[:10000], shown]})


class Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr`: whole lines go to the host, in order with other outputs."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str, fd: int, messages: Messages) -> None:
        self.name = f"<{name}>"
        self.buffer = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115
        self.others: list[Stream] = []
        self._stream, self._fd, self._messages = name, fd, messages
        self._text: list[str] = []
        self._size = 0

    def fileno(self) -> int:
        """The descriptor of the pipe for what bypasses Python."""
        return self._fd

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Takes text; sends it where a line is whole."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self._messages.owned():
            os.write(self._fd, text.encode(errors="replace"))
            return len(text)
        for other in self.others:
            other.flush()
        for start in range(0, len(text), 65536):
            self._text.append(text[start : start + 65536])
            self._size += len(self._text[-1])
            if self._size > 8192 or "\n" in self._text[-1]:
                self.flush()
        self._messages.checkpoint()
        return len(text)

    def flush(self) -> None:
        """Sends what is there."""
        text, self._text, self._size = "".join(self._text), [], 0
        if text:
            self._messages.output({"stream": self._stream, "text": text})

    def drop(self) -> None:
        """Forget the line that was begun."""
        self._text, self._size = [], 0


def capture(messages: Messages) -> list[Stream]:
    """Replaces `sys.stdout` and `sys.stderr` by streams to the host."""
    streams = [Stream("stdout", 1, messages), Stream("stderr", 2, messages)]
    streams[0].others, streams[1].others = streams[1:], streams[:1]
    sys.stdout, sys.stderr = streams
    return streams


def plain(data: dict[str, Any]) -> dict[str, str]:
    """A MIME bundle as text, its bytes in base64."""
    plain = {}
    for kind, value in data.items():
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        plain[str(kind)] = value if isinstance(value, str) else json.dumps(value, default=repr)
    return plain
