"""Two pipes that are used as one socket is: one to read from, one to write to.

A socket belongs to the network namespace that it was made in, and by it a submission would reach
the host's; a pipe belongs to none.
"""

from __future__ import annotations

import os

__all__ = ["Pipes"]


class Pipes:
    """One end of a connection: the file descriptors to read from and to write to."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write

    @property
    def ends(self) -> list[int]:
        """Both file descriptors; none once they are closed."""
        return [fd for fd in (self._read, self._write) if fd >= 0]

    def fileno(self) -> int:
        """Of what can be read; -1 once it is closed."""
        return self._read

    def recv_into(self, buffer: memoryview) -> int:
        """Wait for bytes, and take as many as there are and fit; 0 where no more will come."""
        return os.readv(self._read, [buffer])

    def sendall(self, data: bytes | memoryview) -> None:
        """Write all of it, waiting until it is taken."""
        left = memoryview(data).cast("B")
        while left:
            left = left[os.write(self._write, left) :]

    def close(self) -> None:
        """Close both."""
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)
        self._read = self._write = -1
