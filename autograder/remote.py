"""Calls between a submission's process and its tests' process: names, gradients, callbacks.

One socket pair, a `Peer` on each end. The tests' end trusts nothing that comes; the submission's
end does what it is asked.

    # in the submission's process, while a test cell runs on the other side:
    peer = Peer(sock, namespace)         # the dict that the student's cells run in
    peer.serve_one()                     # answers one call; when select() says sock is readable

    # in the tests' process:
    peer = Peer(sock)
    names = Namespace(peer)              # the globals of every shared and test cell
    names.forget(rebound)                # before each cell; rebound: names bound by student cells
    exec(compile(source, "<cell>", "exec"), names)      # may raise what the cell raises
    if peer.broken: ...                  # also where the cell did not raise: Tampered, LinkClosed,
                                         # or with what `fail` was called; the link is gone

A name that a cell uses and the tests have not bound is looked up in Python's builtins and then
asked of the submission. Plain values are copied (see `wire`); tensors too, and gradients flow
through them; all else gets a stand-in (see `standin`). A value that crosses back comes home as
itself.

How gradients cross. Each tensor that requires a gradient, and is no leaf, arrives as an output of
a `Stand` node, whose inputs are what it depends on: tensors of the receiver's own (arguments) and
leaves of the sender's (parameters). Its backward asks the sender for the vector-Jacobian product,
by an ordinary call, so that second derivatives, callbacks inside and backward passes begun by
either side need nothing more.

How changes cross. With every message goes what changed since the last one in whatever both sides
hold: values and gradients of parameters and of the arguments of calls under way, training modes,
states of random generators. Only one side runs at a time, so no two changes meet.

What is not as in one process: two values that share memory share none after crossing; a graph may
be gone through twice; hooks that a test puts on a part of a submission's module are not called,
nor does `torch.func.functional_call` reach it; source text and signatures do not cross; subclasses
of plain types are objects that equal no plain value, and subclasses of tensors are refused.
"""

from __future__ import annotations

import builtins
import collections
import copy
import functools
import json
import math
import os
import socket
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.distributions as distributions
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from autograder.randomness import RandomStates, accept_torch
from autograder.standin import (
    SPECIAL,
    Handle,
    RemoteFunction,
    RemoteMethod,
    RemoteModule,
    RemoteType,
    blank,
    handle_of,
    remote_class,
)
from autograder.wire import (
    Decoder,
    Encoder,
    Link,
    LinkClosed,
    Tampered,
    TimedOut,
    TooLarge,
    Unsupported,
    WireError,
    check_tensor,
    pack_tensor,
    raw_bytes,
    unpack_tensor,
)

__all__ = [
    "LinkClosed",
    "Namespace",
    "Peer",
    "RemoteError",
    "Tampered",
    "TimedOut",
    "WireError",
]

_DEEPEST = 40
_MESSAGE = 2_000


_Message: TypeAlias = "tuple[str, int, list[Any], Any, _Frame]"


class RemoteError(Exception):
    """An error of the other side whose type does not exist here."""


# --- names that mean the same on both sides -------------------------------------------------------

_MODULES: dict[str, types.ModuleType] = {
    "builtins": builtins,
    "collections": collections,
    "numpy": np,
    "torch": torch,
    "torch.nn": nn,
    "torch.optim": torch.optim,
    "torch.distributions": distributions,
}
_ERRORS: dict[str, type[Exception]] = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception)
    if not issubclass(value, UnicodeError | BaseExceptionGroup)
} | {
    "numpy.linalg.LinAlgError": np.linalg.LinAlgError,
    "torch.linalg.LinAlgError": LinAlgError,
    "UnicodeError": UnicodeError,
}
_DISTRIBUTIONS: dict[str, str] = {
    "Bernoulli": "?", "Beta": "concentration1 concentration0", "Binomial": "total_count ?",
    "Categorical": "?", "Cauchy": "loc scale", "Chi2": "df", "ContinuousBernoulli": "?",
    "Dirichlet": "concentration", "Exponential": "rate", "FisherSnedecor": "df1 df2",
    "Gamma": "concentration rate", "Geometric": "?", "Gumbel": "loc scale",
    "HalfCauchy": "scale", "HalfNormal": "scale",
    "Independent": "base_dist reinterpreted_batch_ndims", "InverseGamma": "concentration rate",
    "Kumaraswamy": "concentration1 concentration0", "Laplace": "loc scale",
    "LogNormal": "loc scale", "LowRankMultivariateNormal": "loc cov_factor cov_diag",
    "MixtureSameFamily": "mixture_distribution component_distribution",
    "Multinomial": "total_count ?", "MultivariateNormal": "loc scale_tril",
    "NegativeBinomial": "total_count ?", "Normal": "loc scale", "OneHotCategorical": "?",
    "OneHotCategoricalStraightThrough": "?", "Pareto": "scale alpha", "Poisson": "rate",
    "RelaxedBernoulli": "temperature ?", "RelaxedOneHotCategorical": "temperature ?",
    "StudentT": "df loc scale", "TransformedDistribution": "base_dist transforms",
    "Uniform": "low high", "VonMises": "loc concentration", "Weibull": "scale concentration",
    "AbsTransform": "", "AffineTransform": "loc scale event_dim", "ComposeTransform": "parts",
    "ExpTransform": "", "PowerTransform": "exponent", "SigmoidTransform": "",
    "SoftmaxTransform": "", "SoftplusTransform": "", "StickBreakingTransform": "",
    "TanhTransform": "",
}  # fmt: skip
_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    functools.partial,
    np.ufunc,
)


def _named(cls: type) -> list[Any] | None:
    for module, contents in _MODULES.items():
        name = type.__dict__["__name__"].__get__(cls)
        if vars(contents).get(name) is cls:
            return ["C", module, name]
    return None


def _parameters(d: Any) -> dict[str, Any]:
    """The arguments that make a distribution (or a transform) again."""
    wanted = _DISTRIBUTIONS[type(d).__name__].split()
    arguments = {name: getattr(d, name) for name in wanted if name != "?"}
    if "?" in wanted:  # probs or logits: the one that was given
        inner = next(
            (x for x in (d.__dict__.get("_categorical"), d.__dict__.get("base_dist")) if x), d
        )
        inner = inner.__dict__.get("_categorical", inner)
        given = inner.__dict__.get("_param")
        name = "probs" if "probs" in inner.__dict__ else "logits"
        if given is not None and inner.__dict__.get("logits") is given:
            name = "logits"
        arguments[name] = getattr(d, name)
    return arguments


def _distribution(name: str, parameters: dict[str, Any], *, checked: bool) -> Any:
    """A distribution (or a transform) of these parameters, which it does not check.

    One in whose parameters something was written in place may have others than it would take.

    Args:
        name: of its class.
        parameters: as `_parameters` gives them.
        checked: whether it is to check what it is asked for.
    """
    kind: Any = getattr(distributions, name, None) or getattr(distributions.transforms, name)
    if not issubclass(kind, distributions.Distribution):
        return kind(**parameters)
    arguments = {k.replace("base_dist", "base_distribution"): v for k, v in parameters.items()}
    made = kind(**arguments, validate_args=False)
    given = [id(value) for value in parameters.values()]
    parts = [made]
    for part in parts:  # those that it is made of but was not given
        part._validate_args = checked
        parts += [
            inner
            for inner in vars(part).values()
            if isinstance(inner, distributions.Distribution) and id(inner) not in given
        ]
    return made


# --- what both sides know of an object ------------------------------------------------------------


def _version(tensor: torch.Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # an inference tensor
        return -1


class _Known:
    """What both sides last agreed on, of a tensor, a module or an optimizer."""

    __slots__ = (
        "data",
        "dtype",
        "grad",
        "grad_seen",
        "groups",
        "needs",
        "parts",
        "shape",
        "training",
        "v",
    )

    def __init__(self, value: Any, keep: bool = True) -> None:
        self.data: bytes | None = None
        self.grad: bytes | None = None
        self.grad_seen: Any = None
        self.see(value, keep)

    def see(self, value: Any, keep: bool = True) -> None:
        if isinstance(value, nn.Module):
            self.training = value.training
            self.parts = _parts(value)
        elif isinstance(value, torch.optim.Optimizer):
            self.groups = _options(value)
        else:
            self.dtype, self.shape, self.v = value.dtype, value.shape, _version(value)
            self.data = raw_bytes(value) if keep else None
            self.needs = value.requires_grad
            self.see_grad(value)

    def has_seen(self, grad: torch.Tensor) -> bool:
        """Whether this gradient is surely the one that was seen last."""
        seen = self.grad_seen
        return seen is not None and seen[0] is grad and seen[1] == _version(grad)

    def see_grad(self, tensor: torch.Tensor) -> None:
        grad = tensor.grad if tensor.is_leaf else None
        self.grad = None if grad is None else raw_bytes(grad)
        self.grad_seen = None if grad is None else (grad, _version(grad))


def _parts(module: nn.Module) -> list[Any]:
    """The parameters, buffers and children of a module, by name and identity."""
    own = module.__dict__
    return [
        [(name, id(part)) for name, part in own[kind].items()]
        for kind in ("_parameters", "_buffers", "_modules")
    ]


def _options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {
            key: value
            for key, value in group.items()
            if key != "params"
            and type(value) in (int, float, bool, str, tuple, list, type(None), torch.Tensor)
        }
        for group in optimizer.param_groups
    ]


class _Entry:
    """An object of this side that the other side holds."""

    __slots__ = ("count", "edge", "key", "known", "obj")

    def __init__(self, key: int, obj: Any) -> None:
        self.key = key
        self.obj = obj
        self.count = 0
        self.edge: Any = None
        self.known: _Known | None = None


class _Bundle:
    """Tensors that went over together, and what they depend on."""

    def __init__(self, outputs: list[Any], inputs: list[Any], shapes: list[Any]) -> None:
        self.outputs = outputs
        self.inputs = inputs
        self.shapes = shapes


class _Frame:
    """One call under way."""

    def __init__(self) -> None:
        self.sent: set[int] = set()  # own objects that it took over there
        self.tensors: dict[tuple[bool, int], tuple[torch.Tensor, _Known]] = {}
        self.generators: list[list[Any]] = []  # [mine, key, generator, state]
        self.raised: list[BaseException] = []


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
        products = ctx.handle.peer.vjp(ctx.handle.key, grads, list(ctx.needs_input_grad[3:]))
        if type(products) is not list or len(products) != len(ctx.deps):
            raise ctx.handle.peer.fail(Tampered("gradients of the wrong number"))
        for product, (shape, dtype) in zip(products, ctx.deps, strict=True):
            if product is not None and (
                type(product) is not torch.Tensor
                or product.shape != shape
                or product.dtype != dtype
            ):
                raise ctx.handle.peer.fail(Tampered("a gradient of the wrong shape"))
        return (None, None, None, *products)


class Peer:
    """One end of the link between a submission and its tests.

    Args:
        sock: connected to the other end.
        namespace: of the submission; without one this is the tests' end, which lets the other
            side do no more than call, and read, what was handed to it.

    Attributes:
        broken: why the link is gone; None while it is not.
        guarded: whether this is the tests' end.
    """

    def __init__(self, sock: socket.socket, namespace: dict[str, Any] | None = None) -> None:
        self.link = Link(sock)
        self.broken: WireError | None = None
        self.released: list[list[int]] = []
        self.ends: list[Any] = []  # the nodes at which a product that the other side wants ends
        self.collected: list[torch.Tensor] = []  # leaves of the other side's that got a gradient
        self._namespace = namespace
        self.guarded = namespace is None
        self._lock = threading.RLock()
        self._random = RandomStates(checked=self.guarded)
        self._own: dict[int, _Entry] = {}
        self._own_by_id: dict[int, _Entry] = {}
        self._theirs: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
        self._classes: dict[int, RemoteType] = {}
        self.classes_sent = 0
        self._watch_own: dict[int, _Entry] = {}
        self._watch_theirs: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
        self._frames: list[_Frame] = []
        self._serving = 0
        self._last_key = 0
        self._serial = 0
        self._process = os.getpid()
        self._dtype: torch.dtype = torch.get_default_dtype()
        if not self.guarded:
            self._random.changes()  # both are forks of alike parents, or will be told

    # --- what users call ---

    def fetch(self, name: str) -> Any:
        """The value of a name of the submission.

        Raises:
            KeyError: there is none.
        """
        found = self._request("name", None, name)
        if type(found) is not tuple or len(found) > 1:
            raise self.fail(Tampered("an answer of the wrong form"))
        if not found:
            raise KeyError(name)
        return found[0]

    def serve_one(self) -> None:
        """Wait for one call of the other side, and answer it.

        Raises:
            WireError: the link is gone.
        """
        with self._lock:
            message = self._receive()
        if message[0] != "call":
            raise self.fail(Tampered("an answer without a question"))
        self._serve(message)  # without the lock: threads of a submission may ask meanwhile

    def close(self) -> None:
        """Close the link."""
        if self.broken is None:
            self.broken = LinkClosed("closed here")
        self.link.close()

    def fail(self, error: WireError) -> WireError:
        """Break the link for good; returns the error to raise."""
        if self.broken is None:
            self.broken = error
            self.link.close()
        return self.broken

    # --- what stand-ins call ---

    def call(self, key: int, name: str | None, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call an object of the other side, or a method of it."""
        answer = self._request("call", key, name, tuple(args), kwargs)
        if type(answer) is not tuple or len(answer) != 2 or type(answer[1]) is not list:
            raise self.fail(Tampered("an answer of the wrong form"))
        for change in answer[1]:
            self._write_back(args, kwargs, change)
        return answer[0]

    def get(self, key: int, name: str) -> Any:
        """An attribute of an object of the other side."""
        return self._request("get", key, name)

    def set(self, key: int, name: str, value: Any) -> None:
        """Set an attribute of an object of the other side."""
        self._request("set", key, name, value)

    def special(self, key: int, name: str, args: Any) -> Any:
        """Call a special method, as its operator does."""
        return self._request("special", key, name, *args)

    def copy(self, key: int) -> Any:
        """A deep copy, made on the other side."""
        return self._request("copy", key)

    def vjp(self, key: int, grads: Any, wanted: list[bool]) -> Any:
        """The gradients of what tensors of the other side depend on."""
        return self._request("vjp", key, None, list(grads), wanted)

    # --- asking ---

    def _request(self, op: str, key: int | None = None, name: str | None = None, *args: Any) -> Any:
        self._check_asked()
        with self._lock:
            self._check_asked()  # another thread may have answered while this one waited
            if self.broken is not None:
                raise self.broken
            if os.getpid() != self._process:
                raise RuntimeError("the link to the other side does not follow a fork")
            if len(self._frames) > 2 * _DEEPEST:
                raise RecursionError("calls between a submission and its tests nest too deep")
            self._serial += 1
            serial = self._serial
            frame = _Frame()
            self._frames.append(frame)
            try:
                self._send("call", serial, [op, key, name, torch.is_grad_enabled()], args)
                while True:
                    message = self._receive()
                    if message[0] == "call":
                        self._serve(message)
                        continue
                    if message[1] != serial:
                        raise self.fail(Tampered("an answer to a question that was not asked"))
                    if message[0] == "ok":
                        return message[3]
                    raise self._error(message[2], message[3], frame)
            finally:
                self._frames.remove(frame)

    def _check_asked(self) -> None:
        if not self.guarded and not self._serving:
            raise RuntimeError("what the tests handed over can be used only while they wait")

    def _error(self, head: list[Any], own: Any, frame: _Frame) -> BaseException:
        names, text, home = head
        if type(names) is not list or type(text) is not str or len(names) > 100:
            return self.fail(Tampered("an error of the wrong form"))
        if not all(type(name) is str for name in names):
            return self.fail(Tampered("an error of the wrong form"))
        if self.guarded and type(home) is int and 0 <= home < len(frame.raised):
            return frame.raised[home]
        text = _shown(text)
        error: BaseException
        if isinstance(own, RemoteType) and issubclass(own, Exception):
            error = own.__new__(own)
            error.args = (text,)
            return error
        name = next((name for name in names if name in _ERRORS), None)
        if name is None:
            return RemoteError(f"{names[0][:200] if names else 'an error'}: {text}")
        error = _ERRORS[name](text)
        if not self.guarded:
            vars(error)["_wire_home"] = home
        return error

    def _write_back(self, args: Any, kwargs: dict[str, Any], change: Any) -> None:
        if type(change) is not tuple or len(change) != 2:
            raise self.fail(Tampered("a change of the wrong form"))
        where, new = change
        if type(where) is int and 0 <= where < len(args):
            old = args[where]
        elif type(where) is str and where in kwargs:
            old = kwargs[where]
        else:
            raise self.fail(Tampered("a change of no argument"))
        if type(new) is not type(old):
            raise self.fail(Tampered("a change of an argument's type"))
        if type(old) in (list, bytearray):
            old[:] = new
        elif type(old) in (dict, set):
            old.clear()
            old.update(new)
        elif type(old) is np.ndarray and (old.shape, old.dtype) == (new.shape, new.dtype):
            np.copyto(old, new)

    # --- answering ---

    def _serve(self, message: _Message) -> None:
        _, serial, head, args, frame = message
        with self._lock:
            self._serving += 1
            self._frames.append(frame)
        try:
            if len(self._frames) > _DEEPEST:
                raise RecursionError("calls between a submission and its tests nest too deep")
            op, key, name, grads = head
            with torch.set_grad_enabled(grads):
                result = self._perform(op, key, name, args)
        except BaseException as error:  # a submission may exit or interrupt itself
            self._answer(serial, frame, None, error)
        else:
            self._answer(serial, frame, result)

    def _answer(
        self, serial: int, frame: _Frame, result: Any, error: BaseException | None = None
    ) -> None:
        with self._lock:  # a thread of a submission may be asking
            try:
                if error is None:
                    try:
                        self._send("ok", serial, [], result, frame)
                        return
                    except BaseException as unsent:
                        error = unsent
                if self.broken is not None:
                    raise self.broken from None
                if self.guarded and isinstance(error, KeyboardInterrupt):
                    raise error
                self._send_error(serial, error, frame)
            finally:
                self._serving -= 1
                self._frames.remove(frame)

    def _send_error(self, serial: int, error: BaseException, frame: _Frame) -> None:
        head, own = self._describe_error(error)
        try:
            self._send("err", serial, head, own, frame)
        except WireError:
            raise
        except Exception:  # its class, or a change besides, cannot be told; that must not end all
            self._send("err", serial, head, None, frame, changes=False)

    def _describe_error(self, error: BaseException) -> tuple[list[Any], Any]:
        """The names of its classes, its text, its number if it is the tests'; its own class."""
        home = vars(error).get("_wire_home")
        if self.guarded and len(self._frames) > 1:
            # The call that waits is the one that this error may come back through.
            raised = self._frames[-2].raised
            raised.append(error)
            home = len(raised) - 1
        cls = type(error)
        own = None
        known = cls in (Unsupported, TooLarge) or _error_name(cls) in _ERRORS
        if not self.guarded and issubclass(cls, Exception) and not known:
            own = cls
        try:
            text = str(error.args[0] if cls is KeyError and error.args else error)
        except BaseException:
            text = "(no message)"
        names = [_error_name(base) for base in cls.__mro__]
        return [names[:100], _shown(text), home if type(home) is int else None], own

    def _perform(self, op: str, key: int | None, name: str | None, args: tuple[Any, ...]) -> Any:
        if op == "name":
            if self._namespace is None:
                raise self.fail(Tampered("a request for the tests' names"))
            return (self._namespace[name],) if name in self._namespace else ()
        entry = self._own.get(key) if key is not None else None
        if entry is None:
            raise self.fail(Tampered("a call of what was not handed over"))
        obj = entry.obj
        if op == "vjp":
            return self._vjp(obj, *args)
        if isinstance(obj, _Bundle):
            raise self.fail(Tampered("a call of what cannot be called"))
        if self.guarded and not _allowed(op, obj, name):
            raise AttributeError(f"{name or op}: not for a submission to use")
        if op == "call":
            return self._call(obj, name, *args)
        if op == "get":
            return getattr(obj, str(name))
        if op == "special" and (name in SPECIAL):
            return getattr(type(obj), name)(obj, *args)
        if op == "copy":
            return copy.deepcopy(obj)
        if op == "set" and not self.guarded:
            setattr(obj, str(name), *args)
            return None
        raise self.fail(Tampered("a request that there is not"))

    def _call(self, obj: Any, name: str | None, args: Any, kwargs: Any) -> Any:
        if type(args) is not tuple or type(kwargs) is not dict:
            raise self.fail(Tampered("arguments of the wrong form"))
        if not all(type(key) is str for key in kwargs):
            raise self.fail(Tampered("arguments of the wrong form"))
        target = obj if name is None else getattr(obj, name)
        arguments = [*enumerate(args), *kwargs.items()]
        mutable = [
            (where, value, _fingerprint(value))
            for where, value in arguments
            if type(value) in (list, dict, set, bytearray, np.ndarray)
        ]
        result = target(*args, **kwargs)
        changed = [(where, value) for where, value, was in mutable if _fingerprint(value) != was]
        return result, changed

    def _vjp(self, bundle: Any, grads: Any = None, wanted: Any = None) -> Any:
        if type(bundle) is not _Bundle or type(grads) is not list or type(wanted) is not list:
            raise self.fail(Tampered("a gradient of nothing"))
        if len(grads) != len(bundle.outputs) or len(wanted) != len(bundle.inputs):
            raise self.fail(Tampered("gradients of the wrong number"))
        outputs, weights = [], []
        for edge, grad, (shape, dtype) in zip(bundle.outputs, grads, bundle.shapes, strict=True):
            if grad is None:
                continue
            if not isinstance(grad, torch.Tensor) or (grad.shape, grad.dtype) != (shape, dtype):
                raise self.fail(Tampered("a gradient of the wrong shape"))
            outputs.append(edge)
            weights.append(grad)
        inputs = [e for e, want in zip(bundle.inputs, wanted, strict=True) if want is True]
        found: list[Any] = []
        if outputs and inputs:
            # What lies behind a tensor of the other side, the other side adds by itself.
            ends = [edge.node for edge in bundle.inputs]
            self.ends += ends
            try:
                found = list(
                    torch.autograd.grad(
                        outputs,
                        inputs,
                        weights,
                        retain_graph=True,
                        create_graph=torch.is_grad_enabled(),
                        allow_unused=True,
                    )
                )
            finally:
                del self.ends[len(self.ends) - len(ends) :]
        products = iter(found or [None] * len(inputs))
        return [next(products) if want is True else None for want in wanted]

    # --- sending ---

    def _send(
        self,
        kind: str,
        serial: int,
        head: list[Any],
        payload: Any,
        last: _Frame | None = None,
        *,
        changes: bool = True,
    ) -> None:
        """Send a message, or raise as if there had been none.

        Args:
            kind: "call", "ok" or "err".
            serial: the number of the question.
            head: what is no value of the cells'.
            payload: what is.
            last: the frame that ends with the message.
            changes: whether to say what has changed; else the next message does.

        Raises:
            TooLarge, Unsupported: it cannot cross.
            WireError: the link is gone.
        """
        out = _Outgoing(self, last)
        try:
            tree = out.encoder.encode(payload)
            bundle = out.bundle()
            updates = self._updates(out, last) if changes else []
            state = self._states(out)
            released = list(self.released)
            message = [kind, serial, head, state, released, out.tensors, bundle, updates, tree]
            self.link.send(message, out.encoder.blobs)
        except WireError as error:
            raise self.fail(error) from None
        except BaseException:
            out.undo()
            raise
        del self.released[: len(released)]
        if changes:
            self.collected.clear()

    def _states(self, out: _Outgoing) -> list[Any]:
        """The default dtype and the random states, where the other side has others."""
        out.keep(self._random, "known")
        states = [out.encoder.encode(change) for change in self._random.changes()]
        dtype = torch.get_default_dtype()
        if not self.guarded or dtype is self._dtype:
            return [None, states]
        out.keep(self, "_dtype")
        self._dtype = dtype
        return [str(dtype).removeprefix("torch."), states]

    def _updates(self, out: _Outgoing, last: _Frame | None) -> list[Any]:
        updates: list[Any] = []
        done: set[tuple[bool, int]] = set(out.described)

        def look(mine: bool, key: int, value: Any, known: _Known, deep: bool) -> None:
            if (mine, key) not in done:
                done.add((mine, key))
                change = self._change(value, known, deep, out)
                if change is not None:
                    updates.append([change[0], mine, key, *change[1:]])

        for entry in list(self._watch_own.values()):
            if entry.known is not None:
                look(True, entry.key, entry.obj, entry.known, True)
        for handle in list(self._watch_theirs.values()):
            value = handle.ref()
            if value is not None:
                look(False, handle.key, value, handle.known, True)
        for frame in self._frames:
            for (mine, key), (tensor, known) in frame.tensors.items():
                look(mine, key, tensor, known, frame is last or tensor.numel() <= 2**14)
            for record in frame.generators:
                mine, key, generator, state = record
                now = generator.get_state().numpy().tobytes()
                if now != state:
                    out.if_unsent(record.__setitem__, 3, state)
                    record[3] = now
                    updates.append(["G", mine, key, out.encoder.encode(now)])
        for key, value, known in out.touched:
            look(False, key, value, known, True)
        return updates

    def _change(self, value: Any, known: _Known, deep: bool, out: _Outgoing) -> list[Any] | None:
        if isinstance(value, nn.Module):
            entry = self._own_by_id.get(id(value))
            if entry is not None and entry.known is known and known.parts != _parts(value):
                return ["d", out.other(value)]
            if value.training is known.training:
                return None
            out.keep(known, "training")
            known.training = value.training
            return ["m", bool(value.training)]
        if isinstance(value, torch.optim.Optimizer):
            options = _options(value)
            if options == known.groups:
                return None
            out.keep(known, "groups")
            known.groups = options
            return ["g", out.encoder.encode(options)]
        blobs = out.encoder.blobs
        data: Any = 0
        grad: Any = 0
        needs: Any = None
        version = _version(value)
        counted = version != known.v
        if value.dtype is not known.dtype or value.shape != known.shape:
            data = pack_tensor(value, blobs)
        elif known.data is None:
            if counted:
                data = pack_tensor(value, blobs)
        elif (deep or counted) and raw_bytes(value) != known.data:
            data = pack_tensor(value, blobs)
        if data != 0:
            out.keep(known, "v", "dtype", "shape", "data")
            known.dtype, known.shape = value.dtype, value.shape
            known.data = None if known.data is None else raw_bytes(value)
        known.v = version
        if value.is_leaf:
            now = value.grad
            if now is None:
                grad = None if known.grad is not None else 0
            elif not known.has_seen(now) and (known.grad is None or raw_bytes(now) != known.grad):
                grad = out.gradient(value)
            if grad != 0:
                out.keep(known, "grad", "grad_seen")
                known.see_grad(value)
            if value.requires_grad is not known.needs:
                out.keep(known, "needs")
                needs = known.needs = value.requires_grad
        if data == 0 and grad == 0 and needs is None:
            return None
        return ["u", data, counted, grad, needs]

    # --- receiving ---

    def _receive(self) -> _Message:
        try:
            tree, blobs = self.link.receive()
        except WireError as error:
            raise self.fail(error) from None
        try:
            return _Incoming(self, blobs).read(tree)
        except WireError as error:
            raise self.fail(error) from None
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            reason = f"a message of the wrong form: {type(error).__name__}: {error}"
            raise self.fail(Tampered(reason[:300])) from None

    # --- objects ---

    def entry(self, obj: Any, edge: Any = None) -> _Entry:
        """The entry of an object of one's own, made if there is none."""
        entry = self._own_by_id.get(id(obj))
        if entry is None or entry.obj is not obj or entry.edge is not edge:
            self._last_key += 1
            entry = _Entry(self._last_key, obj)
            entry.edge = edge
            self._own[entry.key] = self._own_by_id[id(obj)] = entry
            if len(self._own) > 10**6:
                raise TooLarge("a million objects handed over and none given back")
        return entry

    def release(self, key: int, count: int) -> None:
        """The other side has let go of an object."""
        entry = self._own.get(key)
        if entry is None:
            return
        entry.count -= count
        if entry.count <= 0:
            del self._own[key]
            self._watch_own.pop(key, None)
            if self._own_by_id.get(id(entry.obj)) is entry:
                del self._own_by_id[id(entry.obj)]


def _allowed(op: str, obj: Any, name: str | None) -> bool:
    """Whether a submission may do this to an object that the tests handed over."""
    cls = type(obj)
    written = cls.__module__ == "__main__" or cls.__module__.split(".")[0] not in _LIBRARIES
    if op == "special":
        return name in {
            "__len__", "__iter__", "__next__", "__getitem__", "__contains__", "__str__",
            "__repr__",
        }  # fmt: skip
    if op == "copy":
        return isinstance(obj, nn.Module)
    if name is not None and (name.startswith("_") or not name.isidentifier()):
        return False
    if op == "call" and name is None:
        return callable(obj)
    if op == "call":
        if isinstance(obj, torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler):
            return name in {"step", "zero_grad", "state_dict", "get_last_lr"}
        return _written(cls, name) or (written and callable(vars(obj).get(name)))
    if op == "get":
        data = cls.__module__.startswith(("torch.utils.data", "torch.optim", "torch.nn"))
        return (written or data or cls is types.SimpleNamespace) and (
            name in vars(obj) or _written(cls, name)
        )
    return False


def _written(cls: type, name: str | None) -> bool:
    """Whether a class has this name from code that is no library's."""
    home = next((base.__module__ for base in cls.__mro__ if name in vars(base)), "torch")
    return home == "__main__" or home.split(".")[0] not in _LIBRARIES


_LIBRARIES = {"torch", "numpy", "autograder"} | sys.stdlib_module_names


def _fingerprint(value: Any) -> Any:
    encoder = Encoder(other=lambda other: ["?", id(other), getattr(other, "_version", 0)])
    try:
        return json.dumps(encoder.encode(value)), encoder.blobs
    except (TooLarge, Unsupported):
        return None


class _Outgoing:
    """One message on its way: what it says of tensors and objects."""

    def __init__(self, peer: Peer, last: _Frame | None) -> None:
        self.peer = peer
        # What an answer hands over is lent until the call that waits for it ends.
        self.lend = peer._frames[-1] if last is None else (peer._frames[-2:] or [last])[0]
        self.asking = last is None
        self.encoder = Encoder(peer.link.caps, self.other)
        self.tensors: list[Any] = []
        self.described: set[tuple[bool, int]] = set()
        self.touched: list[tuple[int, Any, _Known]] = []
        self._pending: list[tuple[_Entry, torch.Tensor]] = []
        self._undo: list[Callable[[], Any]] = []
        self._depth = 0

    def if_unsent(self, restore: Callable[..., Any], *args: Any) -> None:
        """Note what is to be called should the message not be sent."""
        self._undo.append(functools.partial(restore, *args))

    def keep(self, owner: Any, *names: str) -> None:
        """Note attributes as they are, to be put back should the message not be sent."""
        for name in names:
            self.if_unsent(setattr, owner, name, getattr(owner, name))

    def undo(self) -> None:
        """Take back what was noted as told: the message was not sent."""
        while self._undo:
            self._undo.pop()()
        for _, key in self.described:
            self.peer.release(key, 0)

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
            return _named(value) or self._class(value)
        if issubclass(cls, types.ModuleType):
            return ["M", str(value.__name__), self._object(value)]
        if cls.__module__.startswith("torch.distributions.") and cls.__name__ in _DISTRIBUTIONS:
            return self._distribution(value)
        self._depth += 1
        try:
            if self._depth > 100:
                raise TooLarge("objects nested too deep")
            return self._object(value)
        finally:
            self._depth -= 1

    def _distribution(self, value: Any) -> list[Any]:
        name, parameters = type(value).__name__, _parameters(value)
        checked = bool(getattr(value, "_validate_args", False))
        try:
            _distribution(name, parameters, checked=checked)
        except Exception as error:  # as the other side would find
            raise Unsupported(f"a {name} that cannot be made again: {error}") from None
        arguments = [[key, self.encoder.encode(given)] for key, given in parameters.items()]
        return ["dist", name, checked, arguments]

    def _mark(self, entry: _Entry) -> bool:
        """Whether the message describes this for the first time."""
        first = (True, entry.key) not in self.described
        self.described.add((True, entry.key))
        if first:
            self.keep(entry, "count", "known")
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
            self.peer._watch_own[entry.key] = entry
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
            entry.known = _Known(value, keep=watch or entry.key in self.peer._watch_own)
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
        record = _Bundle(edges, inputs, [(value.shape, value.dtype) for value in values])
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
            self.peer._watch_own[entry.key] = entry
            if entry.known is None or entry.known.data is None:
                entry.known = _Known(tensor)
            shape = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
            parameter = type(tensor) is nn.Parameter
            self.tensors.append([entry.key, parameter, True, True, shape, None])
        return ["x", entry.key]

    # --- generators ---

    def _generator(self, generator: torch.Generator) -> list[Any]:
        if generator.device.type != "cpu":
            raise Unsupported("only random generators on the CPU cross")
        state = generator.get_state().numpy().tobytes()
        for frame in self.peer._frames:
            for record in frame.generators:
                if record[2] is generator:
                    if record[0]:
                        self.if_unsent(record.__setitem__, 3, record[3])
                        record[3] = state
                        return ["G", record[1], self.encoder.encode(state)]
                    return ["Gy", record[1]]
        self.peer._last_key += 1
        key = self.peer._last_key
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
        if self.peer.classes_sent > _CLASSES:
            raise TooLarge(f"more than {_CLASSES} classes cannot cross")
        entry.known = _CLASS_SENT
        bases: list[Any] = []
        shared = _named(cls) if issubclass(cls, nn.Module | torch.optim.Optimizer) else None
        if shared is not None:
            bases.append(shared)
        for base in cls.__bases__:
            if base is not object and shared is None:
                bases.append(_named(base) or self._class(base))
        methods, special = set(), set()
        here = nn.Module | torch.optim.Optimizer | BaseException
        for base in cls.__mro__:
            if base is object or (_named(base) is not None and issubclass(base, here)):
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
        if cls in _FUNCTIONS:
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

    def _module(self, entry: _Entry, kind: list[Any], module: nn.Module) -> list[Any]:
        def tensors(named: dict[str, Any], kind: type) -> list[Any]:
            for name, value in named.items():
                if not 0 < len(name) <= 200 or "." in name or not isinstance(value, kind | None):
                    raise Unsupported(f"a module whose {name!a:.100} is no {kind.__name__}")
            return [
                [name, None if value is None else self.tensor(value, watch=True)]
                for name, value in named.items()
            ]

        entry.known = _Known(module)
        self.peer._watch_own[entry.key] = entry
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
        self, entry: _Entry, kind: list[Any], optimizer: torch.optim.Optimizer
    ) -> list[Any]:
        entry.known = _Known(optimizer)
        self.peer._watch_own[entry.key] = entry
        groups = [
            [self.encoder.encode(options), [self.tensor(p, watch=True) for p in group["params"]]]
            for options, group in zip(entry.known.groups, optimizer.param_groups, strict=True)
        ]
        return ["opt", entry.key, kind, groups]


_CLASS_SENT: Any = object()
_CLASSES = 10_000


def _error_name(cls: type) -> str:
    if cls is np.linalg.LinAlgError or cls is LinAlgError:
        return f"{'numpy' if cls is np.linalg.LinAlgError else 'torch'}.linalg.LinAlgError"
    return str(cls.__name__)


def _shown(text: str) -> str:
    return text[:_MESSAGE].encode("utf-8", "replace").decode()


def _doc(value: Any) -> str:
    doc = getattr(value, "__doc__", None)
    return doc[:_MESSAGE] if type(doc) is str else ""


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


class _Incoming:
    """One message that came: what it says, checked."""

    def __init__(self, peer: Peer, blobs: list[memoryview]) -> None:
        self.peer = peer
        self.blobs = blobs
        self.decoder = Decoder(blobs, peer.link.caps, self.other)
        self.frame = _Frame()
        self.asked = False
        self.seen: dict[int, Any] = {}
        self._depth = 0

    def read(self, tree: Any) -> _Message:
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
        for key, count in released:
            if type(key) is not int or type(count) is not int or count < 1:
                raise Tampered("a release of nothing")
            self.peer.release(key, count)
        dtype, states = state
        self.peer._random.apply([self.decoder.decode(s) for s in states])
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
        handle = self.peer._theirs.get(key)
        value = handle.ref() if handle is not None else None
        if handle is not None and isinstance(value, torch.Tensor) and not hidden:
            watched = key in self.peer._watch_theirs
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
        handle.known = _Known(value, keep=not hidden and (watch or self.asked))
        self.seen[key] = value
        if watch:
            self.peer._watch_theirs[key] = handle
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
        self.peer._theirs[key] = handle
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
            old = self.peer._theirs.get(handle.key)
            alive = old.ref() if old is not None else None
            if isinstance(alive, torch.Tensor):
                _assign(alive, stand.detach())
                old.known = _Known(alive, keep=False)  # type: ignore[union-attr]
                self.seen[handle.key] = alive
                continue
            handle.ref = weakref.ref(stand)
            handle.bundle = key if stand.grad_fn is not None else None
            handle.known = _Known(stand, keep=self.asked)
            stand.__dict__["_wire"] = handle
            self.peer._theirs[handle.key] = handle
            self.seen[handle.key] = stand
            self.frame.tensors[False, handle.key] = (stand, handle.known)

    def _update(self, kind: Any, mine: Any, key: Any, *rest: Any) -> None:
        """What changed; `mine` is the sender's."""
        if type(mine) is not bool or type(key) is not int:
            raise Tampered("a change of the wrong form")
        frames = [*self.peer._frames, self.frame]
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
        known: _Known | None
        if mine:
            handle = self.peer._theirs.get(key)
            if handle is None:
                return
            value, known = handle.ref(), handle.known
        else:
            entry = self.peer._own.get(key)
            if entry is None:
                return
            if self.peer.guarded and not any(key in frame.sent for frame in frames):
                return  # a test's own value changes only while it is lent
            value, known = entry.obj, entry.known
        if known is None or known is _CLASS_SENT:
            return
        if kind == "m" and isinstance(value, nn.Module):
            (training,) = rest
            if type(training) is not bool:
                raise Tampered("a mode that is none")
            value.training = training
            known.training = training
        elif kind == "g" and isinstance(value, torch.optim.Optimizer):
            (options,) = (self.decoder.decode(tree) for tree in rest)
            if type(options) is list and len(options) == len(value.param_groups):
                for group, changed in zip(value.param_groups, options, strict=True):
                    if type(changed) is not dict:
                        raise Tampered("options that are none")
                    group |= {k: v for k, v in changed.items() if k in group and k != "params"}
            known.groups = _options(value)
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
            raise Tampered("a number that is none")
        if key in self.seen:
            return self.seen[key]
        if key in self.peer._classes:
            return self.peer._classes[key]
        raise Tampered("a reference to what was not described")

    def _home(self, key: Any) -> Any:
        entry = self.peer._own.get(key) if type(key) is int else None
        if entry is None or isinstance(entry.obj, _Bundle):
            raise Tampered("a reference to what was not handed over")
        return entry.obj

    def _method(self, key: Any, name: Any) -> Any:
        owner = self._home(key)
        if type(name) is not str:
            raise Tampered("a name that is none")
        if self.peer.guarded and not _allowed("call", owner, name):
            raise Tampered("a method that is not for a submission")
        return getattr(owner, name)

    def _alive(self, key: Any, kind: type) -> Any:
        if type(key) is not int:
            raise Tampered("a number that is none")
        handle = self.peer._theirs.get(key)
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
            value.__doc__ = doc[:_MESSAGE]
        return value

    def _class(self, key: Any, name: Any, bases: Any, methods: Any, special: Any) -> Any:
        if type(key) is not int or type(name) is not str or not name.isidentifier():
            raise Tampered("a class of the wrong form")
        if key in self.peer._classes or len(self.peer._classes) >= _CLASSES:
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
        self.peer._classes[key] = cls
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
            handle.known = _Known(module)
            self.peer._watch_theirs[key] = handle
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
            handle.known = _Known(optimizer)
            self.peer._watch_theirs[key] = handle
        return optimizer

    def _named(self, module: Any, name: Any) -> type:
        if type(module) is not str or module not in _MODULES or type(name) is not str:
            raise Tampered("a class that is not on the list")
        found = vars(_MODULES[module]).get(name)
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
        for frame in [*self.peer._frames, self.frame]:
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
        for frame in self.peer._frames:
            for record in frame.generators:
                if record[0] and record[1] == key:
                    return record[2]  # type: ignore[no-any-return]
        raise Tampered("a random generator that was not handed over")

    def _distribution(self, name: Any, checked: Any, arguments: Any) -> Any:
        if type(name) is not str or name not in _DISTRIBUTIONS:
            raise Tampered("a distribution that is not on the list")
        allowed = set(_DISTRIBUTIONS[name].split())
        allowed |= {"probs", "logits"} if "?" in allowed else set()
        parameters = {key: self.decoder.decode(tree) for key, tree in arguments}
        if not allowed >= set(parameters) or type(checked) is not bool:
            raise Tampered("a distribution of the wrong form")
        return _distribution(name, parameters, checked=checked)


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


class _Builtins(dict[str, Any]):
    """Python's builtins, and behind them the submission's names.

    Python asks here last, wherever code stands: in functions, in the bodies of classes too, where
    it does not ask a namespace's own `__missing__`.
    """

    def __init__(self, fetch: Callable[[str], Any]) -> None:
        super().__init__(vars(builtins))
        self._fetch = fetch

    def __missing__(self, name: str) -> Any:
        return self._fetch(name)


class Namespace(dict[str, Any]):
    """The globals of the tests' cells, with the submission's names behind them.

    A name is looked up among the tests' own, then in Python's builtins, then at the submission
    (the value is kept until `forget`). A name that a test binds is the test's own from then on.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__(__name__="__main__", __builtins__=_Builtins(self._fetch))
        self._peer = peer
        self._fetched: set[str] = set()

    def _fetch(self, name: str) -> Any:
        if name.startswith("__"):
            raise KeyError(name)
        value = self._peer.fetch(name)
        super().__setitem__(name, value)
        self._fetched.add(name)
        return value

    def __missing__(self, name: str) -> Any:
        if type(name) is not str or dict.__contains__(self["__builtins__"], name):
            raise KeyError(name)
        return self._fetch(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._fetched.discard(name)
        super().__setitem__(name, value)

    def forget(self, rebound: Iterable[str] = ()) -> None:
        """Ask again for names of the submission, as they are now.

        Args:
            rebound: names that the submission's cells have bound since. Where the tests have
                plain data under such a name, the submission's takes its place; functions, classes
                and modules of the tests stay, so that no submission replaces what judges it.
        """
        for name in self._fetched:
            self.pop(name, None)
        self._fetched.clear()
        for name in rebound:
            if name in self and not name.startswith("__") and not _judges(self[name]):
                del self[name]


def _judges(value: Any) -> bool:
    return callable(value) or isinstance(value, types.ModuleType)
