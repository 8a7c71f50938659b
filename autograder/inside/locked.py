"""What locked cells have bound, to be put back for a test that is judged beside the submission."""

from __future__ import annotations

import builtins
import copy
import re
from collections.abc import Iterable
from types import CodeType
from typing import Any

import numpy as np

from autograder.inside.pristine import functions_of

__all__ = ["Locked"]

_MOST = 10_000  # elements of what is copied
_ARRAY = np.ndarray  # as it is before a submission can replace it
_SIMPLE = {bool, bytes, complex, float, int, range, str, type(None), *np.ScalarType}


class Locked:
    """The data of locked cells, and the names of Python's builtins, that a submission may rebind.

    A name is put back where the test, or a function of a locked cell, uses it, and the course's
    solution does not bind it: the submission's own code then has the other value, too.

    Args:
        space: the notebook's names.
    """

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space
        self._first = {name: space[name] for name in space.keys() & vars(builtins).keys()}
        self._data: dict[str, tuple[Any, Any]] = {}

    def keep(self, source: str, bound: Iterable[str]) -> None:
        """Remember what a locked cell has bound, and what it may have changed."""
        words = _words(source)
        changed = {name for name in self._data.keys() & words if name in self._space}
        for name in {*bound, *changed}:
            if name[:1] != "_" and (name in bound or self._data[name][0] is self._space[name]):
                self._data[name] = self._space[name], _copied(self._space[name])

    def put_back(
        self, tests: Iterable[str], judges: Iterable[Any], asked: Iterable[str], noticed: bool
    ) -> None:
        """Put back what the submission has rebound.

        Args:
            tests: the sources of the cells that are to run.
            judges: the functions and classes of locked cells.
            asked: the names that the solution binds.
            noticed: whether data get back what they held, too. The solution was then judged
                outside, where it cannot change them; else it may be the task to fill a list.
        """
        used = set().union(*map(_words, tests))
        for function in {f for judge in judges for f in functions_of(judge)}:
            used |= _names(function.__code__)
        used -= set(asked)
        for name in used & self._data.keys():
            kept, held = self._data[name]
            self._space[name] = held if noticed else kept
        for name in (used & self._space.keys() & vars(builtins).keys()) - self._data.keys():
            if name in self._first:
                self._space[name] = self._first[name]
            else:
                del self._space[name]


def _words(source: str) -> set[str]:
    return set(re.findall(r"\w+", source))


def _names(code: CodeType) -> set[str]:
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _copied(value: Any) -> Any:
    """A copy of plain data that are not large; all else as it is.

    >>> cases = [(2, [4])]
    >>> _copied(cases)[0][1] is cases[0][1]
    False
    """
    left, size = [value], 0
    while left and size <= _MOST:
        one = left.pop()
        size += 1
        if type(one) in (frozenset, list, set, tuple):
            left += one
        elif type(one) is dict:
            left += [*one, *one.values()]
        elif type(one) is _ARRAY and one.dtype != object:
            size += one.size
        elif type(one) not in _SIMPLE:
            return value
    return value if size > _MOST else copy.deepcopy(value)
