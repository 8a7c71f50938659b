"""A page links the book's files where they are, and names the commands where they are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from book import formats


def said(page: str) -> str:
    place = re.search(r'<p class="formats">(.*?)</p>', page)
    assert place
    return place[1]


def test_a_link_is_there_when_the_file_is(build: Callable[..., Any]) -> None:
    files = {"index.md": "# Title\n\n{doc}`a/b`\n", "a/b.md": "# B\n\n```{formats}\n```\n"}
    built = build(files, "book.formats")
    assert "href" not in said(built.page("a/b"))
    assert "make pdf" in said(built.page("a/b"))
    assert "make epub" in said(built.page("a/b"))
    (built.html / "book.epub").write_bytes(bytes(2_600_000))
    formats.update(built.html)
    assert 'href="../book.epub"' in said(built.page("a/b"))
    assert "3 MB" in said(built.page("a/b"))
    assert "make pdf" in said(built.page("a/b"))
    built = build(files | {"a/b.md": "# C\n\n```{formats}\n```\n"}, "book.formats")
    assert 'href="../book.epub"' in said(built.page("a/b"))  # a page that is written later
    (built.html / "book.epub").unlink()
    formats.update(built.html)
    assert "href" not in said(built.page("a/b"))
