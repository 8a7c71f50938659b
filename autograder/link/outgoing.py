"""A message on its way to the other side of a link: what it says of tensors and objects."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from autograder.link.names import DISTRIBUTIONS, FUNCTIONS, distribution_of, name_of, parameters_of
from autograder.link.standin import SPECIAL, Handle, RemoteMethod, handle_of
from autograder.link.table import (
    CLASS_SENT,
    CLASSES,
    MESSAGE,
    Bundle,
    Entry,
    Frame,
    Known,
    options_of,
    parts_of,
    version_of,
)
from autograder.link.values import (
    Encoder,
    TooLarge,
    Unsupported,
    check_tensor,
    pack_tensor,
    raw_bytes,
)

if TYPE_CHECKING:
    from autograder.link.peer import Peer

__all__ = ["Outgoing"]


class Outgoing:
    """One message on its way: what it says of tensors and objects."""

    def __init__(self, peer: Peer, last: Frame | None) -> None:
        self.peer = peer
        # What an answer hands over is lent until the call that waits for it ends.
        self.lend = peer.frames[-1] if last is None else (peer.frames[-2:] or [last])[0]
        self.asking = last is None
        self.encoder = Encoder(peer.link.caps, self.other)
        self.tensors: list[Any] = []
        self.described: set[tuple[bool, int]] = set()
        self.touched: list[tuple[int, Any, Known]] = []
        self._pending: list[tuple[Entry, torch.Tensor]] = []
        self._undo: list[tuple[Callable[..., Any], *tuple[Any, ...]]] = []
        self._depth = 0

    def if_unsent(self, restore: Callable[..., Any], *args: Any) -> None:
        """Note what is to be called should the message not be sent."""
        self._undo.append((restore, *args))

    def keep(self, owner: Any, *names: str) -> None:
        """Note attributes as they are, to be put back should the message not be sent."""
        for name in names:
            self.if_unsent(setattr, owner, name, getattr(owner, name))

    def undo(self) -> None:
        """Take back what was noted as told: the message was not sent."""
        while self._undo:
            restore, *args = self._undo.pop()
            restore(*args)
        for _, key in self.described:
            self.peer.release(key, 1)

    def other(self, value: Any) -> list[Any]:
        """The tree of what is not plain."""
        cls = type(value)
        if cls is torch.Tensor or cls is nn.Parameter:
            return self.tensor(value)
        handle = handle_of(value)
        if handle is not None and handle.peer is self.peer:
            return ["y", handle.key]
        if cls is RemoteMethod:
            owner = handle_of(value.__self__)
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

    def _distribution(self, value: Any) -> list[Any]:
        name, parameters = type(value).__name__, parameters_of(value)
        checked = bool(getattr(value, "_validate_args", False))
        try:
            distribution_of(name, parameters, checked=checked)
        except Exception as error:  # as the other side would find
            raise Unsupported(f"a {name} that cannot be made again: {error}") from None
        arguments = [[key, self.encoder.encode(given)] for key, given in parameters.items()]
        return ["dist", name, checked, arguments]

    def _mark(self, entry: Entry) -> bool:
        """Whether the message describes this for the first time."""
        first = (True, entry.key) not in self.described
        self.described.add((True, entry.key))
        if first:
            self.keep(entry, "known")
            entry.count += 1
            self.lend.sent.add(entry.key)
        return first

    # --- tensors ---

    def tensor(self, value: torch.Tensor, watch: bool = False) -> list[Any]:
        """A reference; the description goes to `tensors` or to the bundle."""
        handle = value.__dict__.get("_wire")
        if (
            type(handle) is Handle
            and handle.peer is self.peer
            and handle.ref() is value
            and _stand_of(value, self.peer) == handle.bundle
        ):
            if handle.known is not None:
                self.touched.append((handle.key, value, handle.known))
            if self.asking and handle.known is not None:
                self.lend.tensors.setdefault((False, handle.key), (value, handle.known))
            return ["y", handle.key]
        edge = value.grad_fn
        entry = self.peer.entry(value, edge)
        # A leaf of the submission's that wants gradients is a parameter, whatever it is kept in.
        watch = watch or (not self.peer.guarded and value.is_leaf and value.requires_grad)
        if watch:
            self.peer.watch_own[entry.key] = entry
        if self._mark(entry):
            if edge is not None and value.requires_grad:
                self._pending.append((entry, value))
            else:
                packed = pack_tensor(value, self.encoder.blobs)
                grad = self.gradient(value)
                parameter = type(value) is nn.Parameter
                self.tensors.append(
                    [entry.key, parameter, value.requires_grad, watch, packed, grad]
                )
            entry.known = Known(value, keep=watch or entry.key in self.peer.watch_own)
            if self.asking:
                self.lend.tensors[True, entry.key] = (value, entry.known)
        return ["x", entry.key]

    def gradient(self, value: torch.Tensor) -> list[Any] | None:
        """The gradient of a leaf, packed."""
        grad = value.grad
        if grad is None:
            return None
        if (grad.shape, grad.dtype) != (value.shape, value.dtype):  # of a tensor changed by .data
            raise Unsupported("a gradient that is not of its tensor's shape and type cannot cross")
        return pack_tensor(grad.detach(), self.encoder.blobs)

    def bundle(self) -> list[Any] | None:
        """The tensors with a history, and the tensors that they depend on."""
        if not self._pending:
            return None
        entries = [entry for entry, _ in self._pending]
        values = [value for _, value in self._pending]
        edges = [GradientEdge(value.grad_fn, value.output_nr) for value in values]  # type: ignore[arg-type]
        inputs, trees = [], []
        for edge, tensor, key in _dependencies(edges, self.peer):
            inputs.append(edge)
            trees.append(["y", key] if tensor is None else self._leaf(tensor))
        record = Bundle(edges, inputs, [(value.shape, value.dtype) for value in values])
        own = self.peer.entry(record)
        self._mark(own)
        outputs = [
            [entry.key, pack_tensor(value, self.encoder.blobs)]
            for entry, value in zip(entries, values, strict=True)
        ]
        return [own.key, trees, outputs]

    def _leaf(self, tensor: torch.Tensor) -> list[Any]:
        """A leaf that others depend on: it need not be seen, so its values stay here."""
        handle = tensor.__dict__.get("_wire")
        if type(handle) is Handle and handle.peer is self.peer and handle.ref() is tensor:
            return ["y", handle.key]
        check_tensor(tensor)
        if tensor.nbytes > self.encoder.caps.payload:
            raise TooLarge(f"a parameter of {tensor.nbytes} bytes is more than may cross")
        entry = self.peer.entry(tensor, None)
        if self._mark(entry):
            self.peer.watch_own[entry.key] = entry
            if entry.known is None or entry.known.data is None:
                entry.known = Known(tensor)
            shape = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
            parameter = type(tensor) is nn.Parameter
            self.tensors.append([entry.key, parameter, True, True, shape, None])
        return ["x", entry.key]

    # --- generators ---

    def _generator(self, generator: torch.Generator) -> list[Any]:
        if generator.device.type != "cpu":
            raise Unsupported("only random generators on the CPU cross")
        state = generator.get_state().numpy().tobytes()
        for frame in self.peer.frames:
            for record in frame.generators:
                if record[2] is generator:
                    if record[0]:
                        self.if_unsent(record.__setitem__, 3, record[3])
                        record[3] = state
                        return ["G", record[1], self.encoder.encode(state)]
                    return ["Gy", record[1]]
        self.peer.last_key += 1
        key = self.peer.last_key
        self.lend.generators.append([True, key, generator, state])
        return ["G", key, self.encoder.encode(state)]

    # --- objects ---

    def _class(self, cls: type) -> list[Any]:
        handle = handle_of(cls)
        if handle is not None and handle.peer is self.peer:
            return ["y", handle.key]
        entry = self.peer.entry(cls)
        if not self._mark(entry):
            return ["o", entry.key]
        if entry.known is not None:  # classes are kept over there
            return ["o", entry.key]
        name = str(cls.__name__)[:200]
        if not name.isidentifier():
            raise Unsupported(f"a class named {name!a} cannot cross: that is no name of Python's")
        if len(cls.__bases__) > 50 or len(cls.__mro__) > 100:
            raise Unsupported(f"{name} has too many bases to cross")
        self.keep(self.peer, "classes_sent")
        self.peer.classes_sent += 1
        if self.peer.classes_sent > CLASSES:
            raise TooLarge(f"more than {CLASSES} classes cannot cross")
        entry.known = CLASS_SENT
        bases: list[Any] = []
        shared = name_of(cls) if issubclass(cls, nn.Module | torch.optim.Optimizer) else None
        if shared is not None:
            bases.append(shared)
        for base in cls.__bases__:
            if base is not object and shared is None:
                bases.append(name_of(base) or self._class(base))
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
        return ["cls", entry.key, name, bases, sorted(methods)[:1000], sorted(special)]

    def _object(self, value: Any) -> list[Any]:
        cls = type(value)
        entry = self.peer.entry(value)
        if not self._mark(entry):
            return ["o", entry.key]
        if cls in FUNCTIONS:
            name = getattr(value, "__name__", "")
            return ["fn", entry.key, name if type(name) is str else "", _doc(value)]
        kind = self._class(cls)
        if kind[0] == "y":
            raise Unsupported(f"a {cls.__name__} that was not made by calling its class")
        if issubclass(cls, nn.Module):
            return self._module(entry, kind, value)
        if issubclass(cls, torch.optim.Optimizer):
            return self._optimizer(entry, kind, value)
        return ["obj", entry.key, kind]

    def _module(self, entry: Entry, kind: list[Any], module: nn.Module) -> list[Any]:
        def tensors(named: dict[str, Any], kind: type) -> list[Any]:
            for name, value in named.items():
                if not 0 < len(name) <= 200 or "." in name or not isinstance(value, kind | None):
                    raise Unsupported(f"a module whose {name!a:.100} is no {kind.__name__}")
            return [
                [name, None if value is None else self.tensor(value, watch=True)]
                for name, value in named.items()
            ]

        entry.known = Known(module)
        self.peer.watch_own[entry.key] = entry
        return [
            "mod",
            entry.key,
            kind,
            bool(module.training),
            tensors(dict(module._parameters), nn.Parameter),
            tensors(dict(module._buffers), torch.Tensor),
            [
                [name, None if child is None else self.other(child)]
                for name, child in module._modules.items()
            ],
        ]

    def _optimizer(
        self, entry: Entry, kind: list[Any], optimizer: torch.optim.Optimizer
    ) -> list[Any]:
        entry.known = Known(optimizer)
        self.peer.watch_own[entry.key] = entry
        groups = [
            [self.encoder.encode(options), [self.tensor(p, watch=True) for p in group["params"]]]
            for options, group in zip(entry.known.groups, optimizer.param_groups, strict=True)
        ]
        return ["opt", entry.key, kind, groups]

    # --- changes ---

    def updates(self, last: Frame | None) -> list[Any]:
        """What has changed since the last message; `last` is the frame that ends with this."""
        updates: list[Any] = []
        done: set[tuple[bool, int]] = set(self.described)

        def look(mine: bool, key: int, value: Any, known: Known, deep: bool) -> None:
            if (mine, key) not in done:
                done.add((mine, key))
                change = self._change(value, known, deep)
                if change is not None:
                    updates.append([change[0], mine, key, *change[1:]])

        for entry in list(self.peer.watch_own.values()):
            if entry.known is not None:
                look(True, entry.key, entry.obj, entry.known, True)
        for handle in list(self.peer.watch_theirs.values()):
            value = handle.ref()
            if value is not None:
                look(False, handle.key, value, handle.known, True)
        for frame in self.peer.frames:
            for (mine, key), (tensor, known) in frame.tensors.items():
                look(mine, key, tensor, known, frame is last or tensor.numel() <= 2**14)
            for record in frame.generators:
                mine, key, generator, state = record
                now = generator.get_state().numpy().tobytes()
                if now != state:
                    self.if_unsent(record.__setitem__, 3, state)
                    record[3] = now
                    updates.append(["G", mine, key, self.encoder.encode(now)])
        for key, value, known in self.touched:
            look(False, key, value, known, True)
        return updates

    def _change(self, value: Any, known: Known, deep: bool) -> list[Any] | None:
        if isinstance(value, nn.Module):
            entry = self.peer.own_by_id.get(id(value))
            if entry is not None and entry.known is known and known.parts != parts_of(value):
                return ["d", self.other(value)]
            if value.training is known.training:
                return None
            self.keep(known, "training")
            known.training = value.training
            return ["m", bool(value.training)]
        if isinstance(value, torch.optim.Optimizer):
            options = options_of(value)
            if options == known.groups:
                return None
            self.keep(known, "groups")
            known.groups = options
            return ["g", self.encoder.encode(options)]
        blobs = self.encoder.blobs
        data: Any = 0
        grad: Any = 0
        needs: Any = None
        version = version_of(value)
        counted = version != known.v
        if value.dtype is not known.dtype or value.shape != known.shape:
            data = pack_tensor(value, blobs)
        elif known.data is None:
            if counted:
                data = pack_tensor(value, blobs)
        elif (deep or counted) and raw_bytes(value) != known.data:
            data = pack_tensor(value, blobs)
        if data != 0:
            self.keep(known, "v", "dtype", "shape", "data")
            known.dtype, known.shape = value.dtype, value.shape
            known.data = None if known.data is None else raw_bytes(value)
        known.v = version
        if value.is_leaf:
            now = value.grad
            if now is None:
                grad = None if known.grad is not None else 0
            elif not known.has_seen(now) and (known.grad is None or raw_bytes(now) != known.grad):
                grad = self.gradient(value)
            if grad != 0:
                self.keep(known, "grad", "grad_seen")
                known.see_grad(value)
            if value.requires_grad is not known.needs:
                self.keep(known, "needs")
                needs = known.needs = value.requires_grad
        if data == 0 and grad == 0 and needs is None:
            return None
        return ["u", data, counted, grad, needs]


def _doc(value: Any) -> str:
    doc = getattr(value, "__doc__", None)
    return doc[:MESSAGE] if type(doc) is str else ""


def _stand_of(tensor: torch.Tensor, peer: Peer) -> int | None:
    """The number of the bundle whose `Stand` node made this; 0 of another node, None of none."""
    node = tensor.grad_fn
    if node is None:
        return None
    handle = getattr(node, "handle", None)
    if type(handle) is Handle and handle.peer is peer:
        return handle.key
    return 0


def _dependencies(
    edges: list[GradientEdge], peer: Peer
) -> Iterable[tuple[GradientEdge, torch.Tensor | None, int]]:
    """The tensors of the other side and the leaves that a graph begins with."""
    seen: set[Any] = set()
    stack = [(edge.node, edge.output_nr) for edge in reversed(edges)]
    while stack:
        node, number = stack.pop()
        handle = getattr(node, "handle", None)
        if type(handle) is Handle and handle.peer is peer:
            if (node, number) not in seen:
                seen.add((node, number))
                yield GradientEdge(node, number), None, node.keys[number].key  # type: ignore[attr-defined]
            continue
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None) if node.name().endswith("AccumulateGrad") else None
        if leaf is not None:
            yield get_gradient_edge(leaf), leaf, 0
            continue
        stack.extend((n, i) for n, i in reversed(node.next_functions) if n is not None)
