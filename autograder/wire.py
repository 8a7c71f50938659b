"""Values over a socket: a JSON header and raw bytes, exact types, nothing executed.

A message is a frame: a magic word, the sizes of header and payload, the header (JSON: the tree of
a value and the sizes of its blobs) and the payload (the blobs, one after the other: tensors,
arrays, long strings). Names of types and dtypes are looked up in lists; sizes, depth and numbers
are checked before memory is taken. Whatever the other side sends, `Link.receive` and `Decoder`
return a value or raise a `WireError`.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from autograder.link.pipes import Pipes

__all__ = [
    "Caps",
    "Decoder",
    "Encoder",
    "Link",
    "LinkClosed",
    "Record",
    "Tampered",
    "TimedOut",
    "TooLarge",
    "Unsupported",
    "WireError",
    "check_tensor",
    "pack_tensor",
    "raw_bytes",
    "unpack_tensor",
]


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


@dataclass(frozen=True)
class Caps:
    """What one message may hold.

    Attributes:
        header: bytes of JSON.
        payload: bytes of all blobs together.
        items: values, counted at every depth.
        depth: of containers in containers.
        blobs: number of blobs.
    """

    header: int = 8 * 2**20
    payload: int = 512 * 2**20
    items: int = 400_000
    depth: int = 64
    blobs: int = 20_000


_FRAME = struct.Struct(">4sIQ")
_MAGIC = b"AGw1"


def _values(header: bytes) -> int:
    # Each value needs a comma or a bracket before it, so this bounds what parsing allocates.
    return header.count(b",") + header.count(b"[") + header.count(b"{")


class Link:
    """Frames over a connected socket or pipes, each side's turn in alternation."""

    def __init__(self, sock: socket.socket | Pipes, caps: Caps | None = None) -> None:
        self.sock = sock
        self.caps = caps or Caps()

    def send(self, tree: Any, blobs: list[bytes]) -> None:
        """Send one message.

        Raises:
            TooLarge: nothing was sent.
            WireError: the link is broken.
        """
        header = json.dumps([tree, [len(blob) for blob in blobs]], separators=(",", ":")).encode()
        payload = sum(map(len, blobs))
        caps = self.caps
        if len(header) > caps.header or payload > caps.payload or len(blobs) > caps.blobs:
            raise TooLarge(
                f"{len(header) + payload} bytes in {len(blobs)} pieces are more than may cross "
                "between a submission and its tests"
            )
        if _values(header) > 2 * caps.items:
            raise TooLarge("more values than may cross between a submission and its tests")
        head = _FRAME.pack(_MAGIC, len(header), payload) + header
        if payload < 2**16:
            self._send(head + b"".join(blobs))
        else:
            self._send(head)
            for blob in blobs:
                self._send(blob)

    def receive(self) -> tuple[Any, list[memoryview]]:
        """The next message: the tree, not yet decoded, and its blobs.

        Raises:
            Tampered: it is not a message, or beyond the caps.
            LinkClosed: there is no other side any more.
        """
        magic, n_header, n_payload = _FRAME.unpack(self._receive(_FRAME.size))
        if magic != _MAGIC:
            raise Tampered("not a message of this protocol")
        if n_header > self.caps.header or n_payload > self.caps.payload:
            raise Tampered(f"a message of {n_header + n_payload} bytes is larger than allowed")
        header = bytes(self._receive(n_header))
        if _values(header) > 2 * self.caps.items:
            raise Tampered("a message with more values than allowed")
        try:
            parsed = json.loads(header)
        except (ValueError, RecursionError) as error:
            raise Tampered(f"a header that is not JSON: {error}"[:200]) from None
        if type(parsed) is not list or len(parsed) != 2 or type(parsed[1]) is not list:
            raise Tampered("a header of the wrong form")
        tree, sizes = parsed
        if len(sizes) > self.caps.blobs or not all(type(s) is int and s >= 0 for s in sizes):
            raise Tampered("sizes of blobs that are none")
        if sum(sizes) != n_payload:
            raise Tampered("sizes of blobs that do not add up")
        payload = self._receive(n_payload)
        blobs, start = [], 0
        for size in sizes:
            blobs.append(payload[start : start + size])
            start += size
        return tree, blobs

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise LinkClosed(f"the other side is gone ({error})") from None

    def _receive(self, n: int) -> memoryview:
        # np.empty does not touch the pages: a lying size costs address space, not memory.
        view = memoryview(np.empty(n, np.uint8))  # type: ignore[arg-type]
        got = 0
        try:
            while got < n:
                size = self.sock.recv_into(view[got:])
                if size == 0:
                    raise LinkClosed("the other side is gone")
                got += size
        except OSError as error:
            raise LinkClosed(f"the other side is gone ({error})") from None
        return view


_TORCH_DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64,
        torch.complex128, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8,
        torch.bool,
    )
}  # fmt: skip
_TORCH_NAMES = {dtype: name for name, dtype in _TORCH_DTYPES.items()}
_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        "float16", "float32", "float64", "complex64", "complex128", "int8", "int16", "int32",
        "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    )
}  # fmt: skip
_STORED: dict[torch.dtype, np.dtype[Any]] = {
    dtype: np.dtype({"bfloat16": "int16", "bool": "uint8"}.get(name, name))
    for name, dtype in _TORCH_DTYPES.items()
}
_NUMPY_NAMES = {dtype.type: name for name, dtype in _NUMPY_DTYPES.items()}


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """The elements of a dense CPU tensor, in row-major order."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.contiguous().view(torch.int16)
    elif tensor.dtype.is_complex:
        tensor = tensor.resolve_conj().resolve_neg()
    elif tensor.is_neg():
        tensor = tensor.resolve_neg()
    return tensor.numpy().tobytes()


def check_tensor(tensor: torch.Tensor) -> None:
    """Raise `Unsupported` for a tensor that does not cross."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise Unsupported(f"a {type(tensor).__name__} is not a plain tensor")
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        raise Unsupported(f"a {tensor.layout} tensor on {tensor.device} cannot cross: only dense")
    if tensor.dtype not in _TORCH_NAMES:
        raise Unsupported(f"a tensor of {tensor.dtype} cannot cross")


def pack_tensor(tensor: torch.Tensor, blobs: list[bytes]) -> list[Any]:
    """`[dtype, shape, order, blob]`; `order` permutes the dimensions to contiguous, or is None."""
    check_tensor(tensor)
    order = None
    if not tensor.is_contiguous():
        strides = tensor.stride()
        order = sorted(range(tensor.dim()), key=lambda i: (-strides[i], i))
        moved = tensor.detach().permute(order)
        if moved.is_contiguous():
            tensor = moved
        else:
            order = None
    shape = list(tensor.shape)
    if order is not None:
        shape = [shape[order.index(i)] for i in range(len(order))]
    blobs.append(raw_bytes(tensor))
    return [_TORCH_NAMES[tensor.dtype], shape, order, len(blobs) - 1]


def _is_shape(value: list[Any]) -> bool:
    return len(value) <= 64 and all(type(n) is int and 0 <= n < 2**40 for n in value)


def _is_device(kind: Any, index: Any) -> bool:
    fits = index is None or (type(index) is int and 0 <= index < 128)
    return kind in ("cpu", "cuda", "meta", "mps") and fits


def _is_text(text: str) -> bool:
    """Whether this is Unicode: no half of a surrogate pair is in it."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _is_record(name: Any, fields: list[Any]) -> bool:
    names = [name, *fields]
    if not all(type(n) is str and n.isidentifier() and len(n) <= 200 for n in names):
        return False
    # Python itself asks for names with underscores; _0 is what namedtuple renames a field to.
    return all(field[0] != "_" or field[1:].isdecimal() for field in fields)


def _shape(value: Any) -> tuple[int, ...]:
    if type(value) is not list or not _is_shape(value):
        raise Tampered("not a valid shape")
    return tuple(value)


def _blob(index: Any, blobs: list[memoryview]) -> memoryview:
    if type(index) is not int or not 0 <= index < len(blobs):
        raise Tampered("a blob that did not come")
    return blobs[index]


def _lookup(table: dict[str, Any], name: Any) -> Any:
    if type(name) is not str or name not in table:
        raise Tampered("a name that is not on the list")
    return table[name]


def unpack_tensor(tree: Any, blobs: list[memoryview]) -> torch.Tensor:
    """What `pack_tensor` described: a new tensor in memory of its own."""
    if type(tree) is not list or len(tree) != 4:
        raise Tampered("a tensor of the wrong form")
    dtype = _lookup(_TORCH_DTYPES, tree[0])
    shape, order, blob = _shape(tree[1]), tree[2], _blob(tree[3], blobs)
    if math.prod(shape) * dtype.itemsize != len(blob):
        raise Tampered("a tensor whose bytes do not fill its shape")
    stored = shape
    if order is not None:
        if type(order) is not list or not all(type(i) is int for i in order):
            raise Tampered("not a valid order of dimensions")
        if sorted(order) != list(range(len(shape))):
            raise Tampered("not a valid order of dimensions")
        stored = tuple(shape[i] for i in order)
    try:
        array = np.frombuffer(bytearray(blob), _STORED[dtype]).reshape(stored)
        if order is not None:
            array = array.transpose([order.index(i) for i in range(len(order))])
        if dtype is torch.bool:  # any other byte than 0 and 1 has no defined meaning
            array = array != 0
        # Not by torch.frombuffer and reshape: autograd lets no view be changed in place.
        tensor = torch.from_numpy(array)
        return tensor.view(dtype).clone() if dtype is torch.bfloat16 else tensor
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise Tampered(f"a tensor that cannot be: {error}"[:200]) from None


class Record(tuple[Any, ...]):
    """A named tuple of the other side: a tuple whose fields are attributes too."""

    _fields: tuple[str, ...] = ()

    @classmethod
    def named(cls, name: str, fields: list[str]) -> type[Record]:
        """The class of those with these fields; they go before what a tuple has of these names."""
        properties = {field: property(itemgetter(i)) for i, field in enumerate(fields)}
        return type(name, (cls,), {"_fields": tuple(fields), **properties})


_CONTAINERS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z", deque: "q"}
_MAPPINGS: dict[type, str] = {dict: "d", OrderedDict: "D", Counter: "C#", defaultdict: "dd"}
_LONG = 4096
_DIGITS = 2**18


class Encoder:
    """Turns values into a tree of JSON and a list of blobs.

    Args:
        caps: what one message may hold.
        other: is given every value that is not plain, and returns its tree (a list that starts
            with a tag, not one of this module's), or raises `Unsupported`.
    """

    def __init__(
        self, caps: Caps | None = None, other: Callable[[Any], list[Any]] | None = None
    ) -> None:
        self.caps = caps or Caps()
        self.blobs: list[bytes] = []
        self._other = other
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
            return [_CONTAINERS[kind], *[self.encode(item, depth + 1) for item in value]]
        if kind in _MAPPINGS:
            tree: list[Any] = [_MAPPINGS[kind]]
            for key, item in value.items():
                tree += [self.encode(key, depth + 1), self.encode(item, depth + 1)]
            return tree
        if kind is torch.Tensor and self._other is None:
            return ["T", *pack_tensor(value, self.blobs)]
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
            if not _is_shape(list(value)):
                raise Unsupported(f"{value} cannot cross")
            return ["size", *value]
        if kind is torch.dtype and value in _TORCH_NAMES:
            return ["dtype", _TORCH_NAMES[value]]
        if kind is torch.device:
            if not _is_device(value.type, value.index):
                raise Unsupported(f"the device {value} cannot cross")
            return ["device", value.type, value.index]
        if issubclass(kind, np.dtype) and value.type in _NUMPY_NAMES:
            return ["ndtype", _NUMPY_NAMES[value.type]]
        if kind is slice or kind is range:
            parts = [self.encode(p, depth + 1) for p in (value.start, value.stop, value.step)]
            return ["slice" if kind is slice else "range", *parts]
        if value is Ellipsis or value is NotImplemented:
            return ["..." if value is Ellipsis else "!..."]
        named = tuple in kind.__bases__ and type(getattr(kind, "_fields", None)) is tuple
        if named or issubclass(kind, Record):
            fields = list(kind._fields)
            if not _is_record(kind.__name__, fields) or len(fields) != len(value):
                raise Unsupported(f"a {kind.__name__} of fields that Python would not take")
            return ["r", kind.__name__, fields, *[self.encode(i, depth + 1) for i in value]]
        if self._other is not None:
            return self._other(value)
        raise Unsupported(f"a {kind.__name__} cannot cross")

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
        other: is given every tree whose tag is not one of this module's.
    """

    def __init__(
        self,
        blobs: list[memoryview],
        caps: Caps | None = None,
        other: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.caps = caps or Caps()
        self.blobs = blobs
        self._other = other
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
            return self._text(tree)
        if kind is not list or not tree or type(tree[0]) is not str:
            raise Tampered("a value of the wrong form")
        tag = tree[0]
        try:
            read = getattr(self, _READERS.get(tag, "_foreign"))
            return read(tree, depth)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise Tampered(f"a value that cannot be: {error}"[:200]) from None

    def _foreign(self, tree: list[Any], depth: int) -> Any:
        if self._other is None:
            raise Tampered("a type that is not on the list")
        return self._other(tree)

    def _text(self, text: str) -> str:
        if not _is_text(text):
            raise Tampered("a text that is not Unicode")
        return text

    def _all(self, trees: list[Any], depth: int) -> list[Any]:
        return [self.decode(tree, depth + 1) for tree in trees]

    def _list(self, tree: list[Any], depth: int) -> Any:
        return self._all(tree[1:], depth)

    def _tuple(self, tree: list[Any], depth: int) -> Any:
        return tuple(self._all(tree[1:], depth))

    def _deque(self, tree: list[Any], depth: int) -> Any:
        return deque(self._all(tree[1:], depth))

    def _set(self, tree: list[Any], depth: int) -> Any:
        return set(self._all(tree[1:], depth))

    def _frozenset(self, tree: list[Any], depth: int) -> Any:
        return frozenset(self._all(tree[1:], depth))

    def _dict(self, tree: list[Any], depth: int) -> Any:
        flat = self._all(tree[1:], depth)
        if len(flat) % 2:
            raise Tampered("a key without a value")
        pairs = dict(zip(flat[::2], flat[1::2], strict=True))
        if tree[0] == "d":
            return pairs
        if tree[0] == "dd":
            return defaultdict(None, pairs)  # what it makes of a missing key does not cross
        return OrderedDict(pairs) if tree[0] == "D" else Counter(pairs)

    def _int(self, tree: list[Any], depth: int) -> int:
        _, digits = tree
        if type(digits) is not str or not 3 <= len(digits) <= _DIGITS:
            raise Tampered("not a valid integer")
        return int(digits, 16)

    def _complex(self, tree: list[Any], depth: int) -> complex:
        _, real, imag = tree
        if type(real) is not float or type(imag) is not float:
            raise Tampered("not a valid complex number")
        return complex(real, imag)

    def _string(self, tree: list[Any], depth: int) -> str:
        _, index = tree
        return str(_blob(index, self.blobs), "utf-8")

    def _bytes(self, tree: list[Any], depth: int) -> Any:
        _, index = tree
        return (bytes if tree[0] == "b" else bytearray)(_blob(index, self.blobs))

    def _tensor(self, tree: list[Any], depth: int) -> torch.Tensor:
        return unpack_tensor(tree[1:], self.blobs)

    def _array(self, tree: list[Any], depth: int) -> Any:
        _, name, shape, index = tree
        dtype, size, blob = _lookup(_NUMPY_DTYPES, name), _shape(shape), _blob(index, self.blobs)
        if math.prod(size) * dtype.itemsize != len(blob):
            raise Tampered("an array whose bytes do not fill its shape")
        if dtype.kind == "b":
            return (np.frombuffer(blob, np.uint8) != 0).reshape(size)
        return np.frombuffer(bytearray(blob), dtype).reshape(size)

    def _scalar(self, tree: list[Any], depth: int) -> Any:
        _, name, index = tree
        dtype, blob = _lookup(_NUMPY_DTYPES, name), _blob(index, self.blobs)
        if len(blob) != dtype.itemsize:
            raise Tampered("a number whose bytes do not fit its type")
        return self._array(["a", name, [1], index], depth)[0]

    def _size(self, tree: list[Any], depth: int) -> torch.Size:
        return torch.Size(_shape(tree[1:]))

    def _torch_dtype(self, tree: list[Any], depth: int) -> Any:
        _, name = tree
        return _lookup(_TORCH_DTYPES, name)

    def _numpy_dtype(self, tree: list[Any], depth: int) -> Any:
        _, name = tree
        return _lookup(_NUMPY_DTYPES, name)

    def _device(self, tree: list[Any], depth: int) -> torch.device:
        _, kind, index = tree
        if not _is_device(kind, index):
            raise Tampered("not a valid device")
        return torch.device(kind, index) if index is not None else torch.device(kind)

    def _slice(self, tree: list[Any], depth: int) -> Any:
        start, stop, step = self._all(tree[1:], depth)
        return (slice if tree[0] == "slice" else range)(start, stop, step)

    def _ellipsis(self, tree: list[Any], depth: int) -> Any:
        return Ellipsis if tree[0] == "..." else NotImplemented

    def _record(self, tree: list[Any], depth: int) -> Record:
        _, name, fields, *values = tree
        if type(fields) is not list or not _is_record(name, fields) or len(fields) != len(values):
            raise Tampered("not a valid named tuple")
        return Record.named(name, fields)(self._all(values, depth))


_READERS = {
    "l": "_list",
    "t": "_tuple",
    "s": "_set",
    "z": "_frozenset",
    "d": "_dict",
    "D": "_dict",
    "C#": "_dict",
    "dd": "_dict",
    "q": "_deque",
    "i": "_int",
    "c": "_complex",
    "S": "_string",
    "b": "_bytes",
    "B": "_bytes",
    "T": "_tensor",
    "a": "_array",
    "n": "_scalar",
    "size": "_size",
    "dtype": "_torch_dtype",
    "ndtype": "_numpy_dtype",
    "device": "_device",
    "slice": "_slice",
    "range": "_slice",
    "...": "_ellipsis",
    "!...": "_ellipsis",
    "r": "_record",
}
