"""How students write: the same answer in a style of one's own, and somebody else's disguised.

`restyled` is what two people who know the same formula do differently, each alone. `disguised` is
what somebody does who has the other's file: new names for all that the answer itself names,
statements in another order where nothing forbids it, other comments and blanks.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from book.exercises import solved
from tests.vae_exercises.tasks import TASKS, WAYS

Answers = dict[str, str]
"""What one student wrote, by cell."""

CLASS = 30
_COMMENTS = ("", "", "   # so", "  # as in the lecture")
__all__ = ["CLASS", "Answers", "disguised", "honest_class", "restyled"]

_NAMES = (
    *("total", "result", "out", "res", "value", "values", "tmp", "ans", "acc", "parts", "diff"),
    *("var", "std", "noise", "term", "s", "a", "b", "c", "d", "u", "w", "first", "second", "third"),
)
_METHODS = ("exp", "log", "square", "sqrt", "sigmoid")
_OVER_A_DIMENSION = ("sum", "mean", "std")


def honest_class(source: Path, random: Random) -> dict[str, Answers]:
    """A class in which each of the known ways is somebody's, and the course's that of the rest."""
    everybody: dict[str, Answers] = {f"honest-{number:02}": {} for number in range(CLASS)}
    tasks = {task.split(".")[1].lower().replace("_", "-"): task for task in TASKS}
    for cell in solved(source).cells:
        about = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and about.get("solution"):
            task = tasks[about.grade_id]
            ways = [_text_of(way, task.split(".")[1]) for way in WAYS.get(task, [])]
            texts = [*ways, *[cell.source] * (CLASS - len(ways))]
            random.shuffle(texts)
            for answers, text in zip(everybody.values(), texts, strict=True):
                own = _under_the_head_of(cell.source, ast.parse(text))
                answers[about.grade_id] = restyled(own, random)
    return everybody


def _text_of(function: Callable[..., Any], name: str) -> str:
    """The source of a function, under a name of its own and without its registration."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (made,) = tree.body
    assert isinstance(made, ast.FunctionDef | ast.ClassDef)
    made.name = name
    made.decorator_list = [d for d in made.decorator_list if "way(" not in ast.unparse(d)]
    return ast.unparse(tree)


def restyled(source: str, random: Random) -> str:
    """The same function as somebody else would write it who had the same idea."""
    tree = _Style(random).visit(ast.parse(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [one for each in node.body for one in _split(each, random)]
    tree = ast.parse(ast.unparse(tree))  # the new nodes, whole
    new = iter(random.sample(_NAMES, len(_NAMES)))
    names = {old: next(new) for old in _own_names(tree) if random.random() < 0.6}
    text = _under_the_head_of(source, _Renamed(names).visit(tree))
    return text if random.random() < 0.3 else _without_brackets(text)


def disguised(source: str, random: Random, reorder: bool = True) -> str:
    """A copy under other names, in another order, with other comments and blanks."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if reorder and isinstance(node, ast.FunctionDef | ast.For | ast.With):
            _reorder(node.body)
    names = {old: f"my_{number}" for number, old in enumerate(_own_names(tree))}
    text = _under_the_head_of(source, _Renamed(names).visit(tree))
    lines = [
        f"{line.replace(' = ', '  =  ')}{random.choice(_COMMENTS)}" if " = " in line else line
        for line in text.splitlines()
    ]
    brackets = any(line.strip().startswith("return (") for line in source.splitlines())
    return "\n".join(lines) if brackets else _without_brackets("\n".join(lines))


def _under_the_head_of(source: str, tree: ast.Module) -> str:
    """The body of a function under signature and docstring as they were given."""
    (one,), (other,) = ast.parse(source).body, tree.body
    if not (isinstance(one, ast.FunctionDef) and isinstance(other, ast.FunctionDef)):
        return ast.unparse(tree)
    told = ast.get_docstring(one) is not None, ast.get_docstring(other) is not None
    head = source.splitlines()[: one.body[told[0]].lineno - 1]
    body = [ast.unparse(statement) for statement in other.body[told[1] :]]
    return "\n".join([*head, textwrap.indent("\n".join(body), "    ")])


def _without_brackets(text: str) -> str:
    """Without those that `ast.unparse` puts around a tuple that is returned."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.strip().startswith("return (") and line.endswith(")"):
            (found,) = ast.parse(line.strip()).body
            if isinstance(found, ast.Return) and isinstance(found.value, ast.Tuple):
                lines[number] = line.replace("return (", "return ", 1)[:-1]
    return "\n".join(lines)


class _Style(ast.NodeTransformer):
    def __init__(self, random: Random) -> None:
        self.random = random

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called, chance = node.func, self.random.random()
        if not isinstance(called, ast.Attribute) or len(node.args) > 1 or node.keywords:
            return node
        of_torch = isinstance(called.value, ast.Name) and called.value.id == "torch"
        if called.attr in _METHODS and chance < 0.5:
            if of_torch and node.args:
                return ast.Call(ast.Attribute(node.args[0], called.attr), [], [])
            if not node.args:
                return _torch(called.attr, called.value)
        simple = node.args and isinstance(node.args[0], ast.Constant | ast.UnaryOp)
        if called.attr in _OVER_A_DIMENSION and simple:
            dim = ast.keyword("dim", node.args[0])
            if chance < 0.3:
                return ast.Call(called, [], [dim])
            if chance < 0.5 and not isinstance(called.value, ast.Name):
                return _torch(called.attr, called.value, dim)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        chance = self.random.random()
        squared = isinstance(node.right, ast.Constant) and node.right.value == 2
        if isinstance(node.op, ast.Pow) and squared and chance < 0.5:
            how = "pow" if chance < 0.3 else "square"
            return ast.Call(ast.Attribute(node.left, how), [node.right] if how == "pow" else [], [])
        if isinstance(node.op, ast.Add | ast.Mult) and chance < 0.4:
            return ast.BinOp(node.right, node.op, node.left)
        return node


def _torch(name: str, value: ast.expr, *keywords: ast.keyword) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name("torch"), name), [value], [*keywords])


def _split(statement: ast.stmt, random: Random) -> Iterator[ast.stmt]:
    """A part of a statement may get a name of its own before it."""
    simple = isinstance(statement, ast.Return | ast.Assign) and statement.value is not None
    if not simple or random.random() > 0.4:
        yield statement
        return
    value = statement.value
    own = (ast.ListComp, ast.GeneratorExp, ast.Lambda)
    parts = [n for n in ast.walk(value) if isinstance(n, ast.BinOp | ast.Call)]
    if not parts or any(isinstance(n, own) for n in ast.walk(value)):
        yield statement
        return
    part, name = random.choice(parts), f"{random.choice(_NAMES)}_"

    class Named(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return ast.Name(name) if node is part else super().visit(node)

    kept = copy.deepcopy(part)
    yield ast.Assign([ast.Name(name, ast.Store())], kept, lineno=1)
    yield Named().visit(statement)


def _own_names(tree: ast.AST) -> list[str]:
    """What it binds itself, but for its arguments."""
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound = [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id != "_"
    ]
    return [name for name in dict.fromkeys(bound) if name not in arguments]


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.names.get(node.id, node.id)
        return node


def _reorder(body: list[ast.stmt]) -> None:
    """Swaps neighbours of which neither uses what the other binds."""
    place = 0
    while place + 1 < len(body):
        one, other = body[place], body[place + 1]
        if isinstance(one, ast.Assign) and isinstance(other, ast.Assign):
            (binds, uses), (binds_too, uses_too) = _names(one), _names(other)
            if not binds & uses_too and not binds_too & uses:
                body[place], body[place + 1] = other, one
                place += 1
        place += 1


def _names(statement: ast.stmt) -> tuple[set[str], set[str]]:
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return {n.id for n in names if isinstance(n.ctx, ast.Store)}, {n.id for n in names}
