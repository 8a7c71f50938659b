"""What the benchmarks share: fair timing, the machine's name, tables, and the files that keep them.

A results file is Markdown: the machine, one table *In short* (what was measured, what came out,
what was to be reached), then the tables behind it. README.md repeats every *In short*.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

import torch

__all__ = ["Report", "interleave", "ratios", "spread", "timed", "write_beside"]

FOLDER = Path(__file__).parent
IN_SHORT = ("measured", "result", "to reach")
_BEGIN, _END = "<!-- results: written by report.py -->", "<!-- end of results -->"


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """`run`, saying how many seconds it took."""

    def seconds() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds


def interleave(
    contenders: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """The seconds that each contender reports in each round, after one round that does not count.

    Every round runs all of them, so that a slow minute of the machine hits them alike; the order
    rotates, so that nobody always comes after the same one. Compare within a round: `ratios`.
    """
    for run in contenders.values():
        run()
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(contenders[name]())
    return seconds


def ratios(seconds: Sequence[float], by: Sequence[float]) -> list[float]:
    """Round by round, how many times `by` it took."""
    return [one / other for one, other in zip(seconds, by, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (smallest–largest)."""
    shown = [f"{value:,.{digits}f}" for value in (min(values), max(values))]
    return f"{statistics.median(values):,.{digits}f} ({'–'.join(shown)})"


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it: `path` is never half of a file."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class Report:
    """Prints as it goes; `save` keeps what was printed, under the machine's name.

    Arguments:
        benchmark: its name, the first half of the file's.
        what: a paragraph that says what is measured against what.
        device: where the work is done: a GPU is named where it does any.
        folder: of the results file, in place of this one's `results`.
    """

    def __init__(
        self, benchmark: str, what: str, device: str = "cpu", folder: Path | None = None
    ) -> None:
        self.machine = machine_name(device)
        slug = re.sub(r"[^a-z0-9]+", "-", self.machine.lower()).strip("-")
        self.path = (folder or FOLDER / "results") / f"{benchmark}-{slug}.md"
        self._in_short: list[tuple[str, str, str]] = []
        self._details: list[str] = []
        self._head = [
            f"# {benchmark}",
            f"{self.machine}; torch {torch.__version__}, {torch.get_num_threads()} threads; "
            f"{date.today()}, commit {_commit()}.",
            what,
        ]
        print(*self._head, sep="\n\n", flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of its own, under a title."""
        self.text(f"## {title}\n\n{_markdown(columns, rows)}")

    def text(self, paragraph: str) -> None:
        """A paragraph."""
        self._details.append(paragraph)
        print(f"\n{paragraph}", flush=True)

    def in_short(self, measured: str, result: str, to_reach: str = "–") -> None:
        """One line of the first table, which README.md repeats."""
        self._in_short.append((measured, result, to_reach))

    def keep(self) -> None:
        """Keep what there is so far in the results file."""
        whole = "\n\n".join([*self._head, self._short(), *self._details]) + "\n"
        write_beside(self.path, lambda path: path.write_text(whole))

    def close(self, save: bool) -> None:
        """Print the first table; keep everything in the results file, and README.md in step."""
        print(f"\n{self._short()}", flush=True)
        if save:
            self.keep()
            if self.path.parent == FOLDER / "results":
                _update_readme()
            print(f"\nKept in {self.path}")

    def _short(self) -> str:
        return f"## In short\n\n{_markdown(IN_SHORT, self._in_short)}"


def machine_name(device: str = "cpu") -> str:
    """Processor, cores this process may use, and the GPU where `device` is one."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (
        found := re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE)
    ):
        name = found[1].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if device.startswith("cuda") else ""
    return f"{name}, {cores} cores{gpu}"


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=FOLDER, capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _update_readme() -> None:
    readme = FOLDER / "README.md"
    rows = []
    for path in sorted((FOLDER / "results").glob("*.md")):
        text = path.read_text()
        benchmark, machine = text.split("\n\n")[:2]
        table = text.split("## In short\n\n")[1].split("\n\n")[0].splitlines()[2:]
        link = f"[{benchmark.removeprefix('# ')}](results/{path.name})"
        rows += [[link, machine.split(";")[0], *line.strip("| ").split(" | ")] for line in table]
    before, rest = readme.read_text().split(_BEGIN)
    after = rest.split(_END)[1]
    results = _markdown(["benchmark", "machine", *IN_SHORT], rows)
    text = f"{before}{_BEGIN}\n\n{results}\n\n{_END}{after}"
    write_beside(readme, lambda path: path.write_text(text))
