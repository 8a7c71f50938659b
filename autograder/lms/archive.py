"""Reads an archive that an LMS packed, of files that students named and made.

Nothing is ever written under a name that an archive says. What is not a plain file, what cannot be
read, and what is too large is named with the reason, and is not taken.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from autograder.course import CourseError

__all__ = ["Archive", "Member", "Unread", "shown"]

ENTRIES = 50_000
ALL_BYTES = 16 * 2**30
FILE_BYTES = 64 * 2**20

#: From this size on, a file that was packed smaller than 1:RATIO is taken for a bomb.
RATIO_FROM = 2**20
RATIO = 200

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_UNIX_TIMES = 0x5455
_UNSET = datetime(1980, 1, 1)


class Unread(Exception):
    """Why a file of an archive is not taken."""


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name with `/` between folders, and when it was changed (UTC)."""

    name: str
    info: zipfile.ZipInfo
    time: datetime | None

    @property
    def problem(self) -> str | None:
        """Why it is not taken, as far as this can be said without reading it."""
        info = self.info
        parts = self.name.split("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if self.name.startswith("/") or parts[0][1:2] == ":":
            return "has an absolute name"
        if ".." in parts:
            return "has a name that leads out of the archive ('..')"
        if "\0" in info.orig_filename:
            return "has control characters in its name"
        if kind not in (0, stat.S_IFREG):
            return "is a link" if kind == stat.S_IFLNK else "is not a regular file"
        if info.flag_bits & _ENCRYPTED:
            return "is encrypted"
        if info.compress_type not in _METHODS:
            return "is packed by a method that is not read here"
        if info.file_size > FILE_BYTES:
            return f"is larger than {FILE_BYTES / 2**20:.0f} MiB"
        if info.file_size > RATIO_FROM and info.file_size > RATIO * info.compress_size:
            return f"is packed smaller than 1:{RATIO}, as a zip bomb is"
        return None


class Archive:
    """An LMS's zip file, to be used in a `with` statement.

    Attributes:
        path: of it.
        members: its files, in their order.

    Raises:
        CourseError: there is no such file, it is not a zip file, or it is too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise CourseError(f"there is no archive {path}") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
            raise CourseError(f"{path} is not a zip file, or is not complete") from None
        except OSError as error:
            raise CourseError(f"{path} cannot be read: {error.strerror}") from None
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        if problem := _too_large(infos):
            self._zip.close()
            raise CourseError(f"{path} holds {problem}")
        self.members = [member for info in infos if not _is_junk((member := _member(info)).name)]

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    @property
    def times_are_of_packing(self) -> bool:
        """Whether the times tell when the LMS packed the archive, not when students handed in.

        Moodle since 4.1 and Canvas give each file the time at which it enters the archive. Then the
        times never go back from one file to the next, and all are of one day.
        """
        times = [member.time for member in self.members if member.time]
        return times == sorted(times) and (not times or times[-1] - times[0] < timedelta(days=1))

    def read(self, member: Member, limit: int) -> bytes:
        """The bytes of a file.

        Raises:
            Unread: it is not taken, or is larger than `limit` bytes, whatever it claims.
        """
        if problem := member.problem:
            raise Unread(problem)
        try:
            with self._zip.open(member.info) as file:
                data = file.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
            raise Unread("is damaged in the archive") from None
        if len(data) > limit:
            raise Unread("does not fit: there are more or larger files than a student may hand in")
        return data


def _too_large(infos: list[zipfile.ZipInfo]) -> str | None:
    """Which limit an archive exceeds, if any."""
    if len(infos) > ENTRIES:
        return f"more than {ENTRIES:,} files"
    if sum(info.file_size for info in infos) > ALL_BYTES:
        return f"files of more than {ALL_BYTES / 2**30:.0f} GiB together"
    return None


def _member(info: zipfile.ZipInfo) -> Member:
    return Member(info.filename.replace("\\", "/"), info, _time(info))


def _is_junk(name: str) -> bool:
    """Whether macOS or Windows added it when somebody packed the archive again."""
    last = name.rpartition("/")[2]
    return "__MACOSX" in name.split("/") or last in (".DS_Store", "Thumbs.db", "desktop.ini")


def _time(info: zipfile.ZipInfo) -> datetime | None:
    """When a file was changed, in UTC; a time without a zone is taken for this machine's."""
    for kind, data in _extra(info.extra):
        if kind == _UNIX_TIMES and len(data) >= 5 and data[0] & 1:
            return datetime.fromtimestamp(struct.unpack("<i", data[1:5])[0], UTC)
    try:
        local = datetime(*info.date_time)
    except ValueError:
        return None
    return None if local == _UNSET else local.astimezone(UTC)


def _extra(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        kind, size = struct.unpack("<HH", data[:4])
        yield kind, data[4 : 4 + size]
        data = data[4 + size :]


def shown(text: str, width: int = 100) -> str:
    """A text that students wrote, for the terminal: short, and without what would drive it."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"
