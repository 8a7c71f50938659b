"""What training needs of an optimizer: its rate, its parameters and steps that can be captured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "capturable",
    "held_parameters",
    "is_plain_adam",
    "learning_rate_of",
    "load_optimizer",
    "optimizer_state",
    "plain",
]

OF_THE_DEVICE = ("capturable", "fused", "foreach")


def is_plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer is Kingma & Ba's Adam without extras, with one group of parameters."""
    return (
        type(optimizer) is torch.optim.Adam
        and len(optimizer.param_groups) == 1
        and not any(
            optimizer.param_groups[0][extra] for extra in ("weight_decay", "amsgrad", "maximize")
        )
    )


def held_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters of the model and of the optimizer, each once; either may lack some."""
    groups = (group["params"] for group in optimizer.param_groups)
    return list({id(p): p for p in chain(model.parameters(), *groups)}.values())


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the first group."""
    rate: float = plain(optimizer.param_groups[0]["lr"])
    return rate


def plain(value: Any) -> Any:
    """Replace NumPy's numbers, and scalar tensors by the shortest number that gives the same one.

    A checkpoint with a number of NumPy's could not be read again, because that would run code.
    """
    if isinstance(value, Tensor) and value.dim() == 0:
        return float(str(value.detach().cpu().numpy()))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {plain(key): plain(part) for key, part in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The `state_dict` with learning rates as plain numbers, so that any device can load it."""
    state = optimizer.state_dict()
    return {**state, "param_groups": plain(state["param_groups"])}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state that another device may have written."""
    groups = optimizer.param_groups
    own = [{name: group[name] for name in OF_THE_DEVICE if name in group} for group in groups]
    merged = [{**g, **o} for g, o in zip(state["param_groups"], own, strict=True)]
    for group, mine in zip(merged, groups, strict=True):
        if isinstance(mine["lr"], Tensor):  # computes in its own precision, so it stays a tensor
            group["lr"] = torch.full_like(mine["lr"], float(group["lr"]))
    optimizer.load_state_dict({**state, "param_groups": merged})


@contextlib.contextmanager
def capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> Iterator[None]:
    """Make steps capturable inside the `with`: rates and counts are tensors on the device.

    The optimizer must have the setting `capturable`; Adam has it, SGD does not.
    """
    before = [group["capturable"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
    _count_on(optimizer, device)
    try:
        yield
    finally:
        # Groups and states may have been loaded again in the meantime.
        for group, value in zip(optimizer.param_groups, before, strict=True):
            group["capturable"], group["lr"] = value, plain(group["lr"])
        if not any(group.get("fused") or group["capturable"] for group in optimizer.param_groups):
            _count_on(optimizer, torch.device("cpu"))


def _count_on(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)
