"""Whatever file of the book holds a solution is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("marker", ["BEGIN SOLUTION", "BEGIN HIDDEN TESTS", "BEGIN MARK SCHEME"])
def test_a_page_with_a_solution_is_named_and_so_is_its_source(
    build: Callable[..., Any], marker: str
) -> None:
    page = f"# Exercise\n\n```python\n### {marker}\nz = 1\n```\n"
    files = {"index.md": "# Title\n\n```{toctree}\nexercise\n```\n", "exercise.md": page}
    built = build(files, "book.no_solutions")
    assert f"'{marker}' in exercise.html" in built.warnings
    assert f"'{marker}' in _sources/exercise.md.txt" in built.warnings
    assert "index.html" not in built.warnings


def test_a_file_of_any_kind_is_searched(build: Callable[..., Any], tmp_path: Any) -> None:
    binary = "PK\x00 ### BEGIN SOLUTION \x00"
    files = {"index.md": "# Title\n", "extra/exercise.bin": binary}
    built = build(files, "book.no_solutions", html_extra_path=["extra"])
    assert "in exercise.bin" in built.warnings


def test_a_book_without_solutions_is_fine(build: Callable[..., Any]) -> None:
    assert build({"index.md": "# A solution begins\n"}, "book.no_solutions").warnings == ""
