"""Every task of every assignment: right solutions pass, each known mistake is lost and named."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vaelib.exercises
from vaelib.exercises.task import VISIBLE, CheckFailed, Mistake, Task

from .right_ways import WAYS

CHAPTERS = Path(__file__).parents[3] / "chapters"
SEEDS = [VISIBLE, "first secret", "second secret"]

TASKS: dict[str, Task] = {
    f"{name}.{task}": value
    for _, name, _ in pkgutil.iter_modules(vaelib.exercises.__path__)
    for module in [importlib.import_module(f"vaelib.exercises.{name}")]
    for task in module.__all__
    if isinstance(value := getattr(module, task), Task)
}
MISTAKES = [(name, mistake) for name, task in TASKS.items() for mistake in task.mistakes]

each_task = pytest.mark.parametrize("name", TASKS)
each_mistake = pytest.mark.parametrize(
    ("name", "mistake"), MISTAKES, ids=[f"{name}: {mistake.name}" for name, mistake in MISTAKES]
)
each_way = pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name, ways in WAYS.items() for way in ways],
    ids=[f"{name} {i}" for name, ways in WAYS.items() for i in range(len(ways))],
)


@each_mistake
def test_a_mistake_loses_what_it_breaks_and_is_named(name: str, mistake: Mistake) -> None:
    task = TASKS[name]
    for seed in SEEDS:
        assert task.fails(mistake.function, seed) == mistake.breaks
    for aspect in mistake.breaks:
        for seed in SEEDS[:2]:
            assert task.diagnose(aspect, mistake.function, seed) is mistake
    with pytest.raises(CheckFailed) as failed:
        task.check(min(mistake.breaks), mistake.function)
    first, *rest = str(failed.value).splitlines()
    assert first == f"{task.name}, {min(mistake.breaks)}: {mistake.name}"
    assert re.sub(r"\s+", " ", mistake.hint) in re.sub(r"\s+", " ", " ".join(rest))


@each_task
def test_no_two_mistakes_share_a_diagnosis(name: str) -> None:
    names = [mistake.name for mistake in TASKS[name].mistakes]
    hints = [mistake.hint for mistake in TASKS[name].mistakes]
    assert len(set(names)) == len(names)
    assert len(set(hints)) == len(hints)


@each_task
def test_each_check_alone_is_needed(name: str) -> None:
    task = TASKS[name]
    for aspect in task.aspects:
        assert any(m.breaks == {aspect} for m in task.mistakes), aspect


@each_task
def test_there_are_four_right_ways_at_least(name: str) -> None:
    assert len(WAYS[name]) >= 4


@each_way
def test_a_right_way_passes(name: str, way: Callable[..., Any]) -> None:
    for seed in SEEDS:
        assert not TASKS[name].fails(way, seed)


@each_way
def test_strided_inputs_are_as_good(name: str, way: Callable[..., Any]) -> None:
    if "shape" not in TASKS[name].aspects or name.startswith(("autoencoders", "training")):
        pytest.skip("no plain function of tensors")

    def strided(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dim() < 2 or value.requires_grad:
            return value
        return torch.stack([value, value], -1)[..., 0]

    assert not TASKS[name].fails(lambda *inputs: way(*map(strided, inputs))) - {"shape"}


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """One process a processor, for what is computed again and again."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        yield pool


def wrong_judgements(name: str, numbers: range) -> list[str]:
    """Right solutions that fail and mistakes that pass, for the secrets of these numbers."""
    torch.set_num_threads(1)
    task, found = TASKS[name], []
    for i in numbers:
        seed = f"secret {i}"
        for way in (task.reference, WAYS[name][i % len(WAYS[name])]):
            found += [f"{seed}: a right way fails {aspect}" for aspect in task.fails(way, seed)]
        for mistake in task.mistakes:
            if i % 20 == 0:
                exact = task.fails(mistake.function, seed) == mistake.breaks
            else:  # in turn, one of the checks that it must not pass
                aspect = sorted(mistake.breaks)[i % len(mistake.breaks)]
                exact = not task.passes(aspect, mistake.function, seed)
            if not exact:
                found.append(f"{seed}: {mistake.name}")
    return found


@pytest.mark.slow
@each_task
def test_two_hundred_secrets(name: str, processes: ProcessPoolExecutor) -> None:
    """No right solution fails and no mistake passes, whatever inputs the secret draws."""
    parts = [range(start, start + 10) for start in range(0, 200, 10)]
    judged = processes.map(wrong_judgements, [name] * len(parts), parts)
    assert [wrong for part in judged for wrong in part] == []


@each_task
def test_who_does_not_start_gets_nothing(name: str) -> None:
    def unwritten(*inputs: Any, **options: Any) -> Any:
        raise NotImplementedError

    task = TASKS[name]
    assert task.fails(unwritten) == set(task.aspects)
    with pytest.raises(CheckFailed, match="not written yet"):
        task.check(next(iter(task.aspects)), unwritten)


@each_task
@pytest.mark.slow
@pytest.mark.parametrize("result", [None, 0.0, "text", [1.0], torch.zeros(()), torch.ones(2, 2)])
def test_any_other_result_ends_in_a_message(name: str, result: Any) -> None:
    task = TASKS[name]
    failing = task.fails(lambda *inputs: result)
    assert failing
    for aspect in failing:
        with pytest.raises(CheckFailed):
            task.check(aspect, lambda *inputs: result)


@each_mistake
def test_hidden_checks_print_no_number(name: str, mistake: Mistake) -> None:
    task = TASKS[name]
    wrong: list[Callable[..., Any]] = [mistake.function, lambda *x: mistake.function(*x) + 0.123]
    for function in wrong:
        for aspect in task.fails(function, "a secret"):
            with pytest.raises(CheckFailed) as failed:
                task.check(aspect, function, "a secret")
            assert not re.search(r"\d\.\d|\de", str(failed.value).replace(mistake.hint, ""))


@each_task
def test_hidden_checks_tell_no_name_of_an_exception_made_of_their_inputs(name: str) -> None:
    def leak(*inputs: Any, **options: Any) -> Any:
        raise type("In_7_11", (ValueError,), {})("In_7_11")

    task = TASKS[name]
    for aspect in task.aspects:
        with pytest.raises(CheckFailed, match="an exception that is not Python's was raised") as e:
            task.check(aspect, leak, "a secret")
        assert "In_7_11" not in str(e.value)
        with pytest.raises(CheckFailed, match="In_7_11 was raised"):
            task.check(aspect, leak)


@each_task
def test_the_section_to_read_exists(name: str) -> None:
    chapter, heading = TASKS[name].read
    pages = [page.read_text() for page in CHAPTERS.glob("*.md")]
    (page,) = [page for page in pages if re.search(rf"^# {re.escape(chapter)}$", page, re.M)]
    assert re.search(rf"^##+ {re.escape(heading)}$", page, re.M), heading


def test_at_least_sixty_mistakes() -> None:
    assert len(MISTAKES) >= 60


def test_an_unknown_aspect_is_named() -> None:
    task = next(iter(TASKS.values()))
    with pytest.raises(ValueError, match=r"aspect: expected one of .*, got 'colour'"):
        task.check("colour", task.reference)
