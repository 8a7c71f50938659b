"""The points so far, what completion offers, and that the notebooks and the modules agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from IPython.core.completer import IPCompleter, provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import vae_exercises
from vae_exercises import kl
from vae_exercises.lines import WIDTH

from .tasks import ASSIGNMENTS

ROOT = Path(__file__).parents[2]
RIGHT = {name: task._reference for name, task in ASSIGNMENTS["kl"].tasks.items()}

each = pytest.mark.parametrize("module", ASSIGNMENTS)


def notebook(module: str) -> nbformat.NotebookNode:
    name = ASSIGNMENTS[module].name
    return nbformat.read(ROOT / "solutions" / name / f"{name}.ipynb", as_version=4)


@each
def test_the_points_are_those_of_the_notebook(module: str) -> None:
    said = {
        f"{name.replace('_', '-')}-{aspect}": known.points
        for name, task in ASSIGNMENTS[module].tasks.items()
        for aspect, known in task._aspects.items()
    } | ASSIGNMENTS[module].written
    cells = [cell.metadata.get("nbgrader", {}) for cell in notebook(module).cells]
    assert said == {cell.grade_id: cell.points for cell in cells if cell.get("grade")}


@each
def test_the_cells_to_hand_in_are_those_of_the_notebook(module: str) -> None:
    cells = [cell.metadata.get("nbgrader", {}) for cell in notebook(module).cells]
    asked = {
        cell.grade_id: cell.solution for cell in cells if cell.get("grade") or cell.get("solution")
    }
    assert ASSIGNMENTS[module].cells() == asked


@each
def test_an_error_does_not_stop_the_notebook(module: str) -> None:
    """Neither that of a check nor that of a picture, which calls what is not written yet."""
    for cell in notebook(module).cells:
        if cell.cell_type == "code":
            goes_on = "raises-exception" in cell.metadata.get("tags", [])
            assert goes_on == (cell.id not in ("setup", "summary", "hand-in")), cell.id


@each
def test_the_last_cells_sum_up_and_hand_in(module: str) -> None:
    name, cells = ASSIGNMENTS[module].name, {cell.id: cell for cell in notebook(module).cells}
    assert cells["summary"].source == f'vae_exercises.summary("{name}", globals())'
    assert cells["hand-in"].source == f'vae_exercises.hand_in("{name}")'
    assert list(cells)[-1] == "hand-in"


def said(capsys: pytest.CaptureFixture[str], names: dict[str, Any]) -> str:
    vae_exercises.summary("3-kl", names)
    return capsys.readouterr().out


def test_a_summary_counts_the_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert "18 of 18 points" in (out := said(capsys, RIGHT))
    assert "All green" in out
    wrong = RIGHT | {"kl_between_gaussians": lambda *x: 2 * RIGHT["kl_between_gaussians"](*x)}
    out = said(capsys, wrong)
    # Its shape and its numerics are right, and its value and its gradient are not.
    assert "14 of 18 points" in out
    assert "Still open: kl_between_gaussians, value; kl_between_gaussians, gradient" in out
    assert max(map(len, out.splitlines())) <= WIDTH
    assert "All green" not in out
    assert "0 of 18 points" in said(capsys, {})


def test_a_summary_leaves_random_numbers_as_they_were() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    vae_exercises.summary("3-kl", RIGHT)
    assert torch.equal(before, torch.get_rng_state())


def test_nothing_is_summed_up_while_work_is_graded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert said(capsys, {}).startswith("This cell is for you")
    vae_exercises.hand_in("3-kl")
    assert capsys.readouterr().out.startswith("This cell is for you")


@pytest.mark.parametrize("name", ["", "kl", "9-kl", "3-none", "task"])
def test_an_unknown_assignment_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="assignment must be the name of an exercise"):
        vae_exercises.summary(name, {})


@pytest.mark.parametrize("jedi", [True, False])
@pytest.mark.parametrize("text", ["exercise.", "exercise.kl_to_standard_normal."])
def test_completion_offers_no_answer(text: str, jedi: bool) -> None:
    shell = InteractiveShell()
    shell.user_ns["exercise"] = kl
    completer = IPCompleter(shell=shell, namespace=shell.user_ns, use_jedi=jedi)
    with provisionalcompleter():
        offered = {completion.text for completion in completer.completions(text, len(text))}
    assert offered or jedi  # which gives up on a busy machine
    assert not [name for name in offered if "reference" in name or "mistake" in name]


def test_the_library_knows_nothing_of_exercises() -> None:
    for path in (ROOT / "vaelib").rglob("*.py"):
        assert "vae_exercises" not in path.read_text("utf-8"), path
