"""What the functions of 7-evaluation do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.vae_exercises.behaviour import (
    REASONS,
    Function,
    Outcome,
    attempt,
    behaviour,
    plain,
)
from vae_exercises.draw import Draw

DTYPES = (torch.float64, torch.float32)


def parts(name: str, value: Any) -> Iterator[Outcome]:
    """A pair or three as an outcome each; numbers of Python's as what they are."""
    if not isinstance(value, tuple | list):
        yield name, plain(value)
        return
    yield name, len(value)
    for i, part in enumerate(value):
        if isinstance(part, Tensor) and not part.is_floating_point() and part.dim() == 0:
            part = int(part)  # an integer names a model in either form
        yield f"{name}, {i}", part if type(part) is int else plain(part)


@behaviour("evaluation.linear_probe")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for n, k, c in ((20, 4, 5), (8, 1, 2), (6, 3, 3), (15, 5, 4)):
        for ridge in (0.2, 1.5, 8.0):
            codes = draw.normal(n, k) * draw.uniform(0.2, 3, k) + 3 * draw.normal(k)
            labels = torch.arange(n) % max(1, c - 1)
            for dtype in DTYPES:
                given = codes.to(dtype, copy=True)
                result = attempt(lambda x=given, y=labels, c=c, r=ridge: function(x, y, c, r))
                yield from parts(f"{n, k, c}, {ridge}, {dtype}", result)


@behaviour("evaluation.log_likelihood_estimate")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for s, n in ((6, 4), (1, 3), (3, 2), (40, 5)):
        for scale, level in ((0.1, 0), (1, -90), (20, 10), (300, -1000), (1, 2000), (1, -6000)):
            log_w = scale * (draw.normal(s, n) + draw.normal(n)) + level
            for dtype in DTYPES:
                given = log_w.to(dtype, copy=True)
                result = attempt(lambda given=given: function(given))
                yield from parts(f"{s, n}, {scale}, {level}, {dtype}", result)


@behaviour("evaluation.paired_difference")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for n in (2, 3, 7, 40):
        for scale, level in ((0.1, 0), (1, -90), (20, 10)):
            both = 5 * scale * draw.normal(n) + level
            a, b = (both + scale * (draw.normal(n) + draw.normal(1)) for _ in range(2))
            for dtype in DTYPES:
                given = [x.to(dtype, copy=True) for x in (a, b)]
                result = attempt(lambda given=given: function(*given))
                yield from parts(f"{n}, {scale}, {dtype}", result)


@behaviour("evaluation.select_and_report")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for m, n, n_test in ((4, 6, 5), (1, 3, 2), (7, 20, 9), (3, 5, 5), (12, 4, 30)):
        for scale, level in ((0.1, 0), (1, -90), (20, 10)):
            scores = [
                scale * (draw.normal(m, size).exp() + draw.normal(m, 1)) + level
                for size in (n, n_test)
            ]
            for dtype in DTYPES:
                given = [x.to(dtype, copy=True) for x in scores]
                result = attempt(lambda given=given: function(*given))
                yield from parts(f"{m, n, n_test}, {scale}, {dtype}", result)


REASONS["evaluation.log_likelihood_estimate"] = {
    r"way 1: each → -each": "the deviations change their signs, and are squared",
}
