"""What the grader's tests share: a released course, and a way to submit to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_course import named, scores_of, source_notebook, write_course

from autograder.course import Course


@pytest.fixture(scope="session")
def _released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("course")
    write_course(root, {"means": source_notebook()})
    return root


@pytest.fixture
def course(_released: Path, tmp_path: Path) -> Course:
    """A copy of the course, with nothing submitted."""
    root = tmp_path / "course"
    shutil.copytree(_released, root)
    return Course.at(root)


Submit = Callable[..., Path]


@pytest.fixture
def submit(course: Course) -> Submit:
    """Submits the released notebook, with the function `mean` and more of one's own."""

    def submit(
        student: str,
        mean: str = "def mean(values):\n    return sum(values) / len(values)",
        change: Callable[[dict[str, Any]], None] = lambda notebook: None,
        timestamp: str = "2030-01-01 12:00:00 UTC",
    ) -> Path:
        folder = course.root / "submitted" / student / "ps1"
        folder.mkdir(parents=True, exist_ok=True)
        notebook = json.loads((course.root / "release/ps1/means.ipynb").read_text())
        named(notebook, "mean")["source"] = mean
        change(notebook)
        (folder / "means.ipynb").write_text(json.dumps(notebook))
        (folder / "timestamp.txt").write_text(timestamp)
        return folder

    return submit


@pytest.fixture
def scores(course: Course) -> Callable[[str], dict[str, float | None]]:
    """Reads what the gradebook has for a student."""
    return lambda student: scores_of(course).get(student, {})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What nbgrader does that a newer SQLAlchemy, IPython or Python warns of is not ours."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for warning in ("ignore::sqlalchemy.exc.SAWarning", "ignore::ResourceWarning"):
                item.add_marker(pytest.mark.filterwarnings(warning))
