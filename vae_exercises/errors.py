"""Errors that a student's own code raises, and what they usually mean."""

from __future__ import annotations

import builtins
import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Raised", "WrongResult", "described"]

STUB = "NotImplementedError"
_OURS = (
    str(Path(__file__).parent),
    str(Path(torch.__file__).parent),
    str(Path(np.__file__).parent),
)
_KNOWN = {
    value.__name__
    for module in (builtins, torch, torch.linalg)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, BaseException)
}

# Kind of error, what its text holds, what it usually means. The first that fits is told.
_MEANINGS = [
    (
        r"",
        r"bitwise_xor|unsupported operand type\(s\) for \^",
        "In Python `^` is not a power: write `**`.",
    ),
    (
        r"",
        r"operand.*(builtin_function_or_method|'method')|'(builtin_function_or_method|method)' object",
        "The parentheses of a call are missing: `x.exp()`, not `x.exp`.",
    ),
    (
        r"",
        r"Can't call numpy\(\)|requires grad.*numpy|__array__",
        "A NumPy function was applied to a tensor that needs a gradient, and NumPy keeps none: "
        "use torch's function of that name.",
    ),
    (
        r"",
        r"does not require grad and does not have a grad_fn",
        "Nothing in this result depends on an input that requires a gradient: it was cut off by a "
        "detach, no_grad, .item() or .data, or requires_grad_() was never called.",
    ),
    (
        r"",
        r"grad can be implicitly created only for scalar",
        "backward() and grad() start from one number: sum the vector first.",
    ),
    (
        r"",
        r"backward through the graph a second time",
        "The same graph is gone through twice: compute the result anew, or keep one backward pass.",
    ),
    (
        r"",
        r"leaf Variable that requires grad|modified by an inplace operation",
        "A tensor that a gradient needs is changed in place (`+=`, `mul_`, `x[i] = …`): make a new "
        "tensor instead.",
    ),
    (
        r"",
        r"unsupported operand type.*NoneType|'NoneType' object",
        "Something is None: often a function of yours that ends without `return`.",
    ),
    (
        r"",
        r"'tuple' object has no attribute|operand type.*'tuple'|must be .*not tuple",
        "A tuple is used as if it were one tensor: unpack it first, as in `a, b = …`.",
    ),
    (
        r"ValueError",
        r"values to unpack",
        "The number of names left of `=` is not the number of values.",
    ),
    (
        r"",
        r"Dimension out of range",
        "The tensor has no such dimension: count them from 0, or from −1 at the end.",
    ),
    (
        r"",
        r"must match the size|not broadcastable|shape mismatch|could not be broadcast|expanded size",
        "Two shapes do not fit each other: print them, and see which dimension a sum, an index or "
        "an unsqueeze should have removed or added.",
    ),
    (
        r"",
        r"cannot be multiplied|size mismatch|same number of dimensions|expected size",
        "The shapes of a matrix product or of a layer do not fit: print them.",
    ),
    (
        r"",
        r"(same dtype|expected scalar type|Found dtype|expected dtype|mat1 and mat2 must have|"
        r"expected m1 and m2|Input type .* and bias type)",
        "float32 and float64 meet. Inputs may be either: give tensors of your own the dtype of the "
        "inputs, as in `torch.ones(3, dtype=x.dtype)` or `x.new_ones(3)`.",
    ),
    (
        r"ValueError",
        r"within the support|satisfy the constraint",
        "torch.distributions refuses values or parameters outside of its support (such as grey "
        "pixels in Bernoulli) unless it is built with `validate_args=False`.",
    ),
    (
        r"RuntimeError",
        r"elements of input should be between 0 and 1|Assertion .*0.*1",
        "This function wants probabilities between 0 and 1, and got other numbers, such as logits.",
    ),
    (
        r"TypeError",
        r"must be Tensor, not (float|int)",
        "This function of torch takes tensors only: for a plain number use `math`.",
    ),
    (
        r"",
        r"only one element tensors|only integer tensors|a Tensor with \d+ elements|Boolean value of Tensor",
        "A tensor of many numbers stands where one number is needed.",
    ),
    (r"", r"view size is not compatible", "`view` needs numbers that lie in order: use `reshape`."),
    (r"NameError", r"", "Run the cells that define or import this name first, from the top."),
    (
        r"TypeError",
        r"positional argument|unexpected keyword|multiple values",
        "A function is called with other arguments than it takes: compare with the line of its `def`.",
    ),
    (
        r"",
        r"not positive-definite|input is not positive",
        "A covariance came in that is not positive definite: is it the right argument?",
    ),
    (
        r"",
        r"expected a non-empty|Expected .*generator|generator",
        "Hand the generator on by its name: `generator=generator`.",
    ),
    (r"RecursionError", r"", "The function calls itself without end."),
]


class WrongResult(TypeError):
    """Something of the wrong kind came back; the message is written for students."""


def described(value: Any, wanted: str = "one tensor") -> str:
    """What came back, in words, and what to do about it."""
    if value is None:
        return "your function returns nothing: end it with `return …` (print only shows)"
    if isinstance(value, tuple | list):
        names = ", ".join(type(part).__name__ for part in value[:4])
        return f"a {type(value).__name__} of {len(value)} came back ({names}), expected {wanted}"
    if isinstance(value, np.ndarray | np.generic):
        return f"a number of NumPy's came back, expected {wanted}: NumPy keeps no gradients"
    if isinstance(value, float | int):
        return f"a Python number came back, expected {wanted}: .item() and float() cut the gradient"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} came back, expected {wanted}"
    return f"an object of type {type(value).__name__} came back, expected {wanted}"


@dataclass(frozen=True)
class Raised:
    """The function raised an error instead of giving a result."""

    kind: str
    text: str
    line: str = field(compare=False, default="")

    @classmethod
    def by(cls, error: BaseException) -> Raised:
        """Of an error, with the last line that is the student's own."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith(_OURS)]
        lines = str(error).strip().splitlines() or [""]
        return cls(type(error).__name__, lines[0][:300], (own[-1].line or "") if own else "")

    @property
    def is_stub(self) -> bool:
        """Whether the line that was there before the answer raised it."""
        return self.kind == STUB and not self.text

    @property
    def meaning(self) -> str:
        """What such an error usually means; empty where it may mean anything."""
        for kind, text, meaning in _MEANINGS:
            if re.search(kind, self.kind) and re.search(text, self.text):
                return meaning
        return ""

    def told(self, numbers: bool) -> tuple[str, str]:
        """A headline and some sentences; `numbers`: whether the error's text may be told."""
        if self.kind == WrongResult.__name__:
            headline, _, rest = self.text.partition(": ")
            return headline, rest[:1].upper() + rest[1:] + "." if rest else ""
        # A name or a text can be made of the inputs.
        kind = self.kind if numbers or self.kind in _KNOWN else "an exception that is not Python's"
        if not numbers:
            return f"{kind} was raised", self.meaning or "These inputs are not shown."
        where = f"In the line `{self.line}`: " if self.line else ""
        return f"{kind} was raised", f"{where}{self.text or kind}\n{self.meaning}".strip()
