"""The built book as a reader sees it: in Chromium, from its files, with the network blocked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
PAGES = [
    TOC["root"],
    *(
        page["file"]
        for part in TOC["parts"]
        for chapter in part["chapters"]
        for page in (chapter, *chapter.get("sections", ()))
    ),
]
FAULTS = """() => {
    const faults = [];
    for (const formula of document.querySelectorAll("article .math"))
        if (!formula.querySelector("mjx-container")) faults.push(`not set: ${formula.textContent}`);
    for (const broken of document.querySelectorAll("mjx-merror"))
        faults.push(`not TeX: ${broken.title}`);
    for (const image of document.querySelectorAll("article img"))
        if (!image.naturalWidth) faults.push(`not shown: ${image.src}`);
    const beyond = document.documentElement.scrollWidth - innerWidth;
    if (beyond > 0) faults.push(`scrolls sideways by ${beyond} px`);
    return faults;
}"""
SETTLE = """() => {
    for (const animation of document.getAnimations())
        if (animation.effect.getComputedTiming().endTime < Infinity) animation.finish();
}"""
# The check itself loads nothing, and says only what is wrong. Colours take most of its time and do
# not depend on the width: they are measured on the wide page, light and dark, and each colour of
# highlighted code once on a page.
RUN_AXE = """() => {
    const colours = new Set(), again = [];
    for (const token of document.querySelectorAll("pre span, dt.sig span")) {
        const box = token.closest("pre, dt"), style = getComputedStyle(token);
        const seen = [getComputedStyle(box).backgroundColor, style.backgroundColor, style.color];
        if (colours.has(`${box.tagName} ${seen}`)) again.unshift(token);
        colours.add(`${box.tagName} ${seen}`);
    }
    for (const token of again) // the inner ones first
        if (!token.firstElementChild) token.replaceWith(token.textContent);
    const enabled = innerWidth > 360;
    return axe.run(document, {
        preload: false,
        resultTypes: ["violations"],
        rules: {"color-contrast": {enabled}, "link-in-text-block": {enabled}},
    });
}"""


class Reader:
    """A browser tab that notes what goes wrong in it."""

    def __init__(self, page: Page, html: Path) -> None:
        self.page, self.html, self.faults = page, html, list[str]()
        page.on("console", lambda m: m.type in ("error", "warning") and self.note(m.text))
        page.on("pageerror", lambda error: self.note(str(error)))
        page.on("requestfailed", lambda request: self.note(f"failed: {request.url}"))
        page.on("request", lambda r: r.url.startswith("http") and self.note(f"external: {r.url}"))

    def note(self, fault: str) -> None:
        self.faults.append(fault)

    def open(self, name: str, query: str = "") -> Page:
        """A page when its formulas are set, all folds open."""
        self.faults.clear()
        self.page.goto(f"{(self.html / name).as_uri()}.html{query}")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        self.page.evaluate(
            """() => document.querySelectorAll("article details:not([open]) > summary")
                .forEach((summary) => summary.click())"""
        )
        self.page.evaluate(  # a diagram's steps go on for ever
            """() => Promise.all(document.getAnimations()
                .filter((a) => a.effect.getTiming().iterations < Infinity)
                .map((a) => a.finished))"""
        )
        return self.page


@pytest.fixture(scope="module", params=["light-1280", "dark-1280", "light-360", "dark-360"])
def reader(request: pytest.FixtureRequest, chromium: Browser, book: Path) -> Iterator[Reader]:
    scheme, width = request.param.split("-")
    size = {"width": int(width), "height": 900}
    context = chromium.new_context(viewport=size, color_scheme=scheme, offline=True)
    yield Reader(context.new_page(), book)
    context.close()


@pytest.fixture(scope="module")
def desk(chromium: Browser, book: Path) -> Iterator[Reader]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    yield Reader(context.new_page(), book)
    context.close()


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_a_page_is_in_order(reader: Reader, name: str) -> None:
    page = reader.open(name)
    assert page.evaluate("document.documentElement.dataset.theme") in ("light", "dark")
    reader.faults += page.evaluate(FAULTS)
    # On a phone contrast is not measured again, and without it a dark page is a light one to axe.
    if page.evaluate("innerWidth <= 360 && document.documentElement.dataset.theme === 'dark'"):
        assert not reader.faults, "\n".join(reader.faults)
        return
    page.evaluate(SETTLE)  # what still fades in has not its colours yet
    page.evaluate(AXE_SCRIPT)
    for violation in page.evaluate(RUN_AXE)["violations"]:
        if violation["impact"] in ("serious", "critical"):
            where = [node["html"][:200] for node in violation["nodes"][:3]]
            reader.note(f"{violation['id']}: {violation['help']}: {where}")
    assert not reader.faults, "\n".join(reader.faults)


@pytest.mark.parametrize(
    ("name", "box", "narrow"),
    [
        ("chapters/introduction", ".pst-scrollable-table-container", 360),
        # On a usual phone all formulas fit.
        ("chapters/exercises/3-kl", "div.math mjx-container", 200),
    ],
)
def test_what_scrolls_sideways_says_so(
    chromium: Browser, book: Path, name: str, box: str, narrow: int
) -> None:
    for width in (1280, narrow):
        with chromium.new_context(viewport={"width": width, "height": 900}) as context:
            said = (
                Reader(context.new_page(), book)
                .open(name)
                .evaluate(
                    """async (box) => {
                    await new Promise((done) => setTimeout(done, 100)); // the page's turn first
                    const boxes = [...document.querySelectorAll(`article ${box}`)];
                    const after = (box) => (box.closest("div.math") ?? box).nextElementSibling;
                    return boxes.map((box) => [box.scrollWidth > box.clientWidth,
                        !!after(box)?.classList.contains("scroll-hint")]);
                }""",
                    box,
                )
            )
        assert said
        assert all(scrolls == hinted for scrolls, hinted in said)
    assert any(scrolls for scrolls, _ in said)


def test_the_theme_follows_the_system(reader: Reader) -> None:
    page = reader.open(PAGES[0])
    wanted = (
        "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
    )
    assert page.evaluate("document.documentElement.dataset.theme") == wanted


def test_search_finds_reparameterization(desk: Reader) -> None:
    page = desk.open("search", "?q=reparameterization")
    page.locator("#search-results li a").first.wait_for()
    assert not desk.faults
    page.locator("#search-results li a").first.click()
    page.wait_for_load_state()
    assert "reparameterization" in page.locator("article").inner_text().lower()


def test_folds_open_by_keyboard(desk: Reader) -> None:
    folded = 0
    for name in PAGES:
        page, path = desk.page, desk.html / f"{name}.html"
        if "<details" not in path.read_text("utf-8"):
            continue
        page.goto(path.as_uri())
        folds = page.locator("article details:not([open])")
        if folds.count():
            folded += 1
            fold = folds.first.element_handle()
            assert fold
            summary = fold.query_selector("summary")
            assert summary
            summary.press("Enter")
            assert fold.evaluate("fold => fold.open")
    assert folded or len(PAGES) < 9  # no fold at all would test nothing


# One of each kind; `make pdf` prints them all.
@pytest.mark.parametrize("name", [PAGES[0], *PAGES[2:4], "chapters/api"])
def test_a_page_prints(desk: Reader, name: str) -> None:
    page = desk.page
    page.goto(f"{(desk.html / name).as_uri()}.html")
    page.evaluate("() => window.MathJax?.startup?.promise")
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert paper.count(b"/Type /Page\n") >= 1
    assert page.locator("article details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert not page.locator(".bd-sidebar-primary").is_visible()
    assert not page.locator(".bd-header-article").is_visible()
    page.emulate_media(media="screen")
