"""The clean notebook and the job that a submission becomes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fuzz import fuzzed

from autograder.execute.store import job_key
from autograder.hidden import hidden_lines, strip_hidden
from autograder.job import Limits
from autograder.prepare.files import Refused, odd_name, read_bytes, read_files
from autograder.prepare.notebook import blank, restore
from autograder.prepare.source import SourceCell, SourceNotebook
from autograder.prepare.submission import make_job

HIDDEN = "assert f(1)\n### BEGIN HIDDEN TESTS\nassert f(2)\n### END HIDDEN TESTS"
NONE = {"grade": False, "solution": False, "task": False, "points": 0.0, "checksum": "0" * 32}


def source_cell(name: str, source: str, kind: str = "code", **traits: Any) -> SourceCell:
    return SourceCell(
        **{**NONE, "name": name, "cell_type": kind, "source": source, "locked": False, **traits}
    )


SOURCE = SourceNotebook(
    "ps",
    {"name": "python3", "display_name": "Python 3", "language": "python"},
    (
        source_cell("imports", "import math", locked=True),
        source_cell("f", "def f(x): ...", solution=True),
        source_cell("test", HIDDEN, locked=True, grade=True, points=2.0),
        source_cell("why", "Why?", "markdown", grade=True, solution=True, points=3.0),
    ),
)


def submitted(*cells: dict[str, Any], **metadata: Any) -> bytes:
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}
    ).encode()


def raw(name: str | None, source: Any, kind: str = "code", **metadata: Any) -> dict[str, Any]:
    if name:
        metadata["nbgrader"] = {"grade_id": name, "points": 99, "grade": False, "locked": False}
    return {"cell_type": kind, "source": source, "metadata": metadata, "outputs": [{"x": 1}]}


HONEST = (
    raw(None, "# Title", "markdown"),
    raw("imports", "import math"),
    raw("f", "def f(x): return True"),
    raw(None, "f(3)"),
    raw("test", strip_hidden(HIDDEN)),
    raw("why", "Because.", "markdown"),
)


def sources(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells]


def test_an_honest_notebook_keeps_its_sources_and_gets_the_gradebooks_tests() -> None:
    notebook, tampering = restore(submitted(*HONEST), SOURCE)
    assert sources(notebook) == [
        "# Title",
        "import math",
        "def f(x): return True",
        "f(3)",
        HIDDEN,
        "Because.",
    ]
    assert tampering == []
    test = notebook.cells[4].metadata.nbgrader
    assert (test.grade, test.locked, test.points, test.schema_version) == (True, True, 2.0, 3)


def test_only_nbgraders_metadata_remains_and_no_output() -> None:
    cells = [raw(None, "1", tags=["skip-execution"]), raw("test", HIDDEN, tags=["skip-execution"])]
    notebook, tampering = restore(submitted(*cells, widgets={"x": 1}), SOURCE)
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")
    known = {"nbgrader", "deletable", "editable", "handed_in"}
    assert all(c.metadata.keys() <= known for c in notebook.cells)
    assert "widgets" not in notebook.metadata
    assert any("skip-execution" in line for line in tampering)


def outputs(notebook: Any) -> dict[str, Any]:
    """What is kept of the outputs that were handed in, by source."""
    return {c.source: c.metadata.handed_in for c in notebook.cells if "handed_in" in c.metadata}


def test_outputs_of_cells_that_are_no_tests_are_kept_as_texts() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    stream = {"output_type": "stream", "name": "stdout", "text": ["a\ud800", "b"], "more": deep}
    shown = {
        "output_type": "display_data",
        "data": {"text/plain": "c", "x": deep},
        "metadata": deep,
    }
    cells = [dict(cell, outputs=[stream, shown, deep, 3]) for cell in HONEST]
    notebook, _ = restore(submitted(*cells), SOURCE)
    assert outputs(notebook).keys() == {"import math", "def f(x): return True", "f(3)"}
    for found in outputs(notebook).values():
        assert [output["output_type"] for output in found[:2]] == ["stream", "display_data"]
        assert found[0]["text"] == "a?b"
        assert found[1]["data"] == {"text/plain": "c", "x": ""}
    nbformat.writes(notebook).encode()


def test_outputs_that_are_kept_have_a_size() -> None:
    much = {"output_type": "stream", "name": "stdout", "text": "x" * 900_000}
    cells = [dict(HONEST[3], outputs=[much], source=str(i)) for i in range(20)]
    notebook, _ = restore(submitted(*HONEST, *cells), SOURCE)
    assert 3e6 < len(json.dumps(notebook)) < 5e6


@pytest.mark.parametrize("missing", [0, 1, 2, 4, 5])
def test_a_deleted_cell_comes_back_in_its_place(missing: int) -> None:
    cells = [cell for position, cell in enumerate(HONEST) if position != missing]
    notebook, tampering = restore(submitted(*cells), SOURCE)
    names = [c.metadata.nbgrader.grade_id for c in notebook.cells if "nbgrader" in c.metadata]
    assert names == ["imports", "f", "test", "why"]
    assert bool(tampering) == (missing != 0)  # the title is not a cell of the gradebook's


def test_any_order_is_put_back_and_own_cells_stay_behind_theirs() -> None:
    wanted, _ = restore(submitted(*HONEST), SOURCE)
    blocks = [HONEST[1:2], HONEST[2:4], HONEST[4:5], HONEST[5:6]]
    for seed in range(24):
        shuffled = random.Random(seed).sample(blocks, len(blocks))
        cells = [HONEST[0], *(cell for block in shuffled for cell in block)]
        notebook, tampering = restore(submitted(*cells), SOURCE)
        assert notebook == wanted
        assert bool(tampering) == (shuffled != blocks)


def test_of_a_duplicate_the_last_counts_and_a_locked_one_goes() -> None:
    cells = [*HONEST, raw("f", "def f(x): return 2"), raw("test", "pass")]
    notebook, tampering = restore(submitted(*cells), SOURCE)
    found = sources(notebook)
    assert found.count(HIDDEN) == 1
    assert "pass" not in found
    counted = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "f"]
    assert [c.source for c in counted] == ["def f(x): return 2"]
    assert "def f(x): return True" in found
    assert sum("more than once" in line for line in tampering) == 2


def test_a_retyped_and_rewritten_test_is_put_back() -> None:
    cells = [*HONEST[:4], raw("test", "all passed", "markdown"), HONEST[5]]
    notebook, tampering = restore(submitted(*cells), SOURCE)
    assert notebook.cells[4].cell_type == "code"
    assert notebook.cells[4].source == HIDDEN
    assert len(tampering) == 2


def test_another_kernel_is_told_and_python_put_back() -> None:
    data = submitted(*HONEST, kernelspec={"name": "bash", "language": "bash"})
    notebook, tampering = restore(data, SOURCE)
    assert notebook.metadata.kernelspec.language == "python"
    assert "bash" in tampering[0]
    renamed = submitted(*HONEST, kernelspec={"name": "my-env", "language": "python"})
    assert restore(renamed, SOURCE)[1] == []


def test_a_pasted_picture_stays_and_anything_else_attached_goes() -> None:
    answer = raw("why", "![](a.png)", "markdown")
    answer["attachments"] = {"a.png": {"image/png": "aGk="}, "b": {"text/html": "<script>"}}
    notebook, _ = restore(submitted(*HONEST[:5], answer), SOURCE)
    assert notebook.cells[-1].attachments == {"a.png": {"image/png": "aGk="}}


def test_text_that_cannot_be_written_is_replaced() -> None:
    data = submitted(*HONEST[:3], raw(None, "a\0b\ud800c"), *HONEST[3:])
    notebook, _ = restore(data, SOURCE)
    source = notebook.cells[3].source
    assert source.encode()
    assert "\0" not in source


def old_heading(level: object) -> bytes:
    cell = {"cell_type": "heading", "level": level, "source": "Title", "metadata": {}}
    sheet = {"cells": [cell], "metadata": {}}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [sheet]}
    return json.dumps(old).encode()


def test_a_heading_of_an_old_notebook_is_kept() -> None:
    notebook, _ = restore(old_heading(2), SOURCE)
    assert "## Title" in [cell.source for cell in notebook.cells]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b"[]", "not a JSON object"),
        (b"[" + b"[]," * 1_000_001 + b"0]", "more than 2,000,000 values"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"nbformat": 4, "cells": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"cells": []}', "format"),
        (b'{"nbformat": 7, "cells": []}', "format"),
        (b'{"nbformat": true, "cells": []}', "format"),
        (b'{"nbformat": 3, "worksheets": 5}', "nbformat 3"),
        (old_heading(10**8), "level of a heading"),
        (old_heading("2"), "level of a heading"),
        (old_heading(True), "level of a heading"),
        (b'{"nbformat": 4, "cells": {}}', "no list of cells"),
        (b'{"nbformat": 4, "cells": [[]]}', "no list of cells"),
        (submitted(raw(None, 5)), "not text"),
        (submitted(raw(None, "", kind="magic")), "neither"),
        (submitted({"cell_type": ["code"], "source": ""}), "neither"),
        (submitted(*[raw(None, "")] * 2001), "more than 2000"),
        (submitted(*[raw(None, f"{'x' * 10_000}\U0001f600")] * 700), "too much text"),
    ],
)
def test_what_is_no_notebook_is_refused_with_its_reason(data: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        restore(data, SOURCE)
    assert caught.value.reason == "malformed"


def test_a_large_notebook_of_plain_text_is_taken() -> None:
    text = "x" * 19_000_000
    notebook, _ = restore(submitted(raw(None, text, kind="markdown")), SOURCE)
    assert text in [cell.source for cell in notebook.cells]


@pytest.mark.slow
@pytest.mark.parametrize("value", ["[]", "{}", '{"a":[]}', "1.5", '"ab"', "7", "[[[]]]"])
def test_the_memory_of_the_largest_notebook_that_is_read(value: str) -> None:
    """In a process of its own: 20 MB that hold as many values as are taken."""
    program = f"""
import resource
from autograder.prepare.notebook import VALUES_COUNT, parse
value = {value!r}
signs = 1 + sum(value.count(sign) for sign in "[{{,")
data = "[" + (VALUES_COUNT // signs - 2) * (value + ",")
data += '"' + "a" * (20 * 2**20 - len(data) - 3) + '"]'
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = parse(data.encode())
assert len(found) > 400_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(process.stdout) < 300  # MB


def test_fuzzed_notebooks_are_restored_or_refused() -> None:
    data = submitted(*HONEST, kernelspec={"language": "python"})
    refused = 0
    for spoilt in fuzzed(data, 500, random.Random(0)):
        try:
            notebook, _ = restore(spoilt, SOURCE)
        except Refused:
            refused += 1
        else:
            nbformat.validate(notebook)
            assert [c.source for c in notebook.cells if c.source == HIDDEN] == [HIDDEN]
    assert 50 < refused < 450


def test_a_blank_notebook_says_why() -> None:
    notebook = blank(SOURCE, Refused("malformed", "torn"))
    assert notebook.metadata.autograder.refused == ["malformed", "torn"]
    assert len(notebook.cells) == 4


def test_hidden_lines_keep_their_numbers() -> None:
    assert [hidden for _, hidden in hidden_lines(HIDDEN, "BEGIN", "END")] == [
        False,
        True,
        True,
        True,
    ]


def test_roles_and_ids_of_a_job() -> None:
    notebook, _ = restore(submitted(*HONEST), SOURCE)
    job = make_job(notebook, {"b": b"2", "a": b"1"}, limits=Limits(cell_seconds=1))
    assert [(c.id, c.role) for c in job.cells] == [
        ("imports", "shared"),
        ("f", "student"),
        ("cell 3", "student"),
        ("test", "test"),
    ]
    assert list(job.files) == ["a", "b"]
    assert job.limits.cell_seconds == 1


def test_a_key_depends_on_all_that_a_result_depends_on() -> None:
    notebook, _ = restore(submitted(*HONEST), SOURCE)
    job = make_job(notebook, {})
    keys = {
        job_key(job),
        job_key(job, isolated=False),
        job_key(make_job(notebook, {"a": b""})),
        job_key(make_job(notebook, {}, limits=Limits(processes=1))),
        job_key(make_job(notebook, {}, withheld=["json"])),
        job_key(make_job(restore(submitted(*HONEST[:3]), SOURCE)[0], {})),
    }
    assert len(keys) == 6
    again, _ = restore(submitted(*HONEST, kernelspec={"name": "other"}), SOURCE)
    assert job_key(make_job(again, {})) == job_key(job)


# Files


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../b", "a//b", "a\0b", "a\nb", "x" * 300, "\udcff", "a/."]
)
def test_odd_names(name: str) -> None:
    assert odd_name(name)


@pytest.mark.parametrize("name", ["a.csv", "data/ünï code.txt", "x" * 200])
def test_good_names(name: str) -> None:
    assert odd_name(name) is None


def test_files_are_read_and_links_pipes_and_odd_names_refused(tmp_path: Path) -> None:
    folder = tmp_path / "submission"
    (folder / "data").mkdir(parents=True)
    (folder / "data/points.csv").write_text("1")
    (folder / "ps.ipynb").write_text("{}")
    (folder / "timestamp.txt").write_text("2030")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").write_text("")
    secret = tmp_path / "gradebook.db"
    secret.write_text("secret")
    (folder / "soft").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    os.link(secret, folder / "hard")
    os.mkfifo(folder / "pipe")
    (folder / "odd\nname").write_text("")
    files = read_files(folder, ["__pycache__"])
    assert files.taken == {"data/points.csv": b"1"}
    assert files.refused.keys() == {"soft", "folder", "hard", "pipe", "odd\nname"}


def test_a_folder_in_the_place_of_a_file_is_refused_and_left_closed(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(Refused, match=f"{tmp_path.name} is not a regular file"):
            read_bytes(tmp_path, 10)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * 11)
    assert read_bytes(path, 11) == b"x" * 11
    with pytest.raises(Refused, match="larger"):
        read_bytes(path, 10)
