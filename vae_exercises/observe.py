"""What is observed of functions of tensors: form, gradients, and what they leave behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vae_exercises import settings
from vae_exercises.errors import WrongResult, described
from vae_exercises.facts import Near

__all__ = [
    "Function",
    "Observed",
    "Watched",
    "finite",
    "form",
    "gradients",
    "moments",
    "seeds",
    "tensor",
    "unpacked",
]

Function = Callable[..., Any]
Observed = Iterator[tuple[str, Any]]  # facts, each with its name
DRAWN = "random numbers are drawn or a seed is set"


def tensor(value: Any) -> Tensor:
    """`value`, if it is a tensor.

    Raises:
        WrongResult: if it is anything else.
    """
    if not isinstance(value, Tensor):
        raise WrongResult(described(value))
    return value


def unpacked(value: Any, n: int, wanted: str) -> tuple[Any, ...]:
    """The n parts of `value`, if it is a tuple or a list of so many.

    Arguments:
        value: what came back.
        n: how many parts are wanted.
        wanted: what they are, for the message.

    Raises:
        WrongResult: if it is anything else.
    """
    if not isinstance(value, tuple | list) or len(value) != n:
        raise WrongResult(described(value, wanted))
    return tuple(value)


def finite(value: Any) -> str:
    """A fact: whether all numbers are finite, some of them, or none (∞ or NaN)."""
    kept = tensor(value).isfinite()
    return "finite" if kept.all() else "partly finite" if kept.any() else "not finite"


def form(function: Callable[..., Any], *cases: dict[str, Tensor]) -> Iterator[tuple[str, Any]]:
    """Shape and dtype of the result, in float32 and in float64.

    Arguments:
        function: of the inputs, in their order.
        cases: inputs by name; cases of 1 example or 1 dimension show what a squeeze removes.
    """
    for inputs in cases:
        for dtype in (torch.float32, torch.float64):
            name = str(dtype).removeprefix("torch.")
            sizes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in inputs.items())
            result = tensor(function(*(value.detach().to(dtype) for value in inputs.values())))
            yield f"the shape for {name} inputs {sizes}", tuple(result.shape)
            yield f"the dtype for {name} inputs {sizes}", str(result.dtype).removeprefix("torch.")


def gradients(
    function: Callable[..., Any], weights: Tensor | None = None, **inputs: Tensor
) -> Iterator[tuple[str, Any]]:
    """The gradient of the weighted sum of the result in each input, 0 where none arrives.

    Arguments:
        function: of the inputs, in their order.
        weights: one for each number of the result, so that rows with each other's gradient are
            seen; 1, 2, … by default.
        inputs: by name.
    """
    # Not leaves: so that a function that changes its inputs gets here, and fails for that alone.
    leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    result = tensor(function(*(leaf * 1 for leaf in leaves.values()))).reshape(-1)
    if weights is None:
        weights = torch.arange(1, len(result) + 1, dtype=result.dtype)
    if len(weights) != len(result):
        yield "how many numbers come back", len(result)
        return
    total = (result * weights).sum()
    arrived: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if total.requires_grad:
        arrived = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    for (name, leaf), gradient in zip(leaves.items(), arrived, strict=True):
        yield f"the gradient in {name}", torch.zeros_like(leaf) if gradient is None else gradient


def moments(rows: Tensor, n: int) -> tuple[Near, Near, Near]:
    """Mean, mean product and kurtosis of rows (N, K), which are right for draws of N(0, I).

    Arguments:
        rows: in float64.
        n: how many draws are asked for, on which the tolerance depends.
    """
    k, error = rows.shape[1], 6.5 / n**0.5
    one = torch.eye(k, dtype=rows.dtype)
    mean = Near(rows.mean(0), 0 * one[0], torch.tensor(error))
    products = Near(rows.mT @ rows / len(rows), one, error * (1 + one).sqrt())
    # 3 for a normal of any variance, 1.8 for a uniform one.
    kurtosis = (rows.pow(4).mean() / rows.square().mean() ** 2).reshape(1)
    tolerance = torch.tensor([error * (24 / k) ** 0.5])
    return mean, products, Near(kurtosis, 3 * one[0, :1], tolerance)


def seeds(call: Callable[[], Any]) -> tuple[str, str]:
    """A fact: whether a call that may draw random numbers sets a seed, too."""
    states = []
    with settings.kept():
        for seed in (1, 2, 1):
            settings.seed(seed)
            call()
            states.append(settings.read(settings.RANDOM))
    first, second, again = states
    fixed = [name for name in first if first[name] == second[name]]
    anew = [name for name in first if first[name] != again[name]]
    said = [f"{name}'s are the same for every seed" for name in fixed]
    said += [f"{name}'s are others for the same seed" for name in anew]
    return "random numbers after a call", " and ".join(said) or "go on"


class Watched:
    """A function, and what its calls leave behind that is not theirs to change.

    Looked at are the values and `requires_grad` of arguments that are tensors, training modes and
    `requires_grad` in arguments that are modules, the settings of the notebook and, unless the
    function may draw from them, its random states.

    Arguments:
        function: to be called.
        draws: whether it may draw from random numbers that are not handed to it.
        conduct: whether anything is looked at.
        settings_only: whether nothing but the settings is looked at.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        draws: bool,
        conduct: bool = True,
        settings_only: bool = False,
    ) -> None:
        self.function, self.draws, self.conduct = function, draws, conduct
        self.settings_only = settings_only
        self._left: dict[str, None] = {}  # in order, each once

    def beside(self, function: Callable[..., Any], draws: bool) -> Watched:
        """Another function: what it leaves behind is told with that of this one."""
        other = Watched(function, draws, self.conduct, self.settings_only)
        other._left = self._left
        return other

    @property
    def left(self) -> list[str]:
        """What calls have left behind so far, each once."""
        return [*self._left]

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Call the function, put the settings back, and note what it has changed."""
        settings_before, loaded = settings.read(settings.SETTINGS), len(sys.modules)
        before = self._seen(inputs, options)
        try:
            result = self.function(*inputs, **options)
        finally:
            changed = settings.put_back(settings.SETTINGS, settings_before)
        if self.conduct:
            if len(sys.modules) == loaded:  # an import may change settings for good
                self._left.update(dict.fromkeys(changed))
            for old, new in zip(before, self._seen(inputs, options), strict=True):
                self._left.update((name, None) for name in old if not _equal(old[name], new[name]))
        return result

    def _seen(self, inputs: tuple[Any, ...], options: dict[str, Any]) -> list[dict[str, Any]]:
        if not self.conduct or self.settings_only:
            return []
        drawn = {} if self.draws else {DRAWN: settings.read(settings.RANDOM)}
        return [drawn, *map(_state_of, [*inputs, *options.values()])]


def _state_of(argument: Any) -> dict[str, Any]:
    if isinstance(argument, Tensor):
        return {
            "an input is changed": argument.detach().clone(),
            "requires_grad of an input is changed": argument.requires_grad,
        }
    if isinstance(argument, nn.Module):
        modes = {name: module.training for name, module in argument.named_modules()}
        needs = {name: p.requires_grad for name, p in argument.named_parameters()}
        return {
            "the training mode of a module is changed": modes,
            "requires_grad of a parameter is changed": needs,
        }
    return {}


def _equal(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor):
        return old.shape == new.shape and torch.allclose(old, new, 0, 0, equal_nan=True)
    if isinstance(old, dict):  # a part that was added changes nothing that was there
        return all(new.get(name) == value for name, value in old.items())
    return bool(old == new)
