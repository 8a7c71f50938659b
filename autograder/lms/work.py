"""What is taken of the files that somebody handed in."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from autograder.lms.archive import Archive, Member, Unread, shown
from autograder.lms.hands import Hand
from autograder.lms.notebooks import Ambiguous, Found, looks_like_notebook, notebook_of, numbered
from autograder.lms.places import Place
from autograder.prepare.files import odd_name
from autograder.prepare.source import SourceNotebook

__all__ = ["Work", "work_of"]

STUDENT_BYTES = 84 * 2**20
STUDENT_FILES = 1000
NOTEBOOK_BYTES = 20 * 2**20

_ABOUT = ("timestamp.txt", "submission_secret.txt")
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")


@dataclass
class _File:
    """A file that was read, and whether its cells make it a notebook of the assignment."""

    member: Member
    place: Place
    data: bytes
    by_cells: bool
    position: int

    @property
    def shown(self) -> str:
        """Its name, for the terminal."""
        return shown(self.place.name)


@dataclass
class Work:
    """A student's files as they will stand in the course, and where the notebooks came from."""

    files: dict[str, bytes] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    times: list[datetime] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def work_of(
    archive: Archive, hand: Hand, sources: Mapping[str, SourceNotebook], timed: bool
) -> Work:
    """One person's files: the assignment's notebooks by their own names, the others beside."""
    work = Work()
    tries: dict[str, list[_File]] = {}
    others: list[_File] = []
    found: Found | None
    room = STUDENT_BYTES
    # Notebooks first: no other file takes their room.
    order = sorted(enumerate(hand.members), key=lambda m: ".ipynb" not in m[1][1].name.lower())
    for taken, (position, (member, where)) in enumerate(order):
        name = shown(where.name)
        if taken >= STUDENT_FILES:
            work.told.append(f"{name} and all after it: more than {STUDENT_FILES} files")
            break
        try:
            data = archive.read(member, room)
            found = None
            if looks_like_notebook(where.name, data):
                if len(data) > NOTEBOOK_BYTES:
                    raise Unread(f"is larger than {NOTEBOOK_BYTES / 2**20:.0f} MiB")
                found = notebook_of(where.name, data, sources)
        except (Unread, Ambiguous) as error:
            work.told.append(f"{name} {error}; not taken")
            continue
        room -= len(data)
        one = _File(member, where, data, bool(found and found.by_cells), position)
        (tries.setdefault(found.notebook, []) if found else others).append(one)
    used = list(others)
    for notebook, several in tries.items():
        last = _last(several, sources, timed)
        work.files[f"{notebook}.ipynb"] = last.data
        work.origin[notebook] = last.member.name
        used.append(last)
        if not last.by_cells:
            work.told.append(f"{last.shown} is {notebook} by its name, not its cells")
        for other in several:
            if other is not last:
                names = f"{last.shown} counts, {other.shown} does not"
                work.told.append(f"{notebook} was handed in more than once: {names}")
    if not tries:
        work.told += [f"{name} is not opened" for one in others if _is_archive(name := one.shown)]
        return work
    if lacking := sorted(set(sources) - set(tries)):
        work.told.append(f"without the notebook {', '.join(lacking)}")
    for other in sorted(others, key=lambda one: one.position):
        _add(work, other)
    if timed:
        work.times = [one.member.time for one in used if one.member.time]
    return work


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES)


def _last(tries: list[_File], sources: Mapping[str, SourceNotebook], timed: bool) -> _File:
    """The try that counts: the latest of those that have the notebook's cells.

    Canvas numbers a file that is handed in again (`means-2.ipynb`), and all files one after the
    other. In Moodle's archives the newest counts; without times, the highest number, then the last.
    """
    sure = [one for one in tries if one.by_cells] or tries

    def copy(one: _File) -> tuple[str, int]:
        return numbered(one.place.name, sources)

    if sure[0].place.lms == "Moodle":
        epoch = datetime.fromtimestamp(0, UTC)
        return max(
            sure,
            key=lambda one: ((timed and one.member.time) or epoch, copy(one)[1], one.position),
        )
    by_number = sorted(sure, key=lambda one: (copy(one)[1], one.place.file, one.position))
    last = {copy(one)[0]: one for one in by_number}
    return max(last.values(), key=lambda one: (one.place.file, one.position))


def _add(work: Work, one: _File) -> None:
    """Puts a file beside the notebooks, if its name allows it."""
    name = unicodedata.normalize("NFC", one.place.name)
    if odd := odd_name(name):
        work.told.append(f"{shown(name)} {odd}; not taken")
        return
    if name.rpartition("/")[2].casefold() in _ABOUT:
        work.told.append(f"{shown(name)} is a name that nbgrader uses; not taken")
        return
    # A file system may not tell upper case from lower case.
    folded = {taken.casefold(): taken for taken in work.files}
    above = [str(folder).casefold() for folder in Path(name).parents]
    if any(folder in folded for folder in above) or any(
        taken.startswith(f"{name.casefold()}/") for taken in folded
    ):
        work.told.append(f"{shown(name)} is a folder and a file; not taken")
        return
    if before := folded.get(name.casefold()):
        if before.removesuffix(".ipynb") in work.origin:
            work.told.append(f"{shown(name)} has the name of the notebook; not taken")
            return
        same = "" if before == name else f" and {shown(before)}"
        work.told.append(f"{shown(name)}{same} is there more than once; the last one is taken")
        del work.files[before]
    if _is_archive(name):
        work.told.append(f"{shown(name)} is put beside, not opened")
    work.files[name] = one.data
