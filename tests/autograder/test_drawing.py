"""What students write, on the pages that nbgrader makes for instructors and for students."""

from __future__ import annotations

import copy
import json
import re
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import standin
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.server_extensions.formgrader.handlers import template_path
from playwright.sync_api import Browser, Page
from small_course import named

from autograder import steps
from autograder.course import Course, messages, quiet
from autograder.record import drawing

from .html_attacks import ATTACKS, PIXEL

HONEST = "**Because** of the *mean*: $x_1 < x_2$, [Wikipedia](https://en.wikipedia.org/wiki/Mean)."


@pytest.fixture(scope="module")
def course(_released: Path, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A course where anna's solution is graded."""
    root = tmp_path_factory.mktemp("drawing") / "course"
    shutil.copytree(_released, root)
    course = Course.at(root)
    folder = root / "submitted/anna/ps1"
    folder.mkdir(parents=True)
    released = json.loads((root / "release/ps1/means.ipynb").read_text())
    named(released, "mean")["source"] = "def mean(values):\n    return sum(values) / len(values)"
    named(released, "why")["source"] = "?"
    (folder / "means.ipynb").write_text(json.dumps(released))
    directory = course.directory(assignment_id="ps1", student_id="anna")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "run", standin.execute)
        Autograde(coursedir=directory, config=course.config, log=quiet()).start()
    return course


Change = Callable[[Any], None]


def write(text: str) -> Change:
    """Puts a text wherever a student's may be, and into all metadata."""

    def change(notebook: Any) -> None:
        picture = {"image/png": PIXEL, "text/plain": text}
        cells = {c.metadata.get("nbgrader", {}).get("grade_id"): c for c in notebook.cells}
        cells["why"].source = text
        cells["why"].attachments = {
            "evil.svg": {"image/svg+xml": "PHN2Zz4="},
            'a" id="why': {f'image/png;{text}"': PIXEL},
        }
        cells["mean"].source += f"\n'''{text}'''\n%%html\n{text}"
        given: list[dict[str, Any]] = [
            {"output_type": "display_data", "data": {mime: text, "text/plain": text}}
            for mime in ("text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png")
        ]
        given += [
            {
                "output_type": "display_data",
                "data": picture | {text: text, f"text/html;{text}": ""},
            },
            {"output_type": "display_data", "data": {"application/javascript": "window.ran = 1"}},
            {"output_type": "display_data", "data": {"text/vnd.mermaid": text}},
            {"output_type": "execute_result", "data": {"text/html": text}, "execution_count": 1},
            {"output_type": "stream", "name": "stdout", "text": text},
            {"output_type": "error", "ename": text, "evalue": text, "traceback": [text, text]},
        ]
        for output in given:
            if "data" in output:
                own = {"width": "1 onerror=window.ran=1", "unconfined": True, "isolated": True}
                output["metadata"] = {mime: own for mime in output["data"]} | {
                    "filenames": {"image/png": "/logout"}
                }
        cells["mean"].outputs = nbformat.from_dict(given)
        raw = {"cell_type": "raw", "source": text, "metadata": {"raw_mimetype": "text/html"}}
        own = {"cell_type": "markdown", "source": text, "metadata": {}}
        notebook.cells += nbformat.from_dict([raw, dict(raw, metadata={}), own])
        for position, cell in enumerate(notebook.cells):
            cell.metadata.update(
                tags=["x full-credit", '" id="why'], alt=text, name=text.splitlines()[0]
            )
            cell.id = f"full-credit-{position}" if position else "why"
        notebook.metadata.update(
            kernelspec={"name": text, "display_name": text},
            language_info={"name": text, "pygments_lexer": "html", "x": text},
            title=text,
            widgets={"application/vnd.jupyter.widget-state+json": {"state": {text: text}}},
        )

    return change


def graded(course: Course, change: Change) -> Any:
    notebook = nbformat.read(course.root / "autograded/anna/ps1/means.ipynb", as_version=4)
    change(notebook)
    return notebook


def formgrader(course: Course, change: Change, student: str = "anna") -> str:
    """The page as formgrader's exporter makes it."""
    config = copy.deepcopy(course.config)
    config.HTMLExporter.template_name = "formgrade"
    config.HTMLExporter.extra_template_basedirs = [template_path]
    resources = {
        "assignment_id": "ps1", "notebook_id": "means", "submission_id": "1", "index": 0,
        "total": 1, "base_url": "", "student": student, "last_name": "",
        "first_name": "", "notebook_path": "x",
    }  # fmt: skip
    page: str = HTMLExporter(config=config).from_notebook_node(
        graded(course, change), resources=resources
    )[0]
    return page


def feedback(course: Course, change: Change) -> str:
    """The page as `nbgrader generate_feedback` writes it."""
    path = course.root / "autograded/anna/ps1/means.ipynb"
    before = path.read_bytes()
    nbformat.write(graded(course, change), path)
    try:
        directory = course.directory(assignment_id="ps1", student_id="anna")
        converter = GenerateFeedback(coursedir=directory, config=course.config, log=quiet())
        converter.force = True
        with messages() as errors:
            converter.start()
        assert errors == []
    finally:
        path.write_bytes(before)
    return (course.root / "feedback/anna/ps1/means.html").read_text()


PAGES = {"formgrader": formgrader, "feedback": feedback}


@pytest.fixture(
    scope="module", params=["formgrader", pytest.param("feedback", marks=pytest.mark.slow)]
)
def draw(request: pytest.FixtureRequest, course: Course) -> Callable[[str], str]:
    """Draws a text on one of the pages."""
    return lambda text: PAGES[request.param](course, write(text))


@pytest.fixture(scope="module")
def honest(draw: Callable[[str], str]) -> BeautifulSoup:
    return BeautifulSoup(draw(HONEST), "html.parser")


def values(page: BeautifulSoup, name: str) -> set[str]:
    found = set()
    for tag in page.find_all(attrs={name: True}):
        value = tag[name]
        found |= set(value) if isinstance(value, list) else {str(value)}
    return found


ALLOWED = {
    "class": re.compile(r"ansi-[a-z-]+|[a-z][a-z0-9]{0,2}"),  # a terminal's, and Pygments' own
    "href": re.compile(r"(https?://|mailto:)[^/].*"),
    "src": re.compile(r"data:image/(png|jpeg);base64,.*", re.DOTALL),
    "style": re.compile(
        r"(contain: paint; overflow-x: auto|display: block; contain.*|white-space: pre-wrap"
        r"|width: 100%; border: 0; height: \d+em|background-color:white; color:red)"
    ),
}
TAGS = "script style form input textarea button meta base link body title img iframe svg object"
INERT = ("alt", "title", "srcdoc", "colspan", "rel", "target", "sandbox", "start")


def assert_harmless(page: BeautifulSoup, honest: BeautifulSoup) -> None:
    for name in {name for tag in page.find_all(True) for name in tag.attrs} - {*INERT}:
        new = values(page, name) - values(honest, name)
        assert [v for v in new if not ALLOWED.get(name, re.compile("(?!)")).fullmatch(v)] == [], (
            name
        )
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert ids == [tag["id"] for tag in honest.find_all(id=True)]
    for tag in TAGS.split():
        if tag not in ("img", "iframe"):
            assert len(page.find_all(tag)) == len(honest.find_all(tag)), tag
    for frame in page.find_all("iframe"):
        assert frame.has_attr("sandbox")
        assert not frame["sandbox"]
        assert not frame.has_attr("src")
        inside = BeautifulSoup(str(frame["srcdoc"]), "html.parser")
        assert inside.contents[0]["http-equiv"] == "Content-Security-Policy"
        assert not inside.find_all(["script", "base", "form", "input", "svg", "math", "iframe"])
        for name in ("id", "class", "name"):
            assert not inside.find_all(attrs={name: True})
    for link in page.find_all("a", href=re.compile("^[a-z]+:")):
        assert link["target"] == "_blank"
        assert "noopener" in link["rel"]
    shown = "".join(t for t in page.find_all(string=True) if not t.find_parents(["pre", "code"]))
    assert not re.search(
        r"\\(href|class|cssId|style|unicode|label|bbox|def|let|renewcommand)", shown
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_an_attack_is_on_a_page(
    attack: str, draw: Callable[[str], str], honest: BeautifulSoup
) -> None:
    assert_harmless(BeautifulSoup(draw(ATTACKS[attack]), "html.parser"), honest)


def test_honest_work_is_drawn(course: Course) -> None:
    def change(notebook: Any) -> None:
        why = next(c for c in notebook.cells if "why" in str(c.metadata))
        why.source = (
            f"# Why\n\n{HONEST} ![plot](attachment:plot.png)\n\n"
            "$$\n\\frac{a_1}{b_1} *c* d*\n$$\n\n"
            "| a | b |\n|:--|--:|\n| 1 | 2 |\n\n- one\n- two\n\n```python\nx = 1 < 2\n```\n"
        )
        why.attachments = nbformat.from_dict({"plot.png": {"image/png": PIXEL}})

    page = BeautifulSoup(formgrader(course, change), "html.parser")
    answer = page.find(id="why").find_parent(class_="nbgrader_cell").find(class_="panel-body")
    assert [tag.name for tag in answer.find_all(["h1", "strong", "em", "table", "li", "pre"])] == [
        "h1", "strong", "em", "table", "li", "li", "pre",
    ]  # fmt: skip
    assert answer.img["src"] == f"data:image/png;base64,{PIXEL}"
    assert answer.a["href"] == "https://en.wikipedia.org/wiki/Mean"
    assert "$x_1 < x_2$" in answer.text
    assert "\\frac{a_1}{b_1} *c* d*" in answer.text
    assert "x = 1 < 2" in answer.pre.text
    assert [cell["style"] for cell in answer.find_all("td")] == [
        "text-align:left",
        "text-align:right",
    ]
    assert "k" in values(page, "class")  # code has its colours


def test_names_of_people_are_text(course: Course) -> None:
    page = formgrader(course, lambda notebook: None, student='"><script>x()</script>')
    assert "<script>x()" not in page
    assert "&lt;script&gt;x()" in page


def test_a_terminals_colours() -> None:
    shown = drawing.terminal("a\x1b[31;1mb\x1b[0mc\x1b[94;38;5;9md\x1b[39me\x1b[2Kf<")
    assert re.sub(r"^<[^>]*>|</span>$", "", shown) == (
        'a<span class="ansi-red-fg ansi-bold">b</span>c<span class="ansi-blue-intense-fg">d</span>'
        "ef&lt;"
    )


# What it costs

N = 30_000
COSTLY = {
    "formats": ("html", "".join(f"<b id={i}><p>" for i in range(N // 12))),
    "tags without end": ("html", "<a " * (N // 3)),
    "quotes without end": ("html", '<a b="' * (N // 6)),
    "nesting": ("html", "<b>" * (N // 3)),
    "comments": ("markdown", "<!--" * (N // 4)),
    "headings": ("markdown", "# a" + " " * N + "b"),
    "environments": ("markdown", r"\begin{a}" * (N // 9)),
    "formulas": ("markdown", r"\\[" * (N // 3)),
    "lists": ("markdown", "- a\n" * (N // 4)),
    "nested lists": ("markdown", "\n".join("  " * i + "- a" for i in range(200))),
    "stars": ("markdown", "*a_ " * (N // 4)),
    "brackets": ("markdown", "[a](" * (N // 4)),
    "quotations": ("markdown", ">" * N),
    "tables": ("markdown", "a|b\n-|-\n" + "|\n" * (N // 2)),
    "blank lines": ("code", "\n \n" * (N // 3)),
    "parentheses": ("code", "(" * N),
    "attributes": ("code", "a." * (N // 2)),
}


@pytest.mark.parametrize("name", COSTLY)
def test_an_expensive_text_costs_little_and_its_neighbours_are_drawn(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    kind, text = COSTLY[name]
    first, _, last = drawing.convert(
        [("markdown", "*a*", "{}"), (kind, text, "{}"), ("html", "<b>", "{}")]
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert first == "<p><em>a</em></p>\n"
    assert last == "<b></b>"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5  # with Python


def test_what_is_too_long_is_text() -> None:
    short, long = "word " * (drawing.ITEM_SIZE // 5), "word " * (drawing.ITEM_SIZE // 5 + 1)
    many = drawing.NOTEBOOK_SIZE // drawing.ITEM_SIZE
    items = [
        ("markdown", long, "{}"),
        *[("markdown", short, "{}")] * many,
        ("code", "x" * 99, "{}"),
    ]
    made = drawing.convert(items)
    assert [html is None for html in made] == [True, *[False] * many, True]


def test_what_many_cells_cost_has_an_end() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    made = drawing.convert([("html", f"{i}" + "<a " * 9000, "{}") for i in range(30)])
    assert made == [None] * 30
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5


def test_pictures_cannot_be_multiplied_without_end() -> None:
    bomb = "![](attachment:a)" * 3000
    attached = json.dumps({"a": {"image/png": "A" * 2**20}})
    made = drawing.convert([("markdown", bomb, attached), ("markdown", "b", "{}")])
    assert made == [None, "<p>b</p>\n"]


@pytest.mark.parametrize("length", [10_000, 250_000])
def test_a_terminals_text_costs_as_much_as_it_is_long(length: int) -> None:
    start = time.process_time()
    drawing.terminal("\x1b[1;31mx" * (length // 8))
    drawing.terminal("\x1b[" + "1;" * (length // 2) + "m")
    assert time.process_time() - start < 1


# In a browser


@pytest.mark.slow
@pytest.mark.browser
def test_feedback_covers_and_fetches_nothing(course: Course, chromium: Browser) -> None:
    path = course.root / "feedback.html"
    path.write_text(feedback(course, write("\n\n".join(ATTACKS.values()))))
    page = chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("https://cdnjs.cloudflare.com/**", lambda route: route.abort())
    page.goto(path.as_uri())
    assert [url for url in asked if "cdnjs" not in url and not url.startswith("data:")] == [
        path.as_uri(),
        *["about:srcdoc"] * sum(url == "about:srcdoc" for url in asked),
    ]
    assert page.evaluate("window.ran") is None
    assert covered(page) == []
    page.close()


def covered(page: Page) -> list[str]:
    """Headings of cells that something else covers."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".nbgrader_cell > .panel-heading")].filter(
        heading => {
            heading.scrollIntoView({block: "center"});
            const box = heading.getBoundingClientRect();
            return [0.02, 0.5, 0.98].some(share => {
                const [x, y] = [box.left + share * box.width, box.top + box.height / 2];
                return !heading.contains(document.elementFromPoint(x, y));
            });
        }).map(heading => heading.innerText)"""
    )
    return found
