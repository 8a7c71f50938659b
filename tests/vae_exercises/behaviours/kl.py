"""What the functions of 3-kl do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.distributions import Categorical, Distribution, Independent, Laplace, Normal

from tests.vae_exercises.behaviour import (
    REASONS,
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


@behaviour("kl.kl_to_standard_normal")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    cases = {
        f"{size}, {scale}": (scale * draw.normal(*size), scale * draw.normal(*size))
        for size in SIZES
        for scale in SCALES
    }
    yield from values_and_gradients(function, cases)


@behaviour("kl.kl_between_gaussians")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    cases = {}
    for size in SIZES:
        for scale in SCALES:
            logvar = scale * draw.normal(*size)
            means = [scale * draw.normal(*size) for _ in range(2)]
            cases[f"{size}, {scale}"] = (
                means[0],
                logvar,
                means[1],
                logvar + (1 + scale / 3) * draw.normal(*size),
            )
    yield from values_and_gradients(function, cases)


@behaviour("kl.kl_monte_carlo")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    def pairs(shape: tuple[int, ...]) -> Iterator[tuple[Distribution, Distribution]]:
        q = Normal(draw.normal(*shape), draw.uniform(0.3, 2, *shape))
        yield q, Normal(draw.normal(*shape), draw.uniform(0.3, 2, *shape))
        yield q, Laplace(draw.normal(*shape), draw.uniform(0.3, 2, *shape))
        logits = [draw.normal(*shape, 3) for _ in range(2)]
        yield Categorical(logits=logits[0]), Categorical(logits=logits[1])

    for shape in [(), (1,), (4,), (2, 3)]:
        for q, p in pairs(shape):
            for n in (1, 2, 7, 300):
                name = f"{type(q).__name__}, {type(p).__name__}, {shape}, {n}"
                yield name, plain(attempt(lambda q=q, p=p, n=n: function(q, p, n)))
    loc, scale = draw.normal(3, 2).requires_grad_(), draw.uniform(0.5, 1, 3, 2).requires_grad_()
    shift = draw.normal(3, 2).requires_grad_()

    def gradient() -> Any:
        q, p = Independent(Normal(loc, scale), 1), Independent(Normal(shift, scale + 1), 1)
        total = (function(q, p, 50) * torch.tensor([1.0, 2.0, 3.0])).sum()
        return torch.cat(torch.autograd.grad(total, [loc, scale, shift]))

    yield "gradient", plain(attempt(gradient))


REASONS["kl.kl_to_standard_normal"] = REASONS["kl.kl_between_gaussians"] = {
    r"nan_to_num": "∞ and NaN come up beyond float32's range only, where right ways differ, too",
    r"\.float\(\)": "float64 beyond float32's range is not asked for",
    r"\.abs\(\)|kl_divergence\(.*\)\.clamp\(min=0\)": "the divergence is never negative",
}

REASONS["kl.kl_monte_carlo"] = {
    r"way 1: (n_samples|100) →": "the same draws in other portions, of 100 and more",
    r"eps → -eps|randn\(1\)": "equal in distribution",
    r"eps\).clamp\(-5, 5\)|eps.clamp\(-5, 5\)": "one draw in two million lies beyond 5 σ",
    r"way 4: n_samples → 2 \* n_samples": "more draws than asked for, of a Categorical",
    r"way 1: n_samples // 100 →": "more samples than asked for, of 100 and more",
}
