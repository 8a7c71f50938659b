"""What goes wrong on a link, and the check of what came over it."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = [
    "LinkClosed",
    "RemoteError",
    "Tampered",
    "TimedOut",
    "TooLarge",
    "Unsupported",
    "WireError",
    "expect",
    "lookup",
]

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
    """The value, if it is of this type and no other: True is no int here.

    Raises:
        Tampered: it is not.
    """
    if type(value) is not kind:
        raise Tampered(f"{what} that is no {kind.__name__}")
    return value


def lookup(table: dict[str, T], name: Any) -> T:
    """What a table has under a name that came.

    Raises:
        Tampered: it has none.
    """
    if type(name) is not str or name not in table:
        raise Tampered("a name that is not on the list")
    return table[name]
