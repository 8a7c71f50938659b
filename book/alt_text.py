"""Warn of every picture without an alternative text: who cannot see it learns nothing from it."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-resolved", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
