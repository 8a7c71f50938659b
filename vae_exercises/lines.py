"""Lines that fit where a notebook shows them."""

from __future__ import annotations

import textwrap

__all__ = ["WIDTH", "filled"]

WIDTH = 90  # of JupyterLab's cells beside its list of files, on a screen of 1280 pixels


def filled(text: str, before: str = "") -> str:
    """The text in lines that fit; further ones begin under the first.

    Arguments:
        text: may have several lines, of which each is filled for itself.
        before: what stands before the first line, such as "  ✗ ".

    Example:
        >>> print(filled("the ½ is missing. " * 6, "  ✗ "))
          ✗ the ½ is missing. the ½ is missing. the ½ is missing. the ½ is missing. the ½ is
            missing. the ½ is missing.
    """
    found: list[str] = []
    for part in text.splitlines():
        found += textwrap.wrap(
            part,
            WIDTH,
            initial_indent=" " * len(before) if found else before,
            subsequent_indent=" " * len(before),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(found)
