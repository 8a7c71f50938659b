"""Training and evaluation mode, and gradients: set inside a `with` and restored after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["evaluating", "gradients", "training"]


@contextlib.contextmanager
def gradients() -> Iterator[None]:
    """Record gradients, whether or not the caller does: for a `with`, or as a decorator."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


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
