"""Inputs of checks, drawn from a seed such that wrong results differ from right ones."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["Draw"]


class Draw:
    """Draws the inputs of one check.

    Arguments:
        seed: what the inputs depend on.
        dtype: of all tensors that are drawn. The numbers are the same up to rounding.

    Example:
        >>> from vae_exercises.draw import Draw
        >>> draw = Draw("a seed")
        >>> mu = draw.mean(4, 2)
        >>> bool(((mu.abs() > 0.25) & ((mu.abs() - 1).abs() > 0.15)).all())
        True
    """

    def __init__(self, seed: str, dtype: torch.dtype = torch.float64) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        self.dtype = dtype

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw uniform numbers."""
        u = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return (low + (high - low) * u).to(self.dtype)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def integer(self, low: int, high: int) -> int:
        """Draw one of low, …, high − 1."""
        return int(torch.randint(low, high, (), generator=self.generator))

    def sign(self, *shape: int) -> Tensor:
        """Draw numbers that are −1 or 1."""
        return 2 * torch.randint(0, 2, shape, generator=self.generator).to(self.dtype) - 1

    def mean(self, *shape: int) -> Tensor:
        """Draw numbers of both signs, away from 0 and ±1: in ±[0.3, 0.8] and ±[1.2, 1.7]."""
        size = self.uniform(0.3, 0.8, *shape)
        far = torch.randint(0, 2, shape, generator=self.generator).to(self.dtype)
        return (size + 0.9 * far) * self.sign(*shape)

    def logvar(self, n: int, k: int) -> Tensor:
        """Draw (n, k) log-variances, |·| in [0.3, 1.2]: rows of both signs, of + and of −."""
        size = self.uniform(0.3, 1.2, n, k)
        sign = torch.ones(n, k, dtype=self.dtype)
        sign[0::3, ::2] = -1
        sign[2::3] = -1
        return size * sign

    def seed(self) -> int:
        """Draw a seed for a generator."""
        return self.integer(0, 2**31)
