"""The sources of the chapters: what is the same in all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHAPTERS = sorted((Path(__file__).parents[2] / "chapters").glob("*.md"))
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COLUMNS, FOLDED = 79, 77  # what a page shows at 1280 pixels without scrolling


def shown(text: str, folded: bool = False) -> list[str]:
    """The lines of code that a page shows, either unfolded or folded."""
    visible = [cell for cell in CELL.findall(text) if "remove-cell" not in cell]
    cells = [cell for cell in visible if ("hide-input" in cell) == folded]
    code = [re.sub(r"\A---\n.*?^---\n", "", cell, flags=re.M | re.S) for cell in cells]
    return [line for cell in code for line in cell.splitlines() if not line.startswith(":")]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)
def test_code_fits_the_page(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not [line for line in shown(text) if len(line) > COLUMNS]
    assert not [line for line in shown(text, folded=True) if len(line) > FOLDED]


def test_lines_of_all_kinds_of_cells_are_seen() -> None:
    text = """```{code-cell} ipython3
:tags: [remove-cell]
hidden()
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: "A long text."
---
seen()
```

```{code-cell} ipython3
also_seen()
```

```{code-cell} ipython3
:tags: [hide-input]
seen_when_unfolded()
```
"""
    assert shown(text) == ["seen()", "also_seen()"]
    assert shown(text, folded=True) == ["seen_when_unfolded()"]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_of_the_lecture_asks_and_can_be_changed(page: Path) -> None:
    text = page.read_text("utf-8")
    if "\nlecture:" not in text or "keras" in page.stem or "references" in page.stem:
        return
    assert "{admonition} Predict" in text
    assert text.count("{admonition} Change it") >= 2
