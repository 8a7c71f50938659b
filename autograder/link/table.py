"""The table of objects: what both sides of a link know of them, and of the calls under way.

Each side numbers its own objects. For those that the other side holds it has an `Entry`, for
those of the other side's that it holds a stand-in with a `Handle`. While a call is under way its
`Frame` says what it has lent.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from autograder.link.errors import Tampered, TooLarge, Unsupported, expect
from autograder.link.optional import nn, torch
from autograder.link.shared import Shared
from autograder.link.tensors import raw_bytes
from autograder.link.values import Encoder

__all__ = [
    "CLASSES", "Ask", "Entry", "Frame", "Handle", "Known", "Lent", "Table", "changes",
    "handle_of", "options_of", "parts_of", "version_of",
]  # fmt: skip

CLASSES = 10_000
"""How many classes either side describes."""
_OBJECTS = 10**6


Ask: TypeAlias = Callable[[str, int | None, str | None, Any, Callable[[Any], Any]], Any]
"""Puts a question: what, of which object, by which name, with which arguments, read by what."""


# --- what is known of values ---


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place, as autograd counts it; -1 where it does not."""
    try:
        return tensor._version
    except RuntimeError:  # an inference tensor
        return -1


def parts_of(module: nn.Module) -> list[Any]:
    """The parameters, buffers and children of a module, by name and identity."""
    own = module.__dict__
    return [
        [(name, id(part)) for name, part in own[kind].items()]
        for kind in ("_parameters", "_buffers", "_modules")
    ]


def options_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The options of an optimizer, by group of parameters."""
    plain = (int, float, bool, str, tuple, list, type(None), torch.Tensor)
    return [
        {key: value for key, value in group.items() if key != "params" and type(value) in plain}
        for group in optimizer.param_groups
    ]


class Known:
    """What both sides last agreed on, of a tensor (`keep`: its elements), module or optimizer."""

    def __init__(self, value: Any, keep: bool = True) -> None:
        self.data: bytes | None = None
        self.grad: bytes | None = None
        self.grad_seen: Any = None
        if isinstance(value, nn.Module):
            self.training = value.training
            self.parts = parts_of(value)
        elif isinstance(value, torch.optim.Optimizer):
            self.groups = options_of(value)
        elif isinstance(value, torch.Tensor):
            self.dtype, self.shape, self.version = value.dtype, value.shape, version_of(value)
            self.data = raw_bytes(value) if keep else None
            self.needs = value.requires_grad
            self.see_grad(value)

    def become(self, **now: Any) -> None:
        """They agree on something else."""
        vars(self).update(now)

    def has_grad(self, grad: torch.Tensor | None) -> bool:
        """Whether this is the gradient that they agree on."""
        if grad is None or self.grad is None:
            return grad is None and self.grad is None
        seen, version = self.grad_seen
        return (seen is grad and version == version_of(grad)) or raw_bytes(grad) == self.grad

    def see_grad(self, tensor: torch.Tensor) -> None:
        """They agree on the gradient of a tensor, as it is now."""
        grad = tensor.grad if tensor.is_leaf else None
        self.grad = None if grad is None else raw_bytes(grad)
        self.grad_seen = None if grad is None else (grad, version_of(grad))


# --- calls under way ---


@dataclass
class Lent:
    """A random generator that a call lends; `mine`: it is this side's."""

    mine: bool
    key: int
    generator: torch.Generator
    state: bytes


@dataclass(eq=False)
class Frame:
    """One call under way, and what it has taken over there or brought here."""

    sent: set[int] = field(default_factory=set)  # numbers of one's own objects
    tensors: dict[tuple[bool, int], tuple[torch.Tensor, Known]] = field(default_factory=dict)
    generators: list[Lent] = field(default_factory=list)
    raised: list[BaseException] = field(default_factory=list)  # from here, by their numbers there


_MUTABLE = (list, dict, set, bytearray, np.ndarray)


def _fingerprint(value: Any) -> Any:
    encoder = Encoder(other=lambda other: ["?", id(other), getattr(other, "_version", 0)])
    try:
        return json.dumps(encoder.encode(value)), encoder.blobs
    except (TooLarge, Unsupported):
        return None


def changes(args: Any, kwargs: dict[str, Any]) -> Callable[[], list[tuple[Any, Any]]]:
    """Tells, after a call, which arguments it has changed, and what they are now."""
    before = [
        (where, value, _fingerprint(value))
        for where, value in [*enumerate(args), *kwargs.items()]
        if type(value) in _MUTABLE
    ]
    return lambda: [(where, now) for where, now, was in before if _fingerprint(now) != was]


def _write_back(args: Any, kwargs: dict[str, Any], answer: Any) -> Any:
    """The result of a call, whose changes of plain arguments are made here."""
    arguments = dict([*enumerate(args), *kwargs.items()])
    try:
        result, changed = expect(answer, tuple, "an answer")
        for change in expect(changed, list, "changes"):
            where, new = expect(change, tuple, "a change")
            if type(where) not in (int, str) or type(new) is not type(old := arguments[where]):
                raise Tampered("a change of an argument's type")
            if type(old) in (list, bytearray):
                old[:] = new
            elif type(old) in (dict, set):
                old.clear()
                old.update(new)
            elif type(old) is np.ndarray and (old.shape, old.dtype) == (new.shape, new.dtype):
                np.copyto(old, new)
    except (ValueError, LookupError) as error:
        raise Tampered(f"an answer of the wrong form: {error}"[:200]) from None
    return result


# --- objects ---


@dataclass(eq=False)
class Entry:
    """An object of this side that the other side holds."""

    key: int
    obj: Any
    edge: Any = None  # of a tensor: its gradient function when it was sent
    count: int = 0  # how often it was sent
    known: Known | None = None


class Handle:
    """The tie of a stand-in to what it stands for; told to the owner when it goes."""

    def __init__(self, table: Table, key: int) -> None:
        self.table = table
        self.key = key  # the owner's number for the object
        self.ref: Callable[[], Any] = lambda: None  # gives the stand-in while there is one
        self.count = 1  # how often the owner has sent it
        self.bundle: int | None = None  # the number of the `Stand` node that made a tensor
        self.known: Known | None = None
        self.mixed = False  # whether an operator with a plain value has given it
        self.named = False  # of a class: whether the test uses it by a name as classes have

    def __del__(self) -> None:
        self.table.released.append([self.key, self.count])

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def ask(self, op: str, name: str | None = None, *args: Any, read: Any = None) -> Any:
        """Ask the owner something of the object; see `calls` for what there is to ask."""
        return self.table.ask(op, self.key, name, args, read or (lambda answer: answer))

    def call(self, name: str | None = None, args: Any = (), kwargs: Any = None) -> Any:
        """Call it, or a method of it."""
        kwargs = kwargs or {}
        back = partial(_write_back, tuple(args), kwargs)
        return self.ask("call", name, tuple(args), kwargs, read=back)


def handle_of(value: Any) -> Handle | None:
    """The handle of a stand-in, whatever the value's class says of itself; None of others.

    A copy of a tensor has its attributes, and so has what `functools.wraps` makes of a function.
    """
    try:
        found = object.__getattribute__(value, "__dict__").get("_wire")
    except (AttributeError, TypeError):
        return None
    return found if type(found) is Handle and found.ref() is value else None


def _flags(answer: Any) -> tuple[bool, bool, bool]:
    again, held, changed = expect(answer, tuple, "an answer")
    return again is True, held is True, changed is True


class Table:
    """The objects of both sides, as one of them knows them, by their owner's numbers.

    Args:
        ask: puts a question to the other side.
        guarded: whether this is the tests' side.

    Attributes:
        unjudged: why what a test finds out here may be wrong, whether it passes or fails.
        doubtful: why it may be wrong where it fails.
        strict: whether no object may answer what is asked of plain values.
        shared: the plain values that crossed.
    """

    def __init__(self, ask: Ask, guarded: bool) -> None:
        self.ask = ask
        self.guarded = guarded
        self.unjudged: str | None = None
        self.doubtful: str | None = None
        self.strict = False
        self.shared = Shared()
        self.own: dict[int, Entry] = {}
        self.theirs: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
        self.classes: dict[int, type] = {}  # of the other side; these are kept
        self.classes_sent = 0
        self.watch_own: dict[int, Entry] = {}  # what both sides keep alike
        self.watch_theirs: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
        self.frames: list[Frame] = []
        self.released: list[list[int]] = []  # pairs of number and count, not yet told
        self.ends: list[Any] = []  # the nodes at which a product that the other side wants ends
        # Leaves of the other side's that got a gradient, kept until that is told.
        self.collected: list[torch.Tensor] = []
        self._by_id: dict[int, Entry] = {}
        self._last_key = 0

    def begin(self, frame: Frame, args: Any) -> None:
        """A question crosses, and is under way from now on."""
        if not self.frames:  # else those who wait hold what has crossed before
            self.shared.look()
        self.shared.cross(args)
        self.frames.append(frame)

    def answered(self, op: str, args: Any, result: Any) -> Any:
        """An answer crosses; of a call, with what has become of its arguments."""
        if op == "call":
            both = (*args[0], *args[1].values())
            self.shared.cross(tuple(x for x in both if type(x) in _MUTABLE), alike=True)
        self.shared.cross(result)
        return result

    def settle(self, *, asks: bool) -> None:
        """Note, at the end of a test, if it may have had two values for what is one.

        Args:
            asks: whether the test asks which of its values are the same.
        """
        if not self.shared.any:
            return
        again, held, changed = self.ask("shared", None, None, (), _flags)
        _, held_here, changed_here = self.shared.told()
        if (again and (asks or changed_here)) or (held and changed_here) or (changed and held_here):
            self.unjudged = self.unjudged or "a value is the test's and the submission's at once"

    def next_key(self) -> int:
        """A number for an object of one's own."""
        self._last_key += 1
        return self._last_key

    def entry_of(self, obj: Any, edge: Any = None) -> Entry | None:
        """The entry of an object that the other side holds; None of others."""
        entry = self._by_id.get(id(obj))
        return entry if entry is not None and entry.obj is obj and entry.edge is edge else None

    def new_entry(self, obj: Any, edge: Any = None) -> Entry:
        """An entry to send, not yet kept.

        Raises:
            TooLarge: there are too many.
        """
        if len(self.own) > _OBJECTS:
            raise TooLarge("a million objects handed over and none given back")
        return Entry(self.next_key(), obj, edge)

    def keep(self, entry: Entry) -> None:
        """The object was sent, once more."""
        self.own[entry.key] = self._by_id[id(entry.obj)] = entry
        entry.count += 1

    def release(self, key: int, count: int) -> None:
        """The other side has let go of an object, so many of the times that it was sent."""
        if count < 1:
            raise Tampered("a release of nothing")
        entry = self.own.get(key)
        if entry is None:
            return
        entry.count -= count
        if entry.count <= 0:
            del self.own[key]
            self.watch_own.pop(key, None)
            if self._by_id.get(id(entry.obj)) is entry:
                del self._by_id[id(entry.obj)]

    def tie(self, key: int, value: Any, handle: Handle | None = None) -> Handle:
        """Make a value the stand-in of an object of the other side's."""
        handle = handle or Handle(self, key)
        handle.ref = weakref.ref(value)
        if isinstance(value, type):
            type.__setattr__(value, "_wire", handle)
        else:
            object.__getattribute__(value, "__dict__")["_wire"] = handle
        self.theirs[key] = handle
        return handle

    def alive(self, key: int, kind: type) -> Any:
        """The stand-in of an object that was sent once more, if there is one."""
        handle = self.theirs.get(key)
        value = handle.ref() if handle is not None else None
        if handle is None or value is None:
            return None
        if not issubclass(type(value), kind):
            raise Tampered("a number given twice")
        handle.count += 1
        return value

    def handle_of(self, value: Any) -> Handle | None:
        """The handle of a stand-in of the other side's object; None of others."""
        handle = handle_of(value)
        return handle if handle is not None and handle.table is self else None
