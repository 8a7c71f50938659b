"""Checks of the exercises, a module an assignment.

Each names the tasks of its assignment; a `Task` checks a student's function in one aspect at a
time, and names the mistake where it is a well-known one. Notebooks, hidden checks and graded runs
use the same code.

Example:
    >>> from vaelib.exercises import kl as exercise
    >>> def kl_to_standard_normal(mu, logvar):
    ...     return mu
    >>> exercise.kl_to_standard_normal.check("value", kl_to_standard_normal)
    Traceback (most recent call last):
        ...
    vaelib.exercises.task.CheckFailed: kl_to_standard_normal, value: wrong: the KL of each example
      Numbers that came back: 15, expected 5.
      ...
"""
