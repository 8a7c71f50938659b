"""Stage 1: makes of a submitted notebook, which nobody vouches for, a clean notebook and a job.

Everything that nbgrader decides by comes from the gradebook: which cells are locked, graded,
worth how many points, what the locked ones say and in what order they stand. Of the submission
remain the sources of the student's own cells, attached pictures, and plain files.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell
from nbgrader.api import Gradebook

from autograder.job import Cell, Job, Limits, Reason, Role
from autograder.pool import environment

__all__ = [
    "VERSION",
    "Refused",
    "SourceCell",
    "SourceNotebook",
    "Files",
    "source_notebooks",
    "read_bytes",
    "read_files",
    "odd_name",
    "restore",
    "blank",
    "strip_hidden",
    "hidden_lines",
    "make_job",
    "job_key",
]

VERSION = 3
"""Of the grader's verdicts: raised when the same job may end otherwise, so that it runs again."""

NOTEBOOK_BYTES = 20 * 2**20
FILES_BYTES = 64 * 2**20
FILES_COUNT = 1000
NAME_BYTES = 200
PATH_BYTES = 1000
CELLS_COUNT = 2000

#: nbgrader's own files beside a submission: no part of the work.
ABOUT_SUBMISSION = ("timestamp.txt", "submission_secret.txt")

_NEW_CELL = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}
_TAGS = ("skip-execution", "remove-cell", "remove-output")
_PICTURES = ("image/png", "image/jpeg", "image/gif")


class Refused(Exception):
    """A file or a notebook that cannot be graded: the named reason, and what was found."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass(frozen=True)
class SourceCell:
    """A cell as the gradebook has it: what `nbgrader generate_assignment` kept."""

    name: str
    cell_type: str
    source: str
    locked: bool
    grade: bool
    solution: bool
    task: bool
    points: float
    checksum: str | None

    def metadata(self) -> dict[str, Any]:
        """The cell's metadata in nbgrader's schema 3."""
        nbgrader: dict[str, Any] = {
            "schema_version": 3,
            "grade_id": self.name,
            "grade": self.grade,
            "solution": self.solution,
            "locked": self.locked,
            "task": self.task,
            "cell_type": self.cell_type,
        }
        if self.grade or self.task:
            nbgrader["points"] = self.points
        if self.checksum:
            nbgrader["checksum"] = self.checksum
        metadata: dict[str, Any] = {"deletable": False, "nbgrader": nbgrader}
        if self.locked:
            metadata["editable"] = False
        return metadata


@dataclass(frozen=True)
class SourceNotebook:
    """A notebook of an assignment as the gradebook has it, its cells in their order."""

    name: str
    kernelspec: Mapping[str, Any]
    cells: tuple[SourceCell, ...]

    @property
    def is_python(self) -> bool:
        """Whether its kernel runs Python, the one language there is a sandbox for."""
        language = str(self.kernelspec.get("language") or "").lower()
        return language == "python" or not language


def source_notebooks(gradebook: Gradebook, assignment: str) -> dict[str, SourceNotebook]:
    """The notebooks of an assignment, by name.

    Raises:
        nbgrader.api.MissingEntry: the gradebook has no such assignment.
    """
    notebooks = {}
    for notebook in gradebook.find_assignment(assignment).notebooks:
        points = {c.name: float(c.max_score) for c in notebook.grade_cells + notebook.task_cells}
        grade = {c.name for c in notebook.grade_cells}
        solution = {c.name for c in notebook.solution_cells}
        task = {c.name for c in notebook.task_cells}
        cells = tuple(
            SourceCell(
                name=cell.name,
                cell_type=cell.cell_type,
                source=cell.source or "",
                locked=bool(cell.locked),
                grade=cell.name in grade,
                solution=cell.name in solution,
                task=cell.name in task,
                points=points.get(cell.name, 0.0),
                checksum=cell.checksum,
            )
            for cell in notebook.source_cells
        )
        kernelspec = json.loads(notebook.kernelspec or "{}")
        notebooks[notebook.name] = SourceNotebook(notebook.name, kernelspec, cells)
    return notebooks


# Files


def odd_name(name: str) -> str | None:
    """What is wrong with a relative path of a submission, or `None`.

    >>> odd_name("data/points.csv")
    >>> odd_name("../gradebook.db")
    "leads out of the submission ('..')"
    """
    parts = name.split("/")
    try:
        size = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "is not in UTF-8"
    if name.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leads out of the submission ('..')"
    if "" in parts or "." in parts:
        return "has an empty part"
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "has control characters"
    if size > NAME_BYTES or len(name.encode()) > PATH_BYTES:
        return "is too long"
    return None


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that is its own: no link is followed, nothing waited for.

    Raises:
        Refused: it is a link, has hard links, is no regular file, or is larger than `limit` bytes.
        FileNotFoundError: there is none.
    """
    try:
        # A pipe would block for ever without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "is a link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise Refused("malformed", f"{path.name} {what}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("malformed", f"{path.name} is no regular file")
        if status.st_nlink > 1:
            raise Refused("malformed", f"{path.name} is a hard link: copy the file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise Refused("malformed", f"{path.name} is larger than {limit / 2**20:.0f} MiB")
    return data


@dataclass
class Files:
    """The files of a folder beside its notebooks: what is taken, and what is not and why."""

    taken: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    if prefix.count("/") > 20:
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")


def read_files(folder: Path, ignore: Iterable[str] = ()) -> Files:
    """The plain files of a submission, without its notebooks and nbgrader's own files.

    Args:
        folder: of the submission.
        ignore: patterns for names that are left out, nbgrader's `CourseDirectory.ignore`.
    """
    files = Files()
    patterns = [*ignore, "*.ipynb", *ABOUT_SUBMISSION]
    size = 0
    for name, entry in _walk(folder):
        if any(fnmatch.fnmatch(part, p) for part in name.split("/") for p in patterns):
            continue
        shown = name.encode("unicode_escape").decode()[:100]
        if len(files.taken) + len(files.refused) >= FILES_COUNT:
            files.refused[name] = f"there are more than {FILES_COUNT} files"
            break
        if odd := odd_name(name):
            files.refused[name] = f"the name {shown} {odd}"
        elif not entry.is_dir(follow_symlinks=False):
            try:
                files.taken[name] = read_bytes(Path(entry.path), FILES_BYTES - size)
                size += len(files.taken[name])
            except (Refused, OSError) as error:
                files.refused[name] = str(error)
    return files


# The notebook


def _text(value: object) -> str:
    """A source, which nbformat allows to be a list of lines; without what breaks later steps."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        raise Refused("malformed", "the source of a cell is no text")
    # A lone surrogate cannot be written, a NUL not be shown.
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _read(data: bytes) -> dict[str, Any]:
    """The notebook's JSON, as nbformat 4."""
    try:
        record = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Refused("malformed", "the notebook is not in UTF-8") from None
    except RecursionError:
        raise Refused("malformed", "the notebook's JSON is nested too deep") from None
    except ValueError as error:
        what = "is empty" if not data.strip() else f"is no JSON: {error}"
        raise Refused("malformed", f"the notebook {what}") from None
    if not isinstance(record, dict):
        raise Refused("malformed", "the notebook is no JSON object")
    version = record.get("nbformat")
    if version in (1, 2, 3) and not isinstance(version, bool):
        try:
            record = nbformat.convert(nbformat.from_dict(record), 4)
        except Exception as error:  # whatever an old format's converter stumbles on
            raise Refused(
                "malformed", f"the notebook is not a valid notebook of nbformat {version}"
            ) from error
    elif version != 4:
        raise Refused("malformed", "the notebook names no format (nbformat) that is known")
    cells = record.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Refused("malformed", "the notebook has no list of cells")
    if len(cells) > CELLS_COUNT:
        raise Refused("malformed", f"the notebook has more than {CELLS_COUNT} cells")
    return dict(record)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _attachments(cell: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The pictures pasted into a Markdown cell."""
    kept: dict[str, dict[str, str]] = {}
    for name, bundle in _dict(cell.get("attachments")).items():
        for mime in _PICTURES:
            picture = _dict(bundle).get(mime)
            if isinstance(picture, str) and odd_name(name) is None:
                try:
                    base64.b64decode(picture.replace("\n", ""), validate=True)
                except ValueError:
                    continue
                kept.setdefault(name, {})[mime] = picture
    return kept


def _new_cell(kind: str, source: str, metadata: dict[str, Any]) -> NotebookNode:
    new: Callable[..., NotebookNode] = _NEW_CELL[kind]
    return new(source, metadata=nbformat.from_dict(metadata))


def _assemble(source: SourceNotebook, cells: Sequence[NotebookNode]) -> NotebookNode:
    for position, cell in enumerate(cells):
        cell["id"] = f"cell-{position}"
    metadata = {"language_info": {"name": "python"}, "autograder": {"version": VERSION}}
    if {"name", "display_name"} <= source.kernelspec.keys():
        metadata["kernelspec"] = dict(source.kernelspec)
    notebook: NotebookNode = new_notebook(cells=list(cells), metadata=nbformat.from_dict(metadata))
    return notebook


def strip_hidden(
    source: str, begin: str = "BEGIN HIDDEN TESTS", end: str = "END HIDDEN TESTS"
) -> str:
    r"""A cell's source without its hidden tests, as nbgrader releases it.

    >>> strip_hidden("a\n### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\nc")
    'a\nc'
    """
    return "\n".join(line for line, hidden in hidden_lines(source, begin, end) if not hidden)


def hidden_lines(source: str, begin: str, end: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it belongs to a hidden test (its marks do)."""
    inside = False
    for line in source.split("\n"):
        marks = begin in line or end in line
        if marks:
            inside = begin in line
        yield line, inside or marks


def restore(
    data: bytes, source: SourceNotebook, visible: Callable[[str], str] = strip_hidden
) -> tuple[NotebookNode, list[str]]:
    """The submitted notebook with all that nbgrader decides by put back.

    Cells that the gradebook knows stand in its order, each followed by the student's own cells
    that followed it; the locked ones say what the gradebook has; those missing come back. Of a
    cell that is there more than once the last counts, as in nbgrader; the others stay as cells of
    the student's own, unless they were locked. No outputs and no other metadata remain.

    Args:
        data: the submitted file.
        source: the notebook as the gradebook has it.
        visible: makes of a locked cell's source what students are given of it.

    Returns:
        The notebook, and a line for each thing that a student is not meant to change.

    Raises:
        Refused: `data` is no notebook.
    """
    record = _read(data)
    known = {cell.name: cell for cell in source.cells}
    tampering = []

    kernelspec = _dict(_dict(record.get("metadata")).get("kernelspec"))
    language = str(kernelspec.get("language") or "python").lower()[:40]
    if language != "python":
        tampering.append(f"the kernel was changed to one for {language!r}; it is Python's again")

    # The last copy of a cell counts.
    place: dict[str, int] = {}
    names: list[str | None] = []
    for position, cell in enumerate(record["cells"]):
        name = _dict(_dict(cell.get("metadata")).get("nbgrader")).get("grade_id")
        name = name if isinstance(name, str) and name in known else None
        names.append(name)
        if name:
            if name in place:
                tampering.append(f"the cell {name} is there more than once; the last one counts")
            place[name] = position
    order = [cell.name for cell in source.cells if cell.name in place]
    if order != sorted(order, key=place.__getitem__):
        tampering.append("the order of the assignment's cells was changed; it is put back")

    # Each known cell heads the student's own cells up to the next one.
    segments: dict[str | None, list[NotebookNode]] = {None: []}
    head: str | None = None
    for position, (cell, name) in enumerate(zip(record["cells"], names, strict=True)):
        kind, text = cell.get("cell_type"), _text(cell.get("source", ""))
        if not isinstance(kind, str) or kind not in _NEW_CELL:
            raise Refused("malformed", "a cell is neither code, Markdown nor raw text")
        tags = _dict(cell.get("metadata")).get("tags")
        if name and isinstance(tags, list) and (found := [t for t in tags if t in _TAGS]):
            tampering.append(f"the cell {name} carried the tag {found[0]}; it is dropped")
        if name and place[name] == position:
            head = name
            segments[head] = [_known_cell(known[name], kind, text, visible, tampering)]
            attachments = _attachments(cell) if kind == "markdown" else {}
            if attachments and segments[head][0].cell_type == "markdown":
                segments[head][0].attachments = nbformat.from_dict(attachments)
        elif name is None or not known[name].locked:
            own = _new_cell(kind, text, {})
            if kind == "markdown" and (attachments := _attachments(cell)):
                own.attachments = nbformat.from_dict(attachments)
            segments[head].append(own)

    cells = segments[None]
    for wanted in source.cells:
        if wanted.name not in segments:
            tampering.append(f"the cell {wanted.name} was deleted; it is put back")
            segments[wanted.name] = [_new_cell(wanted.cell_type, wanted.source, wanted.metadata())]
        cells += segments[wanted.name]
    return _assemble(source, cells), tampering


def _known_cell(
    wanted: SourceCell,
    kind: str,
    text: str,
    visible: Callable[[str], str],
    tampering: list[str],
) -> NotebookNode:
    if kind != wanted.cell_type:
        tampering.append(
            f"the cell {wanted.name} was turned from {wanted.cell_type} to {kind}; it is put back"
        )
    if wanted.locked:
        if visible(text).strip() != visible(wanted.source).strip():
            tampering.append(f"the locked cell {wanted.name} was changed; it is put back")
        text = wanted.source
    return _new_cell(wanted.cell_type, text, wanted.metadata())


def blank(source: SourceNotebook, refused: Refused) -> NotebookNode:
    """The notebook as it was released, to stand for one that cannot be graded."""
    cells = [_new_cell(cell.cell_type, cell.source, cell.metadata()) for cell in source.cells]
    notebook = _assemble(source, cells)
    notebook.metadata.autograder.refused = [refused.reason, str(refused)]
    return notebook


# The job


def make_job(
    notebook: NotebookNode,
    files: Mapping[str, bytes],
    *,
    limits: Limits | None = None,
    imports: Iterable[str] = (),
    withheld: Iterable[str] = (),
) -> Job:
    """The job of a notebook that `restore` made."""
    cells = []
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        meta = cell.metadata.get("nbgrader", {})
        role: Role = "student"
        if meta.get("locked") and not meta.get("solution"):
            role = "test" if meta.get("grade") else "shared"
        # A grade_id has no blank, so no other cell can take its name.
        cells.append(Cell(meta.get("grade_id") or f"cell {position}", role, cell.source))
    return Job(
        cells=tuple(cells),
        files=dict(sorted(files.items())),
        limits=limits or Limits(),
        imports=tuple(imports),
        withheld=tuple(withheld),
    )


def job_key(job: Job, *, isolated: bool = True) -> str:
    """A name for all that a job's result depends on: itself, the packages, this grader."""
    digest = hashlib.sha256(job.to_bytes())
    modules = tuple(sorted({name.split(".")[0] for name in (*job.imports, *job.withheld)}))
    digest.update(json.dumps([VERSION, isolated, environment(modules)]).encode())
    return digest.hexdigest()
