"""Grades nbgrader submissions: isolated, in parallel, and still nbgrader's.

Three stages: `prepare` makes a job of a submission (it has the gradebook), `execute` runs a job
(bytes in, bytes out; it sees nothing else), `record` writes the result through nbgrader's own
autograding (one writer).

Two lines in `nbgrader_config.py` isolate `nbgrader autograde`, its Python API and formgrader's
button; then `python -m autograder grade ASSIGNMENT` grades a class in parallel:

    import autograder

    autograder.install(c)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["install"]


def install(c: Any) -> None:
    """Puts the grader's steps into nbgrader's configuration; a second time changes nothing.

    Args:
        c: the configuration, as `get_config()` gives it in `nbgrader_config.py`. Lists of steps
            that the course has set are kept, so call this after them.
    """
    from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback

    def steps(converter: Any, name: str) -> list[Any]:
        # Where the course has set nothing, the default; a class where it is one of nbgrader's.
        section = c[converter.__name__]
        return list(section[name]) if name in section else list(getattr(converter(), name))

    def called(step: Any) -> str:
        return step.rpartition(".")[2] if isinstance(step, str) else step.__name__

    def insert(before: str, new: str, old: Sequence[Any]) -> list[Any]:
        if new in old:
            return list(old)
        place = next(i for i, step in enumerate(old) if called(step) == before)
        return [*old[:place], new, *old[place:]]

    autograde = steps(Autograde, "autograde_preprocessors")
    c.Autograde.autograde_preprocessors = [
        "autograder.record.Isolated" if called(step) == "Execute" else step for step in autograde
    ]
    c.Autograde.exporter_class = "autograder.record.Reader"
    c.GenerateAssignment.preprocessors = insert(
        "ComputeChecksums",
        "autograder.secret.CourseSecret",
        steps(GenerateAssignment, "preprocessors"),
    )
    c.GenerateFeedback.preprocessors = insert(
        "GetGrades", "autograder.feedback.HideTests", steps(GenerateFeedback, "preprocessors")
    )
    # Formgrader and feedback both draw a notebook by this exporter.
    c.HTMLExporter.sanitize_html = True
    c.HTMLExporter.filters = {
        **c.HTMLExporter.get("filters", {}),
        "markdown2html": "autograder.feedback.safe_markdown",
    }
