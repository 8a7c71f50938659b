"""Plain values as a tree of JSON and raw bytes: exact types, nothing executed.

Names of types and dtypes are looked up in lists; depth and numbers are capped. Whatever the other
side sends, `Decoder` returns a value or raises `Tampered`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from autograder.link.errors import Tampered, TooLarge, Unsupported, expect, lookup
from autograder.link.frames import Caps
from autograder.link.optional import torch
from autograder.link.tensors import (
    NUMPY_DTYPES,
    TORCH_DTYPES,
    blob_of,
    is_shape,
    pack_tensor,
    shape_of,
    torch_name,
    unpack_array,
    unpack_tensor,
)

__all__ = ["Decoder", "Encoder", "Record"]

_CONTAINERS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z", deque: "q"}
_MAPPINGS: dict[type, str] = {dict: "d", OrderedDict: "D", Counter: "C#", defaultdict: "dd"}
_NUMPY_NAMES = {dtype.type: name for name, dtype in NUMPY_DTYPES.items()}
_LONG = 4096
_DIGITS = 2**18


def _is_device(kind: Any, index: Any) -> bool:
    fits = index is None or (type(index) is int and 0 <= index < 128)
    return kind in ("cpu", "cuda", "meta", "mps") and fits


def _is_text(text: str) -> bool:
    """Whether this is Unicode: no half of a surrogate pair is in it."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _is_record(name: Any, fields: list[Any], values: Any) -> bool:
    names = [name, *fields]
    if not all(type(n) is str and n.isidentifier() and len(n) <= 200 for n in names):
        return False
    # Python itself asks for names with underscores; _0 is what namedtuple renames a field to.
    plain = all(field[0] != "_" or field[1:].isdecimal() for field in fields)
    return plain and len(fields) == len(values)


class Record(tuple[Any, ...]):
    """A named tuple of the other side: a tuple whose fields are attributes too."""

    _fields: tuple[str, ...] = ()

    @classmethod
    def named(cls, name: str, fields: list[str]) -> type[Record]:
        """The class of those with these fields; they go before what a tuple has of these names."""
        properties = {field: property(itemgetter(i)) for i, field in enumerate(fields)}
        return type(name, (cls,), {"_fields": tuple(fields), **properties})


class Encoder:
    """Turns values into a tree of JSON and a list of blobs.

    Args:
        caps: what one message may hold.
        other: is given every value that is not plain, and returns its tree (a list that starts
            with a tag, not one of this module's), or raises `Unsupported`. Without it, tensors
            cross by their values, and nothing else does.
    """

    def __init__(
        self, caps: Caps | None = None, other: Callable[[Any], list[Any]] | None = None
    ) -> None:
        self.caps = caps or Caps()
        self.blobs: list[bytes] = []
        self._other = other or self._tensor
        self._items = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        """The tree of a value.

        Raises:
            Unsupported: a type that does not cross.
            TooLarge: too many, or too deep.
        """
        self._items += 1
        if self._items > self.caps.items:
            raise TooLarge(f"more than {self.caps.items} values")
        if depth > self.caps.depth:
            raise TooLarge(f"containers nested more than {self.caps.depth} deep")
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**63 else ["i", self._digits(value)]
        if kind is str:
            if not _is_text(value):
                raise Unsupported(f"a text that is not Unicode cannot cross: {value!a:.100}")
            return value if len(value) < _LONG else ["S", self._blob(value.encode())]
        if kind in _CONTAINERS:
            return [_CONTAINERS[kind], *self._all(value, depth)]
        if kind in _MAPPINGS:
            return [_MAPPINGS[kind], *self._all(chain.from_iterable(value.items()), depth)]
        if kind is slice or kind is range:
            return [kind.__name__, *self._all((value.start, value.stop, value.step), depth)]
        named = tuple in kind.__bases__ and type(getattr(kind, "_fields", None)) is tuple
        if named or issubclass(kind, Record):
            fields = list(kind._fields)
            if not _is_record(kind.__name__, fields, value):
                raise Unsupported(f"a {kind.__name__} of fields that Python would not take")
            return ["r", kind.__name__, fields, *self._all(value, depth)]
        return self._leaf(value, kind) or self._other(value)

    def _all(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.encode(value, depth + 1) for value in values]

    def _leaf(self, value: Any, kind: type) -> list[Any] | None:
        if kind is bytes or kind is bytearray:
            return ["b" if kind is bytes else "B", self._blob(bytes(value))]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind is np.ndarray and value.dtype.type in _NUMPY_NAMES:
            array = value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
            name = _NUMPY_NAMES[value.dtype.type]
            return ["a", name, list(value.shape), self._blob(array.tobytes())]
        if kind in _NUMPY_NAMES:
            return ["n", _NUMPY_NAMES[kind], self._blob(value.tobytes())]
        if kind is torch.Size:
            if not is_shape(list(value)):
                raise Unsupported(f"{value} cannot cross")
            return ["size", *value]
        if kind is torch.dtype and torch_name(value) in TORCH_DTYPES:
            return ["dtype", torch_name(value)]
        if kind is torch.device:
            if not _is_device(value.type, value.index):
                raise Unsupported(f"the device {value} cannot cross")
            return ["device", value.type, value.index]
        if issubclass(kind, np.dtype) and value.type in _NUMPY_NAMES:
            return ["ndtype", _NUMPY_NAMES[value.type]]
        if value is Ellipsis or value is NotImplemented:
            return ["..." if value is Ellipsis else "!..."]
        return None

    def _tensor(self, value: Any) -> list[Any]:
        if type(value) is not torch.Tensor:
            raise Unsupported(f"a {type(value).__name__} cannot cross")
        return ["T", *pack_tensor(value, self.blobs)]

    def _digits(self, value: int) -> str:
        digits = hex(value)
        if len(digits) > _DIGITS:
            raise TooLarge(f"a whole number of {value.bit_length()} bits cannot cross")
        return digits

    def _blob(self, data: bytes) -> int:
        self.blobs.append(data)
        return len(self.blobs) - 1


class Decoder:
    """Turns a tree and its blobs into values again.

    Args:
        blobs: as received.
        caps: what one message may hold.
        other: is given every tree whose tag is not one of this module's. Without it, tensors are
            read, and nothing else is.
    """

    def __init__(
        self,
        blobs: list[memoryview],
        caps: Caps | None = None,
        other: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.caps = caps or Caps()
        self.blobs = blobs
        self._other = other or self._tensor
        self._items = 0

    def decode(self, tree: Any, depth: int = 0) -> Any:
        """The value of a tree.

        Raises:
            Tampered: it is not one.
        """
        self._items += 1
        if self._items > self.caps.items:
            raise Tampered("more values than allowed")
        if depth > self.caps.depth:
            raise Tampered("containers nested deeper than allowed")
        kind = type(tree)
        if tree is None or kind is bool or kind is int or kind is float:
            return tree
        if kind is str:
            if not _is_text(tree):
                raise Tampered("a text that is not Unicode")
            return tree
        if kind is not list or not tree or type(tree[0]) is not str:
            raise Tampered("a value of the wrong form")
        tag, *parts = tree
        try:
            if tag in _BUILT:
                return _BUILT[tag](self._all(parts, depth))
            if tag in _LEAVES:
                return _LEAVES[tag](self.blobs, *parts)
            if tag == "r":
                return self._record(depth, *parts)
            return self._other(tree)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise Tampered(f"a value that cannot be: {error}"[:200]) from None

    def _all(self, trees: Iterable[Any], depth: int) -> list[Any]:
        return [self.decode(tree, depth + 1) for tree in trees]

    def _record(self, depth: int, name: Any, fields: Any, *trees: Any) -> Record:
        if not _is_record(name, expect(fields, list, "fields"), trees):
            raise Tampered("not a valid named tuple")
        return Record.named(name, fields)(self._all(trees, depth))

    def _tensor(self, tree: list[Any]) -> torch.Tensor:
        if tree[0] != "T":
            raise Tampered("a type that is not on the list")
        return unpack_tensor(tree[1:], self.blobs)


def _mapping(kind: Callable[[dict[Any, Any]], Any], flat: list[Any]) -> Any:
    return kind(dict(zip(flat[::2], flat[1::2], strict=True)))


def _three(kind: Callable[[Any, Any, Any], Any], parts: list[Any]) -> Any:
    start, stop, step = parts
    return kind(start, stop, step)


_BUILT: dict[str, Callable[[list[Any]], Any]] = {tag: kind for kind, tag in _CONTAINERS.items()}
_BUILT |= {tag: partial(_mapping, kind) for kind, tag in _MAPPINGS.items()}
_BUILT["dd"] = partial(_mapping, partial(defaultdict, None))  # what makes missing keys stays there
_BUILT |= {kind.__name__: partial(_three, kind) for kind in (slice, range)}


def _integer(_: list[memoryview], digits: Any) -> int:
    if not 3 <= len(expect(digits, str, "an integer")) <= _DIGITS:
        raise Tampered("not a valid integer")
    return int(digits, 16)


def _complex(_: list[memoryview], real: Any, imag: Any) -> complex:
    return complex(expect(real, float, "a complex number"), expect(imag, float, "a complex number"))


def _array(blobs: list[memoryview], name: Any, shape: Any, index: Any) -> Any:
    return unpack_array(lookup(NUMPY_DTYPES, name), shape_of(shape), blob_of(index, blobs))


def _device(_: list[memoryview], kind: Any, index: Any) -> torch.device:
    if not _is_device(kind, index):
        raise Tampered("not a valid device")
    return torch.device(kind, index) if index is not None else torch.device(kind)


_LEAVES: dict[str, Callable[..., Any]] = {
    "i": _integer,
    "c": _complex,
    "S": lambda blobs, index: str(blob_of(index, blobs), "utf-8"),
    "b": lambda blobs, index: bytes(blob_of(index, blobs)),
    "B": lambda blobs, index: bytearray(blob_of(index, blobs)),
    "a": _array,
    "n": lambda blobs, name, index: _array(blobs, name, [1], index)[0],
    "size": lambda _, *shape: torch.Size(shape_of(list(shape))),
    "dtype": lambda _, name: lookup(TORCH_DTYPES, name),
    "ndtype": lambda _, name: lookup(NUMPY_DTYPES, name),
    "device": _device,
    "...": lambda _: Ellipsis,
    "!...": lambda _: NotImplemented,
}
