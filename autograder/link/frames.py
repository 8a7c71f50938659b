"""Frames over a socket: a magic word, two sizes, a header and a payload.

The header is JSON, the tree of a value and the sizes of its blobs; the payload is the blobs, one
after the other. Sizes are checked before memory is taken.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from autograder.link.errors import LinkClosed, Tampered, TooLarge
from autograder.link.pipes import Pipes

__all__ = ["Caps", "Link"]


@dataclass(frozen=True)
class Caps:
    """What one message may hold."""

    header: int = 8 * 2**20  # bytes of JSON
    payload: int = 512 * 2**20  # bytes of all blobs together
    items: int = 400_000  # values, counted at every depth
    depth: int = 64  # of containers in containers
    blobs: int = 20_000


_FRAME = struct.Struct(">4sIQ")
_MAGIC = b"AGw1"


def _values(header: bytes) -> int:
    # Each value needs a comma or a bracket before it, so this bounds what parsing allocates.
    return header.count(b",") + header.count(b"[") + header.count(b"{")


class Link:
    """Frames over a connected socket or pipes, each side's turn in alternation."""

    def __init__(self, sock: socket.socket | Pipes, caps: Caps | None = None) -> None:
        self.sock = sock
        self.caps = caps or Caps()

    def send(self, tree: Any, blobs: list[bytes]) -> None:
        """Send one message.

        Raises:
            TooLarge: nothing was sent.
            LinkClosed: there is no other side any more.
        """
        header = json.dumps([tree, [len(blob) for blob in blobs]], separators=(",", ":")).encode()
        payload = sum(map(len, blobs))
        caps = self.caps
        if len(header) > caps.header or payload > caps.payload or len(blobs) > caps.blobs:
            raise TooLarge(
                f"{len(header) + payload} bytes in {len(blobs)} pieces are more than may cross "
                "between a submission and its tests"
            )
        if _values(header) > 2 * caps.items:
            raise TooLarge("more values than may cross between a submission and its tests")
        head = _FRAME.pack(_MAGIC, len(header), payload) + header
        pieces = [head + b"".join(blobs)] if payload < 2**16 else [head, *blobs]
        try:
            for piece in pieces:
                self.sock.sendall(piece)
        except OSError as error:
            raise LinkClosed(f"the other side is gone ({error})") from None

    def receive(self) -> tuple[Any, list[memoryview]]:
        """The next message: the tree, not yet decoded, and its blobs.

        Raises:
            Tampered: it is not a message, or beyond the caps.
            LinkClosed: there is no other side any more.
        """
        magic, n_header, n_payload = _FRAME.unpack(self._receive(_FRAME.size))
        if magic != _MAGIC:
            raise Tampered("not a message of this protocol")
        if n_header > self.caps.header or n_payload > self.caps.payload:
            raise Tampered(f"a message of {n_header + n_payload} bytes is larger than allowed")
        header = bytes(self._receive(n_header))
        if _values(header) > 2 * self.caps.items:
            raise Tampered("a message with more values than allowed")
        try:
            tree, sizes = json.loads(header)
        except (ValueError, TypeError, RecursionError) as error:
            raise Tampered(f"a header of the wrong form: {error}"[:200]) from None
        if type(sizes) is not list or len(sizes) > self.caps.blobs:
            raise Tampered("a header of the wrong form")
        if not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) != n_payload:
            raise Tampered("sizes of blobs that do not add up")
        payload = self._receive(n_payload)
        blobs, start = [], 0
        for size in sizes:
            blobs.append(payload[start : start + size])
            start += size
        return tree, blobs

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _receive(self, n: int) -> memoryview:
        # np.empty does not touch the pages: a lying size costs address space, not memory.
        view = memoryview(np.empty(n, np.uint8))  # type: ignore[arg-type]
        got = 0
        try:
            while got < n:
                size = self.sock.recv_into(view[got:])
                if size == 0:
                    raise LinkClosed("the other side is gone")
                got += size
        except OSError as error:
            raise LinkClosed(f"the other side is gone ({error})") from None
        return view
