"""Which plain values both sides still have, of which one process would have only one.

Lists, arrays and the like cross as copies. A test sees a difference only where the submission gives
a value that had crossed, and the test asks whether it is the same or changes it; or where one side
changes what the other still holds. Each side notes its part, and the tests' side puts them together
at the end of a cell.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["Shared"]

# Sets, so that no class of a submission's is asked whether it equals one of these.
_LISTS = {list, set, deque}
_DICTS = {dict, OrderedDict, Counter, defaultdict}
_ARRAY = np.ndarray  # as it is before a submission can replace it
_MUTABLE = {*_LISTS, *_DICTS, bytearray, _ARRAY}
_SCALARS = {int, float, bool, complex, str, bytes, type(None)}
_LARGEST = 2**24  # bytes of an array that are looked at


class _Crossed:
    """A value that has crossed, and what it was then."""

    __slots__ = ("state", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.state = _state(value)

    def holders(self) -> int:
        """How many hold the value, and how many more do so while they are counted."""
        return sys.getrefcount(self.value)

    def has_changed(self) -> bool:
        """Whether it is not what it was."""
        return bool(self.state != _state(self.value))


def _state(value: Any) -> Any:
    """What tells that a value has changed; the containers in it have states of their own."""
    if type(value) is _ARRAY:
        data = hash(value.tobytes()) if value.nbytes <= _LARGEST else 0
        return value.dtype, value.shape, data
    if type(value) is bytearray:
        return bytes(value)
    return [item if type(item) in _SCALARS else id(item) for item in _items(value)]


def _items(value: Any) -> Iterable[Any]:
    kind = type(value)
    if kind in _DICTS:
        return [*value.keys(), *value.values()]
    if issubclass(kind, tuple):
        return tuple.__iter__(value)
    return value if kind in _LISTS or kind is frozenset else ()


def _owner(value: Any) -> Any:
    """The array that has an array's memory; any other value itself."""
    while type(value) is _ARRAY and type(value.base) is _ARRAY:
        value = value.base
    return value


def _parts(value: Any) -> Iterator[Any]:
    """What can be changed of a value, each time that it occurs, an array by whose memory it is."""
    left, entered = [value], set()
    while left:
        one = left.pop()
        if type(one) in _MUTABLE:
            yield _owner(one)
        if id(one) not in entered:
            entered.add(id(one))
            left += [item for item in _items(one) if type(item) not in _SCALARS]


_ALONE = _Crossed([]).holders()


class Shared:
    """Plain values that have crossed, as long as this side has them.

    Attributes:
        any: whether there were any.
        again: whether one has crossed more than once.
        held: whether this side still had one when the next call came.
        changed: whether one has changed since it crossed.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.any = self.again = self.held = self.changed = False
        self._known: dict[int, _Crossed] = {}

    def look(self) -> None:
        """See, before a call, which values that crossed earlier are held; let go of the others."""
        before = -1
        while before != len(self._known):
            before = len(self._known)
            for key in list(self._known):
                one = self._known[key]
                if one.holders() <= _ALONE:
                    self.changed = self.changed or one.has_changed()
                    del self._known[key]
        self.held = self.held or before > 0

    def cross(self, value: Any, *, alike: bool = False) -> None:
        """Note that a value crosses, or that both sides have it `alike` anyway."""
        seen: set[int] = set()
        for part in _parts(value):
            key = id(part)
            one = self._known.get(key)
            if one is not None and not alike:
                self.again = True
                self.changed = self.changed or one.has_changed()
            if key not in seen:
                self.any = True
                self._known[key] = _Crossed(part)
                seen.add(key)

    def told(self) -> tuple[bool, bool, bool]:
        """Whether one came again, is held, or has changed; from now on nothing has crossed."""
        self.look()
        changed = self.changed or any(one.has_changed() for one in self._known.values())
        found = self.again, self.held, changed
        self._begin()
        return found
