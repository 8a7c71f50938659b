"""What the attacks of the tests earn from nbgrader alone, and from the grader here.

Measured: the points of each submission in `tests/autograder/attacks.py`, whose honest work is worth
2 of 4 points, by `nbgrader autograde` and by `python -m autograder grade`, on the same files. Those
that could harm the machine (bombs, signals, the network) are not given to nbgrader alone, which
has nothing around them.

    python -m benchmarks.attacks
    python -m benchmarks.attacks --quick   # the first three, keeps nothing
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
from nbgrader.api import Gradebook

from benchmarks.report import Report

ROOT = Path(__file__).parents[1]
CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "attacks"
c.Execute.timeout = 5
"""
ASSIGNMENT, NAME = "ps1", "means"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    quick = parser.parse_args(arguments).quick
    attacks = the_attacks()
    chosen = attacks.ATTACKS[:3] if quick else attacks.ATTACKS
    report = Report("attacks", __doc__.split("\n\n")[1])
    with tempfile.TemporaryDirectory() as temporary:
        alone, here = Path(temporary, "alone"), Path(temporary, "here")
        limits = {"cell_seconds": 5, "total_seconds": 60, "memory": 2**31}
        isolated = f"import autograder\n\nautograder.install(c)\nc.Isolated.limits = {limits}\n"
        course(alone, CONFIG, attacks, [attack for attack in chosen if attack.safe])
        course(here, CONFIG + isolated, attacks, chosen)
        run(here, "autograder", "grade", ASSIGNMENT)
        for attack in chosen:
            if attack.safe:  # each by itself: one that ends nbgrader costs the others nothing
                run(alone, "nbgrader", "autograde", ASSIGNMENT, "--student", attack.name)
        by_nbgrader, by_us = points(alone), points(here)
    rows = []
    for attack in chosen:
        without = shown(by_nbgrader.get(attack.name)) if attack.safe else "not run"
        rows.append(
            [attack.name, attack.tries, f"{attack.score:g}", without, shown(by_us.get(attack.name))]
        )
    safe = [attack for attack in chosen if attack.safe]
    gained = sum((by_nbgrader.get(a.name) or 0) > a.score for a in safe)
    lost = sum((by_nbgrader.get(a.name) or 0) < a.score for a in safe)
    ours = sum(by_us.get(a.name) != a.score for a in chosen)
    report.in_short(f"attacks that gain points from nbgrader alone, of {len(safe)}", str(gained))
    report.in_short(f"attacks that lose honest points there, of {len(safe)}", str(lost))
    report.in_short(
        f"attacks with another score than honest here, of {len(chosen)}", str(ours), "0"
    )
    columns = ["attack", "tries", "honest", "nbgrader alone", "autograder"]
    report.table("Points of 4", columns, rows)
    report.close(save=not quick)


def the_attacks() -> ModuleType:
    """The tests' module, which is in no package."""
    sys.path.insert(0, str(ROOT / "tests"))  # for small_course, which it imports
    path = ROOT / "tests" / "autograder" / "attacks.py"
    spec = importlib.util.spec_from_file_location("attacks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["attacks"] = module
    spec.loader.exec_module(module)
    return module


def course(folder: Path, config: str, attacks: ModuleType, chosen: Sequence[Any]) -> None:
    """A released course with the attackers' submissions."""
    from small_course import named

    (folder / "source" / ASSIGNMENT).mkdir(parents=True)
    nbformat.write(attacks.notebook(), folder / "source" / ASSIGNMENT / f"{NAME}.ipynb")
    (folder / "nbgrader_config.py").write_text(config)
    run(folder, "nbgrader", "generate_assignment", ASSIGNMENT)
    released = (folder / "release" / ASSIGNMENT / f"{NAME}.ipynb").read_text()
    for attack in chosen:
        found = json.loads(released)
        named(found, "square")["source"] = attacks.SQUARE
        named(found, "solution_total")["source"] = attacks.NO_TOTAL
        attack.change(found)
        place = folder / "submitted" / attack.name / ASSIGNMENT
        place.mkdir(parents=True)
        (place / f"{NAME}.ipynb").write_text(json.dumps(found))


def run(folder: Path, *command: str) -> None:
    """Run a module in a course's folder; how it ends shows in the gradebook."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with contextlib.suppress(subprocess.TimeoutExpired):  # an attack may stop nbgrader for ever
        subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=300,
        )


def points(folder: Path) -> dict[str, float]:
    """Each student's points; nobody's where nothing was graded."""
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "attacks") as gradebook:
        return {
            submission.student_id: submission.score
            for submission in gradebook.assignment_submissions(ASSIGNMENT)
        }


def shown(points: float | None) -> str:
    """Points, or that there are none."""
    return "not graded" if points is None else f"{points:g}"


if __name__ == "__main__":
    main()
