"""A course without torch is graded as where torch is installed, and nothing of torch crosses."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nbformat.v4 import new_notebook
from small_course import KERNEL, cell, graded_cell, named, write_course

from autograder.course import Course
from autograder.execute.sandbox import problem
from autograder.gradebook import Recorder
from autograder.link.optional import _without_torch
from autograder.prepare.plan import read_plans
from autograder.report import collect
from autograder.steps import plans_file

ROOT = Path(__file__).parents[2]
SANDBOX = pytest.mark.skipif(problem() is not None, reason=str(problem()))

#: Is run whenever the Python of the fixture starts, on the host and in the sandbox.
START = f"""
import site
import sys
from importlib.machinery import PathFinder


class NoTorch(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        is_torch = name.partition(".")[0] == "torch"
        return None if is_torch else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = NoTorch
own = site.getsitepackages  # by which the sandbox, too, knows what to bind
site.getsitepackages = lambda prefixes=None: [*own(prefixes), *{site.getsitepackages()!r}]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has what this one has, but for torch."""
    home = tmp_path_factory.mktemp("python")
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "start_without_torch.py").write_text(START)
    (packages / "start_without_torch.pth").write_text("import start_without_torch\n")
    return home / "bin" / "python"


def output(python: Path, code: str) -> list[str]:
    done = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# --- what stands in its place ---


def test_what_stands_in_its_place_is_all_torchs_own() -> None:
    def compare(stub: SimpleNamespace, real: Any) -> None:
        for name, value in vars(stub).items():
            assert hasattr(real, name), name
            if isinstance(value, SimpleNamespace):
                compare(value, getattr(real, name))
            elif isinstance(value, type):
                assert isinstance(getattr(real, name), type), name

    compare(_without_torch(), torch)


def test_a_stand_in_is_asked_for_no_verdict_by_a_name_that_arrays_or_tables_have() -> None:
    pd = pytest.importorskip("pandas")
    kinds = (np.ndarray, np.generic, int, float, complex, pd.Series, pd.DataFrame, pd.Index)
    names = {name for kind in kinds for name in dir(kind) if not name.startswith("_")}
    tensors = {name for name in names if hasattr(torch.Tensor, name)}
    assert {"abs", "all", "item", "max"} <= tensors
    assert tensors - vars(_without_torch().Tensor).keys() == set()


def test_nothing_is_made_of_it() -> None:
    with pytest.raises(TypeError, match="torch is not imported"):
        _without_torch().Tensor(1)


@pytest.mark.parametrize("imported", [False, True])
def test_torch_is_what_was_imported_before_and_not_waited_for_else(imported: bool) -> None:
    code = f"""
import sys
{"import torch" if imported else ""}
import autograder.inside.main
from autograder.link.optional import HAS_TORCH
print(HAS_TORCH, "torch" in sys.modules)
"""
    assert output(Path(sys.executable), code) == [f"{imported} {imported}"]


LIES = """
import socket
from autograder.link.errors import Tampered
from autograder.link.frames import Link
from autograder.link.peer import Peer

def message(payload=None, tensors=(), history=None, states=(None, None, None), dtype=None):
    state = [dtype, list(states)]
    return ["ok", 1, [True], state, [], list(tensors), history, [], payload]

data = ["float32", [2], None, 0]
module = ["cls", 2, "A", [["C", "torch.nn", "Module"]], [], []]
lies = [
    message(["t", ["x", 1]], [[1, False, False, False, data, None]]),
    message(["t", ["x", 1]], [[1, True, True, True, ["float32", [2]], None]]),
    message(["t", ["x", 3]], history=[2, [], [[3, data]]]),
    message(["t", ["G", 1, ["b", 0]]]),
    message(["t", ["Gy", 1]]),
    message(["t", ["size", 1]]),
    message(["t", ["size"]]),
    message(["t", ["dtype", "float32"]]),
    message(["t", ["device", "cpu", None]]),
    message(["t", ["C", "torch", "Tensor"]]),
    message(["t", ["C", "torch.nn", "Module"]]),
    message(["t", ["dist", "Normal", True, [["loc", 1.0], ["scale", 1.0]]]]),
    message(["t", ["mod", 1, module, True, [], [], []]]),
    message(["t", ["opt", 1, ["C", "torch.optim", "Adam"], []]]),
    message(["t", 1], states=[["b", 0], None, None]),
    message(["t", 1], dtype="float64"),
]
for lie in [*lies, message(["t", 1])]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    peer = Peer(ours)
    Link(theirs).send(lie, [bytes(8)])
    try:
        print(peer.fetch("f"))
    except Tampered:
        print("refused")
"""


def test_what_a_submission_says_of_torch_is_refused(python: Path) -> None:
    *lies, truth = output(python, LIES)
    assert lies == ["refused"] * 16
    assert truth == "1"


# --- in the sandbox ---

IMPORTING = """
from autograder.execute.run import execute
from autograder.job import Cell, Job, Limits, Result

cells = [Cell("a", "student", "import torch"), Cell("b", "test", "import torch", mode="outside")]
job = Job((*cells, Cell("c", "test", "import torch", mode="inside")), {}, Limits())
for cell in Result.from_bytes(execute(job.to_bytes())).cells:
    print(cell.outputs[-1]["evalue"])
"""


@SANDBOX
@pytest.mark.slow
def test_there_is_no_torch_in_the_sandbox(python: Path) -> None:
    assert output(python, IMPORTING) == ["No module named 'torch'"] * 3


UNASKED = """
from autograder.execute.run import execute
from autograder.job import Cell, Job, Result

TEST = "assert f(2).sum() == 4 and f(2).shape == (2,)\\nassert abs(f(3).mean() - 2) < 1e-6"
for value in (2, 3):
    solution = f"import torch\\ndef f(n): return torch.full((n,), {value}.0)"
    cells = Cell("a", "student", solution), Cell("b", "test", "import sys; 'torch' in sys.modules")
    job = Job((*cells, Cell("c", "test", TEST)), noticing=True)
    _, imported, judged = Result.from_bytes(execute(job.to_bytes())).cells
    print(imported.outputs[-1]["data"]["text/plain"], judged.mode, len(judged.outputs))
"""


@SANDBOX
@pytest.mark.slow
def test_where_only_a_submission_uses_torch_its_tests_are_judged_inside() -> None:
    assert output(Path(sys.executable), UNASKED) == ["False inside 0", "False inside 1"]


def test_an_assignment_that_names_torch_has_it_imported(tmp_path: Path) -> None:
    course = write_course(tmp_path, {"means": notebook()})
    assert Recorder(course, "ps1", course.work, True).rules.imports == ()
    (course.root / "source" / "ps1" / "helper.py").write_text("from torch import nn")
    assert Recorder(course, "ps1", course.work, True).rules.imports == ("torch",)


MEAN = "def mean(values):\n    return np.mean(values)"
NOISE = "def noise(n):\n    return np.random.normal(size=n) + random.random()"
COUNTER = """
class Counter:
    def __init__(self):
        self.count = 0
    def add(self, n):
        self.count += n
        return self
"""


def notebook() -> Any:
    """Tests of numbers, arrays, objects, random numbers and source text."""

    def solved(source: str, name: str) -> Any:
        return cell(f"### BEGIN SOLUTION\n{source}\n### END SOLUTION", name, solution=True)

    return new_notebook(
        cells=[
            cell("import inspect\nimport random\nimport numpy as np", "setup", locked=True),
            solved(MEAN, "mean"),
            solved(NOISE, "noise"),
            solved(COUNTER, "counter"),
            graded_cell("assert mean(np.array([1.0, 2.0, 3.0])) == 2", "value", 1),
            graded_cell(
                """
                assert abs(mean([1, 2]) - 1.5) < 1e-9
                ### BEGIN HIDDEN TESTS
                error = mean(np.arange(6.0)) - np.array([2.5])
                assert error.max() < 1e-9 and (-error).max() < 1e-9
                np.testing.assert_allclose(mean([4, 5]), 4.5)
                ### END HIDDEN TESTS
                """,
                "error",
                1,
            ),
            graded_cell("4.0 * (mean([2, 2]) == 2) / 2", "partial", 2),
            graded_cell(
                """
                np.random.seed(1)
                random.seed(2)
                first, second = noise(3), noise(3)
                np.random.seed(1)
                random.seed(2)
                assert first.shape == (3,) and not np.array_equal(first, second)
                assert np.array_equal(first, np.random.normal(size=3) + random.random())
                """,
                "random",
                1,
            ),
            graded_cell("assert Counter().add(2).add(3).count == 5", "object", 1),
            graded_cell(
                "assert 'for' not in inspect.getsource(mean)\nassert mean([3, 5]) == 4", "source", 1
            ),
            graded_cell("inspect.getsource(mean)\nmean([4.0])", "shown", 4),
        ],
        metadata={"kernelspec": KERNEL},
    )


YES = """
class Yes:
    __hash__ = None
    def __eq__(self, other): return True
    def __sub__(self, other): return self
    __rsub__ = __neg__ = __abs__ = lambda self, *rest: self
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __lt__
    def max(self): return 0.0
    item = max
    def __repr__(self): return "4.0"
    def add(self, n): return self
"""
MINE = f"{YES}\ndef mean(values): return Yes()"
FAKE = f"""
import sys, types
{MINE}
Yes.dim = lambda self: 0
Yes.item = lambda self: 4.0
sys.modules["torch"] = types.SimpleNamespace(Tensor=Yes, float32=1)
import autograder.link.optional as optional
optional.HAS_TORCH, optional.torch = True, sys.modules["torch"]
"""
EMPTY = f"""
from autograder.link import optional
{YES}
Empty = optional.torch.Tensor
for name, value in vars(Yes).items():
    if callable(value):
        setattr(Empty, name, value)
def mean(values): return object.__new__(Empty)
"""
PATCHED = """
np.testing.assert_allclose = np.array_equal = lambda *x, **y: True
np.ndarray, np.mean = list, None
def mean(values): return 0
"""
ALL = {"value": 1, "error": 1, "partial": 2, "random": 1, "object": 1, "source": 1, "shown": 4}
NO_MEAN = dict.fromkeys(ALL, 0) | {"random": 1, "object": 1}
#: What a student writes in place of each solution, and the points that this earns.
STUDENTS: dict[str, tuple[dict[str, str], dict[str, float]]] = {
    "blank": ({}, dict.fromkeys(ALL, 0)),
    "right": ({"mean": MEAN, "noise": NOISE, "counter": COUNTER}, ALL),
    "other": (
        {
            "mean": "mean = lambda values: sum(values) / len(values)",
            "noise": NOISE,
            "counter": COUNTER.replace("return self", "return copy(self)").replace(
                "class", "from copy import copy\nclass"
            ),
        },
        ALL,
    ),
    "wrong": (
        {
            "mean": "def mean(values):\n    return 2.0",
            "noise": "def noise(n):\n    return np.random.default_rng(0).normal(size=n)",
            "counter": COUNTER.replace("+=", "="),
        },
        {**dict.fromkeys(ALL, 0), "value": 1, "partial": 2, "shown": 2},
    ),
    "yes": ({"mean": MINE, "noise": NOISE, "counter": COUNTER}, NO_MEAN),
    "fake": ({"mean": FAKE, "noise": NOISE, "counter": COUNTER}, NO_MEAN),
    "empty": ({"mean": EMPTY, "noise": NOISE, "counter": COUNTER}, NO_MEAN),
    "patched": ({"mean": PATCHED, "noise": NOISE, "counter": COUNTER}, NO_MEAN),
    "exits": (
        {"mean": "import os\ndef mean(values): os._exit(0)", "noise": NOISE, "counter": COUNTER},
        {**dict.fromkeys(ALL, 0)},
    ),
    "zeros": (
        {
            "mean": MEAN,
            "noise": "def noise(n):\n"
            "    np.random.set_state(('MT19937', np.zeros(624, np.uint32), 624))\n"
            "    return np.zeros(n)",
            "counter": COUNTER,
        },
        ALL | {"random": 0},
    ),
}


def graded(course: Course, python: Path) -> dict[str, Any]:
    """What each student has for each cell, and how it was judged."""
    command = [python, "-m", "autograder", "grade", "ps1", "--course", course.root]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = collect(course, "ps1").rows
    return {
        row.student: {check.cell: (check.score, check.inside) for check in row.checks}
        for row in rows
    }


@SANDBOX
@pytest.mark.slow
def test_scores_are_those_that_there_are_with_torch(python: Path, tmp_path: Path) -> None:
    course = write_course(tmp_path / "without", {"means": notebook()})
    released = (course.root / "release/ps1/means.ipynb").read_text()
    for student, (work, _) in STUDENTS.items():
        found = json.loads(released)
        for name, source in work.items():
            named(found, name)["source"] = source
        folder = course.root / "submitted" / student / "ps1"
        folder.mkdir(parents=True)
        (folder / "means.ipynb").write_text(json.dumps(found))
    other = Course.at(shutil.copytree(course.root, tmp_path / "with"))

    without = graded(course, python)
    plan = read_plans(plans_file(course.root, "ps1"))[1]["means"]
    modes = {name: judged.mode for name, judged in plan.cells.items()}
    assert modes == dict.fromkeys(ALL, "outside") | dict.fromkeys(("source", "shown"), "inside")
    for student, (_, points) in STUDENTS.items():
        found = {name: score for name, (score, _) in without[student].items()}
        assert found == points, student
    assert graded(other, Path(sys.executable)) == without
