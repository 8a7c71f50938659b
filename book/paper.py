"""Print the whole book as one PDF: `python -m book.paper`, after the book is built.

Chromium prints it twice, because the table of contents needs page numbers, which are known only
after the first printing. The second one gets the book's metadata and an outline of chapters and
sections.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypdf import PdfReader, PdfWriter
from pypdf.generic import Fit, IndirectObject

from book import formats, whole

if TYPE_CHECKING:
    import playwright.sync_api as playwright


def make(browser: playwright.Browser, book: whole.Book) -> Path:
    """Print the book next to its pages, and return the file."""
    tab = whole.compose(browser, book, style="paper.css")
    contents = whole.contents(tab)
    places = _places(PdfReader(io.BytesIO(_printed(tab))))
    numbers = {name: page + 1 for name, (page, _) in places.items()}
    tab.evaluate("(numbers) => whole.number(numbers)", numbers)
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of how Chromium counts objects
    writer = PdfWriter(clone_from=io.BytesIO(_printed(tab, tagged=True)))
    tab.close()
    _outline(writer, contents, places)
    writer.add_metadata({"/Title": book.title, "/Author": book.author})
    path = book.html / f"{book.file}.pdf"
    writer.write(path)
    formats.update(book.html)
    whole.report(path, book.root, f"{len(writer.pages)} pages")
    return path


def _printed(tab: playwright.Page, *, tagged: bool = False) -> bytes:
    """The document on paper. Tags mark headings, lists and pictures for screen readers."""
    return tab.pdf(prefer_css_page_size=True, print_background=True, tagged=tagged)


def _places(pdf: PdfReader) -> dict[str, tuple[int, float]]:
    """The page, counted from 0, and the height of every target of a link."""
    pages = {page.indirect_reference: k for k, page in enumerate(pdf.pages)}
    places = {}
    for name, place in pdf.named_destinations.items():
        page = place.page
        assert isinstance(page, IndirectObject)
        places[name.lstrip("/")] = pages[page], float(place.top or 0)
    return places


def _outline(
    writer: PdfWriter, contents: list[dict[str, Any]], places: Mapping[str, tuple[int, float]]
) -> None:
    """Add an outline of chapters and sections."""
    chapter = None
    for entry in contents:
        page, top = places[entry["id"]]
        fit = Fit.xyz(left=0, top=top)
        is_section = entry["level"] == 2
        item = writer.add_outline_item(
            title=entry["title"],
            page_number=page,
            parent=chapter if is_section else None,
            fit=fit,
            is_open=False,
        )
        chapter = chapter if is_section else item


if __name__ == "__main__":
    sys.exit(whole.run(make))
