"""What goes wrong on a link, and the check of what came over it."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

__all__ = [
    "LinkClosed", "RemoteError", "Tampered", "TimedOut", "TooLarge", "Unsupported", "WireError",
    "checked", "expect", "lookup",
]  # fmt: skip

T = TypeVar("T")


class WireError(Exception):
    """The link is of no further use."""


class Tampered(WireError):
    """The other side does not keep to the protocol."""


class LinkClosed(WireError):
    """The other side is gone."""


class TimedOut(WireError):
    """The other side did not answer in time."""


class TooLarge(ValueError):
    """A value of one's own is beyond what may cross."""


class Unsupported(TypeError):
    """A value of one's own is of a type that does not cross."""


class RemoteError(Exception):
    """An error of the other side whose type does not exist here."""


def expect(value: Any, kind: type[T], what: str) -> T:
    """The value, if it is of this type and no other: True is not an int here.

    Raises:
        Tampered: it is not.
    """
    if type(value) is not kind:
        raise Tampered(f"{what} that is not of type {kind.__name__}")
    return value


def lookup(table: dict[str, T], name: Any) -> T:
    """What a table has under a name that came.

    Raises:
        Tampered: it has none.
    """
    if type(name) is not str or name not in table:
        raise Tampered("a name that is not on the list")
    return table[name]


def checked(reader: Callable[..., T], parts: Any, *first: Any) -> T:
    """What a reader makes of the list that came, behind arguments that it does not annotate.

    Raises:
        Tampered: the list is not exactly of the types that the reader's annotations say.
    """
    kinds = _kinds(reader)
    if type(parts) is list and len(parts) == len(kinds):
        for part, allowed in zip(parts, kinds, strict=True):  # a loop: it runs for every value
            if allowed and type(part) not in allowed:
                break
        else:
            return reader(*first, *parts)
    raise Tampered(f"a {reader.__name__.strip('_')} of the wrong form")


@cache
def _kinds(reader: Any) -> list[tuple[type, ...]]:
    """The types that each part may be of; none where any will do."""
    hints = get_type_hints(reader)
    hints.pop("return", None)
    either = [get_args(h) if isinstance(h, types.UnionType) else (h,) for h in hints.values()]
    return [tuple(get_origin(one) or one for one in every if one is not Any) for every in either]
