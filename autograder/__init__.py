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
    from traitlets.config.loader import LazyConfigValue

    def set_by_course(section: Any, name: str, default: Any) -> Any:
        found = section.get(name, default)
        # Lazy where the course has added to the default, as by `append` or `update`.
        return found.get_value(default) if isinstance(found, LazyConfigValue) else found

    def steps(converter: Any, name: str) -> list[str]:
        found = set_by_course(c[converter.__name__], name, getattr(converter(), name))
        # nbgrader's defaults are classes: by name, as one writes them oneself.
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
    drawn = set_by_course(c.HTMLExporter, "preprocessors", [])
    if "autograder.record.drawing.Harmless" not in drawn:
        c.HTMLExporter.preprocessors = [*drawn, "autograder.record.drawing.Harmless"]
    c.HTMLExporter.filters = {
        **set_by_course(c.HTMLExporter, "filters", {}),
        "ansi2html": "autograder.record.drawing.terminal",
        "clean_html": "autograder.record.drawing.html",
        "highlight_code": "autograder.record.drawing.code",
        "markdown2html": "autograder.record.drawing.markdown",
        "strip_files_prefix": "autograder.record.drawing.unchanged",
    }
