"""What a chapter's hidden cells say of the numbers above them, or the build fails.

    claim("at 10 labels the error bars overlap", low < high)

A sentence, or an alternative text, that depends on an output has a claim beside it. A number that
stands in a sentence comes from `glue`. Hidden cells (`remove-cell`) hold nothing else: they draw no
random numbers and define no name that a cell on the page uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from myst_nb import glue as paste


class ClaimError(AssertionError):
    """A sentence of the page is not true of the numbers on it."""


def claim(sentence: str, holds: Any) -> None:
    """Stop the build, naming the sentence, unless it is true of the numbers.

    Arguments:
        sentence: what the page says, in its words.
        holds: a truth value, a tensor or an array with one, or several of them: all must be true.

    Raises:
        ClaimError: with the sentence, when it does not hold.
        TypeError: when `holds` is not made of truth values: a number is no claim.

    >>> claim("two is even", 2 % 2 == 0)
    >>> claim("three and two are even", [3 % 2 == 0, 2 % 2 == 0])
    Traceback (most recent call last):
    book.claims.ClaimError: the numbers no longer say: three and two are even
    """
    values = holds.tolist() if hasattr(holds, "tolist") else holds
    if not all(_truths(values)):
        raise ClaimError(f"the numbers no longer say: {sentence}")


def glue(name: str, value: Any) -> None:
    """Paste a value of a cell into the prose: {glue:text}`name:.1f`."""
    paste(name, value.item() if hasattr(value, "item") else value, display=False)


def _truths(values: Any) -> Iterable[bool]:
    if isinstance(values, bool):
        yield values
    elif isinstance(values, list | tuple) and values:
        for value in values:
            yield from _truths(value.tolist() if hasattr(value, "tolist") else value)
    else:
        raise TypeError(f"a claim needs truth values, not {values!r}")
