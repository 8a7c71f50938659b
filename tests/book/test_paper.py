"""The whole book as one PDF: in order, numbered, linked, and nothing cut off."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from pypdf import PdfReader
from pypdfium2 import PdfDocument
from whole_book import built

from book import paper, whole

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MM = 72 / 25.4
SIDE, FOOT = 28 * MM, 24 * MM
FAULTS = """() => {
    const faults = [];
    for (const formula of document.querySelectorAll(".math"))
        if (!formula.querySelector("mjx-container")) faults.push(`not set: ${formula.textContent}`);
    for (const broken of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
        faults.push(`not TeX: ${broken.title}`);
    for (const image of document.images)
        if (!image.naturalWidth || !image.alt.trim()) faults.push(`not shown: ${image.src}`);
    for (const link of document.querySelectorAll("a[href^='#']"))
        if (!document.getElementById(link.getAttribute("href").slice(1)))
            faults.push(`leads nowhere: ${link.outerHTML}`);
    const ids = new Set();
    for (const { id } of document.querySelectorAll("[id]")) {
        if (ids.has(id)) faults.push(`twice: ${id}`);
        ids.add(id);
    }
    for (const part of document.querySelectorAll("details, script ~ canvas, .headerlink, button"))
        faults.push(`of the screen: ${part.outerHTML.slice(0, 100)}`);
    const beyond = document.documentElement.scrollWidth - innerWidth;
    if (beyond > 0) {
        const widest = [...document.querySelectorAll("section.page *")]
            .filter((element) => element.getBoundingClientRect().right > innerWidth + 1);
        faults.push(`too wide by ${beyond} px: ${widest.at(-1)?.outerHTML.slice(0, 300)}`);
    }
    return faults;
}"""


@dataclass
class Printed:
    """A PDF, as its structure and as it looks."""

    book: whole.Book
    path: Path

    def __post_init__(self) -> None:
        self.pdf, self.shown = PdfReader(self.path), PdfDocument(self.path)

    def text(self, page: int) -> str:
        """The words on a page, formulas and columns in any order."""
        return " ".join(self.shown[page].get_textpage().get_text_range().split())

    def lines(self, page: int) -> str:
        """The words on a page as they stand in lines, which takes much longer."""
        return " ".join(self.pdf.pages[page].extract_text().split())

    def margins(self, page: int) -> tuple[str, str]:
        """What stands above and below the text of a page."""
        words, (_, height) = self.shown[page].get_textpage(), self.shown[page].get_size()
        head, foot = {"bottom": height - FOOT}, {"top": FOOT}
        above, below = (words.get_text_bounded(**where) for where in (head, foot))
        return re.sub(r"\W", "", above), re.sub(r"\W", "", below)  # a stroke's box may be tall

    def outline(self) -> list[tuple[str, int, float, int]]:
        """Title, page from 0, height on it, level."""

        def items(outline: list[Any], level: int) -> Iterator[tuple[str, int, float, int]]:
            for item in outline:
                if isinstance(item, list):
                    yield from items(item, level + 1)
                else:
                    page = self.pdf.get_destination_page_number(item)
                    assert page is not None
                    yield str(item.title), page, float(item.top or 0), level

        return list(items(self.pdf.outline, 1))

    def figures(self) -> Iterator[str]:
        """What is said of every figure to those who cannot see it."""
        below: list[Any] = [self.pdf.root_object["/StructTreeRoot"]]
        while below:
            part = below.pop().get_object()
            if isinstance(part, list):
                below += part
            elif isinstance(part, dict):
                if part.get("/S") == "/Figure" and part.get("/Alt", "").strip():
                    yield str(part["/Alt"])
                below += [part["/K"]] if "/K" in part else []

    def links(self) -> Iterator[tuple[int, Any]]:
        """Every link, and the page from 0 that it is on."""
        for number, page in enumerate(self.pdf.pages):
            for reference in page.get("/Annots") or []:
                link = reference.get_object()
                if link.get("/Subtype") == "/Link":
                    yield number, link


def titles(book: whole.Book) -> list[str]:
    """The titles of the pages, in the order of the table of contents."""
    found = []
    for name, _ in book.pages:
        page = (book.html / f"{name}.html").read_text("utf-8")
        heading = re.search(r"<article.*?<h1>(.*?)<a class=.headerlink", page, re.DOTALL)
        assert heading
        found.append(unescape(re.sub("<.*?>", "", heading[1])).strip())
    return found


def said(title: str) -> str:
    """A pattern for a title in the text of a page, up to a formula in it."""
    words = re.findall(r"\w+", re.split(r"[^\x20-\x7e’‘–·]", title)[0])
    # A letter may be a formula, which is drawn and no text.
    return r"\W*".join(word if len(word) > 1 else f"(?:{word})?" for word in words)


def check(printed: Printed) -> None:
    """What holds for every book."""
    outline = printed.outline()
    # Contents: the printed numbers are those of the pages where the headings are.
    first = outline[0][1]
    listed = " ".join(printed.lines(page) for page in range(1, first))
    position = 0
    for title, page, top, _ in outline:
        entry = re.compile(rf"{said(title)}.{{0,50}}?\b{page + 1}\b").search(listed, position)
        assert entry, f"the contents do not say that {title!r} is on {page + 1}"
        position = entry.end()
        assert re.search(said(title), printed.text(page)), f"{title!r} is not on {page + 1}"
        assert top > FOOT + 30, f"{title!r} is at the foot of page {page + 1}"
    # Pages: numbered, with the running title, nothing in the margins.
    for number in range(1, len(printed.shown)):
        above, below = printed.margins(number)
        assert above.startswith(re.sub(r"\W", "", printed.book.title)), above
        assert below == str(number + 1), f"{below!r} at the foot of page {number + 1}"
    for number, page in enumerate(printed.shown):
        ink = page.render(scale=1, grayscale=True).to_numpy().squeeze() < 200
        side = int(SIDE) - 4
        assert not ink[:, :side].any(), f"ink in the left margin of page {number + 1}"
        assert not ink[:, -side:].any(), f"ink in the right margin of page {number + 1}"
    # Links: into the book, or to the network; never to a file of the machine that printed it.
    known = printed.pdf.named_destinations
    kinds = set()
    for number, link in printed.links():
        if "/Dest" in link:
            assert str(link["/Dest"]) in known or str(link["/Dest"])[1:] in known
            kinds.add("inside")
        else:
            address = str(link["/A"].get_object()["/URI"])
            assert re.match("https?://", address), f"page {number + 1} links {address}"
            kinds.add("outside")
    assert kinds == {"inside", "outside"}


def faults(tab: Any) -> list[str]:
    """What is wrong with a document as wide as the text on paper."""
    tab.set_viewport_size({"width": whole.WIDTH, "height": 900})
    found: list[str] = tab.evaluate(FAULTS)
    tab.close()
    return found


def test_a_tiny_book(build: Callable[..., Any], chromium: Browser) -> None:
    book = built(build)
    introduction = book.html / "chapters/introduction.html"
    assert '<code class="literal">make pdf</code>' in introduction.read_text("utf-8")
    printed = Printed(book, paper.make(chromium, book))
    assert printed.path == book.html / "a-tiny-book.pdf"
    assert 'href="../a-tiny-book.pdf"' in introduction.read_text("utf-8")
    check(printed)
    found = [(title, level) for title, _, _, level in printed.outline()]
    assert found == [
        ("Introduction", 1), ("One: σ2", 1), ("A derivation", 2), ("A foot", 2),
        ("Exercise", 1), ("Two", 1),
    ]  # fmt: skip
    everything = " ".join(printed.text(k) for k in range(len(printed.shown)))
    assert "Folded:" in everything
    assert "make pdf" not in everything
    assert everything.count("interactive in the pages of the book") == 2
    assert "What?" not in everything
    assert "A plot." in printed.figures()
    assert printed.pdf.metadata
    assert printed.pdf.metadata.title == "A tiny book"
    assert printed.pdf.metadata.author == "Nobody & others"
    assert faults(whole.compose(chromium, book, style="paper.css")) == []


@pytest.fixture(scope="module")
def real(book: Path, chromium: Browser) -> Printed:
    assert book == whole.read().html
    return Printed(whole.read(), paper.make(chromium, whole.read()))


def test_the_real_book(real: Printed) -> None:
    check(real)
    assert [title for title, _, _, level in real.outline() if level == 1] == titles(real.book)
    assert real.path.stat().st_size < 40e6


def test_every_figure_of_the_real_book_is_printed(real: Printed) -> None:
    pages = [(real.book.html / f"{name}.html").read_text("utf-8") for name, _ in real.book.pages]
    figures = sum(len(re.findall(r'<img [^>]*src="[^"]*_images/', page)) for page in pages)
    assert len(list(real.figures())) >= figures > 50


def test_the_real_book_is_in_order_before_it_is_printed(book: Path, chromium: Browser) -> None:
    assert faults(whole.compose(chromium, whole.read(), style="paper.css")) == []
