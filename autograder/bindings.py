"""Which names a cell binds and uses, found by reading it."""

from __future__ import annotations

import ast
import builtins
import re
from typing import Any

__all__ = ["bound", "needed", "used"]

_CAPTURED = re.compile(r"\s*%%capture\b(?:\s+--\S+)*\s+([A-Za-z_]\w*)")
_BODY = re.compile(r"\s*%%(time|timeit|capture|prun)\b.*\n")


def _tree(source: str) -> ast.Module:
    """The cell's code; an empty one where it is not code."""
    found = _BODY.match(source)
    source = source[found.end() :] if found else source
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    from IPython.core.inputtransformer2 import TransformerManager

    transformer: Any = TransformerManager
    try:
        tree: ast.Module = ast.parse(transformer().transform_cell(source))
        return tree
    except Exception:  # whatever a transformer stumbles on
        return ast.Module([], [])


class _Bound(ast.NodeVisitor):
    """Collects what is bound outside of functions and classes, and what `global` names."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.names.add(node.id)

    def visit_alias(self, node: ast.alias) -> None:
        self.names.add((node.asname or node.name).partition(".")[0])

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        for part in node.body:
            self.visit(part)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.names |= {node.name} if node.name else set()
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.names.add(node.name)
        for part in ast.walk(node):
            if isinstance(part, ast.Global):
                self.names |= set(part.names)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.add(node.name)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def visit_ListComp(self, node: ast.expr) -> None:
        pass

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


def bound(source: str) -> set[str]:
    """The global names that a cell binds.

    >>> sorted(bound("import os.path; x, y = 1, [z for z in ()]; f = lambda a: (b := a)"))
    ['f', 'os', 'x', 'y']
    """
    visitor = _Bound()
    visitor.visit(_tree(source))
    captured = _CAPTURED.match(source.partition("\n")[0])
    return visitor.names.union(captured.groups() if captured else ()) - {"*"}


def used(source: str) -> set[str]:
    """The names that a cell uses, in functions too; without Python's builtins.

    >>> sorted(used("f = lambda: len(x); y.z(f)"))
    ['f', 'x', 'y']
    """
    found = {
        node.id
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)
    }
    return found - vars(builtins).keys()


def needed(source: str, earlier: list[tuple[str | None, str]]) -> list[str]:
    """The test cells that have to run before one, for the names that it uses.

    Args:
        source: of the cell.
        earlier: the cells before it, in order, each with a key, which is `None` for those whose
            names are there anyway; of two that bind a name the later one counts.

    Returns:
        The keys of those needed, in order.

    >>> needed("x + y", [("a", "x = 0"), ("b", "x = z"), (None, "y = 1"), ("c", "w = 2")])
    ['b']
    """
    wanted = used(source)
    keys = []
    for key, text in reversed(earlier):
        found = bound(text) & wanted
        wanted -= found
        if found and key is not None:
            keys.append(key)
            wanted |= used(text)
    return keys[::-1]
