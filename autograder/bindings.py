"""Which names a cell binds and uses, found by reading it."""

from __future__ import annotations

import ast
import builtins
import re
from functools import lru_cache

__all__ = ["bound", "needed", "used"]

LONGEST, LONGEST_OF_ALL = 30_000, 10**6
"""Characters of the longest cell that is looked into, and of all of a notebook together."""
_CAPTURED = re.compile(r"\s*%%capture\b(?:\s+--\S+)*\s+([A-Za-z_]\w*)")
_BODY = re.compile(r"\s*%%(time|timeit|capture|prun)\b.*\n")
_TIMERS = ("time", "timeit", "prun", "capture")
_APART = ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _tree(source: str) -> ast.Module:
    """The cell's code; an empty one where it is not code.

    What only IPython knows is put into Python here, line by line: its own way to do so takes a time
    that grows with the square of the cell, and a submission may have many.
    """
    found = _BODY.match(source)
    source = source[found.end() :] if found else source
    if source.lstrip().startswith("%%"):  # of another language, or for the shell
        return ast.Module([], [])
    for text in (source, "\n".join(map(_as_python, source.split("\n")))):
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return ast.Module([], [])


def _as_python(line: str) -> str:
    """A line, of whose magic there remains the code that it times.

    >>> [_as_python(line) for line in ("  x = %timeit -n 1 -r1 f(y)", "!ls", "x?", "x = 1")]
    ['  x = f(y)', 'None', 'None', 'x = 1']
    """
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    target, equals, value = text.partition("=")
    if equals and value.lstrip()[:1] in ("%", "!"):
        indent, text = f"{indent}{target}= ", value.lstrip()
    if text[:1] in ("%", "!", "?"):
        name, *words = text.split()
        first = next((i for i, word in enumerate(words) if not _is_option(word)), len(words))
        timed = name.lstrip("%") in _TIMERS
        return indent + (" ".join(words[first:]) if timed and words[first:] else "None")
    return f"{indent}None" if text.rstrip().endswith("?") else line


def _is_option(word: str) -> bool:
    return word.startswith("-") or word.isdecimal()


def bound(source: str) -> set[str]:
    """The global names that a cell binds.

    >>> sorted(bound("import os.path; x, y = 1, [z for z in ()]; f = lambda a: (b := a)"))
    ['f', 'os', 'x', 'y']
    """
    return set(_bound(source)) if len(source) <= LONGEST else set()


@lru_cache(2048)
def _bound(source: str) -> frozenset[str]:
    captured = _CAPTURED.match(source.partition("\n")[0])
    names = set(captured.groups() if captured else ())
    left: list[ast.AST] = [_tree(source)]
    while left:  # no recursion: a submission's code may be as deep as it likes
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            if not isinstance(node, ast.ClassDef):
                every = (part for part in ast.walk(node) if isinstance(part, ast.Global))
                names.update(name for part in every for name in part.names)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
            left += ast.iter_child_nodes(node)
        elif isinstance(node, ast.ExceptHandler):
            left += node.body
        elif not isinstance(node, _APART):
            left += ast.iter_child_nodes(node)
    return frozenset(names - {"*"})


def used(source: str) -> set[str]:
    """The names that a cell uses, in functions too; without Python's builtins.

    >>> sorted(used("f = lambda: len(x); y.z(f)"))
    ['f', 'x', 'y']
    """
    return set(_used(source)) if len(source) <= LONGEST else set()


@lru_cache(2048)
def _used(source: str) -> frozenset[str]:
    found = {
        node.id
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)
    }
    return frozenset(found - vars(builtins).keys())


def needed(source: str, earlier: list[tuple[str | None, str]]) -> list[str]:
    """The test cells that have to run before one, for the names that it uses.

    Args:
        source: of the cell.
        earlier: the cells before it, in order, each with a key, which is `None` for those whose
            names are there anyway; of two that bind a name the later one counts. Those of a
            notebook that is longer than `LONGEST_OF_ALL` are not looked into.

    Returns:
        The keys of those needed, in order.

    >>> needed("x + y", [("a", "x = 0"), ("b", "x = z"), (None, "y = 1"), ("c", "w = 2")])
    ['b']
    """
    if len(source) + sum(len(text) for _, text in earlier) > LONGEST_OF_ALL:
        return []
    wanted = used(source)
    keys = []
    for key, text in reversed(earlier):
        if not wanted:
            break
        found = bound(text) & wanted
        wanted -= found
        if found and key is not None:
            keys.append(key)
            wanted |= used(text)
    return keys[::-1]
