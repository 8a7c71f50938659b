"""What the functions of 1b-latent-variables do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from tests.vae_exercises.behaviour import (
    REASONS,
    SCALES,
    Function,
    Outcome,
    attempt,
    behaviour,
    plain,
    values_and_gradients,
)
from vae_exercises.draw import Draw


def parts(name: str, value: Any) -> Iterator[Outcome]:
    """A pair as two outcomes."""
    if isinstance(value, tuple | list):
        yield name, len(value)
        yield from ((f"{name}, {i}", plain(part)) for i, part in enumerate(value))
    else:
        yield name, plain(value)


@behaviour("latent_variables.ancestral_sample")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    # Right ways draw in other orders: what they have in common is the distribution.
    for k, d, sigma in ((3, 2, 0.4), (2, 2, 10.0), (1, 3, 0.05)):
        weight = draw.normal(k, d)

        def decode(z: Tensor, weight: Tensor = weight) -> Tensor:
            return torch.sin(z @ weight.to(z.dtype)) + 1

        n = 600
        generator = Generator().manual_seed(draw.seed())
        call = lambda: function(decode, sigma, n, k, generator)  # noqa: B023, E731
        name = f"{k}, {d}, {sigma}"
        torch.manual_seed(1)
        first = attempt(call)
        torch.manual_seed(1)
        second = attempt(call)
        if not isinstance(first, tuple | list) or len(first) != 2:
            yield name, plain(first)
            continue
        if not all(isinstance(part, Tensor) for part in first):
            yield name, "no tensors"
            continue
        z, x = first
        yield f"{name}, form", (tuple(z.shape), tuple(x.shape), z.dtype, x.dtype)
        if z.shape != (n, k) or x.shape != (n, d):
            continue
        yield f"{name}, another", not torch.equal(z, second[0])
        noise = (x - decode(z)) / sigma
        next_noise = (second[1] - decode(second[0])) / sigma
        yield f"{name}, noise goes on", not torch.allclose(noise, next_noise, 0, 1e-3)
        generator.manual_seed(5)
        once = attempt(call)
        generator.manual_seed(5)
        torch.manual_seed(2)
        twice = attempt(call)
        same = all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
        yield f"{name}, repeats", same
        for what, rows in (("z", z), ("noise", noise)):
            columns = rows.shape[1]
            error = 6.5 / n**0.5
            away = (rows.mean(0).abs().max(), (rows.mT @ rows / n - torch.eye(columns)).abs().max())
            yield (
                f"{name}, {what} has mean 0 and variance 1",
                bool(away[0] < error and away[1] < 1.5 * error),
            )
            fourth = rows.pow(4).mean() / rows.square().mean() ** 2
            yield f"{name}, {what} is Gaussian", abs(fourth.item() - 3) < 6.5 * (24 / n) ** 0.5
        yield f"{name}, independent", bool((z.mT @ noise / n).abs().max() < 6.5 / n**0.5)
    for n, k, d in ((1, 1, 1), (1, 2, 3), (4, 1, 2), (4, 1, 1)):
        weight = draw.normal(k, d)
        result = attempt(
            lambda n=n, k=k, weight=weight: function(
                lambda z: z @ weight.to(z.dtype), 0.5, n, k, Generator().manual_seed(1)
            )
        )
        shapes = [tuple(part.shape) for part in result if isinstance(part, Tensor)]
        yield f"shapes, {n}, {k}, {d}", result if isinstance(result, str) else str(shapes)


def _grids(draw: Draw) -> dict[str, tuple[Tensor, ...]]:
    return {
        f"{g, n}, {scale}, {level}": (
            scale * draw.normal(g, n) + level,
            draw.normal(g),
            draw.uniform(-8, 1, g).exp(),
        )
        for g, n in [(6, 4), (3, 5), (2, 2), (4, 1), (30, 2), (1, 3), (1, 1)]
        for scale in SCALES
        for level in (0, -3000, 1500)
        if g > 1 or scale <= 1  # a grid of one point is a matter of shapes alone
    }


@behaviour("latent_variables.log_marginal_quadrature")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for name, (log_likelihood, log_prior, width) in _grids(draw).items():
        # As in the checks, no gradient is asked for in the widths.
        yield from values_and_gradients(
            lambda a, b, width=width: function(a, b, width.to(a.dtype)),
            {name: (log_likelihood, log_prior)},
        )


@behaviour("latent_variables.posterior_on_grid")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for name, inputs in _grids(draw).items():
        for dtype in (torch.float64, torch.float32):
            copies = [part.to(dtype, copy=True) for part in inputs]
            yield f"{name}, {dtype}", plain(attempt(lambda copies=copies: function(*copies)))


@behaviour("latent_variables.marginal_monte_carlo")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for s, n in [(6, 4), (3, 5), (2, 2), (4, 1), (50, 3)]:
        for scale in (0.01, 1, 3):
            likelihood = (scale * draw.normal(s, n)).exp()
            for dtype in (torch.float64, torch.float32):
                given = likelihood.to(dtype, copy=True)
                result = attempt(lambda given=given: function(given))
                yield from parts(f"{s, n}, {scale}, {dtype}", result)


REASONS["latent_variables.posterior_on_grid"] = {
    r"log_prior(\[:, None\])? → .* \+ 1 ": "a constant cancels, but for rounding",
    r"\.float\(\)": "the checks allow the rounding of float32",
}
