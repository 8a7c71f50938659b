"""Pack the whole book as one EPUB: `python -m book.epub`, after the book is built.

The file is EPUB 3, without scripts. Formulas are MathML from MathJax, drawings are SVG files, and
interactive parts are pictures. `epubcheck` accepts it (`tests/book/test_epub.py`).
"""

from __future__ import annotations

import mimetypes
import re
import sys
import uuid
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from book import formats, whole
from book.figures import on_paper

if TYPE_CHECKING:
    import playwright.sync_api as playwright

CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles>
<rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""
PACKAGE = """<?xml version="1.0" encoding="UTF-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{identifier}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:creator>{author}</dc:creator>
<dc:language>en</dc:language>
<dc:date>{year}</dc:date>
<meta property="dcterms:modified">{modified}</meta>
<meta property="schema:accessMode">textual</meta>
<meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">MathML</meta>
<meta property="schema:accessibilityFeature">structuralNavigation</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
<meta property="schema:accessibilitySummary">Formulas are MathML; figures are described.</meta>
<meta name="cover" content="cover-image"/>
</metadata>
<manifest>
<item id="cover-image" href="images/cover.png" media-type="image/png" properties="cover-image"/>
<item id="style" href="style.css" media-type="text/css"/>
<item id="cover" href="cover.xhtml" media-type="application/xhtml+xml"/>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
{items}
</manifest>
<spine>
<itemref idref="cover"/>
<itemref idref="nav"/>
{spine}
</spine>
</package>
"""
XHTML = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
 lang="en" xml:lang="en">
<head><title>{title}</title><link rel="stylesheet" type="text/css" href="style.css"/></head>
<body>{body}</body>
</html>
"""
COVER = """<section epub:type="cover" class="cover">
<img src="images/cover.png" alt="{title}"/>
</section>"""
Item = tuple[str, list["Item"]]  # an entry of the contents, and the entries below it
# Rules for light pages, since e-readers may not support nested rules and variables.
HIGHLIGHT = re.compile(r'^html\[data-theme="light"\] (\.highlight[^{]*\{[^}]*\})', re.MULTILINE)


def make(browser: playwright.Browser, book: whole.Book) -> Path:
    """Pack the book next to its pages, and return the file."""
    tab = whole.compose(browser, book, style="epub.css")
    contents = whole.contents(tab)
    cover = _cover(tab)
    packed = tab.evaluate("() => whole.chapters()")
    tab.close()
    texts = _texts(book, contents, packed["chapters"])
    images = {name: drawing.encode() for name, drawing in packed["drawings"].items()}
    for name, url in packed["files"].items():
        image = Path(unquote(urlparse(url).path))
        images[name] = on_paper(image).encode() if image.suffix == ".svg" else image.read_bytes()
    path = book.html / f"{book.file}.epub"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        package = _package(book, packed["chapters"], texts, list(images))
        archive.writestr("book/package.opf", package)
        archive.writestr("book/style.css", _style(book))
        for name, text in texts.items():
            archive.writestr(f"book/{name}", text)
        for name, image in {"cover.png": cover, **images}.items():
            archive.writestr(f"book/images/{name}", image)
    formats.update(book.html)
    whole.report(path, book.root, f"{len(packed['chapters'])} chapters")
    return path


def _cover(tab: playwright.Page) -> bytes:
    """A picture of the title page."""
    tab.set_viewport_size({"width": 600, "height": 800})
    return tab.locator(".title-page").screenshot(type="png")


def _texts(
    book: whole.Book, contents: list[dict[str, Any]], chapters: list[dict[str, str]]
) -> dict[str, str]:
    """Every XHTML file of the book."""
    titles = {entry["id"]: entry["title"] for entry in contents}

    def text(title: str, body: str) -> str:
        return XHTML.format(title=escape(title), body=body)

    return {
        "cover.xhtml": text(book.title, COVER.format(title=escape(book.title))),
        "nav.xhtml": text("Contents", _nav(contents)),
        **{
            f"{chapter['id']}.xhtml": text(titles[chapter["id"]], chapter["xhtml"])
            for chapter in chapters
        },
    }


def _nav(contents: list[dict[str, Any]]) -> str:
    """The table of contents for e-readers: parts, chapters, sections."""
    top: list[Item] = []
    chapters, sections, file = top, top, ""
    for entry in contents:
        if entry["part"]:
            chapters = []
            top.append((f"<span>{escape(entry['part'])}</span>", chapters))
        if entry["level"] == 1:
            file, sections = f"{entry['id']}.xhtml", []
            chapters.append((f'<a href="{file}">{escape(entry["title"])}</a>', sections))
        else:
            link = f'<a href="{file}#{entry["id"]}">{escape(entry["title"])}</a>'
            sections.append((link, []))
    return f'<nav epub:type="toc" id="toc"><h1>Contents</h1>{_list(top)}</nav>'


def _list(items: list[Item]) -> str:
    """Nested lists."""
    inner = (f"<li>{label}{_list(below) if below else ''}</li>" for label, below in items)
    return f"<ol>{''.join(inner)}</ol>"


def _package(
    book: whole.Book, chapters: list[dict[str, str]], texts: dict[str, str], images: list[str]
) -> str:
    """The list of all files, and the reading order of the chapters."""
    items = []
    for k, chapter in enumerate(chapters):
        has_math = "<math" in texts[f"{chapter['id']}.xhtml"]
        properties = ' properties="mathml"' if has_math else ""
        items.append(
            f'<item id="text-{k}" href="{chapter["id"]}.xhtml"'
            f' media-type="application/xhtml+xml"{properties}/>'
        )
    for k, name in enumerate(images):
        kind, _ = mimetypes.guess_type(name)
        items.append(f'<item id="image-{k}" href="images/{name}" media-type="{kind}"/>')
    return PACKAGE.format(
        identifier=uuid.uuid5(uuid.NAMESPACE_URL, f"{book.title}, {book.author}, {book.year}"),
        title=escape(book.title),
        author=escape(book.author),
        year=book.year,
        modified=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        items="\n".join(items),
        spine="\n".join(f'<itemref idref="text-{k}"/>' for k in range(len(chapters))),
    )


def _style(book: whole.Book) -> str:
    """All style sheets in one."""
    pygments = (book.html / "_static" / "pygments.css").read_text("utf-8")
    sheets = [(whole.HERE / name).read_text("utf-8") for name in ("whole.css", "epub.css")]
    return "\n".join([*HIGHLIGHT.findall(pygments), *sheets])


if __name__ == "__main__":
    sys.exit(whole.run(make))
