"""An assignment: its tasks, the points so far, and the handing in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vae_exercises.lines import filled
from vae_exercises.mistakes import known_mistakes
from vae_exercises.section import Section
from vae_exercises.task import Task

__all__ = ["Assignment"]


class Assignment:
    """The tasks of one notebook, in order.

    Arguments:
        name: of the assignment, such as "3-kl". Its mistakes are in the TOML file of that
            name, without the number and with _ for -.
        chapter: the file of the chapter that explains it, without its ending, and its title.
        written: points of each question that is answered in words, by the name of its cell.
    """

    def __init__(
        self, name: str, chapter: tuple[str, str], written: Mapping[str, int] | None = None
    ) -> None:
        self.name, self.chapter, self.written = name, chapter, dict(written or {})
        self.tasks: dict[str, Task] = {}

    def task(
        self,
        section: str,
        hint: str,
        chapter: tuple[str, str] | None = None,
        draws: bool = False,
    ) -> Callable[[Callable[..., Any]], Task]:
        """Make a task of a right solution.

        Arguments:
            section: the heading of the section that explains it.
            hint: what nearly gives the answer, for whoever made a mistake that is not known.
            chapter: of the section, where it is another one.
            draws: whether the function may draw from random numbers that belong to the notebook.
        """
        read = Section(*(chapter or self.chapter), section)
        module = self.name.partition("-")[2].replace("-", "_")
        path = Path(__file__).with_name(f"{module}.toml")

        def register(reference: Callable[..., Any]) -> Task:
            mistakes = known_mistakes(path, reference)
            self.tasks[reference.__name__] = task = Task(reference, read, mistakes, hint, draws)
            return task

        return register

    def summary(self, names: Mapping[str, Any]) -> None:
        """Print the points so far, aspect by aspect, by the visible checks.

        Arguments:
            names: the notebook's own, as `globals()` gives them.
        """
        earned = possible = 0
        still_open = []
        with torch.random.fork_rng(devices=[]):
            for task in self.tasks.values():
                print(task.name)
                for name, aspect in task._aspects.items():
                    function = names.get(task.name)
                    right = function is not None and task._passes(name, function)
                    earned += aspect.points * right
                    possible += aspect.points
                    if not right:
                        still_open.append(f"{task.name}, {name}")
                    mark = "✓" if right else "✗"
                    print(
                        f"  {mark} {name:14} {aspect.points * right} of {aspect.points}", flush=True
                    )
        for cell, points in self.written.items():
            print(f"{cell}\n  · marked by hand: up to {points}")
        print(f"\n{earned} of {possible} points by the visible checks.")
        if still_open:
            print(filled("Still open: " + "; ".join(still_open) + "."))
        else:
            print("All green. More checks, on other inputs, are run when your work is graded.")

    def cells(self) -> dict[str, bool]:
        """The names of all cells that a complete notebook has; whether a student writes in them."""
        found = dict.fromkeys(self.written, True)
        for task in self.tasks.values():
            cell = task.name.replace("_", "-")
            found[cell.lower()] = True
            found |= dict.fromkeys((f"{cell}-{aspect}" for aspect in task._aspects), False)
        return found

    def hand_in(self) -> None:
        """Check that the notebook is complete and saved, and say what to hand in."""
        from vae_exercises.handing_in import hand_in

        hand_in(self.name, self.cells())
