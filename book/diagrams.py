"""The directive `diagram`: a drawing in the colours of its page.

The file is `chapters/diagrams/NAME.svg`. It uses the colours of `static/book.css` and the classes
of `static/diagrams.css`, so that it follows the page's light or dark mode.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from book.drawing import add_caption, drawn, path_of

logger = logging.getLogger(__name__)

FOLDER = "chapters/diagrams"
STATIC = Path(__file__).with_name("static")
VARIABLE = re.compile(r"(--vae-[\w-]+):\s*([^;]+);")
PAUSE = '<label class="pause"><input type="checkbox"> Pause</label>'


class Diagram(SphinxDirective):
    """`{diagram} NAME`, with alternative text and a caption."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {"alt": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Make the figure."""
        name, alt = self.arguments[0], " ".join(self.options.get("alt", "").split())
        path, here = path_of(self, FOLDER), (self.env.docname, self.lineno)
        if not alt:
            logger.error("the diagram %r needs an option `:alt:`", name, location=here)
            return []
        if not path.is_file():
            logger.warning("no diagram %s/%s.svg", FOLDER, name, location=here)
            return []
        svg = inlined(path.read_text("utf-8"), name, alt)
        figure = nodes.figure("", nodes.raw("", svg, format="html"), classes=["diagram"])
        add_caption(self, figure)
        return [figure]


def inlined(svg: str, name: str, alt: str) -> str:
    """The drawing as an element of a page, with ids that no other drawing has."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    moves = PAUSE if 'class="moves' in svg else ""
    return drawn(svg, alt) + moves


def palettes() -> tuple[dict[str, str], dict[str, str]]:
    """The colour variables of light pages and of dark pages."""
    css = (STATIC / "book.css").read_text("utf-8")
    blocks = [dict(VARIABLE.findall(block)) for block in re.findall(r"\{([^{}]*)\}", css)]
    light, dark = filter(None, blocks)
    return light, dark


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("diagram", Diagram)
    app.add_css_file("diagrams.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
