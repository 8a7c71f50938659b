"""What a function does on many inputs: whether an edit of a solution changes anything at all.

The inputs are others than those of the checks, and of all sizes: many examples and one, values
near 0 and far from it, float32 and float64, both signs. Two functions with the same outcomes on all
of them are taken to be equivalent.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from vae_exercises.draw import Draw
from vae_exercises.observe import Watched

__all__ = ["BEHAVIOUR", "REASONS", "outcomes", "same"]

Function = Callable[..., Any]
Outcome = tuple[str, Any]
# By task: patterns of mutants that pass all checks though they do something else, and the reasons.
REASONS: dict[str, dict[str, str]] = {}
BEHAVIOUR: dict[str, Callable[[Function, Draw], Iterator[Outcome]]] = {}
SECONDS = 5  # of the processor


def behaviour(task: str) -> Callable[[Function], Function]:
    """Register what is observed of a task's functions; `task` is "module.name"."""

    def register(function: Function) -> Function:
        BEHAVIOUR[task] = function
        return function

    return register


def outcomes(
    task: str, function: Function, draws: bool = False, like: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """All that `function` does, by what it was asked; an error is an outcome as well.

    If it is asked whether that is `like` the outcomes of others, the first that none of them has
    is the last: it decides.
    """
    found: dict[str, Any] = {}

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    default = torch.get_default_dtype()
    watched = Watched(function, draws)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(12345)
            for name, value in BEHAVIOUR[task](watched, Draw(f"behaviour of {task}")):
                found[name] = value
                if like and not any(name in a and _equal(value, a[name]) for a in like):
                    break
    except Exception as error:
        found["error"] = type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        torch.set_default_dtype(default)
    found["left behind"] = tuple(watched.left)
    return found


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two functions do the same, up to the rounding of float32."""
    return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        a, b = a.float(), b.float()
        kept = a.isfinite()  # whether ∞ or NaN is a matter of style
        return torch.equal(kept, b.isfinite()) and torch.allclose(a[kept], b[kept], 1e-4, 1e-4)
    return type(a) is type(b) and bool(a == b)


def attempt(call: Callable[[], Any]) -> Any:
    """What a call gives, or the kind of its error: so that the next call is looked at as well."""
    try:
        return call()
    except TimeoutError:
        raise
    except Exception as error:
        return type(error).__name__


def values_and_gradients(
    function: Function, cases: dict[str, tuple[Tensor, ...]]
) -> Iterator[Outcome]:
    """Values in both dtypes, and the gradient of a weighted sum in every input."""
    for name, inputs in cases.items():
        for dtype in (torch.float64, torch.float32):

            def value(dtype: torch.dtype = dtype, inputs: Any = inputs) -> Any:
                return function(*(x.to(dtype, copy=True) for x in inputs))

            yield f"{name}, {dtype}", plain(attempt(value))

        def gradient(inputs: Any = inputs) -> Any:
            leaves = [x.clone().requires_grad_() for x in inputs]
            result = function(*(leaf * 1 for leaf in leaves))
            total = (result * torch.linspace(1, 2, result.numel()).reshape(result.shape)).sum()
            if not total.requires_grad:
                return "no gradient"
            found = torch.autograd.grad(total, leaves, allow_unused=True)
            pairs = zip(found, leaves, strict=True)
            return torch.cat(
                [(torch.zeros_like(x) if g is None else g).flatten() for g, x in pairs]
            )

        yield f"{name}, gradient", plain(attempt(gradient))


def plain(value: Any) -> Any:
    """A result as an outcome: a tensor, an error's name, or only its type."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return value if isinstance(value, str) else type(value).__name__


SIZES = [(9, 2), (6, 4), (3, 5), (2, 2), (1, 1), (1, 3), (4, 1)]
SCALES = [0.05, 1.0, 20.0, 300.0]
