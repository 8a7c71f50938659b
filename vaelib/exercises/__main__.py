"""Print which known mistake loses which check: `python -m vaelib.exercises [MODULE …]`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator

import vaelib.exercises
from vaelib.exercises.task import Task

__all__ = ["table", "tasks"]


def tasks(module: str) -> Iterator[Task]:
    """The tasks of an assignment's module, in order."""
    found = importlib.import_module(f"vaelib.exercises.{module}")
    for name in found.__all__:
        if isinstance(task := getattr(found, name), Task):
            yield task


def table(task: Task) -> str:
    """One line a mistake, with a cross under each aspect that it loses."""
    width = max(len(mistake.name) for mistake in task.mistakes)
    lines = [f"{task.name:{width}}  {'  '.join(task.aspects)}"]
    for mistake in task.mistakes:
        fails = task.fails(mistake.function)
        marks = "  ".join(
            f"{'✗' if aspect in fails else '·':^{len(aspect)}}" for aspect in task.aspects
        )
        lines.append(f"{mistake.name:{width}}  {marks}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    every = [module.name for module in pkgutil.iter_modules(vaelib.exercises.__path__)]
    for module in sys.argv[1:] or every:
        if module.startswith("_"):
            continue
        for task in tasks(module):
            print(f"{table(task)}\n")


if __name__ == "__main__":
    main()
