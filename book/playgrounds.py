"""The directive `playground`: an interactive figure, with a question to answer first.

    ```{playground} bound
    :predict: "Where does the Gaussian with the smallest gap lie?"
    :alt: "What it shows and does, for readers who cannot see it."

    What to try.
    ```

A playground is a still picture until `book/static/play.js` and its own `play-NAME.js` replace it.
Only pages with a playground load these scripts. On paper and without scripts the picture remains,
`chapters/playgrounds/NAME.svg`. It is what the script draws first: `playgrounds.NAME.still()` in a
browser's console returns it, and `tests/book/test_playgrounds.py` checks that the two agree.
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
    """A figure that a script makes interactive."""


class Playground(SphinxDirective):
    """`{playground} NAME`, with an optional question, alternative text and a caption."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar = {
        "predict": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Make the figure of picture, question and caption."""
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
    """The still picture, in the place where the script will draw."""
    return f'<div class="play-still">{drawn(svg, alt)}</div>'


def visit(translator: HTML5Translator, node: playground) -> None:
    """Open the figure, with the attributes that the scripts look for."""
    data = {"CLASS": "playground", "data-playground": node["name"]}
    translator.body.append(translator.starttag(node, "figure", **data))


def depart(translator: HTML5Translator, node: playground) -> None:
    """Close the figure."""
    translator.body.append("</figure>\n")


def add_scripts(app: Sphinx, page: str, template: str, context: Any, doctree: Any) -> None:
    """Load the scripts and styles of a page's playgrounds, on this page only."""
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
