"""What the checks of all submissions need alike: a grader works it out once for a class.

`autograder` calls these two functions where the tests of submissions are run, before there is one.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from vae_exercises.facts import Facts
from vae_exercises.task import VISIBLE, Task

__all__ = ["__rehearse__", "__remember__"]

Rehearsed = dict[tuple[str, str, str, str], Facts]  # by module, task, aspect and seed


def __rehearse__(source: str) -> Rehearsed:
    """The facts of right solutions that the checks in a text compare with."""
    found: Rehearsed = {}
    for name, aspect, seed in _checks(source):
        for module, tasks in _tasks().items():
            if name in tasks and aspect in tasks[name]._aspects:
                task = tasks[name]
                with contextlib.suppress(Exception):  # the check itself will tell
                    found[module, name, aspect, seed] = task._known(aspect, task._reference, seed)
    return found


def __remember__(found: Rehearsed) -> None:
    """Take over what `__rehearse__` gave in another process."""
    tasks = _tasks()
    for (module, name, aspect, seed), facts in found.items():
        tasks[module][name]._remember(aspect, seed, facts)


def _tasks() -> dict[str, dict[str, Task]]:
    """The tasks of each assignment that has been imported."""
    modules = [name for name in sys.modules if name.startswith("vae_exercises.")]
    assignments = {name: vars(sys.modules[name]).get("_assignment") for name in modules}
    return {name: found.tasks for name, found in assignments.items() if found is not None}


def _checks(source: str) -> Iterator[tuple[Any, ...]]:
    """Task, aspect and seed of each `exercise.task.check("aspect", function, "seed")`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            if node.func.attr == "check" and isinstance(node.func.value, ast.Attribute) and texts:
                yield node.func.value.attr, texts[0], *(texts[1:] or [VISIBLE])
