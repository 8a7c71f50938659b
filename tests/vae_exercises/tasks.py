"""All tasks by name, "module.function", as the tests of this folder go through them."""

from __future__ import annotations

import importlib
import pkgutil

import vae_exercises
from vae_exercises.assignment import Assignment
from vae_exercises.task import Task

from .behaviour import BEHAVIOUR
from .way import WAYS

__all__ = ["ASSIGNMENTS", "BEHAVIOUR", "TASKS", "WAYS"]

ASSIGNMENTS: dict[str, Assignment] = {
    name: module._assignment
    for _, name, _ in pkgutil.iter_modules(vae_exercises.__path__)
    if name != "__main__"
    for module in [importlib.import_module(f"vae_exercises.{name}")]
    if hasattr(module, "_assignment")
}
TASKS: dict[str, Task] = {
    f"{module}.{name}": task
    for module, assignment in ASSIGNMENTS.items()
    for name, task in assignment.tasks.items()
}

for _name in ASSIGNMENTS:
    importlib.import_module(f"tests.vae_exercises.ways.{_name}")
    importlib.import_module(f"tests.vae_exercises.behaviours.{_name}")
