"""What messages are made of: lists on the wire, in the order of the fields given here.

A part is checked when it is read: as many fields as it has, each of exactly the type it has here.
Trees of values are checked where they are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, dataclass_transform

from autograder.link.errors import checked

__all__ = ["HEADS", "LONGEST", "UNCHANGED", "Part", "shown"]

LONGEST = 2_000
"""How many characters cross of the text of an error or a function's docstring."""
UNCHANGED = 0
"""In the place of a tensor's values or gradient: they are as they were."""


def shown(text: str) -> str:
    """A text that surely crosses: shortened, and without what is not Unicode."""
    return text[:LONGEST].encode("utf-8", "replace").decode()


@dataclass_transform(frozen_default=True)
class Part:
    """A part of a message: a dataclass."""

    def __init_subclass__(cls) -> None:
        dataclass(cls)  # frozen to mypy alone: at run time it would take thrice as long to make

    @classmethod
    def read(cls, tree: Any) -> Self:
        """The part that came, checked."""
        return checked(cls, tree)

    def tree(self) -> list[Any]:
        """The part as it is sent."""
        return [*vars(self).values()]


class Message(Part):
    """One message: `payload` is the tree of arguments, of a result, or of an error's class.

    Its `head` is one of `HEADS`, by `kind`; `serial` is the number of the question. `state` is the
    default dtype or None, and the random states that changed; `released` is pairs of a key and how
    many times less its object is held; then `SentTensor`s, a `History`, and `Change`s.
    """

    kind: str
    serial: int
    head: list[Any]
    state: list[Any]
    released: list[Any]
    tensors: list[Any]
    history: list[Any] | None
    changes: list[Any]
    payload: Any


class Call(Part):
    """A question: what is asked (`op`) of which object, under which name, recording gradients."""

    op: str
    key: int | None
    name: str | None
    grads: bool


class Answer(Part):
    """A result; `grads`: whether gradients are recorded from now on."""

    grads: bool


class Failure(Part):
    """An error: its classes' names, its text, its number if the asking side raised it first."""

    names: list[Any]
    text: str
    home: int | None


HEADS: dict[str, type[Call | Answer | Failure]] = {"call": Call, "ok": Answer, "err": Failure}


class SentTensor(Part):
    """A tensor without a history, and whether both sides keep it alike from now on (`watch`).

    Its `data` is packed, or `[dtype, shape]` where only its gradient is of interest.
    """

    key: int
    parameter: bool
    needs: bool
    watch: bool
    data: list[Any]
    grad: list[Any] | None


class History(Part):
    """Tensors that depend on others: trees of these, and `[key, packed]` of each output."""

    key: int
    inputs: list[Any]
    outputs: list[Any]


class Change(Part):
    """What changed of an object that both sides hold; `mine`: it is the sender's."""

    kind: str
    mine: bool
    key: int
    now: Any


class Written(Part):
    """A tensor's change; `needs` is None as before, `counted`: autograd is to know of it."""

    data: list[Any] | int
    counted: bool
    grad: list[Any] | int | None
    needs: bool | None
