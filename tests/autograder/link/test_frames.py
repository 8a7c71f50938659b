"""`autograder.link.frames`: whole messages, and only named errors whatever comes."""

from __future__ import annotations

import json
import random
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from autograder.link.errors import LinkClosed, Tampered, TooLarge, WireError
from autograder.link.frames import Caps, Link
from autograder.link.values import Decoder

SMALL = Caps(header=2**16, payload=2**20, items=1000, depth=20, blobs=100)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Link]]:
    ours, theirs = socket.socketpair()
    link = Link(theirs, SMALL)
    theirs.settimeout(10)
    yield ours, link
    ours.close()
    link.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[socket.socket, Link]) -> None:
    ours, link = ends
    sender = Link(ours, SMALL)
    blobs = [b"", b"a" * 300_000, b"b"]
    thread = threading.Thread(target=lambda: [sender.send(["t", i], blobs) for i in range(3)])
    thread.start()
    for i in range(3):
        tree, got = link.receive()
        assert tree == ["t", i]
        assert [bytes(blob) for blob in got] == blobs
    thread.join()


def test_a_message_beyond_the_caps_is_not_sent(ends: tuple[socket.socket, Link]) -> None:
    ours, _ = ends
    with pytest.raises(TooLarge):
        Link(ours, SMALL).send(None, [b"x" * 2**21])
    with pytest.raises(TooLarge):
        Link(ours, SMALL).send(["," * 3000], [])
    ours.setblocking(False)
    Link(ours, SMALL).send(None, [])  # the link is still good


def frame(header: Any, payload: bytes = b"", lie: int = 0) -> bytes:
    head = header if type(header) is bytes else json.dumps(header).encode()
    return struct.pack(">4sIQ", b"AGw1", len(head), len(payload) + lie) + head + payload


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">4sIQ", b"AGw1", 2**32 - 1, 0),
        struct.pack(">4sIQ", b"AGw1", 2, 2**63),
        frame(b"\xff\xfe"),
        frame(b"[" * 60_000),
        frame(b"[[" + b"1," * 30_000 + b"1],[]]"),
        frame(b'{"a": 1}'),
        frame([1]),
        frame([1, 2]),
        frame([1, [-1, 1]]),
        frame([1, [True]]),
        frame([1, [5]], b"abc"),
        frame([1, [0] * 200]),
        frame(b"[" + b"9" * 5000 + b",[]]"),
        frame(b"[\"__import__('os')\",[1]]"),
    ],
)
def test_a_false_frame_is_tampering(ends: tuple[socket.socket, Link], data: bytes) -> None:
    ours, link = ends
    ours.sendall(data)
    with pytest.raises(Tampered):
        link.receive()


def test_a_frame_that_ends_early_is_a_closed_link(ends: tuple[socket.socket, Link]) -> None:
    ours, link = ends
    ours.sendall(frame([1, [10]], b"abc", lie=7))
    ours.close()
    with pytest.raises(LinkClosed):
        link.receive()


def test_random_bytes_give_a_named_error_and_take_no_memory() -> None:
    rng = random.Random(0)
    good = frame(["l", 1, ["T", "float32", [2], None, 0]], b"\x00" * 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(400):
        data = bytearray(good if i % 2 else rng.randbytes(rng.randrange(1, 200)))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if i % 4 < 2:
            data[:4] = b"AGw1"
        ours, theirs = socket.socketpair()
        link = Link(theirs)
        theirs.settimeout(5)
        ours.sendall(data)
        ours.close()
        try:
            tree, blobs = link.receive()
            Decoder(blobs).decode(tree)
        except WireError:
            pass
        finally:
            link.close()
    # A header may claim half a gigabyte; nothing near that is touched (ru_maxrss is in KiB).
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
