"""The built book as a reader sees it: in Chromium, from its files, with the network blocked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

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
# Measuring every word's contrast would take minutes: of the words that look alike in both themes,
# one is measured.
LOOKS = """() => {
    const root = document.documentElement, theme = root.dataset.theme;
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), looks = new Map();
    while (words.nextNode()) {
        const {data, parentElement: element} = words.currentNode;
        if (data.trim() && element.getClientRects().length) looks.set(element, "");
    }
    for (root.dataset.theme of ["light", "dark"]) {
        const known = new Map();
        const behind = (element) => {
            if (!element) return "";
            if (!known.has(element)) {
                const style = getComputedStyle(element), own = [];
                if (!style.backgroundColor.endsWith(", 0)")) own.push(style.backgroundColor);
                if (style.backgroundImage !== "none") own.push(style.backgroundImage);
                if (style.opacity !== "1") own.push(style.opacity);
                if (!["static", "relative"].includes(style.position))
                    own.push(element.className, element.id); // it may lie on anything
                known.set(element, own + behind(element.parentElement));
            }
            return known.get(element);
        };
        for (const [element, look] of looks) {
            const {color, fontSize, fontWeight} = getComputedStyle(element);
            looks.set(element, [look, color, fontSize, fontWeight, behind(element)] + "");
        }
    }
    root.dataset.theme = theme;
    for (const element of new Map([...looks].map(([element, look]) => [look, element])).values())
        element.dataset.measured = "";
    // Most of a page are strokes of formulas and tokens of code: away with those not measured.
    const parts = [...document.querySelectorAll("mjx-math *, pre span, dt.sig span")];
    for (const part of parts.reverse()) // the inner ones first
        if (!part.firstElementChild && !("measured" in part.dataset))
            part.replaceWith(...part.childNodes);
    axe.configure({rules: [{id: "color-contrast", selector: "[data-measured]"}]});
}"""
# The check itself loads nothing, and says only what is wrong. Colours do not depend on the width:
# they are measured on the wide page.
RUN_AXE = "rules => axe.run(document, {preload: false, resultTypes: ['violations'], ...rules})"
COLOURS = ["color-contrast", "link-in-text-block"]
ALL_BUT_COLOURS = {"rules": {rule: {"enabled": False} for rule in COLOURS}}


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
        """A page when its formulas are set, all folds open, the first of them by keyboard."""
        self.faults.clear()
        self.page.goto(f"{(self.html / name).as_uri()}.html{query}")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        fold = self.page.query_selector("article details:not([open])")
        summary = fold and fold.query_selector("summary")
        if fold and summary:
            summary.press("Enter")
            if not fold.evaluate("fold => fold.open"):
                self.note("a fold does not open by keyboard")
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

    def check(self, rules: Mapping[str, object]) -> None:
        """Note what breaks axe's rules. The page is not the same afterwards."""
        self.page.evaluate(SETTLE)  # what still fades in has not its colours yet
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
            self.page.evaluate(LOOKS)
        for violation in self.page.evaluate(RUN_AXE, rules)["violations"]:
            if violation["impact"] in ("serious", "critical"):
                where = [node["html"][:200] for node in violation["nodes"][:3]]
                self.note(f"{violation['id']}: {violation['help']}: {where}")


@pytest.fixture(scope="module", params=[1280, 360])
def reader(request: pytest.FixtureRequest, chromium: Browser, book: Path) -> Iterator[Reader]:
    size = {"width": request.param, "height": 900}
    context = chromium.new_context(viewport=size, color_scheme="light", offline=True)
    yield Reader(context.new_page(), book)
    context.close()


@pytest.fixture(scope="module")
def desk(chromium: Browser, book: Path) -> Iterator[Reader]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    yield Reader(context.new_page(), book)
    context.close()


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_a_page_is_in_order(reader: Reader, name: str) -> None:
    reader.page.emulate_media(color_scheme="light")
    page = reader.open(name)
    reader.faults += page.evaluate(FAULTS)
    if page.evaluate("innerWidth <= 360"):
        reader.check(ALL_BUT_COLOURS)
    else:
        reader.check({})
        page.emulate_media(color_scheme="dark")  # the page turns with the system
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        reader.check({"runOnly": COLOURS})
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


@pytest.mark.parametrize("place", ["p", "pre span", ".bd-toc li a"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_single_faint_word_is_noticed(
    desk: Reader, theme: Literal["light", "dark"], place: str
) -> None:
    desk.page.emulate_media(color_scheme=theme)
    page = desk.open("chapters/probability")
    page.evaluate(
        """([place, theme]) => {
            const places = [...document.querySelectorAll(place)].filter((p) => p.innerText);
            places.at(-1).style.color = theme === "dark" ? "#555" : "#aaa";
        }""",
        [place, theme],
    )
    desk.check({"runOnly": COLOURS})
    assert [fault.partition(":")[0] for fault in desk.faults] == ["color-contrast"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_opens_in_the_theme_of_the_system(
    desk: Reader, theme: Literal["light", "dark"]
) -> None:
    desk.page.emulate_media(color_scheme=theme)
    page = desk.open(PAGES[0])
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert not desk.faults


def test_search_finds_reparameterization(desk: Reader) -> None:
    page = desk.open("search", "?q=reparameterization")
    page.locator("#search-results li a").first.wait_for()
    assert not desk.faults
    page.locator("#search-results li a").first.click()
    page.wait_for_load_state()
    assert "reparameterization" in page.locator("article").inner_text().lower()


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
