"""Stage 3: nbgrader's own autograding, with `Isolated` in the place of its `Execute`.

`autograder.install` puts these classes where nbgrader looks for them, so that its command line,
its Python API and formgrader's button all read submissions by `Reader` and run none of them here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme, Execute
from nbgrader.utils import find_all_files, is_grade, is_solution
from traitlets import Bool, Dict, List, Unicode

from autograder.feedback import HIDDEN_CHECK, RAISED_BY_STUDENT, safe_output
from autograder.job import Job, Limits, Reason, Result
from autograder.pool import run
from autograder.prepare import (
    NOTEBOOK_BYTES,
    Files,
    Refused,
    SourceNotebook,
    blank,
    hidden_lines,
    job_key,
    make_job,
    read_bytes,
    read_files,
    restore,
    source_notebooks,
    strip_hidden,
)
from autograder.store import Store

__all__ = ["Isolated", "Reader", "apply", "submission_files", "work_folder"]

_EXPLAINED: dict[Reason, str] = {
    "timeout": "ran longer than allowed",
    "out of memory": "needed more memory than allowed",
    "crashed": "the process ended",
    "tampered": "reached beyond the exercise",
    "malformed": "the notebook cannot be read",
    "missing": "the notebook was not submitted",
    "output": "wrote more than allowed",
    "stopped": "was not run, since an earlier cell ended the process",
}

_PLACE = re.compile(r"line (\d+), (test|submission)")


def work_folder(root: Path) -> Path:
    """Where the grader keeps what is its own, in the course's folder."""
    return root / ".autograder"


class Reader(NotebookExporter):
    """Reads a submitted notebook safely, and restores it from the gradebook.

    What it does not take becomes a blank notebook that says why.
    """

    trusted = Bool(False, help="Whether submissions have been restored before.").tag(config=True)

    def from_filename(
        self, filename: str, resources: Any = None, **kw: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Converts the notebook of a file."""
        converter: Any = self.parent
        if self.trusted or not getattr(converter, "_sanitizing", False):
            return super().from_filename(filename, resources=resources, **kw)
        about = resources["nbgrader"]
        with Gradebook(about["db_url"]) as gradebook:
            source = source_notebooks(gradebook, about["assignment"])[about["notebook"]]
        path = Path(filename)
        notebook = self.read(path, source)
        # nbgrader has copied the submission's files by now, and followed links where it met one.
        copies = Path(converter._format_dest(about["assignment"], about["student"]))
        for name in read_files(path.parent, converter.coursedir.ignore).refused:
            copy = copies / name
            if copy.is_symlink() or copy.is_file():
                copy.unlink()
        resources["metadata"] = {"name": path.stem, "path": str(path.parent)}
        written: tuple[Any, dict[str, Any]] = self.from_notebook_node(  # type: ignore[no-untyped-call]
            notebook, resources=resources, **kw
        )
        return written

    def read(self, path: Path, source: SourceNotebook) -> NotebookNode:
        """The notebook in a file, restored; a blank one where it is refused."""
        tests, scheme = ClearHiddenTests(parent=self), ClearMarkScheme(parent=self)

        def visible(text: str) -> str:
            text = strip_hidden(text, tests.begin_test_delimeter, tests.end_test_delimeter)
            marks = scheme.begin_mark_scheme_delimeter, scheme.end_mark_scheme_delimeter
            return strip_hidden(text, *marks)

        try:
            data = read_bytes(path, NOTEBOOK_BYTES)
            notebook, tampering = restore(data, source, visible)
        except FileNotFoundError:
            return blank(source, Refused("missing", f"{path.name} was not submitted"))
        except Refused as refused:
            return blank(source, refused)
        if tampering:
            notebook.metadata.autograder.tampering = tampering
        return notebook


class Isolated(Execute):  # type: ignore[misc]
    """Takes a notebook's outputs from the result of its job, or has the job run in a sandbox."""

    # As with nbgrader's own, but `--no-execute` would give every test its points.
    enabled = Bool(True)
    sandbox = Bool(True, help="Whether there has to be a sandbox.").tag(config=True)
    limits = Dict(help="Limits of a submission that differ from autograder.job.Limits.").tag(
        config=True
    )
    imports = List(Unicode(), help="Modules that notebooks import, loaded once for all.").tag(
        config=True
    )
    withheld = List(Unicode(), help="Modules that a student's cells must not reach.").tag(
        config=True
    )

    def job(self, notebook: NotebookNode, files: Mapping[str, bytes]) -> Job:
        """The notebook's job, with the limits and modules of this course."""
        return make_job(
            notebook,
            files,
            limits=Limits(**self.limits),
            imports=self.imports,
            withheld=self.withheld,
        )

    def key(self, job: Job) -> str:
        """The job's key."""
        return job_key(job, isolated=self.sandbox)

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any], km: Any = None
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Fills in the outputs of every code cell."""
        about = nb.metadata.setdefault("autograder", NotebookNode())
        if "refused" in about:
            reason, message = about.refused
            refused = Result([], reason=reason)
            apply(nb, refused, message)
            return nb, resources
        converter = self.parent.parent  # preprocessor, exporter, converter
        folder = Path(
            converter.coursedir.format_path(
                converter.coursedir.submitted_directory,
                resources["nbgrader"]["student"],
                resources["nbgrader"]["assignment"],
            )
        )
        files = submission_files(converter, folder, resources["nbgrader"]["assignment"])
        job = self.job(nb, files.taken)
        key = self.key(job)
        store = Store(work_folder(Path(converter.coursedir.root)) / "results")
        result = store.get(key)
        if result is None:
            result = Result.from_bytes(run(job.to_bytes(), self.sandbox))
            store.put(key, result)
        result.tampering = [*about.get("tampering", []), *files.refused.values(), *result.tampering]
        about.key = key
        tests = ClearHiddenTests(parent=self)
        apply(nb, result, marks=(tests.begin_test_delimeter, tests.end_test_delimeter))
        return nb, resources


def submission_files(converter: Any, folder: Path, assignment: str) -> Files:
    """A submission's files, those of the same name in the source folder in their place.

    The source folder's are the instructor's: nbgrader copies them over the students', too. A
    student's file where the source has a folder, or the other way round, is refused.
    """
    coursedir = converter.coursedir
    files = read_files(folder, coursedir.ignore)
    source = Path(coursedir.format_path(coursedir.source_directory, ".", assignment))
    kept = converter.exclude_overwriting.get(assignment, [])
    given = {}
    for path in map(Path, find_all_files(str(source), [*coursedir.ignore, "*.ipynb"])):
        if (name := str(path.relative_to(source))) not in kept:
            given[name] = path.read_bytes()
    folders = {str(folder) for name in given for folder in Path(name).parents}
    for name in list(files.taken):
        if name in folders or any(str(folder) in given for folder in Path(name).parents):
            files.refused[name] = f"{name} is in the place of a file of the assignment"
            del files.taken[name]
    files.taken |= given
    return files


def _named(reason: Reason, message: str = "") -> NotebookNode:
    name = "".join(word.capitalize() for word in reason.split())
    text = message or _EXPLAINED[reason]
    return NotebookNode(output_type="error", ename=name, evalue=text, traceback=[f"{name}: {text}"])


def apply(
    notebook: NotebookNode,
    result: Result,
    message: str = "",
    marks: tuple[str, str] = ("BEGIN HIDDEN TESTS", "END HIDDEN TESTS"),
) -> None:
    """Writes a result into its notebook, for nbgrader to score by its own rules.

    A test without a result has failed. Of an error in a test are shown its type and message, and
    the line only where students can see it (feedback tells less: see `HideTests`); how the
    grader's sides ended is kept in the notebook's metadata.

    Args:
        notebook: that `restore` made.
        result: of its job.
        message: what every test says, where nothing ran.
        marks: of hidden tests, as in nbgrader's `ClearHiddenTests`.
    """
    by_id = {cell.id: cell for cell in result.cells}
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        name = cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {position}"
        is_test = is_grade(cell) and not is_solution(cell)
        cell.execution_count = None
        outcome = by_id.get(name)
        if outcome is None:
            cell.outputs = [_named(result.reason or "stopped", message)] if is_test else []
            continue
        outputs = [out for raw in outcome.outputs if (out := safe_output(raw)) is not None]
        failed = any(out.output_type == "error" for out in outputs)
        if outcome.reason and not failed:
            outputs.append(_named(outcome.reason))
        if is_test:
            outputs = [_visible(out, cell.source, marks) for out in outputs]
        cell.outputs = outputs
    about = notebook.metadata.autograder
    about.reason = result.reason
    about.tampering = list(dict.fromkeys(result.tampering))
    about.seconds = round(result.seconds, 3)
    about.isolated = result.isolated
    about.cells = NotebookNode(
        {
            cell.id: NotebookNode(seconds=round(cell.seconds, 3), reason=cell.reason)
            for cell in result.cells
        }
    )


def _visible(output: NotebookNode, source: str, marks: tuple[str, str]) -> NotebookNode:
    """An output of a test: an error is told without the code of hidden tests."""
    if output.output_type == "error":
        told = f"{output.ename}: {output.evalue}" if output.evalue else output.ename
        output.traceback = [*_failing_line(output.traceback, source, marks), told]
    return output


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
