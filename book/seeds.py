"""Build the book with other seeds: `BOOK_SEED=1 python -m book`.

Every seed in a chapter's cells, such as `manual_seed(0)` or `seed=0`, is raised by 1,000 times
BOOK_SEED, on the page too. If a sentence holds only for the book's own seeds, its claim fails.
"""

from __future__ import annotations

import os
import re
from typing import Any

from sphinx.application import Sphinx

CELL = re.compile(r"^```\{code-cell\}.*?^```$", re.MULTILINE | re.DOTALL)
SEED = re.compile(r"(manual_seed\(|\bseeded\(|\bseed=|\bgenerator=)(\d+)\b")


def moved(text: str) -> str:
    """The text of a page with the seeds of its cells moved."""
    offset = 1000 * int(os.environ.get("BOOK_SEED", "0"))

    def move(seed: re.Match[str]) -> str:
        return f"{seed[1]}{int(seed[2]) + offset}"

    return CELL.sub(lambda cell: SEED.sub(move, cell[0]), text) if offset else text


def read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Move the seeds of a page that Sphinx has just read."""
    content[0] = moved(content[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
