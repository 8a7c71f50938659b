"""Writes files and folders whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["exchange", "scratch", "write"]


def write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: beside, to the disk, then renamed.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def scratch(folder: Path) -> Path:
    """An empty folder; what was there before is removed."""
    if folder.exists():
        for path, _, _ in os.walk(folder):
            Path(path).chmod(0o700)
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def exchange(new: Path, old: Path) -> None:
    """Puts the folder `new` in the place of `old`, at once where the system can (Linux).

    What was `old` is then at `new`. Elsewhere, as on NFS, `old` is away for an instant: where a run
    is killed just then, it is missing, and the next run writes it again.
    """
    old.parent.mkdir(parents=True, exist_ok=True)
    if not old.exists() and not old.is_symlink():
        new.rename(old)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if hasattr(libc, "renameat2") and (
        libc.renameat2(here, os.fsencode(new), here, os.fsencode(old), swap) == 0
    ):
        return
    away = new.with_name(new.name + ".old")
    shutil.rmtree(away, ignore_errors=True)  # of a run that was killed
    old.rename(away)
    try:
        new.rename(old)
    except BaseException:
        away.rename(old)
        raise
    away.rename(new)
