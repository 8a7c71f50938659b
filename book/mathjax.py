"""Put MathJax into the book, so that formulas need no network.

The files come from sphinx-mathjax-offline. Only the component that the book loads, the TeX packages
that it may load later and its fonts are copied: 3 of 24 MB.
"""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

COMPONENT = "tex-chtml.js"
FOLDERS = ("input/tex/extensions", "output/chtml/fonts/woff-v2")


def use(app: Sphinx, config: Config) -> None:
    """Make the pages load the copy."""
    config.mathjax_path = f"mathjax/{COMPONENT}"


def copy(app: Sphinx, exception: Exception | None) -> None:
    """Copy the files that are used."""
    package = distribution("sphinx-mathjax-offline")
    source = Path(str(package.locate_file("sphinx-mathjax-offline/static/mathjax")))
    target = Path(app.outdir) / "_static" / "mathjax"
    if exception:
        return
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / COMPONENT, target)
    for folder in FOLDERS:
        shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", use)
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
