"""Similar answers: planted copies are named, an honest class is not, nobody's file does harm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from small_course import named, write_course

from autograder.__main__ import main
from autograder.course import Course, CourseError
from autograder.similar import Similar, listed, similar
from autograder.similar import compare as comparison
from autograder.similar.compare import LEAST, SHARE
from autograder.similar.own import written
from autograder.similar.shown import similar_page

from .html_attacks import ATTACKS
from .writers import Answers, disguised, honest_class

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "solutions").glob("*/*.ipynb"))

LONG = '''
def mean(values):
    """An answer of one's own, long enough to tell."""
    counts = {}
    for value in values:
        if value not in counts:
            counts[value] = 0
        counts[value] += 1
    largest = max(counts, key=lambda value: (counts[value], value))
    shifted = [value - largest for value in values]
    negative = sum([value for value in shifted if value < 0])
    positive = sum([value for value in shifted if value >= 0])
    rounded = []
    for position, value in enumerate(sorted(values, reverse=True)):
        if position % 2 and value > largest:
            rounded.append(round(value, 3) * counts[value])
        else:
            rounded.insert(0, min(value, largest))
    if not shifted or len(rounded) != len(values):
        raise ValueError("there is nothing to take the mean of")
    return largest + (positive + negative) / len(shifted)
'''
OTHER = """
def mean(values):
    first, *others = values
    number, middle = 1, float(first)
    while others:
        number, middle = number + 1, middle + (others.pop(0) - middle) / (number + 1)
        assert number > 1 and isinstance(middle, float), "a running mean is updated, not summed"
    class Told:
        def __init__(self, what="nothing", *, why=None):
            self.told = {"what": what, "why": why or [], "middle": middle}

        def __str__(self):
            return ", ".join(f"{key}={value!r}" for key, value in self.told.items())

    with open("/dev/null") as nowhere:
        assert not nowhere.read(), Told("a file", why=["there", "is", "none"])
    try:
        return int(middle) if middle.is_integer() else middle
    except (AttributeError, OverflowError) as error:
        print("not a number:", error, sep="\\n", end="")
        return None
"""


def hand_in(course: Course, assignment: str, everybody: dict[str, Answers]) -> None:
    released = (course.root / f"release/{assignment}/{assignment}.ipynb").read_text()
    for student, answers in everybody.items():
        notebook = json.loads(released)
        for cell, text in answers.items():
            named(notebook, cell)["source"] = text
        folder = course.root / "submitted" / student / assignment
        folder.mkdir(parents=True)
        (folder / f"{assignment}.ipynb").write_text(json.dumps(notebook))


def pairs(report: Similar) -> set[tuple[str, ...]]:
    return {tuple(sorted(pair.students)) for pair in report.pairs}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_an_honest_class_is_silent_and_copies_in_it_are_named(source: Path, tmp_path: Path) -> None:
    name = source.stem
    course = write_course(tmp_path, {name: nbformat.read(source, 4)}, name)
    random = Random(f"class of {name}")
    everybody = honest_class(source, random)
    hand_in(course, name, everybody)
    report = similar(course, name)
    assert report.codes.keys() == everybody.keys()
    assert pairs(report) == set()

    long = [who for who in everybody if who not in report.short][:5]
    copies = {f"{who}, again": who for who in long}
    for copy, who in copies.items():
        texts = {c: disguised(t, random, reorder=False) for c, t in everybody[who].items()}
        hand_in(course, name, {copy: texts})
    planted = {(who, copy) for copy, who in copies.items()}
    found = pairs(similar(course, name))
    assert found <= planted
    assert 3 * len(found) >= len(planted)  # short pieces between given passages do not count


def test_a_copy_is_named_and_shown_and_others_are_not(course: Course, submit: Any) -> None:
    submit("anna", LONG)
    submit("bert", disguised(LONG, Random(0)))
    submit("carl", OTHER)
    report = similar(course, "ps1")
    assert {code for own in report.codes.values() for code in own} == {"means: mean"}
    (pair,) = report.pairs
    assert pair.students == ("anna", "bert")
    assert pair.tokens >= LEAST
    assert pair.share >= SHARE
    page = BeautifulSoup(similar_page(report), "html.parser")
    one, other = page.select(".both > div")
    assert [side.h3.text for side in (one, other)] == ["anna", "bert"]
    assert "counts[value] += 1" in "\n".join(mark.text for mark in one("mark"))
    assert "my_" in "\n".join(mark.text for mark in other("mark"))
    assert "An answer of one's own" in one.pre.text
    assert "1 pair is similar among 3 submissions" in listed(report)


def test_what_was_given_and_what_the_course_wrote_count_for_nothing(
    course: Course, submit: Any
) -> None:
    source = course.root / "source/ps1/means.ipynb"
    notebook = json.loads(source.read_text())
    begin, *_, end = [
        line for line in "".join(named(notebook, "mean")["source"]).split("\n") if "###" in line
    ]
    body = LONG.strip().split("\n", 1)[1]
    for student in ("anna", "bert"):
        submit(student, LONG)
    assert len(similar(course, "ps1").pairs) == 1
    named(notebook, "mean")["source"] = f"def mean(values):\n{begin}\n{body}\n{end}"
    source.write_text(json.dumps(notebook))
    report = similar(course, "ps1")
    assert report.pairs == []
    assert report.short == ["anna", "bert"]
    source.unlink()
    report = similar(course, "ps1")
    assert len(report.pairs) == 1
    assert "The source folder has no solution" in listed(report)


def test_what_is_short_says_nothing(course: Course, submit: Any) -> None:
    for student in ("anna", "bert"):
        submit(student)
    report = similar(course, "ps1")
    assert report.pairs == []
    assert report.short == ["anna", "bert"]
    assert "Fewer than two submissions are long enough" in listed(report)
    assert "Too short to tell" in listed(report)


def test_the_limits_themselves_are_enough() -> None:
    report = Similar("ps1", codes={"anna": {}, "bert": {}, "carl": {}})
    comparison._sort_in(report, {"repeated": [], "tokens": [LEAST, LEAST - 1, LEAST], "pairs": []})
    assert report.short == ["bert"]
    assert listed(report).splitlines()[0] == "0 pairs are similar among 2 submissions."


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("def f(x):\n    # Write here\n    raise NotImplementedError", ""),
        ("def f(x):\n    # Write here\n    return x\n", "return x"),
        ("def g(y):\n    return y", "def g(y):\n    return y"),
        ("def f(x):\r\n\ty = x\r\n\treturn y", "y = x\nreturn y"),
        ("", ""),
    ],
)
def test_what_a_student_wrote_is_what_was_not_given(text: str, own: str) -> None:
    assert written("def f(x):\n    # Write here\n    raise NotImplementedError", text) == own


def test_whoever_cannot_be_compared_is_named(course: Course, submit: Any, tmp_path: Path) -> None:
    submit("anna", LONG)
    submit("bert", disguised(LONG, Random(0)))
    (submit("carl") / "means.ipynb").write_text("{")
    (course.root / "submitted/dora").mkdir()
    (course.root / "submitted/dora/ps1").symlink_to(submit("emil", LONG))
    submit("finn", "x = 1\n" * 10_000)
    submit("gwen", "x = 1\n" * 2_000)
    released = named(json.loads((course.root / "release/ps1/means.ipynb").read_text()), "mean")
    submit("hugo", "".join(released["source"]))
    report = similar(course, "ps1")
    assert report.left_out.keys() == {"carl", "dora", "finn", "gwen", "hugo"}
    assert "not JSON" in report.left_out["carl"]
    assert "link" in report.left_out["dora"]
    assert "characters" in report.left_out["finn"]
    assert "repeats itself" in report.left_out["gwen"]
    assert report.left_out["hugo"] == "no answer was written"
    assert pairs(report) == {("anna", "bert"), ("anna", "emil"), ("bert", "emil")}


def test_nothing_of_an_attack_is_on_the_page(course: Course, submit: Any) -> None:
    for student, more in {"anna": "", "bert": "".join(ATTACKS.values())}.items():
        lines = [f"    # {line}" for line in f"{more}\0\x1b[31m\x0c\u2028\ud800".splitlines()]
        submit(student, LONG.replace("    counts = {}", "\n".join([*lines, "    counts = {}"])))
    report = similar(course, "ps1")
    assert pairs(report) == {("anna", "bert")}
    page = BeautifulSoup(similar_page(report), "html.parser")
    plain = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h3", "h4", "p"}
    assert {tag.name for tag in page(True)} <= {*plain, "details", "summary", "div", "pre", "mark"}
    assert {key for tag in page.body(True) for key in tag.attrs} <= {"class", "tabindex"}
    assert "\x1b" not in str(page)


@pytest.mark.browser
def test_the_page_fits_a_phone(course: Course, submit: Any, chromium: Any) -> None:
    for student in ("anna", "bert"):
        submit(student, LONG.replace("nothing", "nothing" * 30))
    tab = chromium.new_page(viewport={"width": 360, "height": 700}, color_scheme="dark")
    tab.set_content(similar_page(similar(course, "ps1")))
    tab.locator("summary").click()
    assert tab.locator("mark").first.is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.close()


def test_the_command_prints_a_table_and_writes_a_page(
    course: Course, submit: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    here = ["similar", "ps1", "--course", str(course.root)]
    assert main(here) == 3
    assert capsys.readouterr().err == "there are no submissions of 'ps1' to compare\n"
    submit("anna", f"open({str(course.root / 'seen')!r}, 'w')\n{LONG}")
    submit("bert", LONG)
    assert main(here) == 0
    table = capsys.readouterr().out
    assert main(here) == 0
    assert capsys.readouterr().out == table
    head, line, *_, path = table.splitlines()
    assert head.split() == ["student", "student", "alike", "tokens", "score"]
    assert line.split()[:3] == ["anna", "bert", "100%"]
    assert Path(path).read_text().startswith("<!DOCTYPE html>")
    assert not (course.root / "seen").exists()
    assert main(["similar", "ps2", *here[2:]]) == 3


def test_without_compare50_one_line_says_how_to_get_it(
    course: Course, submit: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "prefix", str(course.root))
    submit("anna", LONG)
    assert main(["similar", "ps1", "--course", str(course.root)]) == 3
    told = capsys.readouterr().err
    assert told.startswith("similar needs compare50, in a folder of its own: ")
    assert told.count("\n") == 1
    assert not (course.work / "ps1-similar.html").exists()


def test_compare50_has_limits(
    course: Course, submit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    submit("anna", LONG)
    monkeypatch.setattr(comparison, "SECONDS", 0.01)
    with pytest.raises(CourseError, match="had not ended"):
        similar(course, "ps1")
    monkeypatch.setattr(comparison, "SECONDS", 300)
    failing = tmp_path / "failing.py"
    failing.write_text("raise MemoryError('all of it')")
    monkeypatch.setattr(comparison.winnow, "__file__", str(failing))
    with pytest.raises(CourseError, match="compare50 failed: MemoryError: all of it"):
        similar(course, "ps1")
