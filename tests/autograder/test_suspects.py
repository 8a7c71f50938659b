"""A submission that ends whoever reads it is set aside, and nobody waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_course import named

from autograder import suspects
from autograder.course import Course
from autograder.suspects import Suspects

from .test_grade import ALL, RUNS

#: As if the machine had no memory for it: whoever reads a notebook with this word is killed.
DEADLY = """
import os, signal
from autograder.prepare import submission

_read = submission.read_notebook

def read(path, *rest):
    if b"deadly" in path.read_bytes():
        os.kill(os.getpid(), signal.SIGKILL)
    return _read(path, *rest)

submission.read_notebook = read
"""


@pytest.mark.slow
def test_who_ends_two_readers_is_set_aside_and_graded_when_mended(
    course: Course, submit: Any, scores: Any
) -> None:
    config = course.root / "nbgrader_config.py"
    config.write_text(config.read_text() + DEADLY)
    (course.root / "runs.py").write_text(RUNS)
    for student in ("anna", "bert", "zoe"):
        submit(student)
    submit("bert", "def mean(v):\n    return 'deadly'")

    def run(times: int) -> None:
        paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
        subprocess.run(
            [sys.executable, "-W", "ignore", "runs.py", *paths],
            input="here\n" * times,
            stdout=subprocess.DEVNULL,
            cwd=course.root,
            env={**os.environ, "PYTHONPATH": paths[0]},
            text=True,
            check=True,
        )

    run(1)
    assert scores("zoe") == {}
    run(1)  # it is read last
    assert scores("anna") == scores("zoe") == ALL
    assert scores("bert") == {}
    run(1)
    assert scores("bert") == {**ALL, "test_mean": 0, "test_hidden": 0, "test_partial": 0}
    (notebook,) = course.graded_notebooks("ps1", "bert").values()
    assert notebook.metadata.autograder.reason == "malformed"
    assert "ended the grader twice" in named(notebook, "test_mean").outputs[0].evalue
    assert "bert: set aside" in (course.work / "grade.log").read_text()
    submit("bert")
    run(1)
    assert scores("bert") == ALL
    assert not list((course.work / "reading").iterdir())


class TestWhoIsRead:
    def reader(self, folder: Path, student: str, *, end: bool) -> None:
        """A process that reads a submission, and comes to its end or does not."""
        pid = os.fork()
        if pid == 0:
            with Suspects(folder, "ps1").reading(student, done=True):
                if not end:
                    os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        os.waitpid(pid, 0)

    def test_suspects_are_last_and_only_they_are_tried(self, tmp_path: Path) -> None:
        self.reader(tmp_path, "b", end=True)
        self.reader(tmp_path, "a", end=False)
        asked: list[str] = []
        suspects = Suspects(tmp_path, "ps1")
        assert suspects.last(["a", "b", "c"], lambda student: bool(asked.append(student))) == [
            "b", "c", "a",
        ]  # fmt: skip
        assert asked == []
        self.reader(tmp_path, "a", end=False)
        suspects = Suspects(tmp_path, "ps1")
        suspects.last(["a", "b", "c"], lambda student: bool(asked.append(student)))
        assert asked == ["a"]
        assert suspects.aside == {"a"}
        suspects.last(["a", "b", "c"], lambda student: True)
        assert suspects.aside == set()
        self.reader(tmp_path, "a", end=True)
        assert Suspects(tmp_path, "ps1").last(["a", "b"], lambda student: False) == ["a", "b"]

    def test_an_error_is_no_end(self, tmp_path: Path) -> None:
        suspects = Suspects(tmp_path, "ps1")
        for done in (False, True):
            with contextlib.suppress(ValueError), suspects.reading("a", done=done):
                raise ValueError
        assert not list((tmp_path / "reading").iterdir())

    def test_a_reader_that_waits_for_ever_does_not_survive(
        self, course: Course, submit: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submit("anna")
        monkeypatch.setattr(suspects, "_PATIENCE", 0)
        assert not suspects.survives(course, "ps1", "anna", isolated=True)

    def test_what_was_half_written_says_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "reading").mkdir()
        for text in ("{", json.dumps(["a"])):
            (tmp_path / "reading" / "ps1.json").write_text(text)
            assert Suspects(tmp_path, "ps1").last(["b", "a"], lambda student: False) == ["b", "a"]
