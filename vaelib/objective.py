"""What training maximises, and its loss: shared by plain, compiled and captured steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vaelib.elbo import ELBO, model_bound, takes_labels

__all__ = ["Objective", "Precision", "negative_bound", "noise_dim", "term_sums"]

Precision = Literal["float32", "bfloat16"]


class Objective(nn.Module):
    """A model's own bound, or a function of the model, as a module with the model's parameters.

    Arguments:
        model: `model(x, eps)`, or `model(x, eps, y)`, is its bound.
        function: maximised instead: `function(model, x, eps)`, or with `y`, gives an `ELBO`.

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
        # Where a function may go without labels, the model says whether there are to be some.
        asked = model if function is None or _may_go_without_labels(function) else function
        self.takes_labels = takes_labels(asked)

    @property
    def name(self) -> str:
        """Of the function, for a checkpoint to compare."""
        return getattr(self.function, "__name__", str(self.function))

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> ELBO:
        """The bound of x (N, …) under noise eps (S, N, K); labels only where they are taken."""
        y = y if self.takes_labels else None
        if self.function is None:
            return model_bound(self.model, x, eps, y)
        arguments: list[Any] = [self.model, x, eps] if y is None else [self.model, x, eps, y]
        return self.function(*arguments)


def _may_go_without_labels(function: Callable[..., ELBO]) -> bool:
    labels = inspect.signature(function).parameters.get("y")
    return labels is not None and labels.default is not inspect.Parameter.empty


def noise_dim(model: Any) -> int:
    """K, the standard normal numbers that a model needs for a sample: as many as its prior has."""
    return int(model.prior.event_shape[0])


def negative_bound(
    objective: Callable[..., ELBO],
    x: Tensor,
    eps: Tensor,
    y: Tensor | None,
    beta: float | Tensor,
    precision: Precision,
    size: float | Tensor,
) -> tuple[ELBO, Tensor]:
    """The bound of a minibatch, and the scalar loss −Σ (reconstruction − β·KL) / size."""
    arguments = (x, eps) if y is None else (x, eps, y)
    kind = x.device.type
    if precision == "bfloat16" or torch.is_autocast_enabled(kind):
        low, caches = precision == "bfloat16", kind != "cuda"
        # A graph would keep the first step's weights, in bfloat16, for all later steps.
        with torch.autocast(kind, torch.bfloat16, enabled=low, cache_enabled=caches):
            bound = objective(*arguments)
    else:
        bound = objective(*arguments)
    return bound, bound.weighted(beta).sum() / -size


def term_sums(bound: ELBO) -> Tensor:
    """Its terms, summed over examples: the reconstruction, then the KL of each dimension."""
    terms = torch.cat([bound.reconstruction.unsqueeze(1), bound.kl], 1).detach()
    # Some accelerators have no float64.
    return terms.sum(0, dtype=torch.float32 if terms.device.type == "mps" else torch.float64)
