"""How a warm parent starts: it leaves root and imports what notebooks import, then all the rest."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import os
import select
import socket
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from autograder.inside import confine

__all__ = ["main"]


class _WithheldFinder:
    """Where no sandbox masks the files of withheld modules, keeps them from being imported."""

    def __init__(self, withheld: tuple[str, ...]) -> None:
        self._withheld = withheld

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(name == one or name.startswith(f"{one}.") for one in self._withheld):
            return None
        stub = Path(__file__).with_name("withheld.py")
        return importlib.util.spec_from_file_location(name, stub, submodule_search_locations=[])


def _end_with_host(requests: socket.socket, watch: bool) -> None:
    """Whether the end of the host ends this process at once, by a signal whose default is that.

    Bubblewrap dies with its parent, but not of one that was gone before it could ask for that.
    """
    flags = fcntl.fcntl(requests, fcntl.F_GETFL)
    fcntl.fcntl(requests, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(requests, fcntl.F_SETFL, flags | os.O_ASYNC if watch else flags & ~os.O_ASYNC)
    waiting = select.poll()
    waiting.register(requests, 0)  # a hang-up is told unasked
    if waiting.poll(0):
        os._exit(1)


def main(
    fd: int, role: str, imports: tuple[str, ...], withheld: tuple[str, ...], isolated: bool
) -> None:
    """Be a warm parent: take requests from the socket `fd` until the host closes it."""
    if isolated:
        confine.leave_root()  # starts anew, so nothing that takes long is imported before
    confine.set_dumpable(False)
    requests = socket.socket(fileno=fd)
    _end_with_host(requests, True)
    if role == "student" and not isolated:
        sys.meta_path.insert(0, _WithheldFinder(withheld))
    # A submission has one core, whatever number its author had and wrote into it.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    try:
        for name in imports:
            importlib.import_module(name)
        # Only now, because it takes torch if that is among what has been imported.
        from autograder.inside.main import serve, warm_up

        warm = warm_up(role, imports)
    except Exception as error:
        requests.send(f"error {type(error).__name__}: {error}".encode()[:4000])
        return
    _end_with_host(requests, False)  # what comes now are requests
    serve(requests, role, isolated, warm)
