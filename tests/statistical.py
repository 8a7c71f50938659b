"""The one place that says how often a statistical test may fail by chance."""

from __future__ import annotations

import torch
from scipy.stats import norm
from torch import Tensor

__all__ = ["FALSE_ALARM", "assert_mean_equals", "z_threshold"]

FALSE_ALARM = 1e-6
"""Probability that one call of a statistical assertion fails although its claim is true.

Seeds are fixed, so a test that passes keeps passing; the rate says how often a *new* seed, machine
or version of torch may raise a false alarm: with a thousand assertions, once in a thousand runs.
"""


def z_threshold(comparisons: int = 1) -> float:
    """Largest |z| of `comparisons` two-sided z tests that together keep to `FALSE_ALARM`.

    Bonferroni: each test is given the rate FALSE_ALARM / comparisons, whatever their dependence.

    >>> round(z_threshold(), 2), round(z_threshold(1000), 2)
    (4.89, 6.11)
    """
    return float(norm.isf(FALSE_ALARM / comparisons / 2))


def assert_mean_equals(samples: Tensor, expected: Tensor | float, dim: int = 0) -> None:
    """Assert that independent `samples` along `dim` come from a distribution with mean `expected`.

    A two-sided z test with the standard error of the samples themselves, s / √n, at the rate
    `FALSE_ALARM` for the whole call, however many means it compares. To be that rate the
    means have to be near normal: at least 1,000 samples, and no heavy tails (an importance weight
    or a score-function estimate may need many more).

    Args:
        samples: (..., n, ...), n independent draws along `dim`.
        expected: the claimed mean, a number or a tensor that broadcasts to the shape of `samples`
            without `dim`.
        dim: the dimension of the draws.

    Raises:
        AssertionError: if a mean is too far off, or not a number.
        ValueError: if there are fewer than 1,000 draws.

    >>> draws = torch.randn(10_000, 3, generator=torch.Generator().manual_seed(0))
    >>> assert_mean_equals(draws, 0.0)
    >>> assert_mean_equals(draws, torch.tensor([0.0, 0.0, 0.1]))
    Traceback (most recent call last):
        ...
    AssertionError: 1 of 3 means too far off: at [2] ... where 0.1 was expected ...
    """
    n = samples.shape[dim]
    if n < 1_000:
        raise ValueError(f"samples must hold at least 1,000 draws along dim {dim}, got {n}")
    draws = samples.detach().double()
    mean = draws.mean(dim)
    expected = torch.as_tensor(expected, dtype=mean.dtype, device=mean.device).expand_as(mean)
    # Draws without variance are still only as exact as the arithmetic that made them.
    rounding = 8 * torch.finfo(samples.dtype).eps * draws.abs().amax(dim)
    allowed = z_threshold(mean.numel()) * draws.std(dim) / n**0.5 + rounding
    off = ~((mean - expected).abs() <= allowed)  # so that NaN is off, too
    if off.any():
        at = tuple(off.nonzero()[0].tolist())
        raise AssertionError(
            f"{int(off.sum())} of {off.numel()} means too far off: at {list(at)} {n} draws average "
            f"{mean[at]:.6g} where {expected[at]:.6g} was expected (allowed: ±{allowed[at]:.3g})"
        )
