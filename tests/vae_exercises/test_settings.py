"""What belongs to the whole notebook is neither changed by a right answer nor by a check."""

from __future__ import annotations

import functools
import random
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Distribution

from vae_exercises.settings import RANDOM, SETTINGS, kept, read

from .tasks import TASKS

CHANGES: dict[str, Callable[[], Any]] = {
    "gradients are switched off": lambda: torch.set_grad_enabled(False),
    "gradients are switched on": lambda: torch.set_grad_enabled(True),
    "the default dtype is changed": lambda: torch.set_default_dtype(torch.float64),
    "the default device is changed": lambda: torch.set_default_device("meta"),
    "the number of threads is changed": lambda: torch.set_num_threads(3),
    "deterministic algorithms are switched on": lambda: torch.use_deterministic_algorithms(True),
    "the precision of matrix products is changed": lambda: torch.set_float32_matmul_precision(
        "medium"
    ),
    "autocast is switched on": lambda: torch.set_autocast_enabled("cpu", True),
    "autograd's anomaly detection is switched on": lambda: torch.set_anomaly_enabled(True),
    "the checks of torch.distributions are switched off": lambda: (
        Distribution.set_default_validate_args(False)
    ),
    "torch prints in another way": lambda: torch.set_printoptions(precision=7),
    "NumPy prints in another way": lambda: np.set_printoptions(precision=7),
    "NumPy's floating-point errors are treated in another way": lambda: np.seterr(over="raise"),
    "warnings are shown or hidden": lambda: warnings.filterwarnings("ignore", module="tests"),
}
SEEDS: list[Callable[[], Any]] = [
    functools.partial(torch.manual_seed, 0),
    torch.seed,
    functools.partial(np.random.seed, 0),
    np.random.seed,
    functools.partial(random.seed, 0),
    random.seed,
]


def after(name: str, change: Callable[[], Any]) -> Callable[..., Any]:
    """The right solution, with a change at its end."""
    reference = TASKS[name]._reference

    def answer(*inputs: Any) -> Any:
        result = reference(*inputs)
        change()
        return result

    return answer


def left(name: str, aspect: str, change: Callable[[], Any]) -> str:
    return str(TASKS[name]._facts(aspect, after(name, change))["what a call leaves behind"])


@pytest.mark.parametrize("said", CHANGES)
def test_a_change_of_a_setting_is_told_and_put_back(said: str) -> None:
    with kept():
        before = read(SETTINGS | RANDOM)
        assert left("kl.kl_to_standard_normal", "shape", CHANGES[said]) == said
        assert read(SETTINGS | RANDOM) == before


def test_every_setting_has_a_change() -> None:
    assert {said.removesuffix(" on").removesuffix(" off") for said in CHANGES} == SETTINGS.keys()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TASKS)
def test_no_answer_sets_a_seed(name: str, seed: Callable[[], Any]) -> None:
    task = TASKS[name]
    aspects = (name for name, aspect in task._aspects.items() if aspect.conduct)
    assert not task._passes(next(aspects), after(name, seed))


@pytest.mark.parametrize("name", TASKS)
def test_no_answer_switches_gradients(name: str) -> None:
    (aspect,) = (name for name, aspect in TASKS[name]._aspects.items() if aspect.conduct)
    for enabled in (True, False):

        def answer(*inputs: Any, enabled: bool = enabled) -> Any:
            torch.set_grad_enabled(enabled)
            return TASKS[name]._reference(*inputs)

        assert not TASKS[name]._passes(aspect, answer)


@pytest.mark.parametrize("name", TASKS)
def test_a_right_answer_leaves_nothing_behind(name: str) -> None:
    (aspect,) = (name for name, aspect in TASKS[name]._aspects.items() if aspect.conduct)
    # Of the reference itself it is taken for granted.
    facts = TASKS[name]._facts(aspect, after(name, lambda: None))
    assert facts["what a call leaves behind"] == "nothing"
    assert facts.get("random numbers after a call", "go on") == "go on"


def test_the_settings_that_an_import_changes_are_not_the_answers() -> None:
    def loading() -> None:
        if "tests.loaded" not in sys.modules:
            sys.modules["tests.loaded"] = types.ModuleType("loaded")
            warnings.filterwarnings("ignore", module="tests")

    try:
        assert left("kl.kl_to_standard_normal", "shape", loading) == "nothing"
    finally:
        del sys.modules["tests.loaded"]


def test_drawing_does_not_set_a_seed() -> None:
    def draw() -> None:
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002

    assert left("training.training_step", "step", draw) == "nothing"
    assert not TASKS["training.training_step"]._fails(after("training.training_step", draw))
    said = "random numbers are drawn or a seed is set"
    assert left("kl.kl_to_standard_normal", "shape", draw) == said
