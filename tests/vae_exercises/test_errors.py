"""Errors that students' code raises: each is told as itself, with its line and what it means."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Categorical

import vae_exercises.errors
from vae_exercises import kl
from vae_exercises.errors import Raised
from vae_exercises.task import CheckFailed

MEANINGS = tomllib.loads(
    Path(vae_exercises.errors.__file__).with_name("meanings.toml").read_text("utf-8")
)
x = torch.linspace(0.1, 0.9, 6).reshape(2, 3)
leaf = torch.ones(3, requires_grad=True)
counts = torch.ones(2, 3, dtype=torch.int64)


def nothing() -> Any:
    return None


class Bare(torch.nn.Module):
    def __init__(self) -> None:
        self.layer = torch.nn.Linear(1, 1)


def endless() -> None:
    endless()


def changed_in_place() -> None:
    root = leaf.exp()
    squared = root**2
    root += 1
    squared.sum().backward()


def twice() -> None:
    total = (leaf**2).sum()
    total.backward()
    total.backward()


# What students write, and a part of what they are told.
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: x ^ 2, "write `**`"),
    (lambda: 2.0 ^ x, "write `**`"),
    (lambda: x.exp * 2, "The parentheses of a call are missing"),
    (lambda: 2 - x.sum, "The parentheses of a call are missing"),
    (lambda: np.exp(leaf), "NumPy keeps none"),
    (lambda: leaf.numpy(), "NumPy keeps none"),
    (lambda: x.sum().backward(), "cut off by a detach"),
    (lambda: (leaf * 2).backward(), "sum the vector first"),
    (twice, "gone through twice"),
    (lambda: leaf.add_(1), "changed in place"),
    (changed_in_place, "changed in place"),
    (lambda: nothing() + 1, "ends without `return`"),
    (lambda: nothing().sum(), "ends without `return`"),
    (lambda: torch.exp(nothing()), "ends without `return`"),
    (Bare, "super().__init__()"),
    (lambda: torch.nn.LazyLinear(2).weight.shape, "give nn.Linear both sizes"),
    (lambda: (x, x).sum(), "unpack it first"),
    (lambda: torch.exp((x, x)), "unpack it first"),
    (lambda: [a for a, b in [(*x.shape, 1)]], "names left of `=`"),
    (lambda: x.sum(2), "count them from 0"),
    (lambda: x + torch.ones(2), "Two shapes do not fit"),
    (lambda: torch.cat([x, torch.ones(2, 2)]), "Two shapes do not fit"),
    (lambda: x @ x, "print them"),
    (lambda: torch.einsum("nk,nk->n", x, x.T), "Two shapes do not fit"),
    (lambda: x @ torch.ones(3, 2).double(), "float32 and float64 meet"),
    (lambda: F.linear(x, torch.ones(2, 3).double()), "float32 and float64 meet"),
    (lambda: torch.lerp(x, x.double(), 0.5), "float32 and float64 meet"),
    (lambda: Bernoulli(0.5).log_prob(x), "validate_args=False"),
    (lambda: F.binary_cross_entropy(4 * x, x), "wants probabilities"),
    (lambda: torch.log(2.0), "use `math`"),
    (lambda: float(x), "where one number is needed"),
    (lambda: math.exp(x), "use torch's"),
    (lambda: 1 if x > 0.5 else 0, "where one number is needed"),
    (lambda: x.T.view(6), "use `reshape`"),
    (lambda: torch.stack([x, x.T]), "print them"),
    (lambda: torch.stack(x, 0), "`torch.stack([a, b])`"),
    (lambda: x[::-1], "`x.flip(0)`"),
    (lambda: torch.linspace(x[0], x[1], 3), "let it broadcast"),
    (lambda: torch.autograd.grad(leaf.sum(), x), "plays no part in the result"),
    (lambda: (leaf * 2).requires_grad_(False), "on a fresh copy only"),
    (lambda: x.reshape(5, 3), "take it from `x.shape`"),
    (lambda: (2.0).log(), "make a tensor of it"),  # type: ignore[attr-defined]
    (lambda: Bernoulli(10 * x), "write `Bernoulli(logits=…)`"),
    (lambda: exp(x), "write `torch.` before it"),  # type: ignore[name-defined] # noqa: F821
    (lambda: undefined, "define or import this name first"),  # type: ignore[name-defined] # noqa: F821
    (lambda: (lambda a: a)(1, 2), "compare with the line of its `def`"),
    (lambda: torch.linalg.cholesky(-torch.eye(2)), "not positive definite"),
    (lambda: torch.randn(3, torch.Generator()), "by its name"),
    (lambda: Categorical(x).rsample(), "not every distribution has rsample"),
    (lambda: x - x.max(0), "`.max(0).values`"),  # type: ignore[operator]
    (lambda: torch.bmm(x, x), "use `@`"),
    (lambda: torch.einsum("nij,nj->ni", x, x), "one letter for each dimension"),
    (lambda: x[:, 3], "counts beyond the end"),
    (lambda: x[x.argmax()], "over which one did argmax run"),
    (lambda: x[x.amax()], "argmax gives the place"),
    (lambda: x[x.max(1)], "argmax gives the place"),  # type: ignore[index]
    (lambda: x @ counts.T, "Integers stand where"),
    (lambda: torch.linalg.solve(torch.eye(2), counts), "Integers stand where"),
    (lambda: counts.mean(0), "Integers stand where"),
    (lambda: counts.std(0), "Integers stand where"),
    (lambda: F.one_hot(x), "Integers stand where"),
    (lambda: F.nll_loss(x, x[:, 0]), "Integers stand where"),
    (lambda: torch.vmap(lambda a: torch.as_tensor(a.numpy()))(x), "call it outside"),
    (lambda: torch.autograd.grad(1.5, leaf), "stands where several things"),  # type: ignore[arg-type]
    (lambda: torch.stack([x, x.grad]), "a gradient that did not arrive"),  # type: ignore[list-item]
    (lambda: torch.erfinv(np.float64(0.5)), "use `math`"),  # type: ignore[arg-type]
    (endless, "calls itself"),
]


@pytest.mark.parametrize(("call", "meaning"), WRONG)
def test_what_an_error_means(call: Callable[[], Any], meaning: str) -> None:
    with pytest.raises(Exception) as error:  # noqa: PT011
        call()
    assert meaning in Raised.by(error.value).meaning, str(error.value)


def test_every_meaning_is_of_an_error_that_is_raised() -> None:
    said = []
    for call, _ in WRONG:
        with pytest.raises(Exception) as error:  # noqa: PT011
            call()
        said.append(Raised.by(error.value).meaning)
    assert set(said) == set(MEANINGS.values())


def told(function: Callable[..., Any]) -> str:
    with pytest.raises(CheckFailed) as failed:
        kl.kl_to_standard_normal.check("value", function)
    return re.sub(r"\s+", " ", str(failed.value))


def test_the_line_of_the_error_is_the_students_own() -> None:
    def helper(mu: Tensor) -> Tensor:
        return mu @ torch.ones(7)

    def wrong(mu: Tensor, logvar: Tensor) -> Tensor:
        return helper(mu).sum(-1)

    assert "RuntimeError was raised In the line `return mu @ torch.ones(7)`:" in told(wrong)


def test_a_check_that_is_stopped_says_in_which_line() -> None:
    def endless(mu: Tensor, logvar: Tensor) -> Tensor:
        # As Kernel → Interrupt Kernel does, wherever the loop is.
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        kl.kl_to_standard_normal.check("value", endless)
    assert type(stopped.value) is KeyboardInterrupt
    (said,) = vars(stopped.value)["_render_traceback_"]()
    assert said.startswith("The check was stopped in the line `raise KeyboardInterrupt`. Does")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "your function returns nothing End it with `return …` (print only shows)."),
        ((x, x), "a tuple of 2 came back (Tensor, Tensor), expected one tensor"),
        (1.5, "a Python number came back, expected one tensor .item() and float() cut"),
        (np.ones(3), "NumPy's numbers came back, expected one tensor NumPy keeps no"),
        ("text", "an object of type str came back, expected one tensor"),
    ],
)
def test_what_comes_back_is_told_in_words(result: object, message: str) -> None:
    assert message in told(lambda mu, logvar: result)


def test_prints_appear_once(capsys: pytest.CaptureFixture[str]) -> None:
    calls = 0

    def wrong(mu: Tensor, logvar: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        print("mine")
        return mu.sum(-1)

    told(wrong)
    printed = capsys.readouterr().out.count("mine")
    assert calls > 3 * printed


def test_the_message_of_a_hidden_check_keeps_what_the_error_says() -> None:
    def leak(mu: Tensor, logvar: Tensor) -> Tensor:
        raise ValueError(f"the inputs are {mu.tolist()}")

    with pytest.raises(CheckFailed) as failed:
        kl.kl_to_standard_normal.check("value", leak, "a secret")
    assert "ValueError was raised" in str(failed.value)
    assert "the inputs are" not in str(failed.value)
