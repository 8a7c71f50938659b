"""The directive `diagram`: a drawing of the book's own, in the colours of the page around it.

The file is `chapters/diagrams/NAME.svg`. Its colours are the variables of `static/book.css`, its
strokes and letters the classes of `static/diagrams.css`: inside a page both follow light and dark.
A book that is not made of web pages (EPUB, LaTeX) gets an image, on which the light ones are
written.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

FOLDER = "chapters/diagrams"
STATIC = Path(__file__).with_name("static")
PAGES = ("html", "dirhtml", "singlehtml")
VARIABLE = re.compile(r"(--vae-[\w-]+):\s*([^;]+);")
PAUSE = '<label class="pause"><input type="checkbox"> Pause</label>'


class diagram(nodes.General, nodes.Element):
    """A drawing, until it is known what kind of book it is for."""


class Diagram(SphinxDirective):
    """Shows a diagram with its alternative text and a caption."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {"alt": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Make a figure of it."""
        name, alt = self.arguments[0], " ".join(self.options.get("alt", "").split())
        path = Path(self.env.srcdir, FOLDER, f"{name}.svg")
        self.env.note_dependency(str(path))
        if not alt:
            logger.error("the diagram %r needs an option `:alt:`", name, location=self.location())
            return []
        if not path.is_file():
            logger.warning("no diagram %s/%s.svg", FOLDER, name, location=self.location())
            return []
        figure = nodes.figure("", diagram(name=name, alt=alt), classes=["diagram"])
        self.set_source_info(figure)
        text = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, text)
        for paragraph in text:
            as_caption = isinstance(paragraph, nodes.paragraph) and len(figure) == 1
            figure += nodes.caption("", "", *paragraph.children) if as_caption else paragraph
        return [figure]

    def location(self) -> tuple[str, int]:
        """The page and line of the directive."""
        return self.env.docname, self.lineno


class Draw(SphinxPostTransform):
    """Puts each drawing in place: as part of a web page, as an image elsewhere."""

    default_priority = 50  # images are collected and converted later

    def run(self, **arguments: Any) -> None:
        """Replace the diagrams of one page."""
        for node in list(self.document.findall(diagram)):
            name, alt = node["name"], node["alt"]
            svg = Path(self.env.srcdir, FOLDER, f"{name}.svg").read_text("utf-8")
            if self.app.builder.name in PAGES:
                node.replace_self(nodes.raw("", inlined(svg, name, alt), format="html"))
                continue
            path = Path(self.env.doctreedir, "diagrams", f"{name}.svg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(standalone(svg), "utf-8")
            self.env.images.add_file(self.env.docname, str(path))
            image = nodes.image(uri=str(path), alt=alt, candidates={"image/svg+xml": str(path)})
            node.replace_self(image)


def inlined(svg: str, name: str, alt: str) -> str:
    """The drawing as an element of a page, where other drawings may have the same ids."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    label = html.escape(alt)
    moves = PAUSE if 'class="moves' in svg else ""
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip() + moves


def palettes() -> tuple[dict[str, str], dict[str, str]]:
    """The variables on light pages and those on dark ones."""
    css = (STATIC / "book.css").read_text("utf-8")
    blocks = [dict(VARIABLE.findall(block)) for block in re.findall(r"\{([^{}]*)\}", css)]
    light, dark = filter(None, blocks)
    return light, dark


def standalone(svg: str) -> str:
    """The drawing as a file of its own, in the colours of a light page."""
    css = (STATIC / "diagrams.css").read_text("utf-8").partition("/* --- in a page")[0]
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    svg = re.sub(r'(<svg\b[^>]*?)(?: class="\w+")?>', r'\1 class="diagram">', svg, count=1)
    end = svg.index(">", svg.index("<svg")) + 1
    paper = '<rect class="paper" width="100%" height="100%"/>'
    text = f"{svg[:end]}\n<style>{css.strip()}</style>\n{paper}{svg[end:]}"
    light, _ = palettes()
    return re.sub(r"var\((--vae-[\w-]+)\)", lambda use: light[use[1]], text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(diagram)
    app.add_directive("diagram", Diagram)
    app.add_post_transform(Draw)
    app.add_css_file("diagrams.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
