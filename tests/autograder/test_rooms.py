"""Each folder of the grader is one trust boundary: imports run one way, and no room grows large."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.execute.sandbox import command

PACKAGE = Path(__file__).parents[2] / "autograder"
#: What each room may import of the others; a module at the top is a room of its own.
ARROWS = {
    "__main__": {
        "atomic",
        "cluster",
        "course",
        "doctor",
        "grade",
        "lms",
        "page",
        "report",
        "similar",
        "watch",
    },
    "lms": {"atomic", "course", "prepare"},
    "cluster": {"course", "execute"},
    "doctor": {"course", "execute", "steps"},
    "similar": {"atomic", "course", "page", "prepare", "report", "steps"},
    "page": {"atomic", "course", "report"},
    "report": {"course", "prepare", "steps"},
    "watch": {"course", "exchange", "feedback", "grade", "gradebook", "prepare"},
    "feedback": {"atomic", "course", "exchange", "gradebook", "prepare"},
    "grade": {
        "atomic",
        "course",
        "execute",
        "gradebook",
        "job",
        "log",
        "modes",
        "prepare",
        "steps",
        "suspects",
    },
    "suspects": {"atomic", "course", "execute", "gradebook", "prepare"},
    "modes": {"atomic", "bindings", "course", "execute", "job", "prepare", "record", "steps"},
    "gradebook": {"atomic", "course", "prepare", "steps", "transaction"},
    "course": {"__init__", "prepare", "steps"},
    "exchange": {"prepare"},
    "steps": {"atomic", "execute", "hidden", "job", "prepare", "record", "secret"},
    "prepare": {"bindings", "hidden", "job"},
    "execute": {"atomic", "bindings", "inside", "job"},
    "inside": {"job", "link"},
    "link": set(),
    "record": {"hidden", "job"},
    "atomic": set(),
    "bindings": set(),
    "hidden": set(),
    "job": set(),
    "log": set(),
    "secret": set(),
    "system": set(),
    "transaction": set(),
    "__init__": set(),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """The folder of `autograder.folder.module`, or the module itself at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def named(path: Path) -> str:
    parts = [*path.relative_to(PACKAGE.parent).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imported(path: Path) -> Iterator[str]:
    """The grader's own modules that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "autograder")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("autograder"):
            for alias in node.names:
                found = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / found.replace(".", "/")).with_suffix(".py").exists()
                yield found if is_module else str(node.module)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(named(path))
    others = {room_of(module) for module in imported(path)} - {room}
    assert others <= ARROWS[room], f"{room} imports {sorted(others - ARROWS[room])}"


def test_the_arrows_make_no_circle() -> None:
    left = dict(ARROWS)
    while left:
        free = [room for room, needs in left.items() if not needs & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def test_no_modules_import_each_other() -> None:
    needs = {named(path): set(imported(path)) - {named(path)} for path in MODULES}
    while needs:
        free = [module for module, wanted in needs.items() if not wanted & needs.keys()]
        assert free, f"a circle among {sorted(needs)}"
        for module in free:
            del needs[module]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_class_and_no_file_is_too_long_to_read(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert (node.end_lineno or 0) - node.lineno <= 215, f"{node.name} is too long"


def test_the_sandbox_is_given_what_runs_inside_and_nothing_else_of_the_grader() -> None:
    line = command("student", 0, isolated=True)
    bound = {Path(a).relative_to(PACKAGE) for a in line if Path(a).is_relative_to(PACKAGE)}
    assert {path.parts[0] for path in bound} == {"__init__.py", "job.py", "inside", "link"}


def test_what_runs_inside_needs_no_nbgrader() -> None:
    code = "import sys, autograder.inside.main; print('nbgrader' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
