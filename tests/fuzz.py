"""Spoils a JSON file as files get spoilt."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [None, [], {}, 0, -1.5, True, "x", [[1]], {"nbgrader": 3}]


def fuzzed(data: bytes, n: int, dice: random.Random) -> Iterator[bytes]:
    """n variants: cut off, with another byte, in another encoding, with a value of another type."""
    for _ in range(n):
        kind = dice.randrange(4)
        if kind == 0:
            yield data[: dice.randrange(len(data))]
        elif kind == 1:
            at = dice.randrange(len(data))
            yield data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
        elif kind == 2:
            yield data.decode().encode(dice.choice(["utf-16", "utf-32", "utf-8-sig", "cp500"]))
        else:
            yield json.dumps(_retyped(json.loads(data), dice)).encode()


def _retyped(record: Any, dice: random.Random) -> Any:
    place = record
    while True:
        key = dice.choice(list(place if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or dice.random() < 0.3:
            place[key] = dice.choice(VALUES)
            return record
        place = place[key]
