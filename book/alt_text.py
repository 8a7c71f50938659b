"""Warn of every picture without alternative text, which tells blind readers nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

DRAWING = re.compile(r"<svg\b[^>]*>|</svg>")
SAID = re.compile(r'\baria-(label="\s*[^\s"]|hidden="true")')  # labelled, or marked as decoration


def check(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Warn of the pictures of one page."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            logger.warning(
                "a picture without alternative text: %s; a cell's figure gets it from the option "
                "`mystnb: {image: {alt: …}}`",
                image["uri"],
                location=image if image.line else docname,
            )
    for raw in doctree.findall(nodes.raw):
        for drawing in drawings(raw.astext()):
            if not SAID.search(drawing):
                logger.warning(
                    "a drawing without alternative text: %s; give it an aria-label",
                    drawing,
                    location=raw if raw.line else docname,
                )


def drawings(text: str) -> Iterator[str]:
    """The opening tags of all drawings that are not inside another one."""
    depth = 0
    for tag in DRAWING.findall(text):
        opens = not tag.startswith("</")
        if opens and depth == 0:
            yield tag
        depth += 1 if opens and not tag.endswith("/>") else -(not opens)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
