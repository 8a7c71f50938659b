"""Docstrings reach the page as they were written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from book.docstrings import plain


@pytest.mark.parametrize(
    ("written", "escaped"),
    [
        ("maximise over θ*, φ* and |t|", r"maximise over θ\*, φ\* and \|t\|"),
        ("shapes (*, K) → (*, K)", r"shapes (\*, K) → (\*, K)"),
        ("Σ_d x_ of log p_", r"Σ_d x\_ of log p\_"),
        ("the parameters are *shared*, not copied", "the parameters are *shared*, not copied"),
        ("see `log_weights` and ``x*``", "see ``log_weights`` and ``x*``"),
        (">>> 2 * 3 * 4 | 1", ">>> 2 * 3 * 4 | 1"),
    ],
)
def test_what_would_be_markup_is_escaped(written: str, escaped: str) -> None:
    assert plain([written]) == [escaped]


def test_an_example_ends_at_an_empty_line() -> None:
    lines = [">>> x * y", "tensor * 2", "", "x* again"]
    assert plain(lines) == [">>> x * y", "tensor * 2", "", r"x\* again"]


@pytest.mark.filterwarnings("ignore")
def test_a_page_shows_sections_formulas_and_examples(build: Callable[..., Any]) -> None:
    page = "# API\n\n```{eval-rst}\n.. automodule:: vaelib.kl\n   :members:\n```\n"
    built = build({"index.md": page}, "book.docstrings")
    html = built.page("index")
    assert "kl_to_standard_normal" in html
    assert "½" in html
    assert "&gt;&gt;&gt; " in html
    assert "Raises" in html
    assert built.warnings == ""
