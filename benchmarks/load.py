"""What hostile submissions cost the honest ones of a class, and the grader.

Measured: the time of `python -m autograder grade` for a class of honest students, whose work is
half done and worth 2 of 4 points, and for the same class with hostile ones among them: those
attacks of the tests that could harm the machine (bombs, hogs, endless loops, signals), in turn,
spread over the class. A hostile submission may use its own limits: the seconds that its job took
are summed up and divided by the jobs that run at a time. Then whether each honest student has the
honest score, and the most memory that the processes outside the sandboxes had at a time.

    python -m benchmarks.load
    python -m benchmarks.load --quick   # a few, keeps nothing
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from autograder.course import Course
from autograder.report import collect
from benchmarks.attacks import ASSIGNMENT, CONFIG, ROOT, course, points, the_attacks
from benchmarks.processes import family, megabytes
from benchmarks.report import Report

LIMITS = {"cell_seconds": 5, "total_seconds": 60, "memory": 2**31}
HONEST_SCORE = 2.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--honest", type=int, default=270)
    parser.add_argument("--hostile", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    options = parser.parse_args(arguments)
    honest, hostile = (6, 2) if options.quick else (options.honest, options.hostile)
    report = Report("load", __doc__.split("\n\n")[1])
    attacks = the_attacks()
    # They are graded by name: each hostile one comes after its share of the honest ones.
    good = [attacks.Attack(f"{i:04}-honest", "", commented(i)) for i in range(honest)]
    harmful = [attack for attack in attacks.ATTACKS if not attack.safe]
    bad = [
        attacks.Attack(
            f"{i * honest // hostile:04}-{attack.name}", attack.tries, attack.change, attack.score
        )
        for i, attack in enumerate(islice(cycle(harmful), hostile))
    ]
    with tempfile.TemporaryDirectory() as temporary:
        alone, mixed = Path(temporary, "alone"), Path(temporary, "mixed")
        isolated = f"import autograder\n\nautograder.install(c)\nc.Isolated.limits = {LIMITS}\n"
        course(alone, CONFIG + isolated, attacks, good)
        course(mixed, CONFIG + isolated, attacks, good + bad)
        seconds_alone, memory_alone = graded(alone)
        seconds, memory = graded(mixed)
        right, scores = points(alone), points(mixed)
        used = own_seconds(mixed)
    own = [used[attack.name] for attack in bad]
    wrong = [
        attack.name
        for attack in good
        if not scores.get(attack.name) == right.get(attack.name) == HONEST_SCORE
    ]
    gained = [attack.name for attack in bad if (scores.get(attack.name) or 0) > attack.score]
    at_a_time = len(os.sched_getaffinity(0))
    extra = seconds - sum(own) / at_a_time
    report.in_short(f"honest students with another score, of {honest}", str(len(wrong)), "0")
    report.in_short(
        f"hostile ones with more than their honest work, of {hostile}", str(len(gained)), "0"
    )
    report.in_short(
        "time with the hostile ones, less what they used themselves, ÷ without them",
        f"{extra / seconds_alone:.2f}",
        "≤ 1.5",
    )
    report.in_short("most memory of the grader's own processes, MB", f"{memory:,.0f}", "≤ 500")
    report.table(
        "The two classes",
        ["class", "seconds", "the hostile ones' own seconds ÷ jobs at a time", "memory, MB"],
        [
            [f"{honest} honest", f"{seconds_alone:.0f}", "–", f"{memory_alone:,.0f}"],
            [
                f"{honest} honest, {hostile} hostile",
                f"{seconds:.0f}",
                f"{sum(own) / at_a_time:.0f}",
                f"{memory:,.0f}",
            ],
        ],
    )
    rows = [
        [attack.name, attack.tries, f"{one:.1f}", f"{scores.get(attack.name, 0):g}"]
        for attack, one in zip(bad, own, strict=True)
    ]
    report.table("The hostile ones", ["submission", "tries", "seconds", "points"], rows)
    report.close(save=not options.quick)
    if wrong or gained:
        sys.exit(f"other scores than honest: {', '.join(wrong + gained)}")


def commented(number: int) -> Any:
    """A change that makes each honest submission another one."""

    def change(found: dict[str, Any]) -> None:
        for cell in found["cells"]:
            if cell["metadata"].get("nbgrader", {}).get("grade_id") == "solution_total":
                cell["source"] += f"\n# student {number}"

    return change


def graded(folder: Path) -> tuple[float, float]:
    """Seconds of grading a class, and the most MB of the processes that are in no sandbox."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "autograder", "grade", ASSIGNMENT],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Memory(process.pid) as memory:
        _, said = process.communicate()
    if process.returncode:
        sys.exit(f"grading {folder.name} failed:\n{said[-3000:]}")
    return time.perf_counter() - start, memory.most


def own_seconds(folder: Path) -> dict[str, float]:
    """The seconds that each student's notebooks ran."""
    return {row.student: row.seconds for row in collect(Course.at(folder), ASSIGNMENT).rows}


class Memory:
    """Looks four times a second at what a process and its children have, sandboxes left out."""

    def __init__(self, process: int) -> None:
        self.most = 0.0
        self._process = process
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._end.wait(0.25):
            pids = family(self._process, without="bwrap")
            self.most = max(self.most, sum(map(megabytes, pids)))


if __name__ == "__main__":
    main()
