"""Decides where each graded cell is judged: the strongest mode in which the solution earns it.

The solved notebooks of the source folder are run as submissions are, outside first. A cell that
does not earn its points there is run inside the student's process, and in the end after the tests
before it that are run there, too; a cell that earns them nowhere is reported. Each run has every
cell where it will be, since a test may leave something to those after it.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping

from nbformat import NotebookNode
from nbgrader.utils import determine_grade, has_failed, is_grade, is_solution

from autograder.atomic import write
from autograder.bindings import bound
from autograder.course import Course
from autograder.execute.store import Store, job_key
from autograder.job import CellResult, Job, Mode, Result, is_number
from autograder.prepare.plan import Judged, Plan, read_plans, written
from autograder.prepare.source import SourceNotebook
from autograder.prepare.submission import read_notebook, submission_files
from autograder.record.outcome import apply
from autograder.steps import plans_file

__all__ = ["decide", "described", "told"]

Run = Callable[[Job], Result]

_STEPS: tuple[tuple[Mode, bool], ...] = (("outside", False), ("inside", False), ("inside", True))
"""Where a cell is judged, and whether it follows the tests before it: the strongest first."""


def decide(
    course: Course,
    assignment: str,
    sources: Mapping[str, SourceNotebook],
    run: Run,
    *,
    isolated: bool = True,
) -> dict[str, Plan]:
    """The plans of an assignment's notebooks, decided anew where solution or tests have changed.

    Args:
        course: the course.
        assignment: its name.
        sources: its notebooks as the gradebook has them.
        run: runs a job.
        isolated: whether jobs run in a sandbox.

    Returns:
        By notebook; those without a solved notebook are left out.
    """
    rules = dataclasses.replace(course.rules(assignment), plans={})
    folder = course.source(assignment)
    notebooks, jobs, asked = {}, {}, {}
    for name, source in sources.items():
        path = folder / f"{name}.ipynb"
        if not path.is_file():
            continue
        notebook = read_notebook(path, source, rules)
        if "refused" in notebook.metadata.autograder:
            continue
        notebooks[name] = notebook
        jobs[name] = rules.job(name, notebook, submission_files(folder, rules).taken)
        asked[name] = _asked(source, notebook)
    keys = {name: job_key(job, isolated=isolated) for name, job in jobs.items()}
    digest = hashlib.sha256(json.dumps([keys, asked], sort_keys=True).encode()).hexdigest()
    file = plans_file(course.root, assignment)
    known, plans = read_plans(file)
    if known != digest:
        store = Store(course.work / "results")
        plans = {
            name: _plan(job, notebooks[name], asked[name], run, store, isolated)
            for name, job in jobs.items()
        }
        write(file, written(digest, plans))
    return plans


def _asked(source: SourceNotebook, notebook: NotebookNode) -> list[str]:
    """The names that the solution binds, or that the release binds in a cell to be filled."""
    locked = {cell.name for cell in source.cells if cell.locked}
    texts = [cell.source for cell in source.cells if not cell.locked and cell.cell_type == "code"]
    texts += [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.metadata.get("nbgrader", {}).get("grade_id") not in locked
    ]
    names = set().union(*map(bound, texts))
    return sorted(names)


def _plan(
    job: Job, notebook: NotebookNode, asked: list[str], run: Run, store: Store, isolated: bool
) -> Plan:
    """What one solved notebook shows."""

    def ran(job: Job) -> Result:
        key = job_key(job, isolated=isolated)
        result = store.get(key)
        if result is None:
            result = run(job)
            store.put(key, result)
        return result

    if not job.noticing:  # the course has chosen for all cells
        result = ran(job)
        unsure = tuple(cell.id for cell in result.cells if cell.unjudged)
        return Plan({}, tuple(asked), False, tuple(sorted(_counted(result))), unsure)
    counted: set[str] = set()
    steps: dict[str, int] = {}
    why: dict[str, tuple[str, str]] = {}
    while True:
        result = ran(_at(job, steps))
        counted |= _counted(result)
        cells = {cell.id: cell for cell in result.cells}
        again = False
        for name, full in _earned(notebook, result).items():
            step, cell = steps.setdefault(name, 0), cells[name]
            if step < len(_STEPS) and (not full or (step == 0 and cell.mode == "inside")):
                why.setdefault(name, (cell.unjudged, "") if full else _why(cell, notebook))
                steps[name] = step + 1
                again = again or (not full and step + 1 < len(_STEPS))
        if not again:
            break
    found = {}
    for name, step in steps.items():
        mode, follows = _STEPS[step % len(_STEPS)]
        reason, line = why.get(name, ("", ""))
        found[name] = Judged(mode, step < len(_STEPS), reason, line, follows)
    needs_all = any(not cell.needed and cell.id in cells for cell in job.cells)
    return Plan(found, tuple(asked), needs_all, tuple(sorted(counted & steps.keys())))


def _at(job: Job, steps: Mapping[str, int]) -> Job:
    """The job with each cell judged at its step; one that is past the last, as at first."""
    cells = []
    for cell in job.cells:
        mode, follows = _STEPS[steps.get(cell.id, 0) % len(_STEPS)]
        cells.append(dataclasses.replace(cell, mode=mode, follows=follows))
    return dataclasses.replace(job, cells=tuple(cells))


def _earned(notebook: NotebookNode, result: Result) -> dict[str, bool]:
    """Which graded cells have all their points; those that are worth none, if they do not fail."""
    notebook = copy.deepcopy(notebook)
    apply(notebook, result)
    earned = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and is_grade(cell) and not is_solution(cell):
            score, points = determine_grade(cell)
            earned[cell.metadata.nbgrader.grade_id] = (
                score is not None and score >= points and not has_failed(cell)
            )
    return earned


def _counted(result: Result) -> set[str]:
    """The cells whose value is a number."""
    return {
        cell.id
        for cell in result.cells
        for item in cell.outputs
        if item["output_type"] == "execute_result" and is_number(item["data"].get("text/plain", ""))
    }


def _why(cell: CellResult, notebook: NotebookNode) -> tuple[str, str]:
    """What a cell that has not earned its points said, and at which of its lines."""
    error = next((item for item in cell.outputs if item["output_type"] == "error"), None)
    if error is None:
        return "it gives only a part of its points", ""
    said = (
        f"{error['ename']}: {error['evalue']}".splitlines()[0]
        if error["evalue"]
        else error["ename"]
    )
    place = error["traceback"][0].split(",")[0].removeprefix("line ")
    (source,) = (
        one.source
        for one in notebook.cells
        if one.metadata.get("nbgrader", {}).get("grade_id") == cell.id
    )
    lines = source.splitlines()
    number = int(place) if place.isdecimal() else 0
    return said[:300], lines[number - 1].strip() if 0 < number <= len(lines) else ""


def told(plans: Mapping[str, Plan]) -> Iterator[str]:
    """What an instructor has to know before students are graded, a line each."""
    for notebook, plan in plans.items():
        if plan.needs_all:
            yield (
                f"{notebook}: the solution uses a name that a cell tagged skip-grading defines, so "
                "these cells are run for everybody; take the tag off the cell that defines it"
            )
        for name, cell in plan.cells.items():
            if not cell.earned:
                at = f" at `{cell.line}`" if cell.line else ""
                yield (
                    f"{notebook}, {name}: the solution itself does not earn all points of this "
                    f"cell, neither outside nor inside its process{at}: {cell.reason}"
                )


def described(
    sources: Mapping[str, SourceNotebook], plans: Mapping[str, Plan]
) -> Iterator[tuple[str, bool]]:
    """Where each graded cell is judged, a line each, and whether its solution earns its points."""
    for notebook in sources:
        if notebook not in plans:
            yield f"{notebook}: no solved notebook is in the source folder; all outside", True
            continue
        if not plans[notebook].cells:
            yield f"{notebook}: c.Isolated.mode says where, for all", True
        for name, cell in plans[notebook].cells.items():
            at = f" (at `{cell.line}`)" if cell.line else ""
            why = f": {cell.reason}{at}" if cell.reason else ""
            yield (
                f"{cell.mode if cell.earned else 'NEITHER':8} {notebook}, {name}{why}",
                cell.earned,
            )
