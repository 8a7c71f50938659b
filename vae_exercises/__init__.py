"""Checks of the exercises, a module for each assignment.

A `Task` checks a student's function in one aspect at a time, and names the mistake where it is a
known one. Notebooks, hidden checks and graded runs use the same code.

Example:
    >>> from vae_exercises import kl as exercise
    >>> def kl_to_standard_normal(mu, logvar):
    ...     return mu
    >>> exercise.kl_to_standard_normal.check("value", kl_to_standard_normal)
    Traceback (most recent call last):
        ...
    vae_exercises.task.CheckFailed: ✗ kl_to_standard_normal, value (3 points): wrong: the KL of ...
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from typing import Any

__all__ = ["hand_in", "summary"]


def summary(assignment: str, names: Mapping[str, Any]) -> None:
    """Print the points so far, aspect by aspect, by the visible checks.

    Arguments:
        assignment: such as "3-kl".
        names: the notebook's own, as `globals()` gives them.

    Raises:
        ValueError: when there is no such assignment.
    """
    if not _graded():
        _assignment(assignment).summary(names)


def hand_in(assignment: str) -> None:
    """Check that the notebook's file is complete and saved, and say what to hand in.

    Raises:
        ValueError: when there is no such assignment.
    """
    if not _graded():
        _assignment(assignment).hand_in()


def _graded() -> bool:
    """Whether a grader or *Validate* runs the notebook: then nobody reads the answer."""
    if "NBGRADER_EXECUTION" not in os.environ:
        return False
    print("This cell is for you: it does nothing while the notebook is validated or graded.")
    return True


def _assignment(name: str) -> Any:
    module = name.partition("-")[2].replace("-", "_")
    with contextlib.suppress(ImportError, AttributeError, ValueError):
        found = importlib.import_module(f"vae_exercises.{module}")._assignment
        if found.name == name:
            return found
    raise ValueError(f'assignment must be the name of an exercise, such as "3-kl", but is {name!r}')
