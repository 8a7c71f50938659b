"""The program inside a sandbox: a warm parent whose forks each run one submission.

The parent has imported what notebooks import. A request brings the sockets of a submission, no
bytes of it; the fork shuts itself off from the parent and its siblings (`autograder.confine`)
before it reads any. Three processes make a submission's half:

  parent ─ (gone) ─ init ─ main

`init` is the first process of the fork's own pid namespace: when it ends, the kernel ends all
others there. `main` runs the cells: those of the student in an IPython shell, those of the tests by
plain `exec`.

Messages on the control socket are JSON behind a length of four bytes:

  to main:    {"files": …, "home": …} first, then {"run": source, …} for each cell
  from main:  {"stream": "stdout" | "stderr", "text": …}, {"display" | "result": data, …},
              {"clear": true}, {"error": [name, value, traceback]}, and at the end of a cell
              {"done": true, …}
"""

from __future__ import annotations

import ast
import base64
import builtins
import contextlib
import gc
import importlib
import importlib.util
import io
import itertools
import json
import linecache
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from autograder import confine
from autograder.job import Limits

__all__ = ["Messages", "main", "receive", "send"]

_NOBODY = 65534
_FLOOD = 64  # times the limit on output: a cell that goes on after so much is stopped
_DISK_FILES = 4  # so many files of the largest size fit on each of the private file systems
_FDS = ("control", "link", "stdout", "stderr", "status")


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Write one message, waiting until all of it is taken."""
    body = json.dumps(message).encode()
    connection.sendall(struct.pack("!I", len(body)) + body)


def _exactly(connection: socket.socket, n: int) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        part = connection.recv(n - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Read one message, waiting for it.

    Raises:
        EOFError: the other side is gone.
    """
    (length,) = struct.unpack("!I", _exactly(connection, 4))
    message: dict[str, Any] = json.loads(_exactly(connection, length))
    return message


class Messages:
    """Sends outputs to the host while a cell runs; what is above the limit is left out here.

    Errors and the value of a test cell are never left out, but shortened.

    A process that a cell has forked does not send: it could cut a message in two.

    Attributes:
        checkpoint: called where a cell that does little but send can be interrupted.
    """

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self.checkpoint: Callable[[], None] = lambda: None
        self._limit = limit
        self._left = limit

    def new_cell(self) -> None:
        """Let the limit begin anew."""
        self._left = self._limit

    def owned(self) -> bool:
        """Whether this is the process that may send."""
        return os.getpid() == self._owner

    def __call__(self, message: dict[str, Any]) -> None:
        """Send a message, whatever its size."""
        with self._lock:
            if self.owned():
                send(self._connection, message)

    def output(self, message: dict[str, Any]) -> None:
        """Send an output of a cell, or the news that there are too many."""
        with self._lock:
            size = len(json.dumps(message))
            within, self._left = self._left > 0, self._left - size
            if self._left >= 0:
                self(message)
            elif within:
                if "text" in message:
                    self({**message, "text": message["text"][: self._left]})
                self({"full": True})
            elif self._left < -_FLOOD * self._limit:
                self({"flood": True})
                self._left = -1

    def error(self, error: BaseException, lines: list[str]) -> None:
        """Send the error that ended a cell."""
        try:
            text = str(error)
        except Exception:
            text = "(its message cannot be shown)"
        kept = lines if len(lines) <= 200 else [lines[0], *lines[-199:]]
        shown = [line[:2000] for line in kept]
        self({"error": [type(error).__name__[:200], text[:10000], shown]})


class _Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr`: whole lines go to the host, in order with other outputs."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str, fd: int, messages: Messages) -> None:
        self.name = f"<{name}>"
        self.buffer = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115
        self.others: list[_Stream] = []
        self._stream, self._fd, self._messages = name, fd, messages
        self._text: list[str] = []
        self._size = 0

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self._messages.owned():
            os.write(self._fd, text.encode(errors="replace"))
            return len(text)
        for other in self.others:
            other.flush()
        for start in range(0, len(text), 65536):
            self._text.append(text[start : start + 65536])
            self._size += len(self._text[-1])
            if self._size > 8192 or "\n" in self._text[-1]:
                self.flush()
        self._messages.checkpoint()
        return len(text)

    def flush(self) -> None:
        text, self._text, self._size = "".join(self._text), [], 0
        if text:
            self._messages.output({"stream": self._stream, "text": text})

    def drop(self) -> None:
        """Forget the line that was begun."""
        self._text, self._size = [], 0


def _capture(messages: Messages) -> list[_Stream]:
    streams = [_Stream("stdout", 1, messages), _Stream("stderr", 2, messages)]
    streams[0].others, streams[1].others = streams[1:], streams[:1]
    sys.stdout, sys.stderr = streams
    return streams


def _plain(data: dict[str, Any]) -> dict[str, str]:
    """A MIME bundle as text, its bytes in base64."""
    plain = {}
    for kind, value in data.items():
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        plain[str(kind)] = value if isinstance(value, str) else json.dumps(value, default=repr)
    return plain


def _shell() -> Any:
    """An IPython shell that keeps no history, reads no start-up files, and sends its outputs."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type
    from traitlets.config import Config

    class Hook(DisplayHook):
        def write_output_prompt(self) -> None:
            pass

        def write_format_data(
            self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
        ) -> None:
            shell: Any = self.shell
            shell.emit({"result": _plain(format_dict)})

    class Publisher(DisplayPublisher):
        def publish(self, data: dict[str, Any], *_: Any, **more: Any) -> None:
            shown = (more.get("transient") or {}).get("display_id")
            self.shell.emit(
                {"display": _plain(data), "id": shown, "update": bool(more.get("update"))}
            )

        def clear_output(self, wait: bool = False) -> None:
            self.shell.emit({"clear": True})

    class Shell(InteractiveShell):
        displayhook_class = Type(Hook)
        display_pub_class = Type(Publisher)
        messages: Messages | None = None
        streams: Sequence[_Stream] = ()

        def emit(self, message: dict[str, Any]) -> None:
            for stream in self.streams:
                stream.flush()
            if self.messages is not None:
                self.messages.output(message)
                self.messages.checkpoint()

        def showtraceback(self, *args: Any, **kwargs: Any) -> None:
            error = sys.exc_info()[1]
            if isinstance(error, MemoryError):  # IPython's way to show it would need memory
                self._showtraceback(type(error), error, ["MemoryError"])
            else:
                super().showtraceback(*args, **kwargs)

        def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
            for stream in self.streams:
                stream.flush()
            if self.messages is not None:
                self.messages.error(evalue, "\n".join(stb).split("\n"))

        def enable_gui(self, gui: str | None = None) -> None:
            pass  # the inline backend needs no event loop

        def ask_exit(self) -> None:
            print("A graded notebook cannot leave its kernel.")

    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.cache_size = 0
    # Not by way of an application, which would look for start-up files and profiles.
    return Shell.instance(config=settings)


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


# ------------------------------------------------------------------------------ the two mains


def _student(control: socket.socket, link: socket.socket, messages: Messages, shell: Any) -> None:
    from autograder.link.errors import WireError
    from autograder.link.peer import Peer

    sys.path.insert(0, "")  # a submission may bring modules; the tests must not import them
    shell.messages = messages
    shell.streams = _capture(messages)
    space = shell.user_ns
    peer = Peer(link, space)
    interrupts = _Interrupts(
        {
            "autograder.worker": ("_student",),
            "autograder.link.calls": None,
            "autograder.link.gradients": None,
        }
    )
    messages.checkpoint = interrupts.checkpoint
    asked = link.fileno()  # also when it is closed
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
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
        elif control.fileno() in ready:
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


def _tests(control: socket.socket, link: socket.socket, messages: Messages) -> None:
    from autograder.link.errors import TimedOut
    from autograder.link.namespace import Namespace
    from autograder.link.peer import Peer

    peer = Peer(link)
    namespace = Namespace(peer)
    interrupts = _Interrupts(
        {
            "autograder.worker": ("_tests", "_value"),
            "autograder.link.calls": None,
            "autograder.link.changes": None,
            "autograder.link.errors": None,
            "autograder.link.failures": None,
            "autograder.link.frames": None,
            "autograder.link.gradients": None,
            "autograder.link.incoming": None,
            "autograder.link.messages": None,
            "autograder.link.names": None,
            "autograder.link.namespace": None,
            "autograder.link.outgoing": None,
            "autograder.link.peer": None,
            "autograder.link.standin": None,
            "autograder.link.table": None,
            "autograder.link.tensors": None,
            "autograder.link.values": None,
        }
    )
    messages.checkpoint = interrupts.checkpoint
    streams = _capture(messages)
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
                shown = _value(source, name, namespace)
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
    return any(frame.f_globals.get("__name__") == "autograder.link.peer" for frame, _ in frames)


class _NoMagics:
    """What `get_ipython()` gives in a test: its magics do nothing there."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def _value(source: str, name: str, namespace: dict[str, Any]) -> str | None:
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
    from autograder.link.standin import RemoteType

    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    theirs = _waited(error) or isinstance(type(error), RemoteType)
    place = f"line {trace.tb_lineno if trace else 0}, {'submission' if theirs else 'test'}"
    text = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    return [place, *text.rstrip().split("\n")]


# ------------------------------------------------------------------------------ parent and forks


def _main(fds: dict[str, int], role: str, limits: Limits, isolated: bool, shell: Any) -> None:
    """What becomes of the fork that runs the cells."""
    confine.own_descriptors({0, 1, 2, *fds.values()})
    if isolated:
        confine.mount_private(_DISK_FILES * limits.file_size)
    control = socket.socket(fileno=fds["control"])
    link = socket.socket(fileno=fds["link"])
    order = receive(control)
    home = Path(order["home"])
    os.chdir(home)
    try:
        for name, content in order["files"].items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(content))
    except OSError as error:
        os.write(fds["status"], f"files {error}".encode()[:4000])
        os._exit(1)
    confine.limit(limits)
    with contextlib.suppress(OSError):  # should the machine run out of memory, this goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    if isolated:
        confine.drop_privileges()
        confine.set_dumpable(True)  # the host measures it; nobody else can see it
    os.dup2(fds["stdout"], 1)
    os.dup2(fds["stderr"], 2)
    os.close(fds["stdout"])
    os.close(fds["stderr"])
    os.write(fds["status"], b"main")
    os.close(fds.pop("status"))
    random.seed(0)  # alike in both halves, and in every run of a job; torch starts alike anyway
    sys.modules["numpy"].random.seed(0)
    messages = Messages(control, limits.output)
    with contextlib.suppress(EOFError):
        if role == "student":
            _student(control, link, messages, shell)
        else:
            _tests(control, link, messages)


def _init(fds: dict[str, int], role: str, limits: Limits, isolated: bool, shell: Any) -> None:
    """Start `main`, wait for its end among all that end here, and say what it was."""
    os.write(fds["status"], b"init")
    pid = os.fork()
    if pid == 0:
        _guarded(_main, fds, role, limits, isolated, shell)
    for name in ("control", "link", "stdout", "stderr"):
        os.close(fds[name])
    confine.set_dumpable(False)
    while True:
        ended, status = os.wait()
        if ended == pid:
            os.write(fds["status"], b"ended %d" % os.waitstatus_to_exitcode(status))
            os._exit(0)


def _guarded(function: Any, fds: dict[str, int], *rest: Any) -> None:
    """Call it in a process that must never return to its caller."""
    try:
        function(fds, *rest)
        os._exit(0)
    except BaseException as error:
        with contextlib.suppress(OSError, KeyError):
            os.write(fds["status"], f"error {type(error).__name__}: {error}".encode()[:4000])
        with contextlib.suppress(OSError):
            os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(1)


def _fork(fds: dict[str, int], role: str, limits: Limits, isolated: bool, shell: Any) -> None:
    if isolated:
        confine.enter_namespaces()
    pid = os.fork()
    if pid == 0:
        if not isolated:
            os.setsid()
            confine.be_subreaper()
        _guarded(_init, fds, role, limits, isolated, shell)


class _WithheldFinder:
    """Where no sandbox masks the files of withheld modules, keeps them from being imported."""

    def __init__(self, withheld: tuple[str, ...]) -> None:
        self._withheld = withheld

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(name == one or name.startswith(f"{one}.") for one in self._withheld):
            return None
        stub = Path(__file__).with_name("withheld.py")
        return importlib.util.spec_from_file_location(name, stub, submodule_search_locations=[])


def _rehearse() -> None:
    """What notebooks do, for the sake of what torch imports only when it is done.

    No backward pass: the threads of autograd do not survive a fork.
    """
    import torch
    from torch import nn

    with contextlib.suppress(ImportError):  # what the first torch.autograd.grad imports
        importlib.import_module("torch.fx.experimental.symbolic_shapes")
    state = torch.get_rng_state()
    x, model = torch.ones(4, 2), nn.Linear(2, 1)
    for kind in (torch.optim.SGD, torch.optim.Adam):
        optimizer = kind(model.parameters(), 0.1)
        model(x).sum().detach()
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(x, x)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.distributions.kl_divergence(normal, normal)
    torch.save(model.state_dict(), io.BytesIO())
    data: Any = x
    next(iter(torch.utils.data.DataLoader(data, 2, shuffle=True)))
    importlib.import_module("numpy.random")
    torch.set_rng_state(state)


def _warm(role: str, imports: tuple[str, ...]) -> Any:
    """Import, and do once what costs time the first time; no thread may be left running."""
    for name in (*imports, "autograder.link.namespace"):
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    _rehearse()
    shell = None
    if role == "tests":
        from IPython.display import display

        # what a notebook's kernel adds to the names that are always there
        vars(builtins).update(display=display, get_ipython=_NoMagics)
        _value("%warm\n1", "<warm>", {})
    else:
        shell = _shell()
        if "matplotlib.pyplot" in sys.modules:
            shell.run_cell(
                "%matplotlib inline\n"
                "import matplotlib.pyplot as plt\n"
                "plt.plot([0, 1], label='$x$')\n"
                "plt.legend();"
            )
            # Figures are shown and closed after a cell; matplotlib would draw each before, too.
            shell.run_cell("plt.uninstall_repl_displayhook()")
        shell.run_cell("raise ValueError")  # imports what shows tracebacks
        shell.reset()
        shell.execution_count = 1
    if len([*Path("/proc/self/task").iterdir()]) > 1:
        raise RuntimeError(
            f"one of {', '.join(imports)} starts threads, which a fork does not survive"
        )
    maps = Path("/proc/self/maps").read_text().splitlines()
    if any(line.split()[1][1::2] == "ws" for line in maps):  # such as rw-s
        raise RuntimeError(
            f"one of {', '.join(imports)} maps memory that all submissions would share"
        )
    gc.collect()
    gc.freeze()  # keeps the collector from copying the pages that forks share
    return shell


def main(
    fd: int, role: str, imports: tuple[str, ...], withheld: tuple[str, ...], isolated: bool
) -> None:
    """Be a warm parent: take requests from the socket `fd` until the host closes it."""
    if isolated and os.getuid() == 0:  # root of the machine, without its privileges
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        os.execv(sys.executable, sys.orig_argv)
    confine.set_dumpable(False)
    requests = socket.socket(fileno=fd)
    if role == "student" and not isolated:
        sys.meta_path.insert(0, _WithheldFinder(withheld))
    try:
        shell = _warm(role, imports)
    except Exception as error:
        requests.send(f"error {type(error).__name__}: {error}".encode()[:4000])
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    requests.send(b"ready")
    while True:
        request, received, _, _ = socket.recv_fds(requests, 65536, len(_FDS))
        if not request:
            return
        fds = dict(zip(_FDS, received, strict=True))
        try:
            pid = os.fork()
        except OSError:  # no room for another process: the host sees this one's sockets close
            pid = -1
        if pid == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _guarded(_fork, fds, role, Limits(**json.loads(request)), isolated, shell)
        for received_fd in received:
            os.close(received_fd)
