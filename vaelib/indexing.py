"""Rows of a data set: indexing as in NumPy, and division into shares."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Index", "rows_of", "shared_out"]

Index = (
    slice
    | Tensor
    | Sequence[int]
    | Sequence[bool]
    | npt.NDArray[np.integer[Any]]
    | npt.NDArray[np.bool_]
)


def rows_of(index: Any, length: int) -> int | slice | Tensor:
    """One row, counted from the front; or rows as a slice, a tensor of indices or a mask.

    Raises:
        IndexError: when a row is out of range, or a mask of another length.
        TypeError: when it is not an index.

    Example:
        >>> rows_of(-1, 5), rows_of([True, False], 2), rows_of(range(3), 5)
        (4, tensor([ True, False]), tensor([0, 1, 2]))
    """
    if isinstance(index, slice):
        # torch does not support negative steps.
        every = range(*index.indices(length))
        return index if every.step > 0 else torch.tensor(every, dtype=torch.int64)
    is_scalar = not hasattr(index, "__len__") or (hasattr(index, "ndim") and index.ndim == 0)
    kind = getattr(index, "dtype", type(index))
    if is_scalar and kind not in (bool, torch.bool, np.bool_):
        try:
            row = operator.index(index)
        except TypeError as error:
            raise TypeError(_not_an_index(index)) from error
        if not -length <= row < length:
            raise IndexError(f"index {row} is out of range for {length} images")
        return row % length
    if isinstance(index, (tuple, str, bytes)) or is_scalar:
        raise TypeError(_not_an_index(index))
    try:
        rows = index if isinstance(index, Tensor) else torch.as_tensor(np.asarray(index))
    except (TypeError, ValueError) as error:
        raise TypeError(_not_an_index(index)) from error
    if not isinstance(index, Tensor) and not len(rows):
        rows = rows.to(torch.int64)
    if rows.ndim != 1 or rows.is_floating_point() or rows.is_complex():
        raise TypeError(
            f"images are indexed by one dimension of integers or booleans, not by "
            f"{tuple(rows.shape)} of {rows.dtype}"
        )
    if rows.dtype == torch.bool:
        if len(rows) != length:
            raise IndexError(f"a mask for {length} images cannot hold {len(rows)} booleans")
        return rows
    rows = rows.to(torch.int64)
    if len(rows) and not (-length <= int(rows.min()) and int(rows.max()) < length):
        raise IndexError(
            f"indices from {int(rows.min())} to {int(rows.max())} are out of range for "
            f"{length} images"
        )
    return rows


def _not_an_index(index: object) -> str:
    return (
        "images are indexed by an integer, a slice, or a list, array or tensor of integers or "
        f"booleans, not by {index!r}"
    )


def shared_out(n: int, shares: list[float]) -> Tensor:
    """The number of the part for each of n places; every stretch has the parts in proportion.

    Example:
        >>> shared_out(10, [0.8, 0.2])
        tensor([0, 0, 1, 0, 0, 0, 0, 1, 0, 0])
    """
    ends = [round(n * sum(shares[: i + 1])) for i in range(len(shares))]
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    # The j-th place of a part of size m comes after (j + ½)/m of all places.
    due = torch.cat([(torch.arange(size, dtype=torch.float64) + 0.5) / size for size in sizes])
    parts = torch.repeat_interleave(torch.tensor(sizes))
    return parts[due.argsort(stable=True)]
