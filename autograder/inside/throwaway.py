"""Judges a test cell in a fork of the student's process, which is then thrown away.

There a test sees all that it would see in one notebook: names, source text, files, patches. The
student's code is beside it, so a verdict is only as good as what that code leaves alone. What that
code has patched before is undone (`pristine`), and a verdict counts with a token that only the fork
is told. Code that the test calls, and that looks for the token or rewrites the test at work, is not
held off.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import io
import linecache
import os
import secrets
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from autograder.inside.comparison import Calls
from autograder.inside.control import Channel
from autograder.inside.helpers import course_modules
from autograder.inside.locked import Locked
from autograder.inside.magics import Magics
from autograder.inside.output import Messages, capture
from autograder.inside.plain import imported, judges, run_plain, shown, starred
from autograder.inside.pristine import Pristine
from autograder.inside.vetted import Vetting, vetters
from autograder.job import is_number
from autograder.link.optional import HAS_TORCH, torch

__all__ = ["Throwaway"]

# As they are before any of a submission's code runs.
_close, _exit, _fork, _killpg, _setsid = os.close, os._exit, os.fork, os.killpg, os.setsid
_getpid = os.getpid
_setpgid, _signal, _status, _waitpid = (
    os.setpgid,
    signal.signal,
    os.waitstatus_to_exitcode,
    os.waitpid,
)
_NUMBERS = (int, float, *np.ScalarType, *((torch.Tensor,) if HAS_TORCH else ()))


class Throwaway:
    """Forks the student's process for a test cell.

    Args:
        shell: that the student's cells run in.
        pristine: what is put back in a fork.
        reports: the pipe by which a fork reports.
        ends: the pipes that a fork has to close.
        limit: on output.
    """

    def __init__(
        self, shell: Any, pristine: Pristine, reports: int, ends: list[int], limit: int
    ) -> None:
        self._shell, self._pristine, self._limit = shell, pristine, limit
        self._reports, self._ends = reports, ends
        self._space: dict[str, Any] = shell.user_ns
        self._data = Locked(self._space)
        self._locked: dict[str, Any] = {}
        self._imported: dict[str, tuple[str, str]] = {}
        self._vetters: dict[str, Any] = {}
        self._starred: list[str] = []
        self._helpers = {"__main__"}
        self._count = 0

    def lock(self, source: str, bound: list[str], before: set[str]) -> None:
        """Remember what a locked cell has bound that judges, and the helper modules it loaded.

        Args:
            source: of the cell, which has been run.
            bound: the names that it has bound.
            before: the names of the modules that were there before it.
        """
        home = str(Path.cwd())
        for name in sys.modules.keys() - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(home):
                self._pristine.add(sys.modules[name])
                self._helpers.add(name)
        names = judges(source) & self._space.keys()
        names |= {name for name in bound if self._is_helper(self._space[name])}
        self._locked |= {name: self._space[name] for name in names}
        for name in names:
            self._pristine.keep(self._space[name])
        self._data.keep(source, bound)
        self._imported |= imported(source)
        self._starred += starred(source)

    def _is_helper(self, value: Any) -> bool:
        """Whether it is a function or class of the course's own."""
        value = value.func if type(value) is functools.partial else value
        return callable(value) and getattr(value, "__module__", None) in self._helpers

    def judge(self, message: dict[str, Any]) -> dict[str, Any]:
        """Run a cell in a fork that reports; returns what ends the cell here."""
        self._count += 1
        try:
            with self._pristine.forking():
                pid = _fork()
        except OSError as error:
            return {"done": True, "why": f"it cannot be forked: {error.strerror}"}
        if pid == 0:
            try:
                self._child(message)
            finally:
                _exit(1)
        with contextlib.suppress(OSError):
            _setpgid(pid, pid)
        _signal(signal.SIGINT, lambda *_: _killpg(pid, signal.SIGKILL))
        try:
            _, status = _waitpid(pid, 0)
        finally:
            _signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            _killpg(pid, signal.SIGKILL)  # what it has left running
        code = _status(status)
        return {"done": True, "why": f"signal {-code}" if code < 0 else f"exit code {code}"}

    def _child(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            _setpgid(0, 0)
        _signal(signal.SIGINT, signal.SIG_DFL)
        for end in self._ends:
            _close(end)
        self._pristine.put_back()
        messages = Messages(Channel(-1, self._reports), self._limit)
        streams = capture(messages)
        self._shell.messages, self._shell.streams = messages, streams
        # Of a name that no code of the submission's was compiled under.
        file = f"<cell {self._count} of the tests, {secrets.token_hex(4)}>"
        magics = Magics(self._space, self._shell)
        magics.change = Vetting(noticed=message["noticed"])
        given = course_modules(message["given"])
        for name, (module, attribute) in self._imported.items():
            if module in given:
                self._locked[name] = getattr(importlib.import_module(module), attribute)
        for module in given.intersection(self._starred):
            found = vars(importlib.import_module(module))
            names = found.get("__all__") or [name for name in found if name[:1] != "_"]
            self._locked |= {name: found[name] for name in names}
        judging = [value for value in self._locked.values() if self._is_helper(value)]
        helpers = self._helpers | given | {"_pytest.approx"}
        calls = Calls(self._space, [j for j in judging if not isinstance(j, type)], helpers)
        self._vetters = vetters(noticed=message["noticed"], calls=calls)
        if message["asked"] is not None:
            tests = [*message["before"], message["inside"]]
            self._data.put_back(tests, judging, message["asked"], message["noticed"])
        for source in message["before"]:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                contextlib.suppress(BaseException),
            ):
                self._run(source, "<cell before>", magics)
        if isinstance(history := self._space.get("In"), list):
            list.append(history, message["inside"])  # so that In[-2] is the student's cell
            for before, name in enumerate(("_i", "_ii", "_iii"), 2):
                self._space[name] = history[-before] if len(history) >= before else ""
        own = _getpid()
        final = self._verdict(message["inside"], file, magics)
        if _getpid() != own:
            _exit(1)  # a comparison has forked, to try every answer
        for stream in streams:
            stream.flush()
        messages({"done": True, "token": message["token"], **final})
        _exit(0)

    def _run(self, source: str, name: str, magics: Magics) -> Any:
        magics.new_cell(name)
        self._space.update(self._locked)
        self._space.update(self._vetters, __builtins__=builtins)
        self._space["get_ipython"] = vars(builtins)["get_ipython"] = lambda: magics
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        return run_plain(source, name, self._space, awaiting=True, change=magics.change)

    def _verdict(self, source: str, name: str, magics: Magics) -> dict[str, Any]:
        self._shell.error = None
        try:
            value = self._run(source, name, magics)
            if self._shell.error is not None:  # of what the shell has run, such as `%run`
                raise self._shell.error
            text = shown(value)
        except BaseException as error:
            return {"error": _described(error, name)}
        if text is None:
            return {}
        if type(value) not in _NUMBERS and is_number(text):
            text = f"<{text}>"  # what a class of the submission's says of itself earns no points
        return {"result": {"text/plain": text[:10000]}}


def _is_theirs(frame: FrameType, name: str) -> bool:
    """Whether code runs that is neither the test's nor a module's."""
    if frame.f_code.co_filename == name:
        return False
    module = frame.f_globals.get("__name__")
    known = sys.modules.get(module) if isinstance(module, str) else None
    return known is None or module == "__main__" or vars(known) is not frame.f_globals


def _described(error: BaseException, name: str) -> list[Any]:
    """Its name, text and lines, the first of which says where, as in `line 3, submission`."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    theirs = any(_is_theirs(frame, name) for frame, _ in traceback.walk_tb(trace))
    place = f"line {trace.tb_lineno if trace else 0}, {'submission' if theirs else 'test'}"
    try:
        lines = traceback.format_exception(type(error), error, trace or error.__traceback__)
    except Exception:
        lines = []
    shown_lines = "".join(lines).rstrip().split("\n")
    kept = shown_lines if len(shown_lines) <= 200 else [shown_lines[0], *shown_lines[-199:]]
    return [type(error).__name__[:200], text[:10000], [place, *(line[:2000] for line in kept)]]
