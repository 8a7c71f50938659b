"""A notebook is handed in when it is right; otherwise the student is told what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbclient
import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vae_exercises import handing_in
from vae_exercises.handing_in import fingerprint, hand_in
from vae_exercises.lines import WIDTH

ROOT = Path(__file__).parents[2]
CELLS = {"kl": True, "kl-value": False, "derivation": True}
RIGHT = "def kl(mu):\n    return mu**2 / 2"
CHECK = 'exercise.kl.check("value", kl)'


def graded(mine: bool, by_hand: bool = False, **more: object) -> dict[str, object]:
    kind = "markdown" if by_hand else "code"
    return {
        "schema_version": 3, "solution": mine, "locked": not mine, "grade": by_hand or not mine,
        "task": False, "cell_type": kind, **more,
    }  # fmt: skip


def whole() -> NotebookNode:
    """A notebook with nothing wrong."""
    cells = [
        new_markdown_cell("# KL divergence"),
        new_code_cell(RIGHT, metadata={"nbgrader": graded(True, grade_id="kl")}),
        new_code_cell(CHECK, metadata={"nbgrader": graded(False, grade_id="kl-value", points=1)}),
        new_markdown_cell(
            "Because log is concave.",
            metadata={"nbgrader": graded(True, by_hand=True, grade_id="derivation", points=6)},
        ),
    ]
    return new_notebook(cells=cells)


Say = Callable[..., str]


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """What is printed for a notebook in a file, after these cells have been run."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.chdir(tmp_path)

    def say(
        notebook: NotebookNode | str,
        ran: list[str] | None = None,
        name: str = "3-kl.ipynb",
        names: dict[str, str] | None = None,
        find: bool = False,
        cells: dict[str, bool] = CELLS,
    ) -> str:
        history = SimpleNamespace(input_hist_raw=["", *([RIGHT, CHECK] if ran is None else ran)])
        shell = SimpleNamespace(user_ns=names or {}, history_manager=history)
        monkeypatch.setattr(handing_in, "_shell", lambda: shell)
        path = tmp_path / name
        text = notebook if isinstance(notebook, str) else nbformat.writes(notebook)
        path.write_text(text, "utf-8")
        hand_in("3-kl", cells, None if find else path)
        out = capsys.readouterr().out
        assert [
            line for line in out.splitlines() if len(line) > WIDTH and " " in line.strip()
        ] == []
        return " ".join(out.split())

    return say


def test_a_whole_notebook_is_handed_in(said: Say, tmp_path: Path) -> None:
    text = said(whole())
    assert "✓ 3-kl.ipynb is complete and saved." in text
    assert str(tmp_path / "3-kl.ipynb") in text
    assert fingerprint(tmp_path / "3-kl.ipynb") in text
    assert "But:" not in text


@pytest.mark.parametrize("name", ["3-kl (1).ipynb", "3-kl-Copy1.ipynb", "Untitled.ipynb"])
def test_a_wrong_name_is_told(said: Say, name: str) -> None:
    text = said(whole(), name=name)
    assert text.startswith("Do not hand in yet:")
    assert f"“{name}”" in text
    assert "must be called “3-kl.ipynb”" in text
    assert "move the other one away" not in text


def test_of_two_copies_both_are_told(said: Say, tmp_path: Path) -> None:
    said(whole())
    assert "move the other one away" in said(whole(), name="3-kl (1).ipynb")
    assert "✓" in (text := said(whole()))
    assert "Beside it there is 3-kl (1).ipynb." in text


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '"3-kl"', '{"nbformat": 4, "cells": 1}', nbformat.writes(whole())[:-40]],
)
def test_a_file_that_is_cut_off_is_told(said: Say, text: str) -> None:
    answer = said(text)
    assert "not a whole notebook" in answer
    assert "from the zip file" in answer


def test_a_file_in_another_encoding_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "3-kl.ipynb"
    path.write_text(nbformat.writes(whole()), "utf-16")
    hand_in("3-kl", CELLS, path)
    assert "not a whole notebook" in capsys.readouterr().out


@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_missing_cell_is_named(said: Say, index: int) -> None:
    notebook = whole()
    gone = notebook.cells.pop(index).metadata.nbgrader.grade_id
    text = said(notebook)
    assert f"Missing: the cell {gone}." in text
    assert text.count("✗") == 1


def test_what_nbgrader_wrote_in_a_cell_is_needed(said: Say) -> None:
    notebook = whole()
    del notebook.cells[2].metadata["nbgrader"]
    assert "Missing: the cell kl-value." in said(notebook)


def test_a_cell_that_is_there_twice_is_named(said: Say) -> None:
    notebook = whole()
    copy = new_code_cell(RIGHT, metadata=notebook.cells[1].metadata)
    notebook.cells.append(copy)
    text = said(notebook)
    assert "More than once in the notebook: the cell kl." in text


def test_cells_of_ones_own_are_welcome(said: Say) -> None:
    notebook = whole()
    notebook.cells.insert(0, new_code_cell("print(1)"))
    notebook.cells.append(new_markdown_cell("My notes"))
    assert "✓" in said(notebook)


@pytest.mark.parametrize(
    ("index", "now", "key"), [(1, "text", "Y"), (2, "text", "Y"), (3, "code", "M")]
)
def test_a_cell_that_changed_its_kind_is_told(said: Say, index: int, now: str, key: str) -> None:
    notebook = whole()
    old = notebook.cells[index]
    new = new_markdown_cell if now == "text" else new_code_cell
    notebook.cells[index] = new(old.source, metadata=old.metadata)
    text = said(notebook)
    assert f"The cell {old.metadata.nbgrader.grade_id} has become {now}." in text
    assert f"press {key}" in text


@pytest.mark.parametrize(("index", "key"), [(1, "solution"), (2, "locked")])
def test_a_cell_that_nbgrader_would_treat_otherwise_is_told(
    said: Say, index: int, key: str
) -> None:
    notebook = whole()
    notebook.cells[index].metadata.nbgrader[key] = False
    assert "nbgrader would not know" in said(notebook)


@pytest.mark.parametrize(
    ("index", "source", "cell"),
    [
        (1, "def kl(mu):\n    # YOUR CODE HERE\n    raise NotImplementedError()", "kl"),
        (3, "YOUR ANSWER HERE", "derivation"),
    ],
)
def test_what_is_not_written_is_told_and_does_no_harm(
    said: Say, index: int, source: str, cell: str
) -> None:
    notebook = whole()
    notebook.cells[index].source = source
    text = said(notebook, [source, CHECK])
    assert f"Nothing is written yet in the cell {cell}." in text
    assert "✓ 3-kl.ipynb is complete and saved." in text


def test_a_file_that_is_older_than_what_was_run_is_told(said: Say) -> None:
    newer = RIGHT.replace("/ 2", "/ 3")
    text = said(whole(), [RIGHT, CHECK, newer, CHECK])
    assert "In the cell kl the file is not what you ran last." in text
    assert "Ctrl+S" in text


def test_cells_that_are_older_are_told_together(said: Say) -> None:
    notebook = whole()
    other = RIGHT.replace("kl", "other")
    metadata = {"nbgrader": graded(True, grade_id="other")}
    notebook.cells.append(new_code_cell(other, metadata=metadata))
    ran = [source.replace("/ 2", "/ 3") for source in (RIGHT, other)]
    text = said(notebook, ran, cells={**CELLS, "other": True})
    assert "In the cells kl and other the file is not what you ran last. Run them." in text
    assert text.count("✗") == 1


def test_a_file_that_is_newer_than_what_was_run_is_told(said: Say) -> None:
    notebook = whole()
    notebook.cells[1].source = RIGHT.replace("/ 2", "/ 3")
    assert "In the cell kl the file is not what you ran last." in said(notebook)


@pytest.mark.parametrize("ran", [f"{RIGHT}\n", RIGHT.replace("\n", "  \n"), f"\n{RIGHT}"])
def test_blanks_make_no_difference(said: Say, ran: str) -> None:
    assert "✓" in said(whole(), [ran])


def test_a_function_written_again_in_another_saved_cell_makes_no_difference(said: Say) -> None:
    notebook = whole()
    trial = "def kl(mu):\n    return 0"
    notebook.cells.append(new_code_cell(trial))
    assert "✓" in said(notebook, [RIGHT, trial])


def test_what_was_not_run_since_the_start_is_told_and_does_no_harm(said: Say) -> None:
    text = said(whole(), ["hand_in()"])
    assert "you have not run the cell kl." in text
    assert "✓" in text


def test_the_file_is_found_as_jupyter_and_vs_code_say(
    said: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said(whole(), name="elsewhere/3-kl.ipynb")
    for name in ("3-kl.ipynb", "a.ipynb"):
        (tmp_path / name).write_text("{}")
    there = str(elsewhere / "3-kl.ipynb")
    monkeypatch.chdir(elsewhere)
    assert there in said(whole(), find=True, name="elsewhere/3-kl.ipynb")
    monkeypatch.chdir(tmp_path)
    named = {"__vsc_ipynb_file__": there}
    assert there in said(whole(), find=True, name="b.ipynb", names=named)
    monkeypatch.setenv("JPY_SESSION_NAME", there)
    assert there in said(whole(), find=True, name="b.ipynb")
    # Renamed while it was open: Jupyter still tells the old name.
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "3-kl (1).ipynb"))
    assert str(tmp_path / "3-kl.ipynb") in said(whole(), find=True)
    (tmp_path / "3-kl.ipynb").unlink()
    assert "renamed or moved" in said(whole(), find=True, name="b.ipynb")


def test_in_colab_the_file_is_downloaded_by_hand(
    said: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())  # type: ignore[arg-type]
    text = said(whole())
    assert "Download .ipynb" in text
    assert "3-kl.ipynb" in text


def test_the_fingerprint_is_that_of_the_cells(tmp_path: Path) -> None:
    path = tmp_path / "3-kl.ipynb"

    def of(change: Callable[[NotebookNode], object]) -> str:
        change(notebook := whole())
        nbformat.write(notebook, path)
        return fingerprint(path)

    def outputs(notebook: NotebookNode) -> None:
        notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="7")]
        notebook.cells[1].execution_count = 3
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}

    first = of(lambda notebook: None)
    assert len(first) == 8
    assert int(first, 16) >= 0
    assert of(outputs) == first
    assert of(lambda notebook: notebook.cells[1].update(source=RIGHT + " ")) != first
    assert of(lambda notebook: notebook.cells.reverse()) != first
    of(lambda notebook: None)
    command = [sys.executable, "-m", "vae_exercises.handing_in", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{first} {path}\n"


@pytest.mark.slow
def test_it_works_in_a_kernel(tmp_path: Path) -> None:
    """What IPython notes is what the file holds, magics and all."""
    notebook = whole()
    notebook.cells[1].source = f"%time 1\n{RIGHT}"
    notebook.cells[2].source = "kl(2)"
    call = "from vae_exercises.handing_in import hand_in\nhand_in('3-kl', {cells})"
    notebook.cells.append(new_code_cell(call.format(cells=CELLS)))
    nbformat.write(notebook, tmp_path / "3-kl.ipynb")
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    text = notebook.cells[-1].outputs[0].text
    assert "✓ 3-kl.ipynb is complete and saved." in text
    assert "But:" not in text


def test_of_a_class_every_fingerprint_is_printed_whatever_else_was_handed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ada.ipynb").write_text(nbformat.writes(whole()), "utf-8")
    (tmp_path / "bo.ipynb").write_bytes(b"\xff" + b"[" * 9)
    (tmp_path / "deep.ipynb").write_text("[" * 200_000)
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "zoe.ipynb").write_text(nbformat.writes(whole()), "utf-8")
    names = ["bo", "ada", "deep", "folder", "none", "zoe"]
    assert handing_in.main([str(tmp_path / f"{name}.ipynb") for name in names]) == 1
    out, err = capsys.readouterr()
    print_of_all = fingerprint(tmp_path / "ada.ipynb")
    assert out.split() == [
        print_of_all, str(tmp_path / "ada.ipynb"), print_of_all, str(tmp_path / "zoe.ipynb"),
    ]  # fmt: skip
    assert err.count(" cannot be read as a notebook\n") == 4
