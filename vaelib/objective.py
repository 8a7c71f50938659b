"""The bound that training maximises, and its loss, for plain, compiled and captured steps."""

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
        # If labels are optional for the function, the model decides whether they are needed.
        asked = model if function is None or _may_go_without_labels(function) else function
        self.takes_labels = takes_labels(asked)

    @property
    def name(self) -> str:
        """The name of the function, which checkpoints compare."""
        return getattr(self.function, "__name__", str(self.function))

    def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> ELBO:
        """The bound of x (N, …) with noise eps (S, N, K); y is used only if labels are taken."""
        y = y if self.takes_labels else None
        if self.function is None:
            return model_bound(self.model, x, eps, y)
        arguments: list[Any] = [self.model, x, eps] if y is None else [self.model, x, eps, y]
        return self.function(*arguments)


def _may_go_without_labels(function: Callable[..., ELBO]) -> bool:
    labels = inspect.signature(function).parameters.get("y")
    return labels is not None and labels.default is not inspect.Parameter.empty


def noise_dim(model: Any) -> int:
    """K, the standard normal numbers per sample: the event size of the model's prior."""
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
        # Without a cache, since a graph would keep the first step's bfloat16 weights for all steps.
        with torch.autocast(kind, torch.bfloat16, enabled=low, cache_enabled=caches):
            bound = objective(*arguments)
    else:
        bound = objective(*arguments)
    return bound, bound.weighted(beta).sum() / -size


def term_sums(bound: ELBO) -> Tensor:
    """The bound's terms summed over examples: the reconstruction, then the KL per dimension."""
    terms = torch.cat([bound.reconstruction.unsqueeze(1), bound.kl], 1).detach()
    # Some accelerators have no float64.
    return terms.sum(0, dtype=torch.float32 if terms.device.type == "mps" else torch.float64)
