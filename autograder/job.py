"""What crosses the stages: a `Job` goes into `execute`, a `Result` comes out, as bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = [
    "VERSION",
    "Cell",
    "CellResult",
    "Job",
    "Limits",
    "Mode",
    "Reason",
    "Result",
    "Role",
    "is_number",
    "told",
]

VERSION = 11
"""Of the grader's verdicts: raised when the same job may end otherwise, so that it runs again."""

Role = Literal["student", "shared", "test"]

Mode = Literal["outside", "inside"]
"""Where a test cell is judged: in the tests' own process, or in a fork of the student's."""

Reason = Literal[
    "timeout",
    "out of memory",
    "crashed",
    "tampered",
    "malformed",
    "missing",
    "output",
    "stopped",
    "not started",
]
"""Why a cell or a submission has no ordinary end."""


_LINES, _LINE = 20, 500  # lines that a person reads, and characters of one


def is_number(text: str) -> bool:
    """Whether nbgrader takes a text for a number of points."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def told(lines: Iterable[str]) -> list[str]:
    """Lines for a person to read: each once, the first of them, and how many more there were.

    >>> told(f"file {i}" for i in range(2000))[-1]
    '... and 1980 more like these'
    """
    found = list(dict.fromkeys(line[:_LINE] for line in lines))
    more = [f"... and {len(found) - _LINES} more like these"] if len(found) > _LINES else []
    return [*found[:_LINES], *more]


@dataclass(frozen=True)
class Cell:
    """One code cell.

    Attributes:
        id: unique within the notebook; nbgrader's `grade_id` where the cell has one.
        role: `"student"` runs in the student's process, `"test"` (locked, with points) in the
            tests', `"shared"` (locked, without points) in both.
        source: the code.
        needed: whether grades may depend on it; else it is run only if a cell asks for a name that
            it binds.
        mode: where a test cell is judged.
        follows: of a test cell judged inside, whether it depends on what the tests before it change
            in the notebook, so that those judged inside are run before it.
        binds: of a test cell, the code that is run in the student's process, too, since later cells
            there use names that it binds; empty where none do.
        objects: of a test cell, whether an object of the submission's may answer what is asked of
            plain values.
    """

    id: str
    role: Role
    source: str
    needed: bool = True
    mode: Mode = "outside"
    follows: bool = False
    binds: str = ""
    objects: bool = True


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds of its own time (see `execute.clock`), bytes, numbers."""

    cell_seconds: float = 60
    total_seconds: float = 600
    memory: int = 4 * 2**30
    file_size: int = 64 * 2**20
    output: int = 2**20
    processes: int = 64
    open_files: int = 256


@dataclass(frozen=True)
class Job:
    """A notebook of a submission, ready to run; nothing in it says whose it is.

    Attributes:
        cells: the code cells in order.
        files: the other files of the submission, by relative path.
        limits: see `Limits`.
        imports: modules that the warm parents import beforehand.
        withheld: modules that the student's process must not reach.
        given: names of those files that are the course's own; the tests see no others.
        asked: names that the submission is to bind: only these take the place of Python's builtins
            and of what locked cells have bound; `None` where nobody knows, and each counts.
        network: hosts with their ports, such as `"api.example.org:443"`, that the student's process
            may reach from its sandbox; by default none.
        noticing: whether a cell that cannot be judged outside is judged inside.
    """

    cells: tuple[Cell, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    imports: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    asked: tuple[str, ...] | None = None
    network: tuple[str, ...] = ()
    noticing: bool = True

    def parts(self) -> Iterator[bytes]:
        """A line of JSON, then the files' bytes; the same job always gives the same parts."""
        files = sorted(self.files.items())
        record = asdict(self) | {"files": [(name, len(content)) for name, content in files]}
        yield json.dumps(record, sort_keys=True).encode() + b"\n"
        for _, content in files:
            yield content

    def to_bytes(self) -> bytes:
        """The parts in one."""
        return b"".join(self.parts())

    @classmethod
    def from_bytes(cls, data: bytes) -> Job:
        """The job that `to_bytes` wrote."""
        at = data.index(b"\n") + 1
        record = json.loads(data[:at])
        files = {}
        for name, size in record["files"]:
            files[name] = data[at : at + size]
            at += size
        return cls(
            cells=tuple(Cell(**cell) for cell in record["cells"]),
            files=files,
            limits=Limits(**record["limits"]),
            imports=tuple(record["imports"]),
            withheld=tuple(record["withheld"]),
            given=tuple(record["given"]),
            asked=None if record["asked"] is None else tuple(record["asked"]),
            network=tuple(record["network"]),
            noticing=record["noticing"],
        )


@dataclass
class CellResult:
    """How a cell ended.

    Attributes:
        id: of the cell.
        outputs: in nbformat's form (stream, display_data, execute_result, error).
        seconds: of wall time.
        reason: why it did not end by itself; `None` where it did, also by raising.
        mode: where a test cell was judged.
        unjudged: why it could not be judged outside, where that was noticed.
    """

    id: str
    outputs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    reason: Reason | None = None
    mode: Mode = "outside"
    unjudged: str = ""


@dataclass
class Result:
    """How a submission ended.

    Attributes:
        cells: one for each cell of the job that was run, in order; those after a crash hold an
            error output.
        reason: the first reason among the cells, or why nothing ran.
        tampering: what was seen of attempts to reach beyond the exercise, one line each.
        seconds: of wall time.
        isolated: whether a sandbox was around it.
        starved: seconds in which it could have run and others kept it from that.
    """

    cells: list[CellResult]
    reason: Reason | None = None
    tampering: list[str] = field(default_factory=list)
    seconds: float = 0.0
    isolated: bool = True
    starved: float = 0.0

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Result:
        """The result that `to_bytes` wrote."""
        record = json.loads(data)
        record["cells"] = [CellResult(**cell) for cell in record["cells"]]
        return cls(**record)
