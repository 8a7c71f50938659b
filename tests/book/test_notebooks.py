"""The notebooks that the book offers run as they are, and print again what the reader sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from book.execution import ENVIRONMENT

pytestmark = pytest.mark.slow


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_again(notebook: NotebookNode, path: Path) -> tuple[int, str]:
    """Run a notebook by nbval, in a folder of its own: how many cells agree, and what was said."""
    path.parent.mkdir()
    nbformat.write(notebook, path)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", path.name],
        cwd=path.parent,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    passed = re.search(r"(\d+) passed", ran.stdout)
    return int(passed[1]) if passed else 0, ran.stdout + ran.stderr


def test_every_notebook_prints_again_what_the_book_shows(book: Path, tmp_path: Path) -> None:
    notebooks = {
        path.stem: nbformat.read(path, as_version=4)
        for path in (book / "_sources/chapters").glob("*.ipynb")
    }
    chapters = (book.parents[1] / "chapters").glob("*.md")
    assert notebooks.keys() == {path.stem for path in chapters if "{code-cell}" in path.read_text()}

    def run(name: str) -> tuple[int, str]:
        return run_again(notebooks[name], tmp_path / name / f"{name}.ipynb")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, notebook), (agreed, said) in zip(
            notebooks.items(), pool.map(run, notebooks), strict=True
        ):
            cells = code_cells(notebook)
            assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), name
            shown = [output for cell in cells for output in cell.outputs]
            assert shown, f"{name} shows nothing"
            if any("plots." in cell.source for cell in cells):
                assert any("image/png" in output.get("data", {}) for output in shown), name
            assert agreed == len(cells), f"{name}:\n{said[-5000:]}"


def hidden_cells(source: str, page: str) -> int:
    """How many code cells of a chapter, but those that are to be removed, its page lacks."""
    cells = [cell.partition("\n\n")[0] for cell in source.split("\n```{code-cell}")[1:]]
    return sum("remove-" not in options for options in cells) - page.count('class="cell_input ')


def test_every_page_shows_the_code_cells_of_its_chapter(book: Path) -> None:
    for chapter in (book.parents[1] / "chapters").glob("*.md"):
        page = (book / "chapters" / f"{chapter.stem}.html").read_text("utf-8")
        assert hidden_cells(chapter.read_text("utf-8"), page) == 0, chapter.stem


@pytest.mark.parametrize(("colons", "hidden"), [("::::", 0), (":::", 1)])
def test_a_cell_inside_a_box_that_is_not_closed_is_noticed(
    build: Callable[..., Any], colons: str, hidden: int
) -> None:
    page = f"""---
file_format: mystnb
kernelspec: {{display_name: Python 3, name: python3}}
---

# Title

{colons}{{note}}
:::{{tip}}
An answer
:::
{colons}

```{{code-cell}} ipython3
:tags: [remove-cell]

1 + 1
```

```{{code-cell}} ipython3
1 + 2
```
"""
    settings = {"myst_enable_extensions": ["colon_fence"], "nb_execution_mode": "off"}
    built = build({"index.md": page}, extensions=["myst_nb"], **settings)
    assert hidden_cells(page, built.page("index")) == hidden


@pytest.mark.parametrize(("shown", "agreed"), [("3\n", 1), ("4\n", 0)])
def test_what_differs_is_noticed(tmp_path: Path, shown: str, agreed: int) -> None:
    output = nbformat.v4.new_output("stream", name="stdout", text=shown)
    cell = nbformat.v4.new_code_cell("print(1 + 2)", execution_count=1, outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert run_again(notebook, tmp_path / "run" / "sum.ipynb")[0] == agreed
