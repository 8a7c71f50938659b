"""Laws that many functions share, and integrals to hold closed forms against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["assert_gradients_equal", "assert_well_behaved", "integral", "real_line"]


def real_line(device: torch.device, half_width: float = 20.0, n: int = 4001) -> Tensor:
    """A grid (n,) in float64, wide and fine enough for Gaussians with 0.05 ≤ σ ≤ 2."""
    return torch.linspace(-half_width, half_width, n, dtype=torch.float64, device=device)


def integral(values: Tensor, grid: Tensor) -> Tensor:
    """∫ by the trapezoidal rule along dimension 0, (n, …) → (…).

    For a smooth function that vanishes at both ends the error falls exponentially in the spacing:
    for a Gaussian as exp(−2π²σ²/h²), so that rounding is what is left.
    """
    return torch.trapezoid(values, grid, dim=0)


def assert_gradients_equal(
    function: Callable[..., Tensor], other: Callable[..., Tensor], *inputs: Tensor
) -> None:
    """Assert that two functions have the same values and the same gradients in every input."""
    results = []
    for f in (function, other):
        leaves = [value.detach().clone().requires_grad_() for value in inputs]
        value = f(*leaves)
        # Different weights, so that rows with each other's gradient do not cancel out.
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype, device=value.device)
        gradients = torch.autograd.grad((value * weights.view(value.shape)).sum(), leaves)
        results.append((value.detach(), *gradients))
    torch.testing.assert_close(*results)


def assert_well_behaved(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Assert that a function of floating-point tensors is one of their values alone.

    It leaves its inputs and the global random state as they were, keeps their dtype (float32 and
    float64) and device, gives the same bits again, and reads strided views right.
    """
    for dtype in (torch.float32, torch.float64):
        arguments = [value.detach().to(dtype) for value in inputs]
        before = [value.clone() for value in arguments]
        random_state = torch.get_rng_state()
        result = function(*arguments)
        assert result.dtype == dtype
        assert result.device == arguments[0].device
        assert all(map(torch.equal, arguments, before)), "an input was changed"
        assert torch.equal(function(*arguments), result), "a second call gives another result"
        assert torch.equal(torch.get_rng_state(), random_state), "global random numbers were drawn"
        torch.testing.assert_close(function(*map(_strided, arguments)), result)


def _strided(value: Tensor) -> Tensor:
    # NaN between the entries: whoever reads the memory as if it were dense will show it.
    return torch.stack([value, torch.full_like(value, torch.nan)], dim=-1)[..., 0]
