"""What diagrams and playgrounds share: an SVG as part of a page, and a caption below it.

Inside the page a drawing takes the page's colours, light or dark. The book's other formats
(`book.paper`, `book.epub`) are made of its pages, so there is no other way to show one.
"""

from __future__ import annotations

import html
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def drawn(svg: str, alt: str) -> str:
    """The drawing with its text for those who cannot see it."""
    label = f'<svg role="img" aria-label="{html.escape(alt)}"'
    return svg.replace("<svg", label, 1).strip()


def path_of(directive: SphinxDirective, folder: str) -> Path:
    """The file that a directive names; the page is read again when it changes."""
    path = Path(directive.env.srcdir, folder, f"{directive.arguments[0]}.svg")
    directive.env.note_dependency(str(path))
    return path


def add_caption(directive: SphinxDirective, figure: nodes.Element) -> None:
    """Add the directive's content to its figure: a caption, and further paragraphs below it."""
    parsed = nodes.Element()
    directive.state.nested_parse(directive.content, directive.content_offset, parsed)
    paragraphs = list(parsed.children)
    if paragraphs:
        figure += nodes.caption("", "", *paragraphs[0].children)
    if paragraphs[1:]:
        figure += nodes.legend("", *paragraphs[1:])
    directive.set_source_info(figure)
