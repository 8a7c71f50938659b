"""`autograder.link.randomness`: states advance by drawing, and by nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from autograder.link import randomness
from autograder.link.randomness import RandomStates, accept_torch, reachable


@pytest.fixture(autouse=True)
def _leave_good_states() -> Iterator[None]:
    yield
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


def drawn() -> list[Any]:
    return [torch.rand(2).tolist(), np.random.rand(), random.random()]  # noqa: NPY002


def there_and_back(draw: Callable[[], object], checked: bool) -> tuple[list[Any], list[Any]]:
    """What is drawn next where `draw` ran, and where only its states arrived."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    start = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    here, there = RandomStates(checked=checked), RandomStates(checked=False)
    here.changes(), there.changes()
    draw()
    changes = there.changes()
    expected = drawn()
    torch.set_rng_state(start[0])
    np.random.set_state(start[1])  # noqa: NPY002
    random.setstate(start[2])
    here.apply(changes)
    return drawn(), expected


DRAWS: list[Callable[[], object]] = [
    lambda: None,
    drawn,
    lambda: (torch.randn(1000), np.random.rand(1000), random.sample(range(999), 99)),  # noqa: NPY002
    lambda: (torch.rand(624), torch.rand(624), np.random.rand(312), np.random.rand(100_000)),  # noqa: NPY002
    lambda: torch.manual_seed(7),
    lambda: (torch.manual_seed(7), torch.randperm(50)),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_submission_takes_the_states_of_the_tests(draw: Any) -> None:
    ours, theirs = there_and_back(draw, checked=False)
    assert ours == theirs


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_generator_that_was_handed_over_comes_back_as_drawing_left_it(
    draw: Any, checked: bool
) -> None:
    torch.manual_seed(1)
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    draw()
    accept_torch(generator, torch.get_rng_state().numpy().tobytes(), checked=checked)
    assert torch.rand(5, generator=generator).tolist() == torch.rand(5).tolist()


def test_what_tests_draw_does_not_depend_on_what_a_submission_has_drawn() -> None:
    found = [there_and_back(draw, checked=True)[0] for draw in DRAWS]
    assert str(found[1]) == str(found[2])
    assert found[3][:2] == found[1][:2]
    assert found[4][0] == found[5][0] == found[1][0]
    assert found[0] == there_and_back(lambda: None, checked=False)[1]  # as nothing was drawn
    for one, other in zip(found[0], found[1], strict=True):
        assert one != other


def test_a_submission_cannot_work_out_what_tests_draw() -> None:
    found = []
    for salt in (b"", b"a hidden test"):
        states = RandomStates(checked=True)
        states.salt = salt
        torch.manual_seed(1)
        states.changes()
        other = RandomStates(checked=False)
        other.changes()
        torch.rand(1)
        changes = other.changes()
        torch.manual_seed(1)
        states.apply(changes)
        found.append(torch.rand(3).tolist())
    assert found[0] != found[1]


def test_a_state_from_nowhere_is_only_a_seed() -> None:
    def zeros() -> None:
        np.random.set_state(("MT19937", np.zeros(624, np.uint32), 0))  # noqa: NPY002
        random.setstate((3, (0,) * 625, None))
        state = torch.get_rng_state()
        state[24 : 24 + 8 * 624] = 0
        torch.set_rng_state(state)

    ours, theirs = there_and_back(zeros, checked=True)
    assert [theirs[0], theirs[1]] == [[0, 0], 0]
    for mine, false in zip(ours, theirs, strict=True):
        assert mine != false
    assert there_and_back(zeros, checked=True)[0] == ours  # and always the same
    assert there_and_back(zeros, checked=False) == (theirs, theirs)


@pytest.mark.parametrize("can_look", [True, False])
def test_what_did_not_change_is_not_sent(monkeypatch: pytest.MonkeyPatch, can_look: bool) -> None:
    monkeypatch.setattr(randomness, "_CAN_LOOK", can_look)
    states = RandomStates(checked=True)
    assert all(change is not None for change in states.changes())
    assert states.changes() == [None] * 3
    np.random.randn()  # noqa: NPY002
    assert [change is None for change in states.changes()] == [True, False, True]
    np.random.randn()  # the second of the pair leaves the words as they are  # noqa: NPY002
    assert [change is None for change in states.changes()] == [True, False, True]
    for draw in (random.random, random.getrandbits, random.gauss, random.gauss, random.seed):
        draw(*([8] if draw is random.getrandbits else []))  # the second of gauss's pair, too
        assert [change is None for change in states.changes()] == [True, True, False]
        assert states.known[2] == random.getstate()
    assert states.changes() == [None] * 3


def test_reaching_back_is_not_reaching() -> None:
    twister = np.random.MT19937(0)
    first = twister.state["state"]
    twister.random_raw(700)
    second = twister.state["state"]
    a, b = first["key"].tobytes(), second["key"].tobytes()
    assert reachable(a, first["pos"], b, second["pos"])
    assert not reachable(b, second["pos"], a, first["pos"])
    assert not reachable(b, second["pos"], b, second["pos"] - 1)
    assert not reachable(a, first["pos"], b[:-4], second["pos"])


@pytest.mark.parametrize(
    "changes",
    [
        None, [], [1, None, None], [None, [b""], None], [None, [b"", 0, 0, 0.0], None],
        [None, [bytes(2496), 625, 0, 0.0], None], [None, [bytes(2496), 0, "0", 0.0], None],
        [None, None, [bytes(2496), 0, "x"]], [None, None, (bytes(2496), 0, None)],
    ],
)  # fmt: skip
def test_states_of_the_wrong_form_are_refused(changes: Any) -> None:
    with pytest.raises(ValueError, match="form"):
        RandomStates(checked=True).apply(changes)


def test_any_bytes_leave_a_good_generator() -> None:
    rng = random.Random(0)
    generator = torch.Generator()
    good = generator.get_state().numpy().tobytes()
    for i in range(50):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(60) if i % 2 else rng.randrange(len(data))] = rng.randrange(256)
        accept_torch(generator, bytes(data), checked=True)
        accept_torch(generator, rng.randbytes(rng.randrange(100)), checked=True)
        assert torch.rand(50, generator=generator).unique().numel() > 45
