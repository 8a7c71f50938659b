"""Put a playground on a page: something to play with, after the reader has predicted what it does.

    ```{playground} bound
    :predict: "Where does the Gaussian with the smallest gap lie?"
    :alt: "What it is and does, for somebody who cannot see it."

    What to try.
    ```

It is a still picture until `book/static/play.js` and the playground's own `play-NAME.js` bring it
to life; those are loaded by the pages that have one. On paper and without scripts it remains the
picture, `chapters/playgrounds/NAME.svg`. That is what the script draws first:
`playgrounds.NAME.still()` in a browser's console returns it, and `tests/book/test_playgrounds.py`
holds the two together.
"""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from book.drawing import add_caption, drawn, path_of

FOLDER = "chapters/playgrounds"
NAMES = ("bound", "gradient", "kl-directions")


class playground(nodes.figure):
    """A figure that a script brings to life."""


class Playground(SphinxDirective):
    """`{playground} NAME`, with the question (optional), the picture's text and the caption."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {
        "predict": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Make the figure: picture, question, caption."""
        name = self.arguments[0]
        if name not in NAMES:
            raise self.error(f"there is no playground {name!r}, only {', '.join(NAMES)}")
        svg = still(path_of(self, FOLDER).read_text("utf-8"), self.options.get("alt", ""))
        figure = playground("", nodes.raw("", svg, format="html"), name=name)
        if question := self.options.get("predict"):
            inline, messages = self.state.inline_text(question, self.lineno)
            figure += nodes.paragraph("", "", *inline, classes=["play-question"])
            figure += messages
        add_caption(self, figure)
        return [figure]


def still(svg: str, alt: str) -> str:
    """The picture that stands where the script will draw."""
    return f'<div class="play-still">{drawn(svg, alt)}</div>'


def visit(translator: HTML5Translator, node: playground) -> None:
    """Open the figure, which says what the scripts look for."""
    data = {"CLASS": "playground", "data-playground": node["name"]}
    translator.body.append(translator.starttag(node, "figure", **data))


def depart(translator: HTML5Translator, node: playground) -> None:
    """Close it."""
    translator.body.append("</figure>\n")


def add_scripts(app: Sphinx, page: str, template: str, context: Any, doctree: Any) -> None:
    """Load what the playgrounds of a page need, and on no other page."""
    names = {figure["name"] for figure in doctree.findall(playground)} if doctree else set()
    if names:
        app.add_css_file("play.css")
        for script in ("play.js", *(f"play-{name}.js" for name in sorted(names))):
            app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(playground, html=(visit, depart))
    app.add_directive("playground", Playground)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
