"""Nobody takes a neighbour's time: where jobs run, by which clock, and what a hog changes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autograder import grade as grading
from autograder.execute import cgroup, parents, place, processes
from autograder.execute.cgroup import Group
from autograder.execute.clock import PATIENCE, Clock, Reading
from autograder.execute.place import Core, Place
from autograder.execute.pool import Pool
from autograder.execute.processes import Memory
from autograder.execute.run import execute
from autograder.execute.sandbox import problem
from autograder.job import Cell, CellResult, Job, Limits, Result

in_sandbox = pytest.mark.skipif(problem() is not None, reason=str(problem()))
IMPORTS = ("torch", "numpy", "matplotlib.pyplot")  # as in test_execute: the same warm parents
WORK = (
    "import time\n"
    "start = time.process_time()\n"
    "while time.process_time() - start < {}: pass\n"
    "print('done')"
)
SPIN = "while True: pass"
HOG = (
    "import os\n"
    "for _ in range(60):\n"
    "    if os.fork() == 0:\n"
    "        for ask in (os.setsid, lambda: os.sched_setaffinity(0, range(64))):\n"
    "            try: ask()\n"
    "            except OSError: pass\n"
    f"        {SPIN}\n"
    f"{SPIN}"
)


def made(source: str, seconds: float, note: object = "") -> bytes:
    cell = Cell("a", "student", f"{source}\n# {note}")
    limits = Limits(cell_seconds=seconds, total_seconds=60, memory=2**30)
    return Job((cell,), limits=limits, imports=IMPORTS).to_bytes()


def run(source: str, seconds: float) -> Result:
    return Result.from_bytes(execute(made(source, seconds)))


@pytest.fixture(params=["with cgroups", "without"])
def any_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as this machine is, and once as one without cgroups."""
    if request.param == "without":
        monkeypatch.setattr(place, "new_group", lambda limits: None)
    elif cgroup.delegated() is None:
        pytest.skip("this machine gives us no cgroup")


@pytest.fixture
def spinning() -> Iterator[Callable[..., int]]:
    """Starts processes that spin, on a core."""
    started = []

    def spin(core: int, source: str = SPIN) -> int:
        process = subprocess.Popen([sys.executable, "-c", source])
        started.append(process)
        os.sched_setaffinity(process.pid, {core})
        return process.pid

    yield spin
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
@in_sandbox
@pytest.mark.usefixtures("any_machine")
class TestBesideAHog:
    def test_an_honest_job_has_its_time(self) -> None:
        run("1", 20)
        pool = Pool(workers=2)
        pool.submit("hog", made(HOG, 2))
        time.sleep(0.5)
        for i in range(2):
            pool.submit(f"honest-{i}", made(WORK.format(0.5), 1.5, i))
        found = {}
        while len(found) < 3:
            found.update(pool.completed())
        pool.close()
        assert found.pop("hog").reason == "timeout"
        assert [result.reason for result in found.values()] == [None, None]

    def test_what_others_take_of_the_core_does_not_count(
        self, spinning: Callable[..., int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run("1", 20)
        core = min(os.sched_getaffinity(0))
        monkeypatch.setattr(Core, "number", core, raising=False)
        monkeypatch.setattr(Core, "__init__", lambda self: setattr(self, "_lock", None))
        for _ in range(3):
            spinning(core)
        result = run(WORK.format(0.8), 1)  # of a core that is shared, halved at least
        assert result.cells[0].seconds > 1.2
        assert result.starved > 0.5
        assert result.reason is None
        assert run("import time; time.sleep(60)", 1).reason == "timeout"
        assert run(SPIN, 0.5).reason == "timeout"


@in_sandbox
class TestPlace:
    def test_a_job_has_one_core_and_comes_after_the_grader(self) -> None:
        result = run("import os\nlen(os.sched_getaffinity(0)), os.nice(0)", 20)
        shown = result.cells[0].outputs[-1]["data"]["text/plain"]
        assert shown == f"(1, {os.nice(0) + 2})"

    def test_no_process_leaves_its_core(self) -> None:
        run("1", 20)
        result = run("import os\nos.sched_setaffinity(0, range(64))", 20)
        assert result.cells[0].outputs[-1]["ename"] == "PermissionError"

    @pytest.mark.slow
    @pytest.mark.parametrize(("does", "nice"), [("pass", 19), ("time.sleep(0.1)", os.nice(0) + 2)])
    def test_a_crowd_that_wants_the_core_weighs_little(self, does: str, nice: int) -> None:
        many = (
            "import os, time\n"
            "end = time.monotonic() + 3\n"
            "for _ in range(12):\n"
            "    if os.fork() == 0:\n"
            f"        while time.monotonic() < end: {does}\n"
            "        os._exit(0)\n"
            "while os.nice(0) < 19 and time.monotonic() < end: time.sleep(0.05)\n"
            "os.nice(0)"
        )
        result = run(many, 20)
        assert result.cells[0].outputs[-1]["data"]["text/plain"] == str(nice)

    def test_processes_that_end_while_they_are_counted_take_no_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = Memory(os.getpid(), limit=0, isolated=False)
        resident = iter([2**30, 2**30, 2**20, 0])
        of_file = {"status": lambda: next(resident), "smaps_rollup": lambda: 0}
        monkeypatch.setattr(processes, "_field", lambda pid, file, names: of_file[file]())
        memory._inherited = 0
        assert memory.used([1, 2]) == 2**20

    def test_cores_are_one_jobs_each_as_long_as_there_are_enough(self) -> None:
        free = len(os.sched_getaffinity(0))
        cores = [Core() for _ in range(free + 1)]
        try:
            held = [core.number for core in cores if core._lock is not None]
            assert len(held) == len(set(held))
            assert {core.number for core in cores} <= os.sched_getaffinity(0)
            other = "from autograder.execute.place import Core; print(Core()._lock)"
            done = subprocess.run(
                [sys.executable, "-c", other], capture_output=True, text=True, check=True
            )
            assert done.stdout == "None\n"
        finally:
            for core in cores:
                core.close()


@in_sandbox
class TestProcessGroups:
    def test_signals_to_its_group_reach_no_sibling_and_no_parent(self) -> None:
        run("1", 20)
        before = parents.here().pair(IMPORTS, (), True)
        with ThreadPoolExecutor(1) as pool:
            neighbour = pool.submit(run, "import time; time.sleep(1)\nprint('done')", 20)
            time.sleep(0.4)
            assert run("import os; os.kill(0, 9)", 20).reason == "crashed"
            assert run("import os; os.killpg(0, 9)", 20).reason == "crashed"
            assert neighbour.result().reason is None
        assert parents.here().pair(IMPORTS, (), True) == before


class TestClock:
    @staticmethod
    def clock(pids: list[int]) -> Clock:
        return Clock(lambda: pids, lambda: None)

    def test_it_runs_while_a_process_sleeps(self) -> None:
        process = subprocess.Popen(["sleep", "9"])
        clock = self.clock([process.pid])
        since = clock.read()
        time.sleep(0.5)
        assert 0.4 < clock.spent(since) < 0.7
        process.kill()
        process.wait()
        time.sleep(0.1)
        assert clock.read().used >= since.used

    @pytest.mark.slow
    def test_a_thread_that_queues_behind_others_of_the_job_is_not_starved(
        self, spinning: Callable[..., int]
    ) -> None:
        core = max(os.sched_getaffinity(0))
        four = "import os\nif os.fork(): os.fork()\nelse: os.fork()\nwhile True: pass"
        first = spinning(core, four)
        time.sleep(0.5)

        def tree() -> list[int]:
            found = [first]
            for pid in found:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += map(int, children.split())
            return found

        clock = Clock(tree, lambda: None)
        since = clock.read()
        for _ in range(10):
            time.sleep(0.1)
            now = clock.read()
        used, starved = now.used - since.used, now.starved - since.starved
        # Others may be on this machine: what is not used was starved, and nothing else was.
        assert starved <= now.wall - since.wall - used + 0.2
        for pid in tree()[1:]:
            os.kill(pid, 9)

    def test_patience_has_an_end(self) -> None:
        class Starving(Clock):
            def read(self) -> Reading:
                return Reading(self.at, 0.0, self.at)

            at = 0.0

        clock = Starving(list, lambda: None)
        since = clock.read()
        clock.at = 6.0
        assert clock.spent(since) == 6.0 / PATIENCE


class TestPool:
    """A timeout in which neighbours had a part is not believed before the job has run alone."""

    @pytest.mark.parametrize(
        ("starved", "second", "runs"),
        [(0.0, None, 1), (2.0, None, 2), (2.0, "timeout", 2)],
    )
    def test_a_starved_timeout_is_run_once_more_and_alone(
        self, starved: float, second: str | None, runs: int
    ) -> None:
        lock, running, beside = threading.Lock(), set(), []

        def fake(job: bytes, isolated: bool) -> bytes:
            name = job.decode()
            with lock:
                running.add(name)
                if name == "slow":
                    beside.append(len(running))
            time.sleep(0.2)
            with lock:
                running.discard(name)
            reason = None
            if name == "slow":
                reason = "timeout" if len(beside) == 1 else second
            cells = [CellResult("a", reason=reason)]  # type: ignore[arg-type]
            return Result(cells, reason, seconds=10, starved=starved).to_bytes()  # type: ignore[arg-type]

        pool = Pool(workers=2, execute=fake)
        pool.submit("slow", b"slow")
        for i in range(4):
            pool.submit(f"other-{i}", b"other-%d" % i)
        found: dict[str, Result] = {}
        while len(found) < 5:
            found.update(pool.completed())
        pool.close()
        assert len(beside) == runs
        assert found["slow"].reason == ("timeout" if runs == 1 else second)
        if runs == 2:
            assert beside[1] == 1
        assert not pool.running


class TestCgroup:
    """With a folder in the place of the kernel's, as it is where all controllers are given."""

    FILES = ("cgroup.procs", "cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max")

    @pytest.fixture
    def group(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
        make = Path.mkdir

        def mkdir(folder: Path) -> None:
            make(folder)
            for name in self.FILES:
                (folder / name).touch()

        monkeypatch.setattr(Path, "mkdir", mkdir)
        return Group(tmp_path / "job", Limits(memory=2**30, processes=64))

    def test_a_job_has_one_core_its_memory_and_its_processes(
        self, group: Group, tmp_path: Path
    ) -> None:
        wrote = {name: (tmp_path / "job" / name).read_text() for name in self.FILES}
        assert wrote["cpu.weight"] == "100"
        assert wrote["cpu.max"] == "100000 100000"
        assert 2 * 2**30 < int(wrote["memory.max"]) < 3 * 2**30
        assert wrote["memory.swap.max"] == "0"
        assert 128 <= int(wrote["pids.max"]) < 150
        assert group.add(123)
        assert (tmp_path / "job" / "cgroup.procs").read_text() == "123"

    def test_what_it_tells(self, group: Group, tmp_path: Path) -> None:
        folder = tmp_path / "job"
        assert (group.used(), group.starved(), group.ran_out_of_memory()) == (None, None, False)
        (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
        (folder / "cpu.pressure").write_text(
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=250000\n"
        )
        (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\noom_group_kill 0\n")
        assert (group.used(), group.starved(), group.ran_out_of_memory()) == (1.5, 0.25, True)

    @pytest.mark.parametrize("crowded", [False, True])
    def test_the_grader_makes_way_for_controllers(
        self, crowded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.type"):
            (tmp_path / name).touch()
        (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids")
        leaf = tmp_path / f"autograder-host-{os.getpid()}"
        write = Path.write_text

        def as_the_kernel(path: Path, text: str) -> int:
            if crowded and path.name == "cgroup.subtree_control" and not leaf.exists():
                raise OSError(16, "Device or resource busy")
            return write(path, text)

        monkeypatch.setattr(Path, "write_text", as_the_kernel)
        cgroup._enable(tmp_path)
        assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
        assert leaf.exists() == crowded
        if crowded:
            assert (leaf / "cgroup.procs").read_text() == str(os.getpid())

    def test_what_nobody_has_left_to_us_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup.procs").touch()
        assert not cgroup._is_ours(tmp_path, "/user.slice/session-1.scope")
        assert cgroup._is_ours(tmp_path, "/")
        try:
            os.setxattr(tmp_path, "user.delegate", b"1")
        except OSError:
            pytest.skip("no attributes on this file system")
        assert cgroup._is_ours(tmp_path, "/user.slice/run-1.scope")

    @pytest.mark.skipif(cgroup.delegated() is None, reason="this machine gives us no cgroup")
    def test_a_real_one_counts_what_ran_and_ends_it(self) -> None:
        where = Place(Limits())
        group = where.group
        assert group is not None
        process = subprocess.Popen([sys.executable, "-c", f"input()\n{HOG}"], stdin=subprocess.PIPE)
        where.add(process.pid)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        time.sleep(1)
        assert (group.used() or 0) > 0.05
        where.close()
        assert process.wait(5) == -9
        assert not group._folder.exists()


def test_a_solution_that_others_delay_is_run_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides the modes waits for the second run, too."""
    runs: list[bytes] = []

    def delayed(data: bytes, isolated: bool) -> bytes:
        runs.append(data)
        reason: Any = "timeout" if len(runs) == 1 else None
        cells = [CellResult("a", reason=reason)]
        return Result(cells, reason, seconds=10, starved=0 if reason is None else 9).to_bytes()

    def decide(*args: Any, **_: Any) -> Any:
        return args[3](Job((Cell("a", "student", "1"),)))

    monkeypatch.setattr(grading, "decide", decide)
    found: Any = grading._decided(None, "ps1", {}, Pool(workers=1, execute=delayed))  # type: ignore[arg-type]
    assert found.reason is None
    assert len(runs) == 2
