"""Finds an assignment's notebooks among files, whatever they are called now."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from autograder.prepare.files import Refused
from autograder.prepare.notebook import parse
from autograder.prepare.source import SourceNotebook

__all__ = ["Ambiguous", "Found", "key", "looks_like_notebook", "notebook_of", "numbered"]

#: A notebook is the assignment's if it has this share of the cells that nbgrader knows.
SHARE = 0.5

_ENDINGS = re.compile(r"(\.ipynb|\.json|\.txt)+$", re.IGNORECASE)
_COPY = re.compile(r"(\s+-\s+(copy|copie|kopie|copia)|\s+copy)$", re.IGNORECASE)
_NUMBER = re.compile(r"(?:-|\s*\()([0-9]{1,6})\)?$")


class Ambiguous(Exception):
    """A file may be either of two notebooks."""


def key(text: str) -> str:
    """A name without what an LMS, a browser or a file system changes in it.

    >>> key("Lovelace, Ada") == key("lovelaceada")
    True
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


@dataclass(frozen=True)
class Found:
    """The notebook of an assignment that a file is, and whether its cells say so."""

    notebook: str
    by_cells: bool


def numbered(name: str, known: Collection[str] = ()) -> tuple[str, int]:
    """A file's name without endings and marks of a copy, and the number of the copy.

    >>> numbered("means-2.ipynb"), numbered("means (1) - Copy.ipynb.txt"), numbered("means.json")
    (('means', 2), ('means', 1), ('means', 0))
    >>> numbered("set-1.ipynb", known=["set-1"])
    ('set-1', 0)
    """
    stem = _ENDINGS.sub("", name.rpartition("/")[2])
    number = 0
    while stem not in known:
        shorter = _COPY.sub("", stem)
        if match := _NUMBER.search(shorter):
            number = number or int(match[1])
            shorter = shorter[: match.start()]
        if shorter in (stem, ""):
            break
        stem = shorter
    return stem, number


def looks_like_notebook(name: str, data: bytes) -> bool:
    """Whether a file is a notebook or should be one: by its name, or by how it begins."""
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return ".ipynb" in name.lower() or (start.startswith(b"{") and b'"nbformat"' in data)


def notebook_of(name: str, data: bytes, sources: Mapping[str, SourceNotebook]) -> Found | None:
    """Which notebook of the assignment a file is, if any: by its cells, else by its name.

    Raises:
        Ambiguous: it has as many cells of one as of another, and the name of neither.
    """
    stem = key(numbered(name, sources)[0])
    named = [source for source in sources if key(source) == stem]
    found = _grade_ids(data)
    shares = {}
    for source in sources.values():
        known = {cell.name for cell in source.cells}
        if known and len(known & found) >= SHARE * len(known):
            shares[source.name] = len(known & found)
    best = [source for source, share in shares.items() if share == max(shares.values())]
    if len(best) > 1:
        best = [source for source in best if source in named]
        if not best:
            raise Ambiguous(f"may be {' or '.join(sorted(shares))}")
    if best:
        return Found(best[0], by_cells=True)
    return Found(named[0], by_cells=False) if named else None


def _grade_ids(data: bytes) -> set[str]:
    """The names of nbgrader's cells in a notebook; none where it cannot be read."""
    try:
        record = parse(data)
        sheets = record.get("worksheets") or [record]
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        ids = [cell.get("metadata", {}).get("nbgrader", {}).get("grade_id") for cell in cells]
    except (Refused, AttributeError, TypeError, KeyError):
        return set()
    return {name for name in ids if isinstance(name, str)}
