"""Training and evaluation mode, set inside a `with` and restored after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluating", "training"]


def training(*models: object) -> contextlib.AbstractContextManager[None]:
    """Set training mode: dropout drops, and batch normalisation uses its batch."""
    return _mode(models, on=True)


def evaluating(*models: object) -> contextlib.AbstractContextManager[None]:
    """Set evaluation mode: no dropout, and batch normalisation uses what it has learnt."""
    return _mode(models, on=False)


@contextlib.contextmanager
def _mode(models: tuple[object, ...], on: bool) -> Iterator[None]:
    # A model need not be a module: `LinearGaussian` has no modes.
    networks = [model for model in models if isinstance(model, nn.Module)]
    # One by one, since some submodules may have been set to another mode by hand.
    before = [(module, module.training) for model in networks for module in model.modules()]
    for module, _ in before:
        module.training = on
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
