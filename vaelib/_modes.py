"""Training and evaluation mode: set for a while, and put back as they were found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluating", "training"]


def training(*models: object) -> contextlib.AbstractContextManager[None]:
    """Train inside the `with`: dropout drops, batch normalisation follows its batches."""
    return _mode(models, on=True)


def evaluating(*models: object) -> contextlib.AbstractContextManager[None]:
    """Evaluate inside the `with`: no dropout, and batch normalisation as it was learnt."""
    return _mode(models, on=False)


@contextlib.contextmanager
def _mode(models: tuple[object, ...], on: bool) -> Iterator[None]:
    # A model need not be a module: `LinearGaussian` has no modes.
    networks = [model for model in models if isinstance(model, nn.Module)]
    # Each submodule by itself, since some may have been frozen by hand.
    before = [(module, module.training) for model in networks for module in model.modules()]
    for module, _ in before:
        module.training = on
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
