"""An assignment's notebooks as the gradebook has them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbgrader.api import Gradebook

__all__ = ["SourceCell", "SourceNotebook", "digest", "source_notebooks"]


@dataclass(frozen=True)
class SourceCell:
    """A cell as the gradebook has it: what `nbgrader generate_assignment` kept."""

    name: str
    cell_type: str
    source: str
    locked: bool
    grade: bool
    solution: bool
    task: bool
    points: float
    checksum: str | None

    def metadata(self) -> dict[str, Any]:
        """The cell's metadata in nbgrader's schema 3."""
        nbgrader: dict[str, Any] = {
            "schema_version": 3,
            "grade_id": self.name,
            "grade": self.grade,
            "solution": self.solution,
            "locked": self.locked,
            "task": self.task,
            "cell_type": self.cell_type,
        }
        if self.grade or self.task:
            nbgrader["points"] = self.points
        if self.checksum:
            nbgrader["checksum"] = self.checksum
        metadata: dict[str, Any] = {"deletable": False, "nbgrader": nbgrader}
        if self.locked:
            metadata["editable"] = False
        return metadata


@dataclass(frozen=True)
class SourceNotebook:
    """A notebook of an assignment as the gradebook has it, its cells in their order."""

    name: str
    kernelspec: Mapping[str, Any]
    cells: tuple[SourceCell, ...]

    @property
    def is_python(self) -> bool:
        """Whether its kernel runs Python, the one language there is a sandbox for."""
        language = str(self.kernelspec.get("language") or "").lower()
        return language == "python" or not language


def digest(name: str, visible: str) -> str:
    """A short name of what students were given as a cell."""
    return hashlib.sha256(f"{name}\n{visible.strip()}".encode(errors="replace")).hexdigest()[:32]


def source_notebooks(gradebook: Gradebook, assignment: str) -> dict[str, SourceNotebook]:
    """The notebooks of an assignment, by name.

    Raises:
        nbgrader.api.MissingEntry: the gradebook has no such assignment.
    """
    notebooks = {}
    for notebook in gradebook.find_assignment(assignment).notebooks:
        points = {c.name: float(c.max_score) for c in notebook.grade_cells + notebook.task_cells}
        grade = {c.name for c in notebook.grade_cells}
        solution = {c.name for c in notebook.solution_cells}
        task = {c.name for c in notebook.task_cells}
        cells = tuple(
            SourceCell(
                name=cell.name,
                cell_type=cell.cell_type,
                source=cell.source or "",
                locked=bool(cell.locked),
                grade=cell.name in grade,
                solution=cell.name in solution,
                task=cell.name in task,
                points=points.get(cell.name, 0.0),
                checksum=cell.checksum,
            )
            for cell in notebook.source_cells
        )
        kernelspec = json.loads(notebook.kernelspec or "{}")
        notebooks[notebook.name] = SourceNotebook(notebook.name, kernelspec, cells)
    return notebooks
