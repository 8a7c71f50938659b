"""Scaling your own data: arrays become pixels, tables are standardised; both can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaelib._checks import check_floating

__all__ = ["Scaling", "as_tensor", "pixels_from_array", "standardise"]

Array = npt.NDArray[Any] | Tensor | Sequence[Any]

# Values converted at a time, so that memory is hardly more than that of the result.
_BLOCK = 2**22


@dataclass(frozen=True, eq=False)
class Scaling:
    """The map x ↦ (x − shift) / scale, and its inverse.

    log p(x) in the original units is log p of the scaled row minus the sum of log scale over its D
    values, `scale.log().expand(D).sum()`, in nats.

    Arguments:
        shift, scale: float64, one for all values () or one for each column (D,); scale > 0.

    Example:
        >>> celsius = Scaling(shift=torch.tensor(32.0), scale=torch.tensor(1.8))
        >>> celsius.apply(torch.tensor([212.0])), celsius.undo(torch.tensor([100.0]))
        (tensor([100.]), tensor([212.]))
    """

    shift: Tensor
    scale: Tensor

    def apply(self, x: Array) -> Tensor:
        """Scale values (…, D) in the original units: float32."""
        values = as_tensor("x", x)
        self._check_width(values)
        # In double precision, so that a time stamp keeps its digits, and on the CPU, which has it.
        scaled = (values.to("cpu", torch.float64) - self.shift) / self.scale
        return scaled.to(torch.float32).to(values.device)

    def undo(self, x: Tensor) -> Tensor:
        """Convert scaled values (…, D) to the original units, in the dtype of `x`."""
        check_floating(x=x)
        self._check_width(x)
        return x * self.scale.to(x) + self.shift.to(x)

    def _check_width(self, x: Tensor) -> None:
        if self.scale.dim() and x.shape[-1:] != self.scale.shape:
            raise ValueError(
                f"x must have {len(self.scale)} columns, as the scaled table has, but is "
                f"{tuple(x.shape)}"
            )


def standardise(table: Array) -> tuple[Tensor, Scaling]:
    """Scale each column of a table to mean 0 and standard deviation 1.

    Use it before `fit` if columns have different units: then the encoder starts near the prior, and
    one σ of a Gaussian likelihood suits all columns. Scale other rows, such as the test set's, by
    the same numbers: `scaling.apply(rows)`. A constant column becomes 0.

    Arguments:
        table: (N, D) real numbers, an array or a tensor; N ≥ 2.

    Returns:
        The table as float32 on the CPU, and its `Scaling`.

    Raises:
        ValueError: when the table has another shape, or a value is missing or infinite; the message
            names the first such column.

    Example:
        >>> people = np.array([[1.62, 54_000.0], [1.81, 71_000.0], [1.70, 43_000.0]])
        >>> x, scaling = standardise(people)
        >>> x.mean(0).abs().max() < 1e-6, x.std(0, correction=0)
        (tensor(True), tensor([1., 1.]))
        >>> scaling.undo(x)[1]
        tensor([1.8100e+00, 7.1000e+04])
    """
    values = as_tensor("table", table).to("cpu", torch.float64)
    if values.dim() != 2 or len(values) < 2 or not values.numel():
        raise ValueError(
            f"table must be (N, D) with at least two rows, but is {tuple(values.shape)}"
        )
    if not (finite := values.isfinite().all(0)).all():
        column = int((~finite).nonzero()[0])
        raise ValueError(
            f"table must be finite, but column {column} (from 0) holds NaN or infinity: drop the "
            "rows that lack a value, or fill them in"
        )
    mean, deviation = values.mean(0), values.std(0, correction=0)
    # Rounding gives equal numbers another mean, and a deviation above 0.
    is_constant = (values == values[0]).all(0)
    scaling = Scaling(
        torch.where(is_constant, values[0], mean),
        torch.where(is_constant | (deviation == 0), 1.0, deviation),
    )
    return scaling.apply(values), scaling


def pixels_from_array(
    values: Tensor,
    channels: Literal["first", "last"] | None,
    scale: tuple[float, float] | None,
) -> tuple[Tensor, Scaling | None]:
    """Pixels (N, C, H, W) uint8 of an array, and their scaling; see `Images.from_array`.

    A uint8 array is not copied.

    Raises:
        ValueError: when the shape, the channels or the scale do not fit the array.

    Example:
        >>> pixels, scaling = pixels_from_array(torch.tensor([[[0.0, 0.2, 1.0]]]), None, None)
        >>> pixels, scaling
        (tensor([[[[  0,  51, 255]]]], dtype=torch.uint8), None)
    """
    if scale is not None:
        _check_scale(scale)
    values = _channels_first(values, channels)
    if values.dtype in (torch.uint8, torch.bool):
        if scale is not None:
            raise ValueError(
                "scale must be left out for uint8, in which 0 is black and 255 is white, and for "
                "booleans, in which True is white"
            )
        is_binary = values.dtype == torch.bool
        return (values.to(torch.uint8).mul_(255) if is_binary else values), None
    if scale is None and not values.is_floating_point():
        raise ValueError(
            f"scale must say which numbers are black and white, since array is {values.dtype}: "
            "such as scale=(0, 65535); or convert to uint8"
        )
    low, high = scale or (0.0, 1.0)
    pixels = torch.empty(values.shape, dtype=torch.uint8, device=values.device)
    rows = max(1, _BLOCK // max(1, values[:1].numel()))
    for part, out in zip(values.split(rows), pixels.split(rows), strict=True):
        if part.dtype not in (torch.float32, torch.float64):
            # Large integers are not exact in float32, and Apple's GPUs have no float64.
            part = part.to("cpu", torch.float64)
        levels = ((part - low) * (255 / (high - low))).round()
        # Also false for NaN.
        if not ((levels >= 0) & (levels <= 255)).all():
            raise ValueError(
                f"array must hold numbers from {low:g} to {high:g}, but one is outside or NaN: "
                "give scale=(black, white)"
            )
        out.copy_(levels)
    return pixels, None if scale is None else Scaling(
        *torch.tensor([low, high - low], dtype=torch.float64)
    )


def as_tensor(name: str, array: Array) -> Tensor:
    """Convert an array to a tensor that shares its memory if possible.

    Read-only memory, such as a file mapped with mode "r", is shared too, because vaelib never
    writes to its arguments.

    Raises:
        ValueError: when the array does not hold real numbers; the message uses `name`.

    Example:
        >>> as_tensor("array", np.arange(3))
        tensor([0, 1, 2])
    """
    if isinstance(array, Tensor):
        if array.is_complex():
            raise ValueError(f"{name} must hold real numbers, but is {array.dtype}")
        return array.detach()
    try:
        values = np.asarray(array)
    except ValueError as error:
        raise ValueError(f"{name} must be an array or a tensor: {error}") from error
    if np.ma.is_masked(array):
        raise ValueError(f"{name} must have no masked values: replace them (`array.filled(0)`)")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, but is an array of {values.dtype}")
    if not values.dtype.isnative or values.dtype.itemsize > 8:
        values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    if any(stride < 0 for stride in values.strides):
        values = values.copy()
    if not values.flags.writeable:
        values = np.asarray(_Lent(values))
    return torch.from_numpy(values)


class _Lent:
    """Read-only memory that is described as writable.

    torch warns of read-only memory, and a warning can only be silenced for all threads.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.lender = array  # kept alive by the user of this object
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _check_scale(scale: tuple[float, float]) -> None:
    try:
        low, high = (float(end) for end in scale)
    except (TypeError, ValueError):
        low = high = 0.0
    # Also false for NaN.
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"scale must be (black, white), two numbers in this order, not {scale!r}")


def _channels_first(values: Tensor, channels: Literal["first", "last"] | None) -> Tensor:
    """The values as (N, C, H, W), as a view."""
    if channels not in (None, "first", "last"):
        raise ValueError(f'channels must be "first" or "last", not {channels!r}')
    if values.dim() == 3:
        return values.unsqueeze(1)
    if values.dim() != 4:
        raise ValueError(
            "array must hold images, (N, H, W), (N, C, H, W) or (N, H, W, C), but is "
            f"{tuple(values.shape)}: a table (N, D) is scaled by `standardise`"
        )
    if channels is None:
        first, last = values.shape[1] in (1, 3), values.shape[3] in (1, 3)
        if first == last:
            raise ValueError(
                'channels must be "first" or "last", because an array of '
                f"{tuple(values.shape)} does not tell where they are"
            )
        channels = "first" if first else "last"
    return values if channels == "first" else values.permute(0, 3, 1, 2)
