"""Keeps objects that lie from passing a test that runs beside the submission's code.

Outside, no object of a submission's decides a comparison. Inside it does, so what the test comes to
see of it is vetted. An object that equals several unlike values is not an answer. Nor is a plain
result of arithmetic that the submission has written itself, where its answers alone have brought
the cell inside.
"""

from __future__ import annotations

import ast
import contextlib
import operator
import os
import random
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from autograder.link.optional import HAS_TORCH, torch

__all__ = ["NoAnswer", "Vetting", "is_own", "vetters"]

# As they are before any of a submission's code runs.
_exit, _getpid = os._exit, os.getpid

_VET, _WORK_OUT = "__vet__", "__work_out__"
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
#: By which NumPy and torch let a class have its say in what is done with it and another value.
_PROTOCOLS = (
    "__array_finalize__", "__array_function__", "__array_ufunc__", "__array_wrap__",
    "__torch_dispatch__", "__torch_function__",
)  # fmt: skip
# As Python itself finds them, whatever a metaclass says.
_mro, _own_names = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__


class NoAnswer(BaseException):
    """What a test sees of a submission is not an answer; no test expects this error as right."""


class Vetting(ast.NodeTransformer):
    """Has a cell's values vetted.

    Args:
        arithmetic: whether arithmetic of a submission's own classes is looked at, too.
    """

    def __init__(self, arithmetic: bool) -> None:
        self._arithmetic = arithmetic

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
        if not self._arithmetic:
            return node
        name = ast.copy_location(ast.Constant(type(node.op).__name__), node)
        return self._call(_WORK_OUT, node, name, node.left, node.right)

    def visit_match_case(self, node: ast.match_case) -> ast.match_case:
        """Leaves the pattern as it is."""
        node.body = [self.visit(part) for part in node.body]
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Leaves the annotation as it is."""
        return node


def is_own(cls: type) -> bool:
    """Whether a class is the submission's, and not one that its module has by its name.

    >>> is_own(int), is_own(type("Own", (), {}))
    (False, True)
    """
    found: Any = sys.modules.get(cls.__module__)
    if cls.__module__ == "__main__":
        return True
    for part in cls.__qualname__.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found is not cls


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


def _decides(cls: type, *methods: str) -> bool:
    """Whether the submission has written one of these methods, or of the protocols, of a class."""
    if not is_own(cls):
        return False
    if is_own(type(cls)):
        return True
    every = [_own_names(one) for one in _mro(cls)]
    given = [_own_names(one) for one in _mro(cls) if not is_own(one)]
    return any(
        next((names[method] for names in every if method in names), None)
        is not next((names[method] for names in given if method in names), None)
        for method in (*methods, *_PROTOCOLS)
    )


def _work_out(name: str, left: Any, right: Any) -> Any:
    function = _BY_NAME[name]
    result = function(left, right)
    method = function.__name__.strip("_")
    for cls, called in ((type(left), f"__{method}__"), (type(right), f"__r{method}__")):
        if _decides(cls, called) and not is_own(type(result)):
            raise NoAnswer(f"arithmetic of class {cls.__name__} gives no plain value here")
    return result


def vetters(noticed: bool) -> dict[str, Any]:
    """What a cell's code calls, in this process alone.

    Args:
        noticed: whether a submission's answers alone have brought the cell inside.
    """
    own = _getpid()

    def vet(value: Any) -> Any:
        if _getpid() != own:
            _exit(1)
        return _vet(value, noticed)

    return {_VET: vet, _WORK_OUT: lambda *args: vet(_work_out(*args))}
