"""Figures follow their page, and are as readable on a dark one as on a light one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from colours import CONTRAST, VISION, contrast, difference
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from playwright.sync_api import Browser, Page

from book.diagrams import palettes
from book.figures import DARK, STYLE, following, turned
from vaelib import plots

STATIC = Path(__file__).parents[2] / "book/static"
GROUND = palettes()[1]["--vae-paper"]


def drawn() -> str:
    """A figure of matplotlib with one of each thing that figures hold."""
    file = io.StringIO()
    with plots.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.5))
        for k in range(len(plots.PALETTE)):
            left.plot([0, 1], [k, k + 1], marker="os^"[k % 3], label=f"curve {k}")
        left.bar([0], [1], color=plots.PAPER, edgecolor=plots.GREY, hatch="//")
        left.text(0.5, 5, "black", color="black")
        left.set(xlabel="$x_1$", ylabel="nats", title="Curves")
        plots.image_grid(torch.eye(8).expand(4, 1, 8, 8), 2, ax=right)
        figure.savefig(file, format="svg")
        plt.close(figure)
    return file.getvalue()


# --- colours ---


def test_each_colour_of_the_plots_has_a_counterpart_that_stands_out_as_well() -> None:
    assert DARK.keys() == {*plots.PALETTE, plots.INK, plots.GREY, plots.PAPER}
    assert DARK[plots.PAPER] == GROUND
    assert min(contrast(DARK[colour], GROUND) for colour in plots.PALETTE) >= 3
    assert contrast(DARK[plots.GREY], GROUND) >= 4.5
    assert contrast(DARK[plots.INK], GROUND) >= 7


@pytest.mark.parametrize("eye", VISION)
def test_the_counterparts_differ_for_every_eye(eye: str) -> None:
    dark = [DARK[colour] for colour in plots.PALETTE]
    assert min(difference(a, b, eye) for a, b in combinations(dark, 2)) > 15


@pytest.mark.parametrize("name", ["Greys", "Blues", "Greens"])
def test_a_heat_map_rises_out_of_the_dark_as_out_of_the_white(name: str) -> None:
    light = [to_hex(colour) for colour in colormaps[name](np.linspace(0, 1, 17))]
    assert all(np.diff([contrast(colour, "#ffffff") for colour in light]) > 0)
    assert all(np.diff([contrast(turned(colour), GROUND) for colour in light]) > 0)
    assert contrast(turned(light[0]), GROUND) < 1.2


# --- the file ---


def test_the_figure_is_the_same_but_for_the_style() -> None:
    before = drawn()
    after = following(before)
    ElementTree.fromstring(after)
    for part in (r"(?:fill|stroke): [^;\"]+", r"base64,[^\"]+", r"<!-- .*? -->"):
        assert re.findall(part, STYLE.sub("", after)) == re.findall(part, before)
    old, new = (
        np.array(re.findall(r"[\d.]+", " ".join(re.findall(r' d="([^"]+)"', svg))), dtype=float)
        for svg in (before, after)
    )
    np.testing.assert_allclose(old, new, atol=0.01)
    assert len(after) < len(before) + 3_000


# --- in the browser ---


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page with a figure, read by someone whose system is light."""
    (tmp_path / "figure.svg").write_text(following(drawn()), "utf-8")
    (tmp_path / "index.html").write_text(
        f"""<!doctype html><html lang="en" data-theme="light">
        <link rel="stylesheet" href="{(STATIC / "book.css").as_uri()}">
        <script src="{(STATIC / "book.js").as_uri()}"></script><style>
        html {{ color-scheme: light; background: #ffffff }}
        html[data-theme="dark"] {{ color-scheme: dark; background: {GROUND} }}
        </style><body class="bd-content"><div class="cell_output">
        <img alt="A figure." src="figure.svg"></div></body></html>""",
        "utf-8",
    )
    context = chromium.new_context(viewport={"width": 700, "height": 400}, color_scheme="light")
    page = context.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    yield page
    context.close()


def seen(page: Page) -> np.ndarray:
    """What the page looks like."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


@pytest.mark.browser
def test_a_figure_follows_the_page_and_pictures_in_it_stay(page: Page) -> None:
    light = seen(page)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    dark = seen(page)
    assert (light == 255).all(-1).mean() > 0.7
    assert not (dark == 255).all(-1)[:, :350].any()  # white is in the pictures alone, at the right
    ground = [int(GROUND[i : i + 2], 16) for i in (1, 3, 5)]
    assert (dark == ground).all(-1).mean() > 0.7
    black = (light == 0).all(-1) & (np.arange(700) > 350)
    assert black.sum() > 10_000
    assert (dark[black] == 0).all()


@pytest.mark.browser
def test_a_figure_of_a_dark_page_is_printed_on_white(page: Page) -> None:
    from pypdfium2 import PdfDocument

    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(color_scheme="dark")
    paper = PdfDocument(page.pdf())[0].render(scale=2, grayscale=True).to_numpy()
    assert (paper > 250).mean() > 0.9


LOW = """() => {
    CONTRAST
    const figure = document.querySelector("figure");
    const paper = getComputedStyle(figure.querySelector("[id=patch_1] path")).fill;
    const lowest = (selector, part) => Math.min(...[...figure.querySelectorAll(selector)]
        .map((e) => contrast(getComputedStyle(e)[part], paper)));
    const words = ":is([id^='matplotlib.axis'], [id^=legend]) [id^=text_] use";
    return {
        paper: luminance(paper),
        words: lowest(words, "fill"),
        curves: lowest("[id^=axes_] > [id^=line2d_] > path", "stroke"),
    };
}""".replace("CONTRAST", CONTRAST)


def lowest_contrasts(page: Page, svg: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Of the words at the axes and in legends, and of the curves, in a figure, light and dark."""
    page.set_content(f"<!doctype html><html lang=en><figure>{svg[svg.index('<svg') :]}</figure>")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        yield scheme, page.evaluate(LOW)


def check(page: Page, svg: str, name: str) -> None:
    for scheme, low in lowest_contrasts(page, svg):
        assert (low["paper"] > 0.5) == (scheme == "light"), name
        assert (low["words"] or 21) >= 4.5, f"{name}: words, {scheme}"
        assert (low["curves"] or 21) >= 3, f"{name}: curves, {scheme}"


@pytest.mark.browser
def test_words_and_curves_stand_out_in_the_light_and_in_the_dark(page: Page) -> None:
    check(page, following(drawn()), "drawn")
    (_, light), (_, dark) = lowest_contrasts(page, following(drawn()))
    assert light["words"] != dark["words"]
    with pytest.raises(AssertionError, match="drawn"):
        check(page, drawn(), "drawn")


@pytest.mark.browser
@pytest.mark.slow
def test_words_and_curves_stand_out_in_every_figure_of_the_book(page: Page, book: Path) -> None:
    figures = sorted((book / "_images").glob("*.svg"))
    assert len(figures) > 50
    for path in figures:
        check(page, path.read_text("utf-8"), path.name)
