"""nbgrader's own commands, with the grader installed."""

from __future__ import annotations

import json
import os
from typing import Any

import nbformat
import pytest
import standin
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.utils import determine_grade
from small_course import named
from traitlets.config import Config

import autograder
from autograder import steps
from autograder.course import Course, messages, quiet
from autograder.execute.run import execute
from autograder.job import CellResult, Result
from autograder.prepare.notebook import restore
from autograder.prepare.source import SourceCell, SourceNotebook
from autograder.prepare.submission import make_job
from autograder.record.feedback import HIDDEN_CHECK, RAISED_BY_STUDENT
from autograder.record.outcome import apply
from autograder.steps import HideTests


@pytest.fixture(autouse=True)
def _no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "run", standin.execute)


def autograde(course: Course, student: str = "*") -> list[str]:
    """What `nbgrader autograde --force` does; its errors."""
    directory = course.directory(assignment_id="ps1", student_id=student)
    converter = Autograde(coursedir=directory, config=course.config, log=quiet())
    converter.force = True
    with messages() as errors:
        try:
            converter.start()
        except NbGraderException:
            errors.append("failed")
    return errors


def graded(course: Course, student: str) -> Any:
    return course.graded_notebooks("ps1", student)["means"]


def test_installing_twice_changes_nothing(course: Course) -> None:
    before = json.dumps(course.config)
    autograder.install(course.config)
    assert json.dumps(course.config) == before


def test_what_a_course_adds_to_a_default_is_kept() -> None:
    plain, more = Config(), Config()
    more.GenerateAssignment.preprocessors.append("course.Step")
    more.HTMLExporter.preprocessors.append("course.Drawn")
    more.HTMLExporter.filters.update({"own": "course.own"})
    for config in (plain, more):
        autograder.install(config)
    steps = plain.GenerateAssignment.preprocessors
    assert more.GenerateAssignment.preprocessors == [*steps, "course.Step"]
    assert more.HTMLExporter.preprocessors == ["course.Drawn", *plain.HTMLExporter.preprocessors]
    assert more.HTMLExporter.filters == {"own": "course.own"} | plain.HTMLExporter.filters


def test_a_solution_gets_all_points_and_a_mistake_its_part(
    course: Course, submit: Any, scores: Any
) -> None:
    submit("anna")
    submit("bert", "def mean(values):\n    return sorted(values)[len(values) // 2]")
    assert autograde(course) == []
    assert scores("anna") == {
        "test_mean": 2,
        "test_hidden": 3,
        "test_partial": 2,
        "why": 0,
        "task": None,
    }
    assert scores("bert") == scores("anna") | {"test_hidden": 0}


def test_what_nbgrader_needs_later_is_there(course: Course, submit: Any) -> None:
    folder = submit("anna")
    (folder / "submission_secret.txt").write_text("s3cret")
    (folder / "extra.txt").write_text("mine")
    (folder / "numbers.csv").write_text("9")
    autograde(course)
    made = course.root / "autograded/anna/ps1"
    assert (made / "timestamp.txt").read_text() == "2030-01-01 12:00:00 UTC"
    assert (made / "submission_secret.txt").read_text() == "s3cret"
    assert (made / "extra.txt").read_text() == "mine"
    assert (made / "numbers.csv").read_text() == "1,2,3\n"  # the instructor's
    notebook = graded(course, "anna")
    metadata = [c.metadata.nbgrader for c in notebook.cells if "nbgrader" in c.metadata]
    assert [m.grade_id for m in metadata] == [
        "imports", "mean", "test_mean", "test_hidden", "test_partial", "why", "task",
    ]  # fmt: skip
    assert {m.schema_version for m in metadata} == {3}
    nbformat.validate(notebook)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff\xff", b'{"nbformat": 4}'])
def test_a_malformed_notebook_gets_nothing_and_says_so(
    course: Course, submit: Any, scores: Any, data: bytes
) -> None:
    folder = submit("anna")
    (folder / "means.ipynb").write_bytes(data)
    submit("bert")
    assert autograde(course) == []
    assert scores("anna") == dict.fromkeys(scores("bert"), 0) | {"task": None}
    assert graded(course, "anna").metadata.autograder.reason == "malformed"
    assert scores("bert")["test_mean"] == 2


def test_links_lead_nowhere(course: Course, submit: Any, scores: Any) -> None:
    submit("anna")
    folder = submit("bert")
    (folder / "means.ipynb").unlink()
    (folder / "means.ipynb").symlink_to(course.root / "submitted/anna/ps1/means.ipynb")
    (folder / "book.txt").symlink_to(course.root / "gradebook.db")
    os.link(course.root / "gradebook.db", folder / "book2.txt")
    assert autograde(course) == []
    assert scores("bert")["test_mean"] == 0
    assert scores("anna")["test_mean"] == 2
    assert not (course.root / "autograded/bert/ps1/book.txt").exists()
    assert not (course.root / "autograded/bert/ps1/book2.txt").exists()


def test_what_was_executed_once_is_taken_from_the_store(
    course: Course, submit: Any, monkeypatch: pytest.MonkeyPatch, scores: Any
) -> None:
    submit("anna")
    autograde(course)

    def never(job: bytes, isolated: bool) -> bytes:
        raise AssertionError("it runs again")

    monkeypatch.setattr(steps, "run", never)
    assert autograde(course) == []
    assert scores("anna")["test_mean"] == 2


def test_a_forged_result_in_the_notebook_counts_for_nothing(
    course: Course, submit: Any, scores: Any
) -> None:
    def forge(notebook: dict[str, Any]) -> None:
        test = named(notebook, "test_partial")
        test["outputs"] = [{"output_type": "execute_result", "data": {"text/plain": "4"}}]
        test["metadata"]["nbgrader"]["points"] = 1000
        notebook["metadata"]["autograder"] = {"key": "0" * 64, "reason": None}

    submit("anna", "def mean(values):\n    return None", forge)
    autograde(course)
    assert scores("anna")["test_partial"] == 0


# Applying a result

TEST = (
    "visible = 1\nassert f()\n### BEGIN HIDDEN TESTS\nassert f(1), 'The task: mistake'\n"
    "### END HIDDEN TESTS"
)
SOURCE = SourceNotebook(
    "ps",
    {},
    (
        SourceCell("f", "code", "", False, False, True, False, 0, None),
        SourceCell("test", "code", TEST, True, True, False, False, 2, None),
    ),
)


def applied(*results: CellResult, reason: Any = None) -> Any:
    data = {"nbformat": 4, "cells": []}
    notebook, _ = restore(json.dumps(data).encode(), SOURCE)
    apply(notebook, Result(list(results), reason=reason))
    nbformat.validate(notebook)
    return notebook


@pytest.mark.parametrize(
    ("said", "points"), [("nan", 0), ("-1", 0), ("inf", 0), ("1e9", 2), ("0.5", 0.5), ("2", 2)]
)
def test_partial_credit_is_a_number_of_points_that_there_is(said: str, points: float) -> None:
    shown = {"output_type": "execute_result", "data": {"text/plain": said}}
    notebook = applied(CellResult("test", [shown]))
    cell = named(notebook, "test")
    assert determine_grade(cell)[0] == points


@pytest.mark.parametrize(
    ("outputs", "points"),
    [
        ([{"output_type": "execute_result", "data": {"text/plain": "array([0.])"}}], 0),
        ([{"output_type": "execute_result", "data": {"text/plain": "1.5"}}], 1.5),
        ([{"output_type": "stream", "name": "stdout", "text": "2"}], 0),
        ([], 0),
    ],
)
def test_where_right_work_gives_a_number_all_else_is_no_points(
    outputs: list[Any], points: float
) -> None:
    data = {"nbformat": 4, "cells": []}
    for counted in ((), ("test",)):
        notebook, _ = restore(json.dumps(data).encode(), SOURCE)
        apply(notebook, Result([CellResult("test", outputs)]), counted=counted)
        nbformat.validate(notebook)
        score = determine_grade(named(notebook, "test"))[0]
        assert score == (points if counted or points else 2)


def test_of_many_lines_on_tampering_the_first_are_kept_and_the_others_counted() -> None:
    notebook = nbformat.v4.new_notebook(metadata={"autograder": nbformat.NotebookNode()})
    apply(notebook, Result([], tampering=[f"the file {i} is a link" for i in range(2000)]))
    found = notebook.metadata.autograder.tampering
    assert len(found) == 21
    assert found[-1] == "... and 1980 more like these"


def error(line: int, message: str = "The task: mistake", by: str = "test") -> dict[str, Any]:
    trace = [
        f"line {line}, {by}",
        "Traceback (most recent call last):",
        f'  File "<cell 2>", line {line}, in <module>',
        "    assert f(1), 'The task: mistake'",
        f"AssertionError: {message}",
    ]
    return {
        "output_type": "error",
        "ename": "AssertionError",
        "evalue": message,
        "traceback": trace,
    }


def test_of_a_hidden_check_only_its_message_is_shown() -> None:
    output = applied(CellResult("f"), CellResult("test", [error(4)])).cells[1].outputs[0]
    assert output.traceback == [
        "(in a check that is not shown)",
        "AssertionError: The task: mistake",
    ]
    visible = applied(CellResult("f"), CellResult("test", [error(2)])).cells[1].outputs[0]
    assert visible.traceback[0] == "---> assert f()"


def test_what_a_student_raises_in_a_hidden_check_is_for_the_instructor() -> None:
    told = error(4, "got [7, 11]", "submission")
    notebook = applied(CellResult("f"), CellResult("test", [told]))
    assert notebook.cells[1].outputs[0].evalue == "got [7, 11]"
    shown, _ = HideTests().preprocess(notebook, {})
    assert "7, 11" not in json.dumps(shown)
    assert "raised by your code" in json.dumps(shown)


def test_without_a_known_line_an_error_counts_as_one_of_a_hidden_check() -> None:
    for line in (0, 99):
        told = error(line, "got [7, 11]", "submission")
        notebook = applied(CellResult("f"), CellResult("test", [told]))
        shown, _ = HideTests().preprocess(notebook, {})
        assert "7, 11" not in json.dumps(shown)


def executed(body: str, test: str) -> Any:
    """The notebook of a function `f` with this body, after a real run and with its result."""
    cells = (
        SourceCell("f", "code", "", False, False, True, False, 0, None),
        SourceCell("test", "code", test, True, True, False, False, 2, None),
    )
    notebook, _ = restore(b'{"nbformat": 4, "cells": []}', SourceNotebook("ps", {}, cells))
    notebook.cells[0].source = f"import sys\ndef f(x):\n    {body}"
    result = execute(make_job(notebook, {}).to_bytes(), isolated=False)
    apply(notebook, Result.from_bytes(result))
    return notebook


FORGED = '\nTraceback (most recent call last)\n  File "<cell 1>", line 2\nline 2, test'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("raise ValueError(f'{x}')", "ValueError"),
        (f"raise ValueError(f'{{x}}' + {FORGED!r})", "ValueError"),
        (f"raise ValueError({FORGED!r} + f'{{x}}' + {FORGED!r} * 300)", "ValueError"),
        ("raise type(f'In_{x}', (Exception,), {})", "an exception of the submission's own"),
        ("raise type(f'In_{x}', (KeyError,), {})(x)", "an exception of the submission's own"),
        ("raise type(f'In_{x}', (BaseException,), {})(x)", "an exception of the submission's own"),
        ("exec(compile('raise KeyError(x)', '<cell 2>', 'exec'), {'x': x})", "KeyError"),
        ("sys.exit(x)", None),
        ("return type(f'In_{x}', (), {})()", "TypeError"),
        ("return {'x': x}", "TypeError"),
    ],
)
def test_no_hidden_input_is_told_by_an_exception(body: str, name: str | None) -> None:
    test = "x = 1\n### BEGIN HIDDEN TESTS\nassert f(71193) + 1 == 2\n### END HIDDEN TESTS"
    notebook = executed(body, test)
    (told,) = notebook.cells[1].outputs
    shown, _ = HideTests().preprocess(notebook, {})
    assert "71193" not in json.dumps(shown)
    assert told.traceback[0] in (RAISED_BY_STUDENT, HIDDEN_CHECK)
    if name:
        assert told.traceback[1:] == [name]


@pytest.mark.slow
def test_a_checks_own_message_and_visible_line_are_told() -> None:
    test = (
        "assert f(1) == 2, 'The task: visible'\n### BEGIN HIDDEN TESTS\n"
        "assert f(3) == 4, 'The task: hidden'\n### END HIDDEN TESTS"
    )
    told = {}
    for kind, body in (("visible", "return 0"), ("hidden", "return 2"), ("raised", "return y")):
        notebook = executed(body, test)
        HideTests().preprocess(notebook, {})
        told[kind] = notebook.cells[1].outputs[0].traceback
    assert told == {
        "visible": [
            "---> assert f(1) == 2, 'The task: visible'",
            "AssertionError: The task: visible",
        ],
        "hidden": [HIDDEN_CHECK, "AssertionError: The task: hidden"],
        "raised": [
            "---> assert f(1) == 2, 'The task: visible'",
            "NameError: name 'y' is not defined",
        ],
    }


@pytest.mark.parametrize(
    "results",
    [
        (),
        (CellResult("f"),),
        (CellResult("f"), CellResult("test", [], reason="timeout")),
        (CellResult("f"), CellResult("other", [])),
    ],
)
def test_a_test_without_an_ordinary_end_has_failed(results: tuple[CellResult, ...]) -> None:
    test = applied(*results).cells[1]
    assert [output.output_type for output in test.outputs] == ["error"]


def test_nothing_that_runs_remains_in_an_output() -> None:
    data = {
        "text/html": "<table onclick='x()'><tr><td>1</td></tr></table><script>x()</script>",
        "application/javascript": "x()",
        "image/svg+xml": "<svg onload='x()'/>",
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "image/png": "aGk=",
        "text/plain": "1",
    }
    outputs = [
        {"output_type": "display_data", "data": data, "metadata": {"x": 1}},
        {"output_type": "display_data", "data": {"application/javascript": "x()"}},
        {"output_type": "nonsense"},
        {"output_type": "stream", "name": "other", "text": ["a", "b"]},
        {"output_type": "error", "ename": 5, "evalue": None, "traceback": "x"},
    ]
    shown = applied(CellResult("f", outputs), CellResult("test")).cells[0].outputs
    assert [output.output_type for output in shown] == ["display_data", "stream", "error"]
    assert shown[0].data.keys() == {"text/html", "image/png", "text/plain"}
    assert shown[0].data["text/html"].startswith('<iframe sandbox="" ')
    assert shown[0].data["text/html"].count("<") == 2  # the frame's own: the rest is in quotes


# Feedback


def feedback(course: Course, student: str) -> str:
    directory = course.directory(assignment_id="ps1", student_id=student)
    with messages() as errors:
        GenerateFeedback(coursedir=directory, config=course.config, log=quiet()).start()
    assert errors == []
    return (course.root / f"feedback/{student}/ps1/means.html").read_text()


def test_feedback_shows_work_points_and_hints_and_no_hidden_test(
    course: Course, submit: Any
) -> None:
    submit("anna", "def mean(values):\n    return sum(values) / 3  # my idea")
    autograde(course)
    html = feedback(course, "anna")
    secret = (course.root / ".course-secret").read_text().strip()
    for hidden in ("HIDDEN", "7, 11", "seed", secret):
        assert hidden not in html
    assert "my idea" in html
    assert "Score: 2.0 / 2.0" in html
    assert "not shown" in html or "assert" in html


def test_no_script_of_a_students_is_in_feedback(course: Course, submit: Any) -> None:
    attack = "<script>x()</script><img src=x onerror='x()'><a href='javascript:x()'>y</a>"

    def write(notebook: dict[str, Any]) -> None:
        named(notebook, "why")["source"] = f"**Because** $a<b$ {attack} [z](javascript:x())"
        named(notebook, "mean")["source"] += (
            '\nclass Shown:\n    html = "<b>bold</b><script>x()</script>"\nShown()'
        )

    submit("anna", change=write)
    autograde(course)
    html = feedback(course, "anna")
    body = html[html.index("<body") :]
    assert "x()</script" not in body
    assert "onerror" not in body
    assert "javascript:" not in body
    assert "<strong>Because</strong>" in body
    assert "a&lt;b" in body
    assert "&lt;b&gt;bold&lt;/b&gt;" in body  # in a frame
