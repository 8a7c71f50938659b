"""Tells what a machine and a course lack for grading."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from traitlets import TraitError
from traitlets.config import Config

from autograder.course import Course, CourseError, database_said
from autograder.execute.sandbox import problem
from autograder.steps import Isolated

__all__ = ["findings"]

_DISK = 2**30
_MEMORY = 4 * 2**30


def findings(folder: Path) -> Iterator[tuple[str, str | None]]:
    """What was looked at, and what is the matter with it (`None`: nothing)."""
    yield "sandbox", problem()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = os.cpu_count() or 1
    little = memory < _MEMORY
    said = f"{memory / 2**30:.1f} GiB; two processes that have imported torch take 1 GiB"
    yield f"memory ({cores} cores)", said if little else None
    free = shutil.disk_usage(folder if folder.exists() else ".").free
    yield "disk", f"{free / 2**30:.1f} GiB are free" if free < _DISK else None
    try:
        course = Course.at(folder)
    except CourseError as error:
        yield "course", str(error)
        return
    yield (
        "nbgrader_config.py",
        None
        if course.installs
        else f"there is none in {course.root}; name the course's folder with --course"
        if not (course.root / "nbgrader_config.py").exists()
        else "it does not say `import autograder; autograder.install(c)`: nbgrader's own commands "
        "and formgrader's button run submissions on this machine, with your rights",
    )
    yield from _settings(course.config)
    yield "gradebook", _gradebook(course)


def _settings(config: Config) -> Iterator[tuple[str, str | None]]:
    """What is wrong with the grader's settings, and which hosts submissions may reach, if any."""
    try:
        hosts = Isolated(config=config).network
    except TraitError as error:
        yield "c.Isolated", str(error)
        return
    if hosts:
        yield f"network: submissions may reach {', '.join(hosts)}, and nothing else", None


def _gradebook(course: Course) -> str | None:
    try:
        if not course.has_gradebook():
            return f"there is none at {course.address}: nbgrader generate_assignment"
    except ModuleNotFoundError as error:
        return f"the package {error.name} is missing"
    except SQLAlchemyError as error:
        return f"{course.address} does not answer: {database_said(error)}"
    path = course.database
    if path is None:
        return None
    try:
        address = f"{path.absolute().as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=2)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        return f"{path} cannot be written: {error}"
    return None
