"""Shared code of diagrams and playgrounds: an SVG as part of a page, with a caption below.

As part of the page, a drawing takes the page's colours, light or dark. The PDF and the EPUB are
made from the pages, so drawings need no other form.
"""

from __future__ import annotations

import html
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def drawn(svg: str, alt: str) -> str:
    """The drawing with its alternative text."""
    label = f'<svg role="img" aria-label="{html.escape(alt)}"'
    return svg.replace("<svg", label, 1).strip()


def path_of(directive: SphinxDirective, folder: str) -> Path:
    """The file that a directive names. The page is read again if the file changes."""
    path = Path(directive.env.srcdir, folder, f"{directive.arguments[0]}.svg")
    directive.env.note_dependency(str(path))
    return path


def add_caption(directive: SphinxDirective, figure: nodes.Element) -> None:
    """Add the directive's content to its figure: the caption, then further paragraphs."""
    parsed = nodes.Element()
    directive.state.nested_parse(directive.content, directive.content_offset, parsed)
    paragraphs = list(parsed.children)
    if paragraphs:
        figure += nodes.caption("", "", *paragraphs[0].children)
    if paragraphs[1:]:
        figure += nodes.legend("", *paragraphs[1:])
    directive.set_source_info(figure)
