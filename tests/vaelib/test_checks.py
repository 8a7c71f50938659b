from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vaelib._checks import (
    check_alike,
    check_finite,
    check_floats,
    check_integers,
    value_checks,
)

BAD_TENSORS: dict[str, tuple[Any, str]] = {
    "list": ([1.0, 2.0], "^b must be a tensor, but is list"),
    "integers": (torch.ones(2, dtype=torch.int64), "^b must be floating point"),
    "shape": (torch.ones(3), r"^a and b must have the same shape, but have \(2,\) and \(3,\)"),
    "dtype": (torch.ones(2, dtype=torch.float64), "^a and b must have the same dtype, but have"),
    "NaN": (torch.tensor([1.0, math.nan]), "^b must be finite"),
    "infinity": (torch.tensor([1.0, -math.inf]), "^b must be finite"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_of_tensors_that_must_be_alike_the_odd_one_is_named(bad: Any, message: str) -> None:
    good = torch.ones(2)
    check_alike(a=good, b=good)
    with pytest.raises(ValueError, match=message):
        check_alike(a=good, b=bad)
    first = message.replace("b must", "a must") if message.startswith("^b") else "the same"
    with pytest.raises(ValueError, match=first):
        check_alike(a=bad, b=good)


def test_a_sum_that_overflows_is_not_an_infinity(device: torch.device) -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        largest = torch.full((4,), torch.finfo(dtype).max, dtype=dtype, device=device)
        check_finite(x=largest)
        check_finite(x=-largest)
    check_finite(x=largest[:0])


@pytest.mark.parametrize("bad", [[math.nan], [math.inf, -math.inf], [-math.inf, 1.0]])
def test_values_are_read_where_that_is_asked_for(device: torch.device, bad: list[float]) -> None:
    x = torch.tensor([0.0, *bad], device=device, requires_grad=True)
    with pytest.raises(ValueError, match="x must be finite"):
        check_finite(x=x)
    with value_checks(False):
        check_finite(x=x)
        check_alike(x=x, y=x)
        with pytest.raises(ValueError, match="x must be finite"):
            check_finite(True, x=x)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((), ()), (("N", 2), (0, 2)), (("N ≥ 1", 2), (1, 2)), ((..., 3), (3,)), ((..., 3), (4, 5, 3)),
     (("N", ...), (7,)), (("N", ...), (7, 1, 2))],
)  # fmt: skip
def test_sizes_that_fit(sizes: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    check_floats("x", torch.zeros(shape), *sizes)


@pytest.mark.parametrize(
    ("sizes", "shape", "message"),
    [
        ((), (1,), r"^x must be a scalar, but is \(1,\)"),
        (("N", 2), (2,), r"^x must be \(N, 2\), but is \(2,\)"),
        (("N", 2), (4, 3), r"^x must be \(N, 2\), but is \(4, 3\)"),
        (("N ≥ 1", 2), (0, 2), r"^x must be \(N ≥ 1, 2\), but is \(0, 2\)"),
        ((..., 3), (), r"^x must be \(…, 3\), but is \(\)"),
        ((..., 3), (3, 4), r"^x must be \(…, 3\), but is \(3, 4\)"),
        (("N", ...), (), r"^x must be \(N, …\), but is \(\)"),
    ],
)
def test_sizes_that_do_not_fit(
    sizes: tuple[Any, ...], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_floats("x", torch.zeros(shape), *sizes)


def test_the_dtype_is_named_with_the_sizes() -> None:
    def check(x: Tensor) -> None:
        check_floats("x", x, "N", 2, dtype=torch.float64)

    check(torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"must be \(N, 2\) and torch.float64, but is \(3, 2\) and torch.float32"
    ):
        check(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="x must be finite"):
        check(torch.full((3, 2), math.nan, dtype=torch.float64))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (512, "hidden must be a list or tuple of integers of at least 1, not 512"),
        (None, "hidden must be a list or tuple of integers of at least 1, not None"),
        ([0], r"hidden must hold integers of at least 1, not \[0\]"),
        ([2.5], r"hidden must hold integers of at least 1, not \[2.5\]"),
        ("12", "hidden must hold integers of at least 1, not '12'"),
    ],
)
def test_integers_that_are_none(bad: Any, message: str) -> None:
    check_integers(1, hidden=[1, 2], shape=(3,), sizes=range(1, 3))
    with pytest.raises(ValueError, match=message):
        check_integers(1, hidden=bad)
