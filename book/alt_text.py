"""Warn of every picture without an alternative text: who cannot see it learns nothing from it."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

DRAWING = re.compile(r"<svg\b[^>]*>")
SAID = re.compile(r'\baria-(label="\s*[^\s"]|hidden="true")')  # a text, or said to be an ornament


def check(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Warn of the pictures of one page."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            logger.warning(
                "a picture without alternative text: %s; a cell's figure gets it by the option "
                "`mystnb: {image: {alt: …}}`",
                image["uri"],
                location=image if image.line else docname,
            )
    for raw in doctree.findall(nodes.raw):
        for drawing in DRAWING.findall(raw.astext()):
            if not SAID.search(drawing):
                logger.warning(
                    "a drawing without alternative text: %s; it is its aria-label",
                    drawing,
                    location=raw if raw.line else docname,
                )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
