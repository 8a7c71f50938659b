"""A Dask cluster: no jobs without TLS, none to a worker that cannot run them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import Cluster, cluster

from autograder import cluster as module
from autograder.__main__ import main
from autograder.cluster import executor, workers
from autograder.course import Course, CourseError
from autograder.execute.pool import Pool
from autograder.execute.sandbox import problem

pytest.importorskip("distributed")

in_sandbox = pytest.mark.skipif(problem() is not None, reason=str(problem()))


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a worker whose bubblewrap allows no namespaces inside its own."""
    folder = tmp_path_factory.mktemp("shim")
    (folder / "bwrap").write_text(
        f'#!/bin/sh\nexec {shutil.which("bwrap")} --unshare-user --disable-userns "$@"\n'
    )
    (folder / "bwrap").chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as made:
        yield made


def until(holds: Callable[[], object]) -> None:
    """Waits, but not for ever."""
    end = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.2)


def found(address: str, n: int) -> dict[str, str | None]:
    """What the workers lack, once there are so many."""
    until(lambda: len(dict(workers(address))) >= n)
    return dict(workers(address))


@pytest.mark.parametrize(
    "command", [["doctor"], ["grade", "ps1"], ["grade", "ps1", "--no-sandbox"]]
)
@pytest.mark.parametrize(
    "address",
    ["tcp://192.0.2.1:8786", "tcp://scheduler:8786", "scheduler:8786", "ws://192.0.2.1:1"],
)
def test_off_this_machine_there_has_to_be_tls(
    command: list[str], address: str, course: Course, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--dask", address, "--course", str(course.root)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "TLS" in line
    assert "distributed.comm.tls" in line
    assert line.endswith(f"tls://{address.rpartition('://')[2]}")


def test_an_address_that_is_none(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", "ps1", "--dask", "nonsense", "--course", str(course.root)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "nonsense" in line


@in_sandbox
@pytest.mark.slow
def test_each_worker_is_looked_at_and_only_the_able_get_jobs(
    local: Cluster,
    shim: dict[str, str],
    tmp_path: Path,
    course: Course,
    submit: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import platform\nplatform.python_version = lambda: '3.0.1'\n"
    )
    able = local.worker("--name", "able")
    local.worker(**shim)
    local.worker(PYTHONPATH=str(tmp_path))
    lacks = sorted(str(what) for what in found(local.address, 3).values())
    assert lacks[0] == "None"
    assert "no user namespaces inside it" in lacks[1]
    assert "Python 3.0.1 (here " in lacks[2]

    here = ["--course", str(course.root), "--dask", local.address]
    assert main(["doctor", *here]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "worker tcp://" in line]
    assert sorted(line.split()[0] for line in lines) == ["LACKS", "LACKS", "ok"]

    told: list[str] = []
    with executor(local.address, True, told.append) as dask:
        pids = {future.result(60) for future in [dask.submit(os.getpid) for _ in range(30)]}
    assert pids == {able.pid}
    assert len(told) == 2

    submit("ada")
    assert main(["grade", "ps1", *here]) == 0
    assert sum("gets no job: " in line for line in capsys.readouterr().err.splitlines()) == 2
    assert course.auto_scores("ps1")["ada"]


@in_sandbox
@pytest.mark.slow
def test_where_no_worker_has_a_sandbox_nothing_is_graded(
    local: Cluster,
    shim: dict[str, str],
    course: Course,
    submit: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    submit("ada")
    local.worker(**shim)
    here = ["--course", str(course.root), "--dask", local.address]
    assert main(["grade", "ps1", *here]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert "no user namespaces inside it" in lines[0]
    assert lines[-1] == f"no worker of the Dask scheduler at {local.address} can run jobs"
    assert course.auto_scores("ps1") == {}
    assert main(["grade", "ps1", *here, "--no-sandbox"]) == 0
    assert course.auto_scores("ps1")["ada"]


@in_sandbox
@pytest.mark.slow
def test_jobs_of_a_worker_that_is_gone_go_to_the_next_that_is_able(
    local: Cluster, shim: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 5)
    first = local.worker()
    told: list[str] = []
    with executor(local.address, True, told.append) as dask:
        waiting = [dask.submit(time.sleep, 600) for _ in range(2)]
        local.worker(**shim)
        later = local.worker()
        until(lambda: told and len(dask.usable) == 2)
        first.kill()
        until(lambda: all(future.cancelled() for future in waiting))  # their worker is gone
        assert dask.submit(os.getpid).result(60) == later.pid
        later.kill()
        until(lambda: not dask.usable)
        with pytest.raises(BrokenExecutor, match="gone"):
            dask.submit(os.getpid)
    assert len(told) == 1


@in_sandbox
@pytest.mark.slow
def test_no_job_is_waited_for_in_vain(local: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed.cfexecutor import ClientExecutor

    monkeypatch.setattr(module, "_PATIENCE", 5)
    local.worker()
    with executor(local.address, True, print) as dask:
        with monkeypatch.context() as forgetful:
            forgetful.setattr(ClientExecutor, "submit", lambda *_, **__: Future())
            lost = dask.submit(os.getpid)
        with pytest.raises(CancelledError, match="no worker has the job"):
            lost.result(60)
        long = dask.submit(time.sleep, 15)  # longer than it may be lost
        assert long.result(60) is None
        long = dask.submit(time.sleep, 600)
        local.processes[0].kill()
        with pytest.raises((BrokenExecutor, CancelledError)):
            long.result(120)


def test_what_an_executor_drops_twice_is_no_fault_of_the_submission() -> None:
    class Dropping(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    pool = Pool(Dropping())
    pool.submit("key", b"job")
    with pytest.raises(BrokenExecutor):
        next(pool.completed())


@pytest.mark.slow
def test_a_worker_that_jobs_would_reach_without_tls_gets_none(local: Cluster) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but its loopback's")
        own = probe.getsockname()[0]
    local.worker("--host", own)
    (lacks,) = found(local.address, 1).values()
    assert "without TLS" in str(lacks)
    with pytest.raises(CourseError, match="can run jobs"), executor(local.address, False, print):
        pass


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Dask's variables for a certificate that vouches for itself."""
    if shutil.which("openssl") is None:
        pytest.fail("there is no openssl: `make system` finds or installs it")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    line += ["-subj", "/CN=dask", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(line, check=True, capture_output=True)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    roles = ("SCHEDULER", "WORKER", "CLIENT")
    named = {f"{tls}{role}__CERT": str(cert) for role in roles}
    named |= {f"{tls}{role}__KEY": str(key) for role in roles}
    return {**named, f"{tls}CA_FILE": str(cert)}


@in_sandbox
@pytest.mark.slow
def test_a_class_is_graded_by_tls(
    certificates: dict[str, str],
    tmp_path: Path,
    course: Course,
    submit: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    submit("ada")
    with cluster(tmp_path, "--protocol", "tls", **certificates) as made:
        made.worker("--protocol", "tls")
        here = ["grade", "ps1", "--course", str(course.root), "--dask", made.address]
        assert made.address.startswith("tls://")
        assert main(here) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"no certificates for {made.address}")
        done = subprocess.run(
            [sys.executable, "-m", "autograder", *here],
            env={**os.environ, **certificates},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert course.auto_scores("ps1")["ada"]
