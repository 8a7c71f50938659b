"""From the zip file to the first check: on each system, as the page says, in JupyterLab."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import uv
from lab import Lab, serve
from nbformat.v4 import new_code_cell
from playwright.sync_api import Browser, expect

from scripts.release import CPU, NEWS

ROOT = Path(__file__).parents[2]
START = (ROOT / "scripts" / "start.html").read_text("utf-8")
GUIDE = (ROOT / "chapters" / "student-guide.md").read_text("utf-8")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = ("x86_64-pc-windows-msvc", "aarch64-apple-darwin", "x86_64-manylinux_2_28")


def plain(text: str) -> str:
    """Without markup, and with blanks as one."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>|{kbd}|[*`]", "", text))).strip()


def reached(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except OSError:
        return False
    return True


def interpreter(python: str) -> Path:
    """An installed Python of this version: of pyenv's, uv's or the system's."""
    places = [
        Path.home() / ".pyenv" / "versions",
        Path.home() / ".local" / "share" / "uv" / "python",
    ]
    found = [path for place in places for path in place.glob(f"*{python}.*/bin/python{python}")]
    system = shutil.which(f"python{python}")
    for path in [*found, *([Path(system)] if system else [])]:
        if subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    pytest.skip(f"no Python {python} is installed here")


def test_page_and_guide_give_the_same_commands_in_the_same_order() -> None:
    page = [html.unescape(code) for code in re.findall(r"<pre><code>(.*?)</code>", START, re.S)]
    blocks = re.findall(r"^( *)```(?:sh|powershell|ipython3)\n(.*?)\n *```$", GUIDE, re.S | re.M)
    guide = [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in blocks]
    assert guide == page
    assert len(page) >= 8


def test_page_and_guide_name_the_same_systems() -> None:
    page = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td></tr>", START, re.S)
    rows = re.search(r"^## Will it run here\?\n\n.*?\n.*?\n((?:\|.*\n)+)", GUIDE, re.M)
    assert rows
    text = re.sub(r"\{ref\}`(.+?) <.+?>`", r"\1", rows[1])
    guide = [tuple(map(plain, line.strip("| ").split("|"))) for line in text.splitlines()]
    assert [tuple(map(plain, row)) for row in page] == guide
    for text in (plain(START), plain(GUIDE)):
        assert "Python 3.11, 3.12, 3.13 or 3.14 is needed" in text


def test_page_and_guide_hand_in_by_the_same_steps() -> None:
    page = re.findall(r"<li>(.*?)</li>", START.partition("<h2>Hand in</h2>")[2], re.S)
    guide = re.findall(r"^\d\. (.*(?:\n   .*)*)", GUIDE.partition("## Hand in\n")[2], re.M)
    named = re.compile(r'hand_in\("(.*?)"\)')
    for steps in (page, guide):
        (assignment,) = named.findall(" ".join(steps))
        notebook = nbformat.read(ROOT / "solutions" / assignment / f"{assignment}.ipynb", 4)
        assert notebook.cells[-1].source in plain(" ".join(steps))
    first = [
        [re.split(r"[.,](?= |$)", named.sub("hand_in", plain(step)))[0] for step in steps]
        for steps in (page, guide)
    ]
    assert first[0] == first[1]
    assert len(first[0]) == 4


def test_links_of_the_page_lead_somewhere(student: Path) -> None:
    links = re.findall(r'href="(.*?)"', (student / "start.html").read_text("utf-8"))
    assert "book/index.html" in links
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in START
        elif not link.startswith("https://"):
            assert (student / link).is_file(), link


@pytest.mark.parametrize("python", ["3.8", "3.10", *PYTHONS])
def test_what_is_missing_is_told_by_every_python(python: str, tmp_path: Path) -> None:
    """Also by one that is too old, where nothing could be installed."""
    found = interpreter(python)
    command = [found, "-S", "-m", "vae_exercises"]  # without what is installed
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={"PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 1, done.stderr
    wanted = "PyTorch is not installed here." if python in PYTHONS else f"This is Python {python}."
    assert wanted in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", [PYTHONS[0], PYTHONS[-1]])
def test_everything_has_a_wheel(student: Path, tmp_path: Path, system: str, python: str) -> None:
    """On each system, for the oldest Python and the newest; PyTorch as PyPI has it."""
    if not reached("https://pypi.org/simple/uv/"):
        pytest.skip("PyPI cannot be reached")
    lines = (student / "requirements.txt").read_text().splitlines()
    (tmp_path / "requirements.txt").write_text(
        "\n".join(
            line.replace("./", f"{student}/") for line in lines if not line.startswith("--extra")
        )
    )
    done = subprocess.run(
        [uv.find_uv_bin(), "pip", "compile", "--system-certs", "--only-binary", ":all:",
         "--python-platform", system, "--python-version", python, "requirements.txt"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\ntorch==" in done.stdout
    assert ("\nnvidia-" in done.stdout) == ("linux" in system)


@pytest.fixture
def folder(student: Path, tmp_path: Path) -> Path:
    """A copy, to work in."""
    return shutil.copytree(student, tmp_path / "vae-exercises")


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_uv_alone_brings_a_student_to_the_first_check(folder: Path, python: str) -> None:
    found = interpreter(python)
    if not reached(f"{CPU}/torch/"):
        pytest.skip(f"{CPU} cannot be reached")
    program = (
        "from vae_exercises import kl as exercise\n"
        "def kl(mu, logvar):\n"
        "    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)\n"
        "exercise.kl_to_standard_normal.check('value', kl)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (["-m", "vae_exercises"], ["-c", program]):
        done = subprocess.run(
            [uv.find_uv_bin(), "run", "--system-certs", "--python", found, "python", *command],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith(("Ready: ", "✓ "))


def test_the_container_runs_what_there_is() -> None:
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert settings["image"].rpartition(":")[2] in PYTHONS
    assert settings["containerEnv"] == {"PIP_EXTRA_INDEX_URL": CPU}
    assert (ROOT / "scripts" / "exercises.py").exists()
    make, *rest = settings["postCreateCommand"].split(" && ")
    assert make == "make .venv/installed"
    assert [line.split()[2] for line in rest] == ["scripts.exercises", "vae_exercises"]


@pytest.fixture
def lab(folder: Path, tmp_path: Path, chromium: Browser) -> Iterator[Lab]:
    """JupyterLab in the students' folder, with what their wheel installs."""
    (wheel,) = folder.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel],
        check=True,
    )
    environment = os.environ | {
        "HOME": str(tmp_path / "home"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_CONFIG_PATH": str(site / "etc" / "jupyter"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(site),
    }
    page = chromium.new_page(viewport={"width": 1280, "height": 3000})
    with serve(folder, environment, tmp_path / "log") as url:
        yield Lab(page, url)
        page.close()


@pytest.mark.slow
@pytest.mark.browser
def test_students_see_validate_and_nothing_of_instructors(lab: Lab) -> None:
    lab.open("3-kl/3-kl.ipynb")
    expect(lab.page.get_by_role("button", name="Validate")).to_be_visible()
    lab.page.get_by_role("menuitem", name="Nbgrader").click()
    expect(lab.page.get_by_role("menuitem", name="Assignment List")).to_be_visible()
    for name in ("Formgrader", "Course List"):
        expect(lab.page.get_by_role("menuitem", name=name)).to_have_count(0)
    lab.page.keyboard.press("Escape")
    expect(lab.page.get_by_role("tab", name="Property Inspector")).to_be_visible()
    assert "Create Assignment" not in lab.page.locator("body").inner_html()


@pytest.mark.slow
@pytest.mark.browser
def test_no_question_about_news_lies_over_the_notebook(lab: Lab) -> None:
    lab.open("3-kl/3-kl.ipynb")
    settings = json.loads(lab.page.locator("#jupyter-config-data").text_content() or "")
    assert NEWS in settings["disabledExtensions"]
    lab.page.wait_for_timeout(3000)  # it comes after the notebook
    expect(lab.page.get_by_text("Jupyter news")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.browser
def test_a_notebook_is_checked_before_it_is_handed_in(lab: Lab, folder: Path) -> None:
    cells = {"kl-to-standard-normal": True, "kl-to-standard-normal-value": False}
    call = "from vae_exercises.handing_in import hand_in"
    notebook = nbformat.read(path := folder / "3-kl" / "3-kl.ipynb", as_version=4)
    notebook.cells = [
        *(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") in cells),
        new_code_cell(f"{call}\nhand_in('3-kl', {cells})"),
    ]
    nbformat.write(notebook, path)
    lab.open("3-kl/3-kl.ipynb")
    lab.write(task := lab.cell("def kl_to_standard_normal"), "def kl_to_standard_normal(*a): ...")
    lab.run(task)
    expect(lab.run(lab.cell(call))).to_contain_text("the file is not what you ran last")
    lab.save(path, "(*a): ...")
    output = lab.run(lab.cell(call))
    expect(output).to_contain_text("✓ 3-kl.ipynb is complete and saved.")
    expect(output).to_contain_text(str(path))

    # Jupyter goes on telling the name that the notebook had when it was opened.
    path.rename(path.with_name("3-kl (1).ipynb"))
    expect(lab.run(lab.cell(call))).to_contain_text("there is no 3-kl.ipynb in the folder")
