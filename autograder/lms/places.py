"""Reads from the name of an archive's file whose it is.

Moodle (`mod/assign/classes/downloader.php`) writes a folder for each student,
`Full Name_123456_assignsubmission_file_/means.ipynb`, without the last underscore since 4.1, or, as
the teacher likes, no folders: `Full Name_123456_assignsubmission_file_means.ipynb`. The full name
holds no underscore. The number is the participant's in this one assignment.

Canvas (`lib/content_zipper.rb`) writes `lovelaceada_LATE_12345_67890_means-2.ipynb`: the name as it
is sorted, the mark of a late one, the user's number, the file's number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["LMS", "Place", "place"]

LMS = Literal["Moodle", "Canvas"]

_MOODLE = re.compile(
    r"(?P<who>[^_]+)_(?P<number>[0-9]+)_assignsubmission_[a-z]+(?:_(?P<flat>.*))?", re.DOTALL
)
_CANVAS = re.compile(
    r"(?P<who>.*?)_(?P<late>LATE_)?(?P<number>[0-9]+)_"
    r"(?:(?P<file>[0-9]+)_(?P<name>.+)|(?P<text>(?:text|link)\.html))",
    re.DOTALL,
)
# Here the student's own part of the name could look like a user's number.
_ANONYMOUS = re.compile(
    r"(?P<late>LATE_)?(?P<number>anon_[^_]+)_(?P<file>[0-9]+)_(?P<name>.+)", re.DOTALL
)


@dataclass(frozen=True)
class Place:
    """Where a file belongs.

    Attributes:
        lms: that packed the archive.
        number: of the student in the LMS.
        who: the student's name, as the LMS has written it.
        prefix: what the LMS has put before the file's own name, folders included.
        name: the file's own name, folders included.
        file: its number in Canvas, which grows with time.
        late: whether Canvas marks it so.
    """

    lms: LMS
    number: str
    who: str
    prefix: str
    name: str
    file: int = 0
    late: bool = False


def place(name: str) -> Place | None:
    """Where the file of this name in an archive belongs; `None` where neither LMS writes such.

    >>> place("Ada Lovelace_17_assignsubmission_file_/data/means.ipynb").name
    'data/means.ipynb'
    >>> place("lovelaceada_LATE_12345_67890_means-2.ipynb").number
    '12345'
    """
    parts = name.split("/")
    # Somebody may have packed the archive again, with a folder around.
    for position, part in enumerate(parts):
        if match := _MOODLE.fullmatch(part):
            rest = "/".join(parts[position + 1 :])
            flat = match["flat"] or ""
            own = f"{flat}/{rest}" if flat and rest else flat or rest
            whole = "/".join(parts[position:])
            prefix = whole.removesuffix(own)
            return Place("Moodle", match["number"], match["who"], prefix, own) if own else None
    match = _ANONYMOUS.fullmatch(parts[-1]) or _CANVAS.fullmatch(parts[-1])
    if match is None:
        return None
    found = match.groupdict()
    own = found["name"] or found["text"]
    return Place(
        "Canvas",
        found["number"],
        found.get("who") or found["number"],
        parts[-1].removesuffix(own),
        own,
        int(found["file"] or 0),
        found["late"] is not None,
    )
