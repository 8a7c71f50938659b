"""What a result depends on besides its job: Python, its packages, modules installed in place."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
import site
import time
from pathlib import Path

from autograder.execute.sandbox import fingerprint
from autograder.job import VERSION

__all__ = ["environment", "versions"]


def environment(modules: tuple[str, ...] = ()) -> str:
    """A digest of the versions here, and of the sources of `modules`.

    A module that is installed in place changes without a new version, so its files count too. They
    are looked at once a second at most.
    """
    return _digest(_files(modules, int(time.monotonic())))


@functools.lru_cache(maxsize=16)
def _files(modules: tuple[str, ...], second: int) -> tuple[tuple[str, int], ...]:
    return fingerprint(modules)


@functools.lru_cache(maxsize=16)
def _digest(files: tuple[tuple[str, int], ...]) -> str:
    digest = hashlib.sha256(json.dumps(versions()).encode())
    for file, _ in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """The versions of all on which a verdict depends: Python, the installed packages, the grader.

    Without pip, with which nothing is run.
    """
    # Not all of sys.path: some packages put their own copies of others there.
    installed = importlib.metadata.distributions(path=site.getsitepackages())
    packages = {package.name: package.version for package in installed if package.name != "pip"}
    first = {"Python": platform.python_version(), "the grader's verdicts": str(VERSION)}
    return first | dict(sorted(packages.items()))
