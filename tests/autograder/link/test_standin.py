"""What a submission's objects are taken for by a test: for no number and for no tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from autograder.link.namespace import Namespace

from .test_peer import connect

__all__ = ["connect"]

YIELDING = """
class Yielding:
    def itself(self, *args, **kwargs): return self
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = itself
    __pow__ = __abs__ = __neg__ = __iadd__ = __lt__ = __le__ = __gt__ = __ge__ = itself
    abs = sum = mean = sub = astype = reshape = detach = itself
    def zero(self, *args, **kwargs): return 0.0
    max = item = norm = zero
    def true(self, *args, **kwargs): return True
    all = any = allclose = equal = isclose = true
    def __getitem__(self, i): return self
def answer(x=None): return Yielding()
"""
BY_ATTRIBUTE = """
class Yielding:
    def __getattr__(self, name):
        if name.startswith("_"): raise AttributeError(name)
        if name in ("max", "item", "norm"): return lambda *args, **kwargs: 0.0
        if name in ("all", "any", "allclose", "equal", "isclose"): return lambda *a, **kw: True
        return lambda *args, **kwargs: self
    def itself(self, *args, **kwargs): return self
    __sub__ = __rsub__ = __pow__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = itself
def answer(x=None): return Yielding()
"""


@pytest.mark.parametrize("source", [YIELDING, BY_ATTRIBUTE], ids=["methods", "attributes"])
@pytest.mark.parametrize(
    "test",
    [
        lambda v: abs(v - 9) < 1e-6,
        lambda v: 0 < v <= 1,
        lambda v: v > 3,
        lambda v: max(v, 3) == 3,
        lambda v: (v - 9).abs().max() < 1e-6,
        lambda v: (v - 9).item() < 1e-6,
        lambda v: (9 - v).norm() < 1e-6,
        lambda v: abs(v - 9).max() < 1e-6,
        lambda v: ((v - 9) ** 2).astype(float).mean().item() < 1e-6,
        lambda v: (v - torch.ones(3)).abs().max() < 1e-6,
        lambda v: (torch.ones(3) - v).abs().max() < 1e-6,
        lambda v: (v - np.ones(3)).max() < 1e-6,
        lambda v: (np.ones(3) - v).max() < 1e-6,
        lambda v: np.abs(np.ones(3) - v).sum() < 1e-6,
        lambda v: np.allclose(v, np.ones(3)),
        lambda v: v.allclose(torch.ones(3)),
        lambda v: v.equal(other=torch.ones(3)),
        lambda v: v.isclose(9.0),
        lambda v: v.sub(torch.ones(3)).abs().max() < 1e-6,
        lambda v: v.sub(other=torch.ones(3)).item() < 1e-6,
    ],
)
def test_an_answer_that_gives_way_is_no_number(
    connect: Callable[[str], Namespace],
    test: Callable[[Any], Any],
    source: str,
) -> None:
    answer = connect(source)["answer"]
    with pytest.raises((TypeError, ValueError)):
        test(answer())


def test_a_class_of_ones_own_keeps_its_operators(
    connect: Callable[[str], Namespace],
) -> None:
    vector = connect(
        """
        class Vector:
            def __init__(self, x, y): self.x, self.y = x, y
            def __mul__(self, k): return Vector(k * self.x, k * self.y)
            __rmul__ = __mul__
            def __add__(self, other): return Vector(self.x + other.x, self.y + other.y)
            def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)
            def __lt__(self, other): return self.x < other.x
            def __abs__(self): return Vector(abs(self.x), abs(self.y))
            def norm(self): return (self.x**2 + self.y**2) ** 0.5
            def scaled(self, k): return k * self
            def equal(self, other): return self == other
            def dot(self, x): return float(x[0] * self.x + x[1] * self.y)
            def __contains__(self, value): return value in (self.x, self.y)
            def __getitem__(self, i): return (self.x, self.y)[i]
        """
    )["Vector"]
    one = vector(3, -4)
    assert (one * 2).x == 6
    assert (2 * one)[1] == -8
    assert one * 2 == vector(6, -8)
    assert one + one == 2 * one
    assert (one + one).norm() == 10
    assert abs(one).y == 4
    assert one.scaled(2).norm() == 10
    assert one.equal(vector(3, -4))
    assert one.dot(torch.tensor([1.0, 1.0])) == -1
    assert vector(1, 5) < one
    assert not one < vector(1, 5)
    assert sorted([one, vector(1, 5)])[0].y == 5
    assert -4 in one
    assert 4 not in one
    with pytest.raises(TypeError, match="an operator gave this Vector: its norm is not an answer"):
        (one * 2).norm()


SUPPRESSING = """
class Suppress:
    def __enter__(self): return self
    def __exit__(self, kind, error, trace): return True
    def item(self): return 0.0
"""


@pytest.mark.parametrize("error", [AssertionError, TypeError, KeyboardInterrupt])
def test_a_context_of_the_submission_lets_verdicts_through(
    connect: Callable[[str], Namespace], error: type[BaseException]
) -> None:
    suppress = connect(SUPPRESSING)["Suppress"]
    with pytest.raises(error), suppress():
        raise error
    with pytest.raises(TypeError), suppress() as answer:
        assert abs(answer - 9) < 1e-6
    with pytest.raises(AssertionError), suppress():
        torch.testing.assert_close(torch.zeros(1), torch.ones(1))


def test_a_context_of_the_submission_may_end_other_errors(
    connect: Callable[[str], Namespace],
) -> None:
    suppress = connect(SUPPRESSING)["Suppress"]
    with suppress() as context:
        raise ValueError
    assert context.item() == 0.0


LYING = """
import numpy as np
class Lying:
    def __getattr__(self, name): return lambda *args, **kwargs: True
    def __contains__(self, item): return True
    def __sub__(self, other): return self
    def astype(self, kind): return np.zeros(3, bool)
    def copy(self): return np.zeros(3)
def answer(x=None): return Lying()
class named(Lying): pass
class Set:
    def __init__(self, *items): self.items = items
    def issuperset(self, other): return other <= {*self.items}
    def __contains__(self, item): return item in self.items
class Small(Set): pass
def small(): return Small(1)
"""


@pytest.mark.parametrize(
    "test",
    [
        lambda v: v.issuperset({1, 2}),
        lambda v: v.startswith("ab"),
        lambda v: v.isdigit(),
        lambda v: v.all(),
        lambda v: "a" in v,
    ],
)
def test_what_is_asked_of_plain_values_is_noted_of_others(
    connect: Callable[[str], Namespace], test: Callable[[Any], Any]
) -> None:
    names = connect(LYING)
    for make in ("answer", "named"):
        table = names._peer.table
        table.unjudged = None
        test(names[make]())
        assert (table.unjudged or "").startswith("the submission's object of another class is ask")


def test_a_class_that_the_test_names_may_have_such_methods(
    connect: Callable[[str], Namespace],
) -> None:
    names = connect(LYING)
    assert names["Set"](1, 2).issuperset({1})
    assert 2 in names["Set"](1, 2)
    assert names["small"]().issuperset({1})
    assert names._peer.table.unjudged is None


@pytest.mark.parametrize(
    "test",
    [
        lambda v: (v - np.ones(3)).astype(bool).any(),
        lambda v: (v - 1.0).astype(bool).any(),
        lambda v: (v - 1.0).copy(),
        lambda v: (v - 1.0).isdigit(),
    ],
)
def test_a_difference_is_asked_for_nothing_that_arrays_have(
    connect: Callable[[str], Namespace], test: Callable[[Any], Any]
) -> None:
    with pytest.raises(TypeError, match="is not an answer"):
        test(connect(LYING)["answer"]())


def test_a_context_that_ends_an_error_is_noted(connect: Callable[[str], Namespace]) -> None:
    names = connect(SUPPRESSING)
    with names["Suppress"]():
        pass
    assert names._peer.table.unjudged is None
    with names["Suppress"]():
        raise ValueError
    assert "ends an error of the test's" in names._peer.table.unjudged
