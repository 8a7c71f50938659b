"""Replace `{{ reading_time }}` by an estimate of the chapter's reading time.

A technical text is read at some 180 words per minute, below the 238 that Brysbaert 2019 found for
English non-fiction. A cell whose code is shown takes half a minute. A displayed formula takes a
minute, and so does a question for the reader.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

PLACE = "{{ reading_time }}"
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"^\$\$.*?^\$\$$", re.MULTILINE | re.DOTALL)


def minutes(text: str) -> int:
    """The reading time of a page in minutes, rounded to five."""
    body = text.split("---\n", 2)[-1] if text.startswith("---\n") else text
    cells = [cell for cell in FENCED.findall(body) if cell.startswith("```{code-cell}")]
    shown = sum(not re.search(r"remove-cell|hide-input", cell) for cell in cells)
    prose = FENCED.sub("", body)
    formulas, questions = len(FORMULA.findall(prose)), prose.count(":class: question")
    words = len(FORMULA.sub("", prose).split())
    return 5 * round((words / 180 + shown / 2 + formulas + questions) / 5)


def read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Fill in the time on a page that Sphinx has just read."""
    content[0] = content[0].replace(PLACE, f"{minutes(content[0])} minutes")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
