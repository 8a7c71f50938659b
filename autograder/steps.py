"""The classes that nbgrader itself calls, in place of its own or beside them.

`autograder.install` puts them where nbgrader looks for them, so that its command line, its Python
API and formgrader's button all read submissions by `Reader` and run none of them here.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    Execute,
    NbGraderPreprocessor,
)
from nbgrader.utils import find_all_files
from traitlets import Bool, Dict, Enum, Integer, List, TraitError, Unicode, validate

from autograder.atomic import write
from autograder.execute.pool import run
from autograder.execute.proxy import listed
from autograder.execute.store import Store, job_key
from autograder.hidden import hidden_lines, strip_hidden
from autograder.job import Limits, Result
from autograder.prepare.files import read_files
from autograder.prepare.plan import Plan, read_plans
from autograder.prepare.source import digest, source_notebooks
from autograder.prepare.submission import Rules, read_notebook, submission_files
from autograder.record.feedback import handed_in, hide_inputs
from autograder.record.outcome import apply
from autograder.secret import course_secret

__all__ = [
    "CourseSecret",
    "HideTests",
    "Isolated",
    "Reader",
    "Released",
    "plans_file",
    "rules_of",
    "work_folder",
]

_PLACEHOLDER = re.compile(r"""(["'])course secret\1""")


def work_folder(root: Path) -> Path:
    """The grader's own folder in the course."""
    return root / ".autograder"


def plans_file(root: Path, assignment: str) -> Path:
    """The file that says how an assignment's cells are judged."""
    return work_folder(root) / "modes" / f"{assignment}.json"


_TORCH = ("torch",) if find_spec("torch") else ()


def rules_of(converter: Any, assignment: str) -> Rules:
    """What the course's configuration says of an assignment's submissions.

    The files of the source folder are the instructor's: nbgrader copies them over the students'.
    """
    coursedir = converter.coursedir
    tests, scheme = ClearHiddenTests(parent=converter), ClearMarkScheme(parent=converter)
    step = Isolated(parent=converter)
    source = Path(coursedir.format_path(coursedir.source_directory, ".", assignment))
    kept = converter.exclude_overwriting.get(assignment, [])
    found = map(Path, find_all_files(str(source), [*coursedir.ignore, "*.ipynb"]))
    given = {str(path.relative_to(source)): path for path in found}
    return Rules(
        marks=(
            (tests.begin_test_delimeter, tests.end_test_delimeter),
            (scheme.begin_mark_scheme_delimeter, scheme.end_mark_scheme_delimeter),
        ),
        ignore=tuple(coursedir.ignore),
        given={name: path.read_bytes() for name, path in given.items() if name not in kept},
        limits=Limits(**{**_seconds_of(step), **step.limits}),
        imports=(*step.imports, *(_TORCH if _names_torch(source) else ())),
        withheld=tuple(step.withheld),
        network=tuple(step.network),
        unneeded=frozenset() if step.run_all else _unneeded(source),
        released=frozenset(_released(Path(coursedir.root), assignment)),
        mode=cast(Any, step.mode),
        plans=read_plans(plans_file(Path(coursedir.root), assignment))[1],
    )


def _names_torch(folder: Path) -> bool:
    """Whether an assignment may use torch, which then is imported once for all submissions.

    Where a submission brings it in unasked, its tests are judged inside its process.
    """
    files = [*folder.rglob("*.ipynb"), *folder.rglob("*.py")]
    return not files or any(b"torch" in file.read_bytes() for file in files)


def _seconds_of(step: Isolated) -> dict[str, Any]:
    """The limit of a cell that nbgrader's own setting makes; 0 and -1 make none."""
    seconds = step.timeout or 0
    return {"cell_seconds": seconds} if seconds > 0 else {}


def _released_file(root: Path, assignment: str) -> Path:
    return work_folder(root) / "released" / f"{assignment}.json"


def _released(root: Path, assignment: str) -> list[str]:
    """The locked cells that students were ever given, each by its `digest`."""
    try:
        found = json.loads(_released_file(root, assignment).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _unneeded(folder: Path) -> frozenset[str]:
    """The sources of the cells that carry the tag `skip-grading` in an assignment's notebooks."""
    found = set()
    for path in sorted(folder.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and "skip-grading" in cell.metadata.get("tags", []):
                found.add(cell.source.strip())
    return frozenset(found)


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
        rules = rules_of(converter, about["assignment"])
        notebook = read_notebook(path, source, rules)
        # nbgrader has copied the submission's files by now, and followed links where it met one.
        copies = Path(converter._format_dest(about["assignment"], about["student"]))
        for name in read_files(path.parent, rules.ignore).refused:
            copy = copies / name
            if copy.is_symlink() or copy.is_file():
                copy.unlink()
        resources["metadata"] = {"name": path.stem, "path": str(path.parent)}
        written: tuple[Any, dict[str, Any]] = self.from_notebook_node(  # type: ignore[no-untyped-call]
            notebook, resources=resources, **kw
        )
        return written


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
    network = List(
        Unicode(), help="Hosts with their ports that a student's cells may reach; by default none."
    ).tag(config=True)

    @validate("network")
    def _hosts(self, proposal: Any) -> Any:
        for text in proposal.value:
            try:
                listed(text)
            except ValueError as error:
                raise TraitError(str(error)) from None
        return proposal.value

    run_all = Bool(False, help="Whether to run what is tagged `skip-grading`, too.").tag(
        config=True
    )

    timeout = Integer(
        None,
        allow_none=True,
        help="Seconds for a cell, where `limits` name none: nbgrader's own setting.",
    ).tag(config=True)

    mode = Enum(
        ["auto", "outside", "inside"],
        "auto",
        help="Where tests are judged: outside the student's process, inside a fork of it, or "
        "wherever the solution earns its points, outside if it can be.",
    ).tag(config=True)

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
        rules = rules_of(converter, resources["nbgrader"]["assignment"])
        files = submission_files(folder, rules)
        job = rules.job(resources["nbgrader"]["notebook"], nb, files.taken)
        key = job_key(job, isolated=self.sandbox)
        store = Store(work_folder(Path(converter.coursedir.root)) / "results")
        result = store.get(key)
        if result is None:
            result = Result.from_bytes(run(job.to_bytes(), self.sandbox))
            store.put(key, result)
        result.tampering = [*about.get("tampering", []), *files.refused.values(), *result.tampering]
        about.key = key
        plan = rules.plans.get(resources["nbgrader"]["notebook"], Plan())
        apply(nb, result, marks=rules.marks[0], counted=plan.counted)
        return nb, resources


class Released(NbGraderPreprocessor):  # type: ignore[misc]
    """Remembers what students are given as locked cells.

    A student who hands in a cell of an earlier release has not tampered with it.
    """

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Adds the locked cells of one notebook."""
        tests, scheme = ClearHiddenTests(parent=self), ClearMarkScheme(parent=self)
        marks = (
            (tests.begin_test_delimeter, tests.end_test_delimeter),
            (scheme.begin_mark_scheme_delimeter, scheme.end_mark_scheme_delimeter),
        )
        visible = Rules(marks=marks).visible
        root, assignment = self.parent.parent.coursedir.root, resources["nbgrader"]["assignment"]
        found = dict.fromkeys(_released(Path(root), assignment))
        for cell in nb.cells:
            about = cell.metadata.get("nbgrader", {})
            if about.get("locked"):
                found[digest(about.get("grade_id", ""), visible(cell.source))] = None
        path = _released_file(Path(root), assignment)
        write(path, json.dumps([*found], indent=0).encode())
        return nb, resources


class CourseSecret(NbGraderPreprocessor):  # type: ignore[misc]
    """Replaces the string `"course secret"` in hidden tests by the course's secret.

    It belongs in `GenerateAssignment.preprocessors` before the cells are saved, so that the
    gradebook has the secret. The hidden tests do not reach the release, and so neither does it.
    Where nothing is replaced the string itself serves as a seed.
    """

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Replaces it in the hidden regions of one cell."""
        if cell.cell_type == "code" and _PLACEHOLDER.search(cell.source):
            marks = ClearHiddenTests(parent=self)
            root = Path(self.parent.parent.coursedir.root)  # preprocessor, exporter, converter
            quoted = f'"{course_secret(root)}"'
            cell.source = "\n".join(
                _PLACEHOLDER.sub(quoted, line) if hidden else line
                for line, hidden in hidden_lines(
                    cell.source, marks.begin_test_delimeter, marks.end_test_delimeter
                )
            )
        return cell, resources


class HideTests(NbGraderPreprocessor):  # type: ignore[misc]
    """Takes hidden tests and their inputs out of a graded notebook before it becomes feedback.

    A cell that ran after one is shown as it was handed in.
    """

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict[str, Any], cell_index: int
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Removes hidden regions; one without an end reaches to the last line."""
        if "handed_in" in cell.metadata:
            handed_in(cell)
        marks = ClearHiddenTests(parent=self)
        if cell.metadata.get("nbgrader", {}).get("locked"):
            cell.source = strip_hidden(
                cell.source, marks.begin_test_delimeter, marks.end_test_delimeter
            )
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    hide_inputs(output)
        return cell, resources
