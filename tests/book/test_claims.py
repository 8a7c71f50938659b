"""Sentences are held to the numbers: claims, numerals in the prose, other seeds, reading times."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from book.claims import ClaimError, claim
from book.reading_time import minutes
from book.seeds import moved

CHAPTERS = sorted(
    path
    for path in (Path(__file__).parents[2] / "chapters").glob("*.md")
    if "{code-cell}" in path.read_text("utf-8")
)
CELL = re.compile(r"^```\{code-cell\}.*?^```$", re.MULTILINE | re.DOTALL)
LISTING = re.compile(r"^```python\n.*?^```$", re.MULTILINE | re.DOTALL)
ALT = re.compile(r"^ +alt: (.*)$", re.MULTILINE)
# What is not prose: listings, formulas, code, addresses, options of directives, paths of figures.
NO_PROSE = re.compile(
    r"^(`{3,})(?!\{(?:figure|diagram|playground)).*?^\1$|^\$\$.*?^\$\$$|\$[^$]+\$|\{glue:text\}`[^`]*`"
    r"|`[^`]*`|https?://\S+|^\([\w-]+\)=$|^:(?!alt)[\w-]+:[^\n]*$|\]\([^)]*\)",
    re.MULTILINE | re.DOTALL,
)
NUMERAL = re.compile(r"(?<![\w.,/×^-])\d+(?:[.,]\d+)*(?![\w^])(?: ?%)?")


class TestClaims:
    @pytest.mark.parametrize(
        "holds", [True, torch.tensor(True), np.array([True, True]), [True, torch.ones(2).bool()]]
    )
    def test_what_is_true_passes(self, holds: object) -> None:
        claim("it is so", holds)

    @pytest.mark.parametrize(
        "holds", [False, torch.tensor([True, False]), np.array(False), [True, [False]]]
    )
    def test_what_is_not_is_named(self, holds: object) -> None:
        with pytest.raises(ClaimError, match=r"no longer say: it is so$"):
            claim("it is so", holds)

    @pytest.mark.parametrize("holds", [1, 0.5, torch.ones(2), [], None, "yes"])
    def test_a_claim_is_made_of_truth_values(self, holds: object) -> None:
        with pytest.raises(TypeError, match="truth values"):
            claim("it is so", holds)


def numerals(text: str) -> list[str]:
    """What numerals in a page's prose and alternative texts come from nowhere.

    They stand neither in the code of a cell nor in a sentence with a reference, and are not small
    integers. In a hidden cell the claim's own words do not count, only what they are held to.
    """
    body = text.split("---\n", 2)[2] if text.startswith("---\n") else text
    cells = CELL.findall(body)
    hidden = [cell for cell in cells if re.search(r"^:tags:.*remove-cell", cell, re.MULTILINE)]
    shown = [ALT.sub("", cell) for cell in cells if cell not in hidden] + LISTING.findall(body)
    code = [text.replace("_", "").replace("-", " ") for text in shown]
    known = {plain(numeral) for text in code for numeral in NUMERAL.findall(text)}
    known |= {plain(str(number)) for cell in hidden for number in constants(cell)}
    alts = "\n\n".join(alt for cell in cells for alt in ALT.findall(cell))
    found = []
    for sentence in re.split(r"\n|(?<=[.?!]) ", CELL.sub("", body) + "\n\n" + alts):
        if "{cite" in sentence:
            body = body.replace(sentence, "")
    prose = NO_PROSE.sub(" ", CELL.sub("", body)) + "\n\n" + alts
    for numeral in NUMERAL.findall(prose):
        value = plain(numeral)
        whole = value.isdecimal()
        if value in known or (whole and (int(value) <= 12 or 1900 <= int(value) <= 2030)):
            continue
        if value.endswith("%") and plain(f"{float(value[:-1]) / 100:.6f}") in known:
            continue
        found.append(numeral)
    return found


def constants(cell: str) -> Iterator[float]:
    """The numbers in a cell's code."""
    body = re.sub(r"^(```|:).*$", "", cell, flags=re.MULTILINE)
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node.value


def plain(numeral: str) -> str:
    """1,000 and 1000 are one number, 0.50 and 0.5, too; a share keeps its sign."""
    digits = numeral.replace(",", "").removesuffix("%").strip()
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits + ("%" if numeral.endswith("%") else "")


HIDDEN = "```{{code-cell}} ipython3\n:tags: [remove-cell]\n\nclaim({})\n```\n"


class TestNumerals:
    @pytest.mark.parametrize("page", CHAPTERS, ids=lambda path: path.stem)
    def test_a_number_in_the_prose_comes_from_a_cell_or_a_reference(self, page: Path) -> None:
        assert not numerals(page.read_text("utf-8"))

    @pytest.mark.parametrize(
        ("prose", "found"),
        [
            ("It costs 3.7 nats.", ["3.7"]),
            ("It costs {glue:text}`cost:.1f` nats in 2014, with 10 draws.", []),
            ("About 40 % of 1,234 images", ["40 %", "1,234"]),
            ("All 5,000 digits of $28 \\times 28$, `x[:99]`", []),
            ("It was 86.76 {cite}`burda2015importance`.", []),
            ("It costs 5 %, or 7.5.\n\n" + HIDDEN.format("'7.5', 0.05"), ["7.5"]),
            (":class: note\n\nIt costs 3.7 nats.", ["3.7"]),
            ("It was 86.76 {cite}`burda2015importance`. Ours is 87.39.", ["87.39"]),
        ],
    )
    def test_what_is_found(self, prose: str, found: list[str]) -> None:
        page = f"---\nkey: 17.5\n---\n\n{prose}\n\n```{{code-cell}} ipython3\nn = 5_000\n```\n"
        assert numerals(page) == found

    def test_alternative_texts_are_read_too(self) -> None:
        options = 'mystnb:\n  image:\n    alt: "From 17.5 up."'
        cell = f"```{{code-cell}} ipython3\n---\n{options}\n---\nf()\n```"
        assert numerals(cell) == ["17.5"]


def test_other_seeds_reach_all_cells_and_no_prose(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "manual_seed(3)\n\n```{code-cell} ipython3\nmanual_seed(3)\nf(seed=0, n=5)\n```\n"
    assert moved(text) == text
    monkeypatch.setenv("BOOK_SEED", "2")
    assert moved(text) == text.replace("n\nmanual_seed(3)", "n\nmanual_seed(2003)", 1).replace(
        "3\nmanual_seed(3)", "3\nmanual_seed(2003)"
    ).replace("seed=0", "seed=2000")


def test_a_longer_page_takes_longer() -> None:
    words = "word " * 1800
    assert minutes(words) == 10
    assert minutes(words + "\n```{code-cell} ipython3\n1\n```\n" * 20) == 20
    hidden = "\n```{code-cell} ipython3\n:tags: [remove-cell]\n1\n```\n"
    assert minutes(words + hidden * 20) == 10
    assert minutes(words + "\n$$\nx\n$$\n" * 5) == 15
