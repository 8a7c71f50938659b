"""The control protocol between host and sandbox, written once for both sides.

JSON behind a length of four bytes:

  to main:    {"home": …, …} first, then {"write": name, "part": …} for each part of a file,
              {"written": true}, and {"run": source, …} for each cell
  from main:  {"stream": "stdout" | "stderr", "text": …}, {"display" | "result": data, …},
              {"clear": true}, {"error": [name, value, traceback]}, and at the end of a cell
              {"done": true, …}

The side inside waits for whole messages; the host, which trusts none of them, takes them from a
buffer, with a cap.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from autograder.job import Limits

__all__ = ["BadMessage", "Channel", "frame", "receive", "send", "take"]

LONGEST_REQUEST = 1 << 16
"""Bytes of what a warm parent is asked for."""

_LENGTH = struct.Struct("!I")
_SLACK = 1 << 16


class Channel(NamedTuple):
    """The side inside: the pipe that orders come by, and the one for what is answered.

    They are not sockets, which would lead to the host's network namespace. What reads and writes
    them is in this module, where no interrupt of a cell cuts a message in two.
    """

    orders: int
    answers: int


class BadMessage(ValueError):
    """What came is not a message of this protocol."""


def frame(message: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    body = json.dumps(message).encode()
    return _LENGTH.pack(len(body)) + body


def take(buffer: bytearray, limits: Limits) -> Iterator[dict[str, Any]]:
    """Take the whole messages out of a buffer.

    Raises:
        BadMessage: one is too long, or is not a JSON object.
    """
    most = 6 * limits.output + _SLACK  # "\u0000" for a character
    while len(buffer) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer)
        if length > most:
            raise BadMessage(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(buffer) < end:
            return
        body = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise BadMessage("a message that is not a JSON object")
        yield message


def send(channel: Channel, message: dict[str, Any]) -> None:
    """Write one message, waiting until all of it is taken."""
    left = memoryview(frame(message))
    while left:
        left = left[os.write(channel.answers, left) :]


def _exactly(channel: Channel, n: int) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        part = os.read(channel.orders, min(n - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def receive(channel: Channel) -> dict[str, Any]:
    """Read one message, waiting for it.

    Raises:
        EOFError: the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    message: dict[str, Any] = json.loads(_exactly(channel, length))
    return message
