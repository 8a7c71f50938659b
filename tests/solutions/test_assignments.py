"""The assignments' notebooks: stored clean, and right with their solutions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.utils import determine_grade, is_grade, is_solution
from traitlets.config import Config

from book.exercises import sources

ROOT = Path(__file__).parents[2]
SOURCES = {path.stem: path for path in sources(ROOT)}
ASSIGNMENTS = [
    "1-autoencoders", "1b-latent-variables", "2-elbo", "3-kl", "4-reparameterization",
    "5-training", "6-generation", "7-evaluation",
]  # fmt: skip

each = pytest.mark.parametrize("name", ASSIGNMENTS)


def execute(notebook: NotebookNode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> NotebookNode:
    """Run a notebook to its end in a folder of its own, as a student's machine with two cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Talked to by files, not ports: nobody else can listen, and no kernel warns of that.
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}})
    client = NotebookClient(
        notebook,
        timeout=60,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
        config=config,
    )
    return client.execute()


def auto_graded(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if is_grade(cell) and not is_solution(cell)]


def test_there_are_eight() -> None:
    assert list(SOURCES) == ASSIGNMENTS


@each
def test_the_source_is_stored_clean(name: str) -> None:
    """So that a change reads well in a diff; `jupyter nbconvert --clear-output --inplace` helps."""
    notebook = nbformat.read(SOURCES[name], as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"nbgrader", "tags"}, cell.id
        if "nbgrader" in cell.metadata:
            assert cell.metadata.nbgrader.schema_version == 3
            assert cell.metadata.nbgrader.grade_id == cell.id
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert max(Counter(cell.id for cell in notebook.cells).values()) == 1


@each
def test_every_check_is_made_of_a_visible_and_a_hidden_one(name: str) -> None:
    for cell in auto_graded(nbformat.read(SOURCES[name], as_version=4)):
        visible, begin, hidden, end = cell.source.splitlines()
        assert begin == "### BEGIN HIDDEN TESTS"
        assert end == "### END HIDDEN TESTS"
        assert hidden == visible.removesuffix(")") + ', "course secret")'


@each
@pytest.mark.slow
def test_the_solution_earns_all_points(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = execute(nbformat.read(SOURCES[name], as_version=4), tmp_path, monkeypatch)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", output
            assert output.get("name") != "stderr", output
    for cell in auto_graded(notebook):
        score, most = determine_grade(cell)
        assert score == most
    pictures = [
        cell
        for cell in notebook.cells
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    tasks = [cell for cell in notebook.cells if is_solution(cell) and cell.cell_type == "code"]
    assert len(pictures) >= len(tasks) - 1  # two tasks may share one
