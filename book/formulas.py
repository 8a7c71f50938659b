"""Keep a formula in a sentence and the punctuation after it on one line.

A browser may break a line on either side of a formula, so a comma or a full stop could begin a
line. The two are put into a span that does not break (`nobreak` in the style sheets).
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

MARKS = re.compile(r"[.,;:!?)”’]+")


def join(app: Sphinx, doctree: nodes.document) -> None:
    """Put each formula and the punctuation after it into one span."""
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(descend=False, siblings=True)
        marks = MARKS.match(after.astext()) if isinstance(after, nodes.Text) else None
        if marks:
            siblings = after.parent.children  # equal texts are equal nodes: look for this very one
            at = next(i for i, node in enumerate(siblings) if node is after)
            after.parent[at] = nodes.Text(after.astext()[marks.end() :])
            span = nodes.inline("", "", classes=["nobreak"])
            formula.parent.replace(formula, span)
            span += [formula, nodes.Text(marks.group())]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-read", join)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
