"""What a submission cannot reach. Each test runs the attempt in a real sandbox."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autograder.execute import sandbox
from autograder.execute.run import execute
from autograder.execute.sandbox import SandboxError, problem
from autograder.inside.seccomp import seccomp_program
from autograder.job import Cell, Job, Limits, Result

in_sandbox = pytest.mark.skipif(problem() is not None, reason=str(problem()))

IMPORTS = ("torch", "numpy", "matplotlib.pyplot")  # as in test_execute: the same warm parents
LIMITS = Limits(cell_seconds=20, total_seconds=60, memory=2**30)


def answer(
    source: str, *, withheld: tuple[str, ...] = (), imports: tuple[str, ...] = IMPORTS
) -> Any:
    """The value, through JSON, that student code leaves in `found`; it must end by itself."""
    cells = (
        Cell("attempt", "student", source),
        Cell("found", "student", "import json; print('\\n' + json.dumps(found))"),
    )
    result = Result.from_bytes(
        execute(Job(cells, limits=LIMITS, withheld=withheld, imports=imports).to_bytes())
    )
    assert [cell.reason for cell in result.cells] == [None, None], result
    assert result.cells[0].outputs == []
    return json.loads(result.cells[1].outputs[-1]["text"])


def attempts(*lines: str) -> dict[str, str]:
    """What each expression comes to: its value, or the name of its error."""
    source = (
        "import ctypes, os, signal, socket, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(*arguments):\n"
        "    return os.strerror(ctypes.get_errno()) if libc.syscall(*arguments) < 0 else 'done'\n"
        "found = {}\n"
        f"for line in {lines!r}:\n"
        "    try: found[line] = str(eval(line))\n"
        "    except Exception as error: found[line] = type(error).__name__\n"
    )
    result: dict[str, str] = answer(source)
    return result


@in_sandbox
class TestNetwork:
    def test_no_address_can_be_reached_or_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            found = attempts(
                f"socket.create_connection(('127.0.0.1', {port}), 2)",
                "socket.create_connection(('1.1.1.1', 53), 2)",
                "socket.socket(socket.AF_INET6)",
                "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
                "socket.socket(socket.AF_VSOCK)",
                "socket.getaddrinfo('example.org', 80)",
            )
        assert set(found.values()) <= {"OSError", "gaierror"}

    def test_unix_sockets_of_the_machine(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
            named.bind(str(tmp_path / "s"))
            abstract.bind("\0autograder-test")
            for server in (named, abstract):
                server.listen()
            connect = "socket.socket(socket.AF_UNIX).connect({!r})"
            found = attempts(
                connect.format(str(tmp_path / "s")), connect.format("\0autograder-test")
            )
        assert list(found.values()) == ["FileNotFoundError", "ConnectionRefusedError"]


@in_sandbox
class TestFiles:
    def test_nothing_of_the_machine_but_the_system(self, tmp_path: Path) -> None:
        (tmp_path / "gradebook.db").write_text("secret")
        here = Path(__file__).resolve()
        paths = [tmp_path, tmp_path / "gradebook.db", here, here.parents[2] / "Makefile"]
        paths += [Path.home() / ".bashrc", Path("/etc/shadow"), Path("/etc/passwd"), Path("/var")]
        found = attempts(*(f"os.path.exists({str(path)!r})" for path in paths))
        assert set(found.values()) == {"False"}

    def test_only_private_folders_can_be_written(self) -> None:
        found = answer(
            "import os\n"
            "found = []\n"
            "for folder, folders, files in os.walk('/'):\n"
            "    if folder.startswith('/proc/self'): folders.clear(); continue\n"
            "    try: open(folder + '/autograder-test', 'x').close(); found.append(folder)\n"
            "    except OSError: pass\n"
            "    if folder in ('/home/student', '/tmp', '/dev/shm'): folders.clear()"
        )
        assert sorted(found) == ["/dev/shm", "/home/student", "/tmp"]

    def test_descriptors_are_those_of_the_submission(self) -> None:
        found = answer(
            "import os\n"
            "found = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')\n"
            "         if os.path.exists(f'/proc/self/fd/{fd}')]"
        )
        files = {path for path in found if path.startswith("/")} - {"/dev/null", "/proc/self/fd"}
        assert all("site-packages" in path for path in files)  # fonts
        # Two each to the host, to the tests and for output; one by which forks report.
        assert sum(path.startswith("pipe") for path in found) == 7
        assert not any(path.startswith(("socket", "anon_inode")) for path in found)

    def test_positions_in_files_are_not_shared_with_siblings(self) -> None:
        # The warm parent holds fonts open.
        positions = (
            "import os, stat\n"
            "files = [fd for fd in range(3, 60) if os.path.exists(f'/proc/self/fd/{fd}')\n"
            "         and stat.S_ISREG(os.fstat(fd).st_mode)]\n"
            "found = [os.lseek(fd, 0, os.SEEK_CUR) for fd in files]\n"
            "for fd in files: os.lseek(fd, 12345, os.SEEK_SET)"
        )
        assert 12345 not in answer(positions)
        assert 12345 not in answer(positions)

    def test_links_lead_to_the_sandbox(self) -> None:
        assert attempts("os.symlink('/etc/shadow', 'x') or os.path.exists('x')") == {
            "os.symlink('/etc/shadow', 'x') or os.path.exists('x')": "False"
        }


@in_sandbox
class TestProcesses:
    def test_the_only_processes_are_its_own(self) -> None:
        found = answer(
            "import os\n"
            "found = []\n"
            "for pid in range(3, 40000):\n"
            "    if os.path.exists(f'/proc/{pid}'): found.append(pid)\n"
            "    try: os.kill(pid, 0); found.append(pid)\n"
            "    except ProcessLookupError: pass"
        )
        assert found == []

    def test_memory_of_others_is_closed(self) -> None:
        assert attempts(
            "open('/proc/1/mem')",
            "open('/proc/1/environ')",
            "os.listdir('/proc/1')",
            "call(101, 16, 1, 0, 0)"
            if os.uname().machine == "x86_64"
            else "call(117, 16, 1, 0, 0)",
            "libc.process_vm_readv(1, None, 0, None, 0, 0)",
            "call(438, 3, 0, 0)",
            "call(434, 1, 0)",
        ) == {
            "open('/proc/1/mem')": "FileNotFoundError",
            "open('/proc/1/environ')": "FileNotFoundError",
            "os.listdir('/proc/1')": "FileNotFoundError",
            "call(101, 16, 1, 0, 0)"
            if os.uname().machine == "x86_64"
            else "call(117, 16, 1, 0, 0)": "Operation not permitted",
            "libc.process_vm_readv(1, None, 0, None, 0, 0)": "-1",
            "call(438, 3, 0, 0)": "Function not implemented",
            "call(434, 1, 0)": "Function not implemented",
        }

    def test_signals_reach_nobody_else(self) -> None:
        # The first is its own init, which the kernel shields; -1 is everyone there is to see.
        source = (
            "import os, signal\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "os.kill(1, signal.SIGKILL)\n"
            "try: os.kill(-1, signal.SIGTERM)\n"
            "except ProcessLookupError: found = 'nobody'"
        )
        assert answer(source) == "nobody"
        assert answer("found = 'the parents live, too'")

    def test_siblings_do_not_meet(self) -> None:
        hide = (
            "import os, socket, time\n"
            "for folder in ('/tmp', '/dev/shm', '/home/student'):\n"
            "    open(folder + '/sibling-secret', 'w').close()\n"
            "server = socket.socket(socket.AF_UNIX); server.bind('\\0sibling'); server.listen()\n"
            "master, slave = os.openpty()\n"
            "found = os.ttyname(slave)\n"
            "time.sleep(2)"
        )
        seek = (
            "import glob, os, socket\n"
            "found = glob.glob('/*/sibling-secret') + glob.glob('/*/*/sibling-secret')\n"
            "found += glob.glob('/dev/pts/[0-9]*')\n"
            "try: socket.socket(socket.AF_UNIX).connect('\\0sibling'); found.append('socket')\n"
            "except OSError: pass\n"
            "for pid in range(3, 40000):\n"
            "    try: os.kill(pid, 9); found.append(pid)\n"
            "    except OSError: pass"
        )
        answer("found = 0")
        with ThreadPoolExecutor(2) as pool:
            hidden = pool.submit(answer, hide)
            time.sleep(1)
            assert answer(seek) == []
            assert hidden.result() == "/dev/pts/0"  # of its own terminals

    def test_survivors_do_not_survive(self) -> None:
        # Detached from its session, its parent and its descriptors.
        seconds = f"{os.getpid()}.0625"
        found = answer(
            "import os\n"
            "read, write = os.pipe()\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        os.write(write, b'on')\n"
            f"        os.execv('/bin/sleep', ['sleep', '{seconds}'])\n"
            "    os._exit(0)\n"
            "os.wait()\n"
            "found = os.read(read, 2).decode()"
        )
        assert found == "on"
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert seconds not in path.read_text().split("\0")
            except OSError:
                continue


@in_sandbox
class TestPrivileges:
    def test_none_are_left_and_none_can_be_had(self) -> None:
        status = answer("found = open('/proc/self/status').read()")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[name], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        assert fields["Seccomp"] == "2"
        assert fields["Uid"].split() == ["1000"] * 4

    def test_namespaces_mounts_and_limits(self) -> None:
        refused = attempts(
            "libc.unshare(0x10000000)",
            "libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0)",
            "libc.umount2(b'/proc', 2)",
            "libc.setns(0, 0)",
            "libc.chroot(b'/tmp')",
            "libc.memfd_create(b'x', 0)",
            "libc.shmget(0, 4096, 0o1600)",
            "libc.acct(None)",
        )
        assert set(refused.values()) == {"-1"}
        raised = attempts(
            "__import__('resource').setrlimit(7, (10**6, 10**6))",
            "__import__('resource').setrlimit(9, (-1, -1))",
            "os.setuid(0)",
            "os.chroot('/')",
            "os.mknod('x', 0o60600, 0x801)",
        )
        assert set(raised.values()) <= {"ValueError", "PermissionError", "OSError"}

    def test_clone_cannot_make_namespaces(self) -> None:
        if os.uname().machine != "x86_64":
            pytest.skip("the number of the call is for x86_64")
        found = attempts("call(56, 0x10000000 | 17, 0, 0, 0, 0)", "call(435, 0, 0)")
        assert list(found.values()) == ["Operation not permitted", "Function not implemented"]


@in_sandbox
class TestWithheld:
    @pytest.fixture
    def packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A package whose module `answers` is to be withheld, in a folder with other things."""
        package = tmp_path / "lessons"
        (package / "deep").mkdir(parents=True)
        (package / "__init__.py").write_text(
            "from lessons.answers import solve\nfrom lessons.deep import low\n"
        )
        (package / "answers.py").write_text("def solve(): return 'the solution'\n")
        (package / "free.py").write_text(
            "from lessons.answers import solve\ndef help(): return 3\n"
        )
        (package / "deep" / "__init__.py").write_text("from lessons.deep.inner import low\n")
        (package / "deep" / "inner.py").write_text("def low(): return 'the solution'\n")
        (tmp_path / "gradebook.db").write_text("secret")
        monkeypatch.syspath_prepend(str(tmp_path))
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(package)], check=True)
        return tmp_path

    @pytest.mark.slow
    def test_used_it_says_why_and_its_files_are_gone(self, packages: Path) -> None:
        found = answer(
            "import glob, lessons, lessons.deep.inner, lessons.free\n"
            "found = [lessons.free.help()]\n"
            "for use in (lessons.solve, lessons.free.solve, lessons.low, lessons.deep.inner.low):\n"
            "    try: found.append(use())\n"
            "    except RuntimeError as error: found.append(str(error))\n"
            "for file in glob.glob('/packages/**/*', recursive=True):\n"
            "    try:\n"
            "        if b\"'the solution'\" in open(file, 'rb').read(): found.append(file)\n"
            "    except OSError: pass\n"
            "found.append(glob.glob('/packages/lessons/../*'))",
            imports=("lessons",),
            withheld=("lessons.answers", "lessons.deep"),
        )
        assert found[0] == 3
        assert found[1] == (
            "lessons.answers.solve cannot be used in a graded run: the exercise asks for your own."
        )
        assert all("cannot be used in a graded run" in text for text in found[1:5])
        assert sorted(found[5]) == [
            "/packages/lessons/../autograder",
            "/packages/lessons/../lessons",
        ]

    @pytest.mark.slow
    def test_the_tests_have_the_real_one(self, packages: Path) -> None:
        cells = (
            Cell("student", "student", "import lessons"),
            Cell("test", "test", "import lessons\nassert lessons.solve() == 'the solution'\n0.5"),
        )
        job = Job(cells, imports=("lessons",), withheld=("lessons.answers", "lessons.deep"))
        result = Result.from_bytes(execute(job.to_bytes()))
        assert result.cells[1].outputs[0]["data"]["text/plain"] == "0.5"

    @pytest.mark.slow
    def test_without_a_sandbox_it_cannot_be_imported_either(self, packages: Path) -> None:
        source = "import lessons\nlessons.solve()"
        job = Job(
            (Cell("a", "student", source),), imports=("lessons",), withheld=("lessons.answers",)
        )
        result = Result.from_bytes(execute(job.to_bytes(), isolated=False))
        assert "cannot be used" in result.cells[0].outputs[0]["evalue"]

    @pytest.mark.slow
    def test_a_changed_package_is_imported_anew(self, packages: Path) -> None:
        found = "import lessons.free\nfound = lessons.free.help()"
        assert answer(found, imports=("lessons.free",)) == 3
        (packages / "lessons" / "free.py").write_text("def help(): return 'changed'\n")
        assert answer(found, imports=("lessons.free",)) == "changed"

    def test_a_compiled_module_is_refused(self) -> None:
        with pytest.raises(SandboxError, match="not written in Python"):
            sandbox.command("student", 3, withheld=("numpy._core._multiarray_umath",))


class TestRefusals:
    def test_no_bubblewrap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(SandboxError, match="apt-get install bubblewrap"):
            sandbox.command("student", 3)
        problem.cache_clear()
        assert "apt-get install bubblewrap" in str(problem())
        problem.cache_clear()

    @in_sandbox
    def test_a_bubblewrap_without_nested_user_namespaces_is_told(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        real = shutil.which("bwrap")
        shim = tmp_path / "bwrap"
        shim.write_text(f'#!/bin/sh\nexec {real} --unshare-user --disable-userns "$@"\n')
        shim.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name: str(shim))
        problem.cache_clear()
        told = str(problem())
        problem.cache_clear()
        assert "no user namespaces inside it" in told
        assert "apparmor-profile" in told

    def test_a_bubblewrap_that_may_not(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        fake = tmp_path / "bwrap"
        fake.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
        fake.chmod(0o755)
        monkeypatch.setattr(shutil, "which", lambda name: str(fake))
        problem.cache_clear()
        with pytest.raises(SandboxError, match=r"No permissions to create.*\n.*user namespaces"):
            execute(Job((), imports=("json",)).to_bytes())
        problem.cache_clear()

    def test_an_unknown_machine(self) -> None:
        with pytest.raises(ValueError, match="no seccomp filter for 'vax'"):
            seccomp_program("vax")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_decides_as_listed(machine: str) -> None:
    """The program, run here by a small interpreter of classic BPF."""
    program = seccomp_program(machine)
    arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    names = {"x86_64": (56, 41, 101, 0), "aarch64": (220, 198, 117, 63)}[machine]
    clone, make_socket, ptrace, read = names
    allow, kill = 0x7FFF0000, 0x80000000
    no, missing, family = 0x50001, 0x50026, 0x50061
    for number, argument, wanted in (
        (read, 3, allow),
        (ptrace, 0, no),
        (clone, 17, allow),
        (clone, 0x3D0F00, allow),  # what pthread_create asks for
        (clone, 0x10000011, no),
        (clone, 0x40000000, no),
        (make_socket, 1, allow),
        (make_socket, 2, family),
        (425, 0, missing),  # io_uring_setup
        (435, 0, missing),  # clone3
        (436, 0, allow),  # close_range
        (1000, 0, missing),
    ):
        assert decision(program, number, arch, argument) == wanted, (number, argument)
    assert decision(program, read, 0x40000003, 0) == kill
    if machine == "x86_64":
        assert decision(program, 0x40000000 | 520, arch, 0) == missing


def decision(program: bytes, number: int, arch: int, *arguments: int) -> int:
    import struct

    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    statements = list(struct.iter_unpack("=HBBI", program))
    at, register = 0, 0
    while True:
        code, yes, no, k = statements[at]
        at += 1
        if code == 0x20:
            (register,) = struct.unpack_from("=I", data, k)
        elif code == 0x06:
            return int(k)
        else:
            holds = {0x15: register == k, 0x35: register >= k, 0x45: bool(register & k)}[code]
            at += yes if holds else no


@pytest.mark.slow
@in_sandbox
def test_everything_ends_with_the_host(tmp_path: Path) -> None:
    """A host that is killed leaves neither parents nor forks."""
    seconds = f"{os.getpid()}.03125"
    source = f"import os; os.execv('/bin/sleep', ['sleep', '{seconds}'])"
    job = Job((Cell("a", "student", source),))
    (tmp_path / "job").write_bytes(job.to_bytes())
    host = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys; from autograder.execute.run import execute;"
            f"execute(pathlib.Path({str(tmp_path / 'job')!r}).read_bytes())",
        ],
        cwd=Path(sandbox.__file__).parents[2],
    )

    def sleeping() -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if seconds in path.read_text().split("\0"):
                    return True
            except OSError:
                continue
        return False

    def waited(wanted: bool) -> bool:
        end = time.monotonic() + 30
        while sleeping() != wanted and time.monotonic() < end:
            threading.Event().wait(0.05)
        return sleeping() == wanted

    try:
        assert waited(True)
    finally:
        host.kill()
        host.wait()
    assert waited(False)


@in_sandbox
def test_python_may_be_called_by_a_path_from_elsewhere(
    tmp_path: Path,
) -> None:
    python = f"{os.path.relpath(sys.prefix, tmp_path)}/bin/python"
    code = (
        "import sys; from autograder.execute.run import execute; from autograder.job import *; "
        "cell = Cell('a', 'student', 'import numpy; print(numpy.zeros(2))'); "
        "assert '..' in sys.executable; "
        "print(Result.from_bytes(execute(Job((cell,), imports=('numpy',)).to_bytes())).cells[0])"
    )
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "[0. 0.]" in done.stdout, done.stderr
