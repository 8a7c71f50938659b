"""A message that came from the other side of a link: what it says, checked, and made so here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autograder.link import messages
from autograder.link.changes import Made, assign, draw, lent_of
from autograder.link.errors import Tampered, checked, expect, lookup
from autograder.link.frames import Caps
from autograder.link.gradients import Bundle, stands_of
from autograder.link.messages import HEADS, LONGEST, Answer, Call, Failure
from autograder.link.names import DISTRIBUTIONS, MODULES, distribution_of, is_allowed, shared_module
from autograder.link.optional import nn, torch
from autograder.link.randomness import RandomStates
from autograder.link.standin import (
    RemoteFunction,
    RemoteModule,
    RemoteType,
    blank,
    remote_class,
    said_of,
)
from autograder.link.table import CLASSES, Frame, Handle, Known, Lent, Table
from autograder.link.tensors import TORCH_DTYPES, raw_bytes, shape_of, unpack_tensor
from autograder.link.values import Decoder

__all__ = ["Incoming", "Received"]


class Objects:
    """Reads what a message says of objects."""

    def __init__(self, table: Table, caps: Caps, blobs: list[memoryview]) -> None:
        self.table = table
        self.blobs = blobs
        self.decoder = Decoder(blobs, caps, self.other)
        self.frame = Frame()
        self.frames = [*table.frames, self.frame]
        self._seen: dict[int, Any] = {}
        self._depth = 0

    def other(self, tree: list[Any]) -> Any:
        """The value of a tree that is not plain."""
        tag, *parts = expect(tree, list, "a value")
        self._depth += 1
        if self._depth > 200:
            raise Tampered("objects nested too deep")
        try:
            return checked(lookup(_READERS, tag), parts, self)
        finally:
            self._depth -= 1

    def _sent(self, key: int) -> Any:
        if key in self._seen:
            return self._seen[key]
        if key in self.table.classes:
            return self.table.classes[key]
        raise Tampered("a reference to what was not described")

    def _own(self, key: int) -> Any:
        entry = self.table.own.get(key)
        if entry is None or isinstance(entry.obj, Bundle):
            raise Tampered("a reference to what was not handed over")
        return entry.obj

    def _own_method(self, key: int, name: str) -> Any:
        owner = self._own(key)
        if self.table.guarded and not is_allowed("call", owner, name):
            raise Tampered("a method that is not for a submission")
        return getattr(owner, name)

    def _stand(self, key: int, cls: type, make: Callable[[], Any]) -> Any:
        """The stand-in of an object that was sent, made if there is none."""
        value = self.table.alive(key, cls)
        if value is None:
            value = make()
            self.table.tie(key, value)
        self._seen[key] = value
        return value

    def _function(self, key: int, name: str, doc: str | None) -> Any:
        value = self._stand(key, RemoteFunction, RemoteFunction)
        value.__name__ = value.__qualname__ = name[:200]
        value.__doc__ = doc and doc[:LONGEST]
        return value

    def _class(
        self, key: int, name: str, bases: list[Any], methods: list[Any], special: list[Any]
    ) -> Any:
        classes = self.table.classes
        if key in classes or len(classes) >= CLASSES:
            raise Tampered("a class described twice, or too many")
        if not name.isidentifier() or len(name) > 200 or len(bases) > 50:
            raise Tampered("a class of the wrong form")
        parents = [self.other(base) for base in bases]
        if not all(isinstance(parent, type) for parent in parents):
            raise Tampered("a class of the wrong form")
        names = frozenset(m for m in methods if type(m) is str and len(m) <= 200)
        cls = remote_class(name, parents, names, [s for s in special if type(s) is str])
        self.table.tie(key, cls)
        classes[key] = self._seen[key] = cls
        return cls

    def _object(self, key: int, kind: list[Any]) -> Any:
        value = self._instance(key, kind, object)
        self.table.doubtful = f"{said_of(type(value))} is only stood for outside"
        return value

    def _instance(self, key: int, kind: list[Any], base: type) -> Any:
        cls = self.other(kind)
        if type(cls) is not RemoteType or not issubclass(cls, base):
            raise Tampered("an object of no class")
        return self._stand(key, cls, lambda: blank(cls))

    def _module(
        self,
        key: int,
        kind: list[Any],
        training: bool,
        parameters: list[Any],
        buffers: list[Any],
        children: list[Any],
    ) -> Any:
        module = self._instance(key, kind, RemoteModule)
        for own, described, sort in (
            (module._parameters, parameters, nn.Parameter),
            (module._buffers, buffers, torch.Tensor),
            (module._modules, children, nn.Module),
        ):
            own.clear()
            for name, tree in described:
                if not 0 < len(expect(name, str, "a name")) <= 200 or "." in name:
                    raise Tampered("a module of the wrong form")
                own[name] = None if tree is None else self.other(tree)
                if not isinstance(own[name], sort | None):
                    raise Tampered("a module of the wrong form")
        module.training = training
        return self._watched(key, module)

    def _optimizer(self, key: int, kind: list[Any], groups: list[Any]) -> Any:
        optimizer = self._instance(key, kind, torch.optim.Optimizer)
        read = []
        for tree, parameters in groups:
            values = [self.other(parameter) for parameter in parameters]
            if not all(isinstance(value, torch.Tensor) for value in values):
                raise Tampered("an optimizer of the wrong form")
            options = expect(self.decoder.decode(tree), dict, "options")
            read.append({"params": values, **options})
        optimizer.param_groups[:] = read
        return self._watched(key, optimizer)

    def _watched(self, key: int, value: Any) -> Any:
        handle = self.table.theirs[key]
        handle.known = Known(value)
        self.table.watch_theirs[key] = handle
        return value

    def _named(self, module: str, name: str) -> type:
        found = vars(lookup(MODULES, module)).get(name)
        if not isinstance(found, type):
            raise Tampered("a class that is not on the list")
        return found

    def _python_module(self, name: str, tree: list[Any]) -> Any:
        stand = self.other(tree)
        return shared_module(name) or stand

    def _distribution(self, name: str, checks: bool, arguments: list[Any]) -> Any:
        allowed = set(lookup(DISTRIBUTIONS, name).split())
        allowed |= {"probs", "logits"} if "?" in allowed else set()
        parameters = {key: self.decoder.decode(tree) for key, tree in arguments}
        if not allowed >= set(parameters):
            raise Tampered("a distribution of the wrong form")
        return distribution_of(name, parameters, checked=checks)

    # --- generators ---

    def _generator(self, key: int, state: list[Any]) -> torch.Generator:
        lent = lent_of(self.frames, False, key)
        if not lent:
            lent = [Lent(False, key, torch.Generator(), b"")]
            self.frame.generators += lent
        draw(lent[:1], self.decoder.decode(state), checked=self.table.guarded)
        return lent[0].generator

    def _own_generator(self, key: int) -> torch.Generator:
        for lent in lent_of(self.frames, True, key):
            return lent.generator
        raise Tampered("a random generator that was not handed over")


_READERS: dict[str, Callable[..., Any]] = {
    "x": Objects._sent,
    "o": Objects._sent,
    "y": Objects._own,
    "om": Objects._own_method,
    "fn": Objects._function,
    "cls": Objects._class,
    "obj": Objects._object,
    "mod": Objects._module,
    "opt": Objects._optimizer,
    "C": Objects._named,
    "M": Objects._python_module,
    "G": Objects._generator,
    "Gy": Objects._own_generator,
    "dist": Objects._distribution,
}


@dataclass
class Received:
    """A message, checked: of the question of which number, and what; its value, a call's frame."""

    serial: int
    head: Call | Answer | Failure
    payload: Any
    frame: Frame


class Incoming(Objects):
    """Reads one message."""

    def read(self, tree: Any, random: RandomStates) -> Received:
        """All that the message says.

        Raises:
            Tampered: it is not a message of this protocol; other errors mean that, too.
        """
        message = messages.Message.read(tree)
        head = lookup(HEADS, message.kind).read(message.head)
        for released in message.released:
            checked(Table.release, released, self.table)
        dtype, states = message.state
        random.apply([self.decoder.decode(state) for state in states])
        if dtype is not None:
            if self.table.guarded:
                raise Tampered("a default dtype for the tests")
            torch.set_default_dtype(lookup(TORCH_DTYPES, dtype))
        for part in message.tensors:
            self._tensor(messages.SentTensor.read(part), isinstance(head, Call))
        if message.history is not None:
            self._history(messages.History.read(message.history), isinstance(head, Call))
        made = Made(self.table, self.frames, self.decoder, self.other)
        for part in message.changes:
            made.make(messages.Change.read(part))
        payload = self.decoder.decode(message.payload)
        return Received(message.serial, head, payload, self.frame)

    # --- tensors ---

    def _tensor(self, sent: messages.SentTensor, asked: bool) -> None:
        table, key = self.table, sent.key
        hidden = len(sent.data) == 2
        new = self._placeholder(*sent.data) if hidden else unpack_tensor(sent.data, self.blobs)
        handle = table.theirs.get(key)
        value = table.alive(key, torch.Tensor)
        if handle is not None and value is not None and not hidden:
            watched = key in table.watch_theirs
            same = new.dtype is value.dtype and new.shape == value.shape
            kept = handle.known is not None and handle.known.data is not None
            if not (same and (kept or not watched) and raw_bytes(new) == raw_bytes(value)):
                if watched:
                    assign(value, new)
                else:  # another stand-in: what was computed before keeps the old values
                    handle.count -= 1
                    value = None
        if handle is None or value is None:
            value = new = nn.Parameter(new, requires_grad=False) if sent.parameter else new
            handle = table.tie(key, value)
        if value.is_leaf:
            value.requires_grad_(sent.needs)
            if hidden and new is value and sent.needs:
                # Its graph may be all that holds it, and end before its gradient is told.
                value.register_post_accumulate_grad_hook(table.collected.append)
            if not hidden:
                value.grad = None if sent.grad is None else unpack_tensor(sent.grad, self.blobs)
        if hidden and handle.known is not None:
            handle.known.become(needs=value.requires_grad)
        else:
            handle.known = Known(value, keep=not hidden and (sent.watch or asked))
        self._seen[key] = value
        if sent.watch:
            table.watch_theirs[key] = handle
        else:
            self.frame.tensors[False, key] = (value, handle.known)

    def _placeholder(self, name: Any, size: Any) -> torch.Tensor:
        """A leaf that is only to collect its gradient: zeros that take no memory."""
        dtype, shape = lookup(TORCH_DTYPES, name), shape_of(size)
        if math.prod(shape) * dtype.itemsize > self.decoder.caps.payload:
            raise Tampered("a tensor larger than allowed")
        return torch.zeros((), dtype=dtype).expand(shape)

    def _history(self, history: messages.History, asked: bool) -> None:
        table = self.table
        sources = [self.other(tree) for tree in history.inputs]
        outputs = [
            (Handle(table, expect(key, int, "a number")), unpack_tensor(packed, self.blobs))
            for key, packed in history.outputs
        ]
        stands = stands_of(table, history.key, sources, outputs)
        for (handle, _), stand in zip(outputs, stands, strict=True):
            key, old = handle.key, table.theirs.get(handle.key)
            alive = old.ref() if old is not None else None
            if old is not None and isinstance(alive, torch.Tensor):
                assign(alive, stand.detach())
                old.known = Known(alive, keep=False)
                self._seen[key] = alive
                continue
            table.tie(key, stand, handle)
            handle.bundle = history.key if stand.grad_fn is not None else None
            handle.known = Known(stand, keep=asked)
            self._seen[key] = stand
            self.frame.tensors[False, key] = (stand, handle.known)
