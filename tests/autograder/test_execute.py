"""Jobs run whole: outputs as a notebook has them, and a named reason for every other end."""

from __future__ import annotations

import base64
import dataclasses
import os
import resource
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autograder.execute import parents
from autograder.execute.processes import tree
from autograder.execute.run import execute
from autograder.execute.sandbox import SandboxError, problem
from autograder.job import Cell, CellResult, Job, Limits, Result

pytestmark = pytest.mark.skipif(problem() is not None, reason=str(problem()))

IMPORTS = ("torch", "numpy", "matplotlib.pyplot")
LIMITS = Limits(cell_seconds=20, total_seconds=60, memory=2**30, output=100_000)


def run(*cells: str | Cell, files: dict[str, bytes] | None = None, **limits: Any) -> Result:
    """Run cells, those given as text being the student's."""
    made = tuple(
        cell if isinstance(cell, Cell) else Cell(f"cell-{i}", "student", cell)
        for i, cell in enumerate(cells)
    )
    job = Job(made, files or {}, dataclasses.replace(LIMITS, **limits), IMPORTS)
    result = Result.from_bytes(execute(job.to_bytes()))
    assert [cell.id for cell in result.cells] == [cell.id for cell in made]
    assert result.isolated
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(outputs=cell.outputs) for cell in result.cells]
    )
    nbformat.validate(notebook)
    return result


def check(source: str) -> Cell:
    return Cell("check", "test", source)


def text(cell: CellResult, name: str = "stdout") -> str:
    return "".join(item["text"] for item in cell.outputs if item.get("name") == name)


def errors(cell: CellResult) -> list[str]:
    return [item["ename"] for item in cell.outputs if item["output_type"] == "error"]


class TestOutputs:
    def test_streams_values_and_errors_in_order(self) -> None:
        result = run(
            "import os, sys\n"
            "print('first')\n"
            "os.system('echo raw')\n"
            "print('third')\n"
            "print('aside', file=sys.stderr)\n"
            "40 + 2",
            "x = 5;",
            "def broken(): return 1 / 0\nbroken()",
        )
        said, silent, failed = result.cells
        assert text(said).replace("raw\n", "") == "first\nthird\n"
        assert text(said).count("raw\n") == 1  # where, the two ways to write leave open
        assert text(said, "stderr") == "aside\n"
        assert said.outputs[-1]["data"] == {"text/plain": "42"}
        assert silent.outputs == []
        assert errors(failed) == ["ZeroDivisionError"]
        assert "broken" in "\n".join(failed.outputs[-1]["traceback"])
        assert result.reason is None

    def test_a_figure_is_a_png(self) -> None:
        (cell,) = run("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);").cells
        (figure,) = cell.outputs
        assert figure["output_type"] == "display_data"
        assert base64.b64decode(figure["data"]["image/png"]).startswith(b"\x89PNG")

    def test_magics_and_the_shell(self) -> None:
        result = run("%matplotlib inline\n%timeit -n 1 -r 1 1", "!echo hello", "%%bash\necho there")
        assert [errors(cell) for cell in result.cells] == [[], [], []]
        assert "per loop" in text(result.cells[0])
        assert text(result.cells[1]).strip() == "hello"
        assert text(result.cells[2]).strip() == "there"

    def test_display_updates_and_clear_output(self) -> None:
        (cell,) = run(
            "from IPython.display import HTML, clear_output, display\n"
            "print('gone')\n"
            "clear_output(wait=True)\n"
            "handle = display('a', display_id=True)\n"
            "handle.update(HTML('<b>b</b>'))"
        ).cells
        (shown,) = cell.outputs
        assert shown["data"]["text/html"] == "<b>b</b>"

    def test_nothing_is_remembered_from_the_submission_before(self) -> None:
        run("import torch\nleft_behind = 1\ntorch.left_behind = 1")
        (cell,) = run(
            "import torch\n'left_behind' in globals() or hasattr(torch, 'left_behind')"
        ).cells
        assert cell.outputs[0]["data"]["text/plain"] == "False"

    def test_files_of_the_submission(self) -> None:
        source = "open('data/numbers.txt').read()"
        (cell,) = run(source, files={"data/numbers.txt": b"1 2 3"}).cells
        assert cell.outputs[0]["data"]["text/plain"] == "'1 2 3'"

    def test_modules_of_the_submission_are_the_students_alone(self) -> None:
        result = run(
            Cell("set-up", "shared", "import json, helper, torch"),
            "helper.three()",
            check("assert json.dumps([]) == '[]'\nimport helper"),
            Cell("fallen through", "test", "helper.three()"),
            files={"helper.py": b"def three(): return 3\n", "json.py": b"", "torch.py": b""},
        )
        assert result.cells[1].outputs[0]["data"]["text/plain"] == "3"
        assert errors(result.cells[2]) == ["ModuleNotFoundError"]
        assert errors(result.cells[3]) == ["NameError"]

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "nul\0", ""])
    def test_names_of_files_that_lead_elsewhere(self, name: str) -> None:
        result = run("1", files={name: b""})
        assert (result.reason, result.cells[0].reason) == ("malformed", "malformed")

    def test_files_beyond_the_disk(self) -> None:
        result = run("1", files={"big": bytes(5 * 2**20)}, file_size=2**20)
        assert result.reason == "malformed"


class TestLibraries:
    def test_training_distributions_and_linear_algebra_in_the_fork(self) -> None:
        result = run(
            "import torch\n"
            "from torch import nn\n"
            "torch.manual_seed(0)\n"
            "model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))\n"
            "optimizer = torch.optim.Adam(model.parameters(), 0.01)\n"
            "x = torch.randn(512, 20)\n"
            "y = x.sum(1, keepdim=True)\n"
            "for _ in range(60):\n"
            "    loss = ((model(x) - y) ** 2).mean()\n"
            "    optimizer.zero_grad()\n"
            "    loss.backward()\n"
            "    optimizer.step()\n"
            "assert loss < 5, loss",
            "mean = torch.zeros(3, requires_grad=True)\n"
            "z = torch.distributions.Normal(mean, 1.).rsample((500,))\n"
            "(z.T @ z).sum().backward()\n"
            "torch.linalg.svd(torch.randn(300, 300))\n"
            "tuple(z.shape)",
            "from torch.utils.data import DataLoader\n"
            "sum(batch.sum() for batch in DataLoader(torch.ones(10, 2), 5, num_workers=2))",
        )
        assert [errors(cell) for cell in result.cells] == [[], [], []]
        assert result.cells[1].outputs[0]["data"]["text/plain"] == "(500, 3)"
        assert result.cells[2].outputs[0]["data"]["text/plain"] == "tensor(20.)"

    def test_threads_of_torch(self) -> None:
        (cell,) = run(
            "import torch\n"
            "torch.set_num_threads(2)\n"
            "x = torch.ones(800, 800)\n"
            "float((x @ x).mean())"
        ).cells
        assert cell.outputs[0]["data"]["text/plain"] == "800.0"

    def test_a_new_interpreter(self) -> None:
        (cell,) = run(
            "import subprocess, sys\n"
            "subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True).stdout"
        ).cells
        assert cell.outputs[0]["data"]["text/plain"] == "b'42\\n'"


class TestLimits:
    def test_a_cell_that_obeys_the_interrupt_costs_only_itself(self) -> None:
        result = run("print('on')\nwhile True: pass", "print('alive')", cell_seconds=0.5)
        assert errors(result.cells[0]) == ["KeyboardInterrupt", "CellTimeoutError"]
        assert text(result.cells[0]) == "on\n"
        assert (result.reason, result.cells[0].reason) == ("timeout", "timeout")
        assert text(result.cells[1]) == "alive\n"
        assert result.cells[1].reason is None

    def test_a_cell_that_does_not_obey_ends_the_process(self) -> None:
        result = run(
            "x = 1",
            "import time\nwhile True:\n  try: time.sleep(1)\n  except KeyboardInterrupt: pass",
            "x",
            check("2"),
            cell_seconds=0.5,
        )
        assert [cell.reason for cell in result.cells] == [None, "timeout", "stopped", None]
        assert "did not obey" in result.cells[2].outputs[0]["evalue"]

    def test_the_whole_notebook_has_a_limit(self) -> None:
        sleep = "import time; time.sleep(100)"
        result = run("1", sleep, sleep, cell_seconds=90, total_seconds=2)
        assert [cell.reason for cell in result.cells] == [None, "timeout", "timeout"]
        assert "whole notebook" in result.cells[2].outputs[0]["evalue"]

    def test_memory_of_one_process(self) -> None:
        result = run(
            "x = bytearray(10**10)",
            "import torch\ntorch.zeros(10**10)",
            "x = []\nwhile True: x.append(bytearray(10**7))",
            "del x\nlen(bytearray(10**8))",
            memory=2**28,
        )
        assert [cell.reason for cell in result.cells] == ["out of memory"] * 3 + [None]

    def test_memory_of_many_processes(self) -> None:
        result = run(
            "import os, time\n"
            "for _ in range(8):\n"
            "    if os.fork() == 0:\n"
            "        x = bytearray(10**8)\n"
            "        x[::4096] = b'x' * len(x[::4096])\n"
            "        time.sleep(100)\n"
            "time.sleep(100)",
            "1",
            memory=2**28,
        )
        assert [cell.reason for cell in result.cells] == ["out of memory", "stopped"]

    def test_disk(self) -> None:
        result = run(
            "with open('x', 'wb') as file:\n    while True: file.write(bytes(10**5))",
            "for i in range(100):\n    with open(f'/tmp/{i}', 'wb') as f: f.write(bytes(10**6))",
            "for i in range(10**5): open(f'/dev/shm/{i}', 'w').close()",
            "print('alive')",
            file_size=2**20,
        )
        assert [errors(cell) for cell in result.cells] == [
            ["OSError"],
            ["OSError"],
            ["OSError"],
            [],
        ]

    @pytest.mark.parametrize(
        "source",
        ["while True: print('x' * 80)", "import os\nwhile True: os.write(1, b'x' * 4096)"],
    )
    def test_endless_output(self, source: str) -> None:
        result = run(source, "print('alive')")
        assert result.cells[0].reason == "output"
        assert 50_000 <= len(text(result.cells[0])) < 100_200
        assert text(result.cells[1]) == "alive\n"

    def test_long_output_is_cut_and_harmless(self) -> None:
        result = run("print('x' * 10**6)\nprint('y' * 10**6)\n1 / 0")
        (cell,) = result.cells
        assert cell.reason is None
        assert len(text(cell)) < 100_200
        assert errors(cell) == ["ZeroDivisionError"]

    @pytest.mark.parametrize(
        "source",
        [
            "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(100)",
            "import threading, time\n"
            "while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
        ],
    )
    def test_bombs(self, source: str) -> None:
        result = run(source, "print('alive')", processes=20)
        assert errors(result.cells[0]) in (["BlockingIOError"], ["RuntimeError"])
        assert text(result.cells[1]) == "alive\n"

    def test_open_files(self) -> None:
        result = run("files = []\nwhile True: files.append(open('/dev/null'))", open_files=64)
        assert errors(result.cells[0]) == ["OSError"]


class TestEnds:
    @pytest.mark.parametrize(
        ("source", "why"),
        [
            ("import os; os._exit(3)", "exit code 3"),
            ("import os; os.abort()", "signal 6"),
            ("import os; os.kill(os.getpid(), 9)", "signal 9"),
            ("import ctypes; ctypes.string_at(0)", "signal 11"),
        ],
    )
    def test_a_dead_process_keeps_what_was(self, source: str, why: str) -> None:
        result = run("print('before')", check("0.5"), source, "print('after')", check("0.5"))
        assert [c.reason for c in result.cells] == [None, None, "crashed", "stopped", None]
        assert text(result.cells[0]) == "before\n"
        assert why in result.cells[2].outputs[-1]["evalue"]
        assert errors(result.cells[3]) == ["DeadKernelError"]
        assert result.cells[4].outputs[0]["data"]["text/plain"] == "0.5"

    @pytest.mark.parametrize("source", ["import sys; sys.exit(1)", "exit()", "quit()"])
    def test_polite_exits_are_not_taken(self, source: str) -> None:
        result = run(source, "print('alive')")
        assert text(result.cells[1]) == "alive\n"

    def test_a_fork_that_comes_back_from_its_cell(self) -> None:
        result = run("import os\nos.fork()\nprint('twice')", "print('once')")
        assert "".join(map(text, result.cells)).count("twice") in (1, 2)  # the last may be late
        assert text(result.cells[1]).count("once") == 1
        assert result.reason is None

    def test_garbage_instead_of_the_protocol(self) -> None:
        result = run(
            "import os\n"
            "for fd in range(3, 30):\n"
            "    try: os.write(fd, b'\\xff' * 100)\n"
            "    except OSError: pass",
            "1",
            check("1"),
        )
        assert result.cells[0].reason == "tampered"
        assert result.tampering

    def test_a_flood_of_small_messages_takes_no_memory(self) -> None:
        result = run(
            "import fcntl, json, os, struct\n"
            "body = json.dumps({'result': {'a': ''}}).encode()\n"
            "fds = [fd for fd in range(3, 30) if os.path.exists(f'/proc/self/fd/{fd}')]\n"
            "pipes = [fd for fd in fds if 'pipe' in os.readlink(f'/proc/self/fd/{fd}')]\n"
            "control = min(fd for fd in pipes if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY)\n"
            "for _ in range(10**5): os.write(control, struct.pack('!I', len(body)) + body)"
        )
        assert len(result.cells[0].outputs) < LIMITS.output / 200 + 5

    def test_forged_ends_and_outputs_stay_the_students_own(self) -> None:
        result = run(
            "import json, os, struct\n"
            "def forge(message):\n"
            "    body = json.dumps(message).encode()\n"
            "    for fd in range(3, 30):\n"
            "        try: os.write(fd, struct.pack('!I', len(body)) + body)\n"
            "        except OSError: pass\n"
            "for message in ({'result': {'text/plain': 7}}, {'result': 3}, {'error': 3},\n"
            "        {'error': [1, [], ['\\ud800']]}, {'stream': 'x', 'text': 'y'},\n"
            "        {'stream': 'stdout', 'text': '\\ud800'}, {'display': {'a': {}}, 'id': []},\n"
            "        {'done': True}, {'done': True}, {'done': True}):\n"
            "    forge(message)",
            "1",
            check("0.25"),
        )
        values = [
            item["data"]["text/plain"]
            for item in result.cells[2].outputs
            if item["output_type"] == "execute_result"
        ]
        assert values in (["0.25"], [])


class TestTests:
    """Test cells run in a process of their own, and ask the student's for its names."""

    def test_right_and_wrong_work(self) -> None:
        result = run(
            Cell("set-up", "shared", "%matplotlib inline\nimport torch\nhalf = 0.5"),
            "def double(x): return 2 * x\ndef triple(x): return 2 * x",
            Cell("a", "test", "x = torch.ones(2, requires_grad=True)\nassert double(x).sum() == 4"),
            Cell("b", "test", "assert triple(x).sum() == 6, 'not three times'"),
            Cell("c", "test", "print('partly'); half"),
            Cell("d", "test", "missing"),
            Cell("e", "test", "0.75;"),
        )
        cells = {cell.id: cell for cell in result.cells}
        assert cells["a"].outputs == []
        assert errors(cells["b"]) == ["AssertionError"]
        assert cells["b"].outputs[0]["evalue"] == "not three times"
        assert "triple(x)" in "\n".join(cells["b"].outputs[0]["traceback"])
        assert text(cells["c"]) == "partly\n"
        assert cells["c"].outputs[1]["data"]["text/plain"] == "0.5"
        assert errors(cells["d"]) == ["NameError"]
        assert cells["e"].outputs == []
        assert (result.reason, result.tampering) == (None, [])

    def test_cells_go_on_where_a_test_has_ended_its_process(self) -> None:
        result = run("x = 1", check("import os; os._exit(3)"), "print('alive', x)")
        assert [cell.reason for cell in result.cells] == [None, "crashed", None]
        assert text(result.cells[2]) == "alive 1\n"

    def test_a_line_begun_in_a_test_does_not_end_in_the_next_cell(self) -> None:
        slow = (
            "import sys, time\nflush = sys.stdout.flush\n"
            "sys.stdout.flush = lambda: (time.sleep(0.1), flush())"
        )
        said = "def leak(x):\n    print(x, end='')\n    return x"
        result = run(f"{slow}\n{said}", check("assert leak(3) == 3"), "print('mine')")
        assert text(result.cells[2]) == "mine\n"
        inside = Cell("c", "test", "assert leak(4) == 4", mode="inside")
        result = run(f"{slow}\n{said}", check("assert leak(3) == 3"), inside)
        assert text(result.cells[2]) == "4"

    def test_what_the_student_prints_in_a_test_is_dropped(self) -> None:
        result = run(
            "import os\ndef leak(x):\n    print(x); os.write(1, b'raw')\n    return x",
            check("assert leak(3) == 3"),
            "print('mine')",
        )
        assert result.cells[1].outputs == []
        assert text(result.cells[2]) == "mine\n"

    def test_plain_names_bound_later_count_and_judges_stay(self) -> None:
        result = run(
            Cell("set-up", "shared", "n = 1\ndef judge(ok): assert ok"),
            "n = 2\ndef judge(ok): pass",
            Cell("a", "test", "n"),
            Cell("b", "test", "judge(False)"),
        )
        assert result.cells[2].outputs[0]["data"]["text/plain"] == "2"
        assert errors(result.cells[3]) == ["AssertionError"]

    def test_a_call_that_never_returns_but_obeys(self) -> None:
        result = run(
            "def forever():\n    while True: pass\ndef fine(): return 3",
            Cell("a", "test", "forever()"),
            Cell("b", "test", "assert fine() == 3"),
            cell_seconds=0.5,
        )
        assert [cell.reason for cell in result.cells] == [None, "timeout", None]
        assert errors(result.cells[1])[-1] == "CellTimeoutError"
        assert errors(result.cells[2]) == []

    def test_a_call_that_never_returns_and_does_not_obey(self) -> None:
        result = run(
            "import time\ndef forever():\n    while True:\n"
            "        try: time.sleep(1)\n        except KeyboardInterrupt: pass",
            Cell("a", "test", "forever()"),
            Cell("b", "test", "forever()"),
            Cell("c", "test", "0.5"),
            "1",
            cell_seconds=0.5,
        )
        reasons = [cell.reason for cell in result.cells]
        assert reasons == [None, "timeout", "stopped", None, "stopped"]
        assert result.tampering == []

    def test_a_test_that_loops_is_not_the_students_fault(self) -> None:
        result = run(
            "def fine(): return 3",
            Cell("a", "test", "while True: pass"),
            Cell("b", "test", "assert fine() == 3"),
            cell_seconds=0.5,
        )
        assert [cell.reason for cell in result.cells] == [None, "timeout", None]
        assert errors(result.cells[2]) == []

    def test_a_call_that_ends_the_process(self) -> None:
        result = run(
            "import os\ndef leave(): os._exit(3)",
            Cell("a", "test", "0.25"),
            Cell("b", "test", "leave()"),
            Cell("c", "test", "leave()"),
            Cell("d", "test", "0.5"),
        )
        assert [cell.reason for cell in result.cells] == [None, None, "crashed", "stopped", None]
        assert "exit code 3" in result.cells[3].outputs[-1]["evalue"]
        assert result.tampering == []

    def test_false_answers_are_tampering(self) -> None:
        result = run(
            "import os\ndef lie():\n    for fd in range(3, 30):\n"
            "        try: os.write(fd, b'x' * 100)\n        except OSError: pass",
            Cell("a", "test", "lie()"),
            Cell("b", "test", "0.5"),
        )
        assert [cell.reason for cell in result.cells] == [None, "tampered", None]
        assert len(result.tampering) == 1
        assert errors(result.cells[1]) == ["Tampered"]

    @pytest.mark.slow
    def test_an_interrupt_never_cuts_a_message(self) -> None:
        # The time runs out while the process does little but send.
        result = run(
            "def chatty():\n    while True: print('x')",
            "while True: print('y' * 50)",
            Cell("a", "test", "chatty()"),
            Cell("b", "test", "len('done')"),
            "print('alive')",
            cell_seconds=2,
            output=10**8,
        )
        assert result.tampering == []
        assert [cell.reason for cell in result.cells] == [None, "timeout", "timeout", None, None]
        assert text(result.cells[4]) == "alive\n"


class TestWhere:
    @pytest.mark.slow
    def test_without_a_sandbox_it_works_and_says_so(self) -> None:
        job = Job(
            (
                Cell("a", "student", "import os\nprint(os.listdir())"),
                Cell("b", "student", "while True: pass"),
                Cell(
                    "c",
                    "student",
                    "import os\nif os.fork() == 0:\n    os.setsid()\n"
                    "    if os.fork() == 0: os.execv('/bin/sleep', ['sleep', '98765.125'])\n"
                    "    os._exit(0)",
                ),
                Cell("d", "test", "1 + 1"),
            ),
            {"here": b""},
            dataclasses.replace(LIMITS, cell_seconds=2),
        )
        result = Result.from_bytes(execute(job.to_bytes(), isolated=False))
        assert not result.isolated
        assert text(result.cells[0]) == "['here']\n"
        assert result.cells[1].reason == "timeout"
        assert result.cells[3].outputs[0]["data"]["text/plain"] == "2"
        assert not running("98765.125")

    def test_an_import_that_does_not_exist(self) -> None:
        with pytest.raises(SandboxError, match="no module 'no_such_module'"):
            execute(Job((), imports=("no_such_module",)).to_bytes())

    @pytest.mark.slow
    def test_an_import_that_fails(self) -> None:
        with pytest.raises(SandboxError, match=r"os\.antigravity_is_not_here"):
            execute(Job((), imports=("os.antigravity_is_not_here",)).to_bytes())

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("source", "why"),
        [
            (
                "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\n",
                "one of starts starts threads",
            ),
            ("import mmap\nkept = mmap.mmap(-1, 4096)\n", "one of starts maps memory"),
        ],
    )
    def test_imports_that_forks_cannot_share(
        self, source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "starts.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(SandboxError, match=why):
            execute(Job((), imports=("starts",)).to_bytes())

    @pytest.mark.slow
    def test_broken_parents_are_replaced(self) -> None:
        run("1")
        for parent in parents.here().pair(IMPORTS, (), True):
            parent.close()
        assert run("1").reason is None

    @pytest.mark.slow
    def test_a_job_whose_parent_ends_is_run_again(self) -> None:
        run("1")
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(run, "import time\ntime.sleep(2)\nprint('done')")
            time.sleep(1)
            parents.here().pair(IMPORTS, (), True)[0].close()
            result = future.result()
        assert result.reason is None
        assert text(result.cells[0]) == "done\n"

    @pytest.mark.slow
    @pytest.mark.parametrize("moment", ["warming up", "running"])
    def test_stop_ends_what_runs_and_what_starts(self, moment: str) -> None:
        parents.stop()
        if moment == "running":
            run("1")
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(run, "while True: pass") for _ in range(2)]
            time.sleep(0.5)
            started = time.monotonic()
            parents.stop()
            for future in futures:
                with pytest.raises(SandboxError):
                    future.result()
        assert time.monotonic() - started < 5
        assert run("1").reason is None

    @pytest.mark.slow
    def test_too_many_open_files_are_no_fault_of_the_submission(self) -> None:
        run("1")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest)]  # no number is free
        try:
            for spare in range(1, 14, 4):
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + spare, limit[1]))
                with pytest.raises((SandboxError, OSError), match="Too many open files"):
                    run("1")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            for fd in held:
                os.close(fd)
        assert run("1").reason is None

    @pytest.mark.slow
    def test_threads_and_processes_may_call_it(self) -> None:
        cell = Cell("a", "student", "import time; time.sleep(0.3)\nprint('done')")
        job = Job((cell,), imports=IMPORTS, limits=LIMITS).to_bytes()
        execute(job)
        started = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            results = [Result.from_bytes(data) for data in pool.map(execute, [job] * 4)]
        assert [text(result.cells[0]) for result in results] == ["done\n"] * 4
        assert time.monotonic() - started < 4 * 0.3 + 2
        with ProcessPoolExecutor(1) as pool:  # a fork, which must not use its parent's
            assert text(Result.from_bytes(pool.submit(execute, job).result()).cells[0]) == "done\n"
        assert run("1").reason is None

    def test_nothing_is_left_open(self) -> None:
        run("1")
        before = descriptors()
        run("import os; os._exit(1)")
        run("1")
        assert descriptors() == before


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def running(argument: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if argument in line.split("\0"):
            found.append(line)
    return found


@pytest.mark.slow
def test_a_notebook_of_many_cells_that_print_has_one_budget() -> None:
    cells = tuple(Cell(str(i), "student", "print('x' * 900)") for i in range(60))
    cells += (Cell("test", "test", "assert 1 == 2"),)
    job = Job(cells, limits=Limits(output=1000))
    result = Result.from_bytes(execute(job.to_bytes()))
    assert len(result.to_bytes()) < 60_000
    assert any("is cut here" in out.get("text", "") for out in result.cells[59].outputs)
    assert result.cells[60].outputs[0]["ename"] == "AssertionError"


def test_processes_may_end_while_they_are_counted() -> None:
    def end() -> None:
        process.kill()
        process.wait()

    for _ in range(100):  # without the `suppress` in `threads`, one in 13 raises OSError
        process = subprocess.Popen(["sleep", "10"])
        other = threading.Timer(0.003, end)
        other.start()
        while other.is_alive():
            assert tree(process.pid)[0] == process.pid
        other.join()
