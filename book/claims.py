"""Claims about the numbers in a chapter, which the build checks.

    claim("at 10 labels the error bars overlap", low < high)

A sentence or an alternative text that depends on an output has a claim below it, and a number in
a sentence comes from `glue`. They are in hidden cells (`remove-cell`), which hold nothing else:
these draw no random numbers, and define no name that a visible cell uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from myst_nb import glue as paste


class ClaimError(AssertionError):
    """A sentence of the page does not hold for its numbers."""


def claim(sentence: str, holds: Any) -> None:
    """Stop the build with the sentence, unless it holds for the numbers.

    Arguments:
        sentence: in the words of the page.
        holds: a truth value, or a list, tensor or array of truth values, which must all be true.

    Raises:
        ClaimError: with the sentence, when it does not hold.
        TypeError: when `holds` contains anything but truth values, such as a number.

    >>> claim("two is even", 2 % 2 == 0)
    >>> claim("three and two are even", [3 % 2 == 0, 2 % 2 == 0])
    Traceback (most recent call last):
    book.claims.ClaimError: the numbers no longer say: three and two are even
    """
    values = holds.tolist() if hasattr(holds, "tolist") else holds
    if not all(_truths(values)):
        raise ClaimError(f"the numbers no longer say: {sentence}")


def glue(name: str, value: Any) -> None:
    """Make a value available to the prose as {glue:text}`name:.1f`."""
    paste(name, value.item() if hasattr(value, "item") else value, display=False)


def _truths(values: Any) -> Iterable[bool]:
    if isinstance(values, bool):
        yield values
    elif isinstance(values, list | tuple) and values:
        for value in values:
            yield from _truths(value.tolist() if hasattr(value, "tolist") else value)
    else:
        raise TypeError(f"a claim needs truth values, not {values!r}")
