"""Writes a result into its notebook, for nbgrader to score by its own rules."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_solution

from autograder.hidden import hidden_lines
from autograder.job import Reason, Result, is_number, told
from autograder.record.feedback import HIDDEN_CHECK, RAISED_BY_STUDENT, safe_output

__all__ = ["apply"]

_EXPLAINED: dict[Reason, str] = {
    "timeout": "ran longer than allowed",
    "out of memory": "needed more memory than allowed",
    "crashed": "the process ended",
    "tampered": "reached beyond the exercise",
    "malformed": "the notebook cannot be read",
    "missing": "the notebook was not submitted",
    "output": "wrote more than allowed",
    "stopped": "was not run, since an earlier cell ended the process",
    "not started": "the submission could not be started, twice, while others could",
}

_PLACE = re.compile(r"line (\d{1,6}), (test|submission)")  # no number that `int` refuses


def _named(reason: Reason, message: str = "") -> NotebookNode:
    name = "".join(word.capitalize() for word in reason.split())
    text = message or _EXPLAINED[reason]
    return NotebookNode(output_type="error", ename=name, evalue=text, traceback=[f"{name}: {text}"])


def apply(
    notebook: NotebookNode,
    result: Result,
    message: str = "",
    marks: tuple[str, str] = ("BEGIN HIDDEN TESTS", "END HIDDEN TESTS"),
    counted: Collection[str] = (),
) -> None:
    """Writes a result into its notebook, for nbgrader to score by its own rules.

    A test without a result has failed. An error in a test is shown by its type and message, and by
    its line only where students can see it (feedback tells less: see `hide_inputs`); how the
    grader's sides ended is kept in the notebook's metadata. The metadata of cells that ran after a
    hidden test keep what the submission showed there, for feedback.

    Args:
        notebook: that `restore` made.
        result: of its job.
        message: what every test says, where nothing ran.
        marks: of hidden tests, as in nbgrader's `ClearHiddenTests`.
        counted: tests that give a number of points if the work is right. Anything else earns none
            there; in other tests nbgrader gives all points for it.
    """
    by_id = {cell.id: cell for cell in result.cells}
    failing: dict[str, int] = {}
    told_hidden = False  # whether the submission may know what a hidden test asks
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        name = cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {position}"
        is_test = is_grade(cell) and not is_solution(cell)
        cell.execution_count = None
        outcome = by_id.get(name)
        shown = cell.metadata.pop("shown", [])
        handed_in = cell.metadata.pop("handed_in", [])
        if outcome is None:
            cell.outputs = (
                [_named(result.reason or "stopped", message)] if is_test else _safe(shown)
            )
            continue
        outputs = _safe(outcome.outputs)
        failing[name] = _failing_number(outputs) if is_test else 0
        failed = any(out.output_type == "error" for out in outputs)
        if outcome.reason and not failed:
            outputs.append(_named(outcome.reason))
        hidden = is_test and any(hidden for _, hidden in hidden_lines(cell.source, *marks))
        told_hidden |= hidden
        if told_hidden and not is_test:
            cell.metadata.handed_in = _safe(handed_in)
        if is_test:
            outputs = [_visible(out, cell.source, marks) for out in outputs]
            for output in outputs:
                _clamp(output, cell.metadata.nbgrader.points, name in counted)
            if name in counted and not any(map(_ends, outputs)):
                outputs += _safe([_NOTHING])
            if outcome.mode == "inside" and hidden:
                outputs = [out for out in outputs if not _printed(out)]
        cell.outputs = outputs
    about = notebook.metadata.autograder
    about.reason = result.reason
    about.tampering = told(result.tampering)
    about.seconds = round(result.seconds, 3)
    about.isolated = result.isolated
    about.cells = NotebookNode(
        {
            cell.id: NotebookNode(
                seconds=round(cell.seconds, 3),
                reason=cell.reason,
                mode=cell.mode,
                unjudged=cell.unjudged,
                line=failing.get(cell.id, 0),
            )
            for cell in result.cells
        }
    )


def _safe(outputs: Iterable[Mapping[str, Any]]) -> list[NotebookNode]:
    return [safe for raw in outputs if (safe := safe_output(raw)) is not None]


_NOTHING = {"output_type": "execute_result", "data": {"text/plain": "0"}}


def _ends(output: NotebookNode) -> bool:
    """Whether it is how a cell ended."""
    return output.output_type in ("execute_result", "error")


def _clamp(output: NotebookNode, most: float, counted: bool) -> None:
    """Makes partial credit a number of points that there is: nbgrader takes any."""
    if output.output_type == "execute_result" and "text/plain" in output.data:
        text = output.data["text/plain"]
        if not is_number(text):
            output.data["text/plain"] = "0" if counted else text
            return
        points = float(text)
        if not 0 <= points <= most:  # NaN, too
            output.data["text/plain"] = str(most if points > most and math.isfinite(points) else 0)


def _printed(output: NotebookNode) -> bool:
    """Whether it may be what the submission has printed, maybe of hidden inputs."""
    return output.get("name") == "stdout" or output.output_type == "display_data"


def _visible(output: NotebookNode, source: str, marks: tuple[str, str]) -> NotebookNode:
    """An output of a test: an error is told without the code of hidden tests."""
    if output.output_type == "error":
        told = f"{output.ename}: {output.evalue}" if output.evalue else output.ename
        output.traceback = [*_failing_line(output.traceback, source, marks), told]
    return output


def _failing_number(outputs: Sequence[NotebookNode]) -> int:
    """The number of the test's line that raised; 0 if none did."""
    for output in outputs:
        traceback = output.traceback if output.output_type == "error" else []
        if traceback and (place := _PLACE.fullmatch(traceback[0])):
            return int(place[1])
    return 0


def _failing_line(traceback: Sequence[str], source: str, marks: tuple[str, str]) -> list[str]:
    """The cell's line that raised, if a student can see it.

    The tests' worker says it in the first line. The others hold words of the submission's.
    """
    place = _PLACE.fullmatch(traceback[0]) if traceback else None
    if place is None:  # the grader's own, such as a timeout
        return []
    lines, number = list(hidden_lines(source, *marks)), int(place[1])
    if 0 < number <= len(lines):
        line, hidden = lines[number - 1]
    else:
        line, hidden = "", any(hidden for _, hidden in lines)
    if hidden:
        return [RAISED_BY_STUDENT if place[2] == "submission" else HIDDEN_CHECK]
    return [f"---> {line.strip()}"] if line else []
