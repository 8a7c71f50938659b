"""Where each graded cell of a notebook is to be judged, as its solution has shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from autograder.job import Mode

__all__ = ["Judged", "Plan", "read_plans", "written"]


@dataclass(frozen=True)
class Judged:
    """Where one cell is judged.

    Attributes:
        mode: the strongest in which the solution earns the cell's points.
        earned: whether it does; else the solution earns them in neither.
        reason: why not outside; empty where it is.
        line: of the cell, that failed there.
        follows: whether inside it needs what the tests before it have changed.
    """

    mode: Mode = "outside"
    earned: bool = True
    reason: str = ""
    line: str = ""
    follows: bool = False


@dataclass(frozen=True)
class Plan:
    """What the solved notebook has shown.

    Attributes:
        cells: by name, where the graded cells are judged.
        asked: the names that the solution binds; `None` where there is none.
        needs_all: whether it fails without a cell that is tagged `skip-grading`.
        counted: the graded cells whose value is a number of points.
        objects: where the course demands outside, the graded cells that could not be judged there
            for sure; `None` where nobody knows.
    """

    cells: Mapping[str, Judged] = field(default_factory=dict)
    asked: tuple[str, ...] | None = None
    needs_all: bool = False
    counted: tuple[str, ...] = ()
    objects: tuple[str, ...] | None = None


def written(digest: str, plans: Mapping[str, Plan]) -> bytes:
    """A file's content; `digest` says of what the plans are."""
    found = {name: asdict(plan) for name, plan in sorted(plans.items())}
    return json.dumps({"digest": digest, "notebooks": found}, indent=1).encode()


def read_plans(path: Path) -> tuple[str, dict[str, Plan]]:
    """The digest and the plans of a file; none where it is not there or cannot be read."""
    try:
        record = json.loads(path.read_bytes())
        plans = {
            name: Plan(
                {cell: Judged(**judged) for cell, judged in plan["cells"].items()},
                None if plan["asked"] is None else tuple(plan["asked"]),
                bool(plan["needs_all"]),
                tuple(plan["counted"]),
                None if plan["objects"] is None else tuple(plan["objects"]),
            )
            for name, plan in record["notebooks"].items()
        }
        return str(record["digest"]), plans
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}
