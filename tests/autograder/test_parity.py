"""With the sandbox: the same points as plain nbgrader, cell by cell; and on a cluster."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import cluster
from nbformat.v4 import new_notebook
from nbgrader.converters import Autograde
from small_course import KERNEL, cell, graded_cell, named, write_course
from traitlets.config import Config

from autograder.cluster import executor
from autograder.course import Course, quiet
from autograder.grade import grade

MEANS = {
    "right": "def mean(values):\n    return sum(values) / len(values)",
    "statistics": "from statistics import mean",
    "unused": "",
    "as released": "def mean(values):\n    # YOUR CODE HERE\n    raise NotImplementedError()",
    "half": "def mean(values):\n    return sum(values) / 2",
    "of integers": "def mean(values):\n    return sum(values) // len(values)",
    "broken": "def mean(values",
    "raises": "def mean(values):\n    raise KeyError('no')",
    "prints": "def mean(values):\n    print(values)\n    return sum(values) / len(values)",
    "changes its input": "def mean(values):\n    n = len(values)\n    return sum(values.pop() "
    "for _ in range(n)) / n",
    "an object": "class Mean:\n    def __call__(self, values):\n"
    "        return sum(values) / len(values)\nmean = Mean()",
    "magic": "%matplotlib inline\nmean = lambda values: sum(values) / len(values)",
    "helper": "total = sum\ndef mean(values):\n    return total(values) / len(values)",
}


def parity_notebook() -> Any:
    cells = [
        cell("import math", "imports", locked=True),
        cell("### BEGIN SOLUTION\nmean = 1\n### END SOLUTION", "mean", solution=True),
        graded_cell("assert mean([1, 2, 3]) == 2", "value", 2),
        graded_cell("assert math.isclose(mean([0.5, 1.5, 4]), 2)", "float", 2),
        graded_cell("values = [1, 3]\nmean(values)\nassert values == [1, 3]", "kept", 1),
        graded_cell("sum(mean([k, k + 2]) == k + 1 for k in range(4))", "partial", 4),
        graded_cell("'no number'", "text", 1),
        graded_cell("import sys\nprint('noise', file=sys.stderr)", "stderr", 1),
        graded_cell("import warnings\nwarnings.warn('careful')", "warning", 1),
        graded_cell(
            "try:\n    mean([])\nexcept ZeroDivisionError:\n    pass\n"
            "else:\n    raise AssertionError('an empty list has no mean')",
            "empty",
            1,
        ),
        graded_cell("found = mean([1, 2])", "bound", 1),
        graded_cell("assert found == 1.5\nNone", "later", 1),
        cell("Say why.", "why", kind="markdown", grade=True, solution=True, points=5),
        cell("code = 1", "code", grade=True, solution=True, points=2),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def submit_all(course: Course) -> None:
    released = (course.root / "release/ps1/means.ipynb").read_text()
    for student, mean in MEANS.items():
        notebook = json.loads(released)
        named(notebook, "mean")["source"] = mean
        if student == "right":
            named(notebook, "why")["source"] = "Because."
            named(notebook, "code")["source"] = "code = 2"
        folder = course.root / "submitted" / student / "ps1"
        folder.mkdir(parents=True)
        (folder / "means.ipynb").write_text(json.dumps(notebook))


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    made = write_course(tmp_path_factory.mktemp("parity"), {"means": parity_notebook()})
    submit_all(made)
    return made


@pytest.mark.slow
def test_points_are_nbgraders_cell_by_cell(course: Course, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(course.root, plain)
    config = Config()
    config.CourseDirectory.root = str(plain)
    theirs = Course(plain, config)
    directory = theirs.directory(assignment_id="ps1")
    Autograde(coursedir=directory, config=config, log=quiet()).start()

    assert grade(course, "ps1", progress=False).failed == {}
    wanted, found = theirs.auto_scores("ps1"), course.auto_scores("ps1")
    assert found.keys() == wanted.keys() == MEANS.keys()
    for student in MEANS:
        assert found[student] == wanted[student], student
    assert len({tuple(scores.values()) for scores in wanted.values()}) > 4


@pytest.mark.slow
def test_a_cluster_gives_the_same_and_may_lose_a_worker(course: Course, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    grade(course, "ps1", progress=False)
    before = course.auto_scores("ps1")
    with cluster(tmp_path) as made:
        made.worker()
        killer = threading.Timer(5, made.worker().kill)
        with executor(made.address, True, print) as dask:
            killer.start()
            summary = grade(course, "ps1", executor=dask, force=True, progress=False)
            killer.join()
    assert summary.executed == len(MEANS)
    assert sorted(summary.graded) == sorted(MEANS)
    assert course.auto_scores("ps1") == before
