"""Right solutions of every task, each written another way: all of them earn full points.

`WAYS["module.task"]` holds at least four; the tests also hand each of them strided views.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["WAYS", "way"]

WAYS: dict[str, list[Callable[..., Any]]] = {}


def way(task: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a right solution of a task, "module.name"."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        WAYS.setdefault(task, []).append(function)
        return function

    return register
