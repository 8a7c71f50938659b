"""The precision in which a model trains faster, by a rule or by measurement."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vaelib._checks import value_checks
from vaelib._modes import evaluating
from vaelib.cuda_graph import CaptureError, capture, reading_of_a_value
from vaelib.objective import Precision, bound_in, slopes

__all__ = ["check_precision", "faster_precision"]

ROUNDS = 5
LARGE = 300_000  # from this many weights in a layer, bfloat16 is faster on a CPU that has it

_measured: dict[tuple[object, ...], Precision] = {}


def check_precision(precision: str, besides: str = "") -> Precision:
    """Return the precision, and refuse any but "float32" and "bfloat16"."""
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision must be {besides}"float32" or "bfloat16", not {precision!r}')
    return cast(Precision, precision)


def faster_precision(objective: nn.Module, x: Tensor, eps: Tensor, y: Tensor | None) -> Precision:
    """The precision in which the gradient of this minibatch takes less time.

    A processor without instructions for bfloat16 gets float32. On a CPU, without convolutions, the
    size of the largest layer decides, so that every process decides alike and runs can be
    reproduced. Otherwise the gradient is timed in evaluation mode, without a step, and the result
    is remembered while the process runs.
    """
    trained = [p for p in objective.parameters() if p.requires_grad]
    if not _has_bfloat16(x.device) or x.dtype != torch.float32:
        return "float32"
    convolves = any(isinstance(module, _ConvNd) for module in objective.modules())
    if x.device.type == "cpu" and not convolves:
        largest = max(parameter.numel() for parameter in trained)
        return "bfloat16" if largest >= LARGE else "float32"
    key = (str(objective), tuple(x.shape), tuple(eps.shape), str(x.device))
    if key in _measured:
        return _measured[key]
    seconds: dict[Precision, float] = {}
    for precision in ("float32", "bfloat16"):

        def gradient(precision: Precision = precision) -> None:
            terms, by = slopes(bound_in(precision, objective, x, eps, y), -1 / len(x), 1 / len(x))
            torch.autograd.grad(terms, trained, by, allow_unused=True)

        with evaluating(objective), value_checks(False):
            gradient()
            seconds[precision] = _seconds(gradient, x.device)
    # In a tie, the more exact one.
    faster = seconds["bfloat16"] < 0.9 * seconds["float32"]
    _measured[key] = "bfloat16" if faster else "float32"
    return _measured[key]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return device.type == "cpu" and bool(native)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":
        return min(_timed(work) for _ in range(ROUNDS))
    # As a graph, as in training: launched one by one, all small kernels take equally long.
    if reading_of_a_value(work) is None:
        with contextlib.suppress(CaptureError):
            work = capture(work).replay

    def many() -> None:
        for _ in range(10):
            work()
        torch.cuda.synchronize()

    many()
    return min(_timed(many) for _ in range(ROUNDS))


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
