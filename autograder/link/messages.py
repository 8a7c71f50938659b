"""What messages are made of: lists on the wire, in the order of the fields given here.

A part is checked when it is read: as many fields as it has, each of exactly the type it has here.
What trees of values hold is checked where they are decoded.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self, dataclass_transform, get_args, get_origin, get_type_hints

from autograder.link.errors import Tampered

__all__ = ["HEADS", "LONGEST", "OBJECTS", "UNCHANGED", "Part", "shown"]

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
        dataclass(frozen=True)(cls)

    @classmethod
    def read(cls, tree: Any) -> Self:
        """The part that came.

        Raises:
            Tampered: it has other fields than this.
        """
        this: Any = cls
        kinds = _kinds(this)
        if type(tree) is not list or len(tree) != len(kinds):
            raise Tampered(f"a {cls.__name__} of the wrong form")
        for value, kind in zip(tree, kinds, strict=True):
            if kind and type(value) not in kind:  # exactly: True is no number
                raise Tampered(f"a {cls.__name__} of the wrong form")
        return cls(*tree)

    def tree(self, *tag: str) -> list[Any]:
        """The part as it is sent, behind a tag where it needs one."""
        return [*tag, *vars(self).values()]


@cache
def _kinds(cls: Any) -> list[tuple[type, ...]]:
    """The types that each field may be of; none where any will do."""
    hints = [get_type_hints(cls)[field.name] for field in fields(cls)]
    either = [get_args(h) if isinstance(h, types.UnionType) else (h,) for h in hints]
    return [tuple(get_origin(one) or one for one in every if one is not Any) for every in either]


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


class Released(Part):
    """How many times less an object of the receiver's is held."""

    key: int
    count: int


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


# --- values that are not plain ---


class Ref(Part):
    """An object that was described before, or is the receiver's own."""

    key: int


class Method(Part):
    """A method of an object of the receiver's."""

    key: int
    name: str


class Function(Part):
    """A function of the sender's."""

    key: int
    name: str
    doc: str


class Class(Part):
    """A class of the sender's: trees of its bases, names of its methods."""

    key: int
    name: str
    bases: list[Any]
    methods: list[Any]
    special: list[Any]


class Object(Part):
    """An object of the sender's, and the tree of its class."""

    key: int
    kind: list[Any]


class Module(Part):
    """An `nn.Module`; its parts are pairs of a name and a tree or None."""

    key: int
    kind: list[Any]
    training: bool
    parameters: list[Any]
    buffers: list[Any]
    children: list[Any]


class Optimizer(Part):
    """An optimizer; its groups are pairs of options and parameters."""

    key: int
    kind: list[Any]
    groups: list[Any]


class Named(Part):
    """A class that is the same on both sides."""

    module: str
    name: str


class PythonModule(Part):
    """A module, and the tree of a stand-in for where there is no such module."""

    name: str
    stand: list[Any]


class Generator(Part):
    """A random generator of the sender's, and its state."""

    key: int
    state: list[Any]


class Distribution(Part):
    """A distribution, or a transform of one; its arguments are pairs of a name and a tree."""

    name: str
    checked: bool
    arguments: list[Any]


OBJECTS: dict[str, type[Part]] = {
    "x": Ref, "o": Ref, "y": Ref, "Gy": Ref, "om": Method, "fn": Function, "cls": Class,
    "obj": Object, "mod": Module, "opt": Optimizer, "C": Named, "M": PythonModule,
    "G": Generator, "dist": Distribution,
}  # fmt: skip
"""The parts by their tags: x and o were described before, y and Gy are the receiver's own."""
