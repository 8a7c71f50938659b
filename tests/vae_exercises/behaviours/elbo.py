"""What the functions of 2-elbo do."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.vae_exercises.behaviour import (
    SCALES,
    SIZES,
    Function,
    Outcome,
    attempt,
    behaviour,
    plain,
    values_and_gradients,
)
from vae_exercises.draw import Draw

ROWS: list[tuple[int, ...]] = [(6, 4), (1, 1), (1, 3), (4, 1), (3, 5)]
IMAGES: list[tuple[int, ...]] = [(3, 2, 4, 5), (1, 1, 2, 3), (2, 3, 1, 4)]


@behaviour("elbo.bernoulli_log_likelihood")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for i, size in enumerate(ROWS + IMAGES):
        for scale in (0.5, 100.0) if i % 2 else (2.0, 8.0):
            logits = scale * draw.normal(*size)
            binary = (draw.uniform(0, 1, *size) > 0.5).to(logits)
            for kind, x in (("binary", binary), ("grey", draw.uniform(0, 1, *size))):

                def of_logits(logits: Tensor, x: Tensor = x) -> Any:
                    return function(logits, x.to(logits.dtype, copy=True))

                cases = {f"{size}, {scale}, {kind}": (logits,)}
                yield from values_and_gradients(of_logits, cases)


@behaviour("elbo.gaussian_log_likelihood")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for size in ROWS + IMAGES:
        for scale, distance in ((0.05, 1), (1, 30), (20, 1)):
            mean = scale * draw.normal(*size)
            sigma = scale * draw.uniform(0.3, 2, *size[1:])
            x = mean + distance * sigma * draw.normal(*size)
            first = sigma.flatten()[0]

            def of_tensor(mean: Tensor, sigma: Any, x: Tensor = x) -> Any:
                return function(mean, x.to(mean.dtype, copy=True), sigma)

            name = f"{size}, {scale}, {distance}, σ "
            for kind, some in (("()", first), ("(1,)", first.reshape(1)), ("of pixels", sigma)):
                yield from values_and_gradients(of_tensor, {name + kind: (mean, some)})
            number: float = 3 if scale == 1 else first.item()
            at_number = functools.partial(of_tensor, sigma=number)
            yield from values_and_gradients(at_number, {f"{name} {number}": (mean,)})


@behaviour("elbo.log_marginal_monte_carlo")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    cases = {
        f"{size}, {scale}, {level}": (scale * draw.normal(*size) + level,)
        for size in SIZES
        for scale in SCALES
        for level in (-1000, 0, 1000)
    }
    yield from values_and_gradients(function, cases)
    levels = torch.tensor([-3000.0, -50.0, 400.0], dtype=torch.float64)
    yield "far apart", plain(attempt(lambda: function(draw.normal(5, 3) + levels)))
    # Right ways differ in the gradient of what is impossible: the value alone counts.
    for s, n in SIZES:
        for dtype in (torch.float64, torch.float32):
            impossible = {"all": draw.normal(s, n).to(dtype) - torch.inf}
            if s > 1:
                impossible["an example"] = draw.normal(s, n).to(dtype)
                impossible["an example"][:, 0] = -torch.inf
                impossible["a sample"] = draw.normal(s, n).to(dtype)
                impossible["a sample"][-1, 0] = -torch.inf
            for name, given in impossible.items():
                result = plain(attempt(lambda given=given: function(given.clone())))
                yield f"impossible: {name}, {s, n}, {dtype}", result


@behaviour("elbo.negative_elbo")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    cases = {
        f"{n}, {scale}, {level}": (
            scale * (draw.normal(n) + level),
            scale * draw.normal(n).square(),
        )
        for n in (1, 2, 3, 7)
        for scale in SCALES
        for level in (-3, 0, 3)
    }
    yield from values_and_gradients(function, cases)
    infinite = torch.tensor([1.0, torch.inf])
    yield "an infinite KL", plain(attempt(lambda: function(draw.normal(2).float(), infinite)))
