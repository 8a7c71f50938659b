"""The shared laws hold for what obeys them and can fail for what does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from laws import assert_gradients_equal, assert_well_behaved, integral, real_line
from torch import Tensor


def test_integrates_gaussians_to_rounding(device: torch.device) -> None:
    grid = real_line(device)
    for sigma in (0.05, 1.0, 2.0):
        density = torch.exp(-0.5 * ((grid - 0.3) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        assert float(integral(density, grid)) == pytest.approx(1.0, abs=1e-12)


def test_values_or_gradients_that_differ_are_seen(device: torch.device) -> None:
    x = torch.tensor([[0.5, -2.0], [1.0, 3.0]], device=device)
    assert_gradients_equal(torch.square, lambda x: x * x, x)
    with pytest.raises(AssertionError):
        assert_gradients_equal(torch.square, lambda x: x * x + 1e-3, x)
    with pytest.raises(AssertionError):
        assert_gradients_equal(torch.square, lambda x: x * x.detach(), x)  # half the gradient


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mul_(2),
        lambda x: x.float(),
        lambda x: x + torch.rand(()),
        lambda x: torch.rand(()) * 0 + x,
        lambda x: x.as_strided(x.shape, (x.shape[1], 1)) + 0,
    ],
    ids=["in place", "dtype", "noise", "random state", "strides"],
)
def test_misbehaviour_is_seen(function: Callable[[Tensor], Tensor], device: torch.device) -> None:
    x = torch.ones(3, 2, dtype=torch.float64, device=device)
    assert_well_behaved(lambda x: x * 2, x)
    with pytest.raises(AssertionError):
        assert_well_behaved(function, x)
