"""The directive `formats`: links to the whole book as one file, or the commands that make it.

`make pdf` and `make epub` put their file next to the pages. The page links only to files that
exist, and `update` writes it again when a file is added.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from filelock import FileLock
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FORMATS = {"pdf": "a PDF for paper", "epub": "an EPUB for e-readers"}
PLACE = re.compile(r'<p class="formats">.*?</p>', re.DOTALL)


class Formats(SphinxDirective):
    """`{formats}`: the place for the sentence."""

    def run(self) -> list[nodes.Node]:
        """Mark the place."""
        return [nodes.raw("", '<p class="formats"></p>\n', format="html")]


def sentence(html: Path, name: str) -> str:
    """The sentence on a page, with links to the files that exist."""
    parts = []
    for ending, what in FORMATS.items():
        if path := next(html.glob(f"*.{ending}"), None):
            target = "../" * name.count("/") + path.name
            size = f"{path.stat().st_size / 1e6:.0f} MB"
            parts.append(f'as <a class="reference" href="{target}">{what}</a> ({size})')
        else:
            command = f'<code class="literal">make {ending}</code>'
            parts.append(f"as {what}, which {command} makes")
    return f'<p class="formats">The whole book is also available {", or ".join(parts)}.</p>'


def fill(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Write the sentence into a page."""
    html = Path(app.outdir)
    if "body" in context:
        context["body"] = PLACE.sub(lambda _: sentence(html, pagename), context["body"])


def update(html: Path) -> None:
    """Write the sentence again, into the pages that have it, which others may be reading."""
    with FileLock(html.parent / "lock"):  # as a build does: of two at once, neither forgets a file
        for path in html.rglob("*.html"):
            old = path.read_text("utf-8")
            name = path.relative_to(html).as_posix()
            new = PLACE.sub(lambda _, name=name: sentence(html, name), old)
            if new != old:
                beside = path.with_suffix(".new")
                beside.write_text(new, "utf-8")
                beside.replace(path)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("formats", Formats)
    app.connect("html-page-context", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
