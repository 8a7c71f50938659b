"""Compares folders of Python files by compare50; run as a program, with compare50 on its path.

`python winnow.py FOLDER LEAST SHARE` compares the folders in FOLDER/own with one another, and
counts nothing that is in FOLDER/given. It prints JSON, in which a submission is called by its
place in the sorted list of folders:

- `tokens`: how many tokens each has of its own;
- `repeated`: those that repeat themselves so much that they are not compared;
- `pairs`: those that have at least LEAST tokens in common, and these are at least SHARE of the
  shorter one: the two places, compare50's score, how many tokens, their share, and the passages of
  each, as file, begin and end.

compare50's own program asks PyPI for its newest version and draws pages with scripts; so its
library is used, its pass `structure`: identifiers, literals, comments and whitespace do not count.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

MEMORY = 2 * 2**30
MOST_PAIRS = 1000
OFTEN = 20


def main(folder: Path, least: int, share: float) -> dict[str, Any]:
    """Compares, and returns what is printed."""
    from compare50 import Score, _api, passes, rank
    from compare50._data import Preprocessor, Submission

    _api.Executor = _api.FauxExecutor  # one process, as compare50's --debug
    structure = passes.structure
    preprocessor = Preprocessor(structure.preprocessors)

    def read(path: Path) -> Any:
        names = sorted(file.name for file in path.iterdir())
        return Submission(path, names, preprocessor=preprocessor)

    everybody = [read(path) for path in sorted((folder / "own").iterdir())]
    size = structure.comparator.k
    repeated = [i for i, who in enumerate(everybody) if _repeats(who, size)]
    compared = [who for i, who in enumerate(everybody) if i not in repeated]
    given = set(read(folder / "given").files)
    scores = [Score(who, who) for who in compared]  # with themselves, to count their own tokens
    if len(compared) > 1:
        scores += rank(compared, [], given, structure, n=MOST_PAIRS)
    place = {who.id: i for i, who in enumerate(everybody)}
    tokens = [0] * len(everybody)
    pairs = []
    for score, found in zip(scores, structure.comparator.compare(scores, given), strict=True):
        one, other = place[score.sub_a.id], place[score.sub_b.id]
        spans = [span for match in found.span_matches for span in match]
        if one == other:
            tokens[one] = _inside(score.sub_a, None, found.ignored_spans)
            continue
        common = min(_inside(who, spans, found.ignored_spans) for who in (found.sub_a, found.sub_b))
        part = common / max(1, min(tokens[one], tokens[other]))
        if common >= least and part >= share:
            where = [_places(who, spans) for who in (found.sub_a, found.sub_b)]
            pairs.append([one, other, float(score.score), common, part, *where])
    return {"tokens": tokens, "repeated": repeated, "pairs": pairs}


def _repeats(who: Any, size: int) -> bool:
    """Whether a run of tokens comes so often that all pairs of its places are too many."""
    for file in who.files:
        values = [token.val for token in file.tokens()]
        runs = Counter(zip(*(values[i:] for i in range(size)), strict=False))
        if max(runs.values(), default=0) > OFTEN:
            return True
    return False


def _inside(who: Any, spans: Any, ignored: Any) -> int:
    """How many tokens of somebody's own are in the spans; where these are `None`, how many all."""
    number = 0
    for file in who.files:
        without = [(s.start, s.end) for s in ignored if s.file == file]
        within = None if spans is None else [(s.start, s.end) for s in spans if s.file == file]
        for place in _tokens(file):
            counts = within is None or _covered(place, within)
            number += counts and not _covered(place, without)
    return number


@cache
def _tokens(file: Any) -> list[tuple[int, int]]:
    return [(token.start, token.end) for token in file.tokens()]


def _covered(place: tuple[int, int], spans: list[tuple[int, int]]) -> bool:
    return any(begin <= place[0] and place[1] <= end for begin, end in spans)


def _places(who: Any, spans: Any) -> list[tuple[str, int, int]]:
    return sorted({(str(s.file.name), s.start, s.end) for s in spans if s.file.submission == who})


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
