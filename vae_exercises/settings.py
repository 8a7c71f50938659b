"""What belongs to the whole notebook: random states and settings that no answer may change."""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution

__all__ = ["RANDOM", "SETTINGS", "Setting", "kept", "put", "put_back", "read", "seed"]


@dataclass(frozen=True)
class Setting:
    """How to read one of them, and how to put it back."""

    read: Callable[[], Any]
    put: Callable[[Any], Any]


def _numpy_state() -> tuple[Any, ...]:
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    kind, words, *rest = state
    return (kind, words.tobytes(), *rest)


def _put_numpy_state(state: tuple[Any, ...]) -> None:
    kind, words, *rest = state
    np.random.set_state((kind, np.frombuffer(words, np.uint32), *rest))  # noqa: NPY002


def _put_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # "cpu" slows all calls


def _put_filters(filters: list[Any]) -> None:
    found: Any = warnings.filters
    found[:] = filters


#: From which numbers are drawn where no generator is given.
RANDOM = {
    "torch": Setting(
        lambda: torch.default_generator.get_state().numpy().tobytes(),
        lambda state: torch.default_generator.set_state(
            torch.frombuffer(bytearray(state), dtype=torch.uint8)
        ),
    ),
    "NumPy": Setting(_numpy_state, _put_numpy_state),
    "Python": Setting(random.getstate, random.setstate),
}

#: By what is said of a function that changes it, which ends with "on" or "off" for a switch.
SETTINGS = {
    "gradients are switched": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "the default dtype is changed": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "the default device is changed": Setting(torch.get_default_device, _put_default_device),
    "the number of threads is changed": Setting(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms are switched": Setting(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "the precision of matrix products is changed": Setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "autocast is switched": Setting(
        lambda: torch.is_autocast_enabled("cpu"),
        lambda enabled: torch.set_autocast_enabled("cpu", enabled),
    ),
    "autograd's anomaly detection is switched": Setting(
        torch.is_anomaly_enabled, torch.set_anomaly_enabled
    ),
    "the checks of torch.distributions are switched": Setting(
        lambda: Distribution._validate_args, Distribution.set_default_validate_args
    ),
    "torch prints in another way": Setting(
        lambda: copy.copy(vars(torch._tensor_str.PRINT_OPTS)),
        lambda options: torch.set_printoptions(**options),
    ),
    "NumPy prints in another way": Setting(
        np.get_printoptions, lambda options: np.set_printoptions(**options)
    ),
    "NumPy's floating-point errors are treated in another way": Setting(
        np.geterr, lambda options: np.seterr(**options)
    ),
    "warnings are shown or hidden": Setting(lambda: [*warnings.filters], _put_filters),
}


def read(settings: dict[str, Setting]) -> dict[str, Any]:
    """All values as they are."""
    return {name: setting.read() for name, setting in settings.items()}


def put_back(settings: dict[str, Setting], before: dict[str, Any]) -> list[str]:
    """Put back all values that are others than before, and say which and how."""
    changed = []
    for name, setting in settings.items():
        now = setting.read()
        if now != before[name]:
            setting.put(before[name])
            changed.append(f"{name} {'on' if now else 'off'}" if isinstance(now, bool) else name)
    return changed


def put(gradients: bool, dtype: torch.dtype) -> None:
    """Put the two settings on which most depends."""
    torch.set_grad_enabled(gradients)
    torch.set_default_dtype(dtype)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Put everything back at the end."""
    everything = SETTINGS | RANDOM
    before = read(everything)
    try:
        yield
    finally:
        put_back(everything, before)


def seed(number: int) -> None:
    """Set the seed of everything from which random numbers are drawn."""
    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    random.seed(number)
