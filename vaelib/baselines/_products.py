"""How convolutions are computed while a baseline trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

__all__ = ["Precision", "products"]

Precision = Literal["float32", "bfloat16"]


@contextlib.contextmanager
def products(device: torch.device, precision: Precision) -> Iterator[None]:
    """Inside the `with`, products have this precision, and a GPU gives the same sums each time.

    Left to itself, cuDNN adds in any order, and two runs differ in the fifth digit. Its settings
    are the whole process's; they are put back.

    Raises:
        ValueError: for another precision.

    Example:
        >>> with products(torch.device("cpu"), "bfloat16"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision must be "float32" or "bfloat16", not {precision!r}')
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    # One by one: `cudnn.flags` would also set what has nothing to do with it.
    cudnn.deterministic, cudnn.benchmark = True, False
    low = precision == "bfloat16"
    try:
        # A cache would keep the first step's weights, in bfloat16, for all later steps.
        with torch.autocast(device.type, torch.bfloat16, enabled=low, cache_enabled=False):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
