"""Runs a cell as plain Python: what a notebook shows of it is the value of its last expression."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np

__all__ = [
    "awaits", "imported", "judges", "lists_names", "parsed", "reads_history", "reflects",
    "run_plain", "sets_attributes", "shown", "starred",
]  # fmt: skip

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_HISTORY = re.compile(r"In|Out|_[io]h|_i{1,3}|_i?\d+|_{1,3}")
_ALIKE = {"__class__", "__doc__", "__file__", "__name__", "__version__"}
_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def _parse(source: str, name: str) -> ast.Module:
    """The cell's code; what only IPython knows (`%`, `!`, `?`) becomes calls of `get_ipython()`."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return ast.parse(source, name)
    except SyntaxError:
        transformer: Any = TransformerManager
        plain = transformer().transform_cell(source)
        if "get_ipython()" not in plain:
            raise
        tree: ast.Module = ast.parse(plain, name)
        return tree


def parsed(source: str) -> ast.Module | None:
    """A cell's code; `None` where it is none."""
    try:
        return _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return None


def _execute(
    tree: ast.Module | ast.Expression,
    name: str,
    space: dict[str, Any],
    local: MutableMapping[str, Any] | None,
    flags: int,
) -> Any:
    mode = "eval" if isinstance(tree, ast.Expression) else "exec"
    code: Any = compile(tree, name, mode, flags, dont_inherit=True, optimize=0)
    if code.co_flags & inspect.CO_COROUTINE:
        return asyncio.run(eval(code, space, local))
    return eval(code, space, local)


def run_plain(
    source: str,
    name: str,
    space: dict[str, Any],
    local: MutableMapping[str, Any] | None = None,
    *,
    awaiting: bool = False,
    change: Callable[[ast.Module], ast.Module] | None = None,
) -> Any:
    """Run a cell, and give the value of its last expression if it has one that is shown.

    Args:
        source: of the cell; its magics are calls of the `get_ipython` that `space` has.
        name: of the file that tracebacks name.
        space: the global names.
        local: the local ones, if there are others.
        awaiting: whether `await` may stand outside a function.
        change: makes of the cell's code what is run.
    """
    from IPython.core.displayhook import DisplayHook

    flags = _AWAIT if awaiting else 0
    tree = _parse(source, name)
    if change is not None:
        tree = change(tree)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        _execute(tree, name, space, local, flags)
        return None
    tree.body.pop()
    _execute(tree, name, space, local, flags)
    value = _execute(ast.Expression(last.value), name, space, local, flags)
    hook: Any = DisplayHook
    return None if hook.semicolon_at_end_of_expression(source) else value


def shown(value: Any) -> str | None:
    """What a notebook shows of a value, as text; a number by its digits alone.

    nbgrader takes a text such as `np.float64(1.5)` for no number, and gives all points for it.
    """
    from IPython.lib import pretty

    value = _number(value)
    return None if value is None else str(pretty.pretty(value))  # type: ignore[no-untyped-call]


def _number(value: Any) -> Any:
    """NumPy's or torch's number as Python's; whatever else as it is."""
    kind = type(value)
    if kind.__module__ == "numpy" and issubclass(kind, np.number):
        return value.item()
    torch = sys.modules.get("torch")
    if torch is not None and kind is torch.Tensor and value.dim() == 0:
        return value.item()
    return value


def awaits(source: str) -> bool:
    """Whether a cell has an `await` outside of functions, and is right but for that."""
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
    except SyntaxError:
        try:
            compile(source, "<cell>", "exec", _AWAIT, dont_inherit=True)
        except SyntaxError:
            return False
        return True
    return False


def lists_names(source: str) -> str | None:
    """The call by which a cell lists the notebook's names, if it has one.

    >>> lists_names("assert 'x' not in dir()")
    'dir()'
    >>> lists_names("def f(): return locals()")
    """
    try:
        tree = _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return None
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    within = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            name = node.func.id
            if name == "globals" or (name in ("dir", "locals", "vars") and id(node) not in within):
                return f"{name}()"
    return None


def reads_history(source: str) -> str | None:
    """The name by which a cell reads what cells before it were or gave, if it has one.

    >>> reads_history("assert 'while' in _i")
    '_i'
    >>> reads_history("for _ in range(3): print(_)")
    """
    try:
        tree = _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return None
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    read = (node.id for node in names if node.id not in own)
    return next((name for name in read if _HISTORY.fullmatch(name)), None)


def reflects(source: str) -> str | None:
    """How a cell asks Python what an object is made of, if it does.

    >>> reflects("assert C.__repr__ is not object.__repr__")
    '__repr__'
    >>> reflects("assert 'm' in vars(C)")
    'vars()'
    >>> reflects("assert type(c).__name__ == c.__class__.__name__ and c.__len__()")
    """
    try:
        tree = _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return None
    nodes = list(ast.walk(tree))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and id(node) not in called and _is_inner(node.attr):
            return node.attr
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            name, asked = node.func.id, node.args[1:2]
            if name in ("dir", "vars"):
                return f"{name}()"
            for text in asked if name in ("getattr", "hasattr") else ():
                if isinstance(text, ast.Constant) and _is_inner(str(text.value)):
                    return str(text.value)
    return None


def _is_inner(name: str) -> bool:
    """Whether it is an attribute that a stand-in may have otherwise than what it stands for."""
    return name[:2] == name[-2:] == "__" and name not in _ALIKE


def sets_attributes(source: str) -> set[str]:
    """The names of that in which, or in whose parts, a cell sets or deletes attributes.

    >>> sorted(sets_attributes("math.pi = 3; setattr(np.linalg, 'inv', f); other.x(1)"))
    ['math', 'np']
    """
    try:
        tree = _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return set()
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            found.append(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr"):
            found += node.args[:1]
    names = set()
    for owner in found:
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        if isinstance(owner, ast.Name):
            names.add(owner.id)
    return names


def imported(source: str) -> dict[str, tuple[str, str]]:
    """What a cell binds by `from module import name`: the module and the name there.

    >>> imported("from helper import check as c")
    {'c': ('helper', 'check')}
    """
    try:
        tree = _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return {}
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name != "*"
    }


def starred(source: str) -> list[str]:
    """The modules of which a cell imports all names.

    >>> starred("from math import pi; from helper import *")
    ['helper']
    """
    try:
        tree = _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return []
    return [
        node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]


def judges(source: str) -> set[str]:
    """The names that a cell's imports, functions and classes bind: what judges, where it is locked.

    >>> sorted(judges("from math import pi as p, e; x = 1; import os.path"))
    ['e', 'os', 'p']
    """
    try:
        tree = _parse(source, "<cell>")
    except (SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
    return found - {"*"}
