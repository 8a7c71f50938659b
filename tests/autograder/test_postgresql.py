"""The gradebook on PostgreSQL: a server of the tests' own, and the small course on it."""

from __future__ import annotations

import contextlib
import datetime
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import standin
from small_course import source_notebook, write_course
from sqlalchemy import URL, MetaData, create_engine, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from autograder import steps
from autograder.__main__ import main
from autograder.course import Course, CourseError
from autograder.record import outcome

from .test_grade import ALL, kill_and_finish, never, run, tree

RIGHT = "def mean(values):\n    return sum(values) / len(values)"
WRONG = "def mean(values):\n    return 2"
BLANK = "def mean(values):\n    raise NotImplementedError"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a database on a server that is started for these tests, on no port."""
    pytest.importorskip("psycopg2")
    # Debian keeps a server's programs out of the way.
    initdb = next(Path("/usr/lib/postgresql").glob("*/bin/initdb"), None) or shutil.which("initdb")
    if initdb is None:
        pytest.skip("there is no PostgreSQL server; Debian's package is postgresql")
    # Neither runs as root.
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        other = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as folder:
        password = Path(folder, "password")
        password.write_text("secret")
        for path in (Path(folder), password):
            os.chown(path, other.get("user", -1), other.get("group", -1))
        data = f"{folder}/data"
        named = ["-U", "grader", "--pwfile", password, "--auth=scram-sha-256"]
        made = subprocess.run(
            [initdb, "-D", data, *named, "--encoding=UTF8", "--locale=C", "--no-sync"],
            cwd=folder,
            capture_output=True,
            text=True,
            **other,
        )
        assert made.returncode == 0, made.stderr
        command = ["setpriv", "--pdeathsig=QUIT", Path(initdb).with_name("postgres"), "-D", data]
        settings = ["-h", "", "-k", folder, "-c", "fsync=off", "-c", "log_min_messages=panic"]
        with subprocess.Popen([*command, *settings], cwd=folder, **other) as running:
            try:
                url = f"postgresql+psycopg2://grader:secret@/postgres?host={folder}"
                answers(url, running)
                yield url
            finally:
                running.send_signal(signal.SIGQUIT)  # at once, whoever is connected


def answers(url: str, server: subprocess.Popen[bytes]) -> None:
    """Waits for a server that has just been started."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return execute(url, "SELECT 1")
        except OperationalError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


def execute(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="module")
def released(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small course, released to the server's database `released`."""
    root = tmp_path_factory.mktemp("course")
    execute(server, "CREATE DATABASE released")
    url = server.replace("/postgres?", "/released?")
    config = f"c.CourseDirectory.db_url = {url!r}\n"
    write_course(root, {"means": source_notebook()}, config=config)
    return root


@pytest.fixture
def course(released: Path, server: str, tmp_path: Path) -> Course:
    """A copy of it, with a database of its own and nothing submitted."""
    execute(server, "DROP DATABASE IF EXISTS course WITH (FORCE)")
    execute(server, "CREATE DATABASE course TEMPLATE released")
    root = tmp_path / "course"
    shutil.copytree(released, root)
    config = root / "nbgrader_config.py"
    config.write_text(config.read_text().replace("/released?", "/course?"))
    return Course.at(root)


@pytest.fixture
def on_sqlite(_released: Path, tmp_path: Path) -> Course:
    """The small course as the other tests have it."""
    root = tmp_path / "on-sqlite"
    shutil.copytree(_released, root)
    return Course.at(root)


def rows(course: Course) -> dict[str, list[Any]]:
    """All that a gradebook holds, by table."""
    with course.gradebook() as gradebook:
        tables = MetaData()
        tables.reflect(gradebook.engine)
        return {
            name: sorted(map(repr, gradebook.db.execute(table.select())))
            for name, table in tables.tables.items()
        }


def disconnect(server: str) -> None:
    """Ends every connection to the course's database, as a restart of the server does."""
    gone = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'course'"
    execute(server, gone)


@pytest.mark.slow
def test_a_class_has_the_grades_and_the_report_that_it_has_on_sqlite(
    course: Course,
    on_sqlite: Course,
    submit: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for number in range(30):
        submit(f"s{number:02}", f"{(RIGHT, WRONG, BLANK)[number % 3]}  # {number}")
    (submit("zoë %s 'x'") / "means.ipynb").write_text("{")
    shutil.copytree(course.root / "submitted", on_sqlite.root / "submitted")
    seen = []
    for each in (course, on_sqlite):
        summary = run(each)
        assert (len(summary.graded), summary.failed) == (31, {})
        again = run(each, execute=never)
        assert (again.graded, len(again.unchanged)) == ([], 31)
        assert main(["report", "ps1", "--course", str(each.root)]) == 0
        page = each.work / "ps1.html"
        seen.append((capsys.readouterr().out.replace(str(page), ""), page.read_text()))
    assert course.auto_scores("ps1") == on_sqlite.auto_scores("ps1")
    assert set(course.points("ps1").values()) == {7, 4, 0}
    assert seen[0] == seen[1]


def test_a_dry_run_tells_what_the_next_run_changes_and_records_nothing(
    course: Course, submit: Any
) -> None:
    late = "2030-01-03 12:00:00 UTC"
    for student in ("anna", "bert"):
        submit(student, timestamp=late)
    run(course)
    with course.gradebook() as gradebook:
        gradebook.find_grade("why", "means", "ps1", "anna").manual_score = 4
        gradebook.find_assignment("ps1").duedate = datetime.datetime(2030, 1, 1, 12)
        gradebook.db.commit()
    course.config.AssignLatePenalties.plugin_class = "small_course.HalfAnHour"
    submit("anna", WRONG, timestamp=late)
    submit("carl", BLANK)
    before = rows(course), tree(course.root / "autograded")
    changes = run(course, dry_run=True).changes
    assert changes == [("anna", 7 + 4, 4 + 4 - 0.5), ("bert", 7, 7 - 0.5), ("carl", None, 0)]
    assert before == (rows(course), tree(course.root / "autograded"))
    assert run(course, execute=never).changes == changes
    assert course.points("ps1") == {"anna": 7.5, "bert": 6.5, "carl": 0}


def test_points_that_are_added_in_another_order_are_no_change(course: Course, submit: Any) -> None:
    submit("anna", WRONG)
    run(course)
    points = {"test_mean": 0.1, "test_partial": 0.2, "test_hidden": 0.3, "why": 0.7}
    with course.gradebook() as gradebook:
        for cell, manual in points.items():
            gradebook.find_grade(cell, "means", "ps1", "anna").manual_score = manual
        gradebook.db.commit()
    for answer in (RIGHT, BLANK, WRONG, BLANK, RIGHT):
        submit("anna", answer)
        assert run(course).changes == []


@pytest.mark.slow
def test_runs_killed_while_they_record_are_finished_by_the_next(
    course: Course, submit: Any
) -> None:
    engine = create_engine(course.directory().db_url, isolation_level="AUTOCOMMIT")
    # A transaction that has written grades, and has not ended.
    writing = "SELECT 1 FROM pg_locks WHERE relation = 'grade'::regclass AND mode ~ 'RowExclusive'"
    with contextlib.closing(engine.connect()) as connection:
        kill_and_finish(
            course,
            submit,
            "threads",
            [(6, 0), (8, 0.2)],
            30,
            ready=lambda: connection.execute(text(writing)).first() is not None,
        )
    engine.dispose()


def test_a_server_that_restarts_between_two_submissions_stops_nobody(
    course: Course, submit: Any, scores: Any, server: str
) -> None:
    def execute(job: bytes, isolated: bool) -> bytes:
        disconnect(server)
        return standin.execute(job, isolated)

    submit("anna", RIGHT)
    submit("bert", WRONG)
    assert run(course, execute=execute).graded == ["anna", "bert"]
    assert scores("bert") == ALL | {"test_hidden": 0}


def test_a_server_that_goes_while_a_result_is_recorded_ends_the_run_and_the_next_one_goes_on(
    course: Course, submit: Any, scores: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: Any, **options: Any) -> None:
        disconnect(server)
        outcome.apply(*arguments, **options)

    submit("anna", RIGHT)
    run(course)
    submit("anna", WRONG)
    submit("bert", RIGHT)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "apply", gone)
        with pytest.raises(CourseError, match=r"^the results cannot be written: \S.+$") as error:
            run(course)
    assert "\n" not in str(error.value)
    assert scores("anna") == ALL
    assert scores("bert") == {}
    assert run(course, execute=never).graded == ["anna", "bert"]
    assert scores("anna") == ALL | {"test_hidden": 0}
    assert run(course, execute=never).graded == []


def test_a_name_that_the_database_does_not_take_is_told_and_stops_nobody(
    course: Course, submit: Any, scores: Any
) -> None:
    name = "a" * 150
    submit(name)
    submit("bert")
    summary = run(course)
    assert summary.graded == ["bert"]
    assert "value too long" in summary.failed[name]
    assert "\n" not in summary.failed[name]
    assert scores("bert") == ALL


def told(course: Course, url: URL, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What each command says of a gradebook that cannot be used, which is one line each."""
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write(f"c.CourseDirectory.db_url = {url.render_as_string(False)!r}\n")
    here, lines = ["--course", str(course.root)], []
    for command in ("grade", "report", "doctor"):
        assert main([command, "ps1", *here]) == 3
        lines += capsys.readouterr().err.splitlines()
    assert main(["doctor", *here]) == 1
    lines += [x for x in capsys.readouterr().out.splitlines() if x.startswith("LACKS  gradebook:")]
    assert len(lines) == 4
    return lines


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "sesame"}, "password authentication failed"),
        ({"database": "nosuch"}, 'database "nosuch" does not exist'),
        ({"query": {"host": "/nowhere"}}, "No such file"),
        ({"host": "127.0.0.1", "port": 1, "query": {}}, "Connection refused"),
    ],
    ids=["password", "database", "socket", "port"],
)
def test_a_gradebook_that_does_not_answer_is_one_line(
    course: Course,
    submit: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    submit("anna")
    for line in told(course, make_url(course.directory().db_url).set(**change), capsys):
        assert said in line
        assert "secret" not in line
        assert "sesame" not in line


def test_a_database_without_a_gradebook_is_one_line_and_stays_as_it_is(
    course: Course,
    submit: Any,
    server: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    submit("anna")
    *lines, of_doctor = told(course, make_url(server), capsys)
    assert all(line.startswith("there is no gradebook (postgresql+psycopg2://") for line in lines)
    assert of_doctor.startswith("LACKS  gradebook: there is none at postgresql+psycopg2://")
    assert not any("secret" in line for line in [*lines, of_doctor])
    engine = create_engine(server)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
