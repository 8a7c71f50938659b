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
