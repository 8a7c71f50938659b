"""What `fit` can train: a model, and an optimizer and functions that go with it."""

from __future__ import annotations

import inspect
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from vaelib._checks import check_positive
from vaelib._optimizers import is_plain_adam

__all__ = ["check_functions", "check_model", "check_optimizer"]


def check_model(model: nn.Module) -> None:
    """Refuse a model that has nothing to train, or whose parameters cannot be trained."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a module (nn.Module), but is {type(model).__name__}")
    if not hasattr(model, "prior"):
        raise ValueError(
            "model must have a prior, as a `LatentVariableModel` has, but "
            f"{type(model).__name__} has none"
        )
    if any(is_lazy(part) for part in chain(model.parameters(), model.buffers())):
        raise ValueError(
            "model must be initialised, but has lazy layers: call it once, as model(x, eps)"
        )
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError("model must have parameters to train, but has none")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model must have parameters to train, but none requires a gradient")
    if parameter.is_inference():
        raise ValueError("model must be built outside torch.inference_mode")
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"model must have parameters in float32 or float64, but has {parameter.dtype}: keep "
            'them in float32 (`model.float()`) and choose precision="bfloat16"'
        )


def check_functions(**functions: object) -> None:
    """Refuse anything but functions and `None`."""
    for name, value in functions.items():
        if value is not None and not callable(value):
            raise ValueError(f"{name} must be a function, not {value!r}")


def check_optimizer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    scheduler: Any | None,
    learning_rate: float | None,
    compile: bool,
) -> None:
    """Refuse an optimizer or a scheduler that cannot train this model, or would not be used."""
    if learning_rate is not None:
        check_positive(learning_rate=learning_rate)
    if optimizer is None:
        if scheduler is not None:
            raise ValueError("scheduler needs the optimizer whose learning rate it changes")
        return
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(
            "optimizer must be a torch.optim.Optimizer of the model's parameters, not "
            f"{optimizer!r}"
        )
    if learning_rate is not None:
        raise ValueError("learning_rate is for fit's own Adam: set the rate in optimizer instead")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            "optimizer must make a step from one gradient, but "
            f"{type(optimizer).__name__} needs a closure"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in model.parameters()):
        raise ValueError(
            "optimizer holds no parameter of the model: build it from model.parameters()"
        )
    if scheduler is not None and getattr(scheduler, "optimizer", None) is not optimizer:
        raise ValueError("scheduler must change the learning rate of optimizer, not of another one")
    if compile and not is_plain_adam(optimizer):
        raise ValueError(
            "optimizer must be a torch.optim.Adam without extras if compile is used, "
            f"not {type(optimizer).__name__}: leave compile out"
        )
