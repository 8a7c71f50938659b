"""Which classes, and which of their methods, are a submission's own."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["NoAnswer", "decides", "is_own"]

#: By which NumPy and torch let a class have its say in what is done with it and another value.
_PROTOCOLS = (
    "__array_finalize__", "__array_function__", "__array_ufunc__", "__array_wrap__",
    "__torch_dispatch__", "__torch_function__",
)  # fmt: skip
# As Python itself finds them, whatever a metaclass says.
_mro, _own_names = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
_flags = type.__dict__["__flags__"].__get__
_MADE_BY_CODE = 1 << 9  # what CPython calls a heap type


class NoAnswer(BaseException):
    """What a test sees of a submission is not an answer; no test expects this error as right."""


def is_own(cls: type) -> bool:
    """Whether a class is the submission's, and not one that its module has by its name.

    >>> is_own(int), is_own(type(print)), is_own(type("Own", (), {}))
    (False, False, True)
    """
    if not _flags(cls) & _MADE_BY_CODE:
        return False
    found: Any = sys.modules.get(cls.__module__)
    if cls.__module__ == "__main__":
        return True
    for part in cls.__qualname__.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found is not cls


def decides(cls: type, *methods: str) -> bool:
    """Whether the submission has written one of these methods, or of the protocols, of a class."""
    if not is_own(cls):
        return False
    if is_own(type(cls)):
        return True
    every = [_own_names(one) for one in _mro(cls)]
    given = [_own_names(one) for one in _mro(cls) if not is_own(one)]
    return any(
        next((names[method] for names in every if method in names), None)
        is not next((names[method] for names in given if method in names), None)
        for method in (*methods, *_PROTOCOLS)
    )
