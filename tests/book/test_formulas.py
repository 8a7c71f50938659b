"""A formula in a sentence and the punctuation after it stay on one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("written", "together"),
    [
        ("Let $x$, then $y$.", [",", "."]),
        ("Is it $x$? (Yes, $y$.)", ["?", ".)"]),
        ("If $x$ is small, $y$ is", []),
        ("$x$ and **bold**, $y$*em*", []),
        ("*one*.*two* is $x$.", ["."]),  # equal marks elsewhere stay
    ],
)
def test_punctuation_stays_with_the_formula_before_it(
    build: Callable[..., Any], written: str, together: list[str]
) -> None:
    extensions = ["sphinx.ext.mathjax", "book.formulas"]
    pages = {"index.md": f"# Title\n\n{written}\n"}
    html = build(pages, *extensions, myst_enable_extensions=["dollarmath"]).page("index")
    joined = re.findall(r'<span class="nobreak"><span class="math[^>]*>[^<]*</span>([^<]*)', html)
    assert joined == together
    text = re.sub(r"<[^>]+>", "", html[html.index("<p>") :])
    assert re.sub(r"[*$]", "", written) in re.sub(r"\\[()]", "", text).split("\n")[0]
