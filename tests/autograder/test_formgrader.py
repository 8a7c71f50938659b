"""formgrader in a browser: it shows the class, runs no student's script, grades in the sandbox."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import standin
from lab import serve
from playwright.sync_api import Browser, Page, expect
from small_course import named

from autograder.course import Course
from autograder.grade import grade

from .html_attacks import ATTACKS
from .test_drawing import covered

ROOT = Path(__file__).parents[2]
ATTACK = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
SHOWS = f"""
class Shown:
    html = {ATTACK!r}
    def _repr_html_(self):
        return self.html
Shown()
"""


@pytest.fixture
def formgrader(course: Course, chromium: Browser, tmp_path: Path) -> Iterator[tuple[Page, str]]:
    """A browser and the address of a server in the course's folder."""
    folders = ("config", "data", "runtime")
    environment = os.environ | {
        **{f"JUPYTER_{name.upper()}_DIR": str(tmp_path / name) for name in folders},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    with serve(course.root, environment, tmp_path / "log", "jupyter_server") as url:
        page = chromium.new_page(viewport={"width": 1280, "height": 2000})
        yield page, f"{url}/formgrader"
        page.close()


def attack(notebook: dict[str, Any]) -> None:
    named(notebook, "mean")["source"] += SHOWS
    named(notebook, "why")["source"] = f"**Because.** {ATTACK}"


@pytest.mark.slow
@pytest.mark.browser
def test_a_graded_class(course: Course, submit: Any, formgrader: tuple[Page, str]) -> None:
    submit("anna", change=attack)
    submit("bert", "def mean(values):\n    return sorted(values)[len(values) // 2]")
    submit("carl")
    (course.root / "submitted/carl").rename(course.root / "carl")
    grade(course, "ps1", executor=standin.Here(), execute=standin.execute, progress=False)
    page, url = formgrader

    page.goto(f"{url}/gradebook/ps1/means")
    rows = page.locator("#main-table tr")
    expect(rows).to_have_count(2, timeout=20_000)
    expect(page.locator("#main-table")).to_contain_text("7 / 15")
    expect(page.locator("#main-table")).to_contain_text("4 / 15")

    with course.gradebook() as gradebook:
        find = gradebook.find_submission_notebook
        ids = {student: find("means", "ps1", student).id for student in ("anna", "bert")}
    page.goto(f"{url}/submissions/{ids['anna']}")
    expect(page.get_by_text("Because.")).to_be_visible()
    expect(page.locator("#test_mean")).to_have_attribute("placeholder", "2")
    expect(page.locator("#test_hidden")).to_have_attribute("placeholder", "3")
    assert page.evaluate("window.ran") is None
    page.goto(f"{url}/submissions/{ids['bert']}")
    expect(page.locator("#test_hidden")).to_have_attribute("placeholder", "0")
    expect(page.get_by_text("The mean of two: mean").last).to_be_visible()

    # Its own button grades a submission that came later, in the sandbox.
    (course.root / "carl").rename(course.root / "submitted/carl")
    page.goto(f"{url}/manage_submissions/ps1")
    row = page.locator("tr", has_text="carl")
    row.locator(".autograde a").click(timeout=20_000)
    expect(page.get_by_role("dialog")).to_contain_text("Success", timeout=120_000)
    notebook = course.graded_notebooks("ps1", "carl")["means"]
    assert notebook.metadata.autograder.isolated is True
    assert course.auto_scores("ps1")["carl"]["means", "test_hidden"] == 3


# As much of MathJax as formgrader waits for: the network is blocked.
MATHJAX = (
    "MathJax = {Hub: {Config() {}, Queue() {}, Startup: {signal: {Interest(f) { f('End') }}}}}"
)
GRADES = ("test_mean", "test_hidden", "test_partial", "why", "task")
FORGED = "".join(
    f'<div class="nbgrader_cell"><span id="{name}"></span><span id="{name}-comment"></span>'
    '<p class="full-credit">click me</p><input class="score" value="9"></div>'
    for name in GRADES
)


def attack_everywhere(notebook: dict[str, Any]) -> None:
    attacks = [FORGED, *ATTACKS.values()]
    named(notebook, "why")["source"] = FORGED
    named(notebook, "mean")["source"] += (
        "\nclass Shown:\n    def __init__(self, html):\n        self.html = html\n"
        "    def _repr_html_(self):\n        return self.html\n"
        + "".join(f"display(Shown({attack!r}))\n" for attack in attacks)
    )
    for place, kind in ((0, "markdown"), (1, "raw"), (len(notebook["cells"]), "markdown")):
        notebook["cells"][place:place] = [
            {"cell_type": kind, "metadata": {"raw_mimetype": "text/html"}, "source": attack}
            for attack in attacks
        ]


@pytest.mark.slow
@pytest.mark.browser
def test_nothing_a_student_writes_reaches_the_instructors_marks(
    course: Course, submit: Any, formgrader: tuple[Page, str]
) -> None:
    submit("anna", change=attack_everywhere)
    grade(course, "ps1", executor=standin.Here(), execute=standin.execute, progress=False)
    with course.gradebook() as gradebook:
        submission = gradebook.find_submission_notebook("means", "ps1", "anna").id

    def marks() -> dict[str, float | None]:
        with course.gradebook() as gradebook:
            found = gradebook.find_submission_notebook("means", "ps1", "anna").grades
            return {grade.name: grade.manual_score for grade in found}

    def wait_for(**wanted: float) -> None:
        for _ in range(100):
            if marks().items() >= wanted.items():
                return
            page.wait_for_timeout(100)
        pytest.fail(f"{marks()}, not {wanted}")

    page, url = formgrader
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("https://cdnjs.cloudflare.com/**", lambda route: route.fulfill(body=MATHJAX))
    page.goto(f"{url}/submissions/{submission}/")
    for name in GRADES:
        expect(page.locator(f"#{name}")).to_have_count(1)
    expect(page.locator("#test_hidden")).to_have_attribute("placeholder", "3", timeout=20_000)
    assert covered(page) == []

    # Whatever a student made to be clicked does nothing.
    bait = 0
    for frame in page.frames:
        for element in frame.get_by_text("click me", exact=True).all():
            element.evaluate("element => element.click()")
            bait += 1
    assert bait > 20
    page.wait_for_timeout(1000)
    assert marks() == dict.fromkeys(GRADES)
    assert page.evaluate("window.ran") is None
    assert page.url.startswith(f"{url}/submissions/{submission}/")

    # What the instructor types and clicks counts.
    page.locator("#why").fill("3")
    page.locator("#why").blur()
    wait_for(why=3)
    cell = page.locator(".nbgrader_cell", has=page.locator("#task"))
    cell.get_by_role("button", name="Full credit").click()
    wait_for(why=3, task=1)
    page.locator("#why-comment").fill("Well said.")
    page.locator("#why-comment").blur()
    page.wait_for_timeout(1000)
    with course.gradebook() as gradebook:
        comment = gradebook.find_comment("why", "means", "ps1", "anna")
        assert comment.manual_comment == "Well said."
    assert marks() == dict.fromkeys(GRADES) | {"why": 3, "task": 1}

    own = (f"{url}/static/", f"{url}/api/", f"{url}/submissions/{submission}/", "about:srcdoc")
    own += ("https://cdnjs.cloudflare.com/", "data:image/png")
    assert [address for address in asked if not address.startswith(own)] == []
    pages = [address for address in asked if "/submissions/" in address]
    assert pages == [f"{url}/submissions/{submission}/"]
