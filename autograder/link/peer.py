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
asked of the submission. Plain values are copied (see `values`); tensors too, and gradients flow
through them (see `gradients`); all else gets a stand-in (see `standin`). A value that crosses back
comes home as itself. What a message says is put together in `outgoing`, and checked and taken in
`incoming`; what is asked is done in `calls`; what both sides know of objects is in `table`.

What is not as in one process: two values that share memory share none after crossing; a graph may
be gone through twice; hooks that a test puts on a part of a submission's module are not called,
nor does `torch.func.functional_call` reach it; source text and signatures do not cross; subclasses
of plain types are objects that equal no plain value, and subclasses of tensors are refused.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autograder.link.calls import prepared
from autograder.link.changes import Changes
from autograder.link.errors import LinkClosed, Tampered, WireError, expect
from autograder.link.failures import failure_of, raised
from autograder.link.frames import Link
from autograder.link.incoming import Incoming, Received
from autograder.link.messages import HEADS, Answer, Call, Failure, Message
from autograder.link.optional import torch
from autograder.link.outgoing import Outgoing
from autograder.link.pipes import Pipes
from autograder.link.randomness import RandomStates
from autograder.link.table import Frame, Table
from autograder.link.tensors import torch_name

__all__ = ["Peer"]

_DEEPEST = 40
_KINDS = {part: kind for kind, part in HEADS.items()}


class Peer:
    """One end of the link between a submission and its tests.

    Args:
        sock: connected to the other end.
        namespace: of the submission; without one this is the tests' end, which lets the other
            side do no more than call, and read, what was handed to it.

    Attributes:
        link: the frames.
        table: what both sides know of objects.
        broken: why the link is gone; None while it is not.
        random: the global random states.
        capturing: tells whether what is printed on this side is being captured.
        captured: whether it was while the other side was asked.
    """

    def __init__(
        self, sock: socket.socket | Pipes, namespace: dict[str, Any] | None = None
    ) -> None:
        self.link = Link(sock)
        self.table = Table(self._ask, guarded=namespace is None)
        self.broken: WireError | None = None
        self.capturing: Callable[[], bool] = lambda: False
        self.captured = False
        self._namespace = namespace
        self._guarded = namespace is None
        self._lock = threading.RLock()
        self.random = RandomStates(checked=self._guarded)
        self._dtype: torch.dtype = torch.get_default_dtype()
        self._serving = 0
        self._serial = 0
        self._process = os.getpid()
        if not self._guarded:
            self.random.changes()  # both are forks of alike parents, or will be told

    # --- what users call ---

    def fetch(self, name: str) -> Any:
        """The value of a name of the submission.

        Raises:
            KeyError: there is none.
        """
        found = self._ask("name", None, name, (), lambda found: expect(found, tuple, "a name"))
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
        if not isinstance(message.head, Call):
            raise self.fail(Tampered("an answer without a question"))
        self._serve(message, message.head)  # without the lock: threads of a submission may ask

    def close(self) -> None:
        """Close the link."""
        self.fail(LinkClosed("closed here"))

    def fail(self, error: WireError) -> WireError:
        """Break the link for good; returns the error to raise."""
        if self.broken is None:
            self.broken = error
            self.link.close()
        return self.broken

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Break the link where the other side does not keep to the protocol, or is gone."""
        try:
            yield
        except WireError as error:
            raise self.fail(error) from None

    # --- asking ---

    def _ask(
        self, op: str, key: int | None, name: str | None, args: Any, read: Callable[[Any], Any]
    ) -> Any:
        self._check_asked()
        self.captured = self.captured or self.capturing()
        with self._lock:
            self._check_asked()  # another thread may have answered while this one waited
            if self.broken is not None:
                raise self.broken
            if os.getpid() != self._process:
                raise RuntimeError("the link to the other side does not follow a fork")
            if len(self.table.frames) > 2 * _DEEPEST:
                raise RecursionError("calls between a submission and its tests nest too deep")
            self._serial += 1
            serial, frame = self._serial, Frame()
            self.table.begin(frame, args)
            try:
                self._send(serial, Call(op, key, name, torch.is_grad_enabled()), args)
                head, payload = self._answer_to(serial)
                with self._breaking():
                    if isinstance(head, Answer):
                        torch.set_grad_enabled(head.grads)
                        return self.table.answered(op, args, read(payload))
                    iterating = (op, name) == ("special", "__next__")
                    error = raised(head, payload, self.table, iterating)
                raise error
            finally:
                self.table.frames.remove(frame)

    def _check_asked(self) -> None:
        if not self._guarded and not self._serving:
            raise RuntimeError("what the tests handed over can be used only while they wait")

    def _answer_to(self, serial: int) -> tuple[Answer | Failure, Any]:
        """The answer to a question, after those that the other side puts meanwhile."""
        while True:
            message = self._receive()
            if isinstance(message.head, Call):
                self._serve(message, message.head)
            elif message.serial != serial:
                raise self.fail(Tampered("an answer to a question that was not asked"))
            else:
                return message.head, message.payload

    # --- answering ---

    def _serve(self, message: Received, call: Call) -> None:
        frame, error = message.frame, None
        with self._lock:
            self._serving += 1
            self.table.begin(frame, message.payload)
        try:
            if len(self.table.frames) > _DEEPEST:
                raise RecursionError("calls between a submission and its tests nest too deep")
            with self._breaking():
                action = prepared(call, message.payload, self.table, self._namespace)
            with torch.set_grad_enabled(call.grads):
                result = action()
                left = torch.is_grad_enabled()  # a function may have switched it, for good
        except BaseException as ended:  # a submission may exit or interrupt itself
            error = ended
        with self._lock:  # a thread of a submission may be asking
            try:
                if error is None:
                    try:
                        value = result[0] if call.op == "call" else result
                        self.table.answered(call.op, message.payload, value)
                        self._send(message.serial, Answer(left), result, frame)
                    except BaseException as unsent:
                        error = unsent
                if error is not None:
                    self._send_error(message.serial, error, frame)
            finally:
                del error  # it has this frame, and so all that has come
                self._serving -= 1
                self.table.frames.remove(frame)

    def _send_error(self, serial: int, error: BaseException, frame: Frame) -> None:
        if self.broken is not None:
            raise self.broken from None
        if self._guarded and isinstance(error, KeyboardInterrupt):
            raise error
        failure, own = failure_of(error, self.table)
        try:
            self._send(serial, failure, own, frame)
        except WireError:
            raise
        except Exception:  # its class, or a change besides, cannot be told; that must not end all
            self._send(serial, failure, None, frame, changes=False)

    # --- messages ---

    def _send(
        self, serial: int, head: Any, payload: Any, last: Frame | None = None, changes: bool = True
    ) -> None:
        """Send a message, which ends the frame `last`, or raise as if there had been none.

        Raises:
            TooLarge, Unsupported: it cannot cross.
            WireError: the link is gone.
        """
        out = Outgoing(self.table, self.link.caps, last)
        released = list(self.table.released)
        tree = out.encoder.encode(payload)
        history = out.history()
        found = Changes(out).find(last) if changes else []
        known, states = self.random.look()
        dtype = torch.get_default_dtype()
        told = torch_name(dtype) if self._guarded and dtype is not self._dtype else None
        state = [told, [out.encoder.encode(state) for state in states]]
        kind = _KINDS[type(head)]
        message = Message(
            kind, serial, head.tree(), state, released, out.tensors, history, found, tree
        )
        with self._breaking():
            self.link.send(message.tree(), out.encoder.blobs)
        out.notes.commit()
        self.random.known = known
        self._dtype = dtype
        del self.table.released[: len(released)]
        if changes:
            self.table.collected.clear()

    def _receive(self) -> Received:
        with self._breaking():
            tree, blobs = self.link.receive()
            try:
                return Incoming(self.table, self.link.caps, blobs).read(tree, self.random)
            except WireError:
                raise
            except Exception as error:
                reason = f"a message of the wrong form: {type(error).__name__}: {error}"
                raise Tampered(reason[:300]) from None
