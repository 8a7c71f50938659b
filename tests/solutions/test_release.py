"""What students get: complete, usable elsewhere, and without a solution or a hidden check."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from book.exercises import released, sources
from scripts import release

ROOT = Path(__file__).parents[2]
SOURCES = sources(ROOT)

pytestmark = pytest.mark.slow


def everything(folder: Path) -> dict[str, str]:
    """The text of all files, those inside of the wheel too."""
    texts = {str(path): path.read_text() for path in folder.rglob("*.ipynb")}
    for path in folder.glob("*.*"):
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                # Weights are not text, but may not hide any either.
                names = wheel.namelist()
                texts |= {name: wheel.read(name).decode(errors="replace") for name in names}
        else:
            texts[path.name] = path.read_text()
    return texts


def test_it_holds_what_is_needed(student: Path) -> None:
    notebooks = [path.name for path in sorted(student.glob("*/*.ipynb"))]
    assert notebooks == [path.name for path in SOURCES]
    assert {path.suffix for path in student.iterdir() if path.is_file()} == {
        ".html", ".toml", ".txt", ".whl",
    }  # fmt: skip
    book = {str(path.relative_to(student / "book")) for path in student.glob("book/**/*.*")}
    read = {"index.html", "chapters/kl.html", "chapters/student-guide.html", "_static/theme.js"}
    assert book == read


def test_uv_and_pip_install_the_same(student: Path) -> None:
    listed = (student / "requirements.txt").read_text().splitlines()
    *_, index, wheel = [line for line in listed if line.startswith(("--", "./"))]
    assert (student / wheel).exists()
    ranges = listed[listed.index(wheel) + 1 :]
    settings = tomllib.loads((student / "pyproject.toml").read_text())
    assert settings["project"]["dependencies"] == ["vaelib", *ranges]
    assert settings["tool"]["uv"]["sources"]["vaelib"] == {"path": wheel.removeprefix("./")}
    assert index == f"--extra-index-url {settings['tool']['uv']['index'][0]['url']}"


def test_no_pin_is_asked_for_and_no_untried_major_version(student: Path) -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {pin.name: next(iter(pin.specifier)).version for pin in pins}
    settings = tomllib.loads((student / "pyproject.toml").read_text())
    _, *ranges = map(Requirement, settings["project"]["dependencies"])
    assert {"jupyterlab", "nbgrader", "torch"} < {wanted.name for wanted in ranges}
    for wanted in ranges:
        assert [bound.operator for bound in sorted(wanted.specifier, key=str)] == ["<", ">="]
        assert wanted.specifier.contains(pinned[wanted.name])
        assert not wanted.specifier.contains("99")


def test_without_a_book_it_says_so_and_links_none(
    course: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("solutions", "release"):
        (tmp_path / name).symlink_to(course / name)
    monkeypatch.setattr(release, "wheel", lambda folder: "vaelib.whl")
    with zipfile.ZipFile(release.pack(tmp_path)) as packed:
        start = packed.read("vae-exercises/start.html").decode()
        assert not [name for name in packed.namelist() if "/book/" in name]
    assert "without the book" in capsys.readouterr().out
    assert "book/" not in start
    assert "</html>" in start


def test_it_holds_no_solution_and_no_hidden_check(course: Path, student: Path) -> None:
    texts = everything(student)
    assert len(texts) > 30
    forbidden = {"BEGIN SOLUTION", "BEGIN HIDDEN", "BEGIN MARK SCHEME", "course secret"}
    secret = course / ".course-secret"
    assert secret.exists()
    forbidden.add(secret.read_text().strip())
    solutions = set()
    for source in SOURCES:
        for cell in nbformat.read(source, as_version=4).cells:
            for region in ("SOLUTION", "HIDDEN TESTS", "MARK SCHEME"):
                for part in cell.source.split(f"### BEGIN {region}")[1:]:
                    kept = solutions if region == "SOLUTION" else forbidden
                    kept.add(part.split(f"### END {region}")[0].strip())
    assert len(solutions) > 30
    assert len(forbidden) > 60
    for name, text in texts.items():
        plain = (
            "".join(cell.source for cell in nbformat.reads(text, as_version=4).cells)
            if name.endswith(".ipynb")
            else text
        )
        # The checks compare with right solutions, which the packages hold.
        package = name.startswith(("vaelib/", "vae_exercises/"))
        for piece in forbidden if package else forbidden | solutions:
            assert piece not in plain, (name, piece)


def test_the_book_offers_the_same_notebooks(course: Path) -> None:
    for source in SOURCES:
        offered = released(source)
        by_nbgrader = nbformat.read(course / "release" / source.stem / source.name, as_version=4)
        assert [cell.source for cell in offered.cells] == [c.source for c in by_nbgrader.cells]
        assert [cell.metadata for cell in offered.cells] == [c.metadata for c in by_nbgrader.cells]


def test_the_hidden_checks_of_the_gradebook_know_the_secret(course: Path) -> None:
    gradebook = (course / "gradebook.db").read_bytes()
    assert (course / ".course-secret").read_text().strip().encode() in gradebook
    assert b'"course secret"' not in gradebook


def test_the_library_works_elsewhere(student: Path, tmp_path: Path) -> None:
    """From the wheel alone, in another folder: neither the repository nor its install is used."""
    (wheel,) = student.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel],
        check=True,
    )
    program = (
        "import vaelib, vae_exercises.kl as exercise, pathlib\n"
        "print(pathlib.Path(vaelib.__file__).parents[1])\n"
        "from torch.distributions import Normal, kl_divergence\n"
        "def f(mu, logvar):\n"
        "    return kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0 * mu, 1)).sum(-1)\n"
        "for aspect in ('value', 'shape', 'gradient', 'numerics'):\n"
        "    exercise.kl_to_standard_normal.check(aspect, f)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=student / "3-kl",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, *checks = done.stdout.splitlines()
    assert Path(where) == site
    assert len(checks) == 4
