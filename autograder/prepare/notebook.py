"""A submitted notebook, which nobody vouches for, with all that nbgrader decides by put back.

Everything that nbgrader decides by comes from the gradebook: which cells are locked, graded,
worth how many points, what the locked ones say and in what order they stand. Only the sources of
the student's own cells and attached pictures remain of the submission.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from autograder.hidden import strip_hidden
from autograder.job import VERSION
from autograder.prepare.files import Refused, odd_name
from autograder.prepare.source import SourceCell, SourceNotebook, digest

__all__ = ["blank", "parse", "restore"]

CELLS_COUNT = 2000
VALUES_COUNT = 2_000_000
SOURCES_MEMORY = 24 * 2**20
OLD_BYTES = 256_000
OUTPUTS_COUNT = 50
OUTPUTS_BYTES = 2**20
ALL_OUTPUTS_BYTES = 4 * 2**20

_KINDS = ("code", "markdown", "raw")
_TAGS = ("skip-execution", "remove-cell", "remove-output")
_OF_OUTPUTS = ("output_type", "name", "text", "ename", "evalue")
_PICTURES = ("image/png", "image/jpeg", "image/gif")


def _text(value: object) -> str:
    """A source, which nbformat allows to be a list of lines; without what breaks later steps."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        raise Refused("malformed", "the source of a cell is not text")
    # A lone surrogate cannot be written, and a NUL cannot be shown.
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def parse(data: bytes) -> Any:
    """The JSON of a notebook, in memory of a known size.

    20 MB of `{"a":[]},` would take 660 MB. The number of values is bounded by that of the signs
    before them, which also counts those in texts.

    Raises:
        Refused: it is not JSON in UTF-8, or holds too many values.
    """
    if sum(data.count(sign) for sign in (b",", b"[", b"{")) > VALUES_COUNT:
        raise Refused(
            "malformed",
            f"the notebook holds more than {VALUES_COUNT:,} values: clear its outputs in "
            "JupyterLab, save it, and submit it again",
        )
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Refused("malformed", "the notebook is not in UTF-8") from None
    except RecursionError:
        raise Refused("malformed", "the notebook's JSON is nested too deep") from None
    except ValueError as error:
        what = "is empty" if not data.strip() else f"is not JSON: {error}"
        raise Refused("malformed", f"the notebook {what}") from None


def _read(data: bytes) -> dict[str, Any]:
    """The notebook's JSON, as nbformat 4."""
    record = parse(data)
    if not isinstance(record, dict):
        raise Refused("malformed", "the notebook is not a JSON object")
    version = record.get("nbformat")
    if version in (1, 2, 3) and not isinstance(version, bool):
        if len(data) > OLD_BYTES:  # to convert one takes memory and time out of proportion
            raise Refused(
                "malformed",
                f"a notebook of nbformat {version} may have {OLD_BYTES // 1000} kB: open it in "
                "JupyterLab, save it, and submit it again",
            )
        if any(type(level) is not int or not 1 <= level <= 6 for level in _levels(record)):
            # The converter writes as many signs: a level of a billion would take the memory.
            raise Refused("malformed", "the level of a heading is not a whole number from 1 to 6")
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


def _levels(record: dict[str, Any]) -> Iterator[object]:
    """The levels of an old notebook's headings."""
    sheets = record.get("worksheets")
    for sheet in [record, *(sheets if isinstance(sheets, list) else [])]:
        cells = _dict(sheet).get("cells")
        for cell in cells if isinstance(cells, list) else []:
            if "level" in _dict(cell):
                yield cell["level"]


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


def _outputs(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs that a submission holds, up to a number and a size; as yet unsafe to show.

    Only the texts that can be shown are kept: what is nested deep could not be written again.
    """
    found = cell.get("outputs")
    kept: list[dict[str, Any]] = []
    size = 0
    for output in map(_dict, (found if isinstance(found, list) else [])[:OUTPUTS_COUNT]):
        lines = output.get("traceback")
        plain = {
            **{name: _shown(output.get(name)) for name in _OF_OUTPUTS if name in output},
            "traceback": [*map(_shown, lines)] if isinstance(lines, list) else [],
            "data": {_shown(kind): _shown(v) for kind, v in _dict(output.get("data")).items()},
        }
        size += len(json.dumps(plain))
        if size <= OUTPUTS_BYTES:
            kept.append(plain)
    return kept


def _shown(value: object) -> str:
    """A text of an output; an empty one for what is not a text."""
    try:
        return _text(value)
    except Refused:
        return ""


def _keep_outputs(new: NotebookNode, cell: dict[str, Any], unneeded: Collection[str]) -> None:
    """Keeps what a code cell shows in the submission.

    A cell that need not run is shown with it, unless the student has changed anything there; others
    are in feedback, where their own outputs could tell of hidden tests.
    """
    if new.cell_type == "code":
        name = "shown" if new.source.strip() in unneeded else "handed_in"
        new.metadata[name] = nbformat.from_dict(_outputs(cell))


def _forget_outputs(cells: Sequence[NotebookNode]) -> None:
    """Keeps the outputs of cells that run, up to a total size."""
    size = 0
    for cell in cells:
        if "handed_in" in cell.metadata:
            size += len(json.dumps(cell.metadata.handed_in))
            if size > ALL_OUTPUTS_BYTES:
                cell.metadata.handed_in = []


def _new_cell(kind: str, source: str, metadata: dict[str, Any]) -> NotebookNode:
    # The notebook is validated as a whole, so its cells are not made by nbformat's new_code_cell.
    fields: dict[str, Any] = {"cell_type": kind, "metadata": metadata, "source": source}
    if kind == "code":
        fields |= {"execution_count": None, "outputs": []}
    cell: NotebookNode = nbformat.from_dict(fields)
    return cell


def _assemble(source: SourceNotebook, cells: Sequence[NotebookNode]) -> NotebookNode:
    for position, cell in enumerate(cells):
        cell["id"] = f"cell-{position}"
    metadata = {"language_info": {"name": "python"}, "autograder": {"version": VERSION}}
    if {"name", "display_name"} <= source.kernelspec.keys():
        metadata["kernelspec"] = dict(source.kernelspec)
    notebook: NotebookNode = new_notebook(cells=list(cells), metadata=nbformat.from_dict(metadata))
    return notebook


def restore(
    data: bytes,
    source: SourceNotebook,
    visible: Callable[[str], str] = strip_hidden,
    unneeded: Collection[str] = (),
    released: Collection[str] = (),
) -> tuple[NotebookNode, list[str]]:
    """The submitted notebook with all that nbgrader decides by put back.

    Cells that the gradebook knows stand in its order, each followed by the student's own cells
    that followed it; the locked ones say what the gradebook has; those missing come back. Where a
    cell is there more than once, the last one counts, as in nbgrader; the others stay as cells of
    the student's own, unless they were locked. No outputs and no other metadata remain, except that
    the metadata of cells other than tests hold the submission's outputs: as `shown` where they need
    not be run, else as `handed_in`.

    Args:
        data: the submitted file.
        source: the notebook as the gradebook has it.
        visible: makes of a locked cell's source what students are given of it.
        unneeded: sources of cells that no grade depends on.
        released: what students were given as locked cells before, each by its `digest`.

    Returns:
        The notebook, and a line for each thing that a student is not meant to change.

    Raises:
        Refused: `data` is not a notebook.
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
    memory = 0
    for position, (cell, name) in enumerate(zip(record["cells"], names, strict=True)):
        kind, text = cell.get("cell_type"), _text(cell.get("source", ""))
        memory += sys.getsizeof(text)  # one letter that is not Latin makes a text four times as big
        if memory > SOURCES_MEMORY:
            raise Refused("malformed", "the cells hold too much text: remove what is not yours")
        if kind not in _KINDS:
            raise Refused("malformed", "a cell is neither code, Markdown nor raw text")
        tags = _dict(cell.get("metadata")).get("tags")
        if name and isinstance(tags, list) and (found := [t for t in tags if t in _TAGS]):
            tampering.append(f"the cell {name} carried the tag {found[0]}; it is dropped")
        if name and place[name] == position:
            head = name
            segments[head] = [_known_cell(known[name], kind, text, visible, released, tampering)]
            if not known[name].locked:
                _keep_outputs(segments[head][0], cell, ())
            elif not known[name].grade:
                _keep_outputs(segments[head][0], cell, unneeded)
            attachments = _attachments(cell) if kind == "markdown" else {}
            if attachments and segments[head][0].cell_type == "markdown":
                segments[head][0].attachments = nbformat.from_dict(attachments)
        elif name is None or not known[name].locked:
            own = _new_cell(kind, text, {})
            _keep_outputs(own, cell, unneeded)
            if kind == "markdown" and (attachments := _attachments(cell)):
                own.attachments = nbformat.from_dict(attachments)
            segments[head].append(own)

    cells = segments[None]
    for wanted in source.cells:
        if wanted.name not in segments:
            tampering.append(f"the cell {wanted.name} was deleted; it is put back")
            segments[wanted.name] = [_new_cell(wanted.cell_type, wanted.source, wanted.metadata())]
        cells += segments[wanted.name]
    _forget_outputs(cells)
    return _assemble(source, cells), tampering


def _known_cell(
    wanted: SourceCell,
    kind: str,
    text: str,
    visible: Callable[[str], str],
    released: Collection[str],
    tampering: list[str],
) -> NotebookNode:
    if kind != wanted.cell_type:
        tampering.append(
            f"the cell {wanted.name} was turned from {wanted.cell_type} to {kind}; it is put back"
        )
    if wanted.locked:
        given = visible(text).strip()
        was_given = digest(wanted.name, given) in released
        if given != visible(wanted.source).strip() and not was_given:
            tampering.append(f"the locked cell {wanted.name} was changed; it is put back")
        text = wanted.source
    return _new_cell(wanted.cell_type, text, wanted.metadata())


def blank(source: SourceNotebook, refused: Refused) -> NotebookNode:
    """The notebook as it was released, to stand for one that cannot be graded."""
    cells = [_new_cell(cell.cell_type, cell.source, cell.metadata()) for cell in source.cells]
    notebook = _assemble(source, cells)
    notebook.metadata.autograder.refused = [refused.reason, str(refused)]
    return notebook
