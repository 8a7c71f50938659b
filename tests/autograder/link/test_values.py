"""`autograder.link.values`: exact values, and only `Tampered` whatever comes."""

from __future__ import annotations

import json
import random
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

from autograder.link.errors import Tampered, TooLarge, Unsupported
from autograder.link.frames import Caps
from autograder.link.values import Decoder, Encoder

SMALL = Caps(header=2**16, payload=2**20, items=1000, depth=20, blobs=100)


def crossed(value: Any) -> Any:
    encoder = Encoder()
    tree = json.loads(json.dumps(encoder.encode(value)))
    return Decoder([memoryview(blob) for blob in encoder.blobs]).decode(tree)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return bool(a == b) and repr(a) == repr(b)


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**63, -(2**200), 1.0, -0.0, 1e308, 5e-324, float("inf"),
        "", "ε ~ N(0, I)", "a" * 10_000, b"", b"\x00\xff", bytearray(b"x"), 1 + 2j,
        [], (), {}, set(), [1, [2.0, ("x",)]], {1: "a", (2, 3): [None]}, {1, 2}, frozenset({"a"}),
        OrderedDict(b=1, a=2), Counter("abca"), deque([1, 2]), slice(1, None, 2), range(0, 10, 3),
        Ellipsis, torch.float64, torch.device("cpu"), torch.Size([2, 3]), np.dtype("float32"),
        np.float32(1.5), np.int64(-3), np.bool_(True), np.arange(6.0).reshape(2, 3),
        np.zeros((0, 2), np.int8), np.arange(6).reshape(2, 3).T,
        torch.tensor(1.5), torch.zeros(0, 3), torch.arange(6).reshape(2, 3).T,
        torch.tensor([True, False]), torch.tensor([1 + 2j]), torch.tensor([1.5]).bfloat16(),
        torch.ones(1).expand(4),
    ],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_values_come_back_as_they_were(value: Any) -> None:
    assert same(crossed(value), value)


def test_not_a_number_stays_one() -> None:
    assert crossed(float("nan")) != crossed(float("nan"))
    assert crossed(torch.tensor(float("nan"))).isnan()


def test_the_order_of_dimensions_in_memory_is_kept() -> None:
    x = torch.randn(2, 3, 4).permute(2, 0, 1)
    assert crossed(x).stride() == x.stride()
    assert not crossed(torch.zeros(2, 3).T).is_contiguous()


def test_a_named_tuple_keeps_its_fields() -> None:
    loss = namedtuple("Loss", ["total", "count", "def"], rename=True)(1.0, 2.0, 3.0)
    for back in (crossed(loss), crossed(crossed(loss))):
        assert back == (1.0, 2.0, 3.0)
        assert (back.total, back.count, back._2) == (1.0, 2.0, 3.0)
        assert isinstance(back, tuple)
        assert type(back).__name__ == "Loss"


def test_a_default_dict_compares_as_before_but_makes_nothing() -> None:
    back = crossed(defaultdict(list, a=[1]))
    assert back == {"a": [1]}
    with pytest.raises(KeyError):
        back["b"]


class Seven(int):
    """Seven."""


@pytest.mark.parametrize("value", [Seven(7), object(), len, torch.zeros(1).to_sparse(), type])
def test_what_is_not_plain_does_not_cross(value: Any) -> None:
    with pytest.raises(Unsupported):
        crossed(value)


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        2**2**20, -(2**2**20), "\ud800", "\ud800" * 5000, {"\udfff": 1}, torch.device("xla"),
        torch.Size([-1]), nested(slice(1, 2), 64),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_the_other_side_would_refuse_is_refused_at_the_sender(value: Any) -> None:
    with pytest.raises((TooLarge, Unsupported)):
        crossed(value)


@pytest.mark.parametrize("value", [2 ** (2**20 - 9), nested(slice(1, 2), 63)], ids=["int", "depth"])
def test_what_just_fits_crosses(value: Any) -> None:
    assert crossed(value) == value


def test_too_deep_and_too_many_are_refused_at_the_sender() -> None:
    nested: list[Any] = []
    nested.append(nested)
    with pytest.raises(TooLarge):
        Encoder().encode(nested)
    with pytest.raises(TooLarge):
        Encoder(SMALL).encode(list(range(2000)))


BLOBS = [b"", b"\x00" * 8, b"\x01" * 24]


@pytest.mark.parametrize(
    "tree",
    [
        {}, {"a": 1}, [], [1], [None], ["unknown"], ["__class__"], ["decode"], ["i", "zz"], ["i"],
        ["i", "1" * 2**19], ["i", 5], ["c", 1, 2], ["c", "1", "2"], ["S", 9], ["S", -1],
        ["S", True], ["S", 1.0], ["b"], ["b", 0, 0], ["T"], ["T", "float32", [2], None, 0],
        ["T", "float32", [-2], None, 1], ["T", "float32", [2.0], None, 1],
        ["T", "float32", [True], None, 1], ["T", "object", [1], None, 1],
        ["T", "float32", [2], [0, 0], 1], ["T", "float32", [2], [1], 1],
        ["T", "float32", [2**70], None, 1], ["T", "float32", [0, 2**39, 2**39], None, 0],
        ["T", "float32", [1] * 100, None, 1], ["T", ["float32"], [2], None, 1],
        ["a", "object", [1], 1], ["a", "O", [1], 1], ["a", "float64", [2], 1],
        ["a", "U2", [1], 1], ["n", "float64", 0], ["n", "V8", 1], ["dtype", "os"],
        ["dtype", "float32.__class__"], ["ndtype", "O"], ["device", "cpu", -1],
        ["device", "cpu", 10**9], ["device", "/etc/passwd", None], ["size", -1], ["size", "1"],
        ["slice", 1], ["range", "a", 2, 1], ["range", 0, 1, 0], ["d", 1], ["d", ["l"], 1],
        ["s", ["l"]], ["s", ["d"]], ["r", "A", ["x"]], ["r", "A", ["x y"], 1],
        ["r", "A b", ["x"], 1], ["r", "A", "x", 1], ["r", "A", [1], 1],
        ["r", "A", ["__class__"], 1], ["r", "A", ["__eq__"], 1], ["r", "A", ["_fields"], 1],
        ["C#", ["l"], 1], "\ud800", ["l", ["t", "\udfff"]],
    ],
    ids=lambda tree: ascii(tree)[:40],
)  # fmt: skip
def test_a_false_value_is_tampering(tree: Any) -> None:
    with pytest.raises(Tampered):
        Decoder([memoryview(blob) for blob in BLOBS]).decode(tree)


def test_depth_and_number_are_capped_at_the_receiver() -> None:
    tree: list[Any] = ["l"]
    for _ in range(50):
        tree = ["l", tree]
    with pytest.raises(Tampered, match="deeper"):
        Decoder([], SMALL).decode(tree)
    with pytest.raises(Tampered, match="more"):
        Decoder([], SMALL).decode(["l", *[0] * 2000])


def test_truth_has_two_values() -> None:
    tensor = Decoder([memoryview(b"\x02\x00")]).decode(["T", "bool", [2], None, 0])
    assert tensor.view(torch.uint8).tolist() == [1, 0]
    array = Decoder([memoryview(b"\x02\x00")]).decode(["a", "bool", [2], 0])
    assert array.view(np.uint8).tolist() == [1, 0]


def mutated(rng: random.Random, tree: Any) -> Any:
    """The tree with one thing in it replaced, at any depth."""
    if type(tree) is list and tree and rng.random() < 0.8:
        copy = list(tree)
        where = rng.randrange(len(copy))
        match rng.randrange(6):
            case 0:
                del copy[where]
            case 1:
                copy.insert(where, rng.choice(copy))
            case _:
                copy[where] = mutated(rng, copy[where])
        return copy
    return rng.choice(
        [None, True, -1, 0, 1, 2**64, 1e400, "", "T", "l", "d", "r", [], {}, [[]], ["T"], "x" * 99]
    )


def test_mutated_values_give_a_value_or_tampering() -> None:
    rng = random.Random(0)
    encoder = Encoder()
    value = [
        torch.zeros(2, 3).T, np.zeros(3), {"a": (1, 2.5), "b": {1, 2}}, 1j, 2**100, "é" * 5000,
        namedtuple("Loss", "a b")(1, 2), torch.Size([2]), torch.device("cpu"), np.float64(2),
        slice(1, 2), Counter("ab"),
    ]  # fmt: skip
    tree = encoder.encode(value)
    blobs = [memoryview(blob) for blob in encoder.blobs]
    outcomes = Counter[str]()
    for _ in range(3000):
        changed = tree
        for _ in range(rng.randrange(1, 4)):
            changed = mutated(rng, changed)
        try:
            Decoder(blobs, SMALL).decode(changed)
            outcomes["value"] += 1
        except Tampered:
            outcomes["tampered"] += 1
    assert outcomes["tampered"] > 1000
    assert outcomes["value"] > 100
