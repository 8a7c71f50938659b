"""Tries in a sandbox what a fork of a warm parent does there, and says what fails."""

from __future__ import annotations

import os
import sys

from autograder.inside import confine

__all__ = ["main"]


def main() -> None:
    """Shut a fork in; the exit code says whether that works, and standard error what does not."""
    try:
        confine.leave_root()
        confine.enter_namespaces()
        pid = os.fork()
    except OSError as error:
        sys.exit(f"no user namespaces inside it: {error}")
    if pid == 0:
        try:
            confine.mount_private(2**20)
            confine.drop_privileges(network=False)
        except OSError as error:
            os.write(2, f"no file systems inside it: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
