"""Small edits of a right solution, made by a program: what students may get wrong.

`mutants(source)` yields each edit of a function's or class's text: another operator, constant,
axis or reduction, swapped arguments, a call, condition or statement that is missing, and calls
that do not belong there, such as a detach, a change of the dtype or a seed.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["mutants"]

OPERATORS: dict[type[ast.operator], list[type[ast.operator]]] = {
    ast.Add: [ast.Sub, ast.Mult],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div, ast.Add],
    ast.Div: [ast.Mult],
    ast.Pow: [ast.Mult, ast.BitXor],
    ast.MatMult: [ast.Mult],
    ast.FloorDiv: [ast.Div],
    ast.Mod: [ast.FloorDiv],
}
COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
}
NAMES = {
    "sum": ["mean", "prod"],
    "mean": ["sum", "median"],
    "exp": ["log", "sigmoid"],
    "log": ["exp", "abs"],
    "sqrt": ["square"],
    "square": ["abs", "sqrt"],
    "logsumexp": ["sum", "mean"],
    "log_softmax": ["softmax"],
    "relu": ["tanh", "sigmoid"],
    "ReLU": ["Tanh", "Sigmoid", "Identity"],
    "sigmoid": ["tanh", "relu"],
    "Sigmoid": ["Tanh", "Identity"],
    "logsigmoid": ["sigmoid"],
    "softplus": ["relu"],
    "rsample": ["sample"],
    "sample": ["rsample"],
    "randn": ["rand", "zeros", "ones"],
    "normal": ["zeros"],
    "randn_like": ["rand_like", "zeros_like"],
    "randperm": ["arange"],
    "zeros": ["ones"],
    "ones": ["zeros"],
    "zeros_like": ["ones_like"],
    "ones_like": ["zeros_like"],
    "max": ["min", "mean"],
    "amax": ["amin", "mean"],
    "min": ["max"],
    "cholesky": ["inv", "pinv"],
    "icdf": ["cdf"],
    "linspace": ["logspace"],
    "expm1": ["exp"],
    "log1p": ["log"],
    "eval": ["train"],
    "train": ["eval"],
    "no_grad": ["enable_grad"],
    "backward": ["sum"],
    "mT": ["mH", "real"],
    "loc": ["scale"],
    "mu": ["logvar"],
    "logvar": ["mu"],
    "x": ["x_hat"],
}
# What is put around a part of an expression.
AROUND = [
    "({}).detach()",
    "({}).abs()",
    "({}).float()",
    "({}).round()",
    "({}).clamp(-5, 5)",
    "({}).clamp(min=0)",
    "({}).nan_to_num()",
    "({}).squeeze()",
    "({}).T",
    "-({})",
    "2 * ({})",
    "({}) + 1",
]
BEFORE = ["torch.manual_seed(0)", "torch.set_grad_enabled(False)", "torch.randn(1)"]


def mutants(
    source: str, chosen: Callable[[list[Any]], list[Any]] = list
) -> Iterator[tuple[str, str]]:
    r"""Yield a description and the text of each mutant.

    Arguments:
        source: of a function or a class.
        chosen: takes some of all edits, for example at random, before their texts are made.

    Example:
        >>> texts = dict(mutants("def half(x):\n    return x / 2"))
        >>> texts["x / 2 → x * 2"]
        'def half(x):\n    return x * 2'
    """
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    edits = [(path, node, new) for path, node in _walk(tree, ()) for new in _edits(node)]
    for path, node, new in chosen(edits):
        text = _replaced(tree, path, new)
        if text is not None and text not in seen:
            seen.add(text)
            before = "…" if isinstance(node, ast.arguments) else ast.unparse(node)
            after = "nothing" if new is None else _text(new)
            yield f"{before} → {after}", text


Step = tuple[str, int | None]


def _walk(node: ast.AST, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], ast.AST]]:
    """All nodes that do something, with the way to them."""
    for name, value in ast.iter_fields(node):
        if name in ("args", "returns", "annotation", "decorator_list", "bases") and isinstance(
            node, ast.FunctionDef | ast.AnnAssign | ast.ClassDef | ast.arg
        ):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                way = (*path, (name, i))
                yield way, child
                yield from _walk(child, way)


def _replaced(
    tree: ast.AST, path: tuple[Step, ...], new: ast.AST | list[ast.stmt] | None
) -> str | None:
    """The text of the tree with one node replaced; the tree itself is as before afterwards.

    A copy of the tree for each mutant would take most of the time.
    """
    node = tree
    for name, i in path[:-1]:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    name, i = path[-1]
    old = getattr(node, name)
    if i is None:
        if new is None:
            return None
        setattr(node, name, new)
    else:
        parts = [*old]
        parts[i : i + 1] = [] if new is None else new if isinstance(new, list) else [new]
        if not parts and name in ("body", "args", "elts", "targets", "values"):
            if name != "body":
                return None
            parts.append(ast.Pass())
        setattr(node, name, parts)
    try:
        text = ast.unparse(tree)
        compile(text, "<mutant>", "exec")
    except (SyntaxError, ValueError, TypeError, AttributeError):
        return None
    finally:
        setattr(node, name, old)
    return text


def _edits(node: ast.AST) -> Iterator[ast.AST | list[ast.stmt] | None]:
    if isinstance(node, ast.stmt):
        yield from _edits_of_statement(node)
    elif isinstance(node, ast.keyword):
        yield None
    elif isinstance(node, ast.expr) and not isinstance(getattr(node, "ctx", None), ast.Store):
        yield from _edits_of_expression(node)


def _edits_of_statement(node: ast.stmt) -> Iterator[ast.AST | list[ast.stmt] | None]:
    if isinstance(node, ast.FunctionDef):
        for line in BEFORE:
            new = copy.deepcopy(node)
            new.body[:0] = ast.parse(line).body
            yield new
        if not any(isinstance(part, ast.Yield) for part in ast.walk(node)):
            new = copy.deepcopy(node)
            inside = ast.parse("with torch.no_grad(): pass").body[0]
            assert isinstance(inside, ast.With)
            inside.body = new.body
            new.body = [inside]
            yield new
        return
    if isinstance(node, ast.Return):
        if isinstance(node.value, ast.Tuple):
            for i in range(len(node.value.elts)):
                new = copy.deepcopy(node)
                assert isinstance(new.value, ast.Tuple)
                new.value.elts[i : i + 1] = []
                yield new
        yield ast.Expr(node.value) if node.value else None
        return
    if isinstance(node, ast.With | ast.For | ast.If | ast.While):
        yield list(node.body)
    if isinstance(node, ast.If) and node.orelse:
        yield list(node.orelse)
    if isinstance(node, ast.AugAssign):
        for other in OPERATORS.get(type(node.op), []):
            yield ast.AugAssign(node.target, other(), node.value)
        yield ast.Assign([node.target], node.value, lineno=0)
    if not isinstance(node, ast.Pass | ast.Import | ast.ImportFrom):
        yield None


def _edits_of_expression(node: ast.expr) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        for other in OPERATORS.get(type(node.op), []):
            yield ast.BinOp(node.left, other(), node.right)
        if isinstance(node.op, ast.Sub | ast.Div | ast.Pow | ast.MatMult):
            yield ast.BinOp(node.right, node.op, node.left)
        yield node.left
        yield node.right
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    if isinstance(node, ast.Compare):
        for comparison in COMPARISONS.get(type(node.ops[0]), []):
            yield ast.Compare(node.left, [comparison(), *node.ops[1:]], node.comparators)
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    if isinstance(node, ast.Constant):
        yield from map(ast.Constant, _other_constants(node.value))
    if isinstance(node, ast.Slice):
        return
    if isinstance(node, ast.Name):
        yield from (ast.Name(other) for other in NAMES.get(node.id, []))
    if isinstance(node, ast.Attribute):
        yield from (ast.Attribute(node.value, other) for other in NAMES.get(node.attr, []))
        if not isinstance(node.value, ast.Name) or node.value.id not in (
            "torch",
            "F",
            "nn",
            "math",
        ):
            yield node.value
    if isinstance(node, ast.Call):
        yield from _edits_of_call(node)
    if isinstance(node, ast.Tuple | ast.List) and len(node.elts) == 2:
        yield type(node)(elts=node.elts[::-1], ctx=ast.Load())
    if isinstance(node, ast.BinOp | ast.Call | ast.Name | ast.Subscript):
        text = ast.unparse(node)
        yield from (ast.parse(form.format(text), mode="eval").body for form in AROUND)


def _edits_of_call(node: ast.Call) -> Iterator[ast.AST]:
    if len(node.args) >= 2:
        yield ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    if node.args:
        yield ast.Call(node.func, node.args[:-1], node.keywords)
    if isinstance(node.func, ast.Attribute):  # a method that is not called
        yield node.func.value
    if len(node.args) == 1 and not node.keywords:
        yield node.args[0]
    yield node.func


def _other_constants(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return sorted({value + 1, value - 1, 0, 1, 2, -value} - {value})
    if isinstance(value, float):
        return [2 * value, 1.0, 0.0, -value]
    if value == "none":
        return ["sum", "mean"]
    if value in ("sum", "mean"):
        return [{"sum": "mean", "mean": "sum"}[str(value)]]
    return []


def _text(new: ast.AST | list[ast.stmt]) -> str:
    return "; ".join(map(ast.unparse, new)) if isinstance(new, list) else ast.unparse(new)
