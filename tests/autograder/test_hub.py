"""JupyterHub with ngshare as the exchange: two students hand in, and get their feedback.

The hub is set up as the instructor guide says, in `.venv/hub`; without it, the tests are skipped.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import standin
from nbgrader.auth import Authenticator
from nbgrader.converters import GenerateFeedback
from nbgrader.exchange import ExchangeFactory
from small_course import named, source_notebook, write_course

from autograder import watch
from autograder.course import Course, CourseError, quiet
from autograder.grade import grade
from autograder.watch import Watch

RECIPE = Path(__file__).parents[2] / "autograder/system/hub/jupyterhub_config.py"
PROGRAMS = Path(sys.prefix, "hub/bin")
ACCOUNTS = """
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.bind_url = "http://127.0.0.1:{proxy}"
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.JupyterHub.services.append({{"name": "tests", "api_token": "{token}", "admin": True}})
"""
TOKEN = "0123456789abcdef0123456789abcdef"
RIGHT = "def mean(values):\n    return sum(values) / len(values)"
WRONG = "def mean(values):\n    return 2"

pytestmark = pytest.mark.slow


def free_ports(count: int) -> list[int]:
    places = [socket.socket() for _ in range(count)]
    for place in places:
        place.bind(("127.0.0.1", 0))
    ports: list[int] = [place.getsockname()[1] for place in places]
    for place in places:
        place.close()
    return ports


def ask(url: str, token: str, data: Any = None, form: bytes | None = None) -> Any:
    """The answer of the hub or of ngshare; posts where there is something to post."""
    body = form if form is not None else None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or "null")


class Hub:
    """A hub that runs.

    Attributes:
        ngshare: the address of ngshare behind the hub's proxy.
        tokens: of each account.
    """

    def __init__(self, proxy: int, hub: int) -> None:
        self.ngshare = f"http://127.0.0.1:{proxy}/services/ngshare"
        self._api = f"http://127.0.0.1:{hub}/hub/api"
        self.tokens: dict[str, str] = {}

    def answers(self) -> bool:
        try:
            return bool(ask(f"{self.ngshare}/healthz", "")["success"])
        except OSError:
            return False

    def enrol(self) -> None:
        """Makes an instructor's and two students' accounts, and the course in ngshare."""
        for name in ("ines", "anna", "bert"):
            ask(f"{self._api}/users/{name}", TOKEN, {})
            self.tokens[name] = ask(f"{self._api}/users/{name}/tokens", TOKEN, {})["token"]
        ask(f"{self.ngshare}/course/means", self.tokens["ines"], form=b"")
        for name in ("anna", "bert"):
            form = b"first_name=&last_name=&email="
            ask(f"{self.ngshare}/student/means/{name}", self.tokens["ines"], form=form)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    if not (PROGRAMS / "jupyterhub").exists() or not find_spec("ngshare_exchange"):
        pytest.skip("there is no JupyterHub; CONTRIBUTING says how to install it")
    root = tmp_path_factory.mktemp("hub")
    proxy, api, hub, ngshare = free_ports(4)
    recipe = RECIPE.read_text()
    for written, here in {"/srv/hub": str(root), ":10101": f":{ngshare}"}.items():
        assert written in recipe
        recipe = recipe.replace(written, here)
    recipe += ACCOUNTS.format(proxy=proxy, hub=hub, api=api, token=TOKEN)
    (root / "jupyterhub_config.py").write_text(recipe)
    made = Hub(proxy, hub)
    command = [PROGRAMS / "jupyterhub", "-f", "jupyterhub_config.py"]
    path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])  # it starts the proxy by its name
    with (root / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=root, env=os.environ | {"PATH": path}, stdout=log, stderr=log
        )
    try:
        for _ in range(600):
            if process.poll() is not None or made.answers():
                break
            time.sleep(0.5)
        assert made.answers(), (root / "log").read_text()[-4000:]
        made.enrol()
        yield made
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def act(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Does what follows from an account, as in a notebook server that the hub has started."""

    def act(name: str) -> None:
        monkeypatch.setenv("JUPYTERHUB_API_TOKEN", hub.tokens[name])
        exchange = importlib.import_module("ngshare_exchange").Exchange
        monkeypatch.setattr(exchange, "username", name)

    monkeypatch.setenv("JUPYTERHUB_USER", "ines")  # read where ngshare_exchange is imported
    act("ines")
    return act


@pytest.fixture(scope="module")
def _released(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("course")
    notebook = source_notebook()
    names = ("imports", "mean", "test_mean", "test_hidden")  # of which none is marked by hand
    notebook.cells = [named(notebook, name) for name in names]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTERHUB_USER", "ines")
        url = f"import ngshare_exchange\nngshare_exchange.configureExchange(c, {hub.ngshare!r})\n"
        write_course(root, {"means": notebook}, config=url)
    return root


@pytest.fixture
def course(_released: Path, tmp_path: Path, act: Callable[[str], None]) -> Course:
    root = tmp_path / "course"
    shutil.copytree(_released, root)
    course = Course.at(root)
    course.config.ExchangeReleaseAssignment.force = True  # away with earlier tests' submissions
    start(course, "ReleaseAssignment")
    return course


def start(course: Course, action: str, home: Path | None = None) -> None:
    """Uses the exchange as `nbgrader` does; students do so in folders of their own."""
    config = course.config.copy()
    if home is not None:
        config.Exchange.assignment_dir = str(home)
        config.Exchange.cache = str(home / "cache")
    made = getattr(ExchangeFactory(config=config), action)(
        coursedir=course.directory(assignment_id="ps1"),
        authenticator=Authenticator(config=config),
        config=config,
        log=quiet(),
    )
    made.start()


class Student:
    """Somebody with an account at the hub."""

    def __init__(self, course: Course, name: str, act: Callable[[str], None]) -> None:
        self.course, self.name, self._act = course, name, act
        self.home = course.root.parent / "home" / name

    def _start(self, action: str) -> None:
        self._act(self.name)
        start(self.course, action, self.home)
        self._act("ines")

    def submit(self, mean: str) -> None:
        path = self.home / "ps1/means.ipynb"
        if not path.exists():
            self._start("FetchAssignment")
        notebook = json.loads(path.read_text())
        named(notebook, "mean")["source"] = mean
        path.write_text(json.dumps(notebook))
        self._start("Submit")

    def points(self) -> list[str]:
        """The points on the pages of feedback, from the first submission to the last."""
        self._start("FetchFeedback")
        pages = [path.read_text() for path in sorted(self.home.glob("ps1/feedback/*/means.html"))]
        assert not any("seed" in page for page in pages)
        return [re.findall(r"\(Score: (.+?)\)", page)[0] for page in pages]


@pytest.fixture
def students(course: Course, act: Callable[[str], None]) -> tuple[Student, Student]:
    return Student(course, "anna", act), Student(course, "bert", act)


def here(*arguments: Any, **options: Any) -> Any:
    return grade(*arguments, **options, executor=standin.Here(), execute=standin.execute)


def test_two_students_fetch_hand_in_and_get_feedback(
    course: Course, students: tuple[Student, Student], scores: Any
) -> None:
    anna, bert = students
    anna.submit(RIGHT)
    bert.submit(WRONG)
    start(course, "Collect")
    assert here(course, "ps1", progress=False).graded == ["anna", "bert"]
    assert scores("anna") == {"test_mean": 2, "test_hidden": 3}
    assert scores("bert") == {"test_mean": 2, "test_hidden": 0}
    directory = course.directory(assignment_id="ps1")
    GenerateFeedback(coursedir=directory, config=course.config, log=quiet()).start()
    start(course, "ReleaseFeedback")
    assert anna.points() == ["5.0 / 5.0"]
    assert bert.points() == ["2.0 / 5.0"]


def test_what_arrives_is_graded_and_answered(
    course: Course,
    students: tuple[Student, Student],
    submit: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "grade", here)
    told: list[str] = []
    watched = Watch(course, "ps1", told.append)
    anna, bert = students
    assert not watched.look()
    anna.submit(WRONG)
    bert.submit(RIGHT)
    look = watched.look()
    assert (look.collected, look.graded, look.given) == (["anna", "bert"],) * 3
    assert not watched.look()
    anna.submit(RIGHT)
    look = watched.look()
    assert (look.collected, look.graded, look.given) == (["anna"],) * 3
    assert (anna.points(), bert.points()) == (["2.0 / 5.0", "5.0 / 5.0"], ["5.0 / 5.0"])
    look = Watch(course, "ps1", print).look()  # which remembers nothing
    assert (bool(look), look.error) == (False, None)
    assert told == []

    submit("carl")  # by hand; ngshare knows of no such submission
    bert.submit(WRONG)
    look = watched.look()
    assert (look.graded, look.given) == (["bert", "carl"], ["bert"])
    (line,) = told
    assert line.startswith("carl: no feedback: ngshare ")
    assert watched.failing


def test_an_ngshare_that_is_away_is_said_and_tried_again(
    course: Course,
    students: tuple[Student, Student],
    act: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "grade", here)
    watched = Watch(course, "ps1", print)
    anna, _ = students
    anna.submit(RIGHT)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "wrong")
    look = watched.look()
    assert isinstance(look.error, CourseError)
    assert str(look.error) == "the exchange cannot be used: Failed to list submissions."
    act("ines")
    assert watched.look().given == ["anna"]
