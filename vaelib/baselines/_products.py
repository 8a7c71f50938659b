"""The precision and repeatability of products while a baseline trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from vaelib.cuda_graph import repeatable

__all__ = ["Precision", "products"]

Precision = Literal["float32", "bfloat16"]


@contextlib.contextmanager
def products(device: torch.device, precision: Precision) -> Iterator[None]:
    """Set the precision of products inside the `with`, and make a GPU's sums repeatable.

    Raises:
        ValueError: when the precision is unknown.

    Example:
        >>> with products(torch.device("cpu"), "bfloat16"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision must be "float32" or "bfloat16", not {precision!r}')
    low = precision == "bfloat16"
    # Without a cache, which would keep the first step's bfloat16 weights for all later steps.
    precise = torch.autocast(device.type, torch.bfloat16, enabled=low, cache_enabled=False)
    with repeatable(), precise:
        yield
