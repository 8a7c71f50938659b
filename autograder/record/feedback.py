"""What instructors and students may be shown: no hidden tests, and no scripts of students'."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from typing import Any

import bleach
from bleach.css_sanitizer import CSSSanitizer
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode

__all__ = [
    "HIDDEN_CHECK",
    "RAISED_BY_STUDENT",
    "clean_html",
    "hide_inputs",
    "safe_markdown",
    "safe_output",
]

HIDDEN_CHECK = "(in a check that is not shown)"
RAISED_BY_STUDENT = "(raised by your code, in a check that is not shown)"

_WORDS = """
a abbr acronym b blockquote br caption cite code col colgroup dd del details div dl dt em figcaption
figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp small span strong sub summary
sup table tbody td tfoot th thead tr tt u ul var
"""
_TAGS = frozenset(_WORDS.split())
_ATTRIBUTES = {"align", "alt", "class", "colspan", "height", "id", "rowspan", "scope", "start"}
_ATTRIBUTES |= {"style", "title", "width"}
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
_RELATIVE = re.compile(r"[\w-][\w./-]*")
_CSS = CSSSanitizer(
    allowed_css_properties=[
        "background-color",
        "border",
        "border-collapse",
        "color",
        "font-family",
        "font-size",
        "font-style",
        "font-weight",
        "height",
        "margin",
        "max-width",
        "padding",
        "text-align",
        "text-decoration",
        "vertical-align",
        "width",
    ]
)


def _attribute(tag: str, name: str, value: str) -> bool:
    if name == "src":
        # A browser runs no script in a picture, and finds a relative name beside the page.
        return tag == "img" and any(p.fullmatch(value) for p in (_PICTURE, _RELATIVE))
    if name == "href":
        return tag == "a" and re.match(r"(https?:|mailto:|#)", value) is not None
    return name in _ATTRIBUTES


def clean_html(html: str) -> str:
    """HTML without anything that runs, posts or fetches from elsewhere.

    >>> clean_html('<b onclick="steal()">mean</b><script>steal()</script>')
    '<b>mean</b>steal()'
    """
    cleaned: str = bleach.clean(
        html,
        tags=_TAGS,
        attributes=_attribute,
        protocols=["http", "https", "mailto", "data"],
        css_sanitizer=_CSS,
        strip=True,
    )
    return cleaned


_EXPORTER: list[HTMLExporter] = []


@pass_context
def safe_markdown(context: Context, source: str) -> str:
    """nbconvert's filter `markdown2html`, with HTML written into the Markdown cleaned."""
    if not _EXPORTER:
        _EXPORTER.append(HTMLExporter())
    return clean_html(_EXPORTER[0].markdown2html(context, source))


_SAFE_TYPES = ("image/png", "image/jpeg", "text/latex", "text/plain")


def safe_output(output: Mapping[str, Any]) -> NotebookNode | None:
    """An output in nbformat's form with only what is safe to show, or `None` where nothing is.

    Of display data remain text, pictures and cleaned HTML; scripts, widgets and SVG go.
    """

    def text(value: object) -> str:
        if isinstance(value, (list, tuple)):
            value = "".join(map(str, value))
        return str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")

    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return NotebookNode(output_type="stream", name=name, text=text(output.get("text", "")))
    if kind == "error":
        lines = output.get("traceback") or []
        return NotebookNode(
            output_type="error",
            ename=text(output.get("ename", "Error")),
            evalue=text(output.get("evalue", "")),
            traceback=[text(line) for line in lines] if isinstance(lines, list) else [],
        )
    if kind in ("display_data", "execute_result"):
        given = output.get("data")
        data = NotebookNode()
        for mime, value in given.items() if isinstance(given, Mapping) else ():
            if mime in _SAFE_TYPES:
                data[mime] = text(value)
            elif mime in ("text/html", "text/markdown"):
                data[mime] = clean_html(text(value))
        if not data:
            return None
        made = NotebookNode(output_type=kind, data=data, metadata=NotebookNode())
        if kind == "execute_result":
            made.execution_count = None
        return made
    return None


_EXCEPTIONS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
_EXCEPTIONS |= {"LinAlgError", "_LinAlgError", "OutOfMemoryError"}  # torch's
_EXCEPTIONS |= {"LinkClosed", "Tampered", "TimedOut", "TooLarge", "Unsupported"}  # the grader's
#: What a check says of itself, and what Python says of a check; a TypeError names classes.
_SPEAKING = {"AssertionError", "CheckFailed", "NameError"}


def hide_inputs(error: NotebookNode) -> None:
    """Leaves of an error in a hidden check what no submission can write hidden inputs into.

    That is a check's own message; of others the name, if Python, torch or the grader gave it.
    """
    where = error.traceback[:1]
    if where == [RAISED_BY_STUDENT] and error.ename not in _EXCEPTIONS:
        error.ename = "an exception of the submission's own"
    if where == [RAISED_BY_STUDENT] or (where == [HIDDEN_CHECK] and error.ename not in _SPEAKING):
        error.evalue = ""
        error.traceback = [*where, error.ename]
