"""What students get, made once for all tests of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOOK = {
    "index.html": "The book",
    "chapters/kl.html": "KL divergence",
    "chapters/student-guide.html": "Student guide",
    "_static/theme.js": "run()",
    "_static/theme.js.map": "{}",
    "the-book.pdf": "%PDF",
}


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of its own, with a small book, released by the script that `make release` runs."""
    course = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "solutions", course / "solutions")
    shutil.copy(ROOT / "nbgrader_config.py", course)
    for name, text in BOOK.items():
        path = course / "_build" / "html" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.release", course],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return course


@pytest.fixture(scope="session")
def student(course: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The students' folder, unpacked."""
    folder = tmp_path_factory.mktemp("student")
    with zipfile.ZipFile(course / "build" / "vae-exercises.zip") as packed:
        packed.extractall(folder)
    return folder / "vae-exercises"
