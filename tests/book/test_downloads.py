"""What is offered for download is what was executed, fit to be run elsewhere."""

from __future__ import annotations

import nbformat.v4 as nbformat
from nbformat import NotebookNode

from book.downloads import cleaned

KERNEL = {"name": "python3", "display_name": "Python 3"}


def notebook(*cells: NotebookNode) -> NotebookNode:
    metadata = {"kernelspec": KERNEL, "lecture": {"L01": {}}, "jupytext": {}}
    return nbformat.new_notebook(cells=list(cells), metadata=metadata)


def glue(name: str, text: str) -> NotebookNode:
    output = nbformat.new_output(
        "display_data",
        data={"application/papermill.record/text/plain": text},
        metadata={"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}},
    )
    return nbformat.new_code_cell(f"glue('{name}', {text})", outputs=[output])


def test_only_what_a_notebook_needs_is_kept() -> None:
    assert cleaned(notebook()).metadata == {"kernelspec": KERNEL}


def test_glued_numbers_stand_in_the_prose() -> None:
    prose = nbformat.new_markdown_cell("A gap of {glue:text}`gap:.2f`, not {glue:text}`other`.")
    result = cleaned(notebook(prose, glue("gap", "1.23456"), glue("other", "7")))
    assert result.cells[0].source == "A gap of 1.23, not 7."
    assert result.cells[1].outputs, "what was executed keeps its outputs"


def test_cells_that_check_the_prose_are_left_out_and_the_others_are_numbered() -> None:
    cells = [nbformat.new_code_cell(text, execution_count=n) for n, text in enumerate("abc", 1)]
    cells[1].metadata["tags"] = ["remove-cell"]
    cells[2].outputs = [nbformat.new_output("execute_result", execution_count=3)]
    result = cleaned(notebook(*cells))
    assert [(cell.source, cell.execution_count) for cell in result.cells] == [("a", 1), ("c", 2)]
    assert result.cells[1].outputs[0].execution_count == 2


def test_drawings_are_described() -> None:
    prose = nbformat.new_markdown_cell(
        "Before.\n\n```{diagram} map\n:alt: \"An 'x' and a z.\"\n\nThe map.\n```\n\n"
        "```{playground} bound\n:predict: 'Where?'\n:alt: 'A curve.'\n```\n\nAfter."
    )
    assert cleaned(notebook(prose)).cells[0].source == (
        "Before.\n\n*Drawn in the book: An 'x' and a z.*\n\nThe map.\n\n"
        "*Drawn in the book: A curve.*\n\nAfter."
    )


def test_a_name_that_is_not_glued_is_left_alone() -> None:
    prose = nbformat.new_markdown_cell("{glue:text}`gap:.2f`")
    assert cleaned(notebook(prose)).cells[0].source == "{glue:text}`gap:.2f`"
