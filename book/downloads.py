"""Offer the executed notebook of each chapter for download, in the theme's menu.

The download is the executed notebook with all outputs, not a copy of the page. Glued numbers are
written into the prose, and a drawing is replaced by its description. What only the build needs is
removed: metadata, the hidden cells that check the prose, and the figures' SVG beside their PNG.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache
from myst_nb.core.variables import format_plain_text
from nbformat import NotebookNode
from sphinx.application import Sphinx

from book.execution import read_notebook

GLUE = re.compile(r"\{glue:text\}`(?P<name>[^`:]+)(?::(?P<format>[^`]+))?`")
DRAWN = re.compile(
    r"^```\{(?:diagram|playground)\} [\w-]+\n(?P<options>(?::\w+:[^\n]*\n)*)(?P<caption>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ALT = re.compile(r"""^:alt: (["'])(?P<text>.*)\1$""", re.MULTILINE)
KEPT = ("kernelspec", "language_info")


def offer(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the theme's download menu link the notebook."""
    if doctree and read_notebook(app.env, pagename):
        context["ipynb_source"] = f"{pagename}.ipynb"


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the notebooks where the theme links to them."""
    if exception or app.builder.format != "html":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    for docname in app.env.found_docs:
        if notebook := read_notebook(app.env, docname):
            _, executed = cache.merge_match_into_notebook(notebook)
            path = Path(app.outdir) / "_sources" / f"{docname}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(cleaned(executed), path)


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what only the build needs."""
    notebook.metadata = {key: notebook.metadata[key] for key in KEPT if key in notebook.metadata}
    glued = {
        output.metadata.scrapbook.name: next(iter(output.data.values()))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {}) and output.data
    }

    def value(match: re.Match[str]) -> str:
        if match["name"] not in glued:
            return match[0]  # myst-nb warns of this
        return format_plain_text(glued[match["name"]], match["format"] or "s")

    def described(match: re.Match[str]) -> str:
        alt = ALT.search(match["options"])
        caption = match["caption"].strip()
        return f"*Drawn in the book: {alt['text'] if alt else ''}*\n\n{caption}".strip()

    notebook.cells = [
        cell for cell in notebook.cells if "remove-cell" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = DRAWN.sub(described, GLUE.sub(value, cell.source))
    count = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
                if "image/png" in output.get("data", {}):
                    output.data.pop("image/svg+xml", None)
    return notebook


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("html-page-context", offer)  # before the theme makes its menu, with priority 501
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
