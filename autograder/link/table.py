"""What both sides of a link know of the objects that crossed, and of the calls under way."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import nn

from autograder.link.values import raw_bytes

__all__ = [
    "CLASSES",
    "CLASS_SENT",
    "MESSAGE",
    "Bundle",
    "Entry",
    "Frame",
    "Known",
    "Message",
    "options_of",
    "parts_of",
    "shown",
    "version_of",
]

MESSAGE = 2_000
"""How many characters cross of the text of an error or a function's docstring."""
CLASSES = 10_000
"""How many classes either side describes."""
CLASS_SENT: Any = object()
"""What is known of a class once it was described: all that there is to know."""


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place, as autograd counts it; -1 where it does not."""
    try:
        return tensor._version
    except RuntimeError:  # an inference tensor
        return -1


class Known:
    """What both sides last agreed on, of a tensor, a module or an optimizer."""

    __slots__ = (
        "data",
        "dtype",
        "grad",
        "grad_seen",
        "groups",
        "needs",
        "parts",
        "shape",
        "training",
        "v",
    )

    def __init__(self, value: Any, keep: bool = True) -> None:
        self.data: bytes | None = None
        self.grad: bytes | None = None
        self.grad_seen: Any = None
        self.see(value, keep)

    def see(self, value: Any, keep: bool = True) -> None:
        """Both sides agree on what the value is now; `keep`: on a tensor's elements, too."""
        if isinstance(value, nn.Module):
            self.training = value.training
            self.parts = parts_of(value)
        elif isinstance(value, torch.optim.Optimizer):
            self.groups = options_of(value)
        else:
            self.dtype, self.shape, self.v = value.dtype, value.shape, version_of(value)
            self.data = raw_bytes(value) if keep else None
            self.needs = value.requires_grad
            self.see_grad(value)

    def has_seen(self, grad: torch.Tensor) -> bool:
        """Whether this gradient is surely the one that was seen last."""
        seen = self.grad_seen
        return seen is not None and seen[0] is grad and seen[1] == version_of(grad)

    def see_grad(self, tensor: torch.Tensor) -> None:
        """Both sides agree on the gradient of a tensor."""
        grad = tensor.grad if tensor.is_leaf else None
        self.grad = None if grad is None else raw_bytes(grad)
        self.grad_seen = None if grad is None else (grad, version_of(grad))


def parts_of(module: nn.Module) -> list[Any]:
    """The parameters, buffers and children of a module, by name and identity."""
    own = module.__dict__
    return [
        [(name, id(part)) for name, part in own[kind].items()]
        for kind in ("_parameters", "_buffers", "_modules")
    ]


def options_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The options of an optimizer, by group of parameters."""
    return [
        {
            key: value
            for key, value in group.items()
            if key != "params"
            and type(value) in (int, float, bool, str, tuple, list, type(None), torch.Tensor)
        }
        for group in optimizer.param_groups
    ]


class Entry:
    """An object of this side that the other side holds."""

    __slots__ = ("count", "edge", "key", "known", "obj")

    def __init__(self, key: int, obj: Any) -> None:
        self.key = key
        self.obj = obj
        self.count = 0
        self.edge: Any = None
        self.known: Known | None = None


class Bundle:
    """Tensors that went over together, and what they depend on."""

    def __init__(self, outputs: list[Any], inputs: list[Any], shapes: list[Any]) -> None:
        self.outputs = outputs
        self.inputs = inputs
        self.shapes = shapes


class Frame:
    """One call under way."""

    def __init__(self) -> None:
        self.sent: set[int] = set()  # own objects that it took over there
        self.tensors: dict[tuple[bool, int], tuple[torch.Tensor, Known]] = {}
        self.generators: list[list[Any]] = []  # [mine, key, generator, state]
        self.raised: list[BaseException] = []


Message: TypeAlias = "tuple[str, int, list[Any], Any, Frame]"


def shown(text: str) -> str:
    """A text that surely crosses: shortened, and without what is not Unicode."""
    return text[:MESSAGE].encode("utf-8", "replace").decode()
