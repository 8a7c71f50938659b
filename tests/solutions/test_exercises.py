"""`make lab`: the exercises are there, and nobody's work is touched."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from book.exercises import released, sources
from scripts import exercises

SOURCES = sources(exercises.ROOT)


def test_what_is_missing_is_written_as_released(tmp_path: Path) -> None:
    assert exercises.fill(tmp_path) == [source.stem for source in SOURCES]
    for source in SOURCES:
        notebook = nbformat.read(tmp_path / source.stem / source.name, as_version=4)
        assert notebook == released(source)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(SOURCES)


def test_work_is_kept_and_what_is_gone_comes_back(tmp_path: Path) -> None:
    exercises.fill(tmp_path)
    work, gone = (tmp_path / source.stem / source.name for source in SOURCES[:2])
    work.write_text("somebody's work")
    (work.parent / "notes.txt").write_text("more of it")
    gone.unlink()
    assert exercises.fill(tmp_path) == [gone.stem]
    assert work.read_text() == "somebody's work"
    assert (work.parent / "notes.txt").read_text() == "more of it"


def test_a_stop_leaves_no_part_of_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(notebook: nbformat.NotebookNode, path: Path) -> None:
        path.write_text(nbformat.writes(notebook)[:1000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nbformat, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            exercises.fill(tmp_path)
    assert not list(tmp_path.rglob("*.ipynb"))
    assert len(exercises.fill(tmp_path)) == len(SOURCES)
    assert not list(tmp_path.rglob("*.part"))
