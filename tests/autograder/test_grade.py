"""Grading a class: parity with nbgrader, what is not run again, and what goes wrong."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import standin
from filelock import FileLock
from fuzz import fuzzed
from nbgrader.converters import GenerateAssignment
from nbgrader.plugins.export import CsvExportPlugin
from small_course import named, scores_of, source_notebook, write_course
from traitlets.config import Config

from autograder import atomic, gradebook, steps
from autograder.atomic import exchange, write
from autograder.course import Busy, Course, CourseError, quiet
from autograder.execute.pool import Pool
from autograder.execute.sandbox import SandboxError
from autograder.execute.store import Store
from autograder.grade import Summary, grade
from autograder.job import Job
from autograder.log import log_of
from autograder.report import collect

ALL = {"test_mean": 2, "test_hidden": 3, "test_partial": 2, "why": 0, "task": None}


@pytest.fixture(autouse=True)
def _nothing_runs_while_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "run", never)


def run(course: Course, **options: Any) -> Summary:
    options = {"executor": standin.Here(), "execute": standin.execute, "progress": False, **options}
    return grade(course, "ps1", **options)


def never(job: bytes, isolated: bool) -> bytes:
    raise AssertionError("it runs again")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_class_is_graded_and_what_did_not_change_is_left_alone(
    course: Course, submit: Any, scores: Any
) -> None:
    for student in ("anna", "bert", "carl"):
        submit(student, f"def mean(values):\n    return sum(values) / len(values)  # {student}")
    summary = run(course)
    assert sorted(summary.graded) == ["anna", "bert", "carl"]
    assert summary.executed == 3
    assert scores("anna") == scores("carl") == ALL
    before = tree(course.root / "autograded")
    again = run(course, execute=never)
    assert (again.graded, again.executed) == ([], 0)
    assert tree(course.root / "autograded") == before

    submit("bert", "def mean(values):\n    return 2")
    third = run(course)
    assert (third.graded, third.executed) == (["bert"], 1)
    assert scores("bert") == ALL | {"test_hidden": 0}


def test_equal_work_runs_once(course: Course, submit: Any) -> None:
    for student in ("anna", "bert", "carl"):
        submit(student)
    assert run(course).executed == 1
    assert run(course, force=True).executed == 1


def test_the_courses_settings_hold_for_what_runs_in_parallel(course: Course, submit: Any) -> None:
    """So recording finds the result of each job, and does not run it once more by itself."""
    course.config.Isolated.limits = {"cell_seconds": 7}
    course.config.Isolated.withheld = ["this"]
    course.config.Isolated.network = ["example.org:443"]
    jobs: list[Job] = []

    def execute(job: bytes, isolated: bool) -> bytes:
        jobs.append(Job.from_bytes(job))
        return standin.execute(job, isolated)

    submit("anna")
    assert run(course, execute=execute).graded == ["anna"]
    assert {(job.limits.cell_seconds, job.withheld, job.network) for job in jobs} == {
        (7, ("this",), ("example.org:443",))
    }
    # The solution's job, outside, inside and inside after other tests, and anna's.
    assert len(list((course.work / "results").rglob("*.json"))) == len(jobs) == 4


@pytest.mark.parametrize(("large", "held"), [(True, 2), (False, 6)])
def test_submissions_with_large_files_wait_to_be_read(
    course: Course, submit: Any, monkeypatch: pytest.MonkeyPatch, large: bool, held: int
) -> None:
    """So that what is held does not grow with their number; as many as can run do."""
    most = [0]
    reached = threading.Event()
    submitted = Pool.submit

    def submit_job(pool: Pool, key: str, job: bytes) -> None:
        submitted(pool, key, job)
        most.append(len(pool.running))
        if most[-1] == held:
            reached.set()

    def execute(job: bytes, isolated: bool) -> bytes:
        reached.wait(30)
        time.sleep(0.1)
        return standin.execute(job, isolated)

    submit("anna")
    run(course)  # the solution, too
    monkeypatch.setattr(Pool, "submit", submit_job)
    for student in ("bert", "carl", "dora", "ella", "finn", "gert"):
        (submit(student) / "file").write_bytes(student.encode() * (2**21 if large else 2))
    assert len(run(course, execute=execute, executor=None, workers=2).graded) == 6
    assert max(most) == held


def test_one_student_alone(course: Course, submit: Any) -> None:
    submit("anna")
    submit("bert")
    assert run(course, students=["bert"]).graded == ["bert"]
    assert set(course.points("ps1")) == {"bert"}
    with pytest.raises(CourseError, match="no submission of ps1 by carl, dora"):
        run(course, students=["dora", "anna", "carl"])
    summary = run(course)
    assert (summary.graded, summary.unchanged) == (["anna"], ["bert"])


def interrupted(job: bytes, isolated: bool) -> bytes:
    raise KeyboardInterrupt


def test_no_name_and_no_error_makes_a_line_of_its_own_in_the_log(tmp_path: Path) -> None:
    def run() -> None:
        with log_of(tmp_path, "ps1") as log:
            log.info("%s has %g points", "eve\n2030-01-01 00:00:00,000 ps1: eve has 7", 0)
            raise ValueError("one\ntwo")

    with pytest.raises(ValueError, match="two"):
        run()
    lines = (tmp_path / "grade.log").read_text().splitlines()
    assert [line.split(" ps1: ")[1] for line in lines] == [
        "eve 2030-01-01 00:00:00,000", "the run ended: ValueError: one two",
    ]  # fmt: skip


def test_a_name_that_is_not_text_is_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_of(tmp_path, "ps1") as log:
        log.info("%s has 3 points", os.fsdecode(b"b\xff"))
    assert (tmp_path / "grade.log").read_text().endswith("ps1: b\\udcff has 3 points\n")
    assert capsys.readouterr().err == ""


def test_a_log_without_space_neither_ends_a_run_nor_hides_why_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grade.log").symlink_to("/dev/full")
    with log_of(tmp_path, "ps1") as log:
        log.error("anna has 3 points")
    with pytest.raises(CourseError, match="the cause"), log_of(tmp_path, "ps1"):
        raise CourseError("the cause")
    assert capsys.readouterr().err == ""
    with log_of(tmp_path, "ps1") as log:
        log.error("%d points", "three")
    assert "TypeError" in capsys.readouterr().err  # a mistake of the grader's is not hidden


def test_the_log_tells_what_each_run_recorded(course: Course, submit: Any) -> None:
    submit("anna")
    run(course, dry_run=True)
    run(course)
    submit("bert", "def mean(values):\n    return 0")
    with pytest.raises(KeyboardInterrupt):
        run(course, execute=interrupted)
    lines = (course.work / "grade.log").read_text().splitlines()
    said = [line.split(" ps1: ")[1] for line in lines]
    assert [line for line in said if not line.startswith("means, ")][:4] == [
        "anna would have 7 points",
        "nothing was recorded: 1 graded, 0 unchanged, 1 notebooks run",
        "anna has 7 points",
        "1 graded, 0 unchanged, 0 notebooks run",
    ]
    assert said[-1].startswith("the run ended: KeyboardInterrupt")


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 60),
        ({"ExecutePreprocessor": {"timeout": 90}}, 90),
        ({"Execute": {"timeout": 7}}, 7),
        ({"Execute": {"timeout": -1}}, 60),
        ({"Execute": {"timeout": 7}, "Isolated": {"limits": {"cell_seconds": 5}}}, 5),
    ],
)
def test_nbgraders_own_timeout_is_the_limit_of_a_cell(
    course: Course, submit: Any, settings: dict[str, Any], seconds: float
) -> None:
    submit("anna")
    course.config.merge(Config(settings))
    seen: list[float] = []

    def look(job: bytes, isolated: bool) -> bytes:
        seen.append(Job.from_bytes(job).limits.cell_seconds)
        return standin.execute(job, isolated)

    run(course, execute=look)
    assert set(seen) == {seconds}


def test_a_new_timestamp_alone_is_recorded_and_not_run(course: Course, submit: Any) -> None:
    submit("anna")
    run(course)
    submit("anna", timestamp="2030-01-02 12:00:00 UTC")
    assert run(course, execute=never).graded == ["anna"]
    with course.gradebook() as gradebook:
        assert gradebook.find_submission("ps1", "anna").timestamp.day == 2


@pytest.mark.parametrize("kind", ["text", "picture", "cell"])
def test_a_new_answer_in_words_is_recorded_and_not_run(
    course: Course, submit: Any, kind: str
) -> None:
    def first(notebook: dict[str, Any]) -> None:
        answer = named(notebook, "why")
        answer["source"] = "Because.\r\nSo ![](a.png)\u2028there."
        answer["attachments"] = {"a.png": {"image/png": "aGk="}}

    def second(notebook: dict[str, Any]) -> None:
        first(notebook)
        if kind == "text":
            named(notebook, "why")["source"] = "Indeed."
        elif kind == "picture":
            named(notebook, "why")["attachments"]["a.png"]["image/png"] = "aGE="
        else:
            notebook["cells"].append({"cell_type": "raw", "source": "Also.", "metadata": {}})

    submit("anna", change=first)
    run(course)
    assert run(course, execute=never).graded == []
    submit("anna", change=second)
    assert run(course, execute=never).graded == ["anna"]
    text = (course.root / "autograded/anna/ps1/means.ipynb").read_text()
    assert {"text": "Indeed.", "picture": "aGE=", "cell": "Also."}[kind] in text
    assert run(course, execute=never).graded == []


@pytest.mark.parametrize("lost", ["folder", "gradebook", "score"])
def test_what_was_lost_is_recorded_again(
    course: Course, submit: Any, scores: Any, lost: str
) -> None:
    submit("anna")
    run(course)
    if lost == "folder":
        shutil.rmtree(course.root / "autograded/anna")
    elif lost == "gradebook":
        with course.gradebook() as gradebook:
            gradebook.remove_student("anna")
    else:  # as a run that was killed between two cells leaves it
        with course.gradebook() as gradebook:
            gradebook.find_grade("test_mean", "means", "ps1", "anna").auto_score = None
            gradebook.db.commit()
    assert run(course, execute=never).graded == ["anna"]
    assert scores("anna") == ALL
    assert run(course, execute=never).graded == []


def test_a_manual_grade_survives_a_regrade(course: Course, submit: Any) -> None:
    submit("anna")
    run(course)
    with course.gradebook() as gradebook:
        gradebook.find_grade("why", "means", "ps1", "anna").manual_score = 4
        gradebook.db.commit()
    submit("anna", "def mean(values):\n    return 2")
    run(course)
    with course.gradebook() as gradebook:
        assert gradebook.find_grade("why", "means", "ps1", "anna").manual_score == 4


def test_a_test_that_is_mended_after_the_release_accuses_nobody(
    course: Course, submit: Any, scores: Any
) -> None:
    def cheat(notebook: dict[str, Any]) -> None:
        named(notebook, "test_mean")["source"] = "pass"

    submit("anna")
    submit("bert", change=cheat)
    path = course.root / "source/ps1/means.ipynb"
    notebook = json.loads(path.read_text())
    named(notebook, "test_mean")["source"] = "assert mean([1, 2, 6]) == 3"
    path.write_text(json.dumps(notebook))
    directory = course.directory(assignment_id="ps1")
    again = GenerateAssignment(coursedir=directory, config=course.config, log=quiet())
    again.force = True
    again.start()
    run(course)
    assert scores("anna") == ALL
    about = {
        name: course.graded_notebooks("ps1", name)["means"].metadata.autograder
        for name in ("anna", "bert")
    }
    assert about["anna"].tampering == []
    assert len(about["bert"].tampering) == 1


def test_a_dry_run_tells_the_changes_and_makes_none(
    course: Course, submit: Any, scores: Any
) -> None:
    submit("anna")
    run(course)
    submit("anna", "def mean(values):\n    return 2")
    submit("bert")
    before = tree(course.root / "autograded"), (course.root / "gradebook.db").read_bytes()
    summary = run(course, dry_run=True)
    assert summary.changes == [("anna", 7, 4), ("bert", None, 7)]
    assert before == (tree(course.root / "autograded"), (course.root / "gradebook.db").read_bytes())
    assert run(course, execute=never).graded == ["anna", "bert"]  # the results were kept
    assert scores("anna")["test_hidden"] == 0


def test_a_dry_run_counts_manual_points_and_penalties(course: Course, submit: Any) -> None:
    submit("anna", timestamp="2030-01-03 12:00:00 UTC")
    run(course)
    with course.gradebook() as gradebook:
        gradebook.find_grade("why", "means", "ps1", "anna").manual_score = 4
        gradebook.find_assignment("ps1").duedate = datetime.datetime(2030, 1, 1, 12)
        gradebook.db.commit()
    course.config.AssignLatePenalties.plugin_class = "small_course.HalfAnHour"
    submit("anna", "def mean(values):\n    return 2", timestamp="2030-01-03 12:00:00 UTC")
    assert run(course, dry_run=True).changes == [("anna", 7 + 4, 4 + 4 - 0.5)]


# Every kind of bad submission


def _replace(data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "means.ipynb").write_bytes(data) and None


def _rename(folder: Path) -> None:
    (folder / "means.ipynb").rename(folder / "homework.ipynb")


def _link(folder: Path) -> None:
    (folder / "means.ipynb").rename(folder / "other.ipynb")
    (folder / "means.ipynb").symlink_to("other.ipynb")


def _folder(folder: Path) -> None:
    (folder / "means.ipynb").unlink()
    (folder / "means.ipynb").mkdir()


def _link_folder(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_replace(b""), "malformed"),
        (_replace(b"[" * 200_000), "malformed"),
        (_replace(b" " * (21 * 2**20)), "malformed"),
        (_rename, "missing"),
        (_link, "malformed"),
        (_folder, "malformed"),
        (_link_folder, "malformed"),
    ],
    ids=["empty", "deep", "huge", "missing", "link", "folder", "linked folder"],
)
def test_a_bad_submission_has_its_reason_and_stops_nobody(
    course: Course, submit: Any, scores: Any, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(submit("anna"))
    submit("bert")
    summary = run(course)
    assert summary.failed == {}
    assert scores("anna") == dict.fromkeys(ALL, 0) | {"task": None}
    assert scores("bert") == ALL
    notebook = course.graded_notebooks("ps1", "anna")["means"]
    assert notebook.metadata.autograder.reason == reason
    assert run(course, execute=never).graded == []


def test_a_notebook_of_another_name_is_told(course: Course, submit: Any) -> None:
    folder = submit("anna")
    (folder / "means.ipynb").rename(folder / "means (1).ipynb")
    run(course)
    (notebook,) = course.graded_notebooks("ps1", "anna").values()
    said = {out.evalue for cell in notebook.cells for out in cell.get("outputs", [])}
    assert said == {"means.ipynb was not submitted; there is 'means (1).ipynb'"}


@pytest.mark.slow
def test_fuzzed_notebooks_stop_nobody(course: Course, submit: Any) -> None:
    whole = (submit("aaa") / "means.ipynb").read_bytes()
    for number, spoilt in enumerate(fuzzed(whole, 150, random.Random(1))):
        (submit(f"fuzzed-{number:03}") / "means.ipynb").write_bytes(spoilt)
    submit("zzz")
    summary = run(course)
    assert summary.failed == {}
    assert len(summary.graded) == 152
    scores = scores_of(course)
    assert scores["aaa"] == scores["zzz"] == ALL
    reasons = []
    for student in summary.graded:
        notebook = course.graded_notebooks("ps1", student)["means"]
        reasons.append(notebook.metadata.autograder.reason)
        points = scores[student]
        assert points.keys() == ALL.keys()
        assert all(0 <= (points[name] or 0) <= (ALL[name] or 0) for name in ALL)
        if reasons[-1]:
            assert not any(points.values())
            assert "refused" in notebook.metadata.autograder
    assert set(reasons) == {None, "malformed"}
    assert 30 < reasons.count("malformed") < 120


@pytest.mark.parametrize(
    "timestamp", ["", "yesterday-ish", "9" * 500, "\0", "2030-13-45 99:00:00 UTC", "0000-00-00"]
)
def test_a_bad_timestamp_is_told_and_graded(
    course: Course, submit: Any, scores: Any, timestamp: str
) -> None:
    submit("anna", timestamp=timestamp)
    assert run(course).failed == {}
    assert scores("anna") == ALL
    tampering = course.graded_notebooks("ps1", "anna")["means"].metadata.autograder.tampering
    assert "timestamp" in tampering[0]


def test_a_folder_for_the_timestamp_is_told_and_graded(
    course: Course, submit: Any, scores: Any
) -> None:
    path = submit("anna") / "timestamp.txt"
    path.unlink()
    path.mkdir()
    assert run(course).failed == {}
    assert scores("anna") == ALL
    tampering = course.graded_notebooks("ps1", "anna")["means"].metadata.autograder.tampering
    assert tampering == ["timestamp.txt is not a regular file"]


def test_odd_files_and_students(course: Course, submit: Any, scores: Any) -> None:
    folder = submit("zoë [x] (1)*")
    (folder / "odd\nname.txt").write_text("1")
    (folder / "book").symlink_to(course.root / "gradebook.db")
    os.mkfifo(folder / "pipe")
    assert run(course).failed == {}
    assert scores("zoë [x] (1)*") == ALL
    made = course.root / "autograded/zoë [x] (1)*/ps1"
    assert sorted(p.name for p in made.iterdir()) == ["means.ipynb", "numbers.csv", "timestamp.txt"]
    notebook = course.graded_notebooks("ps1", "zoë [x] (1)*")["means"]
    assert len(notebook.metadata.autograder.tampering) == 3


@pytest.mark.parametrize(
    ("odd", "given"), [("numbers.csv/mine.txt", "numbers.csv"), ("data", "data/points.csv")]
)
def test_a_file_where_the_assignment_has_a_folder_or_a_folder_where_a_file_stops_nobody(
    course: Course, submit: Any, scores: Any, odd: str, given: str
) -> None:
    path = course.root / "source/ps1" / given
    path.parent.mkdir(exist_ok=True)
    path.write_text("given")
    theirs = submit("anna") / odd
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("mine")
    submit("bert")
    assert run(course).failed == {}
    assert scores("anna") == scores("bert") == ALL
    assert (course.root / "autograded/anna/ps1" / given).read_text() == "given"
    tampering = course.graded_notebooks("ps1", "anna")["means"].metadata.autograder.tampering
    assert tampering == [f"{odd} is in the place of a file of the assignment"]


# Faults


def test_an_executor_that_breaks_ends_the_run_and_the_next_one_goes_on(
    course: Course, submit: Any, scores: Any
) -> None:
    submit("anna", "# crash")
    submit("bert")
    with ProcessPoolExecutor(1) as executor, pytest.raises(CourseError, match="runs nothing"):
        run(course, executor=executor)
    submit("anna")
    assert "bert" in run(course).graded
    assert scores("anna") == scores("bert") == ALL


@pytest.mark.slow
def test_an_interrupted_run_ends_what_still_runs(course: Course, submit: Any) -> None:
    submit("anna", "while True: pass")
    script = (
        "from pathlib import Path; from autograder.course import Course;"
        "from autograder.grade import grade; grade(Course.at(Path()), 'ps1')"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=course.root,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.DEVNULL,
    ) as graded:
        while not (forks := sandboxed(graded.pid)):
            time.sleep(0.1)
        time.sleep(1)
        started = time.monotonic()
        graded.send_signal(signal.SIGINT)
        assert graded.wait(20) != 0
        assert time.monotonic() - started < 10
        while any(Path("/proc", pid).exists() for pid in forks):  # the kernel clears up
            assert time.monotonic() - started < 20
            time.sleep(0.1)


def sandboxed(pid: int) -> list[str]:
    """A process's forks in sandboxes: what has bubblewrap above it, by two warm parents."""
    below, found = [str(pid)], []
    while below:
        tasks = Path("/proc", below.pop()).glob("task/*/children")
        children = [child for task in tasks for child in task.read_text().split()]
        below += children
        found += children
    return found if len(found) > 8 else []


def test_what_cannot_start_is_told_at_once(course: Course, submit: Any) -> None:
    for number in range(3):
        submit(f"s{number}", f"def mean(v):\n    return {number}")
    tries = []

    def cannot(job: bytes, isolated: bool) -> bytes:
        tries.append(job)
        raise SandboxError("there is no sandbox")

    with pytest.raises(CourseError, match="nothing can be run: there is no sandbox"):
        run(course, execute=cannot)
    assert len(tries) == 1


class Losing(ThreadPoolExecutor):
    """A cluster that loses every third job's worker."""

    count = 0

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        if self.count % 3 == 2:
            future: Future[Any] = Future()
            future.set_exception(RuntimeError("worker lost"))
            return future
        return super().submit(function, *args, **kwargs)


def test_jobs_of_a_lost_worker_run_again(course: Course, submit: Any) -> None:
    for number in range(6):
        submit(f"s{number}", f"def mean(v):\n    return sum(v) / len(v)  # {number}")
    with Losing(2) as executor:
        run(course, executor=executor)
    assert scores_of(course) == {f"s{number}": ALL for number in range(6)}


def test_a_second_run_is_refused(course: Course, submit: Any) -> None:
    submit("anna")
    with FileLock(course.work / "lock"), pytest.raises(Busy, match="another run"):
        run(course)
    assert run(course).graded == ["anna"]


def test_a_read_only_gradebook_ends_the_run_and_the_next_one_goes_on(
    course: Course, submit: Any, scores: Any
) -> None:
    submit("anna")
    path = course.root / "gradebook.db"
    course.config.CourseDirectory.db_url = f"sqlite:///file:{path}?mode=ro&uri=true"
    with pytest.raises(CourseError, match="readonly"):
        run(course)
    del course.config.CourseDirectory["db_url"]
    assert run(course, execute=never).graded == ["anna"]
    assert scores("anna") == ALL


def test_a_full_disk_leaves_the_old_result(
    course: Course, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("anna")
    run(course)
    before = tree(course.root / "autograded")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for place, name in ((gradebook, "exchange"), (os, "fsync")):
        submit("anna", f"def mean(values):\n    return 2  # {name}")
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            with pytest.raises(CourseError, match="No space left"):
                run(course)
        assert tree(course.root / "autograded") == before
    assert run(course).graded == ["anna"]


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


def test_a_torn_result_counts_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(tmp_path / "ab/abc.json", b'{"cells": [')
    assert store.get("abc") is None


@pytest.mark.parametrize("at_once", [True, False])
def test_folders_are_exchanged_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if not at_once:  # as on NFS, beside what a killed run has left
        monkeypatch.setattr(atomic.ctypes, "CDLL", lambda *_, **__: object())
        (tmp_path / "new.old/left").mkdir(parents=True)
    new, old = tmp_path / "new", tmp_path / "deep/old"
    for content in ("1", "2"):
        new.mkdir(exist_ok=True)
        (new / "file").write_text(content)
        exchange(new, old)
        assert (old / "file").read_text() == content
    assert (new / "file").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "new"]


def test_a_folder_that_cannot_be_exchanged_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic.ctypes, "CDLL", lambda *_, **__: object())
    (tmp_path / "old").mkdir()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


RUNS = """
import os, sys
sys.path[:0] = sys.argv[1:]
if __name__ == "__main__":
    from pathlib import Path
    import standin
    from autograder.course import Course
    from autograder.grade import grade

    course = Course.at(Path())
    for executor in sys.stdin:
        # Forked, so that a run starts at once and is killed at work, not while it imports.
        pid = os.fork()
        if pid == 0:
            here = standin.Here() if executor.strip() == "here" else None
            grade(course, "ps1", executor=here, execute=standin.execute, progress=False)
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)
"""


def kill_and_finish(
    course: Course,
    submit: Any,
    executor: str,
    moments: list[tuple[int, float]],
    students: int,
    ready: Callable[[], bool] = lambda: True,
) -> None:
    """Kills runs so many jobs and seconds after their start; then lets one finish, and looks.

    With `ready` they are killed as soon after that as it holds.
    """
    calls = course.root / "calls"
    calls.touch()
    for number in range(students):
        submit(f"s{number}", f"def mean(v):\n    # slow {number}\n    return sum(v) / len(v)")
    (course.root / "runs.py").write_text(RUNS)
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "runs.py", *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=course.root,
        env={**os.environ, "STANDIN_CALLS": str(calls)},
        text=True,
    ) as runs:
        assert runs.stdin is not None
        assert runs.stdout is not None
        for jobs, seconds in moments:
            wanted = min(calls.stat().st_size + jobs, students)
            print(executor, file=runs.stdin, flush=True)
            pid = int(runs.stdout.readline())
            while calls.stat().st_size < wanted:
                time.sleep(0.01)
            time.sleep(seconds)
            while not ready():
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)
            assert runs.stdout.readline() == "ended\n"
            # Whatever the moment: a submission is recorded whole, and a graded folder is whole.
            assert all(found == ALL for found in scores_of(course).values())
            for graded in (course.root / "autograded").glob("*/ps1"):
                assert len(list(graded.iterdir())) == 3
                json.loads((graded / "means.ipynb").read_text())
        runs.stdin.close()
    assert list((course.work / "results").rglob("*.json"))
    run(course)
    assert scores_of(course) == {f"s{number}": ALL for number in range(students)}
    with course.gradebook() as gradebook:
        assert len(gradebook.assignment_submissions("ps1")) == students
    assert run(course, execute=never).graded == []


def working_in(folder: Path) -> list[str]:
    """The processes whose working folder it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.append(process.name)
    return found


@pytest.mark.slow
def test_a_killed_run_is_finished_by_the_next_and_leaves_nothing_running(
    course: Course, submit: Any
) -> None:
    # Of two threads one has kept a result when the third job begins, however slow the machine is.
    kill_and_finish(course, submit, "threads", [(3, 0.2), (3, 0.3)], 6)
    deadline = time.monotonic() + 20
    while working_in(course.root) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert working_in(course.root) == []


@pytest.mark.slow
def test_runs_killed_at_thirty_random_moments(course: Course, submit: Any) -> None:
    dice = random.Random(0)
    moments = [(dice.randrange(3), dice.uniform(0, 0.5)) for _ in range(30)]
    kill_and_finish(course, submit, "here", moments, 40)


# What is nbgrader's keeps working


def test_late_penalties(course: Course, submit: Any) -> None:
    (course.root / "lateness.py").write_text(
        "from nbgrader.plugins import BasePlugin\n"
        "class Late(BasePlugin):\n"
        "    def late_submission_penalty(self, student_id, score, total_seconds_late):\n"
        "        return 1.5\n"
    )
    course.config.AssignLatePenalties.plugin_class = "lateness.Late"
    sys.path.insert(0, str(course.root))
    try:
        with course.gradebook() as gradebook:
            gradebook.update_or_create_assignment("ps1", duedate="2030-01-01 00:00:00 UTC")
        submit("anna")
        run(course)
    finally:
        sys.path.remove(str(course.root))
    with course.gradebook() as gradebook:
        submission = gradebook.find_submission("ps1", "anna")
        assert submission.late_submission_penalty == 1.5
        assert submission.total_seconds_late == 12 * 3600
    (row,) = collect(course, "ps1").rows
    assert (row.score, row.penalty, row.late) == (7, 1.5, 12 * 3600)


@pytest.mark.parametrize("changed", ["rule", "due date", "extension", "manual points"])
def test_a_penalty_follows_what_it_depends_on(course: Course, submit: Any, changed: str) -> None:
    course.config.LateSubmissionPlugin.penalty_method = "none" if changed == "rule" else "zero"
    due = "2030-01-02" if changed == "due date" else "2030-01-01"
    with course.gradebook() as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate=f"{due} 00:00:00 UTC")
    submit("anna", timestamp="2030-01-01 12:00:00 UTC")
    submit("bert", timestamp="2029-12-31 12:00:00 UTC")
    run(course)
    with course.gradebook() as gradebook:
        if changed == "rule":
            course.config.LateSubmissionPlugin.penalty_method = "zero"
        elif changed == "due date":
            gradebook.update_or_create_assignment("ps1", duedate="2030-01-01 00:00:00 UTC")
        elif changed == "extension":
            gradebook.grant_extension("ps1", "anna", days=1)
        else:
            gradebook.find_grade("why", "means", "ps1", "anna").manual_score = 4
            gradebook.db.commit()
    assert run(course, execute=never).graded == ["anna"]
    assert course.points("ps1") == {"anna": 7 if changed == "extension" else 0, "bert": 7}
    assert run(course, execute=never).graded == []


def test_a_rule_for_lateness_that_fails_is_told(
    course: Course, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("anna")
    run(course)
    with course.gradebook() as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate="2030-01-01 00:00:00 UTC")
    course.config.AssignLatePenalties.plugin_class = "small_course.HalfAnHour"
    monkeypatch.setattr("small_course.HalfAnHour.late_submission_penalty", lambda *_: 1 / 0)
    assert run(course, execute=never).failed == {"anna": "ZeroDivisionError: division by zero"}


def test_an_export_to_csv_has_everybody(course: Course, submit: Any) -> None:
    submit("anna")
    submit("bert", "def mean(values):\n    return 2")
    run(course)
    exporter = CsvExportPlugin()
    exporter.to = str(course.root / "grades.csv")
    with course.gradebook() as gradebook:
        exporter.export(gradebook)
    lines = (course.root / "grades.csv").read_text().splitlines()
    heads = lines[0].split(",")
    found = {row.split(",")[heads.index("student_id")]: row.split(",") for row in lines[1:]}
    assert {s: float(row[heads.index("score")]) for s, row in found.items()} == {
        "anna": 7,
        "bert": 4,
    }


@pytest.mark.slow
def test_several_notebooks_and_one_of_them_missing(tmp_path: Path) -> None:
    course = write_course(tmp_path, {"one": source_notebook(), "two": source_notebook()})
    for student, names in (("anna", ("one", "two")), ("bert", ("two",))):
        folder = tmp_path / "submitted" / student / "ps1"
        folder.mkdir(parents=True)
        for name in names:
            notebook = json.loads((tmp_path / f"release/ps1/{name}.ipynb").read_text())
            named(notebook, "mean")["source"] = "def mean(v):\n    return sum(v) / len(v)"
            (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    assert run(course).failed == {}
    scores = course.auto_scores("ps1")
    assert scores["anna"]["one", "test_mean"] == scores["bert"]["two", "test_mean"] == 2
    assert scores["bert"]["one", "test_mean"] == 0
    assert run(course, execute=never).graded == []


def test_a_course_may_be_in_a_folder_with_any_name(
    course: Course, submit: Any, tmp_path: Path
) -> None:
    submit("anna")
    elsewhere = tmp_path / "vae [2025] *"
    course.root.rename(elsewhere)
    moved = Course.at(elsewhere)
    assert run(moved).graded == ["anna"]
    assert moved.auto_scores("ps1")["anna"]["means", "test_mean"] == 2
    assert run(moved, execute=never).unchanged == ["anna"]


def test_errors_of_the_course_are_named(course: Course, tmp_path: Path) -> None:
    with pytest.raises(CourseError, match="only: ps1"):
        grade(course, "ps2", progress=False)
    with pytest.raises(CourseError, match="is not a folder"):
        Course.at(tmp_path / "nowhere")
    (course.root / "nbgrader_config.py").write_text("1 / 0")
    with pytest.raises(CourseError, match="ZeroDivisionError"):
        Course.at(course.root)
    (course.root / "nbgrader_config.py").unlink()
    (course.root / "gradebook.db").unlink()
    with pytest.raises(CourseError, match="there is no gradebook"):
        grade(Course.at(course.root), "ps1", progress=False)


@pytest.mark.slow
def test_only_python_is_graded(tmp_path: Path) -> None:
    notebook = source_notebook()
    notebook.metadata.kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    with pytest.raises(CourseError, match="only Python"):
        run(write_course(tmp_path, {"means": notebook}))


def test_a_submission_without_a_file_beside_its_notebook(
    course: Course, submit: Any, scores: Any
) -> None:
    (course.root / "source/ps1/numbers.csv").unlink()
    (submit("anna") / "timestamp.txt").unlink()
    assert run(course).graded == ["anna"]
    assert scores("anna") == ALL
