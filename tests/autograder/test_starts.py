"""What cannot be started ends itself, not the class; and no start outlives its host."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autograder.execute import halves, sandbox
from autograder.execute.parents import Parent
from autograder.execute.run import execute
from autograder.execute.sandbox import SandboxError
from autograder.job import Cell, Job, Result, told

from .test_sandbox import IMPORTS, LIMITS, in_sandbox


def job(**files: bytes) -> bytes:
    return Job((Cell("a", "student", "1"),), files, LIMITS, IMPORTS).to_bytes()


@in_sandbox
class TestForksThatDoNotStart:
    @pytest.fixture
    def starts(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Keeps submissions with a file `bad` from starting, and notes who starts."""
        start, seen = halves.Halves.start, []

        def refuse(run: halves.Halves) -> bool:
            seen.extend([*run._job.files] or ["none"])
            if {"bad", *(["none"] if "all" in seen else [])} & {*seen[-1:]}:
                raise SandboxError("it did not start in time")
            return start(run)

        monkeypatch.setattr(halves.Halves, "start", refuse)
        return seen

    def test_one_alone_is_set_aside_with_a_reason(self, starts: list[str]) -> None:
        result = Result.from_bytes(execute(job(bad=b"")))
        assert (result.reason, result.cells[0].reason) == ("not started", "not started")
        assert starts == ["bad", "bad", "none"]
        assert Result.from_bytes(execute(job(good=b""))).reason is None

    def test_where_nothing_starts_the_run_ends(self, starts: list[str]) -> None:
        starts.append("all")
        with pytest.raises(SandboxError, match="in time"):
            execute(job(bad=b""))


def test_many_lines_are_few_and_a_number() -> None:
    lines = [f"the file {i} {'x' * 1000}" for i in range(2000)]
    found = told(lines + lines)
    assert len(found) == 21
    assert all(len(line) <= 500 for line in found)
    assert found[-1] == "... and 1980 more like these"
    assert told(["a", "b", "a"]) == ["a", "b"]


def test_a_parent_that_is_closed_while_it_starts_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where bubblewrap is ended before its child has asked to die with it, and waits for it."""
    shim = tmp_path / "bwrap"
    seconds = f"{os.getpid()}.0625"
    shim.write_text(f"#!/bin/bash\n/bin/sleep {seconds} & echo > {tmp_path}/begun; wait\n")
    shim.chmod(0o755)
    monkeypatch.setattr(sandbox, "_bwrap", lambda: str(shim))
    with ThreadPoolExecutor(1) as starter:
        parent = Parent("tests", (), (), True, starter)
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        parent.close()
    lines = Path("/proc").glob("[0-9]*/cmdline")
    left = []
    for line in lines:
        with contextlib.suppress(OSError):
            left.append(seconds.encode() in line.read_bytes())
    assert not any(left)


@in_sandbox
@pytest.mark.slow
def test_a_sandbox_that_missed_its_hosts_end_ends_by_itself(tmp_path: Path) -> None:
    """As where the host is killed before bubblewrap has asked to die with it."""
    module = f"sleeper_{os.getpid()}"
    (tmp_path / f"{module}.py").write_text("import time\ntime.sleep(40)\n")
    deaf = tmp_path / "bwrap"
    deaf.write_text(
        '#!/bin/bash\nfor a; do shift; [ "$a" = --die-with-parent ] || set -- "$@" "$a"; done\n'
        'PATH=/usr/bin:/bin exec bwrap "$@"\n'
    )
    deaf.chmod(0o755)
    code = (
        "from autograder.execute.run import execute; from autograder.job import Job;"
        f"execute(Job((), imports=({module!r},)).to_bytes())"
    )
    root = Path(sandbox.__file__).parents[2]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": f"{root}:{tmp_path}"}
    host = subprocess.Popen([sys.executable, "-c", code], env=os.environ | path)

    def left() -> list[bytes]:
        found = []
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                text = line.read_bytes()
            except OSError:
                continue
            if module.encode() in text and line.parent.name != str(host.pid):
                found.append(text)
        return found

    def waited(wanted: bool, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while bool(left()) != wanted and time.monotonic() < end:
            time.sleep(0.05)
        return bool(left()) == wanted

    try:
        assert waited(True, 20)
        time.sleep(2)  # so that it imports, and would do so for long
        assert host.poll() is None
    finally:
        host.kill()
        host.wait()
    assert waited(False, 8)


@in_sandbox
@pytest.mark.slow
def test_files_are_held_a_few_times_and_no_more() -> None:
    """What a submission brings, and the job's bytes of it, but nothing that is made for sending."""
    code = """
from pathlib import Path
from autograder.execute.run import execute
from autograder.job import Cell, Job, Limits
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
before, size = peak(), 48 * 2**20
job = Job((Cell("a", "student", "1"),), {"large": bytes(size)}, Limits(memory=2**30))
execute(job.to_bytes())
print((peak() - before) / size)
"""
    root = Path(sandbox.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1 < float(done.stdout) < 4
