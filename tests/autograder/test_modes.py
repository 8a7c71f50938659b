"""Any style of test: no points for nothing, and none lost by a right answer."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from typing import Any

import pytest
from nbformat.v4 import new_notebook
from small_course import KERNEL, cell, graded_cell, named, write_course

from autograder.__main__ import main
from autograder.bindings import needed
from autograder.course import Course
from autograder.execute.run import execute
from autograder.execute.sandbox import problem
from autograder.grade import grade
from autograder.job import Cell, CellResult, Job, Limits, Result
from autograder.page import page
from autograder.prepare.plan import read_plans
from autograder.record.outcome import apply
from autograder.report import collect, explain
from autograder.steps import HideTests

from .styles import HELPER, STYLES, Style

pytestmark = pytest.mark.skipif(problem() is not None, reason=str(problem()))

IMPORTS = ("torch", "numpy", "matplotlib.pyplot")
LIMITS = Limits(cell_seconds=20, total_seconds=60, memory=2**30, output=100_000)


def run(*cells: Cell, files: dict[str, bytes] | None = None, **job: Any) -> Result:
    """Run cells."""
    made = Job(cells, files or {}, LIMITS, IMPORTS, **job)
    result = Result.from_bytes(execute(made.to_bytes()))
    assert result.tampering == []
    return result


def student(source: str, name: str = "solution") -> Cell:
    return Cell(name, "student", source)


def shared(source: str, name: str = "set-up") -> Cell:
    return Cell(name, "shared", source)


def check(source: str, name: str = "check", **more: Any) -> Cell:
    return Cell(name, "test", source, **more)


def passed(cell: CellResult) -> bool:
    """Whether nbgrader gives points: nothing was raised."""
    return cell.reason is None and not errors(cell)


def errors(cell: CellResult) -> list[str]:
    return [f"{e['ename']}: {e['evalue']}" for e in cell.outputs if e["output_type"] == "error"]


class TestNoFreePoints:
    """Outside, with no way to be judged inside."""

    @pytest.mark.parametrize(
        "test",
        [
            "%%time\nassert double(2) == 4",
            "%%time\nx = double(2)\nassert x == 4",
            "%%timeit -n 1 -r1\nassert double(2) == 4",
            "%%timeit x = 2\nassert double(x) == 4",
            "%%capture\nassert double(2) == 4",
            "%%capture out --no-stderr\nprint('so')\nassert double(2) == 4\n",
            "%time assert double(2) == 4",
            "x = 3\n%timeit -n 1 -r 1 -q assert double(x) == 6",
            "def g(x):\n    %time assert double(x) == 4\ng(2)",
            "x = %time double(2)\nassert x == 4",
            "%prun -q assert double(2) == 4",
            "%matplotlib inline\nassert double(2) == 4",
        ],
    )
    def test_the_body_behind_a_magic_runs(self, test: str) -> None:
        right, wrong, blank = (
            run(student(source), check(test), noticing=False).cells[1]
            for source in ("def double(x): return 2 * x", "def double(x): return 5", "")
        )
        assert passed(right), errors(right)
        assert not passed(wrong)
        assert not passed(blank)

    @pytest.mark.parametrize(
        ("test", "named"),
        [
            ("%%bash\ntest -e here", "%%bash"),
            ("%%writefile x.py\n1", "%%writefile"),
            ("!test -e here", "!"),
            ("found = !ls", "!"),
            ("%rerun", "%rerun"),
            ("%%nothing\nassert double(2) == 4", "%%nothing"),
            ("get_ipython().run_cell('1')", "get_ipython().run_cell"),
        ],
    )
    def test_what_needs_a_shell_is_an_error_that_names_it(self, test: str, named: str) -> None:
        (cell,) = run(check(test), noticing=False).cells
        assert errors(cell)
        assert errors(cell)[0].startswith(f"NeedsShell: {named} needs a real IPython shell")

    def test_captured_output_and_values(self) -> None:
        result = run(
            check("%%capture out\nprint('so')", "a"),
            check("assert out.stdout == 'so\\n'", "b"),
            check("%%time\n1\n0.5", "c"),
            noticing=False,
        )
        assert [errors(cell) for cell in result.cells] == [[], [], []]
        assert result.cells[2].outputs[0]["data"] == {"text/plain": "0.5"}

    def test_a_set_up_cell_goes_on_behind_what_needs_a_shell(self) -> None:
        result = run(shared("!true\n%load_ext nothing\n%pip list\nhalf = 0.5"), check("half"))
        assert result.cells[1].outputs[0]["data"] == {"text/plain": "0.5"}

    def test_a_submission_cannot_be_the_shell(self) -> None:
        fake = "class No:\n  def __getattr__(self, name): return lambda *x: None\n"
        fake += "get_ipython = lambda: No()"
        result = run(student(fake), check("%%time\nassert False"), noticing=False)
        assert not passed(result.cells[1])

    @pytest.mark.parametrize("name", ["max", "sum", "filter", "id", "pow"])
    def test_builtins_of_the_submissions_own(self, name: str) -> None:
        def graded(source: str, **job: Any) -> bool:
            test = f"def f(): return {name}(3, 1)\nassert {name}(3, 1) == f() == 'own'"
            return passed(run(student(source), check(test), noticing=False, **job).cells[1])

        own = f"def {name}(*x): return 'own'"
        assert graded(own)
        assert graded(own, asked=(name,))
        assert not graded(own, asked=())
        assert not graded(own.replace("own", "wrong"))
        assert not graded("")
        assert not graded(f"{own}\ndel {name}")

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["outside", "inside"])
    @pytest.mark.parametrize(
        "value", ["1.5", "np.float64(1.5)", "np.float32(1.5)", "torch.tensor(1.5)", "f()"]
    )
    def test_partial_credit_is_a_number_of_any_library(self, value: str, mode: Any) -> None:
        given = student("import numpy\ndef f(): return numpy.mean([1, 2])")
        cell = check(f"import numpy as np, torch\n{value}", mode=mode)
        result = run(given, cell)
        assert result.cells[1].outputs[-1]["data"] == {"text/plain": "1.5"}

    def test_data_of_a_locked_cell_gives_way_only_to_what_the_submission_is_to_bind(self) -> None:
        def graded(source: str, **job: Any) -> bool:
            cells = [shared("TOL = 0.1\nanswer = None"), student(source)]
            test = check("assert abs(answer - 3) < TOL")
            return passed(run(*cells, test, noticing=False, **job).cells[2])

        assert graded("answer = 3", asked=("answer",))
        assert not graded("answer = 9\nTOL = float('inf')", asked=("answer",))
        assert graded("answer = 3\nTOL = 1e-9", asked=("answer",))

    def test_builtins_that_a_submission_deletes_are_pythons_again(self) -> None:
        result = run(
            student("id = 3"), check("id", "a"), student("del id", "c"), check("id(3) > 0")
        )
        assert result.cells[1].outputs[0]["data"] == {"text/plain": "3"}
        assert passed(result.cells[3])

    def test_helpers_are_the_courses(self) -> None:
        files = {
            "helper.py": b"def check_value(x): assert x == 4\n",
            "more/deep.py": b"three = 3\n",
            "mine.py": b"",
        }
        given = ("helper.py", "more/deep.py")
        spoilt = "check_value = lambda x: None\nimport helper\nhelper.check_value = check_value\n"
        spoilt += "open('helper.py', 'w').write('check_value = print')\nx = 5"
        result = run(
            shared("from helper import check_value"),
            student(spoilt),
            check("check_value(x)", "a"),
            check("check_value(4)\nimport more.deep\nassert more.deep.three == 3", "b"),
            check("import mine", "c"),
            files=files,
            given=given,
            noticing=False,
        )
        assert errors(result.cells[2]) == ["AssertionError: "]
        assert passed(result.cells[3])
        assert errors(result.cells[4]) == ["ModuleNotFoundError: No module named 'mine'"]

    def test_a_judge_that_is_missing_is_not_the_submissions(self) -> None:
        result = run(
            shared("import absent\nfrom mine import check_value\ndef judge(x): assert x == 4"),
            student("check_value = judge = lambda x: None"),
            check("check_value(5)", "a"),
            check("judge(5)", "b"),
            files={"mine.py": b"check_value = print\n"},
            noticing=False,
        )
        assert not passed(result.cells[2])
        assert not passed(result.cells[3])

    def test_a_file_of_the_submission_is_none_of_the_tests(self) -> None:
        result = run(
            check("assert open('out.txt').read() == 'right'"),
            files={"out.txt": b"right"},
            noticing=False,
        )
        assert not passed(result.cells[0])


DOUBLE = "def double(x): return 2 * x"
LEAKS = "def f(x):\n    print(x)\n    "


class TestInside:
    def test_it_sees_all_that_a_notebook_has_and_leaves_nothing(self) -> None:
        result = run(
            shared("import math\nhalf = 0.5"),
            student(f"{DOUBLE}\nitems = []\nopen('out.txt', 'w').write('so')"),
            check(
                "items.append(1)\nleft = 1\n"
                "assert open('out.txt').read() == 'so' and double(2) == 4\n"
                "assert 'double' in globals() and 'half' in dir()\n"
                "print('said')\nhalf",
                "a",
                mode="inside",
            ),
            check("assert items == []", "b", mode="inside"),
            check("assert items == [1]", "follows a", mode="inside", follows=True),
            check("assert items == [1] and left == 1", "needs a", mode="inside"),
            student("assert items == [] and 'left' not in globals()", "after"),
            check("assert double(4) == 8", "c"),
        )
        assert [errors(cell) for cell in result.cells] == [[]] * 8
        said, value = result.cells[2].outputs
        assert said == {"output_type": "stream", "name": "stdout", "text": "said\n"}
        assert value["data"] == {"text/plain": "0.5"}
        modes = [cell.mode for cell in result.cells[2:]]
        assert modes == ["inside"] * 4 + ["outside"] * 2

    def test_what_the_tests_before_write_is_not_its_own(self) -> None:
        loud = "import sys\nleft = 1\nprint('so')\nprint('so', file=sys.stderr)"
        last = run(check(loud, "a", mode="inside"), check("assert left == 1", mode="inside"))
        assert last.cells[0].outputs
        assert last.cells[1].outputs == []

    def test_errors_say_where(self) -> None:
        result = run(
            shared("from helper import check_value"),
            student("def broken(): raise KeyError('no')"),
            check("x = 1\nassert x == 2, 'not two'", "a", mode="inside"),
            check("broken()", "b", mode="inside"),
            check("missing", "c", mode="inside"),
            files={"helper.py": HELPER},
            given=("helper.py",),
        )
        assert [errors(cell)[0] for cell in result.cells[2:]] == [
            "AssertionError: not two",
            "KeyError: 'no'",
            "NameError: name 'missing' is not defined",
        ]
        lines = [cell.outputs[0]["traceback"][0] for cell in result.cells[2:]]
        assert "<cell 1 of the tests, " in result.cells[2].outputs[0]["traceback"][2]
        assert lines == ["line 2, test", "line 1, submission", "line 1, test"]

    def test_a_helper_that_was_changed_before_it_was_imported(self) -> None:
        first = "open('helper.py', 'w').write('check_value = other = lambda *x: None')"
        tests = ("check_value(5)", "helper.other(5)", "from helper import check_value as c\nc(5)")
        result = run(
            student(first, "first"),
            shared("from helper import check_value\nimport helper"),
            *(check(test, test, mode="inside") for test in tests),
            check("check_value(4); helper.other(4)", "right", mode="inside"),
            files={"helper.py": HELPER + b"def other(x): assert x == 4\n"},
            given=("helper.py",),
        )
        assert [passed(cell) for cell in result.cells[2:]] == [False, False, False, True]

    @pytest.mark.parametrize(
        "attack",
        [
            "import builtins\nbuiltins.AssertionError = type('Quiet', (Exception,), {})",
            "import builtins\nbuiltins.isinstance = builtins.all = lambda *x: True\n"
            "builtins.abs = lambda x: 0\n__builtins__ = {}",
            "def total(v): raise SystemExit",
            "def total(v):\n    import sys\n    sys.exit(0)",
            "def total(v):\n    import os\n    os._exit(0)",
            "import numpy as np\nnp.allclose = np.testing.assert_allclose = lambda *x, **y: True",
            "import math\nmath.isclose = lambda *x, **y: True",
            "import numpy as np\n"
            "np.allclose._implementation.__defaults__ = 1e9, 1e9, False\n"
            "np.testing.assert_allclose.__kwdefaults__ = {'atol': 1e9}\n"
            "np._core.numeric.isclose = lambda *x, **y: True",
            "import numpy as np, unittest\nf = lambda *x, **y: True\n"
            "np.allclose._implementation.__code__ = f.__code__\n"
            "judge.__code__ = unittest.TestCase.assertEqual.__code__ = f.__code__",
            "import difflib, pytest\npytest.approx = lambda v: 0\n"
            "difflib.SequenceMatcher.ratio = lambda *x: 1",
            "import pytest, sys\nApprox = sys.modules[pytest.approx.__module__].ApproxScalar\n"
            "Approx.__eq__ = lambda *x: True\n"
            "pytest.approx.__code__ = (lambda *x, **y: 0).__code__",
            "import unittest\nunittest.TestCase.assertEqual = lambda *x: None",
            "get_ipython = lambda: None",
            "shell = get_ipython()\ntype(shell).run_cell_magic = lambda *x: None\n"
            "shell.run_cell_magic = lambda *x: None",
            "from IPython.core.magic import register_cell_magic\n"
            "@register_cell_magic\ndef time(line, cell): pass\n"
            "@register_cell_magic\ndef bash(line, cell): pass",
            "shell = get_ipython()\n"
            "shell.input_transformers_cleanup.append(lambda lines: [])\n"
            "shell.input_transformer_manager.cleanup_transforms.append(lambda lines: [])",
            "import ast\n"
            "class Gone(ast.NodeTransformer):\n"
            "    def visit_Assert(self, node): return ast.Pass()\n"
            "get_ipython().ast_transformers.append(Gone())",
            "import autograder.inside.plain as p, autograder.inside.throwaway as t\n"
            "p.run_plain = t.run_plain = lambda *x, **y: None\n"
            "t.Throwaway._verdict = lambda *x: {}",
            "import sys\nsys.settrace(lambda *x: None)\n"
            "def total(v):\n    f = sys._getframe(1)\n    return 0",
            "def judge(ok): pass",
            "import helper\nhelper.judge_too = lambda ok: None\n"
            "open('helper.py', 'w').write('def judge_too(ok): pass')\n"
            "import sys\ndel sys.modules['helper']",
            "import os\nos.environ['PATH'] = '.'\n"
            "open('bash', 'w').write('#!/bin/sh')\nos.chmod('bash', 0o755)",
            "import json, os, struct\n"
            "def total(v):\n"
            "    for message in ({'done': True}, {'result': {'text/plain': '1'}}):\n"
            "        body = json.dumps(message).encode()\n"
            "        for fd in range(3, 40):\n"
            "            try: os.write(fd, struct.pack('!I', len(body)) + body)\n"
            "            except OSError: pass\n"
            "    os._exit(0)",
            "import os\ndef patch():\n"
            "    import autograder.inside.throwaway as t, autograder.inside.pristine as p\n"
            "    p.Pristine.put_back = lambda self: None\n"
            "    t.Throwaway._verdict = lambda *x: {}\n"
            "os.register_at_fork(after_in_child=patch)",
            "import os, traceback\ndef total(v):\n"
            "    for answer in range(9):\n"
            "        child = os.fork()\n"
            "        if child == 0:\n"
            "            traceback.walk_tb = lambda *x: os._exit(7)  # in vain\n"
            "            return answer\n"
            "        if os.waitpid(child, 0)[1] == 0: return answer",
            "class Yes:\n    __array_ufunc__ = __array_function__ = lambda *x, **y: True\n"
            "    def __array__(self, *x, **y): return [[3.0]]\n"
            "def total(v): return Yes()",
            "import os\nclass Yes:\n"
            "    def __eq__(self, other): return os.fork() == 0 or os.wait()[1] == 0\n"
            "def total(v): return Yes()",
            "import numpy as np\ndef total(v): return np.ma.masked_all(1)",
        ],
    )
    def test_cheap_attacks_earn_nothing(self, attack: str) -> None:
        if "def total" not in attack:
            attack = f"def total(v): return 0\n{attack}"
        tests = [
            "assert total([1, 2]) == 3",
            "%%time\nassert total([1, 2]) == 3",
            "assert abs(total([1, 2]) - 3) < 0.1",
            "import numpy as np\nnp.testing.assert_allclose(total([1, 2]), 3)",
            "import numpy as np\nassert np.allclose(total([1, 2]), 3)",
            "assert total([1, 2]) == 3 and total([2, 2]) == 4",
            "import math\nassert math.isclose(total([1, 2]), 3)",
            "import unittest\nunittest.TestCase().assertEqual(total([1, 2]), 3)",
            "import pytest\nassert total([1, 2]) == pytest.approx(3)",
            "import difflib\n"
            "assert difflib.SequenceMatcher(None, str(total([1, 2])), '3').ratio() == 1",
            "judge(total([1, 2]) == 3)",
            "import helper\nhelper.judge_too(total([1, 2]) == 3)",
            "open('sum', 'w').write(str(total([1, 2])))",
            "%%bash\ntest `cat sum` -eq 3",
        ]
        result = run(
            shared("from helper import judge"),
            student(attack),
            *(check(test, str(i), mode="inside") for i, test in enumerate(tests)),
            student("assert True", "after"),
            check("0.5", "alive"),
            files={"helper.py": b"def judge(ok): assert ok\ndef judge_too(ok): assert ok\n"},
            given=("helper.py",),
        )
        found = {tests[int(cell.id)]: passed(cell) for cell in result.cells[2:-2]}
        del found["open('sum', 'w').write(str(total([1, 2])))"]
        assert not any(found.values()), found
        assert passed(result.cells[-1])

    @pytest.mark.parametrize(
        ("rebound", "test"),
        [
            ("CASES = []", "for x, y in CASES: assert f(x) == y"),
            ("del CASES\nCASES = [(2, 0)]", "for x, y in CASES: assert f(x) == y"),
            ("WANT = 0", "check(f(2))"),
            ("check.__code__ = (lambda v: None).__code__", "check(f(2))"),
            ("check_all.__closure__[0].cell_contents = lambda v: None", "check_all(f(2))"),
            ("Judge.check.__code__ = (lambda *x: None).__code__", "Judge().check(f(2))"),
            ("all = lambda v: True", "assert all([f(2) == 4])"),
            ("all = lambda v: True", "every(f(2) == 4)"),
            ("abs = lambda v: 0", "assert abs(f(2) - 4) < 1e-9"),
        ],
    )
    def test_what_locked_cells_and_python_bind_is_put_back(self, rebound: str, test: str) -> None:
        locked = (
            "CASES = [(2, 4)]\nWANT = 4\ndef check(v): assert v == WANT\n"
            "def every(*v): assert all(v)\n"
            "def wrapped(f): return lambda v: f(v)\ncheck_all = wrapped(lambda v: check(v))\n"
            "class Judge:\n    def check(self, v): assert v == WANT"
        )
        for f, works in (("lambda x: 0", False), ("lambda x: 2 * x", True)):
            cells = shared(locked), student(f"f = {f}\n{rebound}")
            result = run(*cells, check(f"vars(f)\n{test}", mode="inside"), asked=("f",))
            assert passed(result.cells[2]) == works, errors(result.cells[2])

    def test_what_the_solution_binds_is_the_submissions(self) -> None:
        cells = shared("rate = 1\nrecords = []"), student("rate = 2\nrecords.append(3)\nid = 4")
        test = check("assert (rate, records, id) == (2, [3], 4)", mode="inside")
        assert passed(run(*cells, test, asked=("rate", "id")).cells[2])
        assert not passed(run(*cells, test, asked=("id",)).cells[2])
        assert not passed(run(*cells, test, asked=("rate",)).cells[2])

    @pytest.mark.parametrize("work", ["found.append(3)", "found += [3]", "found[:] = [3]"])
    def test_what_is_given_may_be_changed_in_place_where_the_solution_binds_it(
        self, work: str
    ) -> None:
        cells = shared("found = []"), student(work), check("assert found == [3]")
        last = run(*cells, asked=("found",)).cells[2]
        assert passed(last), errors(last)
        assert not passed(run(cells[0], student("pass"), cells[2], asked=("found",)).cells[2])

    def test_names_that_no_test_uses_stay_the_submissions(self) -> None:
        work = "def filter(x): return 2 * x\nrate = 2\ndef f(x): return filter(x) * rate"
        test = check("assert f(2) == 8", mode="inside")
        assert passed(run(shared("rate = 1"), student(work), test, asked=("f",)).cells[2])

    def test_a_locked_cell_may_change_what_another_has_bound(self) -> None:
        cells = (
            shared("CASES = [(2, 4)]"),
            student("import decimal\ndef f(x): return decimal.Decimal(2 * x)"),
            shared("CASES.append((3, 6))"),
        )
        last = run(*cells, check("assert f(3) == dict(CASES)[3]"), asked=("f",)).cells[3]
        assert passed(last), errors(last)
        assert last.mode == "inside"


class TestHiddenInputs:
    @pytest.mark.parametrize(
        "body",
        [
            "return 0",
            "raise AssertionError(x)",
            "exec(compile('raise AssertionError(x)', '<cell 1 of the tests>', 'exec'), {'x': x})",
            "exec(compile('raise KeyError(x)', '/usr/lib/x.py', 'exec'), {'x': x})",
            "raise type(f'In_{x}', (Exception,), {})",
            "return type(f'In_{x}', (), {})()",
        ],
    )
    @pytest.mark.parametrize("mode", ["outside", "inside"])
    def test_no_hidden_input_is_told_by_a_submission(self, body: str, mode: Any) -> None:
        test = "f(1)\n### BEGIN HIDDEN TESTS\nassert f(71193) + 1 == 2\n### END HIDDEN TESTS"
        result = run(student(LEAKS + body), check(test, mode=mode))
        cells = [
            cell(LEAKS + body, "solution", solution=True),
            graded_cell(test, "check", 1),
        ]
        notebook = new_notebook(cells=cells, metadata={"autograder": {}})
        apply(notebook, result)
        shown, _ = HideTests().preprocess(notebook, {})
        assert shown.cells[1].outputs
        assert "71193" not in json.dumps(shown)

    @pytest.mark.parametrize("mode", ["outside", "inside"])
    def test_what_was_noted_in_a_hidden_test_is_told_to_nobody_but_the_instructor(
        self, mode: Any
    ) -> None:
        noting = "def f(x):\n    open('noted', 'w').write(str(x))\n    return x"
        told = ("print(open('noted').read())", "raise ValueError(open('noted').read())")
        test = "assert f(1) == 1\n### BEGIN HIDDEN TESTS\nf(71193)\n### END HIDDEN TESTS"
        sources = (noting, "print('before')", test, *told)
        result = run(
            student(noting),
            student(sources[1], "cell 1"),
            check(test, mode=mode),
            *(student(source, f"cell {3 + i}") for i, source in enumerate(told)),
        )
        cells = [cell(source) for source in sources]
        cells[2] = graded_cell(test, "check", 1)
        cells[0] = cell(noting, "solution", solution=True)
        for one in (*cells[:2], *cells[3:]):
            one.metadata["handed_in"] = [
                {"output_type": "stream", "name": "stdout", "text": "as it was handed in"}
            ]
        notebook = new_notebook(cells=cells, metadata={"autograder": {}})
        apply(notebook, result)
        assert all("71193" in json.dumps(one.outputs) for one in notebook.cells[3:])
        shown, _ = HideTests().preprocess(notebook, {})
        assert "71193" not in json.dumps(shown)
        assert "before" in json.dumps(shown.cells[1].outputs)
        assert all("as it was" in json.dumps(one.outputs) for one in shown.cells[3:])
        assert shown.cells[4].outputs[-1].ename == "ValueError"


class TestNoticed:
    """A value that cannot be judged outside brings its cell inside, when it comes."""

    @pytest.mark.parametrize(
        ("right", "test"),
        [
            ("import numpy as np\ndef f(): return np.array(['a', 'b'])[0]", "assert f() == 'a'"),
            ("import numpy as np\ndef f(): return np.str_('a')", "assert isinstance(f(), str)"),
            ("import numpy as np\ndef f(): return np.array(['a'])", "assert (f() == ['a']).all()"),
            ("from decimal import Decimal\ndef f(): return Decimal('0.5')", "assert f() == 0.5"),
            ("from fractions import Fraction\ndef f(): return Fraction(1, 2)", "assert f() < 0.6"),
            ("import datetime\ndef f(): return datetime.date(2030, 1, 2)", "assert f().day == 2"),
            (
                "class V:\n    def __init__(self, x): self.x = x\n"
                "    def __eq__(self, other): return self.x == getattr(other, 'x', other)\n"
                "    def __bool__(self): return self.x > 2\n"
                "def f(): return V(3)",
                "assert f() == 3 and f() != 4 and f()",
            ),
            ("class L(list): pass\ndef f(): return L([1])", "assert f() == [1]"),
            ("class F(float): pass\ndef f(): return F(4)", "assert abs(f() - 4) < 1e-9"),
            ("class F(float): pass\ndef f(): return F(4)", "assert 4 * f() == 16"),
            ("import enum\nclass C(enum.IntEnum): RED = 4\ndef f(): return C.RED",
             "assert abs(f() - 4) < 1e-9 and 4 * f() == 16"),
            ("import enum\nclass C(enum.IntFlag): A = 1; B = 2\ndef f(): return C.A",
             "assert f() | 4 == 5"),
            ("import json\ndef f(): return json.loads('{')", "import json\ntry: f()\n"
             "except json.JSONDecodeError: pass\nelse: assert False"),
            ("async def f(): return 1", "assert await f() == 1"),
            ("def f(): return 1", "%%bash\ntrue"),
        ],
    )  # fmt: skip
    def test_right_answers_keep_their_points(self, right: str, test: str) -> None:
        result = run(student(right), check(test))
        cell = result.cells[1]
        assert passed(cell), (errors(cell), cell.unjudged)
        if cell.mode == "inside":
            assert cell.unjudged
        wrong = run(student("class W: pass\ndef f(): return W()"), check(test))
        assert test.startswith("%%bash") or not passed(wrong.cells[1])

    @pytest.mark.parametrize(
        "lie",
        [
            "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = None",
            "class Yes(int):\n    def __eq__(self, other): return isinstance(other, int)\n",
            "class Yes:\n    def __eq__(self, other): return self\n"
            "    def __bool__(self): return True",
            "class Yes:\n    def __getattr__(self, name): return lambda *x: True\n"
            "    __sub__ = __abs__ = lambda *x: 0\n    __lt__ = __eq__ = lambda *x: True",
            "from unittest.mock import ANY\nYes = lambda: ANY",
            "import decimal\nclass Yes(decimal.Decimal):\n"
            "    __eq__ = __lt__ = lambda *x: True\n    __sub__ = lambda *x: decimal.Decimal()\n"
            "    __module__ = 'decimal'",
        ],
    )
    @pytest.mark.parametrize(
        "test",
        [
            "assert f() == 3",
            "assert not f() != 3",
            "answer = f()\nassert 3 == answer",
            "assert [f()] == [3]",
            "assert abs(f() - 3) < 0.1",
            "import numpy as np\nassert np.array_equal([f()], [3])",
            "import unittest\nunittest.TestCase().assertEqual(f(), 3)",
            "(f() == 3) / 1",
        ],
    )
    def test_lies_earn_nothing(self, lie: str, test: str) -> None:
        (_, cell) = run(student(f"{lie}\ndef f(): return Yes()"), check(test)).cells
        worth = [o for o in cell.outputs if o.get("data", {}).get("text/plain") == "1.0"]
        assert not passed(cell) or (test.endswith("/ 1") and not worth)

    @pytest.mark.parametrize(
        ("lie", "test"),
        [
            ("def __eq__(s, o): s.seen = getattr(s, 'seen', 0) + 1; return s.seen > 7",
             "assert f() == 4"),
            ("__eq__ = lambda s, o: type(o) is list and len(o) > 1", "assert f() == [1, 2]"),
            ("__eq__ = lambda s, o: type(o) is list and len(o) > 1",
             "assert [f(), 1] == [[1, 2], 1]"),
            ("__eq__ = lambda s, o: type(o) is dict",
             "import unittest\nunittest.TestCase().assertEqual(f(), {1: 2})"),
            ("__eq__ = lambda s, o: type(o) is dict", "check(f())"),
            ("__eq__ = lambda s, o: o < 5 if type(o) is int else False", "assert f() == 4"),
            ("__eq__ = lambda s, o: o < 5 if type(o) is int else False", "assert f() in (4, 5)"),
            ("__eq__ = lambda s, o: o == 'ab' or o == 'xb'.replace('x', o[0])",
             "assert f() == 'ab'"),
            ("__ne__ = lambda s, o: False", "if f() != 4: raise ValueError"),
            ("__sub__ = __rsub__ = lambda s, o: s\n __abs__ = lambda s: s\n"
             " __lt__ = lambda s, o: True", "assert abs(f() - 4) < 1e-9"),
            ("__lt__ = __gt__ = lambda s, o: True", "assert 3 < f() < 5"),
            ("__contains__ = lambda s, o: type(o) is str", "assert 'ab' in f()"),
            ("__torch_function__ = classmethod(lambda c, g, t, a=(), k=None:"
             " a[1].numel() == 3)",
             "import torch\nassert torch.allclose(f(), torch.tensor([1., 2., 3.]))"),
            ("__array_function__ = lambda s, g, t, a, k: type(a[1]) is list",
             "import numpy as np\nassert np.allclose(f(), [1, 2])"),
            ("__eq__ = lambda s, o: type(o) is list and len(o) > 1", "assert [[1, 2]].count(f())"),
        ],
    )  # fmt: skip
    def test_an_object_does_not_decide_what_it_equals(self, lie: str, test: str) -> None:
        cells = (
            shared("def check(v, wanted={1: 2}): assert v == wanted"),
            student(f"class Z:\n {lie}\n __hash__ = None\ndef f(): return Z()"),
        )
        last = run(*cells, check(f"vars(f)\n{test}")).cells[2]
        assert last.mode == "inside"
        assert not passed(last)

    @pytest.mark.parametrize(
        "test",
        [
            "assert V(3) == V(3) != V(4) and V(3) == 3",
            "assert V(2) < V(3) <= V(3) and sorted([V(3), V(2)])[0] == V(2)",
            "assert V(2) + V(3) == V(5) and V(2) * 3 == V(6) and (V(2) * 3).x == 6",
            "assert V(3) in [V(2), V(3)] and isinstance(V(3), V) and getattr(V(3), 'x') == 3",
            "import unittest\nunittest.TestCase().assertEqual(V(2) * 2, V(4), 'twice')",
            "import copy\nassert copy.deepcopy(V(3)) == V(3) and str(V(3)) == '3' and V(3)",
            "found = []\nfound.append(V(3))\nassert found == [V(3)] and total(V(3), 4) == V(7)",
            "import dataclasses as d\nP = d.make_dataclass('P', ['x'])\n"
            "assert d.replace(P(V(3)), x=V(4)) == P(V(4)) and sorted([V(3)], reverse=True)",
            "class W(V):\n    def __init__(self, x): super().__init__(x + 1)\nassert W(2) == V(3)",
        ],
    )
    def test_objects_that_are_honest_compare_with_each_other(self, test: str) -> None:
        source = (
            "import functools\n@functools.total_ordering\nclass V:\n"
            "    def __init__(self, x): self.x = x\n"
            "    def __eq__(self, other): return self.x == getattr(other, 'x', other)\n"
            "    def __lt__(self, other): return self.x < other.x\n"
            "    def __add__(self, other): return V(self.x + other.x)\n"
            "    def __mul__(self, k): return V(k * self.x)\n"
            "    def __str__(self): return str(self.x)\n"
            "def total(v, n): return V(v.x + n)"
        )
        cells = student(source), check(f"vars(V)\n{test}")
        last = run(*cells).cells[1]
        assert passed(last), errors(last)
        assert last.mode == "inside"

    @pytest.mark.parametrize(
        ("work", "test"),
        [
            ("CASES.clear()\nimport decimal\nf = lambda x: decimal.Decimal()",
             "f(2)\nfor x, y in CASES: assert f(x) == y"),
            ("class Z: pass\nz = Z()\nCASES = [(2, z)]\nf = lambda x: z",
             "for x, y in CASES: assert f(x) == y"),
            ("import decimal\nabs = lambda x: 0\nf = lambda x: decimal.Decimal()",
             "assert abs(f(2) - 4) < 1"),
        ],
    )  # fmt: skip
    def test_an_answer_does_not_bring_names_along(self, work: str, test: str) -> None:
        cells = shared("CASES = [(2, 4)]"), student(work)
        last = run(*cells, check(test), asked=("f",)).cells[2]
        assert last.mode == "inside"
        assert not passed(last)

    @pytest.mark.parametrize("method", ["__sub__", "__rsub__", "__array_ufunc__"])
    @pytest.mark.parametrize("test", ["abs(f() - 3) < 0.1", "abs(np.float64(3) - f()) < 0.1"])
    def test_arithmetic_of_its_own_gives_no_answer(self, method: str, test: str) -> None:
        source = f"class F(float): {method} = lambda *x, **y: 0.0\ndef f(): return F(5)"
        (_, cell) = run(student(source), check(f"import numpy as np\nassert {test}")).cells
        assert not passed(cell)
        (said,) = errors(cell)
        assert "Error" in said or said.endswith("arithmetic of class F gives no plain value here")

    def test_a_value_that_is_shared_is_judged_where_it_is_one(self) -> None:
        given = """
            import numpy as np
            def same(v): return v
            def shallow(v): return v[:]
            def half(a): return a[::2]
            def grid(n): return [[0] * n] * n
            def gathered(x, found=[]):
                found.append(x)
                return found
            class Bag:
                def __init__(self, items): self.items = items
                def add(self, x): self.items.append(x)
                def get(self): return self.items
            def fails(v):
                v.clear()
                raise ValueError
            everything = []
            def note(x): everything.append(x)
            """
        tests = """
            v = [1]; r = same(v); assert r == v and r is not v
            v = [1]; r = same(v); r.append(3); assert v == [1]
            v = [[1]]; r = shallow(v); r[0].append(3); assert v == [[1]]
            import numpy as np; a = np.zeros(3); r = same(a); r[0] = 9; assert a[0] == 0
            import numpy as np; a = np.zeros(3); assert not np.shares_memory(half(a), a)
            g = grid(2); g[0][0] = 1; assert g == [[1, 0], [0, 0]]
            a = gathered(1); b = gathered(2); assert a == [1]
            v = [1]; bag = Bag(v); bag.add(2); assert v == [1]
            v = [1]; bag = Bag(v); v.append(2); assert bag.items == [1]
            bag = Bag([]); bag.get().append(1); assert bag.get() == []
            separate(same, [1])
            kept = everything; note(1); assert kept == []
            """
        lines = textwrap.dedent(tests).strip().split("\n")
        lines.append("v = [1]\ntry: fails(v)\nexcept ValueError: pass\nassert v == [1]")
        judge = shared("def separate(f, v): assert f(v) is not v")
        made = [check(f"def t():\n{textwrap.indent(line, '  ')}\nt()", line) for line in lines]
        result = run(judge, student(textwrap.dedent(given)), *made)
        assert not [cell.id for cell in result.cells[2:] if passed(cell)]
        assert {cell.unjudged for cell in result.cells[2:]} == {
            "a value is the test's and the submission's at once"
        }

    def test_what_is_not_shared_stays_outside(self) -> None:
        given = """
            import numpy as np
            def copied(v): return sorted(v)
            def in_place(v):
                v.sort()
                return v
            def one_more(a):
                a += 1
                return a
            def flat(a): return a.reshape(-1)
            class Bag:
                def __init__(self): self.items = []
                def add(self, x): self.items.append(x)
            """
        tests = """
            v = [3, 1]; r = copied(v); v[0] = 2; r += [4]; assert copied(v) == [1, 2] and r is not v
            v = [3, 1]; assert in_place(v) == v == [1, 3]
            import numpy as np; a = np.zeros(3); assert (one_more(a) == a).all() and a[0] == 1
            import numpy as np; a = np.zeros((3, 2)); assert flat(a).shape == flat(a).shape == (6,)
            bag = Bag(); assert bag.items == []; bag.add(1); assert bag.items == [1]
            """
        lines = textwrap.dedent(tests).strip().split("\n")
        made = [check(line, line) for line in lines]
        result = run(student(textwrap.dedent(given)), *made)
        for one in result.cells[1:]:
            assert passed(one), (one.id, errors(one))
            assert one.mode == "outside", (one.id, one.unjudged)

    @pytest.mark.parametrize(
        "way",
        [
            "np.linalg.inv = boom",
            "setattr(np.linalg, 'inv', boom)",
            "import pytest\npytest.MonkeyPatch().setattr(np.linalg, 'inv', boom)",
            "import sys\nsys.modules['numpy'] = None",
            "np = None",
            "def sorted(*_): raise AssertionError",
            "sorted = None",
            "def g(): raise AssertionError",
        ],
    )
    def test_what_a_submission_may_not_use(self, way: str) -> None:
        uses = """
            import numpy as np
            def g(): pass
            def f():
                import numpy
                return g(), sorted(np.linalg.inv(np.eye(1)))
            """
        test = f"import numpy as np\ndef boom(*_): raise AssertionError\n{way}\nf()"
        cell = run(student(textwrap.dedent(uses)), check(test)).cells[-1]
        assert not passed(cell)
        assert cell.mode == "inside"

    @pytest.mark.parametrize(
        ("wrong", "test"),
        [
            ("import numpy as np\ndef f(): np.log(np.zeros(1))",
             "import numpy as np\nwith np.errstate(all='raise'): f()"),
            ("import warnings\ndef f(): warnings.warn('so')",
             "import warnings\nwith warnings.catch_warnings():\n"
             "    warnings.simplefilter('error')\n    f()"),
            ("def f(n=300): return n and f(n - 1)",
             "import sys\nsys.setrecursionlimit(150)\nf()"),
            ("import threading, time\n"
             "def f(): threading.Thread(target=time.sleep, args=[1]).start()",
             "import threading\nf()\nassert threading.active_count() == 1"),
            ("import os\ndef f(): os.environ['SO'] = '1'",
             "import os\nf()\nassert 'SO' not in os.environ"),
            ("import os\ndef f(): os.chdir('/')",
             "import os\nf()\nassert os.getcwd() != '/'"),
            ("def f(): open('left', 'w')", "import os\nf()\nassert 'left' not in os.listdir()"),
            ("def f(): [0] * 10**6",
             "import tracemalloc\ntracemalloc.start()\nf()\n"
             "assert tracemalloc.get_traced_memory()[1] < 10**6"),
            ("def f(): open('left', 'w')", "f()\nleaves_nothing()"),
        ],
    )  # fmt: skip
    def test_what_only_its_own_process_shows(self, wrong: str, test: str) -> None:
        judge = shared("import os\ndef leaves_nothing(): assert not os.path.exists('left')")
        *_, cell = run(judge, student(wrong), check(test)).cells
        assert not passed(cell)
        assert cell.mode == "inside"

    def test_a_file_that_the_submission_has_written_is_the_one_that_is_read(self) -> None:
        def graded(source: str) -> CellResult:
            test = "assert open('out.txt').read() == 'right'"
            files = {"out.txt": b"right"}
            return run(student(source), check(test), files=files, given=("out.txt",)).cells[1]

        kept = graded("")
        assert passed(kept)
        assert kept.mode == "outside"
        wrong = graded("open('out.txt', 'w').write('wrong')")
        assert not passed(wrong)
        assert wrong.unjudged == "the submission has changed the file out.txt"
        assert not passed(graded("import os; os.remove('out.txt')"))

    def test_a_new_file(self) -> None:
        test = "save()\nassert open('new.txt').read() == 'right'"
        result = run(student("def save(): open('new.txt', 'w').write('right')"), check(test))
        assert passed(result.cells[1])
        assert result.cells[1].unjudged == "it opens a file of its folder"
        assert not passed(run(student("def save(): pass"), check(test)).cells[1])

    def test_only_what_opens_a_file_is_noticed(self) -> None:
        test = "import helper, tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'x')"
        result = run(check(test), files={"helper.py": b""}, given=("helper.py",))
        assert passed(result.cells[0])
        assert result.cells[0].mode == "outside"

    def test_where_outside_is_demanded_no_object_passes_for_a_plain_value(self) -> None:
        lies = """
            class Yes:
                def __getattr__(self, name): return lambda *args: True
                def __contains__(self, item): return True
                def __enter__(self): pass
                def __exit__(self, *error): return True
            def f(): return Yes()
            """
        tests = (
            "assert f().issuperset({1})",
            "assert 'a' in f()",
            "with f(): raise ValueError",
        )
        for objects in (True, False):
            made = [check(test, test, objects=objects) for test in tests]
            result = run(student(textwrap.dedent(lies)), *made, noticing=False)
            assert all(cell.unjudged for cell in result.cells[1:])
            assert [passed(cell) for cell in result.cells[1:]] == [objects] * 3

    def test_a_course_can_demand_that_nothing_is_judged_inside(self) -> None:
        source = "import numpy as np\ndef f(): return np.str_('a')"
        (_, cell) = run(student(source), check("assert f() == 'a'"), noticing=False).cells
        assert not passed(cell)
        assert cell.mode == "outside"
        assert "compared with a plain value" in cell.unjudged


def judged(style: Style, source: str, mode: Any) -> CellResult:
    """How the last test of a style ends for a student's work."""
    *first, last = style.test
    cells = [shared(style.set_up), student(source)]
    cells += [check(test, f"test {i}", mode=mode) for i, test in enumerate(first)]
    cells += [student(style.later, "later")] * bool(style.later)
    made = cells[2 : 2 + len(first)]
    wanted = needed(style.later, [(cell.id, cell.source) for cell in made])
    cells = [
        dataclasses.replace(cell, binds=cell.source if cell.id in wanted else "") for cell in cells
    ]
    result = run(*cells, check(last, mode=mode), files={"helper.py": HELPER}, given=("helper.py",))
    return result.cells[-1]


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES, ids=[style.name for style in STYLES])
def test_right_work_earns_its_points_and_other_work_none(style: Style) -> None:
    pytest.importorskip(style.needs)
    mode = "outside"
    right = judged(style, style.right, mode)
    if not passed(right):
        mode = "inside"
        right = judged(style, style.right, mode)
    assert passed(right), errors(right)
    assert right.mode == style.mode
    for source in (style.wrong, ""):
        assert not passed(judged(style, source, mode)), source


def graded_notebook() -> Any:
    """An assignment with cells of every kind."""
    cells = [
        cell("import io, contextlib\nfrom helper import check_value", "imports", locked=True),
        cell(
            "### BEGIN SOLUTION\ndef double(x): return 2 * x\n"
            "def says(): print('so')\nid = 7\nitems = []\n### END SOLUTION",
            "work",
            solution=True,
        ),
        graded_cell("check_value(double(2))", "outside", 1),
        graded_cell(
            "with contextlib.redirect_stdout(io.StringIO()) as said:\n    says()\n"
            "### BEGIN HIDDEN TESTS\nassert said.getvalue() == 'so\\n'\n### END HIDDEN TESTS",
            "printed",
            2,
        ),
        graded_cell("import fractions\nassert id == 7", "own", 1),
        cell("### BEGIN SOLUTION\nhalf = fractions.Fraction(1, 2)\n### END SOLUTION", "late",
             solution=True),
        graded_cell("assert half == fractions.Fraction(1, 2)", "bound", 1),
        graded_cell("assert 'items' in globals()\nitems.append(1)", "changes", 1),
        graded_cell("assert items == [1]", "follows", 1),
        graded_cell("assert 'items' in globals()", "worthless", 0),
        graded_cell("assert double(2) == 6", "never", 1),
    ]  # fmt: skip
    return new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Course:
    root = tmp_path_factory.mktemp("styled")
    course = write_course(root, {"means": graded_notebook()}, given={"helper.py": HELPER.decode()})
    released = (root / "release/ps1/means.ipynb").read_text()
    for name, work in {
        "right": "def double(x): return x + x\ndef says(): print('so')\nid = 7\nitems = []",
        "wrong": "def double(x): return 5\ncheck_value = says = print\nid = 8",
        "cheats": "def says(): return 0\nabs = check_value = lambda *x: None\ndouble = abs",
    }.items():
        found = json.loads(released)
        named(found, "work")["source"] = work
        named(found, "late")["source"] = "half = fractions.Fraction(2, 4 if double(1) == 2 else 3)"
        folder = root / "submitted" / name / "ps1"
        folder.mkdir(parents=True)
        (folder / "means.ipynb").write_text(json.dumps(found))
    return course


class TestOfACourse:
    @pytest.mark.slow
    def test_modes_come_of_the_solution(self, styled: Course) -> None:
        lines: list[str] = []
        summary = grade(styled, "ps1", progress=False, tell=lines.append)
        assert summary.failed == {}
        (line,) = lines
        assert line.startswith("means, never: the solution itself does not earn all points")
        assert "assert double(2) == 6" in line

        _, plans = read_plans(styled.work / "modes/ps1.json")
        assert {"id", "double"} <= {*(plans["means"].asked or ())}
        assert "max" not in (plans["means"].asked or ())
        cells = plans["means"].cells
        assert {name: judged.mode for name, judged in cells.items()} == {
            "outside": "outside",
            "printed": "inside",
            "own": "outside",
            "bound": "inside",
            "changes": "inside",
            "follows": "inside",
            "worthless": "inside",
            "never": "outside",
        }
        assert [name for name, judged in cells.items() if judged.follows] == ["follows"]
        assert cells["printed"].reason == "it captures what is printed, and the submission prints"
        assert cells["follows"].line == "assert items == [1]"

        scores = styled.auto_scores("ps1")
        found = {
            student: {cell: score for (_, cell), score in cells.items()}
            for student, cells in scores.items()
        }
        earned = {"outside": 1, "printed": 2, "own": 1, "bound": 1, "changes": 1, "follows": 1}
        assert found["right"] == earned | {"worthless": 0, "never": 0}
        nothing = dict.fromkeys(found["right"], 0)
        assert found["wrong"] == nothing
        assert found["cheats"] == nothing

        again = grade(styled, "ps1", progress=False)
        assert sorted(again.unchanged) == ["cheats", "right", "wrong"]

    def test_they_are_shown(self, styled: Course, capsys: pytest.CaptureFixture[str]) -> None:
        grade(styled, "ps1", progress=False)
        assert main(["doctor", "ps1", "--course", str(styled.root)]) == 1
        told = capsys.readouterr().out
        assert "outside  means, outside\n" in told
        assert "inside   means, printed: it captures what is printed" in told
        assert "inside   means, follows: AssertionError (at `assert items == [1]`)" in told
        assert "NEITHER  means, never: AssertionError (at `assert double(2) == 6`)" in told
        report = collect(styled, "ps1")
        assert "judged inside the student's process: AssertionError" in explain(report, "right")
        assert "Judged inside the student" in page(report)

    def test_a_course_can_choose(self, styled: Course) -> None:
        config = styled.root / "nbgrader_config.py"
        before = config.read_text()
        try:
            for mode, points in (("outside", 0), ("inside", 2)):
                config.write_text(f"{before}c.Isolated.mode = '{mode}'\n")
                course = Course.at(styled.root)
                lines: list[str] = []
                grade(course, "ps1", progress=False, tell=lines.append)
                assert lines == []
                assert course.auto_scores("ps1")["right"]["means", "printed"] == points
                checks = [c for r in collect(course, "ps1").rows for c in r.checks]
                assert {check.inside for check in checks} == {mode == "inside"}
        finally:
            config.write_text(before)

    def test_without_a_solved_notebook(self, styled: Course) -> None:
        solved = styled.root / "source/ps1/means.ipynb"
        text = solved.read_text()
        solved.unlink()
        try:
            lines: list[str] = []
            grade(styled, "ps1", progress=False, tell=lines.append)
        finally:
            solved.write_text(text)
        assert lines == []
        found = styled.auto_scores("ps1")["right"]
        assert found["means", "outside"] == found["means", "bound"] == 1
        assert found["means", "printed"] == 2
        assert found["means", "follows"] == 0
