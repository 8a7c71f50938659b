"""Checks of the exercises, a module an assignment.

Each names the tasks of its assignment; a `Task` checks a student's function in one aspect at a
time, and names the mistake where it is a well-known one. Notebooks, hidden checks and graded runs
use the same code.

Example:
    >>> from vaelib.exercises import kl as exercise
    >>> def kl_to_standard_normal(mu, logvar):
    ...     return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)
    >>> exercise.kl_to_standard_normal.check("value", kl_to_standard_normal)
    ✓ kl_to_standard_normal, value
"""
