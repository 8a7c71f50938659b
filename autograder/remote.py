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
itself. What a message says is put together in `outgoing`, and checked and taken in `incoming`.

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
import copy
import json
import os
import socket
import threading
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from autograder.incoming import Incoming
from autograder.known import Bundle, Entry, Frame, Message, shown
from autograder.names import ERRORS, error_name, is_allowed
from autograder.outgoing import Outgoing
from autograder.randomness import RandomStates
from autograder.standin import SPECIAL, Handle, RemoteType, said_of
from autograder.wire import (
    Encoder,
    Link,
    LinkClosed,
    Tampered,
    TimedOut,
    TooLarge,
    Unsupported,
    WireError,
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


class RemoteError(Exception):
    """An error of the other side whose type does not exist here."""


class Peer:
    """One end of the link between a submission and its tests.

    Args:
        sock: connected to the other end.
        namespace: of the submission; without one this is the tests' end, which lets the other
            side do no more than call, and read, what was handed to it.

    Attributes:
        broken: why the link is gone; None while it is not.
        guarded: whether this is the tests' end.
        unjudged: why what a test finds out here may be wrong, whether it passes or fails.
        doubtful: why it may be wrong where it fails.
    """

    def __init__(self, sock: socket.socket, namespace: dict[str, Any] | None = None) -> None:
        self.link = Link(sock)
        self.broken: WireError | None = None
        self.unjudged: str | None = None
        self.doubtful: str | None = None
        self.released: list[list[int]] = []
        self.ends: list[Any] = []  # the nodes at which a product that the other side wants ends
        self.collected: list[torch.Tensor] = []  # leaves of the other side's that got a gradient
        self._namespace = namespace
        self.guarded = namespace is None
        self._lock = threading.RLock()
        self.random = RandomStates(checked=self.guarded)
        self.own: dict[int, Entry] = {}
        self.own_by_id: dict[int, Entry] = {}
        self.theirs: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
        self.classes: dict[int, RemoteType] = {}
        self.classes_sent = 0
        self.watch_own: dict[int, Entry] = {}
        self.watch_theirs: weakref.WeakValueDictionary[int, Handle] = weakref.WeakValueDictionary()
        self.frames: list[Frame] = []
        self._serving = 0
        self.last_key = 0
        self._serial = 0
        self._process = os.getpid()
        self._dtype: torch.dtype = torch.get_default_dtype()
        if not self.guarded:
            self.random.changes()  # both are forks of alike parents, or will be told

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

    def vjp(self, key: int, grads: Any, wanted: list[bool], forms: list[Any]) -> list[Any]:
        """The gradients of what tensors of the other side depend on, of these shapes and dtypes."""
        products = self._request("vjp", key, None, list(grads), wanted)
        if type(products) is not list or len(products) != len(forms):
            raise self.fail(Tampered("gradients of the wrong number"))
        for product, (shape, dtype) in zip(products, forms, strict=True):
            if product is not None and (
                type(product) is not torch.Tensor
                or product.shape != shape
                or product.dtype != dtype
            ):
                raise self.fail(Tampered("a gradient of the wrong shape"))
        return products

    # --- asking ---

    def _request(self, op: str, key: int | None = None, name: str | None = None, *args: Any) -> Any:
        self._check_asked()
        with self._lock:
            self._check_asked()  # another thread may have answered while this one waited
            if self.broken is not None:
                raise self.broken
            if os.getpid() != self._process:
                raise RuntimeError("the link to the other side does not follow a fork")
            if len(self.frames) > 2 * _DEEPEST:
                raise RecursionError("calls between a submission and its tests nest too deep")
            self._serial += 1
            serial = self._serial
            frame = Frame()
            self.frames.append(frame)
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
                        torch.set_grad_enabled(message[2][0])
                        return message[3]
                    raise self._error(message[2], message[3], frame)
            finally:
                self.frames.remove(frame)

    def _check_asked(self) -> None:
        if not self.guarded and not self._serving:
            raise RuntimeError("what the tests handed over can be used only while they wait")

    def _error(self, head: list[Any], own: Any, frame: Frame) -> BaseException:
        names, text, home = head
        if type(names) is not list or type(text) is not str or len(names) > 100:
            return self.fail(Tampered("an error of the wrong form"))
        if not all(type(name) is str for name in names):
            return self.fail(Tampered("an error of the wrong form"))
        if self.guarded and type(home) is int and 0 <= home < len(frame.raised):
            return frame.raised[home]
        text = shown(text)
        error: BaseException
        if isinstance(own, RemoteType) and issubclass(own, Exception):
            self.doubtful = f"{said_of(own)} is only stood for outside"
            error = own.__new__(own)
            error.args = (text,)
            return error
        name = next((name for name in names if name in ERRORS), None)
        if name is None:
            self.doubtful = "the submission raises an error that is not known outside"
            return RemoteError(f"{names[0][:200] if names else 'an error'}: {text}")
        error = ERRORS[name](text)
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

    def _serve(self, message: Message) -> None:
        _, serial, head, args, frame = message
        with self._lock:
            self._serving += 1
            self.frames.append(frame)
        try:
            if len(self.frames) > _DEEPEST:
                raise RecursionError("calls between a submission and its tests nest too deep")
            op, key, name, grads = head
            with torch.set_grad_enabled(grads):
                result = self._perform(op, key, name, args)
                left = torch.is_grad_enabled()  # a function may have switched it, for good
        except BaseException as error:  # a submission may exit or interrupt itself
            self._answer(serial, frame, error=error)
        else:
            self._answer(serial, frame, result, left)

    def _answer(
        self,
        serial: int,
        frame: Frame,
        result: Any = None,
        grads: bool = True,
        error: BaseException | None = None,
    ) -> None:
        with self._lock:  # a thread of a submission may be asking
            try:
                if error is None:
                    try:
                        self._send("ok", serial, [grads], result, frame)
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
                self.frames.remove(frame)

    def _send_error(self, serial: int, error: BaseException, frame: Frame) -> None:
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
        if self.guarded and len(self.frames) > 1:
            # The call that waits is the one that this error may come back through.
            raised = self.frames[-2].raised
            raised.append(error)
            home = len(raised) - 1
        cls = type(error)
        own = None
        known = cls in (Unsupported, TooLarge) or error_name(cls) in ERRORS
        if not self.guarded and issubclass(cls, Exception) and not known:
            own = cls
        try:
            text = str(error.args[0] if cls is KeyError and error.args else error)
        except BaseException:
            text = "(no message)"
        names = [error_name(base) for base in cls.__mro__]
        return [names[:100], shown(text), home if type(home) is int else None], own

    def _perform(self, op: str, key: int | None, name: str | None, args: tuple[Any, ...]) -> Any:
        if op == "name":
            if self._namespace is None:
                raise self.fail(Tampered("a request for the tests' names"))
            return (self._namespace[name],) if name in self._namespace else ()
        entry = self.own.get(key) if key is not None else None
        if entry is None:
            raise self.fail(Tampered("a call of what was not handed over"))
        obj = entry.obj
        if op == "vjp":
            return self._vjp(obj, *args)
        if isinstance(obj, Bundle):
            raise self.fail(Tampered("a call of what cannot be called"))
        if self.guarded and not is_allowed(op, obj, name):
            self.doubtful = f"the submission uses a {type(obj).__name__} of the test's"
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
        if type(bundle) is not Bundle or type(grads) is not list or type(wanted) is not list:
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
        last: Frame | None = None,
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
        out = Outgoing(self, last)
        try:
            tree = out.encoder.encode(payload)
            bundle = out.bundle()
            updates = out.updates(last) if changes else []
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

    def _states(self, out: Outgoing) -> list[Any]:
        """The default dtype and the random states, where the other side has others."""
        out.keep(self.random, "known")
        states = [out.encoder.encode(change) for change in self.random.changes()]
        dtype = torch.get_default_dtype()
        if not self.guarded or dtype is self._dtype:
            return [None, states]
        out.keep(self, "_dtype")
        self._dtype = dtype
        return [str(dtype).removeprefix("torch."), states]

    # --- receiving ---

    def _receive(self) -> Message:
        try:
            tree, blobs = self.link.receive()
        except WireError as error:
            raise self.fail(error) from None
        try:
            return Incoming(self, blobs).read(tree)
        except WireError as error:
            raise self.fail(error) from None
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            reason = f"a message of the wrong form: {type(error).__name__}: {error}"
            raise self.fail(Tampered(reason[:300])) from None

    # --- objects ---

    def entry(self, obj: Any, edge: Any = None) -> Entry:
        """The entry of an object of one's own, made if there is none."""
        entry = self.own_by_id.get(id(obj))
        if entry is None or entry.obj is not obj or entry.edge is not edge:
            self.last_key += 1
            entry = Entry(self.last_key, obj)
            entry.edge = edge
            self.own[entry.key] = self.own_by_id[id(obj)] = entry
            if len(self.own) > 10**6:
                raise TooLarge("a million objects handed over and none given back")
        return entry

    def release(self, key: int, count: int) -> None:
        """The other side has let go of an object."""
        entry = self.own.get(key)
        if entry is None:
            return
        entry.count -= count
        if entry.count <= 0:
            del self.own[key]
            self.watch_own.pop(key, None)
            if self.own_by_id.get(id(entry.obj)) is entry:
                del self.own_by_id[id(entry.obj)]


def _fingerprint(value: Any) -> Any:
    encoder = Encoder(other=lambda other: ["?", id(other), getattr(other, "_version", 0)])
    try:
        return json.dumps(encoder.encode(value)), encoder.blobs
    except (TooLarge, Unsupported):
        return None


class _Builtins(dict[str, Any]):
    """Python's builtins, and behind them the submission's names.

    Python asks here last, wherever code stands: in functions, in the bodies of classes too, where
    it does not ask a namespace's own `__missing__`.
    """

    def __init__(self, fetch: Callable[[str], Any]) -> None:
        super().__init__(vars(builtins))
        self._fetch = fetch

    def __missing__(self, name: str) -> Any:
        try:
            return self._fetch(name)
        except KeyError:
            if name in vars(builtins):  # the submission has deleted its own
                return vars(builtins)[name]
            raise


class Namespace(dict[str, Any]):
    """The globals of the tests' cells, with the submission's names behind them.

    A name is looked up among the tests' own, then in Python's builtins without those that the
    submission has bound, then at the submission (the value is kept until `forget`). A name that a
    test binds is the test's own from then on.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__(__name__="__main__", __builtins__=_Builtins(self._fetch))
        self._peer = peer
        self._fetched: set[str] = set()
        self._kept: set[str] = set()

    def _fetch(self, name: str) -> Any:
        if name.startswith("__") or name in self._kept:
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

    def keep(self, names: Iterable[str]) -> None:
        """Never ask the submission for these names: what they stand for judges it."""
        self._kept |= set(names)

    def forget(self, rebound: Iterable[str] = (), own: Iterable[str] = ()) -> None:
        """Ask again for names of the submission, as they are now.

        Args:
            rebound: names that the submission's cells have bound since. Where the tests have
                plain data under such a name, the submission's takes its place; functions, classes
                and modules of the tests stay, so that no submission replaces what judges it.
            own: names of Python's builtins that are the submission's from now on.
        """
        for name in self._fetched:
            self.pop(name, None)
        self._fetched.clear()
        for name in rebound:
            if name in self and not name.startswith("__") and not _judges(self[name]):
                del self[name]
        for name in own:
            self["__builtins__"].pop(name, None)


def _judges(value: Any) -> bool:
    return callable(value) or isinstance(value, types.ModuleType)
