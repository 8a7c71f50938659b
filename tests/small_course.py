"""A small course to grade: one assignment of plain Python, made and released by nbgrader."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.converters import GenerateAssignment
from nbgrader.plugins import BasePlugin

from autograder.course import Course, quiet

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def cell(source: str, name: str = "", kind: str = "code", **nbgrader: Any) -> Any:
    """A cell, with nbgrader's metadata where it has a name."""
    made = (new_code_cell if kind == "code" else new_markdown_cell)(textwrap.dedent(source).strip())
    if name:
        made.metadata["nbgrader"] = {
            "schema_version": 3,
            "grade_id": name,
            "grade": False,
            "solution": False,
            "locked": False,
            "task": False,
            **nbgrader,
        }
    return made


def graded_cell(source: str, name: str, points: float) -> Any:
    return cell(source, name, grade=True, locked=True, points=points)


def source_notebook() -> Any:
    cells = [
        cell("# Means\nWork out means.", kind="markdown"),
        cell("import math", "imports", locked=True),
        cell(
            """
            def mean(values):
                ### BEGIN SOLUTION
                return sum(values) / len(values)
                ### END SOLUTION
            """,
            "mean",
            solution=True,
        ),
        graded_cell("assert mean([1, 2, 3]) == 2", "test_mean", 2),
        graded_cell(
            """
            assert mean([4]) == 4
            ### BEGIN HIDDEN TESTS
            seed = "course secret"
            assert mean([7, 11]) == 9, "The mean of two: mean"
            ### END HIDDEN TESTS
            """,
            "test_hidden",
            3,
        ),
        graded_cell("4 * (mean([2, 2]) == 2) / 2", "test_partial", 4),
        cell("Say why.", "why", kind="markdown", grade=True, solution=True, points=5),
        cell("A task.", "task", kind="markdown", task=True, locked=True, points=1),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def write_course(
    root: Path,
    notebooks: dict[str, Any],
    assignment: str = "ps1",
    given: dict[str, str] | None = None,
    config: str = "",
) -> Course:
    """A course with one assignment, released."""
    folder = root / "source" / assignment
    folder.mkdir(parents=True)
    for name, notebook in notebooks.items():
        nbformat.write(notebook, folder / f"{name}.ipynb")
    for name, text in {"numbers.csv": "1,2,3\n", **(given or {})}.items():
        (folder / name).write_text(text)
    (root / "nbgrader_config.py").write_text(
        "import autograder\n\nc = get_config()\nc.CourseDirectory.course_id = 'means'\n"
        f"{config}autograder.install(c)\n"
    )
    course = Course.at(root)
    directory = course.directory(assignment_id=assignment)
    scripts = str(Path(sys.executable).parent)  # nbgrader calls `alembic` to make a gradebook
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", scripts, prepend=os.pathsep)
        GenerateAssignment(coursedir=directory, config=course.config, log=quiet()).start()
    return course


def named(notebook: dict[str, Any], name: str) -> Any:
    """The cell of a name."""
    return next(
        c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == name
    )


def scores_of(course: Course, assignment: str = "ps1") -> dict[str, dict[str, float | None]]:
    """What the gradebook has, by student and cell, of an assignment with one notebook."""
    found = course.auto_scores(assignment)
    return {
        student: {cell: score for (_, cell), score in cells.items()}
        for student, cells in found.items()
    }


class HalfAnHour(BasePlugin):  # type: ignore[misc]
    """Takes half a point of whoever is late."""

    def late_submission_penalty(self, *_: Any) -> float:
        return 0.5
