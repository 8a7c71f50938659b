"""What the functions of 6-generation do."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

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


class Decoder(nn.Module):
    """A linear map with dropout, which notes the latents that it is given."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.dropout = nn.Parameter(weight), nn.Dropout(0.0)
        self.latents: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        self.latents.append(z.detach().double().reshape(-1, z.shape[-1]))
        logits: Tensor = self.dropout(z.to(self.weight.dtype)) @ self.weight
        return logits


@behaviour("generation.sample_prior")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for n, k, d in [(7, 4, 9), (300, 2, 3), (5, 1, 2), (1, 3, 6), (2, 5, 1), (1, 1, 1)]:
        for dtype in (torch.float64, torch.float32):
            for scale in (0.1, 1.0, 12.0):
                decoder = Decoder((scale * draw.normal(k, d)).to(dtype))
                generator = Generator().manual_seed(draw.seed())
                sample = functools.partial(function, decoder, n, k, generator)
                for call in ("first", "second"):
                    yield f"{n, k, d}, {dtype}, {scale}, {call} call", plain(attempt(sample))
                if decoder.latents:
                    latents = attempt(functools.partial(torch.cat, decoder.latents))
                    yield f"{n, k, d}, {dtype}, {scale}, latents", plain(latents)


@behaviour("generation.latent_grid")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for n in range(2, 10):
        for tail in (None, 0.003, 0.05, 0.2, 0.44):
            given = (n,) if tail is None else (n, tail)
            grid = attempt(functools.partial(function, *given))
            if isinstance(grid, Tensor) and grid.is_floating_point():
                grid = grid.double()  # either dtype is right
            yield f"{n}, {tail}", plain(grid)


@behaviour("generation.interpolate")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for k in (1, 2, 3, 7):
        for steps in (2, 3, 4, 9, 20):

            def walk(z_start: Tensor, z_end: Tensor, steps: int = steps) -> Any:
                return function(z_start, z_end, steps)

            cases: dict[str, tuple[Tensor, ...]] = {
                f"{k}, {steps}, {scale}": (scale * draw.normal(k), scale * draw.normal(k))
                for scale in SCALES
            }
            yield from values_and_gradients(walk, cases)


@behaviour("generation.importance_weighted_bound")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    cases: dict[str, tuple[Tensor, ...]] = {
        f"{size}, {scale}, {add}": (scale * draw.normal(*size) + add,)
        for size in SIZES
        for scale in SCALES
        for add in (0.0, -1000.0, 1000.0)
    }
    yield from values_and_gradients(function, cases)


REASONS["generation.sample_prior"] = {
    r"→ -(torch\.(randn|normal)|Normal|z\b)": "equal in distribution: −z is as normal as z",
    r"randint\(.*\) → torch.randint\(.*\).float\(\)": "a seed of fewer digits is one, too",
    r"2 \* math.pi → math.pi": "equal in distribution: half of the turn has all cosines",
    r"clamp\(-5, 5\)": "one draw in two million lies beyond 5 σ",
    r"dtype=torch.float64 → nothing|(u|torch.rand\(.*\))\.float\(\) \[": "uniform in float32, too",
}
