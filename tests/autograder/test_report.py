"""The class report: numbers, and what students may not do with it."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import standin
from bs4 import BeautifulSoup, Tag

import autograder
from autograder.__main__ import _COMMANDS, main
from autograder.course import Course
from autograder.grade import grade
from autograder.page import page
from autograder.report import Check, ClassReport, Row, collect, explain, how_late, remarks, table

from .html_attacks import ATTACKS

NASTY = "<script>x()</script>\x1b[31m"


@pytest.fixture
def graded(course: Course, submit: Any) -> Course:
    submit("anna")
    submit("bert", "def mean(values):\n    return sorted(values)[len(values) // 2]")
    submit("carl", "def mean(values):\n    return sorted(values)[len(values) // 2]  # too")
    submit("dora", f"def mean(values):\n    raise ValueError({NASTY!r})")
    (submit("emil") / "means.ipynb").write_text("{")
    submit("finn", change=lambda notebook: notebook["cells"].pop())
    with course.gradebook() as gradebook:
        gradebook.add_student("gwen")
    grade(course, "ps1", executor=standin.Here(), execute=standin.execute, progress=False)
    return course


def test_what_is_collected(graded: Course) -> None:
    report = collect(graded, "ps1")
    rows = {row.student: row for row in report.rows}
    assert list(rows) == ["anna", "bert", "carl", "dora", "emil", "finn"]
    assert report.absent == ["gwen"]
    assert {student: row.score for student, row in rows.items()} == {
        "anna": 7, "bert": 4, "carl": 4, "dora": 0, "emil": 0, "finn": 7,
    }  # fmt: skip
    assert report.mistakes["The mean of two: mean"] == 2
    assert rows["emil"].reasons == ["means: malformed"]
    assert rows["finn"].tampering == ["the cell task was deleted; it is put back"]
    assert [c.cell for c in rows["anna"].checks] == [
        "test_mean", "test_hidden", "test_partial", "why", "task",
    ]  # fmt: skip
    assert rows["anna"].waits


def test_a_mistake_that_several_checks_name_is_one() -> None:
    said = ["kl, value: the ½ is missing\nhint", "kl, shape: the ½ is missing", "kl: other", ""]
    checks = [Check("ps1", f"c{i}", 0, 1, message) for i, message in enumerate(said)]
    report = ClassReport("ps1", [Row("anna", checks=checks), Row("bert", checks=checks[:1])], [])
    assert report.mistakes == {"kl: the ½ is missing": 2, "kl: other": 1}


def test_the_table_has_a_line_each_and_drives_no_terminal(graded: Course) -> None:
    text = table(collect(graded, "ps1"))
    lines = text.splitlines()
    assert len(lines) == 8
    assert "malformed" in lines[5]
    assert "tampering (1)" in lines[6]
    assert lines[-1] == "nothing submitted: gwen"
    assert "\x1b" not in explain(collect(graded, "ps1"), "dora")


def test_a_grade_is_explained(graded: Course) -> None:
    text = explain(collect(graded, "ps1"), "bert")
    assert "bert, ps1: 4 of 15 points" in text
    assert "The mean of two: mean" in text
    with pytest.raises(KeyError):
        explain(collect(graded, "ps1"), "gwen")


def test_the_failing_line_is_for_the_instructor_alone(graded: Course) -> None:
    hidden = next(c for c in graded.sources("ps1")["means"].cells if c.name == "test_hidden")
    row = next(row for row in collect(graded, "ps1").rows if row.student == "bert")
    lines = {check.cell: check.line for check in row.checks if check.line}
    failing = 'assert mean([7, 11]) == 9, "The mean of two: mean"'
    assert failing == hidden.source.splitlines()[3]
    assert lines["test_hidden"] == f"line 4: {failing}"
    assert lines["test_hidden"] in explain(collect(graded, "ps1"), "bert")
    cells = graded.graded_notebooks("ps1", "bert")["means"].cells
    shown = json.dumps([cell.get("outputs") for cell in cells])
    assert failing not in shown


EVERYTHING = Row(
    "anna", 7, 15, penalty=0.5, late=90, seconds=40.25, isolated=False,
    reasons=["means: timeout"], tampering=["a cell was deleted"],
    checks=[
        Check("means", "mean", 2, 2, inside=True, why="it patches a module"),
        Check("means", "median", 0, 3, "median, value: the mean\n  Read on", line="line 4: assert"),
        Check("means", "why", 0, 5, manual=True),
    ],
)  # fmt: skip
QUIET = Row("bert", 2, 15, late=5, checks=[Check("means", "mean", 2, 2)])
CLASS = ClassReport("ps1", [EVERYTHING, QUIET], ["carl", "dora"])


def test_a_line_of_the_table_says_all_that_is_to_be_looked_at() -> None:
    assert [re.split(r"\s{2,}", line) for line in table(CLASS).splitlines()] == [
        ["student", "points", "late", "seconds", "remarks"],
        ["anna", "7.00 /", "15", "-0.5", "40.25",
         "means: timeout, tampering (1), waits for manual grading, NO SANDBOX"],
        ["bert", "2.00 /", "15", "yes", "0.00"],
        ["nothing submitted: carl, dora"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (0.2, "1 s"), (59, "59 s"), (3600, "1 h"), (3725, "1 h 2 min"), (64800, "18 h"),
        (86400, "1 d"), (86400 * 2 + 3 * 3600 + 59, "2 d 3 h"), (86400 + 59, "1 d"),
    ],
)  # fmt: skip
def test_lateness_is_told_in_the_two_largest_units(late: float, said: str) -> None:
    assert how_late(Row("anna", late=late, penalty=2)) == f"{said} late, penalty 2"


def test_a_name_that_a_stopped_cell_would_define_is_no_mistake() -> None:
    check = Check("means", "mean", 0, 2, "NameError: name 'mean' is not defined")
    stopped = Row("anna", checks=[check], reasons=["means: timeout"])
    assert ClassReport("ps1", [stopped, Row("bert", checks=[check])], []).mistakes == {
        check.message: 1
    }
    assert ClassReport("ps1", [stopped], []).mistakes == {}


def test_an_explanation_says_all_that_a_grade_came_of() -> None:
    lines = [line.strip() for line in explain(CLASS, "anna").splitlines()]
    assert lines == [
        "anna, ps1: 7 of 15 points", "1 min 30 s late, penalty 0.5", "means: timeout",
        "2.00 /    2  mean", "judged inside the student's process: it patches a module",
        "0.00 /    3  median", "median, value: the mean", "Read on", "line 4: assert",
        "0.00 /    5  why  waits for a human",
        "Tampering (for which no points were taken):", "a cell was deleted",
        "It ran without a sandbox.",
    ]  # fmt: skip
    assert explain(CLASS, "bert").splitlines()[1:] == [
        "  5 s late, penalty 0",
        "    2.00 /    2  mean",
    ]


def test_the_page_has_a_part_for_each_thing_that_there_is_to_tell() -> None:
    def parts(report: ClassReport) -> dict[str, list[list[str]]]:
        """What stands in the table below each heading."""
        found = {}
        for heading in BeautifulSoup(page(report), "html.parser")("h2"):
            below = [
                *itertools.takewhile(lambda tag: tag.name != "h2", heading.find_next_siblings())
            ]
            rows = [row for tag in below if "wide" in tag.get("class", []) for row in tag("tr")[1:]]
            found[heading.text] = [[cell.text for cell in row("td")] for row in rows]
        return found

    assert parts(CLASS) == {
        "Distribution": [
            ["0 to <2", "0"], ["2 to <4", "1"], ["4 to <6", "0"], ["6 to <8", "1"],
            ["8 to <10", "0"], ["10 to <12", "0"], ["12 to <14", "0"], ["14 to 15", "0"],
        ],
        "Points for each check": [["mean", "100 %"], ["median", "0 %"], ["why", "waits"]],
        "Most common mistakes": [["median: the mean", "1"]],
        "Stopped early": [["anna", "means: timeout"]],
        "Tampering": [["anna", "a cell was deleted"]],
        "Judged inside the student's process": [["mean", "it patches a module", "1"]],
        "Slowest": [["anna", "40.2"]],
        "All students": [
            ["anna", "7.00 / 15", "-0.5", "40.25", remarks(EVERYTHING)],
            ["bert", "2.00 / 15", "yes", "0.00", ""],
        ],
        "Nothing submitted": [],
        "Student by student": [],
    }  # fmt: skip
    quiet = ClassReport("ps1", [QUIET], [])
    assert [*parts(quiet)] == [
        "Distribution", "Points for each check", "All students", "Student by student",
    ]  # fmt: skip
    assert "without a sandbox" not in page(quiet)
    soup = BeautifulSoup(page(CLASS), "html.parser")
    assert (
        "2 submissions, on average 4.50 of 15 points, median 4.5; 1 waits for manual grading."
        in soup.text
    )
    assert "Some submissions ran without a sandbox." in soup.text
    for title in ("Stopped early", "Tampering", "Slowest", "All students"):
        heading = soup.find("h2", string=title)
        assert heading
        students = heading.find_next("table")
        assert isinstance(students, Tag)
        link = students.find("a")
        assert isinstance(link, Tag)
        assert (link.text, link["href"]) == ("anna", "#student-0")
    (own,) = soup.select("#student-0")
    assert "1 min 30 s late, penalty 0.5." in own.text
    assert [tag.text for tag in own("li")] == ["means: timeout", "a cell was deleted"]
    assert [[cell.text for cell in row("td")] for row in own("tr")[1:]] == [
        ["mean", "2 / 2", ""],
        ["median", "0 / 3", "median, value: the mean\n  Read on"],
        ["why", "0 / 5", "waits for manual grading"],
    ]
    assert drawn(soup, "Points for each check") == [
        ["mean", "--length: 100.0%", "100 %"],
        ["median", "--length: 0.0%", "0 %"],
        ["why", "--length: 0.0%", "waits"],
    ]
    assert drawn(soup, "Most common mistakes") == [["median: the mean", "--length: 100.0%", "1"]]


def drawn(soup: BeautifulSoup, title: str) -> list[list[str]]:
    """The rows of a part's table: what they name, the length of its bar, and what they tell."""
    part = soup.find("h2", string=title)
    assert part
    table = part.find_next("table")
    assert isinstance(table, Tag)
    return [[name.text, str(name["style"]), told.text] for name, told in
            (row("td") for row in table("tr")[1:])]  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "points", "steps"),
    [
        ([0, 2, 4, 4.5], 5, {"0 to <1": 1, "1 to <2": 0, "2 to <3": 1, "3 to <4": 0, "4 to 5": 2}),
        ([18, 1.99], 18, {"0 to <2": 1, "16 to 18": 1}),
        ([1, 100, 100], 100, {"0 to <10": 1, "90 to 100": 2}),
        ([120], 100, {"100 to 120": 1}),  # extra points
        ([-1], 0, {"0 to 1": 1}),
        ([3, 4], 3.5, {"3 to 4": 2}),
    ],
)
def test_a_score_is_in_one_step_of_at_most_ten(
    scores: list[float], points: float, steps: dict[str, int]
) -> None:
    rows = [Row(str(n), score, points) for n, score in enumerate(scores)]
    shown = drawn(BeautifulSoup(page(ClassReport("ps1", rows, [])), "html.parser"), "Distribution")
    counts = {label: int(told) for label, _, told in shown}
    assert len(counts) <= 10
    assert sum(counts.values()) == len(scores)
    assert {label: counts[label] for label in steps} == steps
    lengths = {told: float(style.removeprefix("--length: ")[:-1]) for _, style, told in shown}
    most = max(counts.values())
    assert lengths == {str(n): pytest.approx(100 * n / most, abs=0.1) for n in counts.values()}


def test_where_a_check_was_judged_is_explained() -> None:
    checks = [
        Check("ps1", "a", 1, 1, inside=True, why="it patches a module"),
        Check("ps1", "b", 1, 1, inside=True),
        Check("ps1", "c", 0, 1, why="no answer in time"),
        Check("ps1", "d", 1, 1),
    ]
    lines = explain(ClassReport("ps1", [Row("anna", checks=checks)], []), "anna").splitlines()
    assert [line.split()[-1] if "/" in line else line.strip() for line in lines[1:]] == [
        "a", "judged inside the student's process: it patches a module",
        "b", "judged inside the student's process: the course wants it",
        "c", "not judged soundly: no answer in time",
        "d",
    ]  # fmt: skip


def test_points_by_check(graded: Course, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "points.csv"
    assert main(["report", "ps1", "--course", str(graded.root), "--csv", str(file)]) == 0
    rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    assert [row["student"] for row in rows] == ["anna", "bert", "carl", "dora", "emil", "finn",
                                                "gwen"]  # fmt: skip
    assert rows[1]["points"] == "4"
    assert rows[1]["means/test_hidden (of 3)"] == "0"
    assert rows[0]["means/test_hidden (of 3)"] == "3"
    (task,) = (name for name in rows[0] if name.startswith("means/task"))
    assert rows[0][task] == ""  # waits for a human
    assert set(rows[-1].values()) == {"gwen", ""}
    assert main(["report", "ps1", "--course", str(graded.root), "--csv", "/proc/x/y"]) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_the_page_is_whole_and_safe(graded: Course) -> None:
    html = page(collect(graded, "ps1"))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<img" not in html
    links = re.findall(r'(?:src|srcset|href)="([^"]*)', html)
    assert links
    assert all(re.fullmatch(r"#student-\d+", link) for link in links)
    folds = re.findall(r"<summary>(test_\w+): \d+ of 6 students lost points", html)
    assert folds == ["test_mean", "test_hidden", "test_partial"]  # in the order of the notebook
    shares = drawn(BeautifulSoup(html, "html.parser"), "Points for each check")
    assert ["test_hidden", "--length: 33.3%", "33 %"] in shares


def written_by(*texts: str) -> BeautifulSoup:
    """The page of a class where students wrote these texts wherever a student may write."""
    rows = []
    for text in texts:
        checks = [
            Check("ps1", "first", 0, 1, text),
            Check("ps1", "test", 1, 1, f"a, value: {text}"),
        ]
        more = {"reasons": [text], "tampering": [text] * 2, "isolated": False}
        rows.append(Row(text, 1, 2, late=1, checks=checks, seconds=99, **more))
    return BeautifulSoup(page(ClassReport("ps1", rows, [*texts])), "html.parser")


def test_nothing_of_an_attack_is_on_the_page() -> None:
    def elements(page: BeautifulSoup) -> list[tuple[str, dict[str, str]]]:
        return [(tag.name, tag.attrs) for tag in page(True)]

    honest = written_by(*(f"mean {name}: sorted first" for name in ATTACKS))
    attacked = written_by(*ATTACKS.values())
    assert elements(attacked) == elements(honest)


@pytest.mark.browser
def test_the_page_is_covered_by_nothing_and_asks_for_nothing(chromium: Any) -> None:
    tab = chromium.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.set_content(str(written_by(ATTACKS["cover by accents"] + ATTACKS["logout by picture"])))
    assert asked == []
    hidden = tab.evaluate(
        """() => [...document.querySelectorAll("td, h2, summary")].filter(cell => {
            document.querySelectorAll("details").forEach(fold => fold.open = true);
            cell.scrollIntoView({block: "center"});
            const box = cell.getBoundingClientRect();
            const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
            return !cell.contains(document.elementFromPoint(x, y));
        }).length"""
    )
    assert hidden == 0
    assert tab.evaluate("getComputedStyle(document.querySelector('td')).contain") == "paint"
    tab.close()


@pytest.mark.browser
def test_a_row_leads_to_what_happened_and_a_check_to_who_failed(
    chromium: Any, graded: Course, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(page(collect(graded, "ps1")))
    tab = chromium.new_page(viewport={"width": 360, "height": 700})
    tab.goto((tmp_path / "page.html").as_uri())
    told = tab.locator("#student-1")
    assert not told.is_visible()
    tab.locator("a[href='#student-1']").click()
    assert told.is_visible()
    who = tab.locator("details", has_text="test_hidden: ").first
    who.locator("summary").click()
    assert who.locator("td").first.is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.close()


def test_a_crash_is_no_mistake_of_an_answer() -> None:
    crashed = Check("ps", "a", 0, 1, "DeadKernelError: The process ended in this cell: signal 9")
    wrong = Check("ps", "a", 0, 1, "✗ mean, value (2 points): the sum, not the mean\n  Read on")
    other = Check("ps", "b", 0, 1, "mean, shape: the sum, not the mean")
    rows = [Row("anna", checks=[crashed]), Row("bert", checks=[wrong, other])]
    report = ClassReport("ps", rows, [])
    assert "mean\n  Read on" in page(report)
    assert report.mistakes == {"mean: the sum, not the mean": 1}


def test_the_median_of_two_is_between_them() -> None:
    rows = [Row("anna", 7, 15), Row("bert", 4, 15)]
    assert "median 5.5" in page(ClassReport("ps1", rows, []))


def test_the_page_of_an_empty_class(course: Course) -> None:
    assert "0 submissions" in page(collect(course, "ps1"))


@pytest.mark.browser
def test_the_page_fits_a_phone(graded: Course, chromium: Any) -> None:
    tab = chromium.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
    tab.set_content(page(collect(graded, "ps1")))
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    tab.close()


# The command line


def test_commands_and_exit_codes(
    graded: Course, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    here = ["--course", str(graded.root)]
    assert main(["report", "ps1", *here]) == 0
    assert (graded.work / "ps1.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["explain", "anna", "ps1", *here]) == 0
    assert "anna, ps1: 7 of 15" in capsys.readouterr().out
    assert main(["explain", "gwen", "ps1", *here]) == 3
    assert main(["grade", "ps2", *here]) == 3
    assert "only: ps1" in capsys.readouterr().err
    with graded.gradebook() as gradebook:
        gradebook.add_assignment("ps3")  # as nbgrader leaves it where it could not read the source
    assert main(["grade", "ps3", *here]) == 3
    assert "no notebooks in the gradebook: nbgrader generate_assignment ps3" in (
        capsys.readouterr().err
    )
    assert main(["grade", "ps1", *here]) == 0  # nothing to do
    assert "0 graded, 6 unchanged, 0 notebooks run" in capsys.readouterr().out
    assert main(["grade", "ps1", "--dry-run", *here]) == 0
    assert "0 grades would change" in capsys.readouterr().out
    with pytest.raises(SystemExit) as usage:
        main(["grade"])
    assert usage.value.code == 2
    with pytest.raises(SystemExit):
        main(["grade", "ps1", "--jobs", "0"])


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setitem(_COMMANDS, "doctor", lambda _: print("a short table") or 0)
        assert main(["doctor"]) == 0


def test_an_interrupt_ends_it_without_a_traceback_while_it_imports(tmp_path: Path) -> None:
    (tmp_path / "sqlalchemy.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "autograder", "doctor"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(autograder.__file__).parents[1])},
        capture_output=True,
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


def test_the_doctor_looks_at_the_course(
    course: Course, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    root = course.root.rename(course.root.with_name("vae #1"))
    config = root / "nbgrader_config.py"
    main(["doctor", "--course", str(root)])
    out = capsys.readouterr().out
    assert re.search(r"^ok +nbgrader_config.py\nok +gradebook$", out, re.M)
    assert [path.name for path in root.parent.iterdir()] == ["vae #1"]
    shared = config.rename(root / "shared_config.py")  # of several courses, for example
    config.write_text(f"get_config()\nload_subconfig({shared.name!r}, {str(root)!r})\n")
    main(["doctor", "--course", str(root)])
    assert re.search(r"^ok +nbgrader_config.py$", capsys.readouterr().out, re.M)
    config.write_text("c.Isolated.network = ['a.org:443', 'b:80']")
    main(["doctor", "--course", str(root)])
    out = capsys.readouterr().out
    assert re.search(r"^ok +network: submissions may reach a\.org:443, b:80, and n", out, re.M)
    config.write_text(
        "import autograder\nautograder.install(c)\nc.Isolated.network.append('a.org:443')"
    )
    main(["doctor", "--course", str(root)])
    out = capsys.readouterr().out
    assert re.search(r"^ok +nbgrader_config.py\nok +network: .* a\.org:443, and", out, re.M)
    for wrong in ("network = ['a.org']", "mode = 'somewhere'"):
        config.write_text(f"c.Isolated.{wrong}")
        assert main(["doctor", "--course", str(root)]) == 1
        assert re.search(r"^LACKS +c\.Isolated: .*expected", capsys.readouterr().out, re.M)
    config.write_text("# autograder.install(c)\n")
    (root / "gradebook.db").unlink()
    assert main(["doctor", "--course", str(root)]) == 1
    out = capsys.readouterr().out
    assert "LACKS  nbgrader_config.py: it does not say" in out
    assert "LACKS  gradebook: there is none" in out
    config.unlink()
    main(["doctor", "--course", str(root)])
    out = capsys.readouterr().out
    assert f"LACKS  nbgrader_config.py: there is none in {root}; name" in out


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////nowhere/gradebook.db", "there is no gradebook"),
        ("nosuch://host/gradebook", "the gradebook cannot be used: "),
        ("postgresql+pg8000://127.0.0.1:1/gradebook", "a package is missing here: pg8000"),
    ],
)
def test_a_gradebook_that_is_not_there_is_one_line(
    course: Course, capsys: pytest.CaptureFixture[str], url: str, told: str
) -> None:
    config = course.root / "nbgrader_config.py"
    config.write_text(config.read_text() + f"c.CourseDirectory.db_url = {url!r}\n")
    assert main(["report", "ps1", "--course", str(course.root)]) == 3
    said = capsys.readouterr().err
    assert said.startswith(told)
    assert said.count("\n") == 1
    assert "--course" not in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("place", [None, "/course/.autograder/lock"])
def test_what_the_machine_refuses_is_one_line(
    course: Course,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    place: str | None,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), place)

    monkeypatch.setattr("autograder.__main__.collect", refuse)
    assert main(["report", "ps1", "--course", str(course.root)]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"{os.strerror(number)}: {place or course.root.resolve()}; ")
    assert said.count("\n") == 1


def test_a_folder_that_is_no_course_is_told_with_the_way_to_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "ps1", "--course", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert said.startswith("there is no gradebook")
    assert said.endswith("; or name the course's folder with --course\n")


def test_a_wrong_setting_is_one_line(
    course: Course, submit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    submit("anna")
    config = course.root / "nbgrader_config.py"
    config.write_text(config.read_text() + "c.Isolated.network = ['example.org']\n")
    assert main(["grade", "ps1", "--course", str(course.root)]) == 3
    said = capsys.readouterr().err
    assert said.startswith("a setting in nbgrader_config.py is wrong: ")
    assert said.count("\n") == 1


def test_a_class_that_submitted_nothing_is_one_line(
    course: Course, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grade", "ps1", "--course", str(course.root)]) == 3
    assert capsys.readouterr().err.startswith("there are no submissions; they belong in ")
