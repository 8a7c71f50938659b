"""The whole book as one document, which `book.paper` prints and `book.epub` packs.

The pages come from `_build/html`, which the build has checked, in the order of `_toc.yml`. In
Chromium, `whole.js` puts their articles one after the other, so that every link leads to a place in
the same document. Folds are open, and interactive parts are pictures. MathJax sets the formulas.
The style is that of `whole.css`, not the theme's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import matplotlib
import yaml

from book.diagrams import palettes

if TYPE_CHECKING:
    import playwright.sync_api as playwright

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
SKELETON = """<!doctype html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<title>TITLE</title>
STYLES
<script>window.MathJax = {startup: {typeset: false}, options: {enableMenu: false}}</script>
<script src="MATHJAX"></script>
</head>
<body></body>
</html>
"""
STYLES = ("pygments.css", "diagrams.css", "play.css")  # the book's own, those that exist
# The fonts come with matplotlib, so that the PDF looks the same on every machine.
FONTS = {
    ("Book", 400, "normal"): "STIXGeneral",
    ("Book", 400, "italic"): "STIXGeneralItalic",
    ("Book", 700, "normal"): "STIXGeneralBol",
    ("Book", 700, "italic"): "STIXGeneralBolIta",
    ("Code", 400, "normal"): "DejaVuSansMono",
    ("Code", 400, "italic"): "DejaVuSansMono-Oblique",
    ("Code", 700, "normal"): "DejaVuSansMono-Bold",
}
WIDTH = 582  # of the text on paper in CSS pixels: 154 mm, as in paper.css
# Figures that a script draws on a canvas have no file, so they are photographed on their page.
CANVAS = "article figure:has(canvas)"
EXPLORER = (
    "The latent explorer as the page opens it: on the left the latent plane, where digits stand at "
    "the codes of training images and a ring marks a point; on the right the image that the "
    "decoder draws at this point, with its coordinates."
)


@dataclass(frozen=True)
class Book:
    """The book's settings and table of contents."""

    root: Path
    title: str
    author: str
    year: str
    pages: list[tuple[str, str]]  # a document's name, and the part that begins with it, or ""

    @property
    def html(self) -> Path:
        """The folder of the pages."""
        return self.root / "_build" / "html"

    @property
    def file(self) -> str:
        """The name of the book's files, without their ending."""
        return self.title.lower().replace(" ", "-")


def read(root: Path = ROOT) -> Book:
    """Read the settings and the table of contents."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    pages = [(toc["root"], "")]
    for part in toc.get("parts", [{"chapters": toc.get("chapters", [])}]):
        caption = part.get("caption", "")
        for chapter in part["chapters"]:
            for page in (chapter, *chapter.get("sections", ())):
                pages.append((page["file"], caption))
                caption = ""
    return Book(root, config["title"], config["author"], str(config["copyright"]), pages)


def executable() -> str | None:
    """The path of the system's Chromium, or None."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def chromium() -> Iterator[playwright.Browser]:
    """Start the system's Chromium."""
    from playwright.sync_api import sync_playwright

    path = executable()
    if not path:
        raise SystemExit("Chromium is not installed: run `make system`.")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def key(name: str) -> str:
    """The id of a page in the whole document: `exercises-1-autoencoders`."""
    return "-".join(PurePosixPath(name).parts[1:] or (name,))


def compose(browser: playwright.Browser, book: Book, *, style: str) -> playwright.Page:
    """Open the whole book in a tab, with formulas set and a style sheet of this folder."""
    folder = book.html.parent / "whole"
    folder.mkdir(exist_ok=True)
    skeleton = folder / "index.html"
    skeleton.write_text(_skeleton(book, style), "utf-8")
    tab = browser.new_page(viewport={"width": 720, "height": 1000}, device_scale_factor=2)
    pages = [_page(tab, book, name, part) for name, part in book.pages]
    tab.emulate_media(media="print", color_scheme="light")
    tab.set_viewport_size({"width": WIDTH, "height": 1000})
    tab.goto(skeleton.as_uri())
    tab.add_script_tag(path=HERE / "whole.js")
    tab.evaluate(
        "(book) => whole.compose(book)",
        {"title": book.title, "author": book.author, "year": book.year, "pages": pages},
    )
    return tab


def _skeleton(book: Book, style: str) -> str:
    """The empty document."""
    static = book.html / "_static"
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = [
        f"@font-face {{ font-family: {family}; font-weight: {weight}; font-style: {slope};"
        f' src: url("{(fonts / name).as_uri()}.ttf") }}'
        for (family, weight, slope), name in FONTS.items()
    ]
    light, _ = palettes()
    variables = "".join(f"{name}: {value};" for name, value in light.items())
    sheets = [path for name in STYLES if (path := static / name).exists()]
    links = [
        f'<link rel="stylesheet" href="{path.as_uri()}">'
        for path in (*sheets, HERE / "whole.css", HERE / style)
    ]
    styles = [*links, "<style>", *faces, f":root {{ {variables} }}", "</style>"]
    return (
        SKELETON.replace("TITLE", book.title)
        .replace("STYLES", "\n".join(styles))
        .replace("MATHJAX", (static / "mathjax" / "tex-chtml.js").as_uri())
    )


def _page(tab: playwright.Page, book: Book, name: str, part: str) -> dict[str, Any]:
    """The data of one page for `whole.js`."""
    path = book.html / f"{name}.html"
    html = path.read_text("utf-8")
    stills = _stills(tab, path, book.html.parent / "whole") if "<canvas" in html else []
    return {"key": key(name), "url": path.as_uri(), "html": html, "part": part, "stills": stills}


def _stills(tab: playwright.Page, path: Path, folder: Path) -> list[dict[str, str]]:
    """A picture of each figure that a script draws on a canvas, in light colours."""
    tab.emulate_media(media="screen", color_scheme="light")
    tab.goto(path.as_uri())
    stills = []
    for figure in tab.locator(CANVAS).all():
        picture = folder / f"{path.stem}-{len(stills) + 1}.png"
        stage = figure.locator(".le-stage")
        stage.screenshot(path=picture, animations="disabled", style=".le-views { display: none }")
        stills.append({"src": picture.as_uri(), "alt": EXPLORER})
    return stills


def contents(tab: playwright.Page) -> list[dict[str, Any]]:
    """The chapters and their sections in order: `id`, `title`, `level` (1 or 2) and `part`."""
    entries: list[dict[str, Any]] = tab.evaluate("() => whole.contents()")
    return entries


def run(make: Callable[[playwright.Browser, Book], Path]) -> int:
    """Make a file of the built book."""
    with chromium() as browser:
        make(browser, read())
    return 0


def report(path: Path, root: Path, also: str) -> None:
    """Print which file has been written."""
    size = path.stat().st_size / 1e6
    print(f"{path.relative_to(root)}: {also}, {size:.1f} MB", flush=True)
