"""The page's table is what is counted, by the rule it states, of programs that run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import pytest

from benchmarks.lines_of_code import EXAMPLES, ROOT, lines, of_page, of_pyro, table, written


def test_the_page_shows_what_is_counted() -> None:
    assert f"\n\n{table()}\n\n" in (ROOT / "chapters" / "your-own-model.md").read_text("utf-8")


def test_every_example_is_written_both_ways() -> None:
    for example in EXAMPLES:
        assert "fit(" in of_page(example), example
        assert "SVI(" in of_pyro(example), example


def test_a_line_is_a_statement_however_it_is_laid_out() -> None:
    assert lines("f(\n    1,\n    2,\n)") == lines("f(1, 2)") == Counter(["f(1, 2)"])
    assert lines("a = 1; b = 2").total() == 2


def test_each_head_and_decorator_is_a_line() -> None:
    code = '''
class A(B):
    """Not counted."""

    @property
    def c(self):
        # nor this
        for d in e:
            if d:
                return d
'''
    heads = ["class A(B):", "@property", "def c(self):", "for d in e:", "if d:", "return d"]
    assert lines(code) == Counter(heads)


def test_imports_and_prints_are_no_lines() -> None:
    assert not lines("import a\nfrom b import c\nprint(a, c)\n'text'\n")


def test_only_what_the_plain_program_lacks_is_written() -> None:
    assert written("a = 1\nb = 2\nb = 2", "a = 1\nb = 2\nc = 3") == 1


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("pyro"), reason="needs pyro: benchmarks/requirements.txt")
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_program_in_pyro_learns(example: str) -> None:
    module = f"benchmarks.in_pyro.{example.replace('-', '_')}"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    bound = re.fullmatch(r"(-\d+\.\d\d) nats per image\n", ran.stdout)
    assert bound
    assert -25.5 < float(bound[1]) < -20
