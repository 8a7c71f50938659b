"""Ways in which instructors write tests, each with right and wrong work, and where it is judged."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

__all__ = ["HELPER", "STYLES", "Style"]

HELPER = b"def check_value(found, wanted=4):\n    assert found == wanted\n"


@dataclass(frozen=True)
class Style:
    """A test cell.

    Attributes:
        name: of the style.
        mode: the strongest in which right work passes.
        right, wrong: what a student writes.
        test: the cell; or several, of which the last one counts.
        set_up: a locked cell before the student's.
        later: what the student writes after the tests but the last.
        needs: a package that may not be there.
    """

    name: str
    mode: str
    right: str
    wrong: str
    test: str | tuple[str, ...]
    set_up: str = "import math"
    later: str = ""
    needs: str = "math"


STYLES: list[Style] = []


def style(
    name: str, mode: str, right: str, wrong: str, *test: str, set_up: str = "import math",
    later: str = "", needs: str = "math",
) -> None:  # fmt: skip
    texts = [textwrap.dedent(text).strip() for text in (right, wrong, set_up, later, *test)]
    right, wrong, set_up, later, *tests = texts
    STYLES.append(Style(name, mode, right, wrong, tuple(tests), set_up, later, needs))


DOUBLE, NOT_DOUBLE = "def double(x): return 2 * x", "def double(x): return x + 1"
SAYS, SILENT = "def says(): print('so')", "def says(): print('no')"
FOUR, FIVE = "value = 4", "value = 5"

style("values", "outside", DOUBLE, NOT_DOUBLE, "assert double(2) == 4")
style(
    "numpy testing",
    "outside",
    DOUBLE,
    NOT_DOUBLE,
    """
    import numpy as np
    np.testing.assert_allclose(double(np.arange(3.0)), [0, 2, 4])
    """,
)
style("time", "outside", DOUBLE, NOT_DOUBLE, "%%time\nassert double(2) == 4")
style("capture", "outside", DOUBLE, NOT_DOUBLE, "%%capture\nassert double(2) == 4")
style("line time", "outside", DOUBLE, NOT_DOUBLE, "%time assert double(2) == 4")
style("timeit", "outside", DOUBLE, NOT_DOUBLE, "%timeit -n1 -r1 assert double(2) == 4")
style(
    "bash",
    "inside",
    "open('x', 'w').write('4')",
    "open('x', 'w').write('5')",
    "%%bash\ngrep -q 4 x",
)
style(
    "shell",
    "inside",
    "open('x', 'w').write('4')",
    "open('x', 'w').write('5')",
    "found = !cat x\nassert found == ['4']",
)
style("rerun", "inside", FOUR, f"{FOUR}\nraise ValueError", "%rerun\nassert value == 4")
style("run by the shell", "inside", FOUR, FIVE, "get_ipython().run_cell('assert value == 4')")
style(
    "a file that is run",
    "inside",
    FOUR,
    FIVE,
    "open('test.py', 'w').write('assert value == 4')\n%run -i test.py",
)
style(
    "own max",
    "outside",
    "def max(*x): return 'own'",
    "def max(*x): return 3",
    "assert max(1, 3) == 'own'",
)
style(
    "own filter",
    "outside",
    "def filter(f, x): return [y for y in x if f(y)]",
    "def filter(f, x): return x",
    "assert filter(bool, [0, 1]) == [1]",
)
style("own id", "outside", "id = 7", "id = 8", "assert id == 7")
style(
    "helper",
    "outside",
    FOUR,
    f"{FIVE}\ncheck_value = lambda *x: None",
    "check_value(value)",
    set_up="from helper import check_value",
)
style(
    "helper in the test",
    "outside",
    FOUR,
    FIVE,
    "from helper import check_value",
    "check_value(value)",
)
style(
    "a helper of all names",
    "outside",
    FOUR,
    f"{FIVE}\ncheck_value = lambda *x: None",
    "check_value(value)",
    set_up="from helper import *",
)
style(
    "a helper that is run",
    "outside",
    FOUR,
    f"{FIVE}\ncheck_value = lambda *x: None",
    "check_value(value)",
    set_up="%run helper.py",
)
for how in (
    "from helper import *",
    "%run helper.py",
    "exec(open('helper.py').read())",
    "import helper\ncheck_value = helper.check_value",
    "import functools, helper\ncheck_value = functools.partial(helper.check_value, wanted=4)",
    "check_value = lambda found: 1 / (found == 4)",
):
    style(
        f"a judge inside by {how}",
        "inside",
        FOUR,
        f"{FIVE}\ncheck_value = lambda *x: None",
        "assert 'value' in globals()\ncheck_value(value)",
        set_up=how,
    )
style(
    "stdout",
    "inside",
    SAYS,
    SILENT,
    """
    import contextlib, io
    with contextlib.redirect_stdout(io.StringIO()) as said:
        says()
    assert said.getvalue() == "so\\n"
    """,
)
style(
    "stdout of a magic",
    "inside",
    SAYS,
    SILENT,
    "%%capture said\nsays()",
    "assert said.stdout == 'so\\n'",
)
style(
    "nothing may be printed",
    "outside",
    DOUBLE,
    "def double(x):\n    print('so', end='')\n    return 2 * x",
    """
    import contextlib, io
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert double(2) == 4
    assert said.getvalue() == ""
    """,
)
style(
    "nothing may be printed, by a magic",
    "outside",
    DOUBLE,
    "def double(x):\n    print('so')\n    return 2 * x",
    "%%capture said\ndouble(2)",
    "assert said.stdout == '' and double(2) == 4",
)
style(
    "a library is patched to what it gives anyway",
    "inside",
    "import random\ndef die(): return random.choice('aa')",
    "def die(): return 'b'",
    """
    from unittest.mock import patch
    with patch("random.choice", return_value="a"):
        assert die() == "a"
    """,
)
style(
    "a module is changed",
    "inside",
    "def area(r): return math.pi * r * r",
    "def area(r): return 3.14 * r * r",
    """
    kept, math.pi = math.pi, 3
    assert area(2) == 12
    math.pi = kept
    """,
)
style(
    "print is patched",
    "inside",
    SAYS,
    SILENT,
    """
    from unittest.mock import patch
    with patch("builtins.print") as shown:
        says()
    shown.assert_called_with("so")
    """,
)
style(
    "input is patched",
    "inside",
    "def ask(): return int(input('?')) * 2",
    "def ask(): return 3",
    """
    from unittest.mock import patch
    with patch("builtins.input", return_value="21"):
        assert ask() == 42
    """,
)
style(
    "a library is patched",
    "inside",
    "def root(x): return math.sqrt(x)",
    "def root(x): return x ** 0.5",
    """
    from unittest.mock import patch
    with patch("math.sqrt", return_value=7) as sqrt:
        assert root(4) == 7
    sqrt.assert_called_once()
    """,
)
style(
    "a function is patched",
    "inside",
    "def sq(x): return x * x\ndef f(x): return sq(x) + 1",
    "def sq(x): return x * x\ndef f(x): return x * x + 1",
    """
    from unittest.mock import patch
    with patch("__main__.sq", return_value=1) as patched:
        assert f(3) == 2
    patched.assert_called_with(3)
    """,
)
style(
    "a helper is deleted",
    "inside",
    "def sq(x): return x * x\ndef f(x): return sq(x) + 1",
    "def sq(x): return x * x\ndef f(x): return x * x + 1",
    """
    kept = sq
    del sq
    try:
        f(3)
    except NameError:
        pass
    else:
        raise AssertionError("f does not use sq")
    finally:
        sq = kept
    """,
)
style(
    "a global is set",
    "inside",
    "rate = 2\ndef f(x): return rate * x",
    "rate = 2\ndef f(x): return 2 * x",
    "rate = 5\nassert f(2) == 10",
)
style(
    "history",
    "inside",
    "print('so')",
    "print('no')",
    """
    import sys, io
    old_stdout, sys.stdout = sys.stdout, io.StringIO()
    exec(In[-2])
    printed = sys.stdout.getvalue()
    sys.stdout = old_stdout
    assert printed == 'so\\n'
    """,
)
style("the last input", "inside", "x = [1 for _ in '1']", "x = [1]", "assert 'for' in _i")
style("the last output", "inside", "value = 2\nvalue * 2", "value = 5\nvalue", "assert _ == 4")
style(
    "an alarm",
    "inside",
    DOUBLE,
    "def double(x):\n    while True: pass",
    """
    import signal
    def ring(*_): raise TimeoutError("too slow")
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(1)
    try:
        assert double(2) == 4
    finally:
        signal.alarm(0)
    """,
)
style("dir", "inside", FOUR, "other = 4", "assert 'value' in dir()")
style("globals", "inside", FOUR, FIVE, "assert globals().get('value') == 4")
style("eval", "outside", FOUR, FIVE, "assert eval('value') == 4")
style("main", "outside", FOUR, FIVE, "import __main__\nassert __main__.value == 4")
style(
    "signature",
    "inside",
    "def f(x, y=2): pass",
    "def f(x): pass",
    """
    import inspect
    assert list(inspect.signature(f).parameters) == ["x", "y"]
    """,
)
style(
    "source",
    "inside",
    "def f(x):\n    return [y for y in x]",
    "def f(x): return list(x)",
    """
    import inspect
    assert " for " in inspect.getsource(f)
    """,
)
style(
    "a method's docstring",
    "outside",
    "class A:\n    def f(self): 'It is so.'",
    "class A:\n    def f(self): pass",
    "assert A().f.__doc__",
)
style(
    "no docstring", "outside", "def f(): pass", "def f(): 'It is so.'", "assert f.__doc__ is None"
)
style("code", "inside", "def f(x, y=2): pass", "def f(x): pass", "assert f.__defaults__ == (2,)")
style(
    "annotations",
    "inside",
    "def f(x: int) -> str: return ''",
    "def f(x): return ''",
    "assert f.__annotations__ == {'x': int, 'return': str}",
)
style(
    "how many parameters, by a helper",
    "inside",
    "def f(x, y): pass",
    "def f(x): pass",
    "takes(f, 2)",
    set_up="""
    from inspect import signature
    def takes(f, n): assert len(signature(f).parameters) == n
    """,
)
style(
    "some annotation", "inside", "def f(x: int): pass", "def f(x): pass", "assert f.__annotations__"
)
style(
    "no generator",
    "inside",
    "def f(): return [1]",
    "def f(): yield 1",
    "import inspect\nassert not inspect.isgeneratorfunction(f) and list(f()) == [1]",
)
style(
    "a special method of its own",
    "inside",
    "class A:\n    def __repr__(self): return 'A'",
    "class A: pass",
    "assert A.__repr__ is not object.__repr__",
)
style(
    "no slots",
    "inside",
    "class A: pass",
    "class A: __slots__ = ()",
    "assert not hasattr(A, '__slots__')",
)
style(
    "a method that is inherited",
    "inside",
    "class A:\n    def f(self): return 4\nclass B(A): pass",
    "class A: pass\nclass B(A):\n    def f(self): return 4",
    "assert 'f' not in vars(B) and B().f() == 4",
)
style(
    "dataclass",
    "inside",
    """
    from dataclasses import dataclass
    @dataclass
    class P:
        x: int
        y: int = 2
    """,
    "class P:\n    def __init__(self, x, y=2): self.x, self.y = x, y",
    """
    from dataclasses import asdict
    assert asdict(P(1)) == {"x": 1, "y": 2}
    """,
)
style(
    "enum",
    "inside",
    "import enum\nclass Colour(enum.IntEnum):\n    RED = 1",
    "class Colour:\n    RED = 2",
    "assert Colour.RED == 1 and Colour(1) is Colour['RED']",
)
style(
    "decimal",
    "inside",
    "from decimal import Decimal\ndef price(): return Decimal('1.10')",
    "def price(): return 1.1",
    "from decimal import Decimal\nassert price() == Decimal('1.10')",
)
style(
    "date",
    "inside",
    "def year(day): return day.year",
    "def year(day): return day.month",
    "import datetime\nassert year(datetime.date(2030, 1, 2)) == 2030",
)
style(
    "path",
    "inside",
    "def stem(path): return path.stem",
    "def stem(path): return path.name",
    "from pathlib import Path\nassert stem(Path('a.txt')) == 'a'",
)
style(
    "np.str_",
    "inside",
    "import numpy as np\ndef name(): return np.array(['a', 'b'])[1]",
    "def name(): return 'a'",
    "assert name() == 'b'",
)
style(
    "subclass of list",
    "inside",
    "class L(list): pass\ndef f(): return L([1])",
    "def f(): return (1,)",
    "assert f() == [1]",
)
style(
    "a class of the test's",
    "inside",
    "class A:\n    def f(self): return self.g() + 1",
    "class A:\n    def f(self): return 1",
    """
    class B(A):
        def g(self): return 4
    assert B().f() == 5
    """,
)
style(
    "abs and float",
    "inside",
    """
    class T:
        def __abs__(self): return 3
        def __float__(self): return 1.5
    """,
    "class T: pass",
    "assert abs(T()) == 3 and float(T()) == 1.5",
)
style(
    "an operator that refuses a number",
    "outside",
    "class V:\n    def __add__(self, other): return NotImplemented",
    "class V:\n    def __add__(self, other): return 1 + other",
    """
    try:
        V() + 1
    except TypeError:
        pass
    else:
        raise AssertionError("a V and a number cannot be added")
    """,
)
style(
    "an order that refuses a number",
    "outside",
    "class V: pass",
    "class V:\n    def __lt__(self, other): return True",
    """
    try:
        V() < 1
    except TypeError:
        pass
    else:
        raise AssertionError("a V and a number have no order")
    """,
)
style(
    "a value too large to cross",
    "outside",
    "def f(n):\n    if n > 9: raise ValueError\n    return n",
    "def f(n): return 1 << 2**21",
    """
    try:
        f(10)
    except ValueError:
        pass
    else:
        raise AssertionError("10 is too many")
    """,
)
style(
    "hash",
    "inside",
    """
    class K:
        def __init__(self, x): self.x = x
        def __eq__(self, other): return self.x == other.x
        def __hash__(self): return hash(self.x)
    """,
    "class K:\n    def __init__(self, x): pass",
    "assert len({K(1), K(1), K(2)}) == 2",
)
style(
    "pandas",
    "inside",
    """
    import pandas as pd
    def table(): return pd.DataFrame({"x": [1, 2]})
    """,
    "def table(): return {'x': [1, 2]}",
    """
    import pandas as pd
    assert isinstance(table(), pd.DataFrame)
    pd.testing.assert_frame_equal(table(), pd.DataFrame({"x": [1, 2]}))
    """,
    needs="pandas",
)
style(
    "a file that is written",
    "inside",
    "def save(): open('new', 'w').write('4')",
    "def save(): open('new', 'w').write('5')",
    "save()\nassert open('new').read() == '4'",
)
style(
    "a file for the student",
    "inside",
    "def load(): return open('test.txt').read()",
    "def load(): return ''",
    "open('test.txt', 'w').write('4')\nassert load() == '4'",
)
style(
    "a function of the test's is decorated",
    "outside",
    "import functools\ndef twice(f): return functools.wraps(f)(lambda x: 2 * f(x))",
    "def twice(f): return f",
    """
    @twice
    def f(x): return x
    assert f(2) == 4
    """,
)
style(
    "a file that exists",
    "inside",
    "open('new', 'w').write('4')",
    "",
    "import os\nassert os.path.exists('new')",
)
style(
    "a list is filled",
    "inside",
    "records.append(4)",
    "records.append(5)",
    "assert records == [4]",
    set_up="records = []",
)
style(
    "await", "inside", "async def f(): return 4", "async def f(): return 5", "assert await f() == 4"
)
style(
    "a name bound in a test",
    "outside",
    DOUBLE,
    NOT_DOUBLE,
    "import fractions\nquarter = fractions.Fraction(1, 4)\nassert double(2) == 4",
    "assert late == 1",
    later="late = double(float(quarter)) + 0.5",
)
style(
    "a name bound in a test inside",
    "inside",
    DOUBLE,
    NOT_DOUBLE,
    "import inspect\ncount = len(inspect.signature(double).parameters)",
    "assert double(2) == 4 and inspect.signature(double) and count == 1",
)
style(
    "a name that must not be",
    "inside",
    "x = 1\ndel x\nvalue = 4",
    "x = 1\nvalue = 4",
    "assert value == 4 and 'x' not in globals()",
)
style(
    "doctest",
    "inside",
    "def f():\n    'It is so.\\n\\n    >>> f()\\n    1'\n    return 1",
    "def f():\n    'It is so.\\n\\n    >>> f()\\n    1'\n    return 2",
    "import doctest\ndone = doctest.testmod()\nassert done.attempted and not done.failed",
)
style(
    "exceptions",
    "outside",
    "def f(x): raise ValueError('negative')",
    "def f(x): pass",
    """
    try:
        f(-1)
    except ValueError as error:
        assert "negative" in str(error)
    else:
        raise AssertionError
    """,
)
style(
    "unittest",
    "inside",
    DOUBLE,
    NOT_DOUBLE,
    """
    import unittest
    class Test(unittest.TestCase):
        def test_double(self): self.assertEqual(double(2), 4)
    done = unittest.main(argv=[""], exit=False, verbosity=0)
    assert done.result.wasSuccessful()
    """,
)
