"""Stands in for a module that a graded run withholds: whatever is asked of it may not be used."""

from __future__ import annotations

from typing import Any, NoReturn

__all__: list[str] = []


class _Withheld:
    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError(
            f"{self._name} cannot be used in a graded run: the exercise asks for your own."
        )

    __call__ = __instancecheck__ = __subclasscheck__ = _refuse
    __iter__ = __len__ = __getitem__ = __enter__ = __bool__ = __float__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # what inspection and display ask every object for
            raise AttributeError(name)
        self._refuse()

    def __repr__(self) -> str:
        return f"<{self._name}: withheld>"

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()  # lets a module that only derives from it be imported

    def __or__(self, other: object) -> _Withheld:  # in annotations
        return self

    __ror__ = __or__


def __getattr__(name: str) -> _Withheld:
    if (
        name.startswith("__") or __name__ == "autograder.inside.withheld"
    ):  # under its own name: no stand-in
        raise AttributeError(name)
    return _Withheld(f"{__name__}.{name}")
