"""What a check observes of a function, and when two observations are the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_exercises.errors import Raised

__all__ = ["Clue", "Facts", "Near", "Rough", "agree", "difference", "passes", "same", "telling"]

# Mistakes are off by per cents. float32 loses some digits where numbers cancel.
RELATIVE, ABSOLUTE = 1e-4, 1e-5

Facts = dict[str, Any]


@dataclass(frozen=True)
class Near:
    """A number that varies with the noise: right when within `tolerance` of `exact`.

    With a tolerance of 6.5 standard errors, one right number in 10¹⁰ is refused.
    """

    value: Tensor
    exact: Tensor
    tolerance: Tensor


@dataclass(frozen=True)
class Rough:
    """A number of which only the size counts: finite, of the right sign, and within a factor."""

    value: Tensor
    factor: float = 10.0


@dataclass(frozen=True)
class Clue:
    """A fact that is always right: it tells mistakes apart that agree in all others."""

    value: str


def same(seen: Facts, wanted: Facts, equal: Callable[[Any, Any], bool]) -> bool:
    """Whether two sets of facts have the same names, and `equal` values."""
    return seen.keys() == wanted.keys() and all(equal(seen[name], wanted[name]) for name in seen)


def agree(seen: Any, wanted: Any) -> bool:
    """Whether two facts are those of the same mistake."""
    if isinstance(seen, Near) and isinstance(wanted, Near):
        if seen.value.shape != wanted.value.shape:
            return False
        apart = (seen.value - wanted.value).abs()
        fits = seen.tolerance.shape in (seen.value.shape, ())
        tolerance = seen.tolerance if fits else seen.tolerance.max()
        alike = seen.value.isnan() & wanted.value.isnan() | (seen.value == wanted.value)
        return bool(((apart <= 2 * tolerance) | alike).all())
    if isinstance(seen, Rough) and isinstance(wanted, Rough):
        return _close(seen.value, wanted.value, 1e-2)
    if isinstance(seen, Tensor) and isinstance(wanted, Tensor):
        return _close(seen, wanted, RELATIVE)
    if type(seen) is float and type(wanted) is float:
        return math.isclose(seen, wanted, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(seen) is type(wanted) and bool(seen == wanted)


def passes(seen: Any, right: Any) -> bool:
    """Whether a fact is as good as that of a right solution."""
    if isinstance(seen, Clue) and isinstance(right, Clue):
        return True
    if isinstance(seen, Near):
        return seen.value.shape == seen.exact.shape and bool(
            ((seen.value - seen.exact).abs() <= seen.tolerance).all()
        )
    if isinstance(seen, Rough) and isinstance(right, Rough):
        if seen.value.shape != right.value.shape:
            return False
        ratio = seen.value / right.value
        return bool(((ratio > 1 / seen.factor) & (ratio < seen.factor)).all())
    return agree(seen, right)


def telling(seen: Facts, right: Facts) -> bool:
    """Whether the facts are evidence by themselves: six exact numbers or more that are wrong."""
    wrong = 0
    for name, value in seen.items():
        if isinstance(value, Near | Raised):
            return False
        other = right.get(name)
        if isinstance(value, Tensor) and isinstance(other, Tensor) and value.shape == other.shape:
            wrong += int((~_near(value, other) & value.isfinite()).sum())
    return wrong >= 6


def difference(seen: Facts, right: Facts, numbers: bool) -> tuple[str, str]:
    """The first fact that is wrong, as a headline and a sentence.

    Arguments:
        seen, right: of the student's function and of a right one.
        numbers: whether they may be told.
    """
    for name, wanted in right.items():
        if name not in seen:
            break
        if not passes(seen[name], wanted):
            return f"wrong: {name}", _difference(seen[name], wanted, numbers)
    raised = next((fact for fact in seen.values() if isinstance(fact, Raised)), None)
    if raised is None:  # something else than a right solution shows, or less
        more = next((name for name in seen if name not in right), "what comes back")
        return f"wrong: {more}", f"It is {seen[more]}." if numbers and more in seen else ""
    return raised.told(numbers)


def _difference(seen: Any, right: Any, numbers: bool) -> str:
    if isinstance(seen, Near):
        right, seen = seen.exact, seen.value
    elif isinstance(seen, Rough) and isinstance(right, Rough):
        right, seen = right.value, seen.value
    if isinstance(seen, str) and isinstance(right, str) and numbers:
        return f"Found: {seen}. Expected: {right}."
    if not (isinstance(seen, Tensor) and isinstance(right, Tensor)):
        return f"It is {seen}, expected {right}." if numbers else "These inputs are not shown."
    if seen.shape != right.shape and seen.dim() == right.dim() == 1:
        return f"Numbers that came back: {len(seen)}, expected {len(right)}."
    if seen.shape != right.shape:
        return f"Its shape is {tuple(seen.shape)}, expected {tuple(right.shape)}."
    far = ~_near(seen, right)
    first = tuple(int(i) for i in far.nonzero()[0]) if far.any() else (0,) * seen.dim()
    place = f"at {list(first)} of shape {tuple(seen.shape)}" if first else ""
    if len(first) == 1:  # numbers of any shape: whether that is right is another aspect
        place = f"at index {first[0]} of {len(seen)} numbers"
    if not numbers:
        return f"First difference {place or 'in the number itself'}, on inputs that are not shown."
    value, expected = seen[first].item(), right[first].item()
    start = f"First difference {place}: it" if place else "It"
    return f"{start} is {value:.6g}, expected {expected:.6g}."


def _near(seen: Tensor, wanted: Tensor, relative: float = RELATIVE) -> Tensor:
    return torch.isclose(seen.double(), wanted.double(), relative, ABSOLUTE, equal_nan=True)


def _close(seen: Tensor, wanted: Tensor, relative: float) -> bool:
    return seen.shape == wanted.shape and bool(_near(seen, wanted, relative).all())
