"""A picture without alternative text is a warning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from book.alt_text import drawings

PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


@pytest.mark.parametrize(
    ("markup", "is_fine"),
    [
        ("![A grey square.](p.svg)", True),
        ("![](p.svg)", False),
        ("```{image} p.svg\n:alt: A grey square.\n```", True),
        ("```{image} p.svg\n```", False),
        ("```{figure} p.svg\n:alt: A grey square.\n\nCaption\n```", True),
        ("```{figure} p.svg\n\nA caption does not say what is seen.\n```", False),
    ],
)
def test_a_picture_needs_a_text(build: Callable[..., Any], markup: str, is_fine: bool) -> None:
    built = build({"index.md": f"# Title\n\n{markup}\n", "p.svg": PICTURE}, "book.alt_text")
    assert ("without alternative text: p.svg" in built.warnings) is not is_fine
    assert built.warnings.count("WARNING") == (not is_fine)


def test_parts_of_a_drawing_need_no_text_of_their_own() -> None:
    inner = '<svg width="1"/><svg width="2"><path/></svg>'
    text = f'<svg aria-label="All.">{inner}</svg><p>and</p><svg width="3"></svg>'
    assert list(drawings(text)) == ['<svg aria-label="All.">', '<svg width="3">']
