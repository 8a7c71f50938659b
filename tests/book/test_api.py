"""The reference shows docstrings as they are written, of all that is public, under either name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vaelib
from book.api import canonical, plain, skip
from vaelib.codes import Estimate


@pytest.mark.parametrize(
    ("written", "escaped"),
    [
        ("maximise over θ*, φ* and |t|", r"maximise over θ\*, φ\* and \|t\|"),
        ("shapes (*, K) → (*, K)", r"shapes (\*, K) → (\*, K)"),
        ("Σ_d x_ of log p_", r"Σ_d x\_ of log p\_"),
        ("the parameters are *shared*, not copied", "the parameters are *shared*, not copied"),
        ("see `log_weights` and ``x*``", "see ``log_weights`` and ``x*``"),
        (">>> 2 * 3 * 4 | 1", ">>> 2 * 3 * 4 | 1"),
    ],
)
def test_what_would_be_markup_is_escaped(written: str, escaped: str) -> None:
    assert plain([written]) == [escaped]


def test_an_example_ends_at_an_empty_line() -> None:
    lines = [">>> x * y", "tensor * 2", "", "x* again"]
    assert plain(lines) == [">>> x * y", "tensor * 2", "", r"x\* again"]


@pytest.mark.filterwarnings("ignore")
def test_a_page_shows_sections_formulas_and_examples(build: Callable[..., Any]) -> None:
    module = "```{eval-rst}\n.. automodule:: vaelib.kl\n   :members:\n```"
    page = f"# API\n\n{module}\n\n{{py:obj}}`vaelib.kl_terms`\n"
    built = build({"index.md": page}, "book.api")
    html = built.page("index")
    assert 'id="vaelib.kl.kl_to_standard_normal"' in html
    assert 'href="#vaelib.kl.kl_terms"' in html, "a link by the public name"
    assert "½" in html
    assert "&gt;&gt;&gt; " in html
    assert "Raises" in html
    assert built.warnings == ""


def test_the_fields_of_a_named_tuple_are_left_out_and_its_methods_are_not() -> None:
    members = vars(Estimate)
    left_out = {n for n in members if skip(None, "class", n, members[n], False, None)}  # type: ignore[arg-type]
    assert left_out == set(Estimate._fields)


def test_names_lead_to_where_they_are_defined() -> None:
    assert canonical("vaelib.kl_terms") == "vaelib.kl.kl_terms"
    with pytest.raises(AttributeError):
        canonical("vaelib.nothing")


def test_the_reference_has_every_module_that_users_may_rely_on() -> None:
    page = (Path(__file__).parents[2] / "chapters" / "api.md").read_text("utf-8")
    listed = {line.split()[-1] for line in page.splitlines() if ".. automodule::" in line}
    public = {canonical(f"vaelib.{name}").rpartition(".")[0] for name in vaelib.__all__}
    assert {module for module in public if module != "vaelib"} <= listed
