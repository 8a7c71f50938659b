"""How fast a class is graded, beside nbgrader alone, and with the same scores.

Measured: submissions a minute of exercise 3-kl, each with a mistake of the bank or none, all
different: `python -m autograder grade` against `nbgrader autograde` on the same files and the same
cores, each from the start of its command to its end. nbgrader grades the first of them only, as
many as `--nbgrader` says, because it is slow; its rate does not depend on how many. Then one
submission alone with and without the sandbox, a Dask cluster with 1 and 2 workers, and the memory
and the rate over the run.

    python -m benchmarks.grading
    python -m benchmarks.grading --submissions 2000 --nbgrader 0   # is the memory flat?
    python -m benchmarks.grading --quick                           # a few, keeps nothing
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from nbgrader.utils import is_grade, is_locked

import vae_exercises.kl as bank
from autograder.execute.run import execute
from autograder.job import Cell, Job
from benchmarks.report import Report, spread
from book.exercises import solved
from scripts.release import ROOT, course_apart, release
from scripts.sample_class import ASSIGNMENT, SOURCE, Change, hand_in, mistake

ALONE = """\
c = get_config()
c.CourseDirectory.course_id = "vae"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.root = {root!r}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=200)
    parser.add_argument("--nbgrader", type=int, default=40, help="how many nbgrader grades")
    parser.add_argument("--dask", type=int, default=40, help="how many go to the Dask cluster")
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    options = parser.parse_args(arguments)
    n, few, cluster = (6, 2, 0) if options.quick else (
        options.submissions, options.nbgrader, options.dask,
    )  # fmt: skip
    name = "grading" if n <= 200 else f"grading-{n}"
    report = Report(name, __doc__.split("\n\n")[1])
    with tempfile.TemporaryDirectory() as temporary:
        course = classroom(Path(temporary, "course"), n)
        watch = Watch(course)
        seconds = run(course, "-m", "autograder", "grade", ASSIGNMENT)
        rows = watch.rows()
        rate = 60 * n / seconds
        report.in_short(f"{n} submissions of 3-kl: submissions a minute", f"{rate:.1f}")
        report.table("Over the run", ["graded", "submissions a minute", "memory, MB"], rows)
        if few:
            other = classroom(Path(temporary, "nbgrader"), few, alone=True)
            alone = 60 * few / run(other, "-m", "nbgrader", "autograde", ASSIGNMENT)
            report.in_short(
                f"nbgrader autograde, {few} of them: submissions a minute", f"{alone:.1f}"
            )
            report.in_short("rate ÷ nbgrader autograde", f"{rate / alone:.1f}", "≥ 10")
            ours, theirs = scores(course), scores(other)
            differ = sum(ours[student] != theirs[student] for student in theirs)
            report.in_short(
                f"cells with another score than nbgrader's, of {len(theirs)}", str(differ), "0"
            )
        sandboxed, bare = overhead(Path(temporary), rounds=1 if options.quick else 5)
        report.in_short("one submission alone, seconds in the sandbox, warm", spread(sandboxed))
        report.in_short("the same without isolation", spread(bare))
        for workers in (1, 2) if cluster else ():
            other = classroom(Path(temporary, f"dask-{workers}"), cluster)
            report.in_short(
                f"Dask cluster of {workers}: submissions a minute, start included",
                f"{60 * cluster / dask(other, workers):.1f}",
            )
    report.close(save=not options.quick)


def classroom(folder: Path, n: int, alone: bool = False) -> Path:
    """A course with n submissions; the same for the same numbers."""
    course_apart(folder, ASSIGNMENT)
    if alone:
        (folder / "nbgrader_config.py").write_text(ALONE.format(root=str(folder)))
    release(folder)
    changes: list[Change | None] = [None]
    for task in (bank.kl_to_standard_normal, bank.kl_between_gaussians, bank.kl_monte_carlo):
        changes += [mistake(task, known.name) for known in task._mistakes]
    for number, change in zip(range(n), itertools.cycle(changes), strict=False):
        notebook = solved(SOURCE)
        cells = {cell.id: cell for cell in notebook.cells}
        if change:
            change(cells)
        cells["kl-monte-carlo"].source += f"\n# student {number}"
        hand_in(
            folder, f"student-{number:04}", nbformat.writes(notebook), "2026-03-01 18:00:00 UTC"
        )
    return folder


def run(course: Path, *command: str) -> float:
    """Seconds of a command in a course's folder."""
    start = time.perf_counter()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=course, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - start


def scores(course: Path) -> dict[tuple[str, str], float]:
    """The points of each student and cell."""
    with Gradebook(f"sqlite:///{course}/gradebook.db", "vae") as gradebook:
        return {
            (submission.student_id, grade.name): grade.score
            for submission in gradebook.assignment_submissions(ASSIGNMENT)
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


class Watch:
    """Follows a run: how many are graded, and what memory its processes use together."""

    def __init__(self, course: Path) -> None:
        self._course = course
        self._seen: list[tuple[float, int, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._end.wait(5):  # to look at all pages of all processes takes time
            self._look()

    def _look(self) -> None:
        graded = sum(1 for _ in self._course.glob(f"autograded/*/{ASSIGNMENT}"))
        self._seen.append((time.perf_counter(), graded, _memory(os.getpid())))

    def rows(self) -> list[list[str]]:
        """A line for each quarter of what was graded."""
        self._end.set()
        self._thread.join()
        self._look()
        last = self._seen[-1][1]
        rows, before = [], next(seen for seen in self._seen if seen[1] > 0)
        for quarter in range(1, 5):
            part = [seen for seen in self._seen if before[1] <= seen[1] <= last * quarter / 4]
            if len(part) > 1 and part[-1][1] > before[1]:
                rate = 60 * (part[-1][1] - before[1]) / (part[-1][0] - before[0])
                most = max(seen[2] for seen in part)
                rows.append([str(part[-1][1]), f"{rate:.1f}", f"{most:,.0f}"])
                before = part[-1]
        return rows


def _memory(process: int) -> float:
    """MB that a process' descendants have for themselves (shared pages counted by share)."""
    total = 0.0
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            try:
                smaps = Path(f"/proc/{child}/smaps_rollup").read_text()
                total += (
                    next(int(x.split()[1]) for x in smaps.splitlines() if x[:4] == "Pss:") / 1e3
                )
                total += _memory(int(child))
            except OSError:
                continue
    return total


def overhead(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of one job, warm, with and without the sandbox."""
    notebook = solved(SOURCE)
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            role = "test" if is_grade(cell) else "shared" if is_locked(cell) else "student"
            cells.append(Cell(cell.id, role, cell.source))
    job = Job(tuple(cells), imports=("matplotlib.pyplot", "torch", "torch.distributions", "vaelib"))
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for isolated in (True, False):
        execute(job.to_bytes(), isolated=isolated)
    for _ in range(rounds):
        for isolated, times in seconds.items():
            start = time.perf_counter()
            execute(job.to_bytes(), isolated=isolated)
            times.append(time.perf_counter() - start)
    return seconds[True], seconds[False]


def dask(course: Path, workers: int) -> float:
    """Seconds of a run on a cluster here; its workers have one thread each."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        return run(course, "-m", "autograder", "grade", ASSIGNMENT, "--dask", address)


if __name__ == "__main__":
    main()
