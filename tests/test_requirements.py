"""What is imported is named, requirements.txt pins what is named, constraints.txt the rest."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import vaelib

ROOT = Path(__file__).parents[1]
CODE = (
    "autograder",
    "benchmarks",
    "book",
    "chapters",
    "recipes",
    "scripts",
    "solutions",
    "tests",
    "vae_exercises",
    "vaelib",
)
OWN = {*CODE, *(path.stem for path in (ROOT / "tests").glob("*.py"))}


def pins(file: str) -> dict[str, Requirement]:
    lines = (ROOT / file).read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in wanted}


PROJECTS = ("pyproject.toml", "autograder/pyproject.toml")


def named(*projects: str) -> dict[str, Requirement]:
    wanted = []
    for file in projects or PROJECTS:
        project = tomllib.loads((ROOT / file).read_text())["project"]
        groups = [project["dependencies"], *project["optional-dependencies"].values()]
        wanted += [Requirement(line) for group in groups for line in group]
    return {canonicalize_name(requirement.name): requirement for requirement in wanted}


def test_what_the_package_names_is_pinned_within_its_bounds() -> None:
    pinned = pins("requirements.txt")
    assert pinned.keys() == named().keys()
    for name, requirement in named().items():
        (pin,) = pinned[name].specifier
        assert pin.operator == "==", f"{name} is not pinned"
        assert requirement.specifier.contains(pin.version), f"{pinned[name]} against {requirement}"


@pytest.mark.parametrize("file", ["requirements.txt", "constraints.txt"])
def test_what_is_pinned_installs_with_the_oldest_python(file: str) -> None:
    """With its first release even: that of Debian 12 is 3.11.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].partition(",")[0].removeprefix(">=") + ".0"
    refused = []
    for name in pins(file):
        with contextlib.suppress(PackageNotFoundError):  # of another system
            wanted = metadata(name).get("Requires-Python") or ""
            if not SpecifierSet(wanted).contains(oldest):
                refused.append(f"{name} {wanted}")
    assert not refused


def test_the_lock_pins_the_rest_and_nothing_twice() -> None:
    locked = pins("constraints.txt")
    assert not locked.keys() & pins("requirements.txt").keys()
    assert all([s.operator for s in pin.specifier] == ["=="] for pin in locked.values())


def code(path: Path) -> str:
    """The Python of a module, a notebook or a chapter."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        return "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    if path.suffix == ".md":
        cells = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```$", text, re.M | re.S)
        return re.sub(r"^:.*?$|^---\n.*?^---$", "", "\n".join(cells), flags=re.M | re.S)  # options
    return text


def imported(text: str) -> Iterator[str]:
    """The modules of others that it imports, anywhere."""
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        yield from {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OWN


@pytest.mark.parametrize("folder", CODE)
def test_what_is_imported_is_named(folder: str) -> None:
    apart = {
        "autograder": "autograder/similar/requirements.txt",
        "benchmarks": "benchmarks/requirements.txt",
    }
    comes_alone = ["autograder/pyproject.toml"] if folder == "autograder" else []
    known = named(*comes_alone).keys() | (pins(apart[folder]) if folder in apart else {})
    if folder == "vaelib":  # what it needs comes with it
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        known = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    # Peers of the benchmarks need not be installed to be known.
    brought_by = {"pyro": ["pyro-ppl"], **packages_distributions()}
    files = [path for kind in ("py", "ipynb", "md") for path in (ROOT / folder).rglob(f"*.{kind}")]
    for path in files:
        for name in imported(code(path)):
            packages = {canonicalize_name(package) for package in brought_by.get(name, [name])}
            assert packages & known, f"{path.relative_to(ROOT)} imports {name}"


def test_a_citation_names_the_version_there_is() -> None:
    assert f"\nversion: {vaelib.__version__}\n" in (ROOT / "CITATION.cff").read_text()
