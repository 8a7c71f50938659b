"""How well `python -m autograder similar` tells copies from honest answers.

Measured: for each exercise, simulated classes of 30 (`tests/autograder/writers.py`). In them each
known other right way is one student's, everybody else writes the course's solution, and all in a
style of their own. Of six students in each class there are disguised copies: other names, comments
and blanks, and statements in another order where nothing forbids it. With the course's solution
among the given code, as the command has it, and without.

    python -m benchmarks.similar
    python -m benchmarks.similar --quick   # one class of one exercise, keeps nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

from autograder.similar import compare
from autograder.similar.own import Code, written
from benchmarks.report import Report
from book import exercises
from tests.autograder.writers import CLASS, disguised, honest_class

ROOT = Path(__file__).parents[1]
CLASSES, COPIED = 4, 6
TOKENS = (60, 80, 100, 120, 140, 160)
Pairs = list[tuple[int, float]]
"""Of each pair the tokens in common, and their share of the shorter answer."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    quick = parser.parse_args(arguments).quick
    report = Report("similar", __doc__.split("\n\n")[1])
    sources = sorted((ROOT / "solutions").glob("*/*.ipynb"))[: 1 if quick else None]
    found: dict[bool, tuple[Pairs, Pairs, list[int]]] = {True: ([], [], []), False: ([], [], [])}
    for source in sources:
        for seed in range(1 if quick else CLASSES):
            for solved, results in found.items():
                for kept, new in zip(results, one_class(source, seed, solved), strict=True):
                    kept += new  # type: ignore[operator]
    pairs = len(sources) * (1 if quick else CLASSES) * CLASS * (CLASS - 1) // 2
    least, share = compare.LEAST, compare.SHARE
    honest, copies, lengths = found[True]
    long = sum(length >= least for length in lengths)
    report.in_short(f"honest pairs that are named, of {pairs}", str(named(honest, least)), "0")
    report.in_short("tokens that the most similar honest pair has in common", str(top(honest)))
    report.in_short(
        f"copies that are named, of {long} with {least} tokens of their own",
        str(named(copies, least)),
    )
    report.in_short(f"copies with fewer, of {len(lengths)}", str(len(lengths) - long))
    without = named(found[False][0], least)
    report.in_short(f"honest pairs named without the solution, of {pairs}", str(without))
    columns = ["tokens at least", "honest pairs", "copies", "copies that are as long"]
    rows = [
        [str(t), str(named(honest, t)), str(named(copies, t)), str(sum(n >= t for n in lengths))]
        for t in TOKENS
    ]
    report.table(f"Named with a share of at least {share:.0%}, by tokens in common", columns, rows)
    report.close(save=not quick)


def one_class(source: Path, seed: int, solved: bool) -> tuple[Pairs, Pairs, list[int]]:
    """The honest pairs, the pairs of a copy and its original, and how long the copies are."""
    random = Random(f"{source.stem} {seed}")
    everybody = [*honest_class(source, random).values()]
    honest = len(everybody)
    for answers in everybody[:COPIED]:
        everybody.append({cell: disguised(text, random) for cell, text in answers.items()})
    stubs = {
        c.metadata.nbgrader.grade_id: c.source
        for c in exercises.released(source).cells
        if c.metadata.get("nbgrader", {}).get("solution") and c.cell_type == "code"
    }
    given: Code = dict(stubs)
    if solved:
        for cell in exercises.solved(source).cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if name in stubs:
                given[f"{name} (solved)"] = written(stubs[name], cell.source)
    codes = [{cell: written(stubs[cell], text) for cell, text in a.items()} for a in everybody]
    result = compare.compared(codes, given, least=1, share=0.0)
    pairs = {(one, other): (tokens, part) for one, other, _, tokens, part, *_ in result["pairs"]}
    return (
        [pair for (_, other), pair in pairs.items() if other < honest],
        [pairs[n, honest + n] for n in range(COPIED) if (n, honest + n) in pairs],
        [min(result["tokens"][n], result["tokens"][honest + n]) for n in range(COPIED)],
    )


def named(pairs: Pairs, least: int) -> int:
    """How many pairs the command would name with this limit."""
    return sum(tokens >= least and share >= compare.SHARE for tokens, share in pairs)


def top(pairs: Pairs) -> int:
    """The tokens that the most similar pair has in common."""
    return max((tokens for tokens, share in pairs if share >= compare.SHARE), default=0)


if __name__ == "__main__":
    main()
