"""Books for the tests: tiny ones that show one thing, and the real one."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.console import strip_colors
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[2]


@dataclass
class Built:
    """What a build leaves."""

    html: Path
    warnings: str

    def page(self, name: str) -> str:
        return (self.html / f"{name}.html").read_text("utf-8")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Write files into the sources of a tiny book."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return tmp_path / "src"

    return write


@pytest.fixture
def build(write: Callable[[dict[str, str]], Path]) -> Callable[..., Built]:
    """Build a tiny book with Sphinx alone, in this process; a second call builds on the first."""

    def build(files: dict[str, str], *extensions: str, **settings: object) -> Built:
        source = write(files)
        html, messages = source / "_build" / "html", io.StringIO()
        config = {"extensions": ["myst_parser", *extensions], **settings}
        config.setdefault("source_suffix", {})  # else Sphinx changes its default, for later builds
        with warnings.catch_warnings(), docutils_namespace():
            warnings.simplefilter("ignore")  # Sphinx's own
            app = Sphinx(
                srcdir=source,
                confdir=None,
                outdir=html,
                doctreedir=source / "_build" / ".doctrees",
                buildername="html",
                confoverrides=config,
                status=None,
                warning=messages,
            )
            app.build()
        return Built(html, strip_colors(messages.getvalue()))

    return build


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the real book's pages, built if anything has changed."""
    built = subprocess.run([sys.executable, "-m", "book"], cwd=ROOT, capture_output=True, text=True)
    if built.returncode:
        pytest.fail(f"the book does not build:\n{built.stdout[-2000:]}{built.stderr[-8000:]}")
    return ROOT / "_build" / "html"
