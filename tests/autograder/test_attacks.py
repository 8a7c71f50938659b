"""No submission gets more than its honest work earns, or reaches anything but itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from small_course import named, scores_of, write_course

from autograder.course import Course
from autograder.report import collect
from autograder.steps import HideTests

from .attacks import ATTACKS, HONEST, INPUTS, NO_TOTAL, SECRET, SQUARE, TOTAL, Attack, notebook
from .published import NOT_PUBLISHED, PUBLISHED

pytestmark = pytest.mark.slow

HONEST_STUDENTS = ("aaa-first", "mmm-middle", "zzz-last")
LIMITS = {"cell_seconds": 5, "total_seconds": 60, "memory": 2 * 2**30}
ROOT = Path(__file__).parents[2]
MARK = "owned-by-an-attack"


def test_every_published_attack_is_tried_or_has_a_reason() -> None:
    known = {attack.name for attack in ATTACKS}
    for entry in PUBLISHED:
        assert entry.attacks or entry.reason, entry.what
        assert known.issuperset(entry.attacks.split()), entry.what
    assert known == {name for entry in PUBLISHED for name in entry.attacks.split()} | set(
        NOT_PUBLISHED
    )


def submit(course: Course, student: str, found: dict[str, Any]) -> None:
    folder = course.root / "submitted" / student / "ps1"
    folder.mkdir(parents=True)
    (folder / "means.ipynb").write_text(json.dumps(found))


def contents(root: Path) -> dict[str, str]:
    """What grading must leave as it is."""
    left_alone = ("source", "release", "submitted", "nbgrader_config.py", "canary")
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in left_alone
        for path in [root / name, *(root / name).rglob("*")]
        if path.is_file()
    }


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A class of attackers with three honest students among them, graded in one run."""
    root = tmp_path_factory.mktemp("attacks")
    course = write_course(root, {"means": notebook()})
    config = root / "nbgrader_config.py"
    config.write_text(f"{config.read_text()}c.Isolated.limits = {LIMITS}\n")
    (root / "canary").write_text("sings")
    course = Course.at(root)
    released = (root / "release/ps1/means.ipynb").read_text()
    for attack in ATTACKS:
        found = json.loads(released)
        named(found, "square")["source"] = SQUARE
        named(found, "solution_total")["source"] = NO_TOTAL
        attack.change(found)
        submit(course, attack.name, found)
    for student in HONEST_STUDENTS:
        found = json.loads(released)
        named(found, "square")["source"] = f"{SQUARE}\n# {student}"
        named(found, "solution_total")["source"] = TOTAL
        submit(course, student, found)
    before = contents(root)
    done = subprocess.run(
        [sys.executable, "-m", "autograder", "grade", "ps1", "--course", root],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"GRADED_HERE": str(root)},
    )
    assert done.returncode == 0, done.stderr  # so the whole class is recorded
    assert contents(root) == before
    return course


@pytest.fixture(scope="module")
def scores(graded: Course) -> dict[str, dict[str, float | None]]:
    return scores_of(graded)


@pytest.fixture(scope="module")
def reasons(graded: Course) -> dict[str, list[str]]:
    return {row.student: row.reasons for row in collect(graded, "ps1").rows}


def test_there_are_forty_at_least() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 40


@pytest.mark.parametrize("student", HONEST_STUDENTS)
def test_honest_students_have_their_points(scores: dict[str, Any], student: str) -> None:
    assert scores[student] == HONEST


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_an_attack_earns_what_its_honest_work_earns(
    graded: Course, scores: dict[str, Any], reasons: dict[str, list[str]], attack: Attack
) -> None:
    found = scores[attack.name]
    assert sum(score or 0 for score in found.values()) == attack.score, found
    if attack.reason is None:
        assert not reasons[attack.name]
    autograded = graded.root / "autograded" / attack.name / "ps1" / "means.ipynb"
    outputs = [c.get("outputs", []) for c in json.loads(autograded.read_text())["cells"]]
    assert SECRET not in json.dumps(outputs)
    feedback, _ = HideTests().preprocess(nbformat.read(autograded, as_version=4), {})
    assert INPUTS not in json.dumps([c.get("outputs", []) for c in feedback.cells])


def test_nothing_is_left_outside(graded: Course) -> None:
    places = ["/", "/usr", "/etc", "/root", "/home", "/tmp", "/var/tmp", "/dev/shm"]
    assert not [place for place in places if (Path(place) / MARK).exists()]
    assert not list(graded.root.rglob(f"{MARK}*"))


def test_no_process_is_left(graded: Course) -> None:
    def alive() -> list[Path]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(graded.root).encode() in (process / "environ").read_bytes():
                    found.append(process)
        return found

    for _ in range(50):
        if not alive():
            return
        time.sleep(0.2)
    pytest.fail(f"still there: {alive()}")
