"""What instructors and students may be shown: no hidden tests, and no scripts of students'."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from nbformat import NotebookNode

from autograder.record.safe_html import framed, unframed

__all__ = [
    "HIDDEN_CHECK",
    "RAISED_BY_STUDENT",
    "handed_in",
    "hide_inputs",
    "safe_output",
]

HIDDEN_CHECK = "(in a check that is not shown)"
WHEN_GRADED = "(raised when this notebook was graded)"
RAISED_BY_STUDENT = "(raised by your code, in a check that is not shown)"

_SAFE_TYPES = ("image/png", "image/jpeg", "text/latex", "text/markdown", "text/plain")


def safe_output(output: Mapping[str, Any]) -> NotebookNode | None:
    """An output in nbformat's form with only what is safe to show, or `None` where nothing is.

    Text, pictures and HTML stay, the HTML in a frame where nothing of it runs; scripts, widgets and
    SVG go. Nothing is parsed here: see `autograder.record.drawing` for how it is drawn.
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
            elif mime == "text/html":
                data[mime] = framed(unframed(text(value)))
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
_OF_HOST = {"CellTimeoutError", "DeadKernelError", "OutputError"}
#: What a check says of itself, and what Python says of a check; a TypeError names classes.
_SPEAKING = {"AssertionError", "CheckFailed", "NameError"}


def hide_inputs(error: NotebookNode) -> None:
    """Reduces an error in a hidden check to what no submission can write hidden inputs into.

    That is a check's own message, or the name of an error that Python, torch or the grader named.
    """
    where = error.traceback[:1]
    if where == [RAISED_BY_STUDENT] and error.ename not in _EXCEPTIONS:
        error.ename = "an exception of the submission's own"
    if where == [RAISED_BY_STUDENT] or (where == [HIDDEN_CHECK] and error.ename not in _SPEAKING):
        error.evalue = ""
        error.traceback = [*where, error.ename]


def handed_in(cell: NotebookNode) -> None:
    """Reduces a cell after a hidden test to what no submission can write that test's inputs into.

    That is what it showed when it was handed in, and the names of the errors that it raised now.
    """
    errors = [output for output in cell.outputs if output.output_type == "error"]
    for error in errors:
        if error.ename not in _EXCEPTIONS | _OF_HOST:
            error.ename = "an exception of the submission's own"
        error.evalue = ""
        error.traceback = [f"{error.ename} {WHEN_GRADED}"]
    shown = [output for output in cell.metadata.pop("handed_in") if output.output_type != "error"]
    cell.outputs = [*shown, *errors]
