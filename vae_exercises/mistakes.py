"""Known mistakes: each is an edit of a right solution, told in a line of a TOML file.

    [kl_to_standard_normal]
    "the ½ is missing" = ["value gradient", ["0.5 * ", ""],
      "Every term of a Gaussian's log-density carries a factor.", "Put `0.5 *` before the sum."]

A name; the aspects that it loses; the edit, pairs of what stands in the solution and what stands
there instead (all places; `"..."` is the whole body of the function); a hint where to look; and a
second hint that nearly gives the answer.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import textwrap
import tomllib
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributions
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Mistake", "compiled", "edited", "known_mistakes", "source_of"]

# What an edit may use besides the names of the solution's own module.
_NAMES = {
    **{name: getattr(torch.distributions, name) for name in torch.distributions.__all__},
    **{"F": F, "Tensor": Tensor, "math": math, "nn": nn, "np": np, "torch": torch},
}


@dataclass(frozen=True)
class Mistake:
    """A well-known wrong solution.

    Attributes:
        name: in a few words; the headline of the message.
        breaks: the aspects that it loses.
        edit: of the right solution.
        hint, more: where to look, and what nearly gives the answer.
        reference: the right solution.
    """

    name: str
    breaks: frozenset[str]
    edit: tuple[str, ...]
    hint: str
    more: str
    reference: Callable[..., Any]

    @functools.cached_property
    def source(self) -> str:
        """The text of the wrong solution."""
        return edited(self.reference, self.edit)

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        """The wrong solution."""
        return compiled(self.source, self.reference)


def known_mistakes(path: Path, reference: Callable[..., Any]) -> list[Mistake]:
    """Read the mistakes of one function, in order."""
    source_of(reference)  # now: where work is graded, files cannot be read later
    table = _table(path).get(reference.__name__, {})
    return [
        Mistake(name, frozenset(breaks.split()), tuple(edit), hint, more, reference)
        for name, (breaks, edit, hint, more) in table.items()
    ]


@functools.cache
def _table(path: Path) -> dict[str, dict[str, tuple[str, list[str], str, str]]]:
    return tomllib.loads(path.read_text("utf-8"))


def edited(reference: Callable[..., Any], edit: tuple[str, ...]) -> str:
    """The text of a function or class with some of it replaced.

    Raises:
        ValueError: when the text to replace is not there.

    Example:
        >>> import textwrap
        >>> from vae_exercises.mistakes import edited
        >>> print(edited(textwrap.dedent, ("...", "return text")))
        def dedent(text):
            return text
        <BLANKLINE>
    """
    source = source_of(reference)
    for old, new in zip(edit[::2], edit[1::2], strict=True):
        if old == "...":
            head = source[: re.search(r":\n(?=    )", source).end()]  # type: ignore[union-attr]
            source = head + textwrap.indent(new.strip("\n"), "    ") + "\n"
        elif old in source:
            source = source.replace(old, new)
        else:
            raise ValueError(f"{reference.__name__}: {old!r} does not stand in the solution")
    return source


@functools.cache
def source_of(function: Callable[..., Any]) -> str:
    """The text of a function or class, without decorators."""
    source = textwrap.dedent(inspect.getsource(function))
    return source[re.search(r"^(def|class) ", source, re.M).start() :]  # type: ignore[union-attr]


def compiled(source: str, reference: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a text defines where `reference` stands."""
    module = inspect.getmodule(reference)
    names = _NAMES | vars(module if isinstance(module, types.ModuleType) else reference)
    exec(compile(f"from __future__ import annotations\n{source}", "<edited>", "exec"), names)
    function: Callable[..., Any] = names[reference.__name__]
    return function
