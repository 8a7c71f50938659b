"""The files of a submission: no link is followed, nothing waited for, nothing read without end."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from autograder.job import Reason

__all__ = ["ABOUT_SUBMISSION", "Files", "Refused", "odd_name", "read_bytes", "read_files", "walk"]

FILES_BYTES = 64 * 2**20
FILES_COUNT = 1000
NAME_BYTES = 200
PATH_BYTES = 1000

#: nbgrader's own files beside a submission: no part of the work.
ABOUT_SUBMISSION = ("timestamp.txt", "submission_secret.txt")


class Refused(Exception):
    """A file or a notebook that cannot be graded: the named reason, and what was found."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def odd_name(name: str) -> str | None:
    """What is wrong with a relative path of a submission, or `None`.

    >>> odd_name("data/points.csv")
    >>> odd_name("../gradebook.db")
    "leads out of the submission ('..')"
    """
    parts = name.split("/")
    try:
        size = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "is not in UTF-8"
    if name.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leads out of the submission ('..')"
    if "" in parts or "." in parts:
        return "has an empty part"
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "has control characters"
    if size > NAME_BYTES or len(name.encode()) > PATH_BYTES:
        return "is too long"
    return None


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that is its own: no link is followed, nothing waited for.

    Raises:
        Refused: it is a link, has hard links, is not a regular file, or has more than `limit`
            bytes.
        FileNotFoundError: there is none.
    """
    try:
        # A pipe would block for ever without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "is a link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise Refused("malformed", f"{path.name} {what}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("malformed", f"{path.name} is not a regular file")
        if status.st_nlink > 1:
            raise Refused("malformed", f"{path.name} is a hard link: copy the file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise Refused("malformed", f"{path.name} is larger than {limit / 2**20:.0f} MiB")
    return data


@dataclass
class Files:
    """The files of a folder beside its notebooks: what is taken, and what is not and why."""

    taken: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What is in a folder, by relative path; no link is followed."""
    if prefix.count("/") > 20:
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from walk(Path(entry.path), f"{prefix}{entry.name}/")


def read_files(folder: Path, ignore: Iterable[str] = ()) -> Files:
    """The plain files of a submission, without its notebooks and nbgrader's own files.

    Args:
        folder: of the submission.
        ignore: patterns for names that are left out, nbgrader's `CourseDirectory.ignore`.
    """
    files = Files()
    patterns = [*ignore, "*.ipynb", *ABOUT_SUBMISSION]
    size = 0
    for name, entry in walk(folder):
        if any(fnmatch.fnmatch(part, p) for part in name.split("/") for p in patterns):
            continue
        shown = name.encode("unicode_escape").decode()[:100]
        if len(files.taken) + len(files.refused) >= FILES_COUNT:
            files.refused[name] = f"there are more than {FILES_COUNT} files"
            break
        if odd := odd_name(name):
            files.refused[name] = f"the name {shown} {odd}"
        elif not entry.is_dir(follow_symlinks=False):
            try:
                files.taken[name] = read_bytes(Path(entry.path), FILES_BYTES - size)
                size += len(files.taken[name])
            except (Refused, OSError) as error:
                files.refused[name] = str(error)
    return files
