"""`python -m book`, with the book's own settings: what fails it, and what is executed again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OUTPUT: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
NOTEBOOK = """---
file_format: mystnb
kernelspec: {display_name: Python 3, name: python3}
---

(page)=
# Page

```{code-cell} ipython3
CELL
```
"""
PLOT = """---
mystnb: {image: {alt: A line.}}
---
import matplotlib.pyplot as plt
plt.plot([0, 1]);"""
FIGURE = """from IPython.display import SVG
SVG('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')"""


@pytest.fixture
def root(tmp_path: Path, write: Callable[[dict[str, str]], Path]) -> Path:
    """A book of one page, built by the real settings."""
    root = write(
        {
            "vaelib/__init__.py": "",
            "requirements.txt": "",
            "chapters/references.bib": "",
            "chapters/introduction.md": "# Introduction\n\nSee {ref}`page`.\n",
            "_toc.yml": "format: jb-book\nroot: chapters/introduction\n"
            "chapters:\n  - file: chapters/page\n",
        }
    )
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "_config.yml", root)
    return root


def make(root: Path, page: str) -> tuple[int, str]:
    """Build; the exit code, and what was said."""
    (root / "chapters/page.md").write_text(page)
    command = [sys.executable, "-m", "book"]
    built = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return built.returncode, built.stdout + built.stderr


def test_every_fault_fails_the_build_and_the_next_one_too(root: Path) -> None:
    faults = [
        NOTEBOOK.replace("CELL", FIGURE),
        "```{code-cell} ipython3\nimport sys\nprint('hot', file=sys.stderr)\n```",
        "```python\n### BEGIN SOLUTION\n```",
        "[no page](nowhere.md), {ref}`no-label`, {doc}`no-document`, {term}`no term`,",
        "{cite}`nobody1900`, {py:obj}`vaelib.nothing`.",
    ]
    for _ in range(2):
        code, said = make(root, "\n\n".join(faults))
        assert code != 0
        for fault in [
            "nowhere.md",
            "no-label",
            "no-document",
            "no term",
            "nobody1900",
            "vaelib.nothing",
            "without alternative text",
            "stderr",
            "BEGIN SOLUTION",
        ]:
            assert fault in said
    code, said = make(root, NOTEBOOK.replace("CELL", "1 + 1"))
    assert (code, "WARNING" in said) == (0, False)


def test_a_cell_that_raises_fails_the_build_and_is_shown(root: Path) -> None:
    code, said = make(root, NOTEBOOK.replace("CELL", "shape = 2\nraise KeyError(shape)"))
    assert code != 0
    assert "raise KeyError(shape)" in said


def test_a_page_shows_the_svg_of_a_plot_and_its_notebook_the_png(root: Path) -> None:
    code, said = make(root, NOTEBOOK.replace("CELL", PLOT))
    assert code == 0, said
    html = root / "_build/html"
    page = (html / "chapters/page.html").read_text("utf-8")
    image = re.search(r'<img alt="A line\." [^>]*src="\.\./(_images/[^"]*\.svg)"', page)
    assert image
    assert "prefers-color-scheme: dark" in (html / image[1]).read_text("utf-8")
    notebook = (html / "_sources/chapters/page.ipynb").read_text("utf-8")
    assert "image/png" in notebook
    assert "svg" not in notebook


def test_two_builds_at_once_build_one_after_the_other(root: Path) -> None:
    (root / "chapters/page.md").write_text(NOTEBOOK.replace("CELL", "1 + 1"))
    command = [sys.executable, "-m", "book"]
    builds = [subprocess.Popen(command, cwd=root, **OUTPUT) for _ in range(2)]
    said = [build.communicate()[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    assert sum("executed chapters/page" in text for text in said) == 1
    assert sum("Another build is under way" in text for text in said) == 1


def test_only_what_may_have_changed_is_executed_again(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    cell = f"print('hello', open({str(log)!r}, 'a').write('.'))"
    page = NOTEBOOK.replace("CELL", cell)

    def executed() -> int:
        return len(log.read_text())

    assert make(root, page)[0] == 0
    assert executed() == 1
    assert make(root, page + "\nMore prose.\n")[0] == 0
    assert executed() == 1
    (root / "vaelib/__init__.py").write_text("__version__ = '2'")
    assert make(root, page)[0] == 0
    assert executed() == 2
    assert len(list((root / "_build/executed").iterdir())) == 1

    html = (root / "_build/html/chapters/page.html").read_text()
    link = re.search(r'href="\.\./(_sources/chapters/page\.ipynb)"', html)
    assert link, "the menu offers the executed notebook"
    notebook = json.loads((root / "_build/html" / link[1]).read_text())
    (code,) = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code["execution_count"] == 1
    assert code["outputs"][0]["text"] in ("hello 1\n", ["hello 1\n"])
    assert not list((root / "chapters").glob("*.ipynb"))
