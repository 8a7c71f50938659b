"""With what a machine runs jobs: asked of this one, and of each worker elsewhere."""

from __future__ import annotations

from typing import Any

from autograder.execute.packages import versions
from autograder.execute.sandbox import problem

__all__ = ["look"]


def look() -> dict[str, Any]:
    """What is the matter with this machine's sandbox (`None`: nothing), and which versions it has.

    The sandbox is tried anew: what was missing when a worker started may be there by now.
    """
    problem.cache_clear()
    return {"sandbox": problem(), "versions": versions()}
