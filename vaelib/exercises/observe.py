"""What is looked at in functions of tensors: values, form, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["form", "gradients", "tensor"]


def tensor(value: Any) -> Tensor:
    """`value`, if it is a tensor.

    Raises:
        TypeError: if it is anything else.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"a torch.Tensor should come back, not: {type(value).__name__}")
    return value


def form(function: Callable[..., Any], **inputs: Tensor) -> Iterator[tuple[str, Any]]:
    """Shape and dtype of the result in float32 and float64, and that the inputs stay as they were.

    Only that the numbers are of the dtype's own precision is not looked at.
    """
    for dtype in (torch.float64, torch.float32):
        arguments = {name: value.detach().to(dtype, copy=True) for name, value in inputs.items()}
        before = {name: value.clone() for name, value in arguments.items()}
        result = tensor(function(*arguments.values()))
        yield f"the shape, {_name(dtype)} in", tuple(result.shape)
        yield f"the dtype, {_name(dtype)} in", _name(result.dtype)
        changed = [name for name in before if not torch.equal(before[name], arguments[name])]
        yield f"the inputs afterwards, {_name(dtype)}", _sentence(changed)


def gradients(
    function: Callable[..., Any], weights: Tensor | None = None, **inputs: Tensor
) -> Iterator[tuple[str, Any]]:
    """The gradient of the weighted sum of the result in each input, 0 where none arrives.

    Arguments:
        weights: one for each number of the result, so that rows with each other's gradient are
            seen; 1, 2, … by default.
    """
    # Not leaves: so that a function that changes its inputs gets here, and fails for that alone.
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    result = tensor(function(*(leaf * 1 for leaf in leaves.values()))).reshape(-1)
    if weights is None:
        weights = torch.arange(1, len(result) + 1, dtype=result.dtype)
    total = (result * weights).sum()
    arrived: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if total.requires_grad:
        arrived = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    for (name, leaf), gradient in zip(leaves.items(), arrived, strict=True):
        yield f"the gradient in {name}", torch.zeros_like(leaf) if gradient is None else gradient


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _sentence(changed: list[str]) -> str:
    return f"{', '.join(changed)} changed" if changed else "unchanged"
