"""Thousands of small edits of right solutions: each changes nothing, or loses a point."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import random
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from vae_exercises.mistakes import compiled, source_of
from vae_exercises.task import VISIBLE

from .behaviour import REASONS, outcomes, same
from .mutants import mutants
from .tasks import TASKS, WAYS

SECRETS = ["a secret", "another secret"]
# Of each task; `MUTANTS=100` tries a hundred, and `MUTANTS=all` all of them, some 40,000.
ASKED = os.environ.get("MUTANTS", "40")
MUTANTS = None if ASKED == "all" else int(ASKED)
#: Names that are true of more than one answer, and why.
SHARED_NAMES = {
    "another root": "the lower triangular root with other signs of its columns is one, too",
}


@dataclass
class Judged:
    """What became of the mutants of one task."""

    made: int = 0
    equivalent: int = 0
    caught: int = 0
    named: int = 0
    survivors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)


def made(name: str, most: int | None) -> list[tuple[str, Callable[..., Any], int]]:
    """What is edited, the mutant, and the right way that it was made of: all, or some of them."""
    texts: dict[str, tuple[str, int]] = {}
    origins = [TASKS[name]._reference, *WAYS[name]]
    draw = random.Random(f"{name} {most}")

    def chosen(edits: list[Any]) -> list[Any]:
        wanted = len(edits) if most is None else 2 * most // len(origins) + 1
        return draw.sample(edits, min(wanted, len(edits)))

    for i, origin in enumerate(origins):
        for what, text in mutants(source_of(origin), chosen):
            texts.setdefault(text, (f"way {i}: {what}", i))
    found = []
    for text, (what, i) in draw.sample(list(texts.items()), len(texts))[:most]:
        with contextlib.suppress(Exception):
            found.append((what, compiled(text, origins[i]), i))
    return found


def judged(name: str, most: int | None = MUTANTS) -> Judged:
    """Judge the mutants of a task's right ways."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task, result = TASKS[name], Judged()
    origins = [task._reference, *WAYS[name]]
    right = [outcomes(name, origin, task._draws) for origin in origins]
    done_by = functools.cache(lambda mistake: outcomes(name, mistake.function, task._draws))
    for what, function, i in made(name, most):
        result.made += 1
        like = [right[i], right[0]]
        done = outcomes(name, function, task._draws, like)
        lost = task._fails(function, VISIBLE)
        passed = [] if lost else ["visible"]
        if all(task._passes(aspect, function, SECRETS[0]) for aspect in task._aspects):
            passed.append("hidden")
        if any(same(done, other) for other in like):
            result.equivalent += 1
            if len(passed) < 2:
                result.refused.append(f"{what} [{', '.join(sorted(lost)) or 'hidden checks'}]")
            continue
        if passed:
            result.survivors.append(f"{what} [passes the {' and the '.join(passed)} checks]")
            continue
        result.caught += 1
        for aspect in sorted(lost):
            mistake = task._diagnosis(aspect, function)
            if mistake is None or mistake.name in SHARED_NAMES:
                continue
            result.named += 1
            if not same(outcomes(name, function, task._draws), done_by(mistake)) and not all(
                task._diagnosis(aspect, function, secret) is mistake for secret in SECRETS
            ):
                result.misnamed.append(f"{what} [{aspect}: {mistake.name}]")
    return result


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    """A process for the mutants, so that what they leave behind reaches no other test."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_mutant_is_equivalent_or_loses_a_point(
    name: str, process: ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    result = process.submit(judged, name).result()
    with capsys.disabled():
        print(
            f"\n{name}: {result.made} mutants, {result.equivalent} equivalent, "
            f"{result.caught} caught, {len(result.survivors)} surviving"
        )
    known = REASONS.get(name, {})
    assert [s for s in result.survivors if not any(re.search(r, s) for r in known)] == []
    assert result.refused == []
    assert result.caught > 20
    # None is given the name of a mistake that it is not.
    assert result.misnamed == []
