"""What students wrote: the lines of their answers that they were not given."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path

from nbformat import NotebookNode

from autograder.prepare.source import SourceCell, SourceNotebook
from autograder.prepare.submission import Rules, prepare, read_notebook

__all__ = ["Code", "given_code", "own_code", "solved_code", "written"]

Code = dict[str, str]
"""Python by the name of its cell, as `notebook: cell`."""


def own_code(folder: Path, sources: Mapping[str, SourceNotebook]) -> tuple[Code, str]:
    """A submission's answers without what was given, and why there are none."""
    notebooks = prepare(folder, sources, Rules()).notebooks
    refused = [n.metadata.autograder.get("refused", ["", ""])[1] for n in notebooks.values()]
    code = {
        key: text
        for name, notebook in notebooks.items()
        for key, text in _answers(sources[name], notebook).items()
        if text.strip()
    }
    return code, "" if code else next(filter(None, refused), "no answer was written")


def solved_code(folder: Path, sources: Mapping[str, SourceNotebook]) -> Code:
    """The answers of the course's own solution, as far as the source folder has it."""
    paths = {name: folder / f"{name}.ipynb" for name in sources}
    return {
        key: text
        for name, path in paths.items()
        if path.is_file()
        for key, text in _answers(
            sources[name], read_notebook(path, sources[name], Rules())
        ).items()
    }


def given_code(sources: Mapping[str, SourceNotebook], rules: Rules) -> Code:
    """All code that students are given: locked cells, and what their own cells begin with."""
    return {
        f"{name}: {cell.name}": _plain(rules.visible(cell.source))
        for name, source in sources.items()
        for cell in source.cells
        if cell.cell_type == "code"
    }


def written(given: str, text: str) -> str:
    r"""The lines of a cell that it did not have when it was given.

    >>> written("def f(x):\n    raise NotImplementedError", "def f(x):\n    y = x\n    return y")
    'y = x\nreturn y'
    """
    old, new = _plain(given).split("\n"), _plain(text).split("\n")
    same = SequenceMatcher(None, [o.strip() for o in old], [n.strip() for n in new], False)
    kept = [
        line
        for tag, _, _, begin, end in same.get_opcodes()
        if tag != "equal"
        for line in new[begin:end]
    ]
    return textwrap.dedent("\n".join(kept)).strip("\n")


def _answers(source: SourceNotebook, notebook: NotebookNode) -> Code:
    """What was written into the code cells that students are asked to fill in."""
    asked: dict[str, SourceCell] = {
        cell.name: cell for cell in source.cells if cell.solution and cell.cell_type == "code"
    }
    found = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    return {
        f"{source.name}: {name}": written(cell.source, found[name].source)
        for name, cell in asked.items()
        if name in found
    }


def _plain(text: str) -> str:
    """With one kind of line end and no tabs, so that places in it mean the same everywhere."""
    return "\n".join(line.expandtabs(4) for line in text.splitlines())
