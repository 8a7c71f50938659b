"""The section to read: found where the book lies, and in the page that is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vae_exercises.section import Section

from .tasks import TASKS

ROOT = Path(__file__).parents[2]
SECTION = Section("kl", "KL divergence", "The closed form, line by line")


@pytest.mark.parametrize("book", ["book", "_build/html"])
def test_the_nearest_book_above_is_opened(
    book: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / book / "chapters" / "kl.html"
    page.parent.mkdir(parents=True)
    page.touch()
    work = tmp_path / "3-kl"
    work.mkdir()
    monkeypatch.chdir(work)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    SECTION.open()
    assert opened == [f"{page.as_uri()}#the-closed-form-line-by-line"]
    assert opened[0] in capsys.readouterr().out


def test_without_a_book_its_name_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda address: pytest.fail("nothing to open"))
    SECTION.open()
    assert "“The closed form, line by line”: the book, book/index.html" in capsys.readouterr().out


@pytest.mark.parametrize("name", TASKS)
def test_the_built_page_has_the_section(name: str) -> None:
    section = TASKS[name]._section
    page = ROOT / "_build" / "html" / "chapters" / f"{section.page}.html"
    if not page.exists():
        pytest.skip("the book is not built")
    assert re.search(rf'id="{re.escape(section.anchor)}"', page.read_text("utf-8"))
