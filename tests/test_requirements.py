"""requirements.txt pins exactly what pyproject.toml names, and constraints.txt the rest."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def pins(file: str) -> dict[str, Requirement]:
    lines = (ROOT / file).read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in wanted}


def named() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = [Requirement(line) for group in groups for line in group]
    return {canonicalize_name(requirement.name): requirement for requirement in wanted}


def test_what_the_package_names_is_pinned_within_its_bounds() -> None:
    pinned = pins("requirements.txt")
    assert pinned.keys() == named().keys()
    for name, requirement in named().items():
        (pin,) = pinned[name].specifier
        assert pin.operator == "==", f"{name} is not pinned"
        assert requirement.specifier.contains(pin.version), f"{pinned[name]} against {requirement}"


def test_the_lock_pins_the_rest_and_nothing_twice() -> None:
    locked = pins("constraints.txt")
    assert not locked.keys() & pins("requirements.txt").keys()
    assert all([s.operator for s in pin.specifier] == ["=="] for pin in locked.values())
