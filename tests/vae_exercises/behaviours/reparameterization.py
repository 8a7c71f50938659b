"""What the functions of 4-reparameterization do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

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


@behaviour("reparameterization.reparameterize")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for size in SIZES:
        for scale in SCALES:
            mu, logvar = scale * draw.normal(*size), scale * draw.normal(*size)
            eps = (1 + scale / 20) * draw.normal(*size)

            def sample(mu: Tensor, logvar: Tensor, eps: Tensor = eps) -> Any:
                return function(mu, logvar, eps.to(mu.dtype, copy=True))

            yield from values_and_gradients(sample, {f"{size}, {scale}": (mu, logvar)})
        eps = draw.normal(*size).float()
        for value in (-112.0, 96.0):  # the variance is 0 or ∞ in float32, its root is neither
            inputs, sigma = (0 * eps, torch.full_like(eps, value), eps), math.exp(value / 2)
            result = attempt(lambda inputs=inputs, s=sigma: function(*inputs) / s)
            yield f"{size}, {value}", plain(result)


@behaviour("reparameterization.sample_gaussian")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for n, k in [(4, 3), (3, 3), (1, 1), (1, 3), (4, 1)]:
        for batch in ((), (n,)):
            for scale in (1e-3, 1.0, 30.0):
                root = scale * draw.normal(*batch, k, k)
                mu, eps = 5 * draw.normal(n, k), 3 * draw.normal(n, k)

                def sample(mu: Tensor, root: Tensor, c: float = scale, eps: Tensor = eps) -> Any:
                    eye = torch.eye(root.shape[-1], dtype=root.dtype)
                    covariance = root @ root.mT + c**2 * eye
                    return function(mu, covariance, eps.to(mu.dtype, copy=True))

                yield from values_and_gradients(sample, {f"{n, k}, {batch}, {scale}": (mu, root)})
            tiny = 1e-20 * torch.eye(k, dtype=draw.dtype).expand(*batch, k, k)
            inputs = torch.zeros(n, k, dtype=draw.dtype), tiny, draw.normal(n, k)
            result = attempt(lambda inputs=inputs: function(*(x.clone() for x in inputs)) * 1e10)
            yield f"{n, k}, {batch}, tiny", plain(result)


def _gradient(function: Function, draw: Draw) -> Iterator[Outcome]:
    for s in (1, 2, 6):
        for scale in (0.2, 6.0):
            for name, f in {
                "sine": lambda z: (1.3 * z).sin() - 2,
                "square": lambda z: z.square() - z + 1,
                "tanh": lambda z: 3 * z.tanh() - z**3 / 9,
            }.items():
                mu, sigma = 2 * scale * draw.sign(), scale * draw.uniform(1, 1.5)
                eps = draw.normal(s)
                eps[0] = 7 * draw.sign()
                for dtype in (torch.float64, torch.float32):
                    inputs = [x.to(dtype) for x in (mu, sigma, eps)]
                    for call in (1, 2):
                        result = attempt(lambda f=f, inputs=inputs: function(f, *inputs))
                        yield f"{name}, {s}, {scale}, {dtype}, {call}", plain(result)


@behaviour("reparameterization.pathwise_gradient")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    yield from _gradient(function, draw)


@behaviour("reparameterization.score_function_gradient")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    yield from _gradient(function, draw)

    def simulator(z: Tensor) -> Tensor:
        return torch.from_numpy(z.numpy() ** 2 + 1)

    inputs = draw.normal(), draw.uniform(0.3, 1), draw.normal(6)
    yield "a simulator", plain(attempt(lambda: function(simulator, *inputs)))


REASONS["reparameterization.reparameterize"] = REASONS["reparameterization.sample_gaussian"] = {
    r"nan_to_num": "∞ and NaN come up beyond float32's range only, where right ways differ, too",
    r"\.float\(\)": "float64 beyond float32's range is not asked for",
}
