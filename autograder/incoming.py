"""A message that came from the other side of a link: what it says, checked, and made so here."""

from __future__ import annotations

import math
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from autograder.known import CLASS_SENT, CLASSES, MESSAGE, Bundle, Frame, Known, Message, options_of
from autograder.names import DISTRIBUTIONS, MODULES, distribution_of, is_allowed
from autograder.randomness import accept_torch
from autograder.standin import (
    Handle,
    RemoteFunction,
    RemoteModule,
    RemoteType,
    blank,
    handle_of,
    remote_class,
    said_of,
)
from autograder.wire import Decoder, Tampered, raw_bytes, unpack_tensor

if TYPE_CHECKING:
    from autograder.remote import Peer

__all__ = ["Incoming", "Stand"]


class Stand(torch.autograd.Function):
    """Where tensors of the other side enter the graph of this one."""

    @staticmethod
    def forward(
        ctx: Any, handle: Handle, keys: list[Any], values: list[torch.Tensor], *inputs: Any
    ) -> Any:
        """The values, as they came."""
        ctx.handle, ctx.keys = handle, keys
        ctx.deps = [(x.shape, x.dtype) for x in inputs]
        ctx.set_materialize_grads(False)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The vector-Jacobian product, computed on the other side."""
        if ctx in ctx.handle.peer.ends or all(grad is None for grad in grads):
            return (None,) * (3 + len(ctx.deps))
        wanted = list(ctx.needs_input_grad[3:])
        return (None, None, None, *ctx.handle.peer.vjp(ctx.handle.key, grads, wanted, ctx.deps))


class Incoming:
    """One message that came: what it says, checked."""

    def __init__(self, peer: Peer, blobs: list[memoryview]) -> None:
        self.peer = peer
        self.blobs = blobs
        self.decoder = Decoder(blobs, peer.link.caps, self.other)
        self.frame = Frame()
        self.asked = False
        self.seen: dict[int, Any] = {}
        self._depth = 0

    def read(self, tree: Any) -> Message:
        """Kind, number, head and payload."""
        kind, serial, head, state, released, tensors, bundle, updates, payload = tree
        if kind not in ("call", "ok", "err") or type(serial) is not int or type(head) is not list:
            raise Tampered("a message of no known kind")
        self.asked = kind == "call"
        if self.asked:
            op, key, name, grads = head
            if type(op) is not str or type(grads) is not bool:
                raise Tampered("a call of the wrong form")
            if type(key) not in (int, type(None)) or type(name) not in (str, type(None)):
                raise Tampered("a call of the wrong form")
        elif kind == "err" and len(head) != 3:
            raise Tampered("an error of the wrong form")
        elif kind == "ok" and [type(part) for part in head] != [bool]:
            raise Tampered("an answer of the wrong form")
        for key, count in released:
            if type(key) is not int or type(count) is not int or count < 1:
                raise Tampered("a release of nothing")
            self.peer.release(key, count)
        dtype, states = state
        self.peer.random.apply([self.decoder.decode(s) for s in states])
        if dtype is not None and not self.peer.guarded:
            torch.set_default_dtype(self.decoder.decode(["dtype", dtype]))
        for description in tensors:
            self._tensor(*description)
        if bundle is not None:
            self._bundle(*bundle)
        for update in updates:
            self._update(*update)
        return kind, serial, head, self.decoder.decode(payload), self.frame

    # --- tensors ---

    def _tensor(
        self, key: Any, parameter: Any, needs: Any, watch: Any, packed: Any, grad: Any
    ) -> None:
        if type(key) is not int or not all(type(b) is bool for b in (parameter, needs, watch)):
            raise Tampered("a tensor of the wrong form")
        hidden = type(packed) is list and len(packed) == 2
        new = self._placeholder(packed) if hidden else unpack_tensor(packed, self.blobs)
        handle = self.peer.theirs.get(key)
        value = handle.ref() if handle is not None else None
        if handle is not None and isinstance(value, torch.Tensor) and not hidden:
            watched = key in self.peer.watch_theirs
            same = new.dtype is value.dtype and new.shape == value.shape
            if same and watched and handle.known.data is None:
                _assign(value, new)
            elif not (same and raw_bytes(new) == raw_bytes(value)):
                if watched:
                    _assign(value, new)
                else:  # another stand-in: what was computed before keeps the old values
                    value = None
        if handle is None or value is None:
            value = new = nn.Parameter(new, requires_grad=False) if parameter else new
            handle = self._tie(key, value)
        else:
            handle.count += 1
        if value.is_leaf:
            value.requires_grad_(needs)
            if hidden and new is value and needs:
                # Its graph may be all that holds it, and end before its gradient is told.
                value.register_post_accumulate_grad_hook(self.peer.collected.append)
            if not hidden:
                value.grad = None if grad is None else unpack_tensor(grad, self.blobs)
        handle.known = Known(value, keep=not hidden and (watch or self.asked))
        self.seen[key] = value
        if watch:
            self.peer.watch_theirs[key] = handle
        else:
            self.frame.tensors[False, key] = (value, handle.known)

    def _placeholder(self, described: list[Any]) -> torch.Tensor:
        """A leaf that is only to collect its gradient: zeros that take no memory."""
        dtype = self.decoder.decode(["dtype", described[0]])
        shape = self.decoder.decode(["size", *described[1]])
        if math.prod(shape) * dtype.itemsize > self.peer.link.caps.payload:
            raise Tampered("a tensor larger than allowed")
        return torch.zeros((), dtype=dtype).expand(shape)

    def _tie(self, key: int, value: Any) -> Handle:
        handle = Handle(self.peer, key)
        handle.ref = weakref.ref(value)
        if isinstance(value, RemoteType):
            type.__setattr__(value, "_wire", handle)
        else:
            object.__getattribute__(value, "__dict__")["_wire"] = handle
        self.peer.theirs[key] = handle
        self.seen[key] = value
        return handle

    def _bundle(self, key: Any, inputs: Any, outputs: Any) -> None:
        if type(key) is not int:
            raise Tampered("a history of the wrong form")
        sources = []
        for tree in inputs:
            source = self.other(tree)
            if not isinstance(source, torch.Tensor):
                raise Tampered("a history without tensors")
            sources.append(source)
        values, handles = [], []
        for number, packed in outputs:
            if type(number) is not int:
                raise Tampered("a history of the wrong form")
            value = unpack_tensor(packed, self.blobs)
            if not value.dtype.is_floating_point and not value.dtype.is_complex:
                raise Tampered("a history of whole numbers")
            values.append(value)
            handles.append(Handle(self.peer, number))
        node = Handle(self.peer, key)
        if any(source.requires_grad for source in sources):
            with torch.enable_grad():
                stands = Stand.apply(node, handles, values, *sources)  # type: ignore[no-untyped-call]
        else:
            stands = values
        for handle, stand in zip(handles, stands, strict=True):
            old = self.peer.theirs.get(handle.key)
            alive = old.ref() if old is not None else None
            if isinstance(alive, torch.Tensor):
                _assign(alive, stand.detach())
                old.known = Known(alive, keep=False)  # type: ignore[union-attr]
                self.seen[handle.key] = alive
                continue
            handle.ref = weakref.ref(stand)
            handle.bundle = key if stand.grad_fn is not None else None
            handle.known = Known(stand, keep=self.asked)
            stand.__dict__["_wire"] = handle
            self.peer.theirs[handle.key] = handle
            self.seen[handle.key] = stand
            self.frame.tensors[False, handle.key] = (stand, handle.known)

    def _update(self, kind: Any, mine: Any, key: Any, *rest: Any) -> None:
        """What changed; `mine` is the sender's."""
        if type(mine) is not bool or type(key) is not int:
            raise Tampered("a change of the wrong form")
        frames = [*self.peer.frames, self.frame]
        if kind == "G":
            (state,) = (self.decoder.decode(tree) for tree in rest)
            if type(state) is not bytes:
                raise Tampered("a random state of the wrong form")
            for frame in frames:
                for record in frame.generators:
                    if record[0] is not mine and record[1] == key:
                        accept_torch(record[2], state, checked=self.peer.guarded)
                        record[3] = record[2].get_state().numpy().tobytes()
            return
        if kind == "d" and mine:
            (tree,) = rest
            self.other(tree)
            return
        known: Known | None
        if mine:
            handle = self.peer.theirs.get(key)
            if handle is None:
                return
            value, known = handle.ref(), handle.known
        else:
            entry = self.peer.own.get(key)
            if entry is None:
                return
            if self.peer.guarded and not any(key in frame.sent for frame in frames):
                return  # a test's own value changes only while it is lent
            value, known = entry.obj, entry.known
        if known is None or known is CLASS_SENT:
            return
        if kind == "m" and isinstance(value, nn.Module):
            (training,) = rest
            if type(training) is not bool:
                raise Tampered("not a valid mode")
            value.training = training
            known.training = training
        elif kind == "g" and isinstance(value, torch.optim.Optimizer):
            (options,) = (self.decoder.decode(tree) for tree in rest)
            if type(options) is list and len(options) == len(value.param_groups):
                for group, changed in zip(value.param_groups, options, strict=True):
                    if type(changed) is not dict:
                        raise Tampered("options that are none")
                    group |= {k: v for k, v in changed.items() if k in group and k != "params"}
            known.groups = options_of(value)
        elif kind == "u" and isinstance(value, torch.Tensor):
            data, counted, grad, needs = rest
            if data != 0:
                _assign(value, unpack_tensor(data, self.blobs), counted=counted is True)
            if value.is_leaf:
                if type(needs) is bool:
                    value.requires_grad_(needs)
                if grad is None:
                    value.grad = None
                elif grad != 0:
                    value.grad = unpack_tensor(grad, self.blobs)
            known.see(value, keep=known.data is not None)

    # --- objects ---

    def other(self, tree: list[Any]) -> Any:
        """The value of a tree that is not plain."""
        tag = tree[0]
        read = getattr(self, _READERS.get(tag, ""), None)
        if read is None:
            raise Tampered("a type that is not on the list")
        self._depth += 1
        if self._depth > 200:
            raise Tampered("objects nested too deep")
        try:
            return read(*tree[1:])
        finally:
            self._depth -= 1

    def _sent(self, key: Any) -> Any:
        if type(key) is not int:
            raise Tampered("not a valid number")
        if key in self.seen:
            return self.seen[key]
        if key in self.peer.classes:
            return self.peer.classes[key]
        raise Tampered("a reference to what was not described")

    def _home(self, key: Any) -> Any:
        entry = self.peer.own.get(key) if type(key) is int else None
        if entry is None or isinstance(entry.obj, Bundle):
            raise Tampered("a reference to what was not handed over")
        return entry.obj

    def _method(self, key: Any, name: Any) -> Any:
        owner = self._home(key)
        if type(name) is not str:
            raise Tampered("not a valid name")
        if self.peer.guarded and not is_allowed("call", owner, name):
            raise Tampered("a method that is not for a submission")
        return getattr(owner, name)

    def _alive(self, key: Any, kind: type) -> Any:
        if type(key) is not int:
            raise Tampered("not a valid number")
        handle = self.peer.theirs.get(key)
        value = handle.ref() if handle is not None else None
        if handle is None or value is None:
            return None
        if not issubclass(type(value), kind):
            raise Tampered("a number given twice")
        handle.count += 1
        self.seen[key] = value
        return value

    def _function(self, key: Any, name: Any, doc: Any) -> Any:
        value = self._alive(key, RemoteFunction)
        if value is None:
            value = RemoteFunction()
            self._tie(key, value)
        if type(name) is str and type(doc) is str:
            value.__name__ = value.__qualname__ = name[:200]
            value.__doc__ = doc[:MESSAGE]
        return value

    def _class(self, key: Any, name: Any, bases: Any, methods: Any, special: Any) -> Any:
        if type(key) is not int or type(name) is not str or not name.isidentifier():
            raise Tampered("a class of the wrong form")
        if key in self.peer.classes or len(self.peer.classes) >= CLASSES:
            raise Tampered("a class described twice, or too many")
        if not all(type(x) is list for x in (bases, methods, special)):
            raise Tampered("a class of the wrong form")
        if len(name) > 200 or len(bases) > 50:
            raise Tampered("a class of the wrong form")
        parents = [self.other(base) for base in bases]
        if not all(isinstance(parent, type) for parent in parents):
            raise Tampered("a class of the wrong form")
        names = frozenset(m for m in methods if type(m) is str and len(m) <= 200)
        cls = remote_class(name, parents, names, [s for s in special if type(s) is str])
        self.peer.classes[key] = cls
        self._tie(key, cls)
        return cls

    def _remote_type(self, kind: Any, base: type = object) -> RemoteType:
        cls: Any = self.other(kind)
        fits = type(cls) is RemoteType and issubclass(cls, base)
        if not fits:
            raise Tampered("an object of no class")
        return cls  # type: ignore[no-any-return]

    def _object(self, key: Any, kind: Any) -> Any:
        cls = self._remote_type(kind)
        value = self._alive(key, cls)
        if value is None:
            value = blank(cls)
            self._tie(key, value)
        self.peer.doubtful = f"{said_of(cls)} is only stood for outside"
        return value

    def _module(
        self, key: Any, kind: Any, training: Any, parameters: Any, buffers: Any, children: Any
    ) -> Any:
        cls = self._remote_type(kind, RemoteModule)
        module = self._alive(key, cls)
        if type(training) is not bool:
            raise Tampered("a module of the wrong form")
        if module is None:
            module = blank(cls)
            self._tie(key, module)
        handle = handle_of(module)
        for own, described, sort in (
            (module._parameters, parameters, nn.Parameter),
            (module._buffers, buffers, torch.Tensor),
            (module._modules, children, nn.Module),
        ):
            own.clear()
            for name, tree in described:
                if type(name) is not str or not 0 < len(name) <= 200 or "." in name:
                    raise Tampered("a module of the wrong form")
                value = None if tree is None else self.other(tree)
                if value is not None and not isinstance(value, sort):
                    raise Tampered("a module of the wrong form")
                own[name] = value
        module.training = training
        if handle is not None:
            handle.known = Known(module)
            self.peer.watch_theirs[key] = handle
        return module

    def _optimizer(self, key: Any, kind: Any, groups: Any) -> Any:
        cls = self._remote_type(kind, torch.optim.Optimizer)
        optimizer = self._alive(key, cls)
        if optimizer is None:
            optimizer = blank(cls)
            self._tie(key, optimizer)
        read = []
        for options, parameters in groups:
            values = [self.other(tree) for tree in parameters]
            group = self.decoder.decode(options)
            if type(group) is not dict or not all(isinstance(v, torch.Tensor) for v in values):
                raise Tampered("an optimizer of the wrong form")
            read.append({"params": values, **group})
        optimizer.param_groups[:] = read
        handle = handle_of(optimizer)
        if handle is not None:
            handle.known = Known(optimizer)
            self.peer.watch_theirs[key] = handle
        return optimizer

    def _named(self, module: Any, name: Any) -> type:
        if type(module) is not str or module not in MODULES or type(name) is not str:
            raise Tampered("a class that is not on the list")
        found = vars(MODULES[module]).get(name)
        if not isinstance(found, type):
            raise Tampered("a class that is not on the list")
        return found

    def _python_module(self, name: Any, tree: Any) -> Any:
        if type(name) is not str:
            raise Tampered("a module of the wrong form")
        found = sys.modules.get(name)
        hidden = name.split(".")[0] in ("__main__", "autograder")
        stand = self.other(tree)
        return stand if hidden or not isinstance(found, types.ModuleType) else found

    def _generator(self, key: Any, state: Any) -> torch.Generator:
        state = self.decoder.decode(state)
        if type(key) is not int or type(state) is not bytes or len(state) > 10_000:
            raise Tampered("a random generator of the wrong form")
        for frame in [*self.peer.frames, self.frame]:
            for record in frame.generators:
                if not record[0] and record[1] == key:
                    accept_torch(record[2], state, checked=self.peer.guarded)
                    return record[2]  # type: ignore[no-any-return]
        generator = torch.Generator()
        accept_torch(generator, state, checked=self.peer.guarded)
        now = generator.get_state().numpy().tobytes()
        self.frame.generators.append([False, key, generator, now])
        return generator

    def _generator_home(self, key: Any) -> torch.Generator:
        for frame in self.peer.frames:
            for record in frame.generators:
                if record[0] and record[1] == key:
                    return record[2]  # type: ignore[no-any-return]
        raise Tampered("a random generator that was not handed over")

    def _distribution(self, name: Any, checked: Any, arguments: Any) -> Any:
        if type(name) is not str or name not in DISTRIBUTIONS:
            raise Tampered("a distribution that is not on the list")
        allowed = set(DISTRIBUTIONS[name].split())
        allowed |= {"probs", "logits"} if "?" in allowed else set()
        parameters = {key: self.decoder.decode(tree) for key, tree in arguments}
        if not allowed >= set(parameters) or type(checked) is not bool:
            raise Tampered("a distribution of the wrong form")
        return distribution_of(name, parameters, checked=checked)


_READERS = {
    "x": "_sent",
    "o": "_sent",
    "y": "_home",
    "om": "_method",
    "fn": "_function",
    "cls": "_class",
    "obj": "_object",
    "mod": "_module",
    "opt": "_optimizer",
    "C": "_named",
    "M": "_python_module",
    "G": "_generator",
    "Gy": "_generator_home",
    "dist": "_distribution",
}


def _assign(tensor: torch.Tensor, new: torch.Tensor, *, counted: bool = True) -> None:
    """Give a tensor other values, in place where they fit.

    Args:
        tensor: to change.
        new: its values, dtype and shape from now on.
        counted: whether autograd is to know of it, as it does of all but changes through `.data`.
    """
    if tensor.dtype is new.dtype and tensor.shape == new.shape:
        try:
            (tensor.detach() if counted else tensor.data).copy_(new)
            return
        except RuntimeError:  # memory that several elements share, an inference tensor
            pass
    tensor.data = new
