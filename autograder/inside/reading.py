"""What a test's text says that it looks for, where only one process would show it."""

from __future__ import annotations

import ast
import builtins
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autograder.inside.plain import parsed

__all__ = ["Reading", "asks_identity", "asks_process", "replaces"]

_BODY = re.compile(r"\s*%%(?:time|timeit|capture|prun)\b.*\n")
_SAME = {"id", "assertIs", "assertIsNot", "shares_memory", "may_share_memory", "base"}
_PROCESS = re.compile(
    r"os(\.path)?\.(chdir|environ|exists|getcwd|getenv|isdir|isfile|listdir|scandir|stat|walk)"
    r"|(pathlib\.)?Path\.(cwd|exists|glob|is_dir|is_file|iterdir|rglob|stat)|glob\.i?glob"
    r"|sys\.(modules\[\]|getrefcount|setprofile|setrecursionlimit|settrace)|tracemalloc|psutil|resource"
    r"|time\.(process|thread)_time(_ns)?|threading\.(active_count|enumerate)|gc\.get_\w+"
    r"|(plt|pyplot|matplotlib\.pyplot)\.(fignum_exists|get_fignums)"
    r"|(pytest\.)?MonkeyPatch"
)
_STRICT = re.compile(
    r"(np|numpy)\.(errstate|seterr)|warnings\.(catch_warnings|filterwarnings|simplefilter)"
)


class Reading:
    """Reads test cells, each with the functions and classes of the course's that it calls.

    Args:
        folder: that has the course's own modules.
    """

    def __init__(self, folder: Path) -> None:
        self._known: dict[str, ast.stmt] = {}
        for path in folder.rglob("*.py"):
            self.add(path.read_text(errors="replace"))

    def add(self, source: str) -> None:
        """A locked cell or module, whose functions and classes tests may call."""
        for node in _tree(source).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._known[node.name] = node

    def __call__(self, source: str) -> list[ast.AST]:
        """All nodes of a cell and of what it calls."""
        nodes = list(ast.walk(_tree(source)))
        called: set[str] = set()
        for node in nodes:  # which grows
            name = getattr(node, "id", getattr(node, "attr", None))
            if name in self._known and name not in called:
                called.add(name)
                nodes += ast.walk(self._known[name])
        return nodes


def _tree(source: str) -> ast.Module:
    found = _BODY.match(source)
    return parsed(source[found.end() :] if found else source) or ast.Module([], [])


def _dotted(node: ast.AST) -> str:
    """An attribute by its path, as in `os.path.exists`; without what calls on it were given."""
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def asks_identity(nodes: list[ast.AST]) -> bool:
    """Whether a test asks if two values are one.

    >>> [asks_identity([*ast.walk(ast.parse(s))]) for s in ("a is b", "a is None", "id(a) == 3")]
    [True, False, True]
    """
    for node in nodes:
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for i, op in enumerate(node.ops):
                plain = any(isinstance(side, ast.Constant) for side in sides[i : i + 2])
                if isinstance(op, ast.Is | ast.IsNot) and not plain:
                    return True
        elif getattr(node, "id", getattr(node, "attr", "")) in _SAME:
            return True
    return False


def asks_process(nodes: list[ast.AST]) -> str | None:
    """What a test uses that is of its own process: of the submission's it tells nothing.

    >>> asks_process([*ast.walk(ast.parse("import os; os.path.exists('x')"))])
    'os.path.exists'
    >>> asks_process([*ast.walk(ast.parse("np.errstate(all='ignore')"))])
    """
    for node in nodes:
        names = [_dotted(node)] if isinstance(node, ast.Attribute | ast.Call) else []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            names.append(f"{_dotted(node.value)}[]")
        for name in names:
            strict = isinstance(node, ast.Call) and _STRICT.fullmatch(name) and _is_strict(node)
            if strict or _PROCESS.fullmatch(name):
                return name
    return None


def _is_strict(call: ast.Call) -> bool:
    """Whether it makes errors of warnings, or keeps them."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(
        isinstance(one, ast.Constant) and one.value in ("call", "error", "raise", True)
        for one in given
    )


def replaces(source: str, space: Mapping[str, Any], theirs: set[str]) -> str | None:
    """The name under which a cell puts something else than the submission is to find there.

    Args:
        source: of the cell.
        space: the names that were bound before it.
        theirs: names that the submission has bound.

    >>> replaces("def sorted(*x): raise AssertionError", {}, set())
    'sorted'
    >>> replaces("rate = 3", {}, {"rate"})
    """
    tree = _tree(source)
    modules = {name for name, value in space.items() if isinstance(value, types.ModuleType)}
    modules |= {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names, taken = [node.name], theirs | modules
        else:
            every = (one for one in ast.walk(node) if isinstance(one, ast.Name))
            names, taken = [one.id for one in every if not isinstance(one.ctx, ast.Load)], modules
        for name in names:
            if name in vars(builtins) or name in taken:
                return name
    return None
