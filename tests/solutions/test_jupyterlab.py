"""A student works in JupyterLab: writes a solution, a mistake, validates, saves, hands in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab import Lab, serve, sources_in
from playwright.sync_api import Browser, expect

from book.exercises import released, solved

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "solutions" / "3-kl" / "3-kl.ipynb"
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "vae"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.root = {course!r}
c.Exchange.root = {exchange!r}
c.Exchange.path_includes_course = False
"""

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def solution(name: str) -> str:
    """The cell that defines a function, as a student would write it."""
    (source,) = [c.source for c in solved(SOURCE).cells if c.source.startswith(f"def {name}(")]
    return str(source)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A course with one assignment, released to an exchange, and a student's folder beside it."""
    for name in ("course/solutions/3-kl", "exchange", "student"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "exchange").chmod(0o777)
    shutil.copy(SOURCE, tmp_path / "course/solutions/3-kl")
    names = {name: str(tmp_path / name) for name in ("course", "exchange")}
    for folder in ("course", "student"):
        (tmp_path / folder / "nbgrader_config.py").write_text(CONFIG.format(**names))
    return tmp_path


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """A student's account: no settings of whoever runs the tests."""
    folders = {name: str(home / "account" / name) for name in ("config", "data", "runtime")}
    return os.environ | {
        "HOME": str(home / "account"),
        "IPYTHONDIR": str(home / "account" / "ipython"),
        "JUPYTER_CONFIG_DIR": folders["config"],
        "JUPYTER_DATA_DIR": folders["data"],
        "JUPYTER_RUNTIME_DIR": folders["runtime"],
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "NB_USER": "ada",
        "JUPYTERHUB_USER": "ada",
    }


@pytest.fixture
def lab(home: Path, environment: dict[str, str], chromium: Browser) -> Iterator[Lab]:
    # Tall, for JupyterLab keeps only those cells in the page that can be seen.
    page = chromium.new_page(viewport={"width": 1280, "height": 6000})
    with serve(home / "student", environment, home / "log") as url:
        yield Lab(page, url)
        page.close()


def nbgrader(home: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=home / "course",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_student_writes_a_solution_and_a_mistake(home: Path, lab: Lab) -> None:
    path = home / "student" / "3-kl.ipynb"
    nbformat.write(released(SOURCE), path)
    lab.open("3-kl.ipynb")
    lab.run(lab.cell("import matplotlib"))

    # A solution: the checks pass, and the picture is drawn.
    lab.write(task := lab.cell("def kl_to_standard_normal"), solution("kl_to_standard_normal"))
    lab.run(task)
    check = lab.cell(r'exercise.kl_to_standard_normal.check\("value"')
    expect(lab.run(check)).to_have_text("✓ kl_to_standard_normal, value (3 points)")
    expect(lab.run(lab.cell("mean, sigma = ")).locator("img")).to_be_visible()
    answer = lab.page.locator("details", has_text="the first dimension equals the prior")
    answer.locator("summary").click()
    expect(answer).to_contain_text("is expensive")

    # A well-known mistake: it is named, and no traceback leads through the library.
    wrong = solution("kl_between_gaussians").replace("return 0.5 * ", "return ")
    lab.write(task := lab.cell("def kl_between_gaussians"), wrong)
    lab.run(task)
    output = lab.run(lab.cell(r'exercise.kl_between_gaussians.check\("value"'))
    expect(output).to_contain_text("✗ kl_between_gaussians, value (3 points): the ½ is missing")
    expect(output).to_contain_text("Read: KL divergence, “The closed form, line by line”")
    expect(output).not_to_contain_text("Traceback")

    # Run All goes on to the end, though checks fail: the last cells sum up.
    lab.page.get_by_role("menuitem", name="Run", exact=True).click()
    lab.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    points = lab.cell("vae_exercises.summary").locator(".jp-OutputArea")
    expect(points).to_contain_text("9 of 18 points by the visible checks", timeout=90_000)
    expect(points).to_contain_text("Still open: kl_between_gaussians, value; ")
    expect(points).to_contain_text("kl_monte_carlo, value")
    handed = lab.cell("vae_exercises.hand_in").locator(".jp-OutputArea")
    unsaved = "In the cells kl-to-standard-normal and kl-between-gaussians the file is not what"
    expect(handed).to_contain_text(unsaved, timeout=30_000)
    expect(output).to_contain_text("the ½ is missing")

    # Validate saves, runs all, and tells what fails: the mistake and what is not begun.
    lab.page.get_by_role("button", name="Validate").click()
    report = lab.page.get_by_role("dialog")
    expect(report).to_be_visible(timeout=60_000)
    expect(report).to_contain_text("the ½ is missing")
    expect(report).to_contain_text("kl_monte_carlo, value (2 points): not written yet")
    expect(report).not_to_contain_text("✗ kl_to_standard_normal, value")
    report.get_by_role("button").last.click()

    lab.save(path, wrong)
    lab.open("3-kl.ipynb")
    again = lab.cell("def kl_between_gaussians")
    written = again.locator(".cm-content")
    expect(written).to_contain_text("return (log_ratio.exp()", timeout=30_000)


def test_fetch_submit_collect(home: Path, lab: Lab, environment: dict[str, str]) -> None:
    nbgrader(home, environment, "generate_assignment", "3-kl")
    nbgrader(home, environment, "release_assignment", "3-kl")
    lab.page.goto(f"{lab.url}/lab")
    lab.page.get_by_role("menuitem", name="Nbgrader").click()
    lab.page.get_by_role("menuitem", name="Assignment List").click()
    lab.page.get_by_role("button", name="Fetch").click()
    expect(lab.page.get_by_role("button", name="Submit")).to_be_visible()

    notebook = home / "student" / "3-kl" / "3-kl.ipynb"
    assert notebook.exists()
    lab.open("3-kl/3-kl.ipynb")
    lab.write(lab.cell("def kl_to_standard_normal"), solution("kl_to_standard_normal"))
    lab.save(notebook, solution("kl_to_standard_normal"))

    lab.page.goto(f"{lab.url}/lab")
    lab.page.get_by_role("menuitem", name="Nbgrader").click()
    lab.page.get_by_role("menuitem", name="Assignment List").click()
    lab.page.get_by_role("button", name="Submit").click()
    expect(lab.page.locator("#submitted_assignments_list")).to_contain_text("3-kl")
    nbgrader(home, environment, "collect", "3-kl")
    (submitted,) = (home / "course" / "submitted").glob("*/3-kl/3-kl.ipynb")
    assert solution("kl_to_standard_normal") in sources_in(submitted)
