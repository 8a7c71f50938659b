"""A submission may call what notebooks need, and nothing that leads out of its sandbox."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

from autograder.execute.run import execute
from autograder.inside.calls import CALLS, FIRST_COMMON
from autograder.inside.seccomp import seccomp_program
from autograder.job import Cell, Job, Limits, Result

from .honest import KINDS
from .test_sandbox import IMPORTS, answer, attempts, decision, in_sandbox

LIMITS = Limits(cell_seconds=60, total_seconds=120, memory=2**31)
ALLOW, NO, MISSING, AS_IF_DONE = 0x7FFF0000, 0x50001, 0x50026, 0x50000


@pytest.mark.slow
@in_sandbox
@pytest.mark.parametrize("kind", KINDS)
def test_honest_notebooks_run(kind: str) -> None:
    source = textwrap.dedent(KINDS[kind])
    job = Job((Cell("a", "student", source),), limits=LIMITS, imports=IMPORTS)
    result = Result.from_bytes(execute(job.to_bytes()))
    found = [item for item in result.cells[0].outputs if item["output_type"] == "error"]
    assert (result.reason, found) == (None, [])


@in_sandbox
class TestChannels:
    def test_the_hosts_network_namespace_is_out_of_reach(self) -> None:
        name = f"autograder-test-{os.getpid()}"
        found = answer(
            "import os, socket\n"
            "kinds = {os.readlink(f'/proc/self/fd/{fd}').split(':')[0] for fd in range(3, 256)\n"
            "         if os.path.exists(f'/proc/self/fd/{fd}')}\n"
            "taken = []\n"
            "for fd in range(256):\n"
            "    try: fd = os.dup(fd)\n"
            "    except OSError: continue\n"
            "    try: socket.socket(1, 1, 0, fd).getpeername(); taken.append(fd)\n"
            "    except OSError: os.close(fd)\n"
            f"own = socket.socket(socket.AF_UNIX); own.bind('\\0{name}')\n"
            "found = 'socket' in kinds, taken, os.readlink('/proc/self/ns/net')"
        )
        assert found[:2] == [False, []]
        assert found[2] != str(Path("/proc/self/ns/net").readlink())
        assert name not in Path("/proc/net/unix").read_text()

    def test_what_tells_of_others_on_shared_files(self) -> None:
        found = attempts(
            "__import__('fcntl').flock(open(sys.executable), 2)",
            "libc.inotify_init1(0) + libc.inotify_init()",
            "libc.fanotify_init(0, 0)",
            "__import__('fcntl').fcntl(os.open('/usr', 0), 1026, 1)",
            "__import__('fcntl').fcntl(open(sys.executable), 1024, 0)",
        )
        assert [*found.values()] == ["PermissionError", "-2", "-1", *["PermissionError"] * 2]

    def test_locks_of_others_are_not_told(self) -> None:
        file = Path(sys.executable)
        ask = (
            "import fcntl, os, struct, sys\n"
            "lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)\n"
            "with open(sys.executable) as file:\n"
            "    found = fcntl.fcntl(file, fcntl.F_GETLK, lock) == lock"
        )
        with file.open() as held:
            assert answer(ask)
            fcntl.lockf(held, fcntl.LOCK_SH)
            assert answer(ask)

    def test_no_pidfd_of_the_grader(self) -> None:
        found = answer(
            "import os, socket\n"
            "found = []\n"
            "for fd in range(256):\n"
            "    try: found.append(socket.socket(1, 1, 0, os.dup(fd)).getsockopt(1, 77))\n"
            "    except OSError: pass"
        )
        assert found == []

    def test_its_own_standing_with_the_kernel(self) -> None:
        found = attempts(
            "open('/proc/self/oom_score_adj', 'w').write('0')",
            "open('/proc/self/autogroup', 'w').write('-20')",
            "libc.prctl(4, 0, 0, 0, 0)",
            "libc.sched_setaffinity(0, 8, bytes([255] * 8))",
            "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
            "os.nice(-5)",
            "os.setsid() == os.getsid(0)",  # as if it was done
            "libc.sync_file_range(0, 0, 0, 0)",
        )
        assert [*found.values()] == [
            "OSError",
            "OSError",
            "-1",
            "-1",
            "PermissionError",
            "PermissionError",
            "False",
            "-1",
        ]


@in_sandbox
class TestMemoryOfTheKernel:
    @pytest.mark.parametrize(
        "source",
        [
            "for i in range(9):\n"
            '    with open(f\'{["/tmp", "/dev/shm", "."][i % 3]}/{i}\', \'wb\') as file:\n'
            "        for _ in range(60): file.write(bytes(2**20))",
            "import os, socket\n"
            "for _ in range(15):\n"
            "    if os.fork() == 0: break\n"
            "held = [socket.socketpair() for _ in range(100)]",
        ],
        ids=["files", "sockets"],
    )
    def test_files_and_sockets_count(self, source: str) -> None:
        source = f"{source}\nimport time; time.sleep(9)"
        limits = Limits(cell_seconds=20, total_seconds=60, memory=2**28)
        job = Job((Cell("a", "student", source),), limits=limits, imports=IMPORTS)
        assert Result.from_bytes(execute(job.to_bytes())).reason == "out of memory"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
class TestFilter:
    """The program, run here by a small interpreter of classic BPF."""

    def test_what_is_not_listed_is_refused(self, machine: str) -> None:
        arch = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
        program = seccomp_program(machine)
        listed = {numbers[machine == "aarch64"] for numbers in CALLS.values()}
        for number in range(600):
            found = decision(program, number, arch, 1)
            if number not in listed:
                assert found == (NO if number < FIRST_COMMON else MISSING), number
            else:
                assert found in (ALLOW, AS_IF_DONE, *([NO] if number in (157, 167) else [])), number

    def test_numbers_are_the_kernels(self, machine: str) -> None:
        headers = {
            "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
            "aarch64": "/usr/include/asm-generic/unistd.h",
        }
        header = Path(headers[machine])
        if not header.exists():
            pytest.skip("the kernel's headers are not installed")
        text = header.read_text()
        found = {n: int(v) for _, n, v in re.findall(r"#define __NR(3264)?_(\w+) (\d+)", text)}
        for name, other in re.findall(r"#define __NR_(\w+) __NR3264_(\w+)", text):
            found[name] = found.get(other, -1)
        for name, numbers in CALLS.items():
            number = numbers[machine == "aarch64"]
            if number is not None and name != "fchmodat2":  # newer than many headers
                assert found[name] == number, name
