"""Diagrams follow the page's colours, fit a phone, and what they draw is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from colours import contrast

from book.diagrams import inlined, palettes
from vaelib import plots

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "chapters/diagrams").glob("*.svg"))
STYLE = (ROOT / "book/static/diagrams.css").read_text("utf-8")
ROLES = ("encoder", "decoder", "prior", "noise", "posterior", "data")
SVG = "{http://www.w3.org/2000/svg}"

each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)

TINY = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">
<defs><marker id="tip"><path d="M0 0 L9 9"/></marker></defs>
<path d="M0 0 H9" class="line" marker-end="url(#tip)" stroke="var(--vae-encoder)"/>
</svg>"""
USE = '# Title\n\n```{diagram} tiny\n:alt: "A <thin> line."\n\nWhat it *means*.\n```\n'


def drawing(name: str) -> ElementTree.Element:
    return ElementTree.parse(ROOT / f"chapters/diagrams/{name}.svg").getroot()


def of_class(svg: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (e for e in svg.iter() if name in e.get("class", "").split())


# --- the directive ---


def test_a_page_holds_the_drawing_itself(build: Callable[..., Any]) -> None:
    files = {"index.md": USE, "chapters/diagrams/tiny.svg": TINY}
    built = build(files, "book.diagrams", "book.alt_text", include_patterns=["index.md"])
    assert built.warnings == ""
    figure = re.search(r"<figure.*?</figure>", built.page("index"), re.DOTALL)
    assert figure
    assert re.match(r'<figure class="[^"]*\bdiagram\b', figure[0])
    assert '<svg role="img" aria-label="A &lt;thin&gt; line."' in figure[0]
    assert "What it <em>means</em>." in figure[0].partition("<figcaption>")[2]
    assert "<label" not in figure[0]  # there is nothing to pause
    assert 'href="_static/diagrams.css' in built.page("index")
    assert '"mean"' in (built.html / "searchindex.js").read_text("utf-8")


def test_ids_are_those_of_one_drawing(build: Callable[..., Any]) -> None:
    page = USE + USE.partition("\n")[2].replace("tiny", "other")
    files = {f"chapters/diagrams/{name}.svg": TINY for name in ("tiny", "other")}
    built = build(files | {"index.md": page}, "book.diagrams", include_patterns=["index.md"])
    text = built.page("index")
    for name in ("tiny", "other"):
        assert text.count(f'<marker id="{name}-tip"') == 1
        assert text.count(f'"url(#{name}-tip)"') == 1


@pytest.mark.parametrize("alt", ["", ":alt:\n", ':alt: " "\n'])
def test_a_diagram_needs_a_text(build: Callable[..., Any], alt: str) -> None:
    page = USE.replace(':alt: "A <thin> line."\n', alt)
    files = {"index.md": page, "chapters/diagrams/tiny.svg": TINY}
    built = build(files, "book.diagrams", include_patterns=["index.md"])
    assert re.search(r"index\.md:\d+: ERROR: the diagram 'tiny' needs an option", built.warnings)
    assert "<svg" not in built.page("index")


def test_a_drawing_from_elsewhere_needs_a_text_too(build: Callable[..., Any]) -> None:
    page = '# Title\n\n<div><svg></svg></div>\n\n<div><svg aria-hidden="true"></svg></div>\n'
    built = build({"index.md": page}, "book.alt_text")
    assert built.warnings.count("a drawing without alternative text: <svg>") == 1


def test_a_missing_drawing_is_a_warning_that_names_it(build: Callable[..., Any]) -> None:
    built = build({"index.md": USE}, "book.diagrams")
    assert re.search(r"index\.md:\d+: WARNING: no diagram .*tiny\.svg", built.warnings)


def test_a_page_is_read_again_when_its_drawing_changes(build: Callable[..., Any]) -> None:
    files = {"index.md": USE, "chapters/diagrams/tiny.svg": TINY}
    for shape in ("H9", "V9", "V8"):
        files["chapters/diagrams/tiny.svg"] = TINY.replace("H9", shape)
        built = build(files, "book.diagrams", include_patterns=["index.md"])
        assert f"M0 0 {shape}" in built.page("index")


# --- the files ---


@each
def test_a_file_is_small_and_uses_the_colours_of_the_page(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.encode()) < 12_000
    svg = ElementTree.fromstring(text)
    left, top, width, height = map(float, svg.get("viewBox", "").split())
    assert (left, top) == (0, 0)
    assert width <= 360
    assert height <= 600
    assert "style" not in {e.tag.removeprefix(SVG) for e in svg.iter()}
    for element in svg.iter():
        for key in ("fill", "stroke", "style", "color", "stop-color"):
            value = element.get(key, "none")
            assert re.fullmatch(r"none|currentColor|var\(--vae-[\w-]+\)|url\(#[\w-]+\)", value)
        assert not re.search(r"https?:|//|data:", " ".join(element.attrib.values()))
        assert float(element.get("font-size", "11").removesuffix("px")) >= 11
    used = {name for e in svg.iter() for name in e.get("class", "").split()}
    styled = {*re.findall(r"\.([a-z][\w-]*)", STYLE)}
    bare = {"likelihood", "bound", "input", "output", "kernel", "moves"}
    assert used <= styled | bare
    assert "math" not in used  # MathJax would look for formulas there


def test_the_one_hand_has_only_the_colours_of_the_page_and_readable_letters() -> None:
    values = re.findall(r"(?:fill|stroke|color):\s*([^;]+);", STYLE)
    assert values
    assert all(re.fullmatch(r"none|var\(--vae-[\w-]+\)", value) for value in values)
    assert min(map(float, re.findall(r"font-size:\s*([\d.]+)px", STYLE))) >= 11
    light, dark = palettes()
    assert set(re.findall(r"var\((--[\w-]+)\)", STYLE)) <= light.keys() == dark.keys()


@each
def test_ids_and_what_refers_to_them_are_prefixed(path: Path) -> None:
    text = inlined(path.read_text("utf-8"), path.stem, "Said.")
    ids = re.findall(r'\bid="([^"]+)"', text)
    uses = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert all(name.startswith(f"{path.stem}-") for name in ids)
    assert {name for use in uses for name in use if name} <= set(ids)


# --- colours ---


def test_one_colour_for_one_thing_in_diagrams_and_plots() -> None:
    light, _ = palettes()
    named = (plots.ENCODER, plots.DECODER, plots.PRIOR, plots.NOISE, plots.GREY, plots.INK)
    assert [light[f"--vae-{role}"] for role in ROLES] == list(named)
    assert light["--vae-paper"] == plots.PAPER


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
def test_colours_can_be_told_from_their_ground(palette: dict[str, str]) -> None:
    paper, ink = palette["--vae-paper"], palette["--vae-data-text"]
    for role in ROLES:
        shape, text, soft = (palette[f"--vae-{role}{part}"] for part in ("", "-text", "-soft"))
        assert contrast(shape, paper) >= 3, role
        assert min(contrast(text, paper), contrast(text, soft), contrast(ink, soft)) >= 4.5, role
    for name in ("line", "muted", "gradient"):
        assert contrast(palette[f"--vae-{name}"], paper) >= 4.5, name
    for role in ("encoder", "decoder", "prior", "posterior"):  # small words on these grounds
        assert contrast(palette["--vae-muted"], palette[f"--vae-{role}-soft"]) >= 4.5, role


# --- what is drawn is true ---


def numbers(group: ElementTree.Element) -> torch.Tensor:
    """The square grid of numbers that a group shows."""
    values = [float("".join(t.itertext()).replace("−", "-")) for t in group.iter(f"{SVG}text")]
    side = round(len(values) ** 0.5)
    return torch.tensor(values).view(1, 1, side, side)


def test_the_convolutions_are_right() -> None:
    svg = drawing("convolution")
    grids = [of_class(svg, name) for name in ("input", "kernel", "output")]
    down, up = ([numbers(group) for group in groups] for groups in zip(*grids, strict=True))
    x, kernel, y = down
    assert torch.equal(torch.nn.functional.conv2d(x, kernel, stride=2), y)
    x, kernel, y = up
    assert torch.equal(torch.nn.functional.conv_transpose2d(x, kernel, stride=2), y)


def test_the_windows_of_the_convolutions_stand_where_the_words_say() -> None:
    svg = drawing("convolution")
    grids = [next(g.iter(f"{SVG}rect")) for n in ("input", "output") for g in of_class(svg, n)]
    below, stamped = (grids[0], grids[2]), (grids[1], grids[3])
    for step in (s for k in range(1, 5) for s in of_class(svg, f"step-{k}")):
        words = "".join(next(step.iter(f"{SVG}text")).itertext())
        where = [int(n) for n in re.findall(r"\d+", words)]
        pair = below if "output" in words else stamped[::-1]
        window, cell = step.iter(f"{SVG}rect")
        i, j = where[-2:] if "output" in words else where[:2]
        row, last_row, column, last_column = where[:4] if "output" in words else where[2:]
        assert (last_row - row, last_column - column) == (2, 2)
        assert (row, column) == (2 * i, 2 * j)
        for rect, grid, (r, c) in ((window, pair[0], (row, column)), (cell, pair[1], (i, j))):
            assert float(rect.get("x", "")) == float(grid.get("x", "")) + 22 * c
            assert float(rect.get("y", "")) == float(grid.get("y", "")) + 22 * r


def test_the_bars_of_every_q_end_at_one_line() -> None:
    svg = drawing("bound-and-gap")
    bars = list(of_class(svg, "posterior"))
    tops = {rect.get("y") for rect in bars if rect.tag == f"{SVG}rect"}
    line = next(of_class(svg, "dashed"))
    assert len(tops) == 1
    assert line.get("d", "").split()[1] == tops.pop()


def test_the_gaps_are_those_of_the_curves_below_the_bars() -> None:
    svg = drawing("bound-and-gap")

    def moments(path: ElementTree.Element) -> tuple[float, float, float]:
        points = torch.tensor([float(n) for n in re.findall(r"[\d.]+", path.get("d", ""))])
        x, y = points.view(-1, 2).T.double()
        density = y.max() - y
        area = torch.trapezoid(density, x).item()
        mean = torch.trapezoid(density * x, x).item() / area
        variance = torch.trapezoid(density * (x - mean) ** 2, x).item() / area
        return area, mean, variance

    paths = [path for path in svg.iter(f"{SVG}path") if path.get("d", "").count("L") > 20]
    posteriors, qs = ([moments(path) for path in part] for part in (paths[:2], paths[2:]))
    kls = []
    for (area, mean, variance), (q_area, q_mean, q_variance) in zip(posteriors, qs, strict=True):
        assert abs(q_area - area) < 0.03 * area
        ratio = torch.tensor(q_variance / variance)
        kls.append((ratio + (q_mean - mean) ** 2 / variance - 1 - ratio.log()).item() / 2)
    rects = [e for e in of_class(svg, "posterior") if e.tag == f"{SVG}rect"]
    poor, better = (float(rect.get("height", "")) for rect in rects)
    assert abs(poor / better - kls[0] / kls[1]) < 0.1 * poor / better


def test_the_bounds_lie_below_the_likelihood_and_touch_it() -> None:
    svg = drawing("em-bounds")

    def curve(element: ElementTree.Element) -> torch.Tensor:
        pairs = [p.split(",") for p in element.get("points", "").split()]
        return torch.tensor([[float(x), float(y)] for x, y in pairs], dtype=torch.float64)

    def at(line: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        after = torch.searchsorted(line[:, 0].contiguous(), x).clamp(1, len(line) - 1)
        (x0, y0), (x1, y1) = line[after - 1].T, line[after].T
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)

    likelihood = curve(next(of_class(svg, "likelihood")))
    bounds = [curve(e) for e in of_class(svg, "bound")]
    dots = [e for e in of_class(svg, "dot") if e.get("r") == "4"]
    points = torch.tensor([[float(e.get(k, "")) for k in ("cx", "cy")] for e in dots]).double()
    touch, climb = points[[0, 2]], points[[1, 3]]
    for bound, start, end in zip(bounds, touch, climb, strict=True):
        below = bound[:, 1] - at(likelihood, bound[:, 0].contiguous())  # y grows downwards
        assert below.min() > -0.3
        assert abs(at(likelihood, start[:1]) - start[1]) < 0.5
        assert abs(at(bound, start[:1]) - start[1]) < 0.5
        assert abs(bound[:, 1].min() - end[1]) < 0.2
        assert abs(bound[bound[:, 1].argmin(), 0] - end[0]) < 4
    assert climb[0, 0] == touch[1, 0]  # the second bound starts where the first one ends
    assert touch[1, 1] < touch[0, 1]  # and the likelihood has risen


# --- in a browser ---

PAGE = """<!doctype html><html data-theme="{theme}" lang="en"><head><meta charset="utf-8">
<title>Diagrams</title><style>{css} body {{ margin: 0; background: var(--vae-paper);
color: var(--vae-data-text) }}</style>
</head><body><main><h1>Diagrams</h1>{figures}</main></body></html>"""

LAID_OUT = """() => {
    const faults = [];
    const say = (figure, what, ...texts) =>
        faults.push(`${figure.id}: ${what}: ${texts.map((t) => t.textContent).join(" / ")}`);
    for (const figure of document.querySelectorAll("figure")) {
        const svg = figure.querySelector("svg"), box = svg.viewBox.baseVal;
        if (figure.scrollWidth > figure.clientWidth) say(figure, "scrolls");
        const texts = [...svg.querySelectorAll("text")]
            .filter((text) => !text.closest(".step:not(.step-1)"));
        texts.forEach((text, k) => {
            const a = text.getBBox();
            const right = a.x + a.width, bottom = a.y + a.height;
            if (a.x < 0 || a.y < 0 || right > box.width || bottom > box.height)
                say(figure, "leaves the drawing", text);
            const size = parseFloat(getComputedStyle(text).fontSize);
            if (size < 11) say(figure, "too small", text);
            for (const other of texts.slice(0, k)) {
                const b = other.getBBox();
                const wide = Math.min(right, b.x + b.width) - Math.max(a.x, b.x);
                const high = Math.min(bottom, b.y + b.height) - Math.max(a.y, b.y);
                if (wide > 0.5 && high > 2) say(figure, "overlap", text, other);
            }
        });
    }
    const beyond = document.documentElement.scrollWidth - innerWidth;
    if (beyond > 0) faults.push(`the page scrolls by ${beyond} px`);
    return faults;
}"""


def gallery(theme: str) -> str:
    css = (ROOT / "book/static/book.css").read_text("utf-8") + STYLE
    figures = [
        f'<figure class="diagram" id="{path.stem}">'
        f"{inlined(path.read_text('utf-8'), path.stem, 'Said.')}</figure>"
        for path in FILES
    ]
    return PAGE.format(theme=theme, css=css, figures="\n".join(figures))


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_nothing_scrolls_leaves_or_overlaps(chromium: Any, theme: str) -> None:
    from axe_playwright_python.base import AXE_SCRIPT

    page = chromium.new_page(viewport={"width": 360, "height": 800}, reduced_motion="reduce")
    page.set_content(gallery(theme))
    assert page.evaluate(LAID_OUT) == []
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    page.close()


@pytest.mark.browser
@pytest.mark.slow
def test_steps_move_unless_the_reader_or_paper_prefers_not(chromium: Any) -> None:
    count = "() => document.getAnimations().filter((a) => a.playState === 'running').length"
    page = chromium.new_page(reduced_motion="no-preference")
    page.set_content(gallery("light"))
    assert page.evaluate(count) == 8
    page.get_by_label("Pause").press("Space")
    assert page.evaluate(count) == 0
    page.get_by_label("Pause").press("Space")
    assert page.evaluate(count) == 8
    shown = "() => [...document.querySelectorAll('.step')].map((s) => getComputedStyle(s).opacity)"
    for setting in ({"reduced_motion": "reduce"}, {"media": "print"}):
        page.emulate_media(reduced_motion="no-preference", media="screen")
        page.emulate_media(**setting)
        assert page.evaluate(count) == 0
        assert page.evaluate(shown) == ["1", "0", "0", "0"] * 2
        assert not page.get_by_label("Pause").is_visible()
    page.close()
