"""`autograder.bindings`: the host reads what a submission's cells bind, whatever is in them."""

from __future__ import annotations

import ast

import pytest

from autograder import bindings
from autograder.bindings import bound, needed, used


@pytest.mark.parametrize(
    "deep",
    [
        "+".join(["1"] * 3000), "x" + ".a" * 3000, "x" + "()" * 3000, "x" + "[0]" * 3000,
        "not " * 3000 + "x", "-" * 3000 + "x", "1 if x else " * 3000 + "1", "lambda: " * 3000 + "x",
        "(" * 3000 + ")" * 3000,
    ],
)  # fmt: skip
def test_code_may_be_as_deep_as_it_likes(deep: str) -> None:
    assert bound(f"y = {deep}") <= {"y"}
    assert used(f"y = {deep}") <= {"x"}
    branches = "if x: y = 1\n" + "\n".join(f"elif x: y{i} = 1" for i in range(3000))
    assert bound(branches) in (set(), {"y", *(f"y{i}" for i in range(3000))})


def test_what_is_bound_is_bound_outside_of_functions_and_classes() -> None:
    source = """
import a.b as c, d.e
from f import g as h, i
from j import *
def k(l=(m := 1)):
    global n
    o = 1
    def p():
        global q
async def r(): pass
class s: t = 1
try: u = 1
except ValueError as v: w = 1
match x:
    case [y, *z]: pass
    case {"a": aa}: pass
for ab, (ac, ad) in x: ae = [af for af in x]
with x as ag: pass
(ah := 1)
ai.aj = ak[al] = 1
am: int = 1
"""
    names = "aa ab ac ad ae ag ah am c d h i k n q r s u w y z"
    assert sorted(bound(source)) == names.split()


@pytest.mark.parametrize(
    ("magic", "binds", "uses"),
    [
        ("%matplotlib inline\nx = y", {"x"}, {"y"}),
        ("x = !ls\nz = y", {"x", "z"}, {"y"}),
        ("x = %timeit -n 1 -r 1 -q f(y)", {"x"}, {"f", "y"}),
        ("%time x = f(y)", {"x"}, {"f", "y"}),
        ("x?\n?x\n!!ls\nz = y", {"z"}, {"y"}),
        ("%%time\nx = y", {"x"}, {"y"}),
        ("%%capture out\nx = y", {"x", "out"}, {"y"}),
        ("%%bash\nx=y", set(), set()),
    ],
)
def test_magics_are_looked_through(magic: str, binds: set[str], uses: set[str]) -> None:
    assert bound(magic) == binds
    assert used(magic) == uses


def test_each_cell_is_read_once_and_long_ones_never(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: read.append(len(text)) or parse(text))
    cells: list[tuple[str | None, str]] = [(str(i), f"x{i} = y{i}") for i in range(500)]
    for number in range(500):
        assert needed(f"x{number} + 1", cells) == [str(number)]
    assert len(read) <= 3 * 500
    read.clear()
    assert bound("x = 1\n" * 10_000) == set()
    long = [(None, f"a{i} = 1\n" + "#" * 25_000) for i in range(100)]
    assert needed("a + b", [*cells, *long]) == []
    assert read == []
    assert bindings._bound.cache_info().maxsize * bindings.LONGEST < 100e6
