"""How formgrader and feedback draw what a student wrote: nothing of it reaches the page around it.

Both draw by nbconvert's `HTMLExporter`. `Harmless` first reduces a notebook to what can be shown;
then filters of the names that nbconvert's templates use turn every text into HTML: Markdown
and code by `safe_html`, in a process with limits of memory and time; HTML outputs by it, too, and
then in a frame without any permission, since tables need styles of their own. What is too long or
costs too much is shown as text.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode

from autograder.record import safe_html
from autograder.record.feedback import safe_output
from autograder.record.safe_html import framed, unframed

__all__ = [
    "Harmless",
    "as_text",
    "code",
    "convert",
    "html",
    "markdown",
    "terminal",
    "unchanged",
]

ITEM_SIZE = 64 * 1024
"""Characters from which on a text is shown as it is, not converted."""
NOTEBOOK_SIZE = 512 * 1024
"""Characters of one notebook that are converted."""
SHOWN_SIZE = 256 * 1024
"""Characters of one text that are shown."""
_SECONDS = 30

Item = tuple[str, str, str]
"""What to convert: its kind, the text, and the cell's attachments as JSON."""


class Drawn(str):
    """HTML that is harmless."""

    __slots__ = ()


# Whatever is painted ends at the box: no rule of TeX's, no pile of accents covers what is around.
_BOX = "contain: paint; overflow-x: auto"


def _box(html: str) -> Drawn:
    return Drawn(f'<div style="{_BOX}">{html}</div>')


def _cut(text: str) -> str:
    more = len(text) - SHOWN_SIZE
    return f"{text[:SHOWN_SIZE]}\n({more} more characters)" if more > 0 else text


def as_text(text: str) -> Drawn:
    """A text as it was written."""
    return _box(f'<pre style="white-space: pre-wrap">{escape(_cut(text))}</pre>')


def convert(items: Sequence[Item]) -> list[str | None]:
    """Converts in a process to be thrown away; `None` for what is too long or costs too much."""
    made: list[str | None] = [None] * len(items)
    left, taken = NOTEBOOK_SIZE, []
    for place, (_, text, _) in enumerate(items):
        if len(text) <= min(left, ITEM_SIZE):
            left -= len(text)
            taken.append(place)
    if not taken:
        return made
    given = json.dumps(
        [[items[i][0], items[i][1], json.loads(items[i][2])] for i in taken]
    ).encode()
    command = [sys.executable, "-I", safe_html.__file__]
    try:
        done = subprocess.run(
            command,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as late:
        done = late.stdout or b""
    # What it wrote before it was killed counts.
    for place, line in zip(taken, done.split(b"\n")[:-1], strict=False):
        made[place] = json.loads(line)
    return made


# The notebook


class Harmless(Preprocessor):
    """Reduces a notebook to what the templates may show.

    They write metadata into classes and attributes, whoever wrote the metadata, and when.
    """

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Drops all other metadata and outputs; names of people and files become text."""
        nb.metadata = NotebookNode(language_info=NotebookNode(name="python"))
        for position, cell in enumerate(nb.cells):
            cell.id = f"cell-{position}"
            kept = {k: v for k, v in cell.metadata.items() if k == "nbgrader"}
            cell.metadata = NotebookNode(kept)
            if cell.cell_type == "code":
                outputs = (safe_output(output) for output in cell.outputs)
                cell.outputs = [output for output in outputs if output is not None]
                for output in cell.outputs:
                    if "text/latex" in (data := output.get("data", {})):
                        latex = data.pop("text/latex")  # is not filtered, but formulas of Markdown
                        data.setdefault("text/markdown", latex)
        for name in ("student", "first_name", "last_name", "notebook_path"):
            if isinstance(resources.get(name), str):
                resources[name] = escape(resources[name])
        return nb, resources


def _items(notebook: NotebookNode) -> Iterator[Item]:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield "markdown", cell.source, _attachments(cell)
        elif cell.cell_type == "code":
            yield "code", cell.source, "{}"
            for output in cell.outputs:
                for mime, value in output.get("data", {}).items():
                    if mime == "text/html":
                        yield "html", unframed(value), "{}"
                    elif mime == "text/markdown":
                        yield "markdown", value, "{}"
        comment = cell.metadata.get("nbgrader", {}).get("comment")
        if isinstance(comment, str):
            yield "markdown", comment, "{}"


def _attachments(cell: Mapping[str, Any]) -> str:
    return json.dumps(cell.get("attachments") or {}, sort_keys=True)


def _drawn(context: Context, item: Item) -> str | None:
    """An item's HTML; the first of a page has all of it made, in one process."""
    page: dict[Item, str | None] = context["resources"].setdefault("autograder", {})
    if item not in page:
        page |= _made([*_items(context["nb"]), item])
    return page[item]


def _made(items: Iterable[Item]) -> dict[Item, str | None]:
    wanted = [*dict.fromkeys(items)]
    return dict(zip(wanted, convert(wanted), strict=True))


# nbconvert's filters


@pass_context
def markdown(context: Context, source: str) -> Drawn:
    """`markdown2html`: pictures are the cell's own, or those that it has attached."""
    cell = context.get("cell") or {}
    attachments = _attachments(cell) if source == cell.get("source") else "{}"
    made = _drawn(context, ("markdown", source, attachments))
    return as_text(source) if made is None else _box(made)


@pass_context
def code(context: Context, source: str, **_: Any) -> Drawn:
    """`highlight_code`: Python in colours."""
    made = _drawn(context, ("code", source, "{}"))
    return as_text(source) if made is None else _box(made)


@pass_context
def html(context: Context, value: str) -> Drawn:
    """`clean_html`: HTML in a frame; a raw cell, which may be anything, as text."""
    if isinstance(value, Drawn):
        return value
    if (context.get("cell") or {}).get("cell_type") == "raw":
        return as_text(value)
    value = unframed(value)
    made = _drawn(context, ("html", value, "{}"))
    return as_text(value) if made is None else Drawn(framed(made))


def unchanged(text: str) -> str:
    """`strip_files_prefix`, which would change HTML that is known to be harmless."""
    return text


_ESCAPES = re.compile(r"\x1b\[([^@-~]*)([@-~])")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def terminal(text: str) -> Drawn:
    """`ansi2html`: text with a terminal's colours, in time that grows with its length."""
    parts = _ESCAPES.split(_cut(str(text)))
    out, classes = [escape(parts[0])], dict[str, str]()
    for codes, letter, chunk in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if letter == "m":
            _set_colours(classes, codes)
        shown = escape(chunk)
        names = " ".join(classes.values())
        out.append(f'<span class="{names}">{shown}</span>' if names and shown else shown)
    return Drawn(f'<span style="display: block; {_BOX}">{"".join(out)}</span>')


def _set_colours(classes: dict[str, str], codes: str) -> None:
    for code in codes.split(";"):
        number = int(code) if re.fullmatch(r"[0-9]{1,3}", code) else 0 if not code else -1
        tens, colour = divmod(number, 10)
        if number == 0:
            classes.clear()
        elif number in (38, 48):  # one of many colours, in the codes that follow
            return
        elif number == 1:
            classes["weight"] = "ansi-bold"
        elif number == 4:
            classes["line"] = "ansi-underline"
        elif tens in (3, 4, 9, 10) and colour < 8:
            ground = "fg" if tens in (3, 9) else "bg"
            intense = "-intense" if tens > 4 else ""
            classes[ground] = f"ansi-{_COLOURS[colour]}{intense}-{ground}"
        elif number in (39, 49):
            classes.pop("fg" if number == 39 else "bg", None)
        elif number in (21, 22, 24):
            classes.pop("line" if number == 24 else "weight", None)
