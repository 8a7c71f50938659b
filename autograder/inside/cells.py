"""Runs cells: those of the student in an IPython shell, those of the tests by plain `exec`."""

from __future__ import annotations

import ast
import contextlib
import itertools
import linecache
import os
import select
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Any

from autograder.inside.control import Channel, receive
from autograder.inside.output import Messages, capture
from autograder.link.pipes import Pipes

__all__ = ["NoMagics", "run_student", "run_tests", "value_of"]


class _Interrupts:
    """Within it SIGINT interrupts a cell, once, but never the grader's own code that a cell calls.

    A message that is cut in two would look like tampering. The host repeats the signal until it is
    obeyed.

    Args:
        where: by module of the grader, the functions that may be interrupted where they call other
            modules' code; all of a module's for `None`.
    """

    def __init__(self, where: dict[str, tuple[str, ...] | None]) -> None:
        self._where = where
        self._raised = self._missed = False

    def __enter__(self) -> None:
        self._raised = self._missed = False
        signal.signal(signal.SIGINT, self._interrupt)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _interrupt(self, _: int, frame: FrameType | None) -> None:
        while frame is not None and not self._of_grader(frame):
            frame = frame.f_back
        if frame is None or self._raised:
            return
        functions = self._where.get(frame.f_globals["__name__"], ())
        if functions is None or frame.f_code.co_name in functions:
            self._raised = True
            raise KeyboardInterrupt
        self._missed = True

    def checkpoint(self) -> None:
        """Be interrupted now by a signal that came at the wrong moment."""
        main = threading.current_thread() is threading.main_thread()
        if self._missed and not self._raised and main:
            self._raised = True
            raise KeyboardInterrupt

    def _of_grader(self, frame: FrameType) -> bool:
        name = frame.f_globals.get("__name__")
        return isinstance(name, str) and name.startswith("autograder.")


def run_student(control: Channel, link: Pipes, messages: Messages, shell: Any) -> None:
    """Runs the cells that the host sends, and answers the tests in between."""
    from autograder.remote import Peer, WireError

    sys.path.insert(0, "")  # a submission may bring modules; the tests must not import them
    shell.messages = messages
    shell.streams = capture(messages)
    space = shell.user_ns
    peer = Peer(link, space)
    interrupts = _Interrupts(
        {__name__: ("run_student",), "autograder.remote": ("_perform", "_call", "_vjp")}
    )
    messages.checkpoint = interrupts.checkpoint
    asked = link.fileno()  # also when it is closed
    waiting = select.poll()
    waiting.register(control.orders, select.POLLIN)
    waiting.register(asked, select.POLLIN)
    while True:
        ready = {fd for fd, _ in waiting.poll()}
        if asked in ready:
            try:
                with interrupts, contextlib.suppress(KeyboardInterrupt):
                    peer.serve_one()
            except WireError:
                waiting.unregister(asked)
            for stream in shell.streams:
                stream.drop()  # what is printed in a test is none of the next cell's
            if not messages.owned():
                os._exit(0)
        elif control.orders in ready:
            message = receive(control)
            messages.new_cell()
            before = {name: id(value) for name, value in space.items()}  # keeps nothing alive
            with interrupts, contextlib.suppress(KeyboardInterrupt):
                shell.run_cell(message["run"], store_history=True)
            if not messages.owned():
                os._exit(0)  # a process that the cell forked has come back from it
            for stream in shell.streams:
                stream.flush()
            bound = [name for name, value in space.items() if before.get(name) != id(value)]
            messages({"done": True, "bound": [name for name in bound if name[:1] != "_"]})


def run_tests(control: Channel, link: Pipes, messages: Messages) -> None:
    """Runs the locked cells that the host sends."""
    from autograder.remote import Namespace, Peer, TimedOut

    peer = Peer(link)
    namespace = Namespace(peer)
    interrupts = _Interrupts(
        {
            __name__: ("run_tests", "value_of"),
            "autograder.incoming": None,
            "autograder.known": None,
            "autograder.link.pipes": None,
            "autograder.names": None,
            "autograder.outgoing": None,
            "autograder.remote": None,
            "autograder.standin": None,
            "autograder.wire": None,
        }
    )
    messages.checkpoint = interrupts.checkpoint
    streams = capture(messages)
    for count in itertools.count(1):
        message = receive(control)
        messages.new_cell()
        namespace.forget(message["bound"])
        name = f"<cell {count}>"
        source = message["run"]
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        shown: str | None = None
        error: BaseException | None = None
        try:
            with interrupts:
                shown = value_of(source, name, namespace)
        except BaseException as raised:
            error = raised
        if isinstance(error, KeyboardInterrupt) and _waited(error):
            peer.fail(TimedOut("the submission did not answer in time"))
        for stream in streams:
            stream.flush()
        if error is not None:
            messages.error(error, _lines(error))
        elif shown is not None:
            messages({"result": {"text/plain": shown[:10000]}})
        broken = peer.broken and [type(peer.broken).__name__, str(peer.broken)[:1000]]
        messages({"done": True, "broken": broken})


def _waited(error: BaseException) -> bool:
    """Whether it came while a call of the submission was under way, whose answer may yet come."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == "autograder.remote" for frame, _ in frames)


class NoMagics:
    """What `get_ipython()` gives in a test: its magics do nothing there."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def value_of(source: str, name: str, namespace: dict[str, Any]) -> str | None:
    """Run a cell; what a notebook shows of its last expression, if it is one and has a value."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.inputtransformer2 import TransformerManager
    from IPython.lib import pretty

    try:
        tree = ast.parse(source, name)
    except SyntaxError:
        transformer: Any = TransformerManager
        plain = transformer().transform_cell(source)
        if "get_ipython()" not in plain:
            raise
        tree = ast.parse(plain, name)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, name, "exec"), namespace)
        return None
    tree.body.pop()
    exec(compile(tree, name, "exec"), namespace)
    value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    hook: Any = DisplayHook
    if value is None or hook.semicolon_at_end_of_expression(source):
        return None
    return str(pretty.pretty(value))  # type: ignore[no-untyped-call]


def _lines(error: BaseException) -> list[str]:
    """Where it was raised, as in `line 3, submission`; then the traceback as from the cell on.

    The first says which line of the cell it came through, and whether the test raised it or the
    submission. It is of the frames alone: what follows holds words of the submission's.
    """
    from autograder.standin import RemoteType

    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    theirs = _waited(error) or isinstance(type(error), RemoteType)
    place = f"line {trace.tb_lineno if trace else 0}, {'submission' if theirs else 'test'}"
    text = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    return [place, *text.rstrip().split("\n")]
