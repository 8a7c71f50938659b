"""Make a page of each exercise as it is released, next to its chapter.

The notebooks that nbgrader's `generate_assignment` would release are written to
`chapters/exercises/`, which is not in the repository. They come from the same preprocessors,
without the gradebook. The page offers the notebook for download. The page is not executed, because
its functions are not written yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

PAGES = "chapters/exercises"

NOTE = """```{{admonition}} Do this in JupyterLab
:class: tip exercise-note
Read {{ref}}`the chapter <{chapter}>` first. Then
<a href="../../_sources/{page}.ipynb" download>download {name}.ipynb</a>, or find it in the folder
of all exercises, and open it as the {{ref}}`student-guide` explains.
```"""


def released(source: Path) -> NotebookNode:
    """The notebook without solutions, hidden tests and marking scheme."""
    notebook = nbformat.read(source, as_version=4)
    resources: dict[str, Any] = {}
    for preprocessor in (
        LockCells,
        ClearSolutions,
        ClearOutput,
        CheckCellMetadata,
        ClearHiddenTests,
        ClearMarkScheme,
        ComputeChecksums,
        CheckCellMetadata,
    ):
        notebook, resources = preprocessor().preprocess(notebook, resources)
    return notebook


def solved(source: Path) -> NotebookNode:
    """The released notebook with solutions, as a student would write them into it."""
    notebook = released(source)
    solutions = {cell.id: cell.source for cell in nbformat.read(source, as_version=4).cells}
    for cell in notebook.cells:
        if "raise NotImplementedError" in cell.source:
            lines = solutions[cell.id].splitlines()
            cell.source = "\n".join(line for line in lines if "### " not in line)
    return notebook


def sources(root: Path) -> list[Path]:
    """The source notebook of every exercise, in order."""
    return sorted((root / "solutions").glob("*/*.ipynb"))


def write_pages(app: Sphinx, config: Config) -> None:
    """Write the pages that have changed, and remove those of deleted exercises."""
    folder = Path(app.srcdir, PAGES)
    folder.mkdir(parents=True, exist_ok=True)
    pages = {source.name: page(released(source), source.stem) for source in sources(app.srcdir)}
    for old in folder.iterdir():
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:  # otherwise Sphinx reads it again
            path.write_text(text, "utf-8")


def page(notebook: NotebookNode, name: str) -> str:
    """The notebook for the page: not executed, and with a note on how to start."""
    items = yaml.safe_load(Path(__file__).with_name("lecture-items.yml").read_text("utf-8"))
    chapters = {exercise: chapter for chapter, exercise in items["chapters"].items()}
    if name not in chapters:
        raise ExtensionError(f"lecture-items.yml names no chapter for the exercise {name}")
    note = NOTE.format(chapter=chapters[name], page=f"{PAGES}/{name}", name=name)
    notebook.cells.insert(1, new_markdown_cell(note, id="how-to-start"))
    notebook.metadata["mystnb"] = {"execution_mode": "off"}
    return nbformat.writes(notebook)


def write_downloads(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebook where the page and the theme link to it."""
    if exception or app.builder.format != "html":
        return
    for source in sources(app.srcdir):
        path = Path(app.outdir, "_sources", PAGES, source.name)
        if path.parent.is_dir():
            nbformat.write(released(source), path)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", write_pages, priority=100)  # before the table of contents is read
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
