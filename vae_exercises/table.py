"""Print which known mistake loses which check: `python -m vae_exercises.table [EXERCISE …]`."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from vae_exercises.task import Task

__all__ = ["main", "table"]


def table(task: Task) -> str:
    """One line for each mistake, with a cross under each aspect that it loses."""
    aspects = list(task._aspects)
    width = max(len(name) for name in [task.name, *(m.name for m in task._mistakes)])
    lines = [f"{task.name:{width}}  {'  '.join(aspects)}"]
    for mistake in task._mistakes:
        lost = task._fails(mistake.function)
        marks = "  ".join(f"{'✗' if a in lost else '·':^{len(a)}}" for a in aspects)
        lines.append(f"{mistake.name:{width}}  {marks}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Print the tables of the exercises that are named (`3-kl`, or `kl`), or of all."""
    files = sorted(Path(__file__).parent.glob("*.toml"))
    every = [file.stem for file in files if file.with_suffix(".py").exists()]
    try:
        for name in sys.argv[1:] or every:
            module = name.partition("-")[2].replace("-", "_") or name
            if module not in every:
                sys.exit(f"There is no exercise {name!r}. There are: {', '.join(every)}")
            assignment = importlib.import_module(f"vae_exercises.{module}")._assignment
            for task in assignment.tasks.values():
                print(f"{table(task)}\n", flush=True)
    except BrokenPipeError:  # whoever read the tables has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
