"""Watching the exchange: what arrives is graded and answered, and a kill loses nothing."""

from __future__ import annotations

import functools
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import standin
from filelock import FileLock
from nbgrader.auth import Authenticator
from nbgrader.exchange import ExchangeFactory, abc
from nbgrader.utils import get_username
from small_course import named, source_notebook, write_course
from traitlets.config import Config

from autograder import exchange, gradebook, steps, watch
from autograder.__main__ import main
from autograder.course import Busy, Course, CourseError, quiet
from autograder.grade import grade, warm
from autograder.job import Job
from autograder.watch import Watch

RIGHT = "def mean(values):\n    return sum(values) / len(values)"
WRONG = "def mean(values):\n    return 2"


class Student:
    """Somebody with a folder of their own, who uses nbgrader's exchange as students do."""

    def __init__(self, course: Course, name: str) -> None:
        self.course, self.name = course, name
        self.home = course.root.parent / "home" / name
        self.config = Config()
        self.config.Exchange.root = course.config.Exchange.root
        self.config.Exchange.assignment_dir = str(self.home)
        self.config.Exchange.cache = str(self.home / "cache")

    def _start(self, action: str) -> None:
        directory = self.course.directory(assignment_id="ps1", student_id=self.name)
        made = getattr(ExchangeFactory(config=self.config), action)(
            coursedir=directory,
            authenticator=Authenticator(config=self.config),
            config=self.config,
            log=quiet(),
        )
        made.start()

    def submit(
        self, mean: str = RIGHT, change: Callable[[Path], None] = lambda folder: None
    ) -> Path:
        """Hands in, and returns where it lies in the exchange."""
        shutil.copytree(self.course.root / "release/ps1", self.home / "ps1", dirs_exist_ok=True)
        path = self.home / "ps1/means.ipynb"
        notebook = json.loads((self.course.root / "release/ps1/means.ipynb").read_text())
        named(notebook, "mean")["source"] = mean
        path.write_text(json.dumps(notebook))
        change(self.home / "ps1")
        before = {*inbound(self.course).iterdir()}
        self._start("Submit")
        (new,) = {*inbound(self.course).iterdir()} - before
        return new

    def feedback(self) -> list[str]:
        """The pages that `nbgrader fetch_feedback` finds, from the first submission to the last."""
        self._start("FetchFeedback")
        found = (self.home / "ps1/feedback").glob("*/means.html")
        return [path.read_text() for path in sorted(found)]


def inbound(course: Course) -> Path:
    return Path(course.config.Exchange.root, "means/inbound")


def points(page: str) -> str:
    """The points of a page, as the student reads them."""
    return page.split("(Score: ")[1].split(")")[0]


@pytest.fixture(scope="session")
def _watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("watched")
    notebook = source_notebook()
    names = ("imports", "mean", "test_mean", "test_hidden")  # of which none is marked by hand
    notebook.cells = [named(notebook, name) for name in names]
    write_course(root, {"means": notebook})
    return root


def released(root: Path, made: Path) -> Course:
    """A copy of a course with an exchange, in which its assignment is released."""
    shutil.copytree(made, root)
    shared = root.parent / "exchange"
    shared.mkdir()
    shared.chmod(0o777)
    with (root / "nbgrader_config.py").open("a") as config:
        config.write(f"c.Exchange.root = {str(shared)!r}\nc.ExchangeCollect.check_owner = False\n")
    course = Course.at(root)
    ExchangeFactory(config=course.config).ReleaseAssignment(
        coursedir=course.directory(assignment_id="ps1"), config=course.config, log=quiet()
    ).start()
    return course


@pytest.fixture
def course(request: pytest.FixtureRequest, _watched: Path, tmp_path: Path) -> Course:
    return released(tmp_path / getattr(request, "param", "course"), _watched)


@pytest.fixture
def marked(_released: Path, tmp_path: Path) -> Course:
    """A course in which two cells are marked by hand."""
    return released(tmp_path / "course", _released)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits, and no sandbox is needed."""

    def never(job: bytes, isolated: bool) -> bytes:
        raise AssertionError("it runs again")

    monkeypatch.setattr(steps, "run", never)
    monkeypatch.setattr(exchange, "STILL", 0.0)
    monkeypatch.setattr(watch, "PAUSE", 0.0)
    here = functools.partial(grade, executor=standin.Here(), execute=standin.execute)
    monkeypatch.setattr(watch, "grade", here)
    monkeypatch.setattr(watch, "warm", lambda *_: None)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def watched(course: Course, told: list[str]) -> Watch:
    return Watch(course, "ps1", told.append)


def test_what_arrives_is_graded_and_its_feedback_is_there_for_the_student(
    course: Course, watched: Watch, told: list[str], scores: Any
) -> None:
    anna, bert = Student(course, "anna"), Student(course, "bert")
    anna.submit()
    bert.submit(WRONG)
    look = watched.look()
    assert (look.collected, look.graded, look.given) == (["anna", "bert"],) * 3
    assert str(look).startswith("2 collected, 2 graded, 2 given feedback, 0 waiting")
    assert str(look).endswith(" s: anna, bert")
    assert scores("anna") == {"test_mean": 2, "test_hidden": 3}
    assert [points(page) for page in anna.feedback()] == ["5.0 / 5.0"]
    assert [points(page) for page in bert.feedback()] == ["2.0 / 5.0"]
    assert "seed" not in anna.feedback()[0]
    assert told == []


def test_nothing_is_run_where_nothing_is_new(
    course: Course, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = Student(course, "anna")
    anna.submit()
    assert watched.look()
    before = anna.feedback()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is done again")

    for name in ("grade", "give"):
        monkeypatch.setattr(watch, name, never)
    monkeypatch.setattr(exchange.Arrivals, "start", never)
    monkeypatch.setattr(Course, "locked", never)  # nobody else is kept waiting
    look = watched.look()
    assert (bool(look), look.error) == (False, None)
    monkeypatch.undo()
    _again = Watch(course, "ps1", print).look()  # which remembers nothing
    assert (bool(_again), _again.error) == (False, None)
    assert anna.feedback() == before


def test_who_hands_in_again_is_graded_again_and_gets_new_feedback(
    course: Course, watched: Watch
) -> None:
    anna = Student(course, "anna")
    anna.submit(WRONG)
    watched.look()
    anna.submit(RIGHT)
    look = watched.look()
    assert (look.collected, look.graded, look.given) == (["anna"],) * 3
    assert [points(page) for page in anna.feedback()] == ["2.0 / 5.0", "5.0 / 5.0"]


def test_what_is_put_into_the_courses_folder_is_graded_and_its_feedback_stays_there(
    course: Course, watched: Watch, submit: Any
) -> None:
    submit("zoë [x]")
    look = watched.look()
    assert (look.collected, look.graded, look.given) == ([], ["zoë [x]"], ["zoë [x]"])
    assert points((course.root / "feedback/zoë [x]/ps1/means.html").read_text()) == "5.0 / 5.0"
    assert not watched.failing
    submit("zoë [x]", WRONG)
    assert watched.look().graded == ["zoë [x]"]


@pytest.mark.parametrize("course", ["vae [2025] *"], indirect=True)
def test_a_course_may_be_in_a_folder_with_any_name(course: Course) -> None:
    anna = Student(course, "anna")
    anna.submit()
    assert Watch(course, "ps1", print).look().given == ["anna"]
    assert len(anna.feedback()) == 1


def test_what_is_still_being_handed_in_is_left_for_later(
    course: Course, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "STILL", 60.0)
    Student(course, "anna").submit()
    assert not watched.look()
    monkeypatch.setattr(exchange, "STILL", 0.0)
    assert watched.look().given == ["anna"]


class Shelf:
    """An exchange that is a service: who hands in, when, and what; and the pages for each."""

    work: ClassVar[dict[str, tuple[str, bytes]]] = {}
    pages: ClassVar[dict[str, str]] = {}


class ShelfCollect(abc.ExchangeCollect):  # type: ignore[misc]
    def init_src(self) -> None:
        if not Shelf.work:
            self.fail("the shelf is away")
        self.src_records = [(name, when) for name, (when, _) in Shelf.work.items()]

    def init_dest(self) -> None:
        pass

    def copy_files(self) -> None:
        for name, when in self.src_records:
            folder = Path(self.coursedir.format_path("submitted", name, "ps1"))
            if (folder / "timestamp.txt").exists():
                if when <= (folder / "timestamp.txt").read_text():
                    continue
                assert self.update
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            (folder / "means.ipynb").write_bytes(Shelf.work[name][1])
            (folder / "timestamp.txt").write_text(when)


class ShelfReleaseFeedback(abc.ExchangeReleaseFeedback):  # type: ignore[misc]
    def init_dest(self) -> None:
        pass

    def copy_files(self) -> None:
        for path in map(Path, glob.glob(f"{self.src_path}/*.html")):  # noqa: PTH207
            name = path.parts[-3]
            if name not in Shelf.work:
                self.fail(f"the shelf does not know {name}")
            Shelf.pages[name] = path.read_text()


def test_an_exchange_of_another_kind_is_used_as_the_course_has_set_it(
    course: Course, told: list[str], submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    course.config.ExchangeFactory.collect = ShelfCollect
    course.config.ExchangeFactory.release_feedback = ShelfReleaseFeedback
    notebook = (submit("zoe", WRONG) / "means.ipynb").read_bytes()
    shutil.rmtree(course.root / "submitted/zoe")
    watched = Watch(course, "ps1", told.append)
    assert str(watched.look().error) == "the exchange cannot be used: the shelf is away"
    monkeypatch.setattr(Shelf, "work", {"anna": ("2030-01-01 12:00:00 UTC", notebook)})
    monkeypatch.setattr(Shelf, "pages", {})
    look = watched.look()
    assert (look.collected, look.graded, look.given) == (["anna"],) * 3
    assert points(Shelf.pages["anna"]) == "2.0 / 5.0"
    monkeypatch.setattr(Course, "locked", None)
    assert not watched.look()


def test_what_an_exchange_of_another_kind_does_not_take_stops_nobody(
    course: Course, told: list[str], submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    course.config.ExchangeFactory.collect = ShelfCollect
    course.config.ExchangeFactory.release_feedback = ShelfReleaseFeedback
    notebook = (submit("amy") / "means.ipynb").read_bytes()
    monkeypatch.setattr(Shelf, "work", {"anna": ("2030-01-01 12:00:00 UTC", notebook)})
    monkeypatch.setattr(Shelf, "pages", {})
    watched = Watch(course, "ps1", told.append)
    look = watched.look()
    assert (look.collected, look.graded, look.given) == (["anna"], ["amy", "anna"], ["anna"])
    assert told == ["amy: no feedback: the shelf does not know amy"]
    assert watched.failing


def test_what_notebooks_import_is_loaded_before_anybody_hands_in(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(watch, "warm", lambda *_: done.append("loaded"))
    monkeypatch.setattr(Watch, "_collect", lambda *_: done.append("looked"))
    monkeypatch.setattr(Watch, "_give", lambda _, look: look.given.append("anna"))
    next(watched.run())
    assert done == ["loaded", "looked"]


def test_what_is_loaded_is_what_submissions_need(
    course: Course, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, jobs = [], []

    class Pairs:
        def pair(self, imports: Any, withheld: Any, isolated: bool) -> None:
            asked.append((imports, withheld, isolated))

    def execute(data: bytes, isolated: bool) -> bytes:
        jobs.append(Job.from_bytes(data))
        return standin.execute(data, isolated)

    course.config.Isolated.imports, course.config.Isolated.withheld = ["json"], ["pickle"]
    source = course.root / "source/ps1/means.ipynb"
    source.write_text(source.read_text().replace('"import ', '"import torch, ', 1))
    monkeypatch.setattr("autograder.grade.here", Pairs)
    warm(course, "ps1")
    submit("anna")
    grade(course, "ps1", executor=standin.Here(), execute=execute, progress=False)
    assert {*asked} == {(job.imports, job.withheld, True) for job in jobs}
    assert asked[0][0][0] == "json"


# What is wrong with one


def test_links_are_refused_and_the_rest_goes_on(
    course: Course, watched: Watch, told: list[str], tmp_path: Path, scores: Any
) -> None:
    secret = tmp_path / "secret.ipynb"
    shutil.copy(course.root / "source/ps1/means.ipynb", secret)
    placed = Student(course, "anna").submit()
    (placed / "means.ipynb").unlink()
    (placed / "means.ipynb").symlink_to(secret)
    Student(course, "bert").submit()
    own = Student(course, "carl").submit().name
    for name in (
        "carl+ps1+2099-01-01 00:00:00 UTC+x",  # newer, and not his
        "dora+ps1+2026-01-01 00:00:00 UTC+x",
        "..+ps1+2026-01-01 00:00:00 UTC+x",
        "emil+ps1+yesterday+x",
    ):
        (inbound(course) / name).symlink_to(course.root / "source/ps1")
    look = watched.look()
    assert sorted(look.given) == ["anna", "bert", "carl"]
    assert scores("anna")["test_mean"] == 0
    assert scores("bert")["test_mean"] == scores("carl")["test_mean"] == 2
    assert (course.root / "submitted/carl/ps1/timestamp.txt").read_text() in own
    assert sorted(p.name for p in (course.root / "submitted").iterdir()) == ["anna", "bert", "carl"]
    assert len(told) == 4
    assert "means.ipynb is a link" in told[-1]
    Student(course, "bert").submit()
    watched.look()
    assert len(told) == 4  # each is said once


def test_a_submission_in_another_students_name_is_not_collected(
    course: Course, told: list[str]
) -> None:
    course.config.ExchangeCollect.check_owner = True
    me = Student(course, get_username())
    me.submit()
    Student(course, "anna").submit()
    look = Watch(course, "ps1", told.append).look()
    assert look.collected == [me.name]
    assert len(told) == 1
    assert f"belongs to {me.name} " in told[0]
    assert not (course.root / "submitted/anna").exists()


def test_a_student_who_cannot_be_graded_or_answered_stops_nobody(
    course: Course, watched: Watch, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    students = [Student(course, name) for name in ("anna", "bert", "carl", "dora")]
    for student in students:
        placed = student.submit()
        if student.name == "anna":
            (placed / "submission_secret.txt").write_bytes(b"\xff\xfe\xfd")
    record, copy = gradebook.Recorder.record, exchange.Collect.do_copy

    def failing(self: Any, submission: Any) -> float:
        if submission.student == "bert":
            raise gradebook.NotRecorded("nbgrader says no")
        return record(self, submission)

    def too_big(self: Any, src: str, dest: str, log: Any = None) -> None:
        if "carl" in src:
            raise RuntimeError("Directory size is too big")
        copy(self, src, dest, log)

    monkeypatch.setattr(gradebook.Recorder, "record", failing)
    monkeypatch.setattr(exchange.Collect, "do_copy", too_big)
    assert watched.look().given == ["dora"]
    assert len(told) == 3
    assert "carl" in told[0]
    assert "too big" in told[0]
    assert told[1] == "bert: not recorded: nbgrader says no"
    assert told[2].startswith("anna: no feedback: ")
    assert watched.failing

    monkeypatch.setattr(gradebook.Recorder, "record", record)
    monkeypatch.setattr(exchange.Collect, "do_copy", copy)
    assert not watched.look()  # not at every look
    monkeypatch.setattr(watch, "monotonic", lambda: time.monotonic() + watch.RETRY)
    assert watched.look().given == ["bert", "carl"]
    assert len(told) == 3  # anna's is said already
    assert watched.failing


# What is wrong with the course


def test_a_gradebook_that_is_away_is_said_once_and_tried_again(
    course: Course, watched: Watch, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, away = course.root / "gradebook.db", course.root / "away"
    looks = iter(range(100))

    def sleep(_: float) -> None:
        if next(looks) == 3:
            away.rename(path)

    monkeypatch.setattr(watch, "sleep", sleep)
    Student(course, "anna").submit()
    path.rename(away)
    assert next(watched.run()).given == ["anna"]
    assert next(looks) == 4
    assert len(told) == 1
    assert "there is no gradebook" in told[0]


def test_an_exchange_that_is_away_is_said_once_and_tried_again(
    course: Course, watched: Watch, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(course.config.Exchange.root)
    away = here.with_name("away")
    Student(course, "anna").submit()
    here.rename(away)
    monkeypatch.setattr(watch, "sleep", lambda _: away.rename(here))
    assert next(watched.run()).given == ["anna"]
    assert len(told) == 1
    assert "there is no folder" in told[0]


def test_another_run_is_waited_for(
    course: Course, watched: Watch, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Student(course, "anna").submit()
    course.work.mkdir(exist_ok=True)
    lock = FileLock(course.work / "lock")
    lock.acquire()
    assert isinstance(watched.look().error, Busy)
    looks = iter(range(100))
    monkeypatch.setattr(watch, "sleep", lambda _: next(looks) == 3 and lock.release())
    assert next(watched.run()).given == ["anna"]
    assert told == ["waiting for another run that is at work in this course"]


# Marks by hand


def test_feedback_waits_for_marks_by_hand_and_follows_them(marked: Course) -> None:
    course = marked
    watched = Watch(course, "ps1", print)
    anna = Student(course, "anna")
    anna.submit()
    look = watched.look()
    assert (look.graded, look.given, look.waiting) == (["anna"], [], ["anna"])

    def mark(score: float, comment: str) -> None:
        with course.gradebook() as book:
            for cell in ("why", "task"):
                given = book.find_grade(cell, "means", "ps1", "anna")
                given.manual_score, given.needs_manual_grade = score, False
            book.find_comment("why", "means", "ps1", "anna").manual_comment = comment
            book.db.commit()

    for score, comment, shown in ((1, "Good.", "9.0"), (1, "Better.", "9.0"), (0.5, "!", "8.0")):
        mark(score, comment)
        look = watched.look()
        assert (look.graded, look.given, look.waiting) == ([], ["anna"], [])
        (page,) = anna.feedback()
        assert points(page) == f"{shown} / 15.0"
        assert comment in page
    assert not watched.look()


# Kills

KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
if __name__ == "__main__":
    import functools
    from pathlib import Path
    import standin
    from autograder import exchange, feedback, gradebook, watch
    from autograder.course import Course
    from autograder.grade import grade

    exchange.STILL = watch.PAUSE = 0.0
    watch.grade = functools.partial(grade, executor=standin.Here(), execute=standin.execute)
    watch.warm = lambda *_: None
    course = Course.at(Path(sys.argv[1]))
    PLACES = {
        **dict.fromkeys(["rmtree", "copystat"], exchange.shutil),
        "do_copy": exchange.ExchangeCollect,
        "rename": exchange.Path,
        "record": gradebook.Recorder,
        "exchange": gradebook,
        **dict.fromkeys(["convert_notebooks", "write_single_notebook"], feedback._Feedback),
        "copy_files": exchange.ExchangeReleaseFeedback,
        **dict.fromkeys(["give", "remember"], watch),
    }

    def kill(place, when):
        done = getattr(PLACES[place], place)

        def dies(*given, **named):
            if when == "after":
                done(*given, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(PLACES[place], place, dies)

    for line in sys.stdin:  # forked, so that each starts at once
        place, *when = line.split()
        pid = os.fork()
        if pid == 0:
            if when:
                kill(place, when[0])
            for look in watch.Watch(course, "ps1", print).run():
                pass
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)
"""

MOMENTS = [
    *("rmtree before", "do_copy before", "copystat after", "rename before", "rename after"),
    *("record before", "exchange before", "exchange after", "record after"),
    *("give before", "convert_notebooks before", "write_single_notebook before"),
    *("copy_files before", "copy_files after", "remember before", "remember after"),
]


@pytest.fixture
def killed(course: Course) -> Iterator[subprocess.Popen[str]]:
    """A process that starts a watch for each line; it says its number, and how it ended."""
    (course.root / "killed.py").write_text(KILLED)
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "killed.py", str(course.root), *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=course.root,
        text=True,
    ) as process:
        yield process


def say(process: subprocess.Popen[str], line: str) -> int:
    assert process.stdin is not None
    print(line, file=process.stdin, flush=True)
    return hear(process)


def hear(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def assert_all_is_there(course: Course, students: list[Student], handed_in: int) -> None:
    Watch(course, "ps1", print).look()
    for student in students:
        pages = student.feedback()
        assert points(pages[-1]) == "5.0 / 5.0", student.name
        assert (course.root / "submitted" / student.name / "ps1/means.ipynb").exists()
    look = Watch(course, "ps1", print).look()
    assert (bool(look), look.error) == (False, None)
    assert len(list(inbound(course).iterdir())) == handed_in


@pytest.mark.slow
def test_whatever_the_moment_of_a_kill_the_next_look_does_the_rest(
    course: Course, killed: subprocess.Popen[str]
) -> None:
    anna, bert = Student(course, "anna"), Student(course, "bert")
    for number, moment in enumerate(MOMENTS):
        anna.submit(RIGHT + f"  # {number}")  # whose earlier work gives way
        if number == 0:
            bert.submit()
        say(killed, moment)
        assert hear(killed) == signal.SIGKILL, moment
        assert_all_is_there(course, [anna, bert], number + 2)
        with course.gradebook() as book:
            stamp = book.find_submission("ps1", "anna").timestamp
        assert str(stamp) in max(p.name for p in inbound(course).glob("anna+*")), moment


@pytest.mark.slow
def test_a_watch_that_is_killed_at_random_loses_nothing(
    course: Course, killed: subprocess.Popen[str]
) -> None:
    dice = random.Random(0)
    students = [Student(course, f"s{number}") for number in range(4)]
    for round_ in range(12):
        for student in students[: 1 + round_ % 4]:
            student.submit(RIGHT + f"  # {student.name} {round_}")
        pid = say(killed, "run")
        time.sleep(dice.uniform(0, 2))
        os.kill(pid, signal.SIGKILL)
        assert hear(killed) == signal.SIGKILL
    for student in students:
        student.submit()
    assert_all_is_there(course, students, 12 // 4 * (1 + 2 + 3 + 4) + 4)


# The command


def test_the_command_looks_once(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        return main(["watch", *arguments, "--once", "--course", str(course.root)])

    Student(course, "anna").submit()
    assert run("ps1") == 0
    assert "1 collected, 1 graded, 1 given feedback" in capsys.readouterr().out
    assert run("ps1") == 0
    assert "0 collected, 0 graded, 0 given feedback" in capsys.readouterr().out
    assert run("ps2") == 3
    assert "only: ps1" in capsys.readouterr().err
    Student(course, "anna").submit(WRONG)
    with FileLock(course.work / "lock"):
        assert run("ps1") == 4
    shutil.rmtree(inbound(course))
    assert run("ps1") == 3
    assert capsys.readouterr().err.count("the exchange cannot be used") == 1
    with pytest.raises(CourseError):
        Watch(course, "ps2", print)


@pytest.mark.slow
def test_the_command_watches_until_it_is_interrupted(course: Course) -> None:
    anna = Student(course, "anna")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "autograder", "watch", "ps1"],
        cwd=course.root,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        try:
            assert "watching ps1 in " in watching.stdout.readline()
            anna.submit()
            assert "1 collected, 1 graded, 1 given feedback" in watching.stdout.readline()
            assert points(anna.feedback()[0]) == "5.0 / 5.0"
        finally:
            watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        assert watching.stderr.read().startswith("interrupted; ")
