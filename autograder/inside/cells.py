"""Runs cells: those of the student in an IPython shell, those of the tests by plain `exec`."""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import itertools
import linecache
import os
import select
import signal
import sys
import threading
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from autograder.inside.control import Channel, receive
from autograder.inside.files import Files, digests
from autograder.inside.magics import Magics
from autograder.inside.notebook import Notebook
from autograder.inside.output import Messages, capture
from autograder.inside.plain import (
    awaits,
    judges,
    lists_names,
    reads_history,
    reflects,
    run_plain,
    sets_attributes,
    shown,
)
from autograder.inside.pristine import Pristine
from autograder.inside.reading import Reading, asks_identity, asks_process, replaces
from autograder.inside.throwaway import Throwaway
from autograder.link.pipes import Pipes

__all__ = ["run_student", "run_tests"]

# Of the link, what may be interrupted; a random state must not be left half set.
_ROOMS = [
    *("calls", "changes", "errors", "failures", "frames", "gradients", "incoming", "messages"),
    *("names", "namespace", "outgoing", "peer", "pipes", "shared", "standin", "table", "tensors"),
    "values",
]

#: What tells of a stand-in as if it were what it stands for.
_REFLECTING: dict[types.ModuleType, tuple[str, ...]] = {
    inspect: (
        *("signature", "getfullargspec", "getcallargs", "get_annotations", "getdoc", "getmembers"),
        *("getattr_static", "getmro", "isfunction", "ismethod", "isroutine", "isabstract"),
        *("isgenerator", "isgeneratorfunction", "iscoroutine", "iscoroutinefunction"),
        *("isasyncgen", "isasyncgenfunction", "isawaitable"),
    ),
    typing: ("get_type_hints",),
    dataclasses: ("is_dataclass", "fields"),
}


class _Interrupts:
    """Lets SIGINT interrupt a cell, once, but never the grader's own code that a cell calls.

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


def run_student(
    control: Channel,
    link: Pipes,
    reports: int,
    messages: Messages,
    shell: Any,
    pristine: Pristine,
) -> None:
    """Runs the cells that the host sends, and answers the tests in between."""
    from autograder.link.errors import WireError
    from autograder.link.peer import Peer

    sys.path.insert(0, "")  # a submission may bring modules; the tests must not import them
    shell.messages = messages
    shell.streams = capture(messages)
    space = shell.user_ns
    peer = Peer(link, space)
    throwaway = Throwaway(shell, pristine, reports, [*control, *link.ends], messages.limit)
    interrupts = _Interrupts(
        {
            __name__: ("run_student",),
            "autograder.link.calls": None,
            "autograder.link.gradients": None,
        }
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
                stream.flush()  # what is printed in a test does not belong to the next cell
            if not messages.owned():
                os._exit(0)
        elif control.orders in ready:
            message = receive(control)
            messages.new_cell()
            if "inside" in message:
                messages(throwaway.judge(message))
                continue
            if "files" in message:
                messages({"done": True, "files": digests(message["files"])})
                continue
            modules = set(sys.modules)
            before = {name: id(value) for name, value in space.items()}  # keeps nothing alive
            with interrupts, contextlib.suppress(KeyboardInterrupt):
                shell.run_cell(message["run"], store_history=True)
            if not messages.owned():
                os._exit(0)  # a process that the cell forked has come back from it
            for stream in shell.streams:
                stream.flush()
            bound = [name for name, value in space.items() if before.get(name) != id(value)]
            if message["locked"]:
                throwaway.lock(message["run"], bound, modules)
            messages({"done": True, "bound": [name for name in bound if name[:1] != "_"]})


def _doubt_of_text(
    source: str, nodes: list[ast.AST], namespace: Mapping[str, Any], theirs: set[str]
) -> str | None:
    """Why a test may find out something else here than in the submission's process."""
    if found := lists_names(source):
        return f"it lists the notebook's names by {found}"
    if found := reads_history(source):
        return f"it reads the history of cells by {found}"
    if found := reflects(source):
        return f"it asks what an object is made of by {found}"
    if found := asks_process(nodes):
        return f"it uses {found}, which tells of its own process"
    if found := replaces(source, namespace, theirs):
        return f"it puts something else in the place of {found}"
    return None


def run_tests(control: Channel, link: Pipes, messages: Messages) -> None:
    """Runs the locked cells that the host sends."""
    from autograder.link.errors import TimedOut
    from autograder.link.namespace import Namespace
    from autograder.link.peer import Peer

    peer = Peer(link)
    namespace = Namespace(peer)
    magics = Magics(namespace)
    namespace["__builtins__"]["get_ipython"] = vars(builtins)["get_ipython"] = lambda: magics

    def note(what: str) -> None:
        peer.table.unjudged = peer.table.unjudged or what

    sys.modules["__main__"] = Notebook(namespace, note)
    _without_alarms(note)
    _noting_patches(note)
    _noting_reflection(note)
    interrupts = _Interrupts(
        {
            __name__: ("run_tests",),
            "autograder.inside.magics": None,
            "autograder.inside.plain": None,
            **{f"autograder.link.{one}": None for one in _ROOMS},
        }
    )
    messages.checkpoint = interrupts.checkpoint
    streams = capture(messages)
    peer.capturing = lambda: sys.stdout is not streams[0] and not magics.hides
    files = Files()
    reading = Reading(Path.cwd())
    theirs: set[str] = set()
    for count in itertools.count(1):
        message = receive(control)
        messages.new_cell()
        namespace.forget(message["bound"], message["own"])
        name = f"<cell {count}>"
        source = message["run"]
        magics.new_cell(name, strict=message["test"])
        peer.random.salt = hashlib.sha256(peer.random.salt + source.encode()).digest()
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        peer.table.unjudged = peer.table.doubtful = None
        peer.table.strict = not message["objects"]
        peer.captured = False
        theirs |= set(message["bound"])
        nodes = reading(source) if message["test"] else []
        if message["test"] and (doubt := _doubt_of_text(source, nodes, namespace, theirs)):
            note(doubt)
        text: str | None = None
        error: BaseException | None = None
        try:
            with interrupts, files.watched(message["test"]):
                text = shown(run_plain(source, name, namespace))
        except BaseException as raised:
            error = raised
        if message["test"] and not (peer.broken or isinstance(error, KeyboardInterrupt)):
            try:
                with interrupts:
                    peer.table.settle(asks=asks_identity(nodes))
            except BaseException as raised:
                error = raised
        if isinstance(error, KeyboardInterrupt) and _waited(error):
            peer.fail(TimedOut("the submission did not answer in time"))
        for stream in streams:
            stream.flush()
        if message["test"]:
            for name in sets_attributes(source):
                if isinstance(namespace.get(name), types.ModuleType):
                    note(f"it changes the module {name}")
        if error is not None:
            messages.error(error, _lines(error))
        elif text is not None:
            messages({"result": {"text/plain": text[:10000]}})
        if not message["test"]:
            reading.add(source)
            namespace.keep(name for name in judges(source) if name not in namespace)
        broken = peer.broken and [type(peer.broken).__name__, str(peer.broken)[:1000]]
        unjudged = (
            magics.needs
            or peer.table.unjudged
            or (error and _doubt(error, source, peer.table.doubtful))
        )
        if error and not unjudged and files.opened:
            unjudged = "it opens a file of its folder"
        messages(
            {
                "done": True,
                "broken": broken,
                "unjudged": unjudged,
                "files": sorted(files.opened),
                "captured": peer.captured,
            }
        )


def _without_alarms(note: Callable[[str], None]) -> None:
    """Refuse alarms: one that went off while the submission answers would cut the answer off."""

    def alarm(seconds: float, *_: Any) -> int:
        if seconds:
            note("it sets an alarm")
            raise RuntimeError("an alarm cannot end what a submission does, judged outside of it")
        return 0

    vars(signal)["alarm"] = alarm
    vars(signal)["setitimer"] = lambda _, *times: alarm(*times)


def _noting_patches(note: Callable[[str], None]) -> None:
    """Note each patch: it is of the tests' own modules, and the submission has others."""
    kinds: tuple[Any, ...] = (mock._patch, mock._patch_dict)
    for kind in kinds:

        def entered(self: Any, enter: Any = kind.__enter__) -> Any:
            note("it patches what the submission may use")
            return enter(self)

        kind.__enter__ = entered


def _noting_reflection(note: Callable[[str], None]) -> None:
    """Note where Python is asked what something of the submission's is: a stand-in is otherwise."""
    from autograder.link.standin import RemoteMethod
    from autograder.link.table import handle_of

    def noting(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(ask)
        def asked(of: Any, *args: Any, **kwargs: Any) -> Any:
            if type(of) is RemoteMethod or handle_of(of) is not None:
                note(f"it asks {name} of the submission's object")
            return ask(of, *args, **kwargs)

        return asked

    for module, names in _REFLECTING.items():
        for name in names:
            vars(module)[name] = noting(f"{module.__name__}.{name}", vars(module)[name])


def _doubt(error: BaseException, source: str, doubtful: str | None) -> str | None:
    """Why a test that failed outside may be right inside."""
    from autograder.link.errors import TooLarge, Unsupported

    if isinstance(error, TooLarge | Unsupported):
        return "a value cannot be brought outside"
    if isinstance(error, SyntaxError) and awaits(source):
        return "it awaits outside of functions"
    return doubtful


def _waited(error: BaseException) -> bool:
    """Whether it came while a call of the submission was under way, whose answer may yet come."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == "autograder.link.peer" for frame, _ in frames)


def _lines(error: BaseException) -> list[str]:
    """Where it was raised, as in `line 3, submission`; then the traceback as from the cell on.

    The first says which line of the cell it came through, and whether the test raised it or the
    submission. It is of the frames alone: what follows holds words of the submission's.
    """
    from autograder.link.standin import RemoteType

    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    theirs = _waited(error) or isinstance(type(error), RemoteType)
    place = f"line {trace.tb_lineno if trace else 0}, {'submission' if theirs else 'test'}"
    text = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    return [place, *text.rstrip().split("\n")]
