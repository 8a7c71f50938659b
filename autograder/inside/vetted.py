"""Keeps objects that lie from passing a test that runs beside the submission's code.

Outside, no object of a submission's decides a comparison. Inside it does, so what the test comes to
see of it is vetted. An object that equals several unlike values is not an answer. Nor, where the
submission's answers alone have brought the cell inside, is a plain result of arithmetic that it has
written itself, nor what it says of a plain value (`comparison`).
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import operator
import os
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from autograder.inside.comparison import Calls, Chains, compare
from autograder.inside.own import NoAnswer, decides, is_own
from autograder.link.optional import HAS_TORCH, torch

__all__ = ["Vetting", "vetters"]

# As they are before any of a submission's code runs.
_exit, _getpid = os._exit, os.getpid

_VET, _WORK_OUT, _COMPARE, _OPERAND = "__vet__", "__work_out__", "__compare__", "__operand__"
_CALLED, _GIVEN = "__called__", "__given__"
_places = itertools.count()  # in the code of cells
_MANY = 1000  # elements of a container that are looked at
_FEW = 20  # a container of more is looked at once
_PLAIN: set[Any] = {
    bool, bytearray, bytes, complex, float, int, range, slice, str, type, type(None), type(print),
    type(lambda: None), type(ast), *np.ScalarType,
}  # fmt: skip
if HAS_TORCH:
    _PLAIN |= {torch.Tensor, torch.nn.Parameter}
_CONTAINERS = (list, tuple, set, frozenset, dict, np.ndarray)
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.MatMult: operator.matmul, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}  # fmt: skip
_BY_NAME = {kind.__name__: function for kind, function in _OPERATORS.items()}


class Vetting(ast.NodeTransformer):
    """Has a cell's values vetted.

    Args:
        noticed: whether what a submission's own classes do is looked at, too.
    """

    def __init__(self, noticed: bool) -> None:
        self._noticed = noticed

    def __call__(self, tree: ast.Module) -> ast.Module:
        """The cell's code with calls of what `vetters` gives."""
        made: ast.Module = ast.fix_missing_locations(self.visit(tree))
        return made

    def _vetted(self, node: ast.expr) -> ast.expr:
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return node
        return self._call(_VET, node, node)

    def _call(self, name: str, place: ast.expr, *args: ast.expr) -> ast.expr:
        function = ast.copy_location(ast.Name(name, ast.Load()), place)
        return ast.copy_location(ast.Call(function, list(args), []), place)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Vets what it gives, and its arguments."""
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        node.args = [self.visit(arg) for arg in node.args]
        node.keywords = [self.visit(keyword) for keyword in node.keywords]
        if self._noticed and (node.args or node.keywords):
            place = ast.Constant(next(_places))
            node.func = self._call(_CALLED, node.func, place, node.func)
            left = len(node.args) + len(node.keywords)

            def given(value: ast.expr) -> ast.expr:
                nonlocal left
                left -= 1
                return self._call(_GIVEN, value, place, ast.Constant(left == 0), value)

            for i, arg in enumerate(node.args):
                if isinstance(arg, ast.Starred):
                    arg.value = given(arg.value)
                else:
                    node.args[i] = given(arg)
            for keyword in node.keywords:
                keyword.value = given(keyword.value)
        return self._vetted(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Vets its value."""
        return node if node.id == "ANY" else self._vetted(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Vets its value."""
        self.generic_visit(node)
        return node if node.attr == "ANY" else self._vetted(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """Vets its value."""
        self.generic_visit(node)
        return self._vetted(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Vets its result."""
        self.generic_visit(node)
        if not self._noticed:
            return node
        name = ast.Constant(type(node.op).__name__)
        return self._call(_WORK_OUT, node, name, node.left, node.right)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Vets what is compared."""
        self.generic_visit(node)
        if not self._noticed:
            return node
        names = [type(op).__name__ for op in node.ops]
        if len(names) == 1 and names[0] not in ("Is", "IsNot"):
            return self._call(
                _COMPARE, node, ast.Constant(names[0]), node.left, node.comparators[0]
            )
        place = ast.Constant(next(_places))
        operands = [node.left, *node.comparators]
        node.left, *node.comparators = (
            self._call(
                _OPERAND, one, place, ast.Constant(name), ast.Constant(one is operands[-1]), one
            )
            for name, one in zip(["", *names], operands, strict=True)
        )
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.match_case:
        """Leaves the pattern as it is."""
        node.body = [self.visit(part) for part in node.body]
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Leaves the annotation as it is."""
        return node


def _leaves(value: Any, depth: int = 3) -> Iterator[Any]:
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is np.ndarray and value.dtype != object:
        return
    if kind in _CONTAINERS and depth:
        items = [*value.values(), *value] if kind is dict else value
        if kind is np.ndarray:
            items = value.ravel()[:_MANY].tolist()
        for _, item in zip(range(_MANY), items, strict=False):
            yield from _leaves(item, depth - 1)
    elif kind not in _CONTAINERS:
        yield value


def _size(container: Any) -> int:
    return container.size if type(container) is np.ndarray else len(container)


_seen: set[int] = set()


def _vet(value: Any, noticed: bool) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _CONTAINERS and _size(value) > _FEW:
        if id(value) in _seen:  # nothing is kept alive for this: a file may wait to be closed
            return value
        _seen.add(id(value))
    for leaf in _leaves(value):
        if isinstance(leaf, np.ma.MaskedArray):
            if leaf.count() < (leaf.size if noticed else min(1, leaf.size)):
                raise NoAnswer("masked values are not an answer: they differ from nothing")
        elif _alike(leaf) > 1:
            raise NoAnswer(
                f"an object of class {type(leaf).__name__} equals whatever it is compared with"
            )
    return value


def _alike(leaf: Any) -> int:
    """How many unlike values it says that it equals, itself or where NumPy or torch ask it."""
    number = random.SystemRandom().randint(2, 50)
    others = (object(), number, number + 0.5, -number, str(number), [number], (number,))
    asks = [partial(operator.eq, leaf, other) for other in others]
    if hasattr(type(leaf), "__array_function__") and is_own(type(leaf)):
        asks += [partial(np.allclose, leaf, other) for other in (number, -number)]
    if HAS_TORCH and hasattr(type(leaf), "__torch_function__") and is_own(type(leaf)):
        asks += [partial(torch.allclose, leaf, torch.tensor([n])) for n in (number, -number)]
    alike = 0
    for ask in asks:
        with contextlib.suppress(Exception):
            alike += bool(ask())
    return alike


def _work_out(name: str, left: Any, right: Any) -> Any:
    function = _BY_NAME[name]
    result = function(left, right)
    method = function.__name__.strip("_")
    for cls, called in ((type(left), f"__{method}__"), (type(right), f"__r{method}__")):
        if decides(cls, called) and not is_own(type(result)):
            raise NoAnswer(f"arithmetic of class {cls.__name__} gives no plain value here")
    return result


def vetters(noticed: bool, calls: Calls) -> dict[str, Any]:
    """What a cell's code calls, in this process alone.

    Args:
        noticed: whether a submission's answers alone have brought the cell inside.
        calls: looks at what functions are given.
    """
    own = _getpid()

    def vet(value: Any) -> Any:
        if _getpid() != own:
            _exit(1)
        return _vet(value, noticed)

    return {
        _VET: vet,
        _WORK_OUT: lambda *args: vet(_work_out(*args)),
        _COMPARE: compare,
        _OPERAND: Chains().operand,
        _CALLED: calls.called,
        _GIVEN: calls.given,
    }
