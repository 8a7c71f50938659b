"""The whole book as one EPUB: accepted by epubcheck, in order, formulas as MathML, no scripts."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZIP_STORED, ZipFile

import pytest
from playwright.sync_api import Browser
from whole_book import built

from book import epub, whole
from vaelib import plots

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OPF = "{http://www.idpf.org/2007/opf}"
XHTML = "{http://www.w3.org/1999/xhtml}"
MATH = "{http://www.w3.org/1998/Math/MathML}math"


def checked(path: Path) -> None:
    """What epubcheck says, which is nothing."""
    program = shutil.which("epubcheck")
    if not program:
        pytest.fail("there is no epubcheck: `make system` finds or installs it")
    # Debian's is a jar, which only some systems can start by themselves.
    is_jar = Path(program).read_bytes().startswith(b"PK")
    command = ["java", "-jar", program] if is_jar else [program]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True)
    assert "No errors or warnings detected" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def check(book: whole.Book, path: Path) -> dict[str, ElementTree.Element]:
    """What holds for every book; its chapters by name."""
    with ZipFile(path) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", ZIP_STORED)
        package = ElementTree.fromstring(archive.read("book/package.opf"))
        files = {item.get("id"): item for item in package.iter(f"{OPF}item")}
        spine = [str(files[i.get("idref")].get("href")) for i in package.iter(f"{OPF}itemref")]
        names = [whole.key(name) for name, _ in book.pages]
        assert spine == ["cover.xhtml", "nav.xhtml", *(f"{name}.xhtml" for name in names)]
        chapters = {n: ElementTree.fromstring(archive.read(f"book/{n}.xhtml")) for n in names}
        nav = ElementTree.fromstring(archive.read("book/nav.xhtml"))
        assert not [name for name in archive.namelist() if name.endswith(".js")]
    links = [link.get("href", "") for link in nav.iter(f"{XHTML}a")]
    assert [link for link in links if "#" not in link] == spine[2:]
    for (page, _), chapter in zip(book.pages, chapters.values(), strict=True):
        html = (book.html / f"{page}.html").read_text("utf-8")
        article = re.search("<article.*</article>", html, re.DOTALL)
        assert article
        # Nobody is asked for a prediction where nothing can be played with.
        read = re.sub(r'<p class="play-question">.*?</p>', "", article[0], flags=re.DOTALL)
        formulas = len(re.findall(r'<(?:span|div) class="math ', read))
        found = list(chapter.iter(MATH))
        assert len(found) == formulas, page
        assert all(math.get("alttext", "").strip() and list(math) for math in found)
        assert not [e for math in found for e in math.iter() if e.tag.endswith("merror")]
        images = list(chapter.iter(f"{XHTML}img"))
        assert all(image.get("alt", "").strip() for image in images)
        assert len(images) >= len(re.findall(r"<img |<svg[^>]*aria-label", article[0])), page
        assert not list(chapter.iter(f"{XHTML}script"))
    checked(path)
    return chapters


def test_a_tiny_book(build: Callable[..., Any], chromium: Browser) -> None:
    book = built(build)
    path = epub.make(chromium, book)
    assert path == book.html / "a-tiny-book.epub"
    assert 'href="../a-tiny-book.epub"' in (book.html / "chapters/introduction.html").read_text()
    chapters = check(book, path)
    links = [a.get("href") for a in chapters["introduction"].iter(f"{XHTML}a")]
    assert links == ["two.xhtml", "one.xhtml#one--derivation"]
    one = "".join(chapters["one"].itertext())
    assert "ℒ" in one  # browsers do not read mathvariant="script"
    assert "𝔼" in one
    assert [a.get("href") for a in chapters["two"].iter(f"{XHTML}a")] == ["https://example.org/"]
    with ZipFile(path) as archive:
        drawing = archive.read("book/images/drawing-1.svg").decode()
        figure = archive.read("book/images/plot.svg").decode()
    assert "var(" not in drawing
    assert "#0072b2" in drawing.lower() or "rgb(0, 114, 178)" in drawing
    assert plots.ENCODER in figure
    assert "@media" not in figure


def test_the_real_book(book: Path, chromium: Browser) -> None:
    path = epub.make(chromium, whole.read())
    check(whole.read(), path)
    assert path.stat().st_size < 20e6
