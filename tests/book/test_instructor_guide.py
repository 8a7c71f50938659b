"""The instructor guide's tables agree with the exercises."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
EXERCISES = sorted(path.stem for path in ROOT.glob("solutions/*/*.ipynb"))
GUIDE = (ROOT / "chapters" / "instructor-guide.md").read_text("utf-8")


def rows(heads: str) -> list[list[str]]:
    """The rows of the guide's table with these heads."""
    lines = GUIDE.split(f"| {heads} |\n", 1)[1].splitlines()[1:]
    table = lines[: next(n for n, line in enumerate(lines) if not line.startswith("|"))]
    return [[field.strip() for field in line.strip("|").split("|")] for line in table]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_plan_says_how_long_an_exercise_takes_and_what_it_earns(exercise: str) -> None:
    plan = rows("week | chapter | exercise | minutes | points")
    assert [row[0] for row in plan] == [str(week) for week in range(1, len(EXERCISES) + 1)]
    assert [row[2] for row in plan] == EXERCISES
    (row,) = [row for row in plan if row[2] == exercise]
    cells = nbformat.read(ROOT / "solutions" / exercise / f"{exercise}.ipynb", 4).cells
    told = re.search(r"\*\*It takes\*\* (\d+) minutes", cells[0].source)
    assert told
    assert row[3] == told[1]
    graded = [c for c in cells if c.metadata.get("nbgrader", {}).get("grade")]
    points = sum(c.metadata.nbgrader.points for c in graded)
    by_hand = sum(c.metadata.nbgrader.points for c in graded if c.metadata.nbgrader.solution)
    assert row[4] == (f"{points}, of which {by_hand} by hand" if by_hand else f"{points}")


def test_the_mistakes_that_the_guide_names_are_known() -> None:
    believed = rows("exercise | belief | in the report it is, for example")
    assert [row[0] for row in believed] == EXERCISES
    for exercise, _, named in believed:
        topic = exercise.split("-", 1)[1].replace("-", "_")
        tasks = tomllib.loads((ROOT / "vae_exercises" / f"{topic}.toml").read_text("utf-8"))
        assert named.strip("`") in {mistake for task in tasks.values() for mistake in task}
