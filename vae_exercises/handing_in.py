"""Whether a notebook's file is named right, complete and saved, and what to hand in.

The fingerprint that students see belongs to what stands in the cells, not to outputs, so it stays
the same when the notebook is saved again. Of a file that has been handed in, this prints it, too:

    python -m vae_exercises.handing_in submitted/*/3-kl/3-kl.ipynb
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from vae_exercises.lines import filled

__all__ = ["fingerprint", "hand_in"]

COLAB = """\
Colab keeps the notebook in Google Drive, where this cell cannot look. So, by hand:
  1. Save: File → Save, or Ctrl+S.
  2. Download: File → Download → Download .ipynb.
  3. See that the file is called {name}, without “(1)” or “Copy of”; rename it if not.
  4. Hand in this file.\
"""
FRESH = (
    "Take a fresh copy of {name} from the zip file, in a folder of its own, and copy your "
    "functions into its cells."
)
# What reading a file raises that is cut off, or nested without end, or no file.
_BROKEN = (OSError, ValueError, RecursionError, nbformat.ValidationError)
AGAIN = "Save with Ctrl+S (⌘S on a Mac), and run this cell again."


def hand_in(assignment: str, cells: Mapping[str, bool], notebook: Path | None = None) -> None:
    """Print what to hand in, or what is to be done before.

    Arguments:
        assignment: its name, such as "3-kl".
        cells: the name of each cell that nbgrader knows, and whether a student writes in it.
        notebook: the file; by default the one that this is called from.
    """
    name = f"{assignment}.ipynb"
    if "google.colab" in sys.modules:
        print(COLAB.format(name=name))
        return
    shell = _shell()
    path = notebook or _find(name, shell.user_ns if shell else {})
    if path is None:
        print(
            filled(
                f"Do not hand in yet: there is no {name} in the folder {Path.cwd()}.\n"
                "Has the notebook been renamed or moved while it was open? Give it the name "
                f"{name}, close it, open it again, and choose Run → Run All Cells."
            )
        )
        return
    ran = list(shell.history_manager.input_hist_raw) if shell else []
    found = _look(path, name, cells, ran)
    if found.problems:
        print("Do not hand in yet:")
        print(*(filled(problem, "  ✗ ") for problem in found.problems), sep="\n")
        return
    saved = datetime.fromtimestamp(path.stat().st_mtime)
    print(f"✓ {name} is complete and saved.")
    for doubt in found.doubts:
        print(filled(doubt, "  But: "))
    print(
        f"Hand in this file:\n  {path}\n"
        f"  saved on {saved:%d %B at %H:%M:%S}, fingerprint {fingerprint(path)}\n"
        "Your instructor can print the fingerprint, too: if it is the same, your work has arrived."
    )


def fingerprint(path: Path) -> str:
    """Eight digits that change whenever anything in a cell does, though not with the outputs."""
    notebook = _read(path)
    written = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Found:
    problems: list[str]
    doubts: list[str]


def _look(path: Path, name: str, cells: Mapping[str, bool], ran: list[str]) -> _Found:
    """What speaks against handing in this file, and what may."""
    problems = [_misnamed(path, name)] if path.name != name else []
    try:
        notebook = _read(path)
    except _BROKEN:
        problems.append(
            f"The file {path.name} is not a whole notebook: it may have been cut off. {AGAIN} "
            f"If this does not help: {FRESH.format(name=name)}"
        )
        return _Found(problems, [])
    named = [(cell.metadata.get("nbgrader", {}).get("grade_id"), cell) for cell in notebook.cells]
    known = {grade_id: cell for grade_id, cell in named if grade_id in cells}
    if missing := [grade_id for grade_id in cells if grade_id not in known]:
        problems.append(f"Missing: the {_list(missing, 'cell')}. {FRESH.format(name=name)}")
    counts = Counter(grade_id for grade_id, _ in named if grade_id in cells)
    if twice := [grade_id for grade_id, count in counts.items() if count > 1]:
        problems.append(
            f"More than once in the notebook: the {_list(twice, 'cell')}. Keep the one that "
            f"you want to be graded, and delete the others. {AGAIN}"
        )
    for grade_id, cell in known.items():
        problems.extend(_of_another_kind(grade_id, cell, cells[grade_id]))
    mine = {grade_id: cell for grade_id, cell in known.items() if cells[grade_id]}
    texts = {_plain(cell.source) for cell in notebook.cells if cell.cell_type == "code"}
    never, stale = [], []
    for grade_id, cell in mine.items():
        last = _last(cell.source, ran)
        if ran and last is None and _defined(cell.source):
            never.append(grade_id)
        if last is not None and _plain(last) not in texts:
            stale.append(grade_id)
    if stale:
        problems.append(
            f"In the {_list(stale, 'cell')} the file is not what you ran last. Run "
            f"{'it' if len(stale) == 1 else 'them'}. {AGAIN}"
        )
    doubts = []
    if unwritten := [grade_id for grade_id, cell in mine.items() if _unwritten(cell)]:
        doubts.append(
            f"Nothing is written yet in the {_list(unwritten, 'cell')}. You may hand in all the "
            "same; you lose only their points."
        )
    if never := [grade_id for grade_id in never if grade_id not in unwritten]:
        doubts.append(
            f"Since the notebook was opened you have not run the {_list(never, 'cell')}. Choose "
            "Run → Run All Cells, and see whether the checks still pass."
        )
    # What a browser or JupyterLab calls a second copy.
    if copies := sorted(path.parent.glob(f"{Path(name).stem}[ (-]*.ipynb")):
        others = ", ".join(copy.name for copy in copies if copy != path)
        doubts.append(f"Beside it there is {others}. Make sure that {name} is the right one.")
    return _Found(problems, doubts)


def _shell() -> Any:
    """The running IPython, or nothing."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _find(name: str, names: Mapping[str, Any]) -> Path | None:
    """The file of the notebook that this runs in: as VS Code or Jupyter says, or by its name."""
    said = (names.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME"))
    paths = [Path(path) for path in said if path and path.endswith(".ipynb")]
    # Jupyter says where the notebook was when it was opened.
    return next((path for path in [*paths, Path.cwd() / name] if path.is_file()), None)


def _read(path: Path) -> NotebookNode:
    """The notebook; a `ValueError` or `ValidationError` where the file is not one."""
    text = path.read_text("utf-8")
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("nbformat") != 4:
        raise ValueError(f"{path} is not a notebook of format 4")
    nbformat.validate(content)
    notebook: NotebookNode = nbformat.reads(text, as_version=4)
    return notebook


def _misnamed(path: Path, name: str) -> str:
    other = (
        f"There is a file {name} beside it, too: see which of the two holds your work, and move "
        "the other one away first. "
        if path.with_name(name).exists()
        else ""
    )
    return (
        f"The file is called “{path.name}”, and must be called “{name}”. {other}Rename it in "
        "JupyterLab: right-click its name in the list on the left, Rename. Then run this cell "
        "again."
    )


def _of_another_kind(grade_id: str, cell: NotebookNode, mine: bool) -> list[str]:
    """Whether it has turned into text or code by a slip, or nbgrader would not know it again."""
    cell_named = _list([grade_id], "cell")
    noted = cell.metadata.nbgrader
    if cell.cell_type != (kind := noted.get("cell_type", cell.cell_type)):
        now, key = ("text", "Y") if kind == "code" else ("code", "M")
        return [f"The {cell_named} has become {now}. Click beside it, and press {key}. {AGAIN}"]
    if noted.get("solution", False) != mine or noted.get("locked", False) == mine:
        return [f"nbgrader would not know the {cell_named} again. {FRESH.format(name='it')}"]
    return []


def _unwritten(cell: NotebookNode) -> bool:
    return bool(re.search(r"^\s*raise NotImplementedError\(\)|YOUR ANSWER HERE", cell.source, re.M))


def _defined(source: str) -> set[str]:
    """The functions and classes that a cell defines, also if it has a syntax error or a magic."""
    return set(re.findall(r"^(?:async +)?(?:def|class) +(\w+)", source, re.M))


def _last(source: str, ran: list[str]) -> str | None:
    """What was run last of all that defines one of the same names."""
    names = _defined(source)
    return next((entry for entry in reversed(ran) if names & _defined(entry)), None)


def _plain(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def _list(names: list[str], what: str) -> str:
    quoted = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{what}{'s' if len(names) > 1 else ''} {quoted}"


def main(paths: list[str]) -> int:
    """Print the fingerprints of files; 1 where one of them cannot be read as a notebook."""
    broken = False
    for path in paths:
        try:
            print(fingerprint(Path(path)), path)
        except _BROKEN:
            print(f"{path} cannot be read as a notebook", file=sys.stderr)
            broken = True
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
