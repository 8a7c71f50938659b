"""Formulas are set by files of the book's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


def test_the_page_loads_a_script_that_is_there(build: Callable[..., Any]) -> None:
    page = "# Title\n\n$$x$$\n"
    built = build({"index.md": page}, "book.mathjax", myst_enable_extensions=["dollarmath"])
    scripts = re.findall(r'src="([^"?]*mathjax[^"?]*)', built.page("index"))
    assert scripts == ["_static/mathjax/tex-chtml.js"]
    assert (built.html / scripts[0]).stat().st_size > 100_000
    assert list((built.html / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))
    assert built.warnings == ""
