"""The bound that training maximises, and its slopes, for plain, compiled and captured steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vaelib.elbo import ELBO, check_bound, model_bound, needs_labels, takes_labels

__all__ = ["Objective", "Precision", "bound_in", "slopes", "term_sums"]

Precision = Literal["float32", "bfloat16"]


class Objective(nn.Module):
    """The bound to maximise, as a module with the model's parameters.

    Arguments:
        model: `model(x, eps)`, or `model(x, eps, y)`, returns its bound.
        function: maximised instead; `function(model, x, eps)`, or with `y`, returns an `ELBO`.

    Example:
        >>> from vaelib import VAE, importance_weighted_elbo
        >>> objective = Objective(VAE(shape=(6,), hidden=[4]), importance_weighted_elbo)
        >>> objective(torch.ones(3, 6), torch.zeros(5, 3, 2)).per_example.shape
        torch.Size([3])
    """

    def __init__(self, model: nn.Module, function: Callable[..., ELBO] | None = None) -> None:
        super().__init__()
        self.model = model
        self.function = function
        # If labels are optional for the function, the model decides.
        is_optional = takes_labels(function) and not needs_labels(function)
        asked = model if function is None or is_optional else function
        self.takes_labels, self.needs_labels = takes_labels(asked), needs_labels(asked)

    @property
    def name(self) -> str:
        """The name of the function, which checkpoints compare."""
        return "None" if self.function is None else _name(self.function)

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> ELBO:
        """The bound of x (N, …) with noise eps (S, N, K); y is used only if labels are taken."""
        y = y if self.takes_labels else None
        if self.function is None:
            return model_bound(self.model, x, eps, y)
        arguments: list[Any] = [self.model, x, eps] if y is None else [self.model, x, eps, y]
        return check_bound("objective", self.function(*arguments), len(x))


def _name(value: object) -> str:
    """A text that is the same in every process; that of an object often holds its address."""
    if isinstance(value, partial):
        given = [*map(_name, value.args), *(f"{k}={_name(v)}" for k, v in value.keywords.items())]
        return f"{_name(value.func)}({', '.join(given)})"
    if not callable(value):
        return repr(value)
    return getattr(value, "__name__", type(value).__name__)


def bound_in(
    precision: Precision,
    objective: Callable[..., ELBO],
    x: Tensor,
    eps: Tensor,
    y: Tensor | None,
) -> ELBO:
    """The bound of a minibatch, with the matrix products in this precision."""
    arguments = (x, eps) if y is None else (x, eps, y)
    kind = x.device.type
    if precision == "float32" and not torch.is_autocast_enabled(kind):
        return objective(*arguments)
    low, caches = precision == "bfloat16", kind != "cuda"
    # Without a cache, since a graph would keep the first step's bfloat16 weights for all steps.
    with torch.autocast(kind, torch.bfloat16, enabled=low, cache_enabled=caches):
        return objective(*arguments)


def slopes(
    bound: ELBO, of_reconstruction: float | Tensor, of_kl: float | Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The terms of a bound, and the derivative of the loss by each of them, in its shape.

    The loss −Σ (reconstruction − β·KL) / size is linear in the terms, so its derivatives are known
    without computing it: −1 / size and β / size. This saves nine small operations in each step.

    Example:
        >>> bound = ELBO(torch.zeros(4), torch.zeros(4, 2))
        >>> _, (of_reconstruction, of_kl) = slopes(bound, -1 / 4, 0.5 / 4)
        >>> of_reconstruction[0], of_kl[0]
        (tensor(-0.2500), tensor([0.1250, 0.1250]))
    """
    pairs = [(bound.reconstruction, of_reconstruction), (bound.kl, of_kl)]
    # A term may depend on no parameter, as the KL of a q that is not trained. If neither does,
    # torch says so.
    pairs = [pair for pair in pairs if pair[0].requires_grad] or pairs
    return [term for term, _ in pairs], [_shaped_as(term, slope) for term, slope in pairs]


def _shaped_as(term: Tensor, slope: float | Tensor) -> Tensor:
    return slope.expand_as(term) if isinstance(slope, Tensor) else torch.full_like(term, slope)


def term_sums(bound: ELBO) -> Tensor:
    """The bound's terms summed over examples: the reconstruction, then the KL per dimension."""
    terms = torch.cat([bound.reconstruction.unsqueeze(1), bound.kl], 1).detach()
    # Some accelerators have no float64.
    return terms.sum(0, dtype=torch.float32 if terms.device.type == "mps" else torch.float64)
