"""A message on its way to the other side of a link: what it says of tensors and objects.

Nothing is noted in the table until the message was sent: one that cannot be is as none.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

from autograder.link import messages
from autograder.link.errors import TooLarge, Unsupported
from autograder.link.frames import Caps
from autograder.link.gradients import bundle_of, node_of
from autograder.link.messages import LONGEST
from autograder.link.names import DISTRIBUTIONS, FUNCTIONS, distribution_of, name_of, parameters_of
from autograder.link.optional import nn, torch
from autograder.link.standin import SPECIAL, RemoteMethod
from autograder.link.table import (
    CLASSES,
    Entry,
    Frame,
    Known,
    Lent,
    Table,
)
from autograder.link.tensors import check_tensor, pack_tensor, torch_name
from autograder.link.values import Encoder

__all__ = ["Outgoing"]


class Notes:
    """What is to be noted in the table of a message, once it was sent."""

    def __init__(self, table: Table, lend: Frame) -> None:
        self.table = table
        self.lend = lend
        self.told: set[int] = set()  # numbers of what it describes as it is now
        self.classes = 0
        self.generators: list[Lent] = []
        self._described: dict[int, Entry] = {}
        self._new: dict[int, Entry] = {}
        self._later: list[Callable[[], Any]] = []

    def entry(self, obj: Any, edge: Any = None) -> tuple[Entry, bool]:
        """The entry of an object, and whether the message describes it for the first time."""
        entry = self.table.entry_of(obj, edge) or self._new.get(id(obj))
        if entry is None:
            entry = self._new[id(obj)] = self.table.new_entry(obj, edge)
        first = entry.key not in self._described
        self._described[entry.key] = entry
        return entry, first

    def know(self, entry: Entry, known: Known) -> None:
        """Both sides agree on what an object is now."""
        self.told.add(entry.key)
        self.later(setattr, entry, "known", known)

    def watch(self, entry: Entry) -> None:
        """Both sides keep an object alike."""
        self.later(self.table.watch_own.__setitem__, entry.key, entry)

    def later(self, note: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Anything else."""
        self._later.append(partial(note, *args, **kwargs))

    def commit(self) -> None:
        """The message was sent."""
        for entry in self._described.values():
            self.table.keep(entry)
            self.lend.sent.add(entry.key)
        self.table.classes_sent += self.classes
        self.lend.generators += self.generators
        for note in self._later:
            note()


class Outgoing:
    """What a message says of tensors and objects; `last` is the frame that ends with it, if any."""

    def __init__(self, table: Table, caps: Caps, last: Frame | None) -> None:
        self.table = table
        # What an answer hands over is lent until the call that waits for it ends.
        self.lend = table.frames[-1] if last is None else (table.frames[-2:] or [last])[0]
        self.asking = last is None
        self.notes = Notes(table, self.lend)
        self.encoder = Encoder(caps, self.other)
        self.tensors: list[Any] = []
        self.touched: list[tuple[int, Any, Known]] = []
        self._pending: dict[int, torch.Tensor] = {}
        self._depth = 0

    def other(self, value: Any) -> list[Any]:
        """The tree of what is not plain."""
        cls = type(value)
        if cls is torch.Tensor or cls is nn.Parameter:
            return self.tensor(value)
        handle = self.table.handle_of(value)
        if handle is not None:
            return ["y", handle.key]
        if cls is RemoteMethod:
            owner = self.table.handle_of(value.__self__)
            if owner is not None:
                return ["om", owner.key, value.__name__]
        if cls is torch.Generator:
            return self._generator(value)
        if issubclass(cls, torch.Tensor):
            raise Unsupported(f"a {cls.__name__}, a subclass of torch.Tensor, does not cross")
        if issubclass(cls, type):
            return name_of(value) or self._class(value)
        if issubclass(cls, types.ModuleType):
            return ["M", str(value.__name__), self._object(value)]
        if cls.__module__.startswith("torch.distributions.") and cls.__name__ in DISTRIBUTIONS:
            return self._distribution(value)
        self._depth += 1
        try:
            if self._depth > 100:
                raise TooLarge("objects nested too deep")
            return self._object(value)
        finally:
            self._depth -= 1

    # --- tensors ---

    def tensor(self, value: torch.Tensor, watch: bool = False) -> list[Any]:
        """A reference; the description goes to `tensors` or to the history."""
        handle, table = self.table.handle_of(value), self.table
        if handle is not None and node_of(value, table) == handle.bundle:
            if handle.known is not None:
                self.touched.append((handle.key, value, handle.known))
                if self.asking:
                    lent = (value, handle.known)
                    self.notes.later(self.lend.tensors.setdefault, (False, handle.key), lent)
            return ["y", handle.key]
        entry, first = self.notes.entry(value, value.grad_fn)
        # A leaf of the submission's that wants gradients is a parameter, whatever it is kept in.
        watch = watch or (not table.guarded and value.is_leaf and value.requires_grad)
        if watch:
            self.notes.watch(entry)
        if first:
            if value.grad_fn is not None and value.requires_grad:
                self._pending[entry.key] = value
            else:
                data, grad = pack_tensor(value, self.encoder.blobs), self.gradient(value)
                self._tensor(entry.key, value, watch, data, grad)
            known = Known(value, keep=watch or entry.key in table.watch_own)
            self.notes.know(entry, known)
            if self.asking:
                self.notes.later(self.lend.tensors.__setitem__, (True, entry.key), (value, known))
        return ["x", entry.key]

    def _tensor(self, key: int, value: torch.Tensor, watch: bool, data: Any, grad: Any) -> None:
        parameter, needs = type(value) is nn.Parameter, value.requires_grad
        sent = messages.SentTensor(key, parameter, needs, watch, data, grad)
        self.tensors.append(sent.tree())

    def gradient(self, value: torch.Tensor) -> list[Any] | None:
        """The gradient of a leaf, packed."""
        grad = value.grad
        if grad is None:
            return None
        if (grad.shape, grad.dtype) != (value.shape, value.dtype):  # of a tensor changed by .data
            raise Unsupported("a gradient that is not of its tensor's shape and type cannot cross")
        return pack_tensor(grad.detach(), self.encoder.blobs)

    def history(self) -> list[Any] | None:
        """The tensors with a history, and the tensors that they depend on."""
        if not self._pending:
            return None
        pending = list(self._pending.items())
        values = [value for _, value in pending]
        bundle, inputs = bundle_of(values, self.table, lambda key: ["y", key], self._leaf)
        own, _ = self.notes.entry(bundle)
        outputs = [[key, pack_tensor(value, self.encoder.blobs)] for key, value in pending]
        return messages.History(own.key, inputs, outputs).tree()

    def _leaf(self, tensor: torch.Tensor) -> list[Any]:
        """A leaf that others depend on: it need not be seen, so its values stay here."""
        handle = self.table.handle_of(tensor)
        if handle is not None:
            return ["y", handle.key]
        check_tensor(tensor)
        if tensor.nbytes > self.encoder.caps.payload:
            raise TooLarge(f"a parameter of {tensor.nbytes} bytes is more than may cross")
        entry, first = self.notes.entry(tensor)
        if first:
            self.notes.watch(entry)
            if entry.known is None or entry.known.data is None:
                self.notes.know(entry, Known(tensor))
            self._tensor(entry.key, tensor, True, [torch_name(tensor.dtype), [*tensor.shape]], None)
        return ["x", entry.key]

    def _generator(self, generator: torch.Generator) -> list[Any]:
        if generator.device.type != "cpu":
            raise Unsupported("only random generators on the CPU cross")
        state = generator.get_state().numpy().tobytes()
        known = [lent for frame in self.table.frames for lent in frame.generators]
        lent = next((x for x in [*known, *self.notes.generators] if x.generator is generator), None)
        if lent is None:
            lent = Lent(True, self.table.next_key(), generator, state)
            self.notes.generators.append(lent)
        if not lent.mine:
            return ["Gy", lent.key]
        self.notes.later(setattr, lent, "state", state)
        return ["G", lent.key, self.encoder.encode(state)]

    # --- objects ---

    def _distribution(self, value: Any) -> list[Any]:
        name, parameters = type(value).__name__, parameters_of(value)
        checked = bool(getattr(value, "_validate_args", False))
        try:
            distribution_of(name, parameters, checked=checked)
        except Exception as error:  # as the other side would find
            raise Unsupported(f"a {name} that cannot be made again: {error}") from None
        arguments = [[key, self.encoder.encode(given)] for key, given in parameters.items()]
        return ["dist", name, checked, arguments]

    def _class(self, cls: type) -> list[Any]:
        handle = self.table.handle_of(cls)
        if handle is not None:
            return ["y", handle.key]
        entry, first = self.notes.entry(cls)
        if not first or entry.known is not None:  # classes are kept over there
            return ["o", entry.key]
        name = str(cls.__name__)[:200]
        if not name.isidentifier():
            raise Unsupported(f"a class named {name!a} cannot cross: that is not a name in Python")
        if len(cls.__bases__) > 50 or len(cls.__mro__) > 100:
            raise Unsupported(f"{name} has too many bases to cross")
        self.notes.classes += 1
        if self.table.classes_sent + self.notes.classes > CLASSES:
            raise TooLarge(f"more than {CLASSES} classes cannot cross")
        self.notes.know(entry, Known(cls))
        shared = name_of(cls) if issubclass(cls, nn.Module | torch.optim.Optimizer) else None
        bases = [shared] if shared is not None else []
        if shared is None:
            bases = [name_of(b) or self._class(b) for b in cls.__bases__ if b is not object]
        return ["cls", entry.key, name, bases, *_methods_of(cls)]

    def _object(self, value: Any) -> list[Any]:
        cls = type(value)
        entry, first = self.notes.entry(value)
        if not first:
            return ["o", entry.key]
        if cls in FUNCTIONS:
            name, doc = (getattr(value, f"__{what}__", None) for what in ("name", "doc"))
            name, doc = (text[:LONGEST] if type(text) is str else None for text in (name, doc))
            return ["fn", entry.key, name or "", doc]
        kind = self._class(cls)
        if kind[0] == "y":
            raise Unsupported(f"a {cls.__name__} that was not made by calling its class")
        if issubclass(cls, nn.Module):
            return self._module(entry, kind, value)
        if issubclass(cls, torch.optim.Optimizer):
            return self._optimizer(entry, kind, value)
        return ["obj", entry.key, kind]

    def _module(self, entry: Entry, kind: list[Any], module: nn.Module) -> list[Any]:
        def parts(named: dict[str, Any], sort: type, tree: Callable[[Any], Any]) -> list[Any]:
            for name, value in named.items():
                if not 0 < len(name) <= 200 or "." in name or not isinstance(value, sort | None):
                    raise Unsupported(f"a module whose {name!a:.100} is not a {sort.__name__}")
            named = dict(named)
            return [[name, None if v is None else tree(v)] for name, v in named.items()]

        self.notes.know(entry, Known(module))
        self.notes.watch(entry)
        watched = partial(self.tensor, watch=True)
        return [
            "mod",
            entry.key,
            kind,
            bool(module.training),
            parts(module._parameters, nn.Parameter, watched),
            parts(module._buffers, torch.Tensor, watched),
            parts(module._modules, nn.Module, self.other),
        ]

    def _optimizer(
        self, entry: Entry, kind: list[Any], optimizer: torch.optim.Optimizer
    ) -> list[Any]:
        known = Known(optimizer)
        self.notes.know(entry, known)
        self.notes.watch(entry)
        groups = [
            [self.encoder.encode(options), [self.tensor(p, watch=True) for p in group["params"]]]
            for options, group in zip(known.groups, optimizer.param_groups, strict=True)
        ]
        return ["opt", entry.key, kind, groups]


def _methods_of(cls: type) -> tuple[list[str], list[str]]:
    """The names of a class's methods, and of those special ones that its stand-in forwards."""
    methods, special = set(), set()
    here = nn.Module | torch.optim.Optimizer | BaseException
    for base in cls.__mro__:
        if base is object or (name_of(base) is not None and issubclass(base, here)):
            continue
        for key, value in vars(base).items():
            if type(key) is not str or value is None:
                continue
            if key in SPECIAL or key == "__call__":
                special.add(key)
            elif type(value) is types.FunctionType and key.isidentifier():
                methods.add(key)
    return sorted(methods)[:1000], sorted(special)
