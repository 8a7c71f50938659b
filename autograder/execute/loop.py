"""Waits for whatever a job's processes send, and hands it to where it belongs."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from typing import Any, Protocol

__all__ = ["LOOK_SECONDS", "Loop", "Sink", "Source"]

LOOK_SECONDS = 0.1  # a condition that no message changes is looked at so often


class Source(Protocol):
    """What can be waited for."""

    def readable(self) -> list[int]:
        """The file descriptors to watch for input."""

    def writable(self) -> list[int]:
        """Those to watch for room."""

    def read(self, fd: int) -> Iterator[dict[str, Any]]:
        """What can be read now: checked messages."""

    def write(self) -> None:
        """Write what is queued."""


class Sink(Protocol):
    """What takes messages."""

    def add(self, message: dict[str, Any]) -> None:
        """Take one."""


class Loop:
    """Serves sources until something has happened.

    Attributes:
        sinks: where the messages of each source go; nowhere for `None`.
    """

    def __init__(self, *sources: Source) -> None:
        self.sinks: dict[Source, Sink | None] = dict.fromkeys(sources)

    def until(self, condition: Callable[[], bool], left: Callable[[], float]) -> bool:
        """Serve all until the condition holds; `False` if no seconds are left before."""
        while not condition():
            seconds = left()
            if seconds <= 0:
                return False
            self._serve(min(seconds, LOOK_SECONDS))
        return True

    def _serve(self, seconds: float) -> None:
        waiting = select.poll()
        owners: dict[int, Source] = {}
        for source in self.sinks:
            for fd in source.readable():
                waiting.register(fd, select.POLLIN)
                owners[fd] = source
            for fd in source.writable():
                waiting.register(fd, select.POLLOUT)
                owners[fd] = source
        for fd, _ in waiting.poll(seconds * 1000):
            source = owners[fd]
            if fd in source.writable():
                source.write()
            elif fd in source.readable():
                for message in source.read(fd):
                    sink = self.sinks[source]
                    if sink is not None:
                        sink.add(message)
