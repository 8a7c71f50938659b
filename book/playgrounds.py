"""Put a playground on a page: something to play with, after the reader has predicted what it does.

    ```{playground} bound
    :predict: "Where does the Gaussian with the smallest gap lie?"
    :alt: "What it is and does, for somebody who cannot see it."

    What to try.
    ```

On a page of the book it is a still picture until `book/static/play.js` and the playground's own
`play-NAME.js` bring it to life; those are loaded by the pages that have one. On paper, without
scripts and in other formats it remains the picture, `chapters/playgrounds/NAME.svg`. That is what
the script draws first: `playgrounds.NAME.still()` in a browser's console returns it, `standalone`
adds the colours, and `tests/book/test_playgrounds.py` holds the two together.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

FOLDER = "chapters/playgrounds"
NAMES = ("bound", "gradient", "kl-directions")
WITH_SCRIPTS = ("html", "dirhtml", "singlehtml")
# Where play.css does not reach. On a page it does, and follows light and dark.
STYLE = """<style>
text{font:13px sans-serif}.small{font-size:12px}.strong{font-weight:600}
path,circle,rect{fill:none;stroke:#1f1f1f;stroke-width:2}
.axis,.grid,.thin{stroke-width:1}.axis{stroke:#5f5f5f}.grid{stroke:#d0d0d0}
.level{stroke-dasharray:5 4;stroke-width:1.5}
.q,.qp{stroke:#0072b2}.posterior{stroke:#5f5f5f;stroke-width:1.5}.decoder{stroke:#d55e00}
.prior{stroke:#009e73;stroke-dasharray:7 4}.thin,.striped{stroke-dasharray:none;stroke-width:1}
.stripes{stroke-dasharray:1.5 4;stroke-width:13}
.noise{stroke:#cc79a7}.dashed{stroke-dasharray:7 4}
.area{stroke:none;fill:#0072b2;fill-opacity:.14}.posterior.area{fill:#5f5f5f;fill-opacity:.25}
.solid,.pathwise,.score{stroke:none;fill:#1f1f1f}.solid.q,.solid.qp,.pathwise{fill:#0072b2}
.score{fill:#5f5f5f}.solid.decoder{fill:#d55e00}.solid.noise{fill:#cc79a7}.hollow,.beyond{fill:#fff}.beyond{stroke:none}
</style>"""


class playground(nodes.figure):
    """A figure; to the builders of other formats it is nothing else."""


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
        picture = f"{FOLDER}/{name}.svg"
        self.env.note_dependency(picture)
        figure = playground(name=name)
        figure += nodes.image(uri=f"/{picture}", alt=self.options.get("alt", ""))
        if question := self.options.get("predict"):
            inline, messages = self.state.inline_text(question, self.lineno)
            figure += nodes.paragraph("", "", *inline, classes=["play-question"])
            figure += messages
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        paragraphs = list(parsed.children)
        if paragraphs:
            figure += nodes.caption("", "", *paragraphs[0].children)
        if paragraphs[1:]:
            figure += nodes.legend("", *paragraphs[1:])
        self.set_source_info(figure)
        return [figure]


def standalone(svg: str) -> str:
    """The drawing with colours of its own."""
    return re.sub(r"(<svg[^>]*>)", lambda match: f"{match[0]}\n{STYLE}\n", svg, count=1) + "\n"


def inline(svg: str, alt: str) -> str:
    """The picture for a page, whose colours it takes."""
    drawing = re.sub(r"<style>.*?</style>\s*", "", svg, flags=re.DOTALL).strip()
    text = f'<svg role="img" aria-label="{html.escape(alt)}"'
    return f'<div class="play-still">{drawing.replace("<svg", text, 1)}</div>'


def prepare(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Draw the picture into pages with scripts; ask nothing where nobody can answer."""
    for figure in doctree.findall(playground):
        if app.builder.name in WITH_SCRIPTS:
            picture = next(figure.findall(nodes.image))
            svg = Path(app.srcdir, FOLDER, f"{figure['name']}.svg").read_text("utf-8")
            svg = inline(svg, picture["alt"])
            picture.replace_self(nodes.raw("", svg, format="html"))
        else:
            for question in list(figure.findall(nodes.paragraph)):
                if "play-question" in question["classes"]:
                    figure.remove(question)


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
    if names and app.builder.name in WITH_SCRIPTS:
        app.add_css_file("play.css")
        for script in ("play.js", *(f"play-{name}.js" for name in sorted(names))):
            app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(playground, html=(visit, depart))
    app.add_directive("playground", Playground)
    app.connect("doctree-resolved", prepare, priority=600)  # when its text has been checked
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
