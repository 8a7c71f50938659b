"""How gradients cross.

Each tensor that requires a gradient and is not a leaf arrives as an output of a `Stand` node. The
node's inputs are what it depends on: tensors of the receiver's own (arguments) and leaves of the
sender's (parameters). Its backward asks the sender for the vector-Jacobian product, by an ordinary
call, so that second derivatives, callbacks inside and backward passes begun by either side need
nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autograder.link.errors import Tampered, expect
from autograder.link.optional import torch
from autograder.link.table import Handle, Table

__all__ = ["Bundle", "Stand", "bundle_of", "node_of", "product", "stands_of"]

GradientEdge = torch.autograd.graph.GradientEdge


@dataclass(eq=False)
class Bundle:
    """Tensors that went over together, and what they depend on."""

    outputs: list[GradientEdge]
    inputs: list[GradientEdge]
    forms: list[tuple[torch.Size, torch.dtype]]


class Stand(torch.autograd.Function):
    """Where tensors of the other side enter the graph of this one."""

    @staticmethod
    def forward(
        ctx: Any, handle: Handle, keys: list[Any], values: list[torch.Tensor], *inputs: Any
    ) -> Any:
        """The values, as they came."""
        ctx.handle, ctx.keys = handle, keys
        ctx.forms = [(x.shape, x.dtype) for x in inputs]
        ctx.set_materialize_grads(False)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The vector-Jacobian product, computed on the other side."""
        if ctx in ctx.handle.table.ends or all(grad is None for grad in grads):
            return (None,) * (3 + len(ctx.forms))
        products = ctx.handle.ask(
            "vjp",
            None,
            list(grads),
            list(ctx.needs_input_grad[3:]),
            read=lambda products: _fitting(products, ctx.forms),
        )
        return (None, None, None, *products)


def _fits(value: Any, form: tuple[torch.Size, torch.dtype]) -> bool:
    return isinstance(value, torch.Tensor) and (value.shape, value.dtype) == form


def _fitting(grads: Any, forms: list[Any]) -> list[Any]:
    """These gradients, or None for some, if they are of these shapes and dtypes."""
    found: list[Any] = expect(grads, list, "gradients")
    if len(found) != len(forms):
        raise Tampered("gradients of the wrong number")
    if not all(g is None or _fits(g, form) for g, form in zip(found, forms, strict=True)):
        raise Tampered("a gradient of the wrong shape")
    return found


def product(table: Table, bundle: Bundle, grads: Any, wanted: Any) -> Callable[[], list[Any]]:
    """Computes a vector-Jacobian product, of the inputs that are wanted; checks the question."""
    given = [
        (edge, grad)
        for edge, grad in zip(bundle.outputs, _fitting(grads, bundle.forms), strict=True)
        if grad is not None
    ]
    if len(expect(wanted, list, "wishes")) != len(bundle.inputs):
        raise Tampered("gradients of the wrong number")
    inputs = [edge for edge, want in zip(bundle.inputs, wanted, strict=True) if want is True]

    def compute() -> list[Any]:
        if not given or not inputs:
            return [None] * len(wanted)
        # What lies behind a tensor of the other side, the other side adds by itself.
        ends = [edge.node for edge in bundle.inputs]
        table.ends += ends
        try:
            found = torch.autograd.grad(
                [edge for edge, _ in given],
                inputs,
                [grad for _, grad in given],
                retain_graph=True,
                create_graph=torch.is_grad_enabled(),
                allow_unused=True,
            )
        finally:
            del table.ends[len(table.ends) - len(ends) :]
        products = iter(found)
        return [next(products) if want is True else None for want in wanted]

    return compute


def node_of(tensor: torch.Tensor, table: Table) -> int | None:
    """The number of the bundle whose `Stand` node made this; 0 of another node, None of none."""
    if tensor.grad_fn is None:
        return None
    handle = _handle_of_node(tensor.grad_fn, table)
    return handle.key if handle is not None else 0


def _handle_of_node(node: Any, table: Table) -> Handle | None:
    handle = getattr(node, "handle", None)
    return handle if type(handle) is Handle and handle.table is table else None


def bundle_of(
    values: list[torch.Tensor],
    table: Table,
    theirs: Callable[[int], Any],
    leaf: Callable[[torch.Tensor], Any],
) -> tuple[Bundle, list[Any]]:
    """Tensors with a history, to be sent together, and the trees of what their graph begins with.

    These are made by `theirs`, of the number of a tensor of the other side, and by `leaf`.
    """
    outputs = [GradientEdge(value.grad_fn, value.output_nr) for value in values]  # type: ignore[arg-type]
    inputs, trees = [], []
    seen: set[Any] = set()
    stack = [(edge.node, edge.output_nr) for edge in reversed(outputs)]
    while stack:
        node, number = stack.pop()
        stand = _handle_of_node(node, table)
        this = node if stand is None else (node, number)
        if this in seen:
            continue
        seen.add(this)
        if stand is not None:
            inputs.append(GradientEdge(node, number))
            trees.append(theirs(node.keys[number].key))  # type: ignore[attr-defined]
        elif node.name().endswith("AccumulateGrad") and hasattr(node, "variable"):
            inputs.append(torch.autograd.graph.get_gradient_edge(node.variable))
            trees.append(leaf(node.variable))
        else:
            stack.extend((n, i) for n, i in reversed(node.next_functions) if n is not None)
    return Bundle(outputs, inputs, [(value.shape, value.dtype) for value in values]), trees


def stands_of(
    table: Table, key: int, sources: list[Any], outputs: list[tuple[Handle, torch.Tensor]]
) -> tuple[torch.Tensor, ...]:
    """The tensors that came as the bundle `key`, of their handles and values and what they need."""
    if not all(isinstance(source, torch.Tensor) for source in sources):
        raise Tampered("a history without tensors")
    values = [value for _, value in outputs]
    if not all(value.is_floating_point() or value.is_complex() for value in values):
        raise Tampered("a history of whole numbers")
    node = Handle(table, key)
    if not any(source.requires_grad for source in sources):
        return tuple(values)
    handles = [handle for handle, _ in outputs]
    with torch.enable_grad():
        return Stand.apply(node, handles, values, *sources)  # type: ignore[no-any-return, no-untyped-call]
