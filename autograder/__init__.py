"""Grades nbgrader submissions: isolated, in parallel, and still nbgrader's.

Three stages: `prepare` makes a job of a submission, `execute` runs a job (bytes in, bytes out; it
sees nothing else), `record` makes of the result what nbgrader's own autograding scores. Each is a
folder, and each folder one trust boundary; what runs in the sandbox is in `inside` and `link`.

Two lines in `nbgrader_config.py` isolate `nbgrader autograde`, its Python API and formgrader's
button; then `python -m autograder grade ASSIGNMENT` grades a class in parallel:

    import autograder

    autograder.install(c)
"""

from __future__ import annotations

from typing import Any

__all__ = ["install"]


def install(c: Any) -> None:
    """Puts the grader's steps into nbgrader's configuration; a second time changes nothing.

    Args:
        c: the configuration, as `get_config()` gives it in `nbgrader_config.py`. Lists of steps
            that the course has set are kept, so call this after them.
    """
    from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback

    def steps(converter: Any, name: str) -> list[str]:
        # Where the course has set nothing, nbgrader's default, by name as one writes it oneself.
        section = c[converter.__name__]
        found = section[name] if name in section else getattr(converter(), name)
        return [s if isinstance(s, str) else f"{s.__module__}.{s.__name__}" for s in found]

    def insert(new: str, before: str, old: list[str]) -> list[str]:
        if new in old:
            return old
        place = next(i for i, step in enumerate(old) if step.endswith(f".{before}"))
        return [*old[:place], new, *old[place:]]

    c.Autograde.autograde_preprocessors = [
        "autograder.steps.Isolated" if step.endswith(".Execute") else step
        for step in steps(Autograde, "autograde_preprocessors")
    ]
    c.Autograde.exporter_class = "autograder.steps.Reader"
    c.GenerateAssignment.preprocessors = insert(
        "autograder.steps.CourseSecret",
        "ComputeChecksums",
        steps(GenerateAssignment, "preprocessors"),
    )
    c.GenerateAssignment.preprocessors = insert(
        "autograder.steps.Released",
        "ComputeChecksums",
        steps(GenerateAssignment, "preprocessors"),
    )
    c.GenerateFeedback.preprocessors = insert(
        "autograder.steps.HideTests", "GetGrades", steps(GenerateFeedback, "preprocessors")
    )
    if "collect" not in c.ExchangeFactory:  # an exchange of another kind has links of its own
        c.ExchangeFactory.collect = "autograder.exchange.Collect"
    # Formgrader and feedback both draw a notebook by this exporter.
    c.HTMLExporter.sanitize_html = True
    drawn = [*c.HTMLExporter.get("preprocessors", [])]
    if "autograder.record.drawing.Harmless" not in drawn:
        c.HTMLExporter.preprocessors = [*drawn, "autograder.record.drawing.Harmless"]
    c.HTMLExporter.filters = {
        **c.HTMLExporter.get("filters", {}),
        "ansi2html": "autograder.record.drawing.terminal",
        "clean_html": "autograder.record.drawing.html",
        "highlight_code": "autograder.record.drawing.code",
        "markdown2html": "autograder.record.drawing.markdown",
        "strip_files_prefix": "autograder.record.drawing.unchanged",
    }
