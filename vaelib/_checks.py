"""Checks of arguments. An error names the argument, what was expected and what came.

Numbers, shapes and dtypes are always checked, because that costs nothing. The values of tensors are
checked unless `value_checks` switches that off, as the training loop does after its first step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from numbers import Integral, Real
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

__all__ = [
    "broadcasts",
    "check_alike",
    "check_at_least",
    "check_classes",
    "check_device",
    "check_finite",
    "check_fits",
    "check_floating",
    "check_floats",
    "check_generator",
    "check_integers",
    "check_latent",
    "check_not_negative",
    "check_observed",
    "check_positive",
    "check_same_dtype",
    "check_same_shape",
    "check_seed",
    "check_shape",
    "check_tensor",
    "validates",
    "value_checks",
]


def check_at_least(least: int, **numbers: int) -> None:
    """Refuse anything but an integer of at least `least`."""
    for name, value in numbers.items():
        if not _is_count(value) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")


def check_integers(least: int, **sequences: Sequence[int]) -> None:
    """Refuse anything but a sequence of integers of at least `least`."""
    for name, value in sequences.items():
        if not isinstance(value, Sequence):
            raise ValueError(
                f"{name} must be a list or tuple of integers of at least {least}, not {value!r}"
            )
        # A string is a sequence too, but its letters are not integers.
        if not all(_is_count(n) and n >= least for n in value):
            raise ValueError(f"{name} must hold integers of at least {least}, not {value!r}")


def check_shape(shape: Sequence[int]) -> None:
    """Refuse anything but the shape of an observation, which has at least one size."""
    check_integers(1, shape=shape)
    if not shape:
        raise ValueError("shape must hold at least one size, but is empty")


def check_positive(**numbers: float) -> None:
    """Refuse anything but a finite number above 0."""
    for name, value in numbers.items():
        if not _is_number(value) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, not {value!r}")


def check_not_negative(**numbers: float) -> None:
    """Refuse anything but a finite number of at least 0."""
    for name, value in numbers.items():
        if not _is_number(value) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number of at least 0, not {value!r}")


def check_device(device: torch.device | str) -> torch.device:
    """Return the device, and refuse one that PyTorch or this machine does not have."""
    try:
        # Only a tensor can tell: PyTorch may know the name of a device that is absent. Copying it
        # fails on "meta", where tensors hold no numbers.
        found = torch.zeros(0, device=device)
        found.cpu()
        return found.device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f'device must be one that PyTorch can use here, such as "cpu", not {str(device)!r}'
        ) from error


def check_seed(**seeds: int) -> None:
    """Refuse anything but integers from 0 to 2⁶³ − 1."""
    for name, value in seeds.items():
        if not _is_seed(value):
            raise ValueError(f"{name} must be an integer from 0 to 2⁶³ − 1, not {value!r}")


def check_generator(
    generator: torch.Generator | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the generator itself, or one on the device with that seed."""
    if isinstance(generator, torch.Generator):
        return generator
    if _is_seed(generator):
        return torch.Generator(device).manual_seed(int(generator))
    raise ValueError(
        "generator must be a torch.Generator or a seed (an integer from 0 to 2⁶³ − 1), "
        f"not {generator!r}"
    )


def check_tensor(**tensors: Tensor) -> None:
    """Refuse lists and arrays, and anything else that is not a tensor."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} must be a tensor, but is {type(value).__name__}: convert it "
                "(`torch.as_tensor`)"
            )


def check_floating(**tensors: Tensor) -> None:
    """Refuse integers: torch would round, or fail without naming the argument."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            check_tensor(**{name: value})
            how = "`.float() / 255` for pixels" if value.dtype == torch.uint8 else "`.float()`"
            raise ValueError(
                f"{name} must be floating point, but is {value.dtype}: convert it ({how})"
            )


def check_alike(asked: bool | None = None, /, **tensors: Tensor) -> None:
    """Refuse tensors that are not floating point, of one shape and one dtype, and finite.

    Values are read as `check_finite` reads them.
    """
    # One quick pass, since every training step calls this; the fault is located afterwards.
    first, *others = tensors.values()
    alike = isinstance(first, Tensor) and first.is_floating_point()
    for value in others:
        alike = (
            alike
            and isinstance(value, Tensor)
            and value.dtype == first.dtype
            and value.shape == first.shape
        )
    if not alike:
        check_floating(**tensors)
        check_same_shape(**tensors)
        check_same_dtype(**tensors)
    check_finite(asked, **tensors)


def check_floats(
    name: str, value: Tensor, *sizes: int | str | EllipsisType, dtype: torch.dtype | None = None
) -> None:
    """Refuse anything but a finite floating-point tensor of these sizes.

    A letter stands for any size, `"N ≥ 1"` for a size of at least 1, and `...` for any number of
    dimensions.
    """
    check_floating(**{name: value})
    if not _has_sizes(value.shape, sizes) or dtype not in (None, value.dtype):
        listed = ["…" if size is ... else str(size) for size in sizes]
        expected = f"({', '.join(listed)}{',' * (len(listed) == 1)})" if sizes else "a scalar"
        of_dtype = "" if dtype is None else f" and {dtype}"
        but = tuple(value.shape) if dtype is None else f"{tuple(value.shape)} and {value.dtype}"
        raise ValueError(f"{name} must be {expected}{of_dtype}, but is {but}")
    check_finite(**{name: value})


def check_classes(name: str, labels: Tensor, n: int) -> None:
    """Refuse anything but one integer for each of n examples."""
    check_tensor(**{name: labels})
    if labels.shape != (n,) or labels.is_floating_point():
        raise ValueError(
            f"{name} must be ({n},) integers, but is {tuple(labels.shape)} {labels.dtype}"
        )


def check_latent(**tensors: Tensor) -> None:
    """Refuse scalars where the last dimension is the latent one."""
    for name, value in tensors.items():
        if value.dim() == 0:
            raise ValueError(f"{name} must have a latent dimension, (…, K), but is a scalar")


def check_same_dtype(**tensors: Tensor) -> None:
    """Refuse a mixture of dtypes, on which torch would fail without naming the arguments."""
    dtypes = [value.dtype for value in tensors.values()]
    if any(dtype != dtypes[0] for dtype in dtypes):
        listed = " and ".join(map(str, dtypes))
        raise ValueError(f"{' and '.join(tensors)} must have the same dtype, but have {listed}")


def check_fits(name: str, value: Tensor, network: nn.Module) -> None:
    """Refuse a dtype other than that of the parameters, unless autocast converts it."""
    check_floating(**{name: value})
    parameter = next(network.parameters(), value)
    if value.dtype != parameter.dtype and not torch.is_autocast_enabled(value.device.type):
        raise ValueError(
            f"{name} must be {parameter.dtype}, as the parameters are, but is {value.dtype}"
        )


def check_same_shape(**tensors: Tensor) -> None:
    """Refuse shapes that differ, before broadcasting hides the difference."""
    shapes = [value.shape for value in tensors.values()]
    if any(shape != shapes[0] for shape in shapes):
        listed = " and ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{' and '.join(tensors)} must have the same shape, but have {listed}")


def check_finite(asked: bool | None = None, /, **tensors: Tensor) -> None:
    """Refuse NaN and infinity, if values are checked or `asked` is true."""
    if not validates(asked):
        return
    for name, value in tensors.items():
        # A sum takes one pass and no memory, but may overflow although every number is finite.
        if not math.isfinite(value.detach().sum().item()) and not value.isfinite().all():
            raise ValueError(f"{name} must be finite, but holds NaN or infinity")


def check_observed(name: str, value: Tensor, distribution: Distribution) -> None:
    """Refuse a value that is not one observation per batch entry of `distribution`."""
    check_tensor(**{name: value})
    if value.is_complex():
        raise ValueError(f"{name} must be real, but is {value.dtype}")
    event, batch = distribution.event_shape, distribution.batch_shape
    split = value.dim() - len(event)
    if value.shape[split:] != event:
        raise ValueError(
            f"{name} must end in the shape {tuple(event)}, but is {tuple(value.shape)}"
        )
    if not broadcasts(value.shape[:split], batch):
        raise ValueError(
            f"{name} must be one observation {tuple(event)} for each of the batch {tuple(batch)}, "
            f"but is {tuple(value.shape)}"
        )


def broadcasts(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes broadcast; `torch.broadcast_shapes` takes twenty times as long."""
    if one == other:
        return True
    pairs = zip(reversed(one), reversed(other), strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


# One value per thread and task: a training run must not switch off another one's checks.
_reads_values = ContextVar("reads_values", default=True)


@contextlib.contextmanager
def value_checks(on: bool) -> Iterator[None]:
    """Switch checks of values on or off inside the `with`. Reading a value makes a GPU wait.

    vaelib needs a switch of its own: the first call of `torch.compile` turns off that of
    `torch.distributions` for the whole process, and a Bernoulli would silently accept grey pixels.
    """
    before = _reads_values.set(on)
    try:
        yield
    finally:
        _reads_values.reset(before)


def validates(validate_args: bool | None) -> bool:
    """Whether to check values: as asked, else as the innermost `value_checks` says.

    A compiled graph never reads values, unless asked to.
    """
    if validate_args is not None:
        return validate_args
    # In this order, so that the graph does not depend on the switch.
    return not torch.compiler.is_compiling() and _reads_values.get()


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_seed(value: Any) -> bool:
    return _is_count(value) and 0 <= int(value) < 2**63


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _has_sizes(shape: Sequence[int], sizes: tuple[int | str | EllipsisType, ...]) -> bool:
    if ... in sizes:
        at = sizes.index(...)
        sizes = (*sizes[:at], *["any"] * (len(shape) - len(sizes) + 1), *sizes[at + 1 :])
    return len(shape) == len(sizes) and all(
        n >= int(size.partition("≥")[2] or 0) if isinstance(size, str) else n == size
        for n, size in zip(shape, sizes, strict=True)
    )
