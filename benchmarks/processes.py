"""What the processes of a run have of the machine's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["family", "megabytes"]


def family(process: int, *, without: str = "") -> Iterator[int]:
    """A process and its descendants; those called `without` are left out, with theirs."""
    try:
        name = Path(f"/proc/{process}/comm").read_text().strip()
        children = [
            int(child)
            for task in Path(f"/proc/{process}/task").glob("*/children")
            for child in task.read_text().split()
        ]
    except OSError:  # it has ended
        return
    if name != without:
        yield process
        for child in children:
            yield from family(child, without=without)


def megabytes(process: int) -> float:
    """What a process has; pages that it shares count by its share of them."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3
