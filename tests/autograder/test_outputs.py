"""`autograder.execute.outputs`: whatever a notebook sends, its outputs have a size."""

from __future__ import annotations

import json

from autograder.execute.outputs import Outputs
from autograder.job import Limits

LIMITS = Limits(output=50_000)
ERROR = ["E" * 200, "v" * 10_000, [f"{i} {'l' * 2000}" for i in range(200)]]


def test_errors_take_of_the_room() -> None:
    left, size = 16 * LIMITS.output, 0
    for _ in range(2000):
        outputs = Outputs(LIMITS, max(0, min(LIMITS.output, left)))
        for _ in range(10):
            outputs.add({"error": ERROR})
        left -= outputs.size
        size += len(json.dumps(outputs.items))
        assert len(outputs.items) == 5
        assert all(len(item["evalue"]) >= 1000 for item in outputs.items)
    assert size < 50_000_000


def test_of_the_room_texts_take_their_memory() -> None:
    plain, wide = Outputs(LIMITS), Outputs(LIMITS)
    for outputs, letter in ((plain, "x"), (wide, "\U0001f600")):
        outputs.add({"stream": "stdout", "text": "x" * 40_000})
        outputs.add({"stream": "stdout", "text": letter})
    assert 40_000 < plain.size < 41_000
    assert wide.size > 160_000
    mimes = Outputs(LIMITS)
    mimes.add({"display": {f"a/{i}": "" for i in range(1000)}})
    assert mimes.size > 40_000


def test_of_an_error_the_place_and_the_last_lines_are_kept() -> None:
    outputs = Outputs(LIMITS)
    outputs.add({"error": ERROR})
    (error,) = outputs.items
    lines = [line.split()[0] for line in error["traceback"]]
    assert lines[0] == "0"
    assert lines[-1] == "199"
    assert lines[1:] == [str(i) for i in range(200 - len(lines) + 1, 200)]
    short = Outputs(LIMITS)
    short.add({"error": ["E", "v", ["line 1, test", "a", "b"]]})
    assert short.items[0]["traceback"] == ["line 1, test", "a", "b"]
