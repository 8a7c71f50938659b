"""`autograder.inside.start`: a warm parent outlives what becomes of its forks."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from autograder.execute.sandbox import environment
from autograder.job import Limits

NO_ROOM_AT_FIRST = """
import errno, os, sys
from autograder.inside.start import main
fork = os.fork
def no_room():
    os.fork = fork
    raise OSError(errno.EAGAIN, "no room for another process")
os.fork = no_room
main(int(sys.argv[1]), "tests", (), (), False)
"""


def asked(requests: socket.socket) -> bytes:
    """The first word of the fork that is asked for; nothing where there is none."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(8)]
    request = json.dumps(asdict(Limits())).encode()
    socket.send_fds(requests, [request], [theirs.fileno() for _, theirs in pairs])
    for _, theirs in pairs:
        theirs.close()
    status, _ = pairs[-1]
    status.settimeout(30)
    word = status.recv(100)
    for ours, _ in pairs:
        ours.close()
    return word


def test_a_fork_that_fails_is_the_end_of_one_submission() -> None:
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    requests.settimeout(60)
    with requests, theirs:
        parent = subprocess.Popen(
            [sys.executable, "-c", NO_ROOM_AT_FIRST, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=environment("tests") | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        theirs.close()
        try:
            assert requests.recv(5000) == b"ready"
            assert asked(requests) == b""
            assert asked(requests) == b"init"
        finally:
            requests.close()
            assert parent.wait(30) == 0
