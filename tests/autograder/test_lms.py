"""From and to the LMS: archives with every oddity, hostile ones, and CSV files byte for byte."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import stat
import struct
import time
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import standin
from filelock import FileLock
from small_course import cell, named, source_notebook, write_course

from autograder import lms
from autograder.__main__ import main
from autograder.course import Course, CourseError
from autograder.grade import grade
from autograder.lms import archive as archives
from autograder.lms import work
from autograder.lms.collect import Collected, _holds
from autograder.lms.notebooks import _grade_ids
from autograder.lms.places import place
from autograder.lms.remembered import recall
from autograder.lms.roster import Person, _column
from autograder.lms.table import Table

DAY = (2030, 1, 2, 12, 0, 0)
ADA = "Ada Lovelace_17_assignsubmission_file_/"
BOB = "Bob Ross_18_assignsubmission_file_/"
CANVAS = "lovelaceada_12345_67890_"


@pytest.fixture(autouse=True)
def _in_london(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@dataclass
class File:
    """A file to be packed."""

    name: str
    data: bytes = b"x"
    when: tuple[int, int, int, int, int, int] = DAY
    mode: int = 0
    flags: int = 0
    extra: bytes = b""


def pack(path: Path, *files: File) -> Path:
    """A zip file, with whatever names, modes and flags."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names that are there twice
        for file in files:
            info = zipfile.ZipInfo(file.name, file.when)
            info.filename = file.name  # ZipInfo changes odd ones
            info.external_attr = file.mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            info.extra = file.extra
            made.writestr(info, file.data)
        offsets = [
            (info.header_offset, file.flags)
            for info, file in zip(made.filelist, files, strict=True)
        ]
    data = bytearray(path.read_bytes())
    central = 0
    for offset, flags in offsets:
        central = data.index(b"PK\x01\x02", central + 1)
        data[offset + 6] |= flags
        data[central + 8] |= flags
    path.write_bytes(data)
    return path


@pytest.fixture
def notebook(course: Course) -> Callable[..., bytes]:
    """The released notebook with an answer of one's own, as bytes."""

    def notebook(mean: str = "def mean(values):\n    return sum(values) / len(values)") -> bytes:
        released = json.loads((course.root / "release/ps1/means.ipynb").read_text())
        named(released, "mean")["source"] = mean
        return json.dumps(released).encode()

    return notebook


@pytest.fixture
def take(course: Course, tmp_path: Path) -> Callable[..., Collected]:
    """Collects an archive of these files."""

    def take(*files: File, **options: Any) -> Collected:
        return lms.collect_archive(course, "ps1", pack(tmp_path / "a.zip", *files), **options)

    return take


def enrol(course: Course, student: str, **about: str) -> None:
    with course.gradebook() as gradebook:
        gradebook.update_or_create_student(student, **about)


@pytest.fixture
def class_of_two(course: Course) -> Course:
    enrol(course, "ada", first_name="Ada", last_name="Lovelace", lms_user_id="12345")
    enrol(course, "bob", first_name="Bob", last_name="Ross", email="bob@uni.edu")
    return course


def holds(course: Course, student: str) -> dict[str, bytes]:
    folder = course.root / "submitted" / student / "ps1"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def everything(course: Course) -> set[str]:
    """All that stands in the submitted folder, and beside the course."""
    paths = [*course.root.glob("submitted/**/*"), *course.root.parent.glob("*")]
    return {str(path.relative_to(course.root.parent)) for path in paths}


# What the names say


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (ADA + "means.ipynb", ("Moodle", "17", "Ada Lovelace", ADA, "means.ipynb")),
        (ADA + "a/b.csv", ("Moodle", "17", "Ada Lovelace", ADA, "a/b.csv")),
        (
            "Ada Lovelace_17_assignsubmission_file/means.ipynb",
            (
                "Moodle",
                "17",
                "Ada Lovelace",
                "Ada Lovelace_17_assignsubmission_file/",
                "means.ipynb",
            ),
        ),
        (
            "Ada Lovelace_17_assignsubmission_file_my_means.ipynb",
            ("Moodle", "17", "Ada Lovelace", ADA.rstrip("/"), "my_means.ipynb"),
        ),
        ("packed again/" + ADA + "m.ipynb", ("Moodle", "17", "Ada Lovelace", ADA, "m.ipynb")),
        ("Ada Lovelace_17_assignsubmission_file_", None),
        (CANVAS + "means-2.ipynb", ("Canvas", "12345", "lovelaceada", CANVAS, "means-2.ipynb")),
        (CANVAS + "3_4_a.csv", ("Canvas", "12345", "lovelaceada", CANVAS, "3_4_a.csv")),
        (
            "submissions/lovelaceada_LATE_12345_67890_means.ipynb",
            (
                "Canvas",
                "12345",
                "lovelaceada",
                "lovelaceada_LATE_12345_67890_",
                "means.ipynb",
            ),
        ),
        (
            "lovelaceada_12345_text.html",
            ("Canvas", "12345", "lovelaceada", "lovelaceada_12345_", "text.html"),
        ),
        (
            "anon_x7Y_67890_m.ipynb",
            ("Canvas", "anon_x7Y", "anon_x7Y", "anon_x7Y_67890_", "m.ipynb"),
        ),
        ("means.ipynb", None),
        ("readme_1.txt", None),
    ],
)
def test_a_name_says_whose_a_file_is(name: str, expected: Any) -> None:
    found = place(name)
    assert (found and (found.lms, found.number, found.who, found.prefix, found.name)) == expected


@pytest.mark.parametrize(
    "own",
    [
        "Bob Ross_18_assignsubmission_file_means.ipynb",
        "rossbob_99_88_means.ipynb",
        "99_88_means.ipynb",
        "_99_88_means.ipynb",
        "LATE_99_88_means.ipynb",
        "text.html_99_88_x",
    ],
)
@pytest.mark.parametrize(
    ("prefix", "number"),
    [
        (ADA, "17"),
        (ADA.rstrip("/"), "17"),
        (ADA.rstrip("_/") + "/", "17"),
        (CANVAS, "12345"),
        ("lovelaceada_LATE_12345_67890_", "12345"),
        ("anon_x7Y_67890_", "anon_x7Y"),
    ],
)
def test_no_file_name_of_a_student_makes_it_another_students(
    prefix: str, number: str, own: str
) -> None:
    found = place(prefix + own)
    assert found is not None
    assert (found.number, found.prefix, found.name) == (number, prefix, own)


# Which student it is


def test_moodles_students_are_found_by_name(class_of_two: Course, take: Any, notebook: Any) -> None:
    done = take(File(ADA + "means.ipynb", notebook()), File(BOB + "means.ipynb", notebook("1")))
    assert done.placed == ["ada", "bob"]
    assert holds(class_of_two, "ada") == {"means.ipynb": notebook()}
    assert holds(class_of_two, "bob") == {"means.ipynb": notebook("1")}


def test_moodles_number_is_no_id(course: Course, take: Any, notebook: Any) -> None:
    """It is another one in the next assignment."""
    done = take(File(ADA + "means.ipynb", notebook()))
    assert done.left_out == ["Ada Lovelace (17)"]
    assert "--roster" in done.told[0]
    assert not (course.root / "submitted").exists()


def test_canvas_number_is_the_id_where_nothing_better_is_known(
    course: Course, take: Any, notebook: Any
) -> None:
    done = take(File(CANVAS + "means.ipynb", notebook()))
    assert done.placed == ["12345"]
    assert "new to the gradebook: 12345 (lovelaceada)" in done.told


@pytest.mark.parametrize(
    "about",
    [{"lms_user_id": "12345"}, {"first_name": "Ada", "last_name": "Lovelace"}],
    ids=["by number", "by name"],
)
def test_canvas_students_are_found_in_the_gradebook(
    course: Course, take: Any, notebook: Any, about: dict[str, str]
) -> None:
    enrol(course, "al17", **about)
    assert take(File(CANVAS + "means.ipynb", notebook())).placed == ["al17"]


def test_two_of_one_name_are_not_guessed(course: Course, take: Any, notebook: Any) -> None:
    enrol(course, "ada1", first_name="Ada", last_name="Lovelace")
    enrol(course, "ada2", first_name="Ada", last_name="Lovelace")
    done = take(File(ADA + "means.ipynb", notebook()))
    assert done.left_out == ["Ada Lovelace (17)"]
    assert "may be ada1 or ada2" in done.told[0]


def test_two_people_who_would_be_one_student_are_not_guessed(
    class_of_two: Course, take: Any, notebook: Any
) -> None:
    other = ADA.replace("17", "19")
    done = take(*(File(f"{name}means.ipynb", notebook()) for name in (ADA, other, BOB)))
    assert done.placed == ["bob"]
    assert len(done.left_out) == 2


WORKSHEET = (
    '\ufeffIdentifier,"Full name","Email address",Status,Grade,"Maximum Grade","Grade can be '
    'changed","Last modified (submission)","Last modified (grade)","Feedback comments"\r\n'
    'Participant 17,"Ada Lovelace",ada@uni.edu,"Submitted for grading",@ada,15.00,Yes,'
    '"Wednesday, 10 July 2030, 2:14 PM",-,"She said ""why""\nand left"\r\n'
    'Participant 18,"Ross, ""Bob""",bob@uni.edu,"Submitted for grading",@bob,15.00,Yes,'
    '"Wednesday, 2 January 2030, 2:14 PM",-,\r\n'
)
GRADES = (
    '"First name",Surname,"ID number",Institution,Department,"Email address","Assignment: ps1 '
    '(Real)"\nAda,Lovelace,a17,,,ada@uni.edu,-\nBob,Ross,b18,,,bob@uni.edu,-\n'
)
GRADEBOOK = (
    "Student,ID,SIS User ID,SIS Login ID,Section,ps1 (4711),ps2 (4712),Final Score\n"
    ",,,,,Manual Posting,,\n"
    "    Points Possible,,,,,15.00,10.00,(read only)\n"
    '"Lovelace, Ada",12345,a17,ada,S1,@ada,3.00,30\n'
    '"Ross, Bob",12346,b18,bob,"S1 and ""S2""",@bob,,\n'
    '"Student, Test",99,,x,S1,,,\n'
)


def clean(text: str) -> bytes:
    return text.replace("@ada", "").replace("@bob", "").encode()


@pytest.mark.parametrize(
    ("roster", "known", "expected"),
    [
        (WORKSHEET, {}, ["ada@uni.edu", "bob@uni.edu"]),
        (WORKSHEET, {"ada": {"email": "Ada@uni.edu"}}, ["ada", "bob@uni.edu"]),
        (
            WORKSHEET,
            {"ada": {"first_name": "Ada", "last_name": "Lovelace"}},
            ["ada", "bob@uni.edu"],
        ),
        (GRADES, {}, ["a17", "b18"]),
        (GRADES, {"bob@uni.edu": {}}, ["ada@uni.edu", "bob@uni.edu"]),
    ],
)
def test_moodles_students_are_found_in_a_roster(
    course: Course,
    take: Any,
    notebook: Any,
    tmp_path: Path,
    roster: str,
    known: dict[str, dict[str, str]],
    expected: list[str],
) -> None:
    for student, about in known.items():
        enrol(course, student, **about)
    (tmp_path / "roster.csv").write_bytes(clean(roster))
    files = [File(f"{name}means.ipynb", notebook()) for name in (ADA, BOB)]
    done = take(*files, roster=tmp_path / "roster.csv")
    assert done.placed == expected


@pytest.mark.parametrize(
    ("known", "expected"),
    [([], "ada"), (["a17"], "a17"), (["12345"], "12345"), (["12346", "b18", "a17"], "a17")],
    ids=["login", "SIS id", "number", "the column that has most"],
)
def test_canvas_students_are_found_in_a_roster(
    course: Course,
    take: Any,
    notebook: Any,
    tmp_path: Path,
    known: list[str],
    expected: str,
) -> None:
    for student in known:
        enrol(course, student)
    (tmp_path / "roster.csv").write_bytes(clean(GRADEBOOK))
    done = take(File(CANVAS + "means.ipynb", notebook()), roster=tmp_path / "roster.csv")
    assert done.placed == [expected]


def test_a_column_has_the_ids_if_half_of_the_students_are_found_in_it() -> None:
    people = [Person(str(n), {"username": f"u{n}"}, frozenset()) for n in range(4)]
    assert _column(people, ["u0", "a", "b", "c"], "Moodle") is None  # by chance
    assert _column(people, ["u0", "u1", "b", "c"], "Moodle") == "username"
    assert _column(people, ["u0", "u1", *map(str, range(90))], "Moodle") == "username"
    assert _column(people, [], "Moodle") is None


def test_who_is_not_in_the_roster_is_told(take: Any, notebook: Any, tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_bytes(clean(GRADEBOOK))
    files = [File(name + "_m.ipynb", notebook()) for name in ("x_777_1", "anon_ab_2", "r_12346_3")]
    done = take(*files, roster=tmp_path / "roster.csv")
    assert done.placed == ["bob"]
    assert done.told[:2] == [
        "x (777): is not in roster.csv; not taken",
        "anon_ab (anon_ab): is not in roster.csv; not taken",
    ]


def test_two_hands_are_not_one_row(take: Any, notebook: Any, tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_bytes(clean(GRADES))
    names = (ADA, ADA.replace("17", "19"), BOB)
    files = [File(f"{name}means.ipynb", notebook()) for name in names]
    done = take(*files, roster=tmp_path / "roster.csv")
    assert (done.placed, len(done.left_out)) == (["b18"], 2)


@pytest.mark.parametrize("login", ["../../x", "a/b", "a\\b", ".hidden", "..", "/etc", "a\x1bb"])
def test_an_id_that_is_no_name_of_a_folder_is_refused(
    course: Course, take: Any, notebook: Any, tmp_path: Path, login: str
) -> None:
    before = everything(course)
    text = GRADEBOOK.replace("a17,ada", f",{login}")
    (tmp_path / "roster.csv").write_bytes(clean(text))
    done = take(File(CANVAS + "means.ipynb", notebook()), roster=tmp_path / "roster.csv")
    assert done.left_out == ["lovelaceada (12345)"]
    assert everything(course) - before == {"roster.csv", "a.zip"}


@pytest.mark.parametrize("prefix", [ADA, CANVAS])
def test_the_next_archive_needs_no_roster(
    course: Course, take: Any, notebook: Any, tmp_path: Path, prefix: str
) -> None:
    """Moodle's numbers hold for one assignment, and it is the same one."""
    (tmp_path / "roster.csv").write_bytes(clean(WORKSHEET if prefix == ADA else GRADEBOOK))
    first = take(File(prefix + "means.ipynb", notebook()), roster=tmp_path / "roster.csv")
    again = take(File(prefix + "means-1.ipynb", notebook("# new")), force=True)
    assert first.placed == again.placed == ["ada@uni.edu" if prefix == ADA else "ada"]


def test_who_was_somebody_else_before_is_remembered_once(
    course: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    (tmp_path / "roster.csv").write_bytes(clean(GRADEBOOK))
    take(File(CANVAS + "means.ipynb", notebook()))
    take(File(CANVAS + "means.ipynb", notebook()), roster=tmp_path / "roster.csv")
    assert recall(course, "ps1").numbers("Canvas") == {"12345": "ada"}


# Which notebook it is


NAMES = [
    "means.ipynb",
    "means-2.ipynb",
    "means (1).ipynb",
    "means - Copy.ipynb",
    "Solution of Zoë, été.ipynb",
    unicodedata.normalize("NFD", "Zoë.ipynb"),
    "means.ipynb.txt",
    "means.json",
    "means.ipynb.json",
    "means",
    "my means.IPYNB",
]


@pytest.mark.parametrize("prefix", [ADA, ADA + "a folder/", ADA.rstrip("/"), CANVAS])
def test_a_renamed_notebook_is_found_by_its_cells(
    class_of_two: Course, take: Any, notebook: Any, prefix: str
) -> None:
    for number, name in enumerate(NAMES):
        answer = notebook(f"# {number}")
        assert take(File(prefix + name, answer), force=True).placed == ["ada"]
        assert holds(class_of_two, "ada") == {"means.ipynb": answer}


def test_a_notebook_of_an_old_format_is_found_by_its_cells() -> None:
    cell = {"metadata": {"nbgrader": {"grade_id": "mean"}}}
    for record in ({"cells": [cell]}, {"nbformat": 3, "worksheets": [{"cells": [cell]}]}):
        assert _grade_ids(json.dumps(record).encode()) == {"mean"}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b'{"cells": [{}], "nbformat": 4}', b"[" * 9000]
)
def test_what_cannot_be_read_is_found_by_its_name(
    class_of_two: Course, take: Any, data: bytes
) -> None:
    done = take(File(ADA + "Means (2).ipynb", data))
    assert holds(class_of_two, "ada") == {"means.ipynb": data}
    assert "ada: Means (2).ipynb is means by its name, not its cells" in done.told


def test_other_files_stand_beside(class_of_two: Course, take: Any, notebook: Any) -> None:
    other = json.dumps({"nbformat": 4, "cells": [{"metadata": {"nbgrader": {"grade_id": "q"}}}]})
    done = take(
        File(ADA + "data/points.csv", b"1"),
        File(ADA + "scratch.ipynb", other.encode()),
        File(ADA + "means.ipynb", notebook()),
        File(ADA + "more.zip", b"PK"),
    )
    assert set(holds(class_of_two, "ada")) == {
        "data/points.csv",
        "scratch.ipynb",
        "means.ipynb",
        "more.zip",
    }
    assert "ada: more.zip is put beside, not opened" in done.told


def test_a_students_own_zip_is_not_opened(
    class_of_two: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    inner = pack(tmp_path / "inner.zip", File("means.ipynb", notebook())).read_bytes()
    done = take(File(ADA + "all.zip", inner), File(BOB + "means.ipynb", notebook()))
    assert (done.placed, done.left_out) == (["bob"], ["Ada Lovelace (17)"])
    assert done.told[:2] == [
        "ada: all.zip is not opened",
        "ada: no notebook of ps1; nothing is taken",
    ]


@pytest.fixture(scope="session")
def two_notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    more = source_notebook()
    more.cells.append(cell("x = 1", "more_1", solution=True))
    more.cells.append(cell("x = 2", "more_2", solution=True))
    write_course(root, {"means": source_notebook(), "more": more})
    return root


def test_several_notebooks_are_told_apart(two_notebooks: Path, tmp_path: Path) -> None:
    course = Course.at(two_notebooks)
    release = course.root / "release/ps1"
    means, more = ((release / f"{n}.ipynb").read_bytes() for n in ("means", "more"))
    path = pack(
        tmp_path / "a.zip",
        File("a_1_11_q2.ipynb", more),
        File("a_1_12_means-1.ipynb", means),
        File("b_2_13_more.ipynb", means),
        File("b_2_14_x.ipynb", means),
    )
    done = lms.collect_archive(course, "ps1", path)
    assert holds(course, "1") == {"means.ipynb": means, "more.ipynb": more}
    # Cells of `means` are all in `more`, too: what is called so and could be it, is it.
    assert holds(course, "2") == {"more.ipynb": means}
    assert "2: x.ipynb may be means or more; not taken" in done.told
    assert "2: without the notebook means" in done.told


# Two tries


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ("67890_means-1.ipynb", "67889_means-2.ipynb", "67889_means-2.ipynb"),
        ("67890_means-9.ipynb", "67889_means-10.ipynb", "67889_means-10.ipynb"),
        ("67890_means.ipynb", "67891_means-1.ipynb", "67891_means-1.ipynb"),
        ("67890_means-3.ipynb", "67891_final.ipynb", "67891_final.ipynb"),
    ],
)
def test_canvas_later_try_counts(
    class_of_two: Course, take: Any, notebook: Any, first: str, second: str, counts: str
) -> None:
    for names in ((first, second), (second, first)):
        files = [File(f"lovelaceada_12345_{n}", notebook(f"# {n}")) for n in names]
        done = take(*files, force=True)
        assert holds(class_of_two, "ada") == {"means.ipynb": notebook(f"# {counts}")}
        assert any("means was handed in more than once" in line for line in done.told)


def test_moodles_newest_try_counts(class_of_two: Course, take: Any, notebook: Any) -> None:
    files = [
        File(ADA + "means (2).ipynb", notebook("# old"), (2030, 1, 2, 12, 0, 0)),
        File(ADA + "means.ipynb", notebook("# new"), (2030, 7, 3, 12, 0, 0)),
        File(BOB + "means.ipynb", notebook(), (2030, 1, 1, 12, 0, 0)),
    ]
    take(*files)
    assert holds(class_of_two, "ada") == {
        "means.ipynb": notebook("# new"),
        "timestamp.txt": b"2030-07-03 11:00:00 UTC\n",  # London, in summer
    }
    assert holds(class_of_two, "bob")["timestamp.txt"] == b"2030-01-01 12:00:00 UTC\n"


def test_without_times_moodles_highest_number_counts(
    class_of_two: Course, take: Any, notebook: Any
) -> None:
    names = ["means.ipynb", "means (2).ipynb", "means (1).ipynb"]
    take(*(File(ADA + name, notebook(f"# {name}")) for name in names))
    assert holds(class_of_two, "ada") == {"means.ipynb": notebook("# means (2).ipynb")}


def test_a_notebook_without_the_cells_never_counts_before_one_with(
    class_of_two: Course, take: Any, notebook: Any
) -> None:
    take(File(ADA + "my work.ipynb", notebook()), File(ADA + "means.ipynb", b"{}"))
    assert holds(class_of_two, "ada") == {"means.ipynb": notebook()}


# Times


def test_times_of_packing_are_not_taken_for_times_of_handing_in(
    class_of_two: Course, take: Any, notebook: Any
) -> None:
    done = take(
        File("lovelaceada_LATE_12345_1_means.ipynb", notebook(), (2030, 1, 2, 12, 0, 0)),
        File("rossbob_7_2_means.ipynb", notebook(), (2030, 1, 2, 12, 0, 4)),
    )
    assert "timestamp.txt" not in holds(class_of_two, "ada")
    assert done.told[-1].endswith("never counts as late; Canvas marks as late: ada")


def test_moodles_worksheet_says_when(
    course: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    (tmp_path / "roster.csv").write_bytes(clean(WORKSHEET))
    files = [File(f"{name}means.ipynb", notebook()) for name in (ADA, BOB)]
    done = take(*files, roster=tmp_path / "roster.csv")
    assert holds(course, "ada@uni.edu")["timestamp.txt"] == b"2030-07-10 13:14:00 UTC\n"
    assert holds(course, "bob@uni.edu")["timestamp.txt"] == b"2030-01-02 14:14:00 UTC\n"
    assert not any("late" in line for line in done.told)


def test_a_time_that_a_roster_told_stays_when_the_same_comes_without(
    course: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    (tmp_path / "roster.csv").write_bytes(clean(WORKSHEET))
    files = [File(f"{name}means.ipynb", notebook()) for name in (ADA, BOB)]
    take(*files, roster=tmp_path / "roster.csv")
    before = everything(course)
    again = take(*files, force=True)
    assert (again.unchanged, again.kept) == (["ada@uni.edu", "bob@uni.edu"], [])
    assert everything(course) == before
    assert not any("late" in line for line in again.told)
    assert holds(course, "ada@uni.edu")["timestamp.txt"] == b"2030-07-10 13:14:00 UTC\n"
    files[1] = File(f"{BOB}means.ipynb", notebook("# new"))
    newer = take(*files, force=True)
    assert (newer.unchanged, newer.placed) == (["ada@uni.edu"], ["bob@uni.edu"])
    assert "timestamp.txt" not in holds(course, "bob@uni.edu")
    assert any(line.startswith("bob@uni.edu: the archive does not say") for line in newer.told)


def test_a_time_with_its_zone_is_read(class_of_two: Course, take: Any, notebook: Any) -> None:
    changed, read = 1893456000, 1900000000  # the former is 2030-01-01 00:00 UTC
    one = struct.pack("<HHBi", 0x5455, 5, 1, changed)
    both = struct.pack("<HHBii", 0x5455, 9, 3, changed, read)
    take(
        File(ADA + "means.ipynb", notebook(), DAY, extra=one),
        File(BOB + "means.ipynb", notebook(), (2029, 1, 1, 0, 0, 0), extra=both),
        File(BOB + "old.txt", b"", (2028, 1, 1, 0, 0, 0)),  # else all could be of one packing
    )
    for student in ("ada", "bob"):
        stamp = holds(class_of_two, student)["timestamp.txt"]
        assert stamp == b"2030-01-01 00:00:00 UTC\n"


def test_a_student_does_not_write_the_timestamp(
    class_of_two: Course, take: Any, notebook: Any
) -> None:
    done = take(
        File(ADA + "means.ipynb", notebook()),
        File(ADA + "timestamp.txt", b"1999-01-01"),
        File(ADA + "Timestamp.TXT", b"1999-01-01"),
        File(ADA + "submission_secret.txt", b"x"),
    )
    assert set(holds(class_of_two, "ada")) == {"means.ipynb"}
    assert sum("a name that nbgrader uses" in line for line in done.told) == 3


# Hostile archives

HOSTILE = [
    (File(ADA + "../../../evil.txt"), "leads out"),
    (File("../../" + ADA + "evil.txt"), "leads out"),
    (File("..\\..\\" + ADA + "evil.txt"), "leads out"),
    (File(ADA + "..\\..\\evil.txt"), "leads out"),
    (File("/" + ADA + "evil.txt"), "absolute"),
    (File("C:\\" + ADA.replace("/", "\\") + "evil.txt"), "absolute"),
    (File(ADA + "a//b"), "empty part"),
    (File(ADA + "./b"), "empty part"),
    (File(ADA + "a\nb"), "control characters"),
    (File(ADA + "n" * 300), "too long"),
    (File(ADA + "link", b"/etc/passwd", mode=stat.S_IFLNK | 0o777), "is a link"),
    (File(ADA + "pipe", b"", mode=stat.S_IFIFO | 0o666), "not a regular file"),
    (File(ADA + "device", b"", mode=stat.S_IFCHR | 0o666), "not a regular file"),
    (File(ADA + "secret.txt", flags=1), "encrypted"),
    (File(ADA + "bomb", bytes(2**21)), "zip bomb"),
    (File(ADA + "means.ipynb/x"), "folder and a file"),
    (File(ADA + "MEANS.ipynb/x"), "folder and a file"),
    (File(ADA + "MEANS.IPYNB", b'{"nbformat": 4}'), "more than once"),
    (File("no place.txt"), "not named as Moodle does"),
    (File("rossbob_18_1_means.ipynb"), "not named as Moodle does"),
]


@pytest.mark.parametrize(("file", "told"), HOSTILE, ids=[told for _, told in HOSTILE])
def test_what_is_hostile_is_told_and_nothing_else_suffers(
    class_of_two: Course, take: Any, notebook: Any, file: File, told: str
) -> None:
    before = everything(class_of_two)
    honest = [File(ADA + "means.ipynb", notebook()), File(BOB + "means.ipynb", notebook())]
    for files in ([file, *honest], [*honest, file]):
        done = take(*files)
        assert sorted(done.placed + done.unchanged) == ["ada", "bob"]
        assert any(told in line for line in done.told), done.told
        assert not any("\n" in line for line in done.told)
    assert holds(class_of_two, "ada") == {"means.ipynb": notebook()}
    assert everything(class_of_two) - before == {
        "a.zip",
        *(f"course/submitted/{student}" for student in ("ada", "bob")),
        *(f"course/submitted/{student}/ps1" for student in ("ada", "bob")),
        *(f"course/submitted/{student}/ps1/means.ipynb" for student in ("ada", "bob")),
    }


def test_backslashes_are_folders(class_of_two: Course, take: Any, notebook: Any) -> None:
    name = ADA.replace("/", "\\")
    take(File(name + "means.ipynb", notebook()), File(name + "data\\a.csv"))
    assert set(holds(class_of_two, "ada")) == {"means.ipynb", "data/a.csv"}


@pytest.mark.parametrize(
    ("first", "last", "named"),
    [
        ("a.csv", "a.csv", "a.csv"),
        ("a.csv", "A.CSV", "A.CSV and a.csv"),
        ("ä.csv", "a\u0308.csv", "ä.csv"),
    ],
)
def test_of_equal_names_the_last_is_taken(
    class_of_two: Course, take: Any, notebook: Any, first: str, last: str, named: str
) -> None:
    files = [File(ADA + first, b"1"), File(ADA + last, b"2")]
    done = take(File(ADA + "means.ipynb", notebook()), *files)
    there = holds(class_of_two, "ada")
    assert [data for name, data in there.items() if name != "means.ipynb"] == [b"2"]
    assert f"ada: {named} is there more than once; the last one is taken" in done.told


def test_sizes_are_limited_for_each_student(
    class_of_two: Course, take: Any, notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "STUDENT_BYTES", 2 * len(notebook()) + 1000)
    noise = [File(f"{ADA}{i}.bin", os.urandom(900)) for i in range(30)]
    done = take(*noise, File(ADA + "means.ipynb", notebook()), File(BOB + "m.ipynb", notebook()))
    assert done.placed == ["ada", "bob"]
    assert sum(map(len, holds(class_of_two, "ada").values())) < 2 * len(notebook()) + 1000
    assert sum(line.startswith("ada: ") for line in done.told) <= 11


@pytest.mark.parametrize("limit", ["ENTRIES", "ALL_BYTES"])
def test_an_archive_is_limited_as_a_whole(
    take: Any, notebook: Any, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(archives, limit, 1)
    with pytest.raises(CourseError, match="more than"):
        take(File(ADA + "means.ipynb", notebook()), File(BOB + "means.ipynb", notebook()))


def test_what_claims_another_size_is_not_taken(
    class_of_two: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    path = pack(
        tmp_path / "b.zip", File(ADA + "big.csv", b"y" * 5000), File(ADA + "m.ipynb", notebook())
    )
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(mark) + offset
        data[start : start + 4] = struct.pack("<I", 10)
    path.write_bytes(data)
    done = lms.collect_archive(class_of_two, "ps1", path)
    assert "ada: big.csv is damaged in the archive; not taken" in done.told
    assert set(holds(class_of_two, "ada")) == {"means.ipynb"}


def test_ten_thousand_files_of_one_student_cost_the_others_nothing(
    class_of_two: Course, take: Any, notebook: Any
) -> None:
    many = [File(f"{ADA}{i}.txt") for i in range(10_000)]
    start = time.process_time()
    done = take(*many, File(ADA + "means.ipynb", notebook()), File(BOB + "m.ipynb", notebook()))
    assert done.placed == ["ada", "bob"]
    assert any("more than 1000 files" in line for line in done.told)
    assert len(done.told) < 20
    assert time.process_time() - start < 30


def test_a_damaged_archive_ends_with_a_named_error_or_none(
    class_of_two: Course, notebook: Any, tmp_path: Path
) -> None:
    good = pack(tmp_path / "a.zip", *(File(f"{p}means.ipynb", notebook()) for p in (ADA, BOB)))
    data = good.read_bytes()
    draw = random.Random(0)
    for _ in range(40):
        bad = bytearray(data[: draw.choice([len(data), draw.randrange(len(data))])])
        for _ in range(draw.randrange(1, 9)):
            # Most of what matters stands at the end.
            bad[max(0, len(bad) - 1 - int(draw.expovariate(1 / 200)))] = draw.randrange(256)
        (tmp_path / "bad.zip").write_bytes(bad)
        with contextlib.suppress(CourseError):
            lms.collect_archive(class_of_two, "ps1", tmp_path / "bad.zip", force=True)


# What was there before


def test_the_same_again_changes_nothing(class_of_two: Course, take: Any, notebook: Any) -> None:
    file = File(ADA + "means.ipynb", notebook())
    take(file)
    path = class_of_two.root / "submitted/ada/ps1/means.ipynb"
    before = path.stat().st_ino
    assert take(file).unchanged == ["ada"]
    assert path.stat().st_ino == before


def test_what_differs_is_kept_or_replaced_whole(
    class_of_two: Course, take: Any, notebook: Any, submit: Any
) -> None:
    folder = submit("ada")
    (folder / "own.txt").write_text("mine")
    before = holds(class_of_two, "ada")
    file = File(ADA + "means.ipynb", notebook("# new"))
    done = take(file)
    assert (done.placed, done.kept) == ([], ["ada"])
    assert holds(class_of_two, "ada") == before
    dry = take(file, force=True, dry_run=True)
    assert dry.placed == ["ada"]
    assert holds(class_of_two, "ada") == before
    done = take(file, force=True)
    assert any("held something else, and is replaced" in line for line in done.told)
    assert holds(class_of_two, "ada") == {"means.ipynb": notebook("# new")}
    assert [p.name for p in folder.parent.iterdir()] == ["ps1"]


def test_a_folder_holds_these_files_and_no_others(tmp_path: Path) -> None:
    folder, files = tmp_path / "ps1", {"means.ipynb": b"{}", "data/points.csv": b"1,2"}
    assert not _holds(folder, {})
    (folder / "data").mkdir(parents=True)
    for name, data in files.items():
        assert not _holds(folder, files)
        (folder / name).write_bytes(data)
    assert _holds(folder, files)
    assert not _holds(folder, {**files, "means.ipynb": b"[]"})
    (tmp_path / "link").symlink_to(folder)
    assert not _holds(tmp_path / "link", files)
    (folder / "own.txt").touch()
    assert not _holds(folder, files)
    (folder / "own.txt").unlink()
    (folder / "means.ipynb").rename(tmp_path / "means.ipynb")
    (folder / "means.ipynb").symlink_to(tmp_path / "means.ipynb")
    assert not _holds(folder, files)


def test_a_link_in_the_place_of_a_folder_is_not_followed(
    class_of_two: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/means.ipynb").write_text("kept")
    (class_of_two.root / "submitted/ada").mkdir(parents=True)
    (class_of_two.root / "submitted/ada/ps1").symlink_to(tmp_path / "elsewhere")
    take(File(ADA + "means.ipynb", notebook()), force=True)
    assert (tmp_path / "elsewhere/means.ipynb").read_text() == "kept"
    assert holds(class_of_two, "ada") == {"means.ipynb": notebook()}


@pytest.mark.parametrize("moment", range(1, 5))
def test_an_ended_run_leaves_a_whole_folder(
    class_of_two: Course,
    take: Any,
    notebook: Any,
    submit: Any,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
) -> None:
    submit("ada")
    before = holds(class_of_two, "ada")
    file = File(ADA + "means.ipynb", notebook("# new"))
    calls = 0

    def stopping(original: Any) -> Any:
        def stop(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == moment:
                raise KeyboardInterrupt
            return original(*args, **options)

        return stop

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", stopping(Path.write_bytes))
        patch.setattr(lms.collect, "exchange", stopping(lms.collect.exchange))
        patch.setattr("shutil.rmtree", stopping(lms.collect.shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            take(file, force=True)
    assert holds(class_of_two, "ada") in (before, {"means.ipynb": notebook("# new")})
    take(file, force=True)
    assert holds(class_of_two, "ada") == {"means.ipynb": notebook("# new")}
    assert [p.name for p in (class_of_two.root / "submitted/ada").iterdir()] == ["ps1"]


def test_a_dry_run_writes_nothing(class_of_two: Course, take: Any, notebook: Any) -> None:
    assert take(File(ADA + "means.ipynb", notebook()), dry_run=True).placed == ["ada"]
    assert not (class_of_two.root / "submitted").exists()
    assert not (class_of_two.work / "lms").exists()


# To the LMS


def points(
    course: Course, student: str, score: float, penalty: float = 0, waits: bool = False
) -> None:
    """Records a student's grade: so many points, by hand."""
    with course.gradebook() as gradebook:
        gradebook.update_or_create_student(student)
        submission = gradebook.update_or_create_submission("ps1", student)
        for grade in submission.notebooks[0].grades:
            by_hand = grade.name == "why"
            grade.auto_score = 0
            grade.manual_score = score if by_hand else 0
            grade.needs_manual_grade = waits and by_hand
        submission.notebooks[0].late_submission_penalty = penalty
        gradebook.db.commit()


@pytest.fixture
def graded(class_of_two: Course) -> Course:
    points(class_of_two, "ada", 7.456, penalty=2)
    points(class_of_two, "bob", 3)
    return class_of_two


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "BOM": lambda text: "\ufeff" + text.removeprefix("\ufeff"),
    "no BOM": lambda text: text.removeprefix("\ufeff"),
    "CRLF": lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n"),
    "LF": lambda text: text.replace("\r\n", "\n"),
    "CR": lambda text: text.replace("\r\n", "\n").replace("\n", "\r"),
    "no last line end": lambda text: text.rstrip("\r\n"),
    "empty lines": lambda text: text + "\r\n\r\n",
    "quoted grades": lambda text: text.replace("@ada", '"@ada"').replace("@bob", '"@bob"'),
}


def filled(text: str, ada: str, bob: str) -> str:
    return text.replace("@ada", ada).replace("@bob", bob)


@pytest.mark.parametrize("sheet", [WORKSHEET, GRADEBOOK], ids=["Moodle", "Canvas"])
def test_nothing_but_the_grades_changes(graded: Course, tmp_path: Path, sheet: str) -> None:
    path = tmp_path / "grades.csv"
    for form, old in itertools.product(FORMS, ["", "1.00", "-"]):
        text = FORMS[form](sheet)
        path.write_bytes(filled(text, old, old).encode())
        exported = lms.export_grades(graded, "ps1", path)
        assert exported.csv == tmp_path / "grades-graded.csv"
        assert exported.csv.read_bytes() == filled(text, "5.46", "3.00").encode(), (form, old)
        assert path.read_bytes() == filled(text, old, old).encode()
        assert exported.filled == ["ada", "bob"]


@pytest.mark.parametrize(
    ("change", "ada", "bob"),
    [
        (lambda text: text.replace(",", ";").replace("15.00", "15,00"), "5,46", "3,00"),
        (lambda text: text.replace(",", "\t"), "5.46", "3.00"),
        (lambda text: text.replace("15.00", '"15,00"'), '"5,46"', '"3,00"'),
    ],
)
def test_delimiter_and_decimal_comma_stay(
    graded: Course, tmp_path: Path, change: Any, ada: str, bob: str
) -> None:
    text = change(GRADEBOOK.replace('"Lovelace, Ada"', "Lovelace Ada").replace("Ross, Bob", "Ross"))
    path = tmp_path / "grades.csv"
    path.write_bytes(filled(text, "", "").encode("latin-1"))
    exported = lms.export_grades(graded, "ps1", path)
    assert exported.csv.read_bytes() == filled(text, ada, bob).encode("latin-1")


def test_old_encodings_stay(graded: Course, tmp_path: Path) -> None:
    text = GRADEBOOK.replace("S1", "Übung 1")
    (tmp_path / "g.csv").write_bytes(filled(text, "", "").encode("cp1252"))
    exported = lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    assert exported.csv.read_bytes() == filled(text, "5.46", "3.00").encode("cp1252")


def test_who_waits_for_a_human_is_left_empty(graded: Course, tmp_path: Path) -> None:
    points(graded, "bob", 3, waits=True)
    (tmp_path / "g.csv").write_bytes(clean(GRADEBOOK))
    exported = lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    assert exported.csv.read_bytes().decode() == filled(GRADEBOOK, "5.46", "")
    assert "bob: waits for manual grading; left as it is" in exported.told


def test_where_everybody_waits_no_feedback_is_asked_for(
    graded: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    for student in ("ada", "bob"):
        points(graded, student, 3, waits=True)
    take(File(CANVAS + "means.ipynb", notebook()))
    page = graded.root / "feedback/ada/ps1/means.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>")
    (tmp_path / "g.csv").write_bytes(clean(GRADEBOOK))
    with pytest.raises(CourseError, match="everybody waits for manual grading"):
        lms.export_grades(graded, "ps1", tmp_path / "g.csv", feedback=tmp_path / "f.zip")


@pytest.mark.parametrize("old", ["EX", "N/A"])
def test_who_is_excused_stays_so(graded: Course, tmp_path: Path, old: str) -> None:
    (tmp_path / "g.csv").write_text(filled(GRADEBOOK, old, ""))
    exported = lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    assert exported.csv.read_text() == filled(GRADEBOOK, old, "3.00")


def test_a_grade_that_moodle_locks_is_left(graded: Course, tmp_path: Path) -> None:
    text = WORKSHEET.replace("@ada,15.00,Yes", "@ada,15.00,No")
    (tmp_path / "g.csv").write_bytes(clean(text))
    exported = lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    assert exported.csv.read_bytes().decode() == filled(text, "", "3.00")


def test_grades_without_a_row_are_told(graded: Course, tmp_path: Path) -> None:
    points(graded, "eve", 1)
    (tmp_path / "g.csv").write_bytes(clean(GRADEBOOK))
    exported = lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    assert "eve: has a grade, but no row in g.csv" in exported.told
    assert exported.without == ["eve"]


def test_rows_of_nobody_are_told_by_their_numbers(graded: Course, tmp_path: Path) -> None:
    rows = clean(GRADEBOOK).decode().splitlines()
    (tmp_path / "g.csv").write_text("\n".join([*rows, rows[-1]]))
    told = lms.export_grades(graded, "ps1", tmp_path / "g.csv").told
    for number in (len(rows), len(rows) + 1):
        assert f"row {number} is not the only one who would be x; left as it is" in told


def test_other_points_are_told_and_not_converted(graded: Course, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(clean(GRADEBOOK.replace("15.00", "100.00")))
    exported = lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    assert any("Canvas counts to 100 points, the gradebook to 15" in t for t in exported.told)
    assert b",5.46," in exported.csv.read_bytes()


@pytest.mark.parametrize("column", ["First sheet (4711)", "4711", "first SHEET"])
def test_a_column_of_another_name_is_named(graded: Course, tmp_path: Path, column: str) -> None:
    text = GRADEBOOK.replace("ps1 (4711)", "First sheet (4711)")
    (tmp_path / "g.csv").write_bytes(clean(text))
    with pytest.raises(CourseError, match=r"--column, one of: First sheet \(4711\), ps2 \(4712\)"):
        lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    exported = lms.export_grades(graded, "ps1", tmp_path / "g.csv", column=column)
    assert exported.csv.read_text() == filled(text, "5.46", "3.00")


# All the way


@pytest.mark.parametrize(
    ("sheet", "names", "pages"),
    [
        (
            WORKSHEET,
            (ADA + "means.ipynb", BOB + "my means (1).ipynb"),
            (ADA + "means.html", BOB + "means.html"),
        ),
        (
            WORKSHEET,
            (ADA.rstrip("/") + "means.ipynb", BOB.rstrip("_/") + "/a/means.ipynb"),
            (ADA.rstrip("/") + "means.html", BOB.rstrip("_/") + "/means.html"),
        ),
        (
            GRADEBOOK,
            (CANVAS + "means-2.ipynb", "rossbob_LATE_12346_67891_Zoë.ipynb"),
            (CANVAS + "means-2.html", "rossbob_LATE_12346_67891_Zoë.html"),
        ),
    ],
    ids=["Moodle", "Moodle, flat and new", "Canvas"],
)
def test_from_the_lms_and_back(
    course: Course,
    notebook: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sheet: str,
    names: tuple[str, str],
    pages: tuple[str, str],
) -> None:
    csv = tmp_path / "sheet.csv"
    csv.write_bytes(clean(sheet))
    wrong = notebook("def mean(values):\n    return 2")
    path = pack(tmp_path / "a.zip", File(names[0], notebook()), File(names[1], wrong))
    at = ["--course", str(course.root)]
    assert main(["collect", "ps1", str(path), "--roster", str(csv), *at]) == 0
    assert "2 placed, 0 unchanged, 0 kept as they were, 0 left out." in capsys.readouterr().out
    students = sorted(course.submissions("ps1"))
    summary = grade(course, "ps1", executor=standin.Here(), execute=standin.execute, progress=False)
    assert sorted(summary.graded) == students
    with course.gradebook() as gradebook:
        for student in students:
            for one in gradebook.find_submission("ps1", student).notebooks[0].grades:
                if one.needs_manual_grade:
                    one.manual_score, one.needs_manual_grade = 1.0, False
        gradebook.db.commit()
    for student in students:
        page = course.root / "feedback" / student / "ps1/means.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<p>{student}")
    zipped = tmp_path / "feedback.zip"
    assert main(["export", "ps1", "--csv", str(csv), "--feedback", str(zipped), *at]) == 0
    assert f"2 grades are in {tmp_path / 'sheet-graded.csv'}." in capsys.readouterr().out
    written = (tmp_path / "sheet-graded.csv").read_bytes().decode()
    assert written == filled(sheet, "8.00", "5.00")
    with zipfile.ZipFile(zipped) as made:
        assert {name: made.read(name).decode() for name in made.namelist()} == {
            name: f"<p>{student}" for name, student in zip(pages, students, strict=True)
        }
    # Moodle and Canvas find in these names whose they are.
    assert [place(page).number for page in pages] == [place(name).number for name in names]  # type: ignore[union-attr]
    assert main(["export", "ps1", "--csv", str(csv), "--feedback", str(zipped), *at]) == 3
    assert "is there already" in capsys.readouterr().err


def test_feedback_that_is_lacking_is_told(
    graded: Course, take: Any, notebook: Any, tmp_path: Path
) -> None:
    (tmp_path / "g.csv").write_bytes(clean(GRADEBOOK))

    def export() -> Any:
        return lms.export_grades(
            graded, "ps1", tmp_path / "g.csv", feedback=tmp_path / "feedback.zip"
        )

    with pytest.raises(CourseError, match="no archive of ps1 was collected"):
        export()
    take(File(CANVAS + "means.ipynb", notebook()))
    with pytest.raises(CourseError, match="there is no feedback: nbgrader generate_feedback ps1"):
        export()
    assert not (tmp_path / "g-graded.csv").exists()
    page = graded.root / "feedback/ada/ps1/means.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>")
    exported = export()
    assert "bob: has no feedback that could be packed" in exported.told
    assert zipfile.ZipFile(tmp_path / "feedback.zip").namelist() == [CANVAS + "means.html"]


# Errors


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (None, "there is no archive"),
        (b"not a zip", "is not a zip file"),
        ([], "is not an archive of submissions"),
        ([File("means.ipynb")], "is not an archive of submissions"),
        ([File(CANVAS + "means.pdf")], "no file in .* is a notebook of ps1"),
    ],
)
def test_an_archive_that_is_none_is_one_line(
    class_of_two: Course, tmp_path: Path, files: Any, match: str
) -> None:
    path = tmp_path / "a.zip"
    if isinstance(files, bytes):
        path.write_bytes(files)
    elif files is not None:
        pack(path, *files)
    with pytest.raises(CourseError, match=match) as caught:
        lms.collect_archive(class_of_two, "ps1", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "there is no CSV file"),
        (b"", "no columns that are known"),
        (b"a,b\n1,2\n", "no columns that are known"),
        (GRADES.encode(), "is not a grading worksheet"),
        (clean(WORKSHEET).replace(b"Grade,", b"Note,", 1), "no columns that are known"),
        (b'Student,ID,Section,ps1 (1)\n"Ada', "line 2: a quote is opened"),
        (GRADEBOOK.encode("utf-16"), "not a CSV file in UTF-8"),
        (b"Student,ID,Section,ps1 (1),PS1 (2)\n", "more than one column 'ps1'"),
    ],
)
def test_a_csv_file_that_is_none_is_one_line(
    graded: Course, tmp_path: Path, text: bytes | None, match: str
) -> None:
    if text is not None:
        (tmp_path / "g.csv").write_bytes(text)
    with pytest.raises(CourseError, match=match) as caught:
        lms.export_grades(graded, "ps1", tmp_path / "g.csv")
    assert "\n" not in str(caught.value)


def test_nothing_graded_is_an_error(course: Course, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(clean(GRADEBOOK))
    with pytest.raises(CourseError, match="nothing of ps1 is graded yet"):
        lms.export_grades(course, "ps1", tmp_path / "g.csv")


def test_archive_and_roster_are_of_one_lms(take: Any, notebook: Any, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(clean(GRADEBOOK))
    with pytest.raises(CourseError, match=r"is Moodle's, but .* is Canvas's"):
        take(File(ADA + "means.ipynb", notebook()), roster=tmp_path / "g.csv")


def test_it_waits_for_nobody(class_of_two: Course, take: Any, notebook: Any) -> None:
    class_of_two.work.mkdir(exist_ok=True)
    with (
        FileLock(class_of_two.work / "lock"),
        pytest.raises(CourseError, match="another run is grading"),
    ):
        take(File(ADA + "means.ipynb", notebook()))


def test_some_left_out_is_told_by_the_exit_code(
    class_of_two: Course, notebook: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = File("Eve_19_assignsubmission_file_/means.ipynb", notebook())
    path = pack(tmp_path / "a.zip", File(ADA + "means.ipynb", notebook()), stranger)
    at = ["--course", str(class_of_two.root), "--dry-run"]
    assert main(["collect", "ps1", str(path), *at]) == 1
    assert capsys.readouterr().out.endswith("1 left out; nothing was written.\n")
    assert main(["collect", "ps2", str(path), *at]) == 3


def test_a_table_reads_as_pythons_own_csv(tmp_path: Path) -> None:
    import csv
    import io

    draw = random.Random(1)
    for _ in range(300):
        rows = [
            ["".join(draw.choices('ab",;\n é', k=draw.randrange(5))) for _ in range(3)]
            for _ in range(draw.randrange(1, 5))
        ]
        text = io.StringIO(newline="")
        ends = draw.choice(["\r\n", "\n"])
        quoting = draw.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
        csv.writer(text, lineterminator=ends, quoting=quoting).writerows([["h", "i", "j"], *rows])
        (tmp_path / "t.csv").write_bytes(text.getvalue().encode())
        table = Table(tmp_path / "t.csv")
        assert [[one.value for one in row] for row in table.rows[1:]] == rows
        row, column = draw.randrange(1, len(table.rows)), draw.randrange(3)
        old = table.rows[row][column].value
        (tmp_path / "t.csv").write_bytes(table.replaced({(row, column): 'n"e,w'}))
        again = Table(tmp_path / "t.csv")
        assert again.rows[row][column].value == 'n"e,w'
        (tmp_path / "t.csv").write_bytes(again.replaced({(row, column): old}))
        rows_again = [[one.value for one in own] for own in Table(tmp_path / "t.csv").rows]
        assert rows_again[1:] == rows
