"""The sources of the chapters: what is the same in all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHAPTERS = sorted((Path(__file__).parents[2] / "chapters").glob("*.md"))
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COLUMNS = 79  # what a page shows at 1280 pixels without scrolling


def shown(text: str) -> list[str]:
    """The lines of code that a page shows unfolded."""
    cells = [cell for cell in CELL.findall(text) if not re.search(r"remove-cell|hide-input", cell)]
    code = [re.sub(r"\A---\n.*?^---\n", "", cell, flags=re.M | re.S) for cell in cells]
    return [line for cell in code for line in cell.splitlines() if not line.startswith(":")]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)
def test_code_fits_the_page(page: Path) -> None:
    assert not [line for line in shown(page.read_text("utf-8")) if len(line) > COLUMNS]


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
"""
    assert shown(text) == ["seen()", "also_seen()"]


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_of_the_lecture_asks_and_can_be_changed(page: Path) -> None:
    text = page.read_text("utf-8")
    if "\nlecture:" not in text or "keras" in page.stem or "references" in page.stem:
        return
    assert "{admonition} Predict" in text
    assert text.count("{admonition} Change it") >= 2
