"""The trace asks of every chapter that is there what the lecture says, and links it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from book.trace import Chapter, where_tested

ROOT = Path(__file__).parents[2]
COURSE = yaml.safe_load((ROOT / "book/lecture-items.yml").read_text("utf-8"))
INDEX = "# Title\n\n```{toctree}\nchapters/elbo\nchapters/trace\n```\n"
TRACE = "# Trace\n\n```{lecture-trace}\n```\n"


def elbo(**changes: Any) -> str:
    """The chapter on the ELBO, with the entry of L29 changed, or left out by None."""
    items = [item for item, what in COURSE["items"].items() if "elbo" in what["chapters"]]
    lecture = {item: {"section": "bound", "functions": [], "exercise": "2-elbo"} for item in items}
    lecture["L29"] |= {"functions": ["vaelib.log_weights"], **changes}
    matter = yaml.safe_dump({"lecture": lecture, "slides": ["E1"]})
    return f"---\n{matter}---\n\n(elbo)=\n# The ELBO\n\n(bound)=\n## A bound\n\nText.\n"


def files(chapter: str) -> dict[str, str]:
    return {
        "index.md": INDEX,
        "chapters/trace.md": TRACE,
        "chapters/elbo.md": chapter,
        "tests/vaelib/test_elbo.py": "from vaelib import log_weights\n",
    }


def test_the_items_are_the_lectures() -> None:
    assert list(COURSE["items"]) == [f"L{n:02}" for n in range(1, 40)]
    assert list(COURSE["errors"]) == [f"E{n}" for n in range(1, 10)]
    named = {name for what in COURSE["items"].values() for name in what["chapters"]}
    assert named == COURSE["chapters"].keys()


def test_an_item_is_linked_with_all_it_has(build: Callable[..., Any]) -> None:
    built = build(files(elbo()), "book.trace")
    assert built.warnings == ""
    rows = {row.split("<")[0]: row for row in built.page("chapters/trace").split("<strong>")}
    assert 'href="elbo.html#bound"' in rows["L29"]
    assert "A bound" in rows["L29"]
    assert "log_weights" in rows["L29"]
    assert "vaelib/test_elbo.py" in rows["L29"]
    assert "2-elbo" in rows["L29"]
    assert "kl: not written yet" in rows["L26"]
    assert 'href="elbo.html"' in rows["E1"]


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"section": "bund"}, "L29: no section here is labelled 'bund'"),
        ({"exercise": "2-elba"}, "L29: there is no exercise '2-elba'"),
        ({"functions": ["vaelib.log_weight"]}, "vaelib.log_weight cannot be imported"),
        ({"functions": ["vaelib.kl_terms"]}, "vaelib.kl.kl_terms is not tested in tests/vaelib/"),
        ({"functions": ["vaelib.inference_gap"]}, "inference_gap is not tested in tests/vaelib/"),
    ],
)
def test_what_is_wrong_in_an_entry_is_named(
    build: Callable[..., Any], changes: dict[str, Any], warning: str
) -> None:
    built = build(files(elbo(**changes)), "book.trace")
    assert warning in built.warnings
    assert "chapters/elbo" in built.warnings


def test_an_item_without_an_entry_is_named(build: Callable[..., Any]) -> None:
    built = build(files(elbo().replace("L29", "L99")), "book.trace")
    assert "lecture item L29 has no section here" in built.warnings
    assert "the lecture has no item L99" in built.warnings


def test_a_change_in_a_chapter_reaches_the_trace(build: Callable[..., Any]) -> None:
    assert "A bound" in build(files(elbo()), "book.trace").page("chapters/trace")
    changed = build({"chapters/elbo.md": elbo().replace("A bound", "Below")}, "book.trace")
    assert "Below" in changed.page("chapters/trace")


def test_a_page_without_front_matter_teaches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Title\n\n---\n\nlecture: [L01]\n\n---\n")
    assert Chapter("page", path).lecture == {}


def test_a_test_file_is_named_after_the_module() -> None:
    assert where_tested(Path(), "vaelib.kl.kl_terms") == Path("tests/vaelib/test_kl.py")
