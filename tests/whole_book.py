"""A tiny book with everything that can be hard to print, for the tests of its files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from book import whole
from book.figures import following
from vaelib import plots

LONG = "a_name_that_goes_on_" * 12
WIDE = "<td>cell</td>" * 12
ROOT = Path(__file__).parents[1]


def plot() -> str:
    """A figure as a page shows it."""
    file = io.StringIO()
    with plots.style():
        figure, ax = plt.subplots(figsize=(3, 2))
        ax.imshow([[0, 1]])
        ax.fill_between([0, 1], [0, 1], hatch="//")
        ax.set_title("A title")
        figure.savefig(file, format="svg")
        plt.close(figure)
    return following(file.getvalue())


DIAGRAM = (ROOT / "chapters/diagrams/map.svg").read_text("utf-8")

FILES = {
    "_config.yml": "title: A tiny book\nauthor: Nobody & others\ncopyright: '2026'\n",
    "_toc.yml": """format: jb-book
root: chapters/introduction
parts:
  - caption: The first part
    chapters:
      - file: chapters/one
        sections: [file: chapters/exercises/1-one]
  - caption: The second part
    chapters:
      - file: chapters/two
""",
    "chapters/introduction.md": """# Introduction

Read {doc}`two`, or {ref}`the derivation <derivation>`.

```{formats}
```

```{toctree}
:hidden:
one
exercises/1-one
two
```
""",
    "chapters/one.md": f"""# One: $\\sigma^2$

```{{diagram}} map
:alt: "A map & more."

A caption with $x$.
```

:::{{dropdown}} Answer
Folded: $\\mathcal{{L}} \\le \\log p(x)$.
:::

{"Words, many words. " * 400}

(derivation)=
## A derivation

$$
\\begin{{aligned}}
a &= \\left[\\frac{{b}}{{c}}\\right] \\\\
  &\\ge \\mathbb{{E}}[d]
\\end{{aligned}}
$$

## A foot

```python
{LONG}
```
""",
    "chapters/exercises/1-one.md": "# Exercise\n\n[a file](../one.md) of {doc}`/chapters/one`.\n",
    "chapters/two.md": f"""# Two

![A plot.](plot.svg)

<table><tr>{WIDE}</tr></table>

<figure><div class="le-stage"><canvas width="20" height="20"></canvas></div></figure>

<figure class="playground" data-playground="toy"><div class="play-still">
<svg role="img" aria-label="A toy" viewBox="0 0 9 9"><path class="halo" d="M0 0H9"/></svg>
</div><p class="play-question">What?</p><figcaption><p>Try it.</p></figcaption></figure>

[Elsewhere](https://example.org/) and <a href="../_sources/chapters/two.md.txt">the source</a>.
""",
    "chapters/diagrams/map.svg": DIAGRAM,
    "chapters/plot.svg": plot(),
}


def built(build: Callable[..., Any]) -> whole.Book:
    """The tiny book with its pages."""
    extensions = ["sphinx_design", "book.mathjax", "book.diagrams", "book.formats"]
    made = build(
        FILES,
        *extensions,
        html_static_path=[str(ROOT / "book/static")],
        html_theme="sphinx_book_theme",
        master_doc="chapters/introduction",
        exclude_patterns=["_build"],
        myst_enable_extensions=["colon_fence", "dollarmath"],
    )
    return whole.read(made.html.parents[1])
