"""The secret in hidden tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.course import Course
from autograder.secret import course_secret


def test_it_is_made_once_for_the_owner_only(tmp_path: Path) -> None:
    secret = course_secret(tmp_path)
    assert course_secret(tmp_path) == secret
    assert len(secret) == 32
    assert (tmp_path / ".course-secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".course-secret"]


def test_every_course_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert course_secret(tmp_path) != course_secret(tmp_path / "other")


def test_a_damaged_one_is_told(tmp_path: Path) -> None:
    (tmp_path / ".course-secret").write_text("")
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        course_secret(tmp_path)


def test_the_gradebook_has_it_and_neither_source_nor_release(course: Course) -> None:
    secret = course_secret(course.root)
    cells = {cell.name: cell.source for cell in course.sources("ps1")["means"].cells}
    assert f'seed = "{secret}"' in cells["test_hidden"]
    for step in ("source", "release"):
        text = (course.root / step / "ps1/means.ipynb").read_text()
        assert secret not in text
    assert "course secret" in (course.root / "source/ps1/means.ipynb").read_text()
