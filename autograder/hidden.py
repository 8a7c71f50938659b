"""Which lines of a cell are hidden from students: those between two marks, and the marks."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["hidden_lines", "strip_hidden"]


def strip_hidden(
    source: str, begin: str = "BEGIN HIDDEN TESTS", end: str = "END HIDDEN TESTS"
) -> str:
    r"""A cell's source without its hidden tests, as nbgrader releases it.

    >>> strip_hidden("a\n### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\nc")
    'a\nc'
    """
    return "\n".join(line for line, hidden in hidden_lines(source, begin, end) if not hidden)


def hidden_lines(source: str, begin: str, end: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it belongs to a hidden test (its marks do)."""
    inside = False
    for line in source.split("\n"):
        marks = begin in line or end in line
        if marks:
            inside = begin in line
        yield line, inside or marks
