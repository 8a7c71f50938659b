"""Figures in the colours of their page: dark on a dark page, and on white paper everywhere else.

A page shows the SVG of each figure that a cell draws. This extension adds a style to the file: on a
dark page it turns every colour into its counterpart there. Digits, faces and other pictures inside
a figure are pixels, which the style leaves as they are.

Browsers tell an SVG in an `img` the colour scheme of the page; some tell it the system's, or none.
As the paper is part of the file, the figure can be read there, too, and wherever a copy is shown.
For printing, `book.js` makes the page a light one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib.colors import to_hex, to_rgb
from sphinx.application import Sphinx

from book.diagrams import palettes

LIGHT_PAGE, DARK_PAGE = palettes()
ROLES = ("encoder", "decoder", "prior", "noise", "posterior", "data", "paper")
DARK = {
    **{LIGHT_PAGE[f"--vae-{role}"]: DARK_PAGE[f"--vae-{role}"] for role in ROLES},
    "#2b2b2b": "#dcdcdc",
    "#8e5af5": "#6253ff",
    "#6b4a00": "#a8570c",
    "#e8154f": "#ec2678",
    "#00227d": "#866ee2",
    "#8e1d6c": "#d527a3",
}
"""The colours of `vaelib.plots` and what they are on a dark page: those with a meaning as in
`book.css`, the others such that each can be told from every other there, too."""

COLOUR = re.compile(r'\b(?:fill|stroke)(?:: |=")(#[0-9a-f]{6})\b')
PLACES = re.compile(r' (?:d|x|y)="[^"]*"')
NEEDLESS = re.compile(r"<!DOCTYPE[^>]*>\n| *<metadata>.*?</metadata>\n", re.DOTALL)
STYLE = re.compile(r'<style class="dark">.*?</style>\n', re.DOTALL)


def turned(colour: str) -> str:
    """The counterpart of a colour, such as one of a heat map: as light as it was dark."""
    if colour in DARK:
        return DARK[colour]
    rgb = to_rgb(colour)
    change = 1 - max(rgb) - min(rgb)  # of the lightness alone: the hue stays
    red, green, blue = (0.07 + 0.86 * (channel + change) for channel in rgb)
    return to_hex((red, green, blue))


def following(svg: str) -> str:
    """A figure of matplotlib that follows its page."""
    rules = []
    for colour in sorted(set(COLOUR.findall(svg))):
        for part in ("fill", "stroke"):
            drawn = f'[style*="{part}: {colour}"], [{part}="{colour}"]'
            rules.append(f"{drawn} {{ {part}: {turned(colour)} !important }}")
    style = [
        # Else the paper shines through between two levels of a heat map.
        '<style>[id^="QuadContourSet"] path { shape-rendering: crispEdges }</style>',
        '<style class="dark">@media (prefers-color-scheme: dark) {',
        f"svg {{ fill: {turned('#000000')} }}",  # matplotlib does not write that letters are black
        *rules,
        "}</style>\n",
    ]
    svg = NEEDLESS.sub("", svg)
    svg = re.sub(r'<path (?![^>]*\bd=")', '<path d="M 0 0" ', svg)  # a space: its path is empty
    svg = PLACES.sub(lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0].replace(" \n", " ")), svg)
    return re.sub(r"(<svg\b[^>]*>\n?)", lambda tag: tag[1] + "\n".join(style), svg, count=1)


def on_paper(path: Path) -> str:
    """A figure of the pages without the style: on white paper in every e-reader."""
    return STYLE.sub("", path.read_text("utf-8"))


def write(app: Sphinx, exception: Exception | None) -> None:
    """Let the figures of the pages that were written follow them."""
    if exception or app.builder.format != "html":
        return
    for source, name in app.builder.images.items():
        path = Path(app.outdir, app.builder.imagedir, name)
        if "jupyter_execute" in source and path.suffix == ".svg":
            path.write_text(following(Path(app.srcdir, source).read_text("utf-8")), "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
