"""How convolutions are computed while a baseline trains."""

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
    """Inside the `with`, products have this precision, and a GPU gives the same sums each time.

    Raises:
        ValueError: for another precision.

    Example:
        >>> with products(torch.device("cpu"), "bfloat16"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision must be "float32" or "bfloat16", not {precision!r}')
    low = precision == "bfloat16"
    # A cache would keep the first step's weights, in bfloat16, for all later steps.
    precise = torch.autocast(device.type, torch.bfloat16, enabled=low, cache_enabled=False)
    with repeatable(), precise:
        yield
