"""The program inside a sandbox: a warm parent whose forks each run one submission.

The parent has imported what notebooks import. A request brings the sockets of a submission, no
bytes of it; the fork shuts itself off from the parent and its siblings (`confine`) before it reads
any. Three processes make a submission's half:

  parent ─ (gone) ─ init ─ main

`init` is the first process of the fork's own pid namespace: when it ends, the kernel ends all
others there. `main` runs the cells.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import io
import json
import os
import random
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from autograder.inside import confine
from autograder.inside.cells import run_student, run_tests
from autograder.inside.control import LONGEST_REQUEST, Channel, receive
from autograder.inside.output import Messages
from autograder.inside.plain import run_plain
from autograder.inside.pristine import Pristine
from autograder.inside.rehearsal import rehearse
from autograder.inside.shell import make_shell
from autograder.job import Limits
from autograder.link.optional import HAS_TORCH, nn, torch
from autograder.link.pipes import Pipes

__all__ = ["serve", "warm_up"]

_MADV_COLLAPSE = 25
_DISK_FILES = 4  # so many files of the largest size fit on each of the private file systems
_FDS = ("orders", "answers", "asked", "told", "reports", "stdout", "stderr", "status")


def _main(fds: dict[str, int], role: str, limits: Limits, isolated: bool, warm: Any) -> None:
    """What becomes of the fork that runs the cells."""
    confine.own_descriptors({0, 1, 2, *fds.values()})
    with contextlib.suppress(OSError):  # should the machine run out of memory, this goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    if isolated:
        confine.mount_private(_DISK_FILES * limits.file_size)
    control = Channel(fds["orders"], fds["answers"])
    link = Pipes(fds["asked"], fds["told"])
    order = receive(control)
    home = Path(order["home"])
    os.chdir(home)
    try:
        while "write" in (message := receive(control)):
            path = home / message["write"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(base64.b64decode(message["part"]))
    except OSError as error:
        os.write(fds["status"], f"files {error}".encode()[:4000])
        os._exit(1)
    if role == "tests":  # it was brought the course's own files only
        sys.path.insert(0, str(home))
    confine.limit(limits)
    if isolated:
        network = order["network"]
        if network:
            _hand_over(confine.listen(), fds["status"])
        confine.set_dumpable(True)  # the host measures it; nobody else can see it
        confine.drop_privileges(network)
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
            run_student(control, link, fds["reports"], messages, *warm)
        else:
            run_tests(control, link, messages)


def _hand_over(listener: socket.socket, status: int) -> None:
    """Give the host the socket at which it serves the network, and say where that is."""
    with listener, socket.socket(fileno=os.dup(status)) as host:
        socket.send_fds(host, [b"listens"], [listener.fileno()])
        place = "http://{}:{}".format(*listener.getsockname())
    for name in ("http_proxy", "https_proxy"):
        os.environ[name] = os.environ[name.upper()] = place


def _init(fds: dict[str, int], role: str, limits: Limits, isolated: bool, warm: Any) -> None:
    """Start `main`, wait for its end among all that end here, and say what it was."""
    os.write(fds["status"], b"init")
    if not os.read(fds["status"], 16):  # until the host has put it in its place
        os._exit(1)
    pid = os.fork()
    if pid == 0:
        _guarded(_main, fds, role, limits, isolated, warm)
    for name in _FDS[:-1]:
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


def _fork(fds: dict[str, int], role: str, limits: Limits, isolated: bool, warm: Any) -> None:
    if isolated:
        confine.enter_namespaces()
    pid = os.fork()
    if pid == 0:
        os.setsid()  # signals to its process group, and a share of the processor, are its own
        if not isolated:
            confine.be_subreaper()
        _guarded(_init, fds, role, limits, isolated, warm)


def _rehearse() -> None:
    """What notebooks do, for the sake of what torch imports only when it is done.

    No backward pass: the threads of autograd do not survive a fork.
    """
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
    torch.set_rng_state(state)


def warm_up(role: str, imports: tuple[str, ...]) -> Any:
    """Do once what costs time the first time; no thread may be left running."""
    for name in ("autograder.link.namespace", "numpy.random"):
        importlib.import_module(name)
    if HAS_TORCH:
        torch.set_num_threads(1)
        _rehearse()
    if role == "tests":
        from IPython.display import display

        vars(builtins)["display"] = display  # as a notebook's kernel does
        run_plain("1; 2", "<warm>", {})
        made = None
    else:
        shell = make_shell()
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
        made = shell, Pristine(shell)
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
    _take_large_pages()
    return made


def _take_large_pages() -> None:
    """Have this process's memory in large pages where the kernel gives some (Linux 6.1).

    A fork copies the list of its parent's pages, and there are six forks a job.
    """
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, permissions, _, _, inode, *_ = line.split()
        if permissions == "rw-p" and inode == "0":  # of no file
            start, end = (int(address, 16) for address in place.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


def serve(requests: socket.socket, role: str, isolated: bool, warm: Any) -> None:
    """Be a warm parent: take requests until the host closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    requests.send(b"ready")
    while True:
        request, received, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, len(_FDS))
        if not request:
            return
        wanted = json.loads(request)
        if "rehearse" in wanted:
            rehearse(wanted["rehearse"])
            requests.send(b"rehearsed")
            continue
        fds = dict(zip(_FDS, received, strict=True))
        try:
            pid = os.fork()
        except OSError:  # no room for another process: the host sees this one's sockets close
            pid = -1
        if pid == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _guarded(_fork, fds, role, Limits(**wanted), isolated, warm)
        for received_fd in received:
            os.close(received_fd)
