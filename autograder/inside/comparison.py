"""Keeps a submission's own objects from deciding how they compare with plain values.

It is asked where a submission's answer alone has brought a cell inside: the solution's answers were
plain, and what they equal was decided outside. An object of the submission's may still say that it
equals a value, if it can pick that value out of a line-up of others of its kind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import random
from collections.abc import Iterator
from itertools import islice
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from autograder.inside.own import NoAnswer, decides, is_own

__all__ = ["Calls", "Chains", "compare"]

_EQUAL, _ORDER = ("__eq__", "__ne__"), ("__lt__", "__le__", "__gt__", "__ge__")
_WITHIN = ("__contains__", "__eq__")
_OPERATORS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "Eq": (operator.eq, _EQUAL), "NotEq": (operator.ne, _EQUAL),
    "Lt": (operator.lt, _ORDER), "LtE": (operator.le, _ORDER),
    "Gt": (operator.gt, _ORDER), "GtE": (operator.ge, _ORDER),
    "In": (lambda one, all_: one in all_, _WITHIN),
    "NotIn": (lambda one, all_: one not in all_, _WITHIN),
}  # fmt: skip
_MANY = 10_000  # values that are looked at, of those that one holds
_CONTAINERS = (list, tuple, set, frozenset, dict, np.ndarray)
#: Functions that compare none of their arguments.
_HARMLESS: tuple[Any, ...] = (
    callable, dataclasses.replace, delattr, dict, dir, enumerate, format, getattr, hasattr, hash,
    id, isinstance, issubclass, iter, len, list, next, print, repr, round, set, setattr, str, tuple,
    type, vars, zip,
)  # fmt: skip
_COLLECTING = {"add", "append", "extend", "format", "insert", "setdefault", "update"}


def compare(name: str, left: Any, right: Any) -> Any:
    """What an operator gives.

    Raises:
        NoAnswer: an object of the submission's decides it, and the other is a plain value that it
            has not picked out of a line-up.

    >>> compare("Eq", 2, 2.0)
    True
    """
    function, methods = _OPERATORS[name]
    deciding = [_deciding(value, methods) for value in (left, right)]
    if (deciding[0] is None) == (deciding[1] is None):
        return function(left, right)
    cls: Any = deciding[0] or deciding[1]
    other = right if deciding[0] is not None else left
    others = _others(other) if type(left) is cls or type(right) is cls else []
    if methods is not _EQUAL or not others:
        raise _refusal(cls)
    at = random.SystemRandom().randint(0, len(others))
    result: Any = None
    alike = 0
    for place, value in enumerate([*others[:at], other, *others[at:]]):
        pair = (left, value) if other is right else (value, right)
        if place == at:
            result = said = function(*pair)
        else:
            said = name == "NotEq"
            with contextlib.suppress(Exception):
                said = function(*pair)
        try:
            alike += bool(said) != (name == "NotEq")
        except Exception:  # such as an array's, of many
            raise _refusal(cls) from None
    if alike > 1:
        raise NoAnswer(f"an object of class {cls.__name__} equals more than one value")
    return result


def _refusal(cls: Any) -> NoAnswer:
    return NoAnswer(f"class {cls.__name__} decides itself how it compares with a plain value")


def _deciding(value: Any, methods: tuple[str, ...]) -> type | None:
    """The class by which a value, or what it holds, decides how it is compared."""
    held = islice(_held(value), _MANY)
    return next((type(one) for one in held if decides(type(one), *methods)), None)


def _held(value: Any, depth: int = 3) -> Iterator[Any]:
    yield value
    kind: Any = next((one for one in _CONTAINERS if issubclass(type(value), one)), None)
    items: Any = ()
    if kind is dict:
        items = (part for item in dict.items(value) for part in item)
    elif kind is not None and (kind is not np.ndarray or value.dtype == object):
        items = kind.__iter__(np.ndarray.ravel(value) if kind is np.ndarray else value)
    for item in items if depth else ():
        yield from _held(item, depth - 1)


def _others(value: Any, count: int = 30) -> list[Any]:
    """Different values of the same kind as one; none if it is of no kind that is known.

    >>> 2 in _others(2), {type(other) for other in _others([2])}
    (False, {<class 'list'>})
    """
    draw, kind = random.SystemRandom(), type(value)
    if value is None:
        return [0, 1, "", (), []]
    if kind in (bool, np.bool_):
        return [not value]
    if kind in (int, float, complex) or (kind in np.ScalarType and issubclass(kind, np.number)):
        steps = draw.sample(range(1, 61), count)
        with np.errstate(all="ignore"):
            found = [draw.choice((operator.add, operator.sub))(value, kind(i)) for i in steps]
        return [one for one in found if one != value] or [kind(0), kind(1)]
    if kind is str:
        letters = draw.sample("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", count + 1)
        places = [draw.randrange(len(value)) if value else 0 for _ in letters]
        pairs = zip(places, letters, strict=True)
        found = [value[:i] + letter + value[i + 1 :] for i, letter in pairs]
        return [one for one in found if one != value]
    if kind in (list, tuple, dict):
        items = list(value.items() if kind is dict else value)
        if not items:
            return [{0: 0}, {"": 0}] if kind is dict else [kind([0]), kind([""]), kind([None])]
        changed = []
        for _ in range(count):
            place = draw.randrange(len(items))
            for other in _others(items[place], 1)[:1]:
                one = kind([*items[:place], other, *items[place + 1 :]])
                changed += [one] if one not in changed else []
        return changed
    return []


class Chains:
    """The comparisons of cells such as `a < b < c`, each at a place in the code of its own."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def operand(self, place: int, name: str, last: bool, value: Any) -> Any:
        """Take the next operand, before an operator compares it with the one before it.

        Raises:
            NoAnswer: one decides how it compares with the other, a plain value.
        """
        before = self._before.pop(place, None)
        if name in _OPERATORS:
            classes = [_deciding(one, _OPERATORS[name][1]) for one in (before, value)]
            if (classes[0] is None) != (classes[1] is None):
                raise _refusal(classes[0] or classes[1])
        if not last:
            self._before[place] = value
        return value


class Calls:
    """The calls of cells, each at a place in the code of its own.

    Args:
        space: the notebook's names.
        judges: the functions of locked cells.
        helpers: the names of modules whose functions compare what they are given.
    """

    def __init__(self, space: dict[str, Any], judges: list[Any], helpers: set[str]) -> None:
        self._space, self._judges, self._helpers = space, judges, helpers
        self._now: dict[int, tuple[Any, list[Any]]] = {}

    def called(self, place: int, function: Any) -> Any:
        """Take what is called."""
        about = getattr(function, "__self__", None) if _is_method(function) else None
        collects = _is_method(function) and function.__name__ in _COLLECTING
        self._now[place] = function, [] if about is None or collects else [about]
        return function

    def given(self, place: int, last: bool, value: Any) -> Any:
        """Take the next argument; nothing is kept alive once the last has come.

        Raises:
            NoAnswer: what is called may compare it with a plain value, and it decides how.
        """
        function, values = self._now.pop(place) if last else self._now[place]
        values.append(value)
        if self._is_theirs(function) or any(function is one for one in _HARMLESS):
            return value
        methods = (*_EQUAL, *_ORDER)
        classes = [cls for one in values if (cls := _deciding(one, methods)) is not None]
        if classes:
            plain = [v for v in values if _is_data(v) and _deciding(v, methods) is None]
            texts = len(classes) > 1 and all(type(one) is str for one in plain)
            if self._compares(function) or (plain and not texts):
                raise _refusal(classes[0])
        return value

    def _compares(self, function: Any) -> bool:
        module = getattr(function, "__module__", None)
        return any(function is one for one in self._judges) or (
            type(function) is FunctionType and module != "__main__" and module in self._helpers
        )

    def _is_theirs(self, function: Any) -> bool:
        """Whether the submission, or the test's cell itself, has written it."""
        if any(function is one for one in self._judges):
            return False
        function = function.__func__ if type(function) is MethodType else function
        if type(function) is FunctionType:
            return function.__globals__ is self._space
        return is_own(function if isinstance(function, type) else type(function))


def _is_method(function: Any) -> bool:
    """Whether it is one that is written in C."""
    about = getattr(function, "__self__", None) if type(function) is BuiltinMethodType else None
    return about is not None and not isinstance(about, ModuleType | type)


def _is_data(value: Any) -> bool:
    """Whether it is a value that an answer may be compared with, beside a few that are guessed."""
    guessed = (
        value is None or type(value) is bool or (type(value) in _CONTAINERS and not len(value))
    )
    return not guessed and not callable(value) and not isinstance(value, ModuleType)
