"""What nbgrader collects from its exchange: plain files, and nothing that a link leads to."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from nbgrader.exchange import ExchangeFactory

from autograder.course import Course, messages, quiet
from autograder.exchange import Collect, _touched


@pytest.fixture
def collect(course: Course) -> Any:
    factory = ExchangeFactory(config=course.config)
    made = factory.Collect(coursedir=course.directory(assignment_id="ps1"), log=quiet())
    assert type(made) is Collect
    return made


def test_plain_files_are_collected_and_nothing_else(
    collect: Any, course: Course, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the gradebook's")
    source = tmp_path / "inbound" / "anna+ps1"
    (source / "data").mkdir(parents=True)
    (source / "means.ipynb").write_text("{}")
    (source / "data" / "points.csv").write_text("1,2")
    (source / "data" / "link.csv").symlink_to(secret)
    (source / "folder").symlink_to(tmp_path)
    os.link(secret, source / "hard")
    os.mkfifo(source / "pipe")
    with messages(30) as told:
        collect.do_copy(str(source), str(tmp_path / "submitted"))
    found = sorted(
        str(p.relative_to(tmp_path / "submitted")) for p in (tmp_path / "submitted").rglob("*")
    )
    assert found == ["data", "data/points.csv", "means.ipynb"]
    assert len(told) == 4
    assert all("Not collected" in line for line in told)


def test_a_submission_that_is_a_link_is_not_collected(collect: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "anna").symlink_to(tmp_path / "elsewhere")
    with messages(30) as told:
        collect.do_copy(str(tmp_path / "anna"), str(tmp_path / "submitted"))
    assert not (tmp_path / "submitted").exists()
    assert len(told) == 1


def test_a_submission_is_touched_where_it_is_and_not_where_a_link_leads(tmp_path: Path) -> None:
    folder, link = tmp_path / "anna", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    before = _touched(link)
    time.sleep(0.02)  # longer than a file system's clock needs for its next tick
    (folder / "means.ipynb").write_text("{}")
    assert _touched(link) == before < _touched(folder)


def test_a_submission_is_collected_whole_or_not_at_all(
    collect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "anna").mkdir()
    for name in ("means.ipynb", "timestamp.txt"):
        (tmp_path / "anna" / name).write_text("{}")
    submitted = tmp_path / "submitted"

    def ends(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copystat", ends)  # after the first file
        with pytest.raises(KeyboardInterrupt):
            collect.do_copy(str(tmp_path / "anna"), str(submitted))
    assert not submitted.exists()
    collect.do_copy(str(tmp_path / "anna"), str(submitted))
    assert sorted(path.name for path in submitted.iterdir()) == ["means.ipynb", "timestamp.txt"]
    assert {path.name for path in tmp_path.glob(".*")} == set()
