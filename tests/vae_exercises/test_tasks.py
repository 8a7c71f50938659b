"""Every task of every assignment: right solutions pass, each known mistake is lost and named."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vae_exercises.errors import Raised
from vae_exercises.mistakes import Mistake, edited
from vae_exercises.table import main, table
from vae_exercises.task import VISIBLE, CheckFailed

from .tasks import ASSIGNMENTS, TASKS, WAYS

ROOT = Path(__file__).parents[2]
SEEDS = [VISIBLE, "first secret"]  # more are slow: `test_many_secrets`
# If each task misjudged its right solutions for one secret in a hundred, 60 secrets would show it
# with probability 0.45 for one task, and above 0.999 for one of all.
SECRETS = int(os.environ.get("SECRETS", 60))
MISTAKES = [(name, mistake) for name, task in TASKS.items() for mistake in task._mistakes]

each_task = pytest.mark.parametrize("name", TASKS)
each_mistake = pytest.mark.parametrize(
    ("name", "mistake"),
    [
        pytest.param(
            name,
            mistake,
            id=f"{name}: {mistake.name}",
            # All of them take minutes.
            marks=[] if mistake is TASKS[name]._mistakes[0] else [pytest.mark.slow],
        )
        for name, mistake in MISTAKES
    ],
)
each_way = pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name, ways in WAYS.items() for way in ways],
    ids=[f"{name} {i}" for name, ways in WAYS.items() for i in range(len(ways))],
)


def raised(name: str, aspect: str, function: Callable[..., Any], seed: str = VISIBLE) -> bool:
    facts = TASKS[name]._facts(aspect, function, seed)
    return any(isinstance(fact, Raised) for fact in facts.values())


@each_mistake
def test_a_mistake_loses_what_it_breaks_and_is_named(name: str, mistake: Mistake) -> None:
    task = TASKS[name]
    for seed in SEEDS:
        assert task._fails(mistake.function, seed) == mistake.breaks
    told = [a for a in sorted(mistake.breaks) if not raised(name, a, mistake.function)]
    assert told
    for aspect in told:
        for seed in SEEDS:
            assert task._diagnosis(aspect, mistake.function, seed) is mistake
    with pytest.raises(CheckFailed) as failed:
        task.check(told[0], mistake.function)
    first, *rest = str(failed.value).splitlines()
    assert first.startswith(f"✗ {task.name}, {told[0]} (")
    assert first.endswith(f": {mistake.name}")
    assert re.sub(r"\s+", " ", mistake.hint) in re.sub(r"\s+", " ", " ".join(rest))


@pytest.mark.slow
@each_mistake
def test_the_second_hint_comes_when_asked_for(
    name: str, mistake: Mistake, capsys: pytest.CaptureFixture[str]
) -> None:
    aspect = next(a for a in sorted(mistake.breaks) if not raised(name, a, mistake.function))
    with pytest.raises(CheckFailed) as failed:
        TASKS[name].check(aspect, mistake.function)
    assert mistake.more not in str(failed.value)
    TASKS[name].hint()
    assert re.sub(r"\s+", " ", mistake.more) in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_a_missing_hint_is_not_an_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    def kl_to_standard_normal(mu: object, logvar: object) -> object:
        raise NotImplementedError()

    task = next(task for task in TASKS.values() if task.name == "kl_to_standard_normal")
    with pytest.raises(CheckFailed, match="not written yet"):
        task.check("value", kl_to_standard_normal)
    task.hint()
    assert "value: there is no second hint; .read() opens" in capsys.readouterr().out


def test_a_hint_is_of_a_check_that_does_not_pass_yet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def negative(mu: Tensor, logvar: Tensor) -> Tensor:
        return -0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)

    task = next(task for task in TASKS.values() if task.name == "kl_to_standard_normal")
    monkeypatch.setattr(task, "_failed", {})  # other tests' checks
    for aspect in ("value", "gradient"):
        with pytest.raises(CheckFailed):
            task.check(aspect, negative)
    task.hint()
    task.check("gradient", task._reference)
    task.hint()
    task.check("value", task._reference)
    task.hint()
    told = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("✓")]
    assert [line[:30] for line in told] == [
        "kl_to_standard_normal, gradien",
        "kl_to_standard_normal, value: ",
        "No check of kl_to_standard_nor",
    ]


@each_task
def test_no_two_mistakes_share_a_name_or_an_edit(name: str) -> None:
    mistakes = TASKS[name]._mistakes
    assert len({mistake.name for mistake in mistakes}) == len(mistakes)
    assert len({mistake.edit for mistake in mistakes}) == len(mistakes)


def test_every_mistake_of_the_files_belongs_to_a_task() -> None:
    import tomllib

    for module, assignment in ASSIGNMENTS.items():
        file = ROOT / "vae_exercises" / f"{module}.toml"
        assert tomllib.loads(file.read_text("utf-8")).keys() == assignment.tasks.keys()


@each_task
def test_each_check_is_needed(name: str) -> None:
    """No two checks are lost by the same mistakes."""
    task = TASKS[name]
    lost = [{m.name for m in task._mistakes if aspect in m.breaks} for aspect in task._aspects]
    assert all(lost)
    assert len({frozenset(names) for names in lost}) == len(lost)


@each_task
def test_there_are_four_right_ways_at_least(name: str) -> None:
    assert len(WAYS[name]) >= 4


@each_way
def test_a_right_way_passes(name: str, way: Callable[..., Any]) -> None:
    for seed in SEEDS:
        assert not TASKS[name]._fails(way, seed)


@contextlib.contextmanager
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@each_task
@pytest.mark.parametrize("setting", [doubles, torch.no_grad, torch.inference_mode])
def test_what_a_notebook_has_set_does_not_count(name: str, setting: Callable[[], Any]) -> None:
    TASKS[name]._kept.clear()
    with setting():
        assert not TASKS[name]._fails(TASKS[name]._reference)
        assert not TASKS[name]._fails(WAYS[name][0])


@each_way
def test_strided_inputs_are_as_good(name: str, way: Callable[..., Any]) -> None:
    if "shape" not in TASKS[name]._aspects or name.startswith(("autoencoders", "training")):
        pytest.skip("no plain function of tensors")

    def strided(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dim() < 2 or value.requires_grad:
            return value
        return torch.stack([value, value], -1)[..., 0]

    assert not TASKS[name]._fails(lambda *inputs: way(*map(strided, inputs))) - {"shape"}


@pytest.mark.slow
@each_task
def test_many_secrets(name: str) -> None:
    """No right solution fails and no mistake passes, whatever inputs the secret draws."""
    task, found = TASKS[name], []
    for i in range(SECRETS):
        seed = f"secret {i}"
        ways = [task._reference, *WAYS[name]]
        way = ways[i % len(ways)]
        found += [f"{seed}: a right way fails {aspect}" for aspect in task._fails(way, seed)]
        for j, mistake in enumerate(task._mistakes):  # each has its turn at every tenth secret
            turn, wait = divmod(i + j, 10)
            if wait:
                continue
            if turn % 4 == 0:
                exact = task._fails(mistake.function, seed) == mistake.breaks
            else:  # one of the checks that it must not pass
                aspect = sorted(mistake.breaks)[turn % len(mistake.breaks)]
                exact = not task._passes(aspect, mistake.function, seed)
            if not exact:
                found.append(f"{seed}: {mistake.name}")
    assert found == []


@each_task
def test_who_does_not_start_gets_nothing(name: str) -> None:
    def unwritten(*inputs: Any, **options: Any) -> Any:
        raise NotImplementedError()

    task = TASKS[name]
    assert task._fails(unwritten) == set(task._aspects)
    with pytest.raises(CheckFailed, match="not written yet"):
        task.check(next(iter(task._aspects)), unwritten)


@each_task
def test_the_line_that_was_left_is_named(name: str) -> None:
    def left(*inputs: Any, **options: Any) -> Any:
        print(len(inputs))
        raise NotImplementedError()

    with pytest.raises(CheckFailed, match=r"not finished\n.*delete that line"):
        TASKS[name].check(next(iter(TASKS[name]._aspects)), left)


def test_a_class_with_a_method_that_is_written_is_begun() -> None:
    class Half(torch.nn.Module):
        def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(data_dim, code_dim)

        def encode(self, x: Tensor) -> Tensor:
            raise NotImplementedError()

        forward = decode = encode

    class Unwritten(Half):
        def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
            super().__init__(data_dim, hidden_dim, code_dim)
            raise NotImplementedError()

    task = TASKS["autoencoders.Autoencoder"]
    with pytest.raises(CheckFailed, match="not finished"):
        task.check("shape", Half)
    with pytest.raises(CheckFailed, match="not written yet"):
        task.check("shape", Unwritten)


@each_task
@pytest.mark.slow
@pytest.mark.parametrize("result", [None, 0.0, "text", [1.0], torch.zeros(()), torch.ones(2, 2)])
def test_any_other_result_ends_in_a_message(name: str, result: Any) -> None:
    task = TASKS[name]
    failing = task._fails(lambda *inputs: result)
    assert failing
    for aspect in failing:
        with pytest.raises(CheckFailed):
            task.check(aspect, lambda *inputs: result)


@pytest.mark.slow
@each_mistake
def test_hidden_checks_print_no_number(name: str, mistake: Mistake) -> None:
    task = TASKS[name]
    wrong: list[Callable[..., Any]] = [mistake.function, lambda *x: mistake.function(*x) + 0.123]
    told = re.escape(mistake.hint) + "|points?|" + re.escape(str(task._section))
    for function in wrong:
        for aspect in task._fails(function, "a secret"):
            with pytest.raises(CheckFailed) as failed:
                task.check(aspect, function, "a secret")
            said = re.sub(r"\s+", " ", str(failed.value))
            assert not re.search(r"\d\.\d|\de", re.sub(told, "", said))


@each_task
def test_hidden_checks_tell_no_name_of_an_exception_made_of_their_inputs(name: str) -> None:
    def leak(*inputs: Any, **options: Any) -> Any:
        raise type("In_7_11", (ValueError,), {})("In_7_11")

    task = TASKS[name]
    for aspect in task._aspects:
        with pytest.raises(CheckFailed, match="an exception that is not Python's was raised") as e:
            task.check(aspect, leak, "a secret")
        assert "In_7_11" not in str(e.value)
        with pytest.raises(CheckFailed, match="In_7_11 was raised"):
            task.check(aspect, leak)


def test_the_section_to_read_exists_and_has_been_read_by_then() -> None:
    order = re.findall(r"file: chapters/([\w-]+)$", (ROOT / "_toc.yml").read_text(), re.M)
    for assignment in ASSIGNMENTS.values():
        for task in assignment.tasks.values():
            page, title, heading = (task._section.page, task._section.title, task._section.heading)
            text = (ROOT / "chapters" / f"{page}.md").read_text("utf-8")
            assert re.search(rf"^# {re.escape(title)}$", text, re.M), task._section
            assert re.search(rf"^##+ {re.escape(heading)}$", text, re.M), task._section
            assert order.index(page) <= order.index(assignment.chapter[0]), task._section


def test_at_least_four_hundred_mistakes() -> None:
    assert len(MISTAKES) >= 400


def test_an_unknown_aspect_is_named() -> None:
    task = next(iter(TASKS.values()))
    with pytest.raises(ValueError, match=r"aspect must be one of .*, but is 'colour'"):
        task.check("colour", task._reference)


def test_a_reader_of_tables_that_has_seen_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "argv", ["table", "kl"])
        main()


@pytest.mark.parametrize("name", ["elbo", "2-elbo"])
def test_the_tables_of_an_exercise_are_found_by_both_of_its_names(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["table", name])
    monkeypatch.setattr("vae_exercises.table.table", lambda task: task.name)
    main()
    assert capsys.readouterr().out.split() == list(ASSIGNMENTS["elbo"].tasks)


def test_an_exercise_that_does_not_exist_has_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["table", "9-flows"])
    with pytest.raises(SystemExit, match="no exercise '9-flows'"):
        main()


def test_the_table_has_a_line_for_each_mistake() -> None:
    task = TASKS["kl.kl_to_standard_normal"]
    first, *lines = table(task).splitlines()
    assert first.split() == [task.name, *task._aspects]
    for mistake, line in zip(task._mistakes, lines, strict=True):
        marks = line.removeprefix(mistake.name).split()
        assert marks == ["✗" if a in mistake.breaks else "·" for a in task._aspects]


def test_an_edit_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'length' does not stand in the solution"):
        edited(TASKS["kl.kl_to_standard_normal"]._reference, ("length", "width"))
