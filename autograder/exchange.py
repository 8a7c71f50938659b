"""nbgrader's exchange, for what students put there: no link is followed, no name is trusted.

`autograder.install` puts `Collect` where nbgrader looks for it. `python -m autograder watch`
collects by what `arrivals` makes, and gives feedback back by what `release` makes. A course may
have set an exchange of another kind (`c.ExchangeFactory`), such as ngshare; it is used as it is.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import pwd
import shutil
import stat
import tempfile
import time
from collections.abc import Set
from pathlib import Path
from typing import Any

from nbgrader.coursedir import CourseDirectory
from nbgrader.exchange import ExchangeFactory
from nbgrader.exchange.default import ExchangeCollect, ExchangeReleaseFeedback
from traitlets.config import Config

from autograder.prepare.files import ABOUT_SUBMISSION, Refused, odd_name, read_bytes, walk

__all__ = ["Arrivals", "Collect", "Served", "arrivals", "release"]

STILL = 5.0
"""Seconds in which nobody has touched a submission that is handed in."""


class Collect(ExchangeCollect):  # type: ignore[misc]
    """nbgrader's, of plain files only: no links, hard links, pipes or devices.

    A submission arrives in the course's folder whole or not at all, and one whose name cannot be
    read stops nobody.
    """

    src_records: list[dict[str, Any]]

    def _path_to_record(self, path: str) -> dict[str, Any]:
        name = Path(path).name
        try:
            record: dict[str, Any] = super()._path_to_record(path)
            self._check(Path(path), record["username"])
        except (ValueError, OverflowError, TypeError) as error:
            self._refuse(name, error)
            return {"username": None, "filename": name, "timestamp": datetime.datetime.min}
        return record

    def _check(self, path: Path, student: str) -> None:
        """Raises a ValueError if a submission cannot be the student's in its name."""
        if odd := odd_name(student):
            raise ValueError(f"the student's name {odd}")

    def _refuse(self, name: str, why: object) -> None:
        self.log.warning("Not collected: %r: %s", name, why)

    def init_src(self) -> None:
        """Finds each student's submission."""
        super().init_src()
        self.src_records = [found for found in self.src_records if found["username"] is not None]

    def do_copy(self, src: str, dest: str, log: Any = None) -> None:
        """Copies what is plain; names the rest in the log."""
        most = 1000 * int(self.coursedir.max_file_size)
        if Path(src).is_symlink():
            self.log.warning("Not collected: %s is a link", src)
            return
        with tempfile.TemporaryDirectory(prefix="autograder-") as folder:
            plain = Path(folder, "plain")
            plain.mkdir()
            for name, entry in walk(Path(src)):
                path = plain / name
                if entry.is_dir(follow_symlinks=False):
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                try:
                    data = read_bytes(Path(entry.path), most)
                except (Refused, OSError) as error:
                    self.log.warning("Not collected from %s: %s", src, error)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            beside = Path(dest).with_name(f".{Path(dest).name}.new")
            shutil.rmtree(beside, ignore_errors=True)
            super().do_copy(str(plain), str(beside), log)
            beside.rename(dest)


class Arrivals(Collect):
    """What has newly arrived, where no instructor looks on.

    A submission in another's name is not collected, and what is wrong with one stops no other.

    Attributes:
        wanted: the names, in the exchange, of what may be collected.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.update = True
        self.wanted: Set[str] = frozenset()

    def arrived(self, known: Set[str]) -> Set[str]:
        """The names of what is handed in of the assignment, and no longer written, but `known`.

        Raises:
            ExchangeError: the course has no exchange here.
        """
        inbound = Path(self.root, self.coursedir.course_id, "inbound")
        if not inbound.is_dir():
            self.fail(f"there is no folder {inbound}: nbgrader release_assignment makes it")
        paths = inbound.glob(f"*+{glob.escape(self.coursedir.assignment_id)}+*")
        latest = time.time() - STILL
        self.wanted = {p.name for p in paths if p.name not in known and _touched(p) < latest}
        return self.wanted

    def init_src(self) -> None:
        """Finds each student's submission, if it is among those wanted."""
        super().init_src()
        self.src_records = [found for found in self.src_records if found["filename"] in self.wanted]

    def _check(self, path: Path, student: str) -> None:
        super()._check(path, student)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise ValueError("it is not a folder")
        try:
            owner = pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            owner = "nobody known"
        if self.check_owner and owner != student:
            raise ValueError(
                f"it belongs to {owner} (where students' accounts have other names: "
                "c.ExchangeCollect.check_owner = False)"
            )

    def _refuse(self, name: str, why: object) -> None:
        if name in self.wanted:  # the others have been named before
            super()._refuse(name, why)

    def copy_files(self) -> None:
        """Copies what is new, one by one."""
        records = self.src_records
        for record in records:
            self.src_records = [record]
            try:
                super().copy_files()
            except Exception as error:  # whatever it is, it concerns this submission only
                self.log.error("Not collected: %r: %s", record["filename"], error)


def _touched(path: Path) -> float:
    """When a folder or something in it was last written, moved or given other permissions.

    Nothing else tells that a submission is still being copied: nbgrader writes its timestamp before
    its files may be read.
    """
    newest = 0.0
    with contextlib.suppress(OSError):  # it has gone, or may not be read: collecting it tells so
        newest = path.lstat().st_ctime
        if path.is_dir() and not path.is_symlink():
            for _, entry in walk(path):
                newest = max(newest, entry.stat(follow_symlinks=False).st_ctime)
    return newest


class Served:
    """What has newly arrived in an exchange of another kind, by the course's own way to collect.

    Such an exchange is a service, which knows who hands in, and has only what is handed in whole.
    """

    def __init__(self, collect: Any) -> None:
        self._collect = collect
        self._collect.update = True

    def arrived(self, known: Set[str]) -> Set[str]:
        """What the service has of the assignment, in its own words, but `known`.

        Raises:
            ExchangeError: the service does not answer.
        """
        self._collect.init_src()
        return {repr(record) for record in self._collect.src_records} - known

    def start(self) -> None:
        """Collects what is newer than what is there."""
        self._collect.start()


def arrivals(config: Config, directory: CourseDirectory, log: Any) -> Arrivals | Served:
    """What newly arrives of an assignment, in the exchange that the course has set."""
    factory = ExchangeFactory(config=config)
    if issubclass(factory.collect, ExchangeCollect):
        return Arrivals(coursedir=directory, config=config, log=log)
    return Served(factory.Collect(coursedir=directory, config=config, log=log))


def release(config: Config, directory: CourseDirectory, folder: Path, log: Any) -> None:
    """Puts the feedback in a student's folder into the exchange that the course has set.

    Where a student would not find it there, it stays in the folder: what came by another way has no
    time of submission, or, in nbgrader's own exchange, no secret.

    Raises:
        ExchangeError: the exchange does not take it.
    """
    kind: Any = ExchangeFactory(config=config).release_feedback

    class Release(kind):  # type: ignore[misc]
        """The course's own, of a folder whose name may be anything, where that takes a pattern."""

        def init_src(self) -> None:
            self.src_path = glob.escape(str(folder))

    needed = ABOUT_SUBMISSION if issubclass(kind, ExchangeReleaseFeedback) else ABOUT_SUBMISSION[:1]
    if all((folder / name).is_file() for name in needed):
        Release(coursedir=directory, config=config, log=log).start()
