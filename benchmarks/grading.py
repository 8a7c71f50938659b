"""How fast classes are graded, beside nbgrader alone, and with the same scores.

Measured, for every assignment: seconds of `python -m autograder grade` for a class whose
submissions are all different, each with a known mistake or none, and of `nbgrader autograde` on the
same files and the same cores, each from the start of its command to its end. nbgrader grades a few
of them, then three times as many: from the two follow its start and its time for each, and so its
time for the whole class. Then where the grader's time goes: one submission in a warm sandbox, and
the rest, which is recorded by one process while the next ones run.

    python -m benchmarks.grading
    python -m benchmarks.grading 3-kl --submissions 2000 --nbgrader 0   # is the memory flat?
    python -m benchmarks.grading --quick                                # a few, keeps nothing
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import nbformat
import torch
from nbgrader.api import Gradebook
from nbgrader.utils import is_solution

from autograder.course import Course
from autograder.execute.run import execute
from autograder.prepare.submission import prepare
from benchmarks.processes import family, megabytes
from benchmarks.report import Report, spread
from book.exercises import solved
from scripts.release import ROOT, assignments, course_apart, release
from scripts.sample_class import hand_in

ALONE = """\
c = get_config()
c.CourseDirectory.course_id = "vae"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.root = {root!r}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assignments", nargs="*", help="default: all")
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--nbgrader", type=int, default=3, help="how many nbgrader grades first")
    parser.add_argument("--dask", type=int, default=40, help="how many go to the Dask cluster")
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    options = parser.parse_args(arguments)
    n, few, cluster = (6, 1, 0) if options.quick else (
        options.submissions, options.nbgrader, options.dask,
    )  # fmt: skip
    names = options.assignments or (["3-kl"] if options.quick else assignments(ROOT))
    report = Report("grading" if n <= 200 else f"grading-{n}", __doc__.split("\n\n")[1])
    with tempfile.TemporaryDirectory() as temporary:
        rows, over, lowest = [], [], math.inf
        for name in names:
            folder = Path(temporary, name)
            course = classroom(folder / "ours", name, n)
            watch = Watch(course, name)
            seconds = run(course, "-m", "autograder", "grade", name)
            over += [[name, *row] for row in watch.rows()]
            warm = spread(alone(course, name, rounds=1 if options.quick else 5))
            row = [name, f"{seconds:.1f}", f"{60 * n / seconds:.0f}", warm]
            if few:
                theirs, differ = nbgrader(folder, name, course, few, n)
                lowest = min(lowest, theirs / seconds)
                row += [f"{theirs:.0f}", f"{theirs / seconds:.1f}", str(differ)]
            rows.append(row)
            shutil.rmtree(folder)
        head = ["assignment", f"{n} submissions, s", "a minute", "one in a warm sandbox, s"]
        if few:
            report.in_short("rate ÷ nbgrader's, the lowest", f"{lowest:.1f}", "≥ 25")
            different = sum(int(row[-1]) for row in rows)
            report.in_short("cells with another score than nbgrader's", str(different), "0")
            head += ["nbgrader, s", "ratio", "scores that differ"]
        report.table("Each assignment", head, rows)
        head = ["assignment", "graded", "submissions a minute", "memory, MB"]
        report.table("Over the run", head, over)
        for workers in (1, 2) if cluster else ():
            other = classroom(Path(temporary, f"dask-{workers}"), names[0], cluster)
            report.in_short(
                f"Dask cluster of {workers}, {names[0]}: submissions a minute, start included",
                f"{60 * cluster / dask(other, names[0], workers):.1f}",
            )
    report.close(save=not options.quick)


def classroom(folder: Path, name: str, n: int, alone: bool = False) -> Path:
    """A course with n submissions of an assignment; the same for the same numbers."""
    course_apart(folder, name)
    if alone:
        (folder / "nbgrader_config.py").write_text(ALONE.format(root=str(folder)))
    release(folder)
    source = ROOT / "solutions" / name / f"{name}.ipynb"
    changes: list[tuple[str, str] | None] = []
    module = module_of(name)
    for task in module._assignment.tasks.values():
        cell = task.name.replace("_", "-").lower()
        texts = (written(mistake.source, module) for mistake in task._mistakes)
        changes += [(cell, text) for text in texts if text]
    random.Random(0).shuffle(changes)
    changes.insert(0, None)
    for number, change in zip(range(n), itertools.cycle(changes), strict=False):
        notebook = solved(source)
        cells = {cell.id: cell for cell in notebook.cells}
        if change:
            cells[change[0]].source = change[1]
        last = [cell for cell in notebook.cells if cell.cell_type == "code" and is_solution(cell)]
        last[-1].source += f"\n# student {number}"
        text = nbformat.writes(notebook)
        hand_in(folder, f"student-{number:04}", text, "2026-03-01 18:00:00 UTC", name)
    return folder


def module_of(name: str) -> ModuleType:
    """The tasks of an assignment, with their known mistakes."""
    _, _, topic = name.partition("-")
    return importlib.import_module(f"vae_exercises.{topic.replace('-', '_')}")


def written(source: str, module: ModuleType) -> str | None:
    """A mistake as a student would write it, with its imports; None if it needs more."""
    lines = ["from __future__ import annotations"]
    code = compile(source, module.__name__, "exec")
    (function,) = (part for part in code.co_consts if isinstance(part, CodeType))
    for name in sorted(names_of(function) & vars(module).keys() - module._assignment.tasks.keys()):
        value = vars(module)[name]
        if isinstance(value, ModuleType):
            lines.append(f"import {value.__name__} as {name}")
        elif isinstance(value, int | float):
            lines.append(f"{name} = {value!r}")
        elif getattr(torch.distributions, name, None) is value:
            lines.append(f"from torch.distributions import {name}")
        else:
            return None
    return "\n".join([*lines, source]).rstrip()


def names_of(code: CodeType) -> set[str]:
    """What a function's code, and that of the functions in it, may look up outside."""
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*map(names_of, inner))


def nbgrader(folder: Path, name: str, course: Path, few: int, n: int) -> tuple[float, int]:
    """Seconds of nbgrader for n submissions, and how many of its scores differ from ours."""
    seconds = []
    for part in (few, 3 * few):
        other = classroom(folder / f"nbgrader-{part}", name, part, alone=True)
        seconds.append(run(other, "-m", "nbgrader", "autograde", name))
    each = (seconds[1] - seconds[0]) / (2 * few)
    ours, theirs = scores(course, name), scores(other, name)
    differ = sum(ours[student] != theirs[student] for student in theirs)
    return seconds[1] + (n - 3 * few) * each, differ


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


def scores(course: Path, name: str) -> dict[tuple[str, str], float]:
    """The points of each student and cell."""
    with Gradebook(f"sqlite:///{course}/gradebook.db", "vae") as gradebook:
        return {
            (submission.student_id, grade.name): grade.score
            for submission in gradebook.assignment_submissions(name)
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


class Watch:
    """Follows a run: how many are graded, and what memory its processes use together."""

    def __init__(self, course: Path, name: str) -> None:
        self._course, self._name = course, name
        self._seen: list[tuple[float, int, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._end.wait(5):  # to look at all pages of all processes takes time
            self._look()

    def _look(self) -> None:
        graded = sum(1 for _ in self._course.glob(f"autograded/*/{self._name}"))
        pids = [pid for pid in family(os.getpid()) if pid != os.getpid()]
        self._seen.append((time.perf_counter(), graded, sum(map(megabytes, pids))))

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


def alone(folder: Path, name: str, rounds: int) -> list[float]:
    """Seconds of the solved notebook's job in a warm sandbox."""
    course = Course.at(folder)
    solution = course.submissions(name)["student-0000"]
    (job,) = prepare(solution, course.sources(name), course.rules(name)).jobs.values()
    execute(job.to_bytes())
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        execute(job.to_bytes())
        seconds.append(time.perf_counter() - start)
    return seconds


def dask(course: Path, name: str, workers: int) -> float:
    """Seconds of a run on a cluster here; its workers have one thread each."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        return run(course, "-m", "autograder", "grade", name, "--dask", address)


if __name__ == "__main__":
    main()
