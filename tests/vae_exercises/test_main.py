"""`python -m vae_exercises` says “Ready”, or what is missing and what to do."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import vaelib
from vae_exercises import __main__ as ready

ROOT = Path(__file__).parents[2]


def test_all_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert ready.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(r"Ready: Python \d+\.\d+\.\d+, PyTorch .+ on the .+, vaelib .+\.$", line)
    assert torch.__version__ in line
    assert f"vaelib {vaelib.__version__}, JupyterLab " in line


def test_a_python_that_the_course_does_not_support(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 15, 0, "final", 0))
    assert ready.main() == 1
    text = capsys.readouterr().out
    assert "This is Python 3.15.0, and the course needs 3.11 to 3.14." in text
    assert "PyTorch" not in text  # which may be missing for this reason alone


def test_the_versions_are_those_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (oldest, major), (newest, _) = ready.OLDEST[::-1], ready.NEWEST[::-1]
    assert project["requires-python"] == f">={major}.{oldest},<{major}.{newest + 1}"
    assert "torch>=2.6" in project["dependencies"]


@pytest.mark.parametrize("name", ["torch", "vaelib"])
def test_what_is_not_installed_is_named(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert ready.main() == 1
    text = capsys.readouterr().out
    assert text.startswith("Not ready yet.")
    assert f"{'PyTorch' if name == 'torch' else name} is not installed here." in text


def test_an_old_pytorch_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    assert ready.main() == 1
    assert "PyTorch 2.5.1+cpu is too old" in capsys.readouterr().out


def test_a_library_that_pytorch_lacks_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torch":
                raise OSError("[WinError 126] Error loading c10.dll")

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert ready.main() == 1
    text = capsys.readouterr().out
    assert "c10.dll" in text
    assert "vc_redist" in text


@pytest.mark.parametrize("package", ["jupyterlab", "nbgrader"])
def test_jupyterlab_and_validate_are_looked_for(
    package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ready.version

    def without(name: str) -> str:
        if name == package:
            raise PackageNotFoundError
        return version(name)

    monkeypatch.setattr(ready, "version", without)
    assert ready.main() == 1
    assert "is not installed here. Install again" in capsys.readouterr().out
    # Colab has its own.
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())  # type: ignore[arg-type]
    assert ready.main() == 0
    assert capsys.readouterr().out.endswith(", Colab.\n")
