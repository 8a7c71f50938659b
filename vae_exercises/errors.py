"""Errors that a student's own code raises, and what they usually mean."""

from __future__ import annotations

import builtins
import functools
import re
import tomllib
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
        return f"NumPy's numbers came back, expected {wanted}: NumPy keeps no gradients"
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
        own = [
            frame
            for frame in frames
            if not frame.filename.startswith(_OURS)
            and "/autograder/" not in frame.filename  # hands on what a submission raised
        ]
        lines = str(error).strip().splitlines() or [""]
        return cls(type(error).__name__, lines[0][:300], (own[-1].line or "") if own else "")

    @property
    def is_stub(self) -> bool:
        """Whether the line that was there before the answer raised it."""
        return self.kind == STUB and not self.text and (not self.line or STUB in self.line)

    @property
    def meaning(self) -> str:
        """What such an error usually means; empty where it may mean anything."""
        said = f"{self.kind}: {self.text}"
        return next((meaning for text, meaning in _meanings().items() if re.search(text, said)), "")

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


@functools.cache
def _meanings() -> dict[str, str]:
    return tomllib.loads(Path(__file__).with_name("meanings.toml").read_text("utf-8"))
