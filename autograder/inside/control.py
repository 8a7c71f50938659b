"""The control protocol between host and sandbox, written once for both sides.

JSON behind a length of four bytes:

  to main:    {"files": …, "home": …} first, then {"run": source, …} for each cell, or, with the
              socket to answer on, {"inside": source, "token": …, …}
  from main:  {"stream": "stdout" | "stderr", "text": …}, {"display" | "result": data, …},
              {"clear": true}, {"error": [name, value, traceback]}, and at the end of a cell
              {"done": true, …}

The side inside waits for whole messages; the host, which trusts none of them, takes them from a
buffer, with a cap.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

from autograder.job import Limits

__all__ = ["BadMessage", "frame", "receive", "receive_along", "send", "take"]

_LENGTH = struct.Struct("!I")
_SLACK = 1 << 16


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


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Write one message, waiting until all of it is taken."""
    connection.sendall(frame(message))


def _exactly(connection: socket.socket, n: int) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        part = connection.recv(n - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Read one message, waiting for it.

    Raises:
        EOFError: the other side is gone.
    """
    return receive_along(connection)[0]


def receive_along(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read one message, and the file descriptors that came along.

    Raises:
        EOFError: the other side is gone.
    """
    head, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
    if not head:
        raise EOFError
    head += _exactly(connection, _LENGTH.size - len(head))
    (length,) = _LENGTH.unpack(head)
    message: dict[str, Any] = json.loads(_exactly(connection, length))
    return message, fds
