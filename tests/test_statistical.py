"""The statistical assertion itself: it holds for true claims and can fail for false ones."""

from __future__ import annotations

import pytest
import torch
from statistical import FALSE_ALARM, assert_mean_equals, z_threshold
from torch import Tensor


@pytest.fixture
def draws(generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(4, 10_000, 5, generator=generator, device=device)


def test_accepts_the_true_mean(draws: Tensor) -> None:
    assert_mean_equals(draws, 0.0, dim=1)
    assert_mean_equals(draws + 3.0, torch.full((4, 5), 3.0), dim=1)


def test_refuses_one_false_mean_among_many(draws: Tensor) -> None:
    expected = torch.zeros(4, 5)
    expected[2, 1] = 0.1
    with pytest.raises(AssertionError, match=r"1 of 20 .* at \[2, 1\]"):
        assert_mean_equals(draws, expected, dim=1)


def test_refuses_nan(draws: Tensor) -> None:
    draws[0, 0, 0] = torch.nan
    with pytest.raises(AssertionError, match=r"1 of 20 .* at \[0, 0\]"):
        assert_mean_equals(draws, 0.0, dim=1)


def test_draws_without_variance_allow_for_rounding_only() -> None:
    draws = torch.full((1_000,), 0.1)
    assert_mean_equals(draws, 0.1)
    with pytest.raises(AssertionError):
        assert_mean_equals(draws, 0.1001)


def test_refuses_too_few_draws() -> None:
    with pytest.raises(ValueError, match=r"at least 1,000 draws .* got 999"):
        assert_mean_equals(torch.zeros(999), 0.0)


def test_the_threshold_keeps_the_rate_of_false_alarms() -> None:
    comparisons = 100
    normal = torch.distributions.Normal(0.0, torch.tensor(1.0, dtype=torch.float64))
    tail = 2 * normal.cdf(torch.tensor(-z_threshold(comparisons), dtype=torch.float64))
    assert float(tail) * comparisons == pytest.approx(FALSE_ALARM, rel=1e-6)
