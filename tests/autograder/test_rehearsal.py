"""What the tests of all submissions need alike is worked out once, where no student's code runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.execute.run import execute
from autograder.job import Cell, Job, Result

from .test_sandbox import LIMITS, in_sandbox

MODULE = """
import os
known = None
def __rehearse__(source):
    global known
    known = "changed in the fork alone"
    return [source, os.getpid(), {value}]
def __remember__(found):
    global known
    known = found
"""
TEST = "import course_checks\ncourse_checks.known"


@in_sandbox
@pytest.mark.slow
@pytest.mark.parametrize("value", ["1", "1 / 0", "lambda: 1", "os._exit(3)"])
def test_the_tests_alone_have_what_was_worked_out(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "course_checks.py").write_text(MODULE.format(value=value))
    monkeypatch.syspath_prepend(str(tmp_path))
    cells = (
        Cell("student", "student", "import course_checks\nprint(course_checks.known)"),
        Cell("test", "test", TEST),
        Cell("inside", "test", "'never told'", mode="inside"),
    )
    job = Job(cells, limits=LIMITS, imports=("course_checks",)).to_bytes()
    first, again = (Result.from_bytes(execute(job)) for _ in range(2))
    assert first.cells[0].outputs[0]["text"] == again.cells[0].outputs[0]["text"] == "None\n"
    seen = [result.cells[1].outputs for result in (first, again)]
    assert seen[0] == seen[1]  # with the number of the same process
    if value == "1":
        assert seen[0][0]["data"]["text/plain"].startswith(f"[{TEST!r}, ")
    else:
        assert seen[0] == []  # it was None
