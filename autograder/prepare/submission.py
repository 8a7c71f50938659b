"""A submission: its notebooks restored, their jobs, and its files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nbformat import NotebookNode
from nbgrader.utils import parse_utc

from autograder.bindings import needed
from autograder.hidden import strip_hidden
from autograder.job import Cell, Job, Limits, Role
from autograder.prepare.files import (
    ABOUT_SUBMISSION,
    Files,
    Refused,
    odd_name,
    read_bytes,
    read_files,
)
from autograder.prepare.notebook import blank, restore
from autograder.prepare.plan import Judged, Plan
from autograder.prepare.source import SourceNotebook

__all__ = [
    "Prepared",
    "Rules",
    "make_job",
    "prepare",
    "read_notebook",
    "set_aside",
    "submission_files",
]

NOTEBOOK_BYTES = 20 * 2**20


@dataclass(frozen=True)
class Rules:
    """The settings of a course on which a submission's jobs depend.

    Attributes:
        marks: pairs of marks around what students are not given of a locked cell.
        ignore: patterns for names of files that are left out, nbgrader's `CourseDirectory.ignore`.
        given: the instructor's files of the assignment, which take the place of a submission's.
        unneeded: sources of cells that grades do not depend on, as students are given them.
        released: what students were given as locked cells, now or before, each by its `digest`.
        limits: see `Job`.
        imports: see `Job`.
        withheld: see `Job`.
        network: see `Job`.
        mode: where tests are judged, the course's choice; `"auto"` leaves it to the plans.
        plans: by notebook, what its solution has shown.
    """

    marks: tuple[tuple[str, str], ...] = (("BEGIN HIDDEN TESTS", "END HIDDEN TESTS"),)
    ignore: tuple[str, ...] = ()
    given: Mapping[str, bytes] = field(default_factory=dict)
    unneeded: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    imports: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    mode: Literal["auto", "outside", "inside"] = "auto"
    plans: Mapping[str, Plan] = field(default_factory=dict)

    def visible(self, source: str) -> str:
        """What students are given of a locked cell."""
        for begin, end in self.marks:
            source = strip_hidden(source, begin, end)
        return source

    def job(self, name: str, notebook: NotebookNode, files: Mapping[str, bytes]) -> Job:
        """The job of a notebook that `restore` made."""
        plan = self.plans.get(name, Plan())
        made = make_job(
            notebook,
            files,
            limits=self.limits,
            imports=self.imports,
            withheld=self.withheld,
            given=self.given,
            visible=self.visible,
        )
        return dataclasses.replace(
            made,
            cells=tuple(self._placed(cell, plan) for cell in made.cells),
            asked=plan.asked,
            network=self.network,
            noticing=self.mode == "auto",
        )

    def _placed(self, cell: Cell, plan: Plan) -> Cell:
        if cell.role != "test":
            return cell
        if self.mode == "outside":
            objects = plan.objects is None or cell.id in plan.objects
            return dataclasses.replace(cell, objects=objects)
        if self.mode == "inside":
            return dataclasses.replace(cell, mode="inside")
        judged = plan.cells.get(cell.id, Judged())
        return dataclasses.replace(cell, mode=judged.mode, follows=judged.follows)


@dataclass
class Prepared:
    """A submission that is ready to run.

    Attributes:
        notebooks: restored, or blank with the reason in their metadata.
        jobs: of the notebooks that can be run.
        files: those beside the notebooks that are taken.
        about: nbgrader's own files beside them, such as `timestamp.txt`.
    """

    notebooks: dict[str, NotebookNode] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    about: dict[str, bytes] = field(default_factory=dict)


def prepare(folder: Path, sources: Mapping[str, SourceNotebook], rules: Rules) -> Prepared:
    """Reads one submission; whatever is wrong with it ends in a named reason."""
    made = Prepared()
    if folder.is_symlink() or not folder.is_dir():
        return set_aside(sources, "the submission is not a folder, but a link or a file")
    try:
        files = submission_files(folder, rules)
    except OSError as error:
        files = Files(refused={".": f"the files cannot be read: {error.strerror}"})
    for name, source in sources.items():
        path = folder / f"{name}.ipynb"
        if path.is_symlink() or path.exists():
            made.notebooks[name] = read_notebook(path, source, rules)
    if not made.notebooks:
        name, source = next(iter(sources.items()))
        others = _notebooks(folder)
        instead = f"; there is {', '.join(map(repr, others))}" if others else ""
        refused = Refused("missing", f"{name}.ipynb was not submitted{instead}")
        made.notebooks[name] = blank(source, refused)
    made.files = files.taken
    made.about, odd = _about(folder)
    for name, notebook in made.notebooks.items():
        told = [*notebook.metadata.autograder.get("tampering", []), *odd]
        notebook.metadata.autograder.tampering = [*told, *files.refused.values()]
        if "refused" not in notebook.metadata.autograder:
            made.jobs[name] = rules.job(name, notebook, files.taken)
    return made


def set_aside(sources: Mapping[str, SourceNotebook], why: str) -> Prepared:
    """A submission of which nothing is read."""
    refused = Refused("malformed", why)
    return Prepared({name: blank(source, refused) for name, source in sources.items()})


def read_notebook(path: Path, source: SourceNotebook, rules: Rules) -> NotebookNode:
    """The notebook in a file, restored; a blank one where it is refused."""
    try:
        data = read_bytes(path, NOTEBOOK_BYTES)
        notebook, tampering = restore(data, source, rules.visible, rules.unneeded, rules.released)
    except FileNotFoundError:
        return blank(source, Refused("missing", f"{path.name} was not submitted"))
    except Refused as refused:
        return blank(source, refused)
    except Exception as error:  # what nobody thought of must not stop the class either
        return blank(source, Refused("malformed", f"the notebook cannot be read: {error!r}"))
    if tampering:
        notebook.metadata.autograder.tampering = tampering
    return notebook


def submission_files(folder: Path, rules: Rules) -> Files:
    """A submission's files, the instructor's of the same name in their place.

    A student's file where the assignment has a folder, or the other way round, is refused.
    """
    files = read_files(folder, rules.ignore)
    folders = {str(folder) for name in rules.given for folder in Path(name).parents}
    for name in list(files.taken):
        if name in folders or any(str(folder) in rules.given for folder in Path(name).parents):
            files.refused[name] = f"{name} is in the place of a file of the assignment"
            del files.taken[name]
    files.taken |= rules.given
    return files


def _notebooks(folder: Path) -> list[str]:
    """The first few notebooks in a folder, whatever they are called."""
    with contextlib.suppress(OSError):
        names = (entry.name for entry in os.scandir(folder))
        return sorted(n for n in names if n.endswith(".ipynb") and odd_name(n) is None)[:3]
    return []


def _about(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """nbgrader's own files beside the notebooks, and what is wrong with them."""
    about: dict[str, bytes] = {}
    odd: list[str] = []
    for name in ABOUT_SUBMISSION:
        try:
            data = read_bytes(folder / name, 1000)
            if name == "timestamp.txt":
                parse_utc(data.decode().strip())
            about[name] = data
        except FileNotFoundError:
            continue
        except Refused as refused:
            odd.append(str(refused))
        except Exception:  # dateutil raises many things
            odd.append("timestamp.txt holds no time; the submission counts as one without")
    return about, odd


def make_job(
    notebook: NotebookNode,
    files: Mapping[str, bytes],
    *,
    limits: Limits | None = None,
    imports: Iterable[str] = (),
    withheld: Iterable[str] = (),
    given: Iterable[str] = (),
    visible: Callable[[str], str] = strip_hidden,
) -> Job:
    """The job of a notebook that `restore` made.

    A name that a test binds may be used by later cells of the student's process. So the part of the
    test that students can see is run there, too.
    """
    cells: list[Cell] = []
    earlier: list[tuple[str | None, str]] = []
    wanted: set[str] = set()
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        meta = cell.metadata.get("nbgrader", {})
        role: Role = "student"
        if meta.get("locked") and not meta.get("solution"):
            role = "test" if meta.get("grade") else "shared"
        # A grade_id has no blank, so no other cell can take its name.
        name = meta.get("grade_id") or f"cell {position}"
        cells.append(Cell(name, role, cell.source, "shown" not in cell.metadata))
        if role == "test":
            earlier.append((name, visible(cell.source)))
        else:
            wanted.update(needed(cell.source, earlier))
            earlier.append((None, cell.source))
    binds = {name: text for name, text in earlier if name in wanted}
    return Job(
        cells=tuple(dataclasses.replace(c, binds=binds.get(c.id, "")) for c in cells),
        files=dict(sorted(files.items())),
        limits=limits or Limits(),
        imports=tuple(imports),
        withheld=tuple(withheld),
        given=tuple(sorted(given)),
    )
