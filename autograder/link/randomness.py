"""Random states that travel with a call, and what of them comes back.

A test that seeds before it calls a submission expects the seed to hold there, and two calls in a
row to differ. So the states of torch, numpy and `random` cross to the submission. What it makes of
them is its own: it could draw until the next inputs of a test are easy. If it has drawn, the tests
go on from a seed that depends on their own state and text, and on nothing of the submission's.

A generator that a test hands over is the submission's to draw from, and comes back advanced. Its
state is believed only if drawing leads there from what was sent: a state of zeros, say, would make
every later number zero. Any other is taken as a seed and no more. It is a Mersenne twister
(Matsumoto and Nishimura, 1998), as are the global ones.
"""

from __future__ import annotations

import ctypes
import hashlib
import random
import struct
from typing import Any

import numpy as np

from autograder.link.optional import HAS_TORCH, torch

__all__ = ["RandomStates", "accept_torch", "reachable"]

_WORDS = 624
_BLOCKS = 1000
_TORCH_HEAD = struct.Struct("<Qii Q")  # seed, words left in the block, seeded, next word
_PYTHON: Any = random._inst  # which random's functions draw from
_PYTHON_BYTES = 4 + 4 * _WORDS


def reachable(before: bytes, at: int, after: bytes, then: int) -> bool:
    """Whether drawing (up to 600,000 words) leads from one state of the twister to another.

    Args:
        before: 624 words of 32 bits; `at` of them are used up.
        at: see `before`.
        after: 624 words; `then` of them are used up.
        then: see `after`.
    """
    if len(after) != 4 * _WORDS or not 0 <= then <= _WORDS:
        return False
    if before == after:
        return at <= then
    twister = np.random.MT19937(0)
    key = np.frombuffer(before, np.uint32)
    twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": _WORDS}}
    address = twister.ctypes.state_address
    for _ in range(_BLOCKS):
        twister.random_raw(_WORDS, output=False)
        if ctypes.string_at(address, 4 * _WORDS) == after:
            return True
    return False


def _seed(claim: bytes) -> int:
    return int.from_bytes(hashlib.sha256(claim).digest()[:7], "little")


def _torch_parts(state: bytes) -> tuple[int, bytes, int, bytes]:
    seed, left, _, _ = _TORCH_HEAD.unpack_from(state)
    words = np.frombuffer(state, np.uint64, _WORDS, _TORCH_HEAD.size)
    return seed, words.astype(np.uint32).tobytes(), 1 + _WORDS - left, state[-40:]


def _torch_bytes(generator: torch.Generator) -> bytes:
    return generator.get_state().numpy().tobytes()


def _python_bytes() -> bytes:
    """How many words of Python's state are used, and the words, as they are in memory."""
    return ctypes.string_at(id(_PYTHON) + object.__basicsize__, _PYTHON_BYTES)


def _is_laid_out_so() -> bool:
    """Whether this Python has the state there; another's is read by `getstate`."""
    if type(_PYTHON).__basicsize__ < object.__basicsize__ + _PYTHON_BYTES:
        return False
    *words, used = random.getstate()[1]
    return _python_bytes() == struct.pack(f"=i{_WORDS}I", used, *words)


_CAN_LOOK = _is_laid_out_so()


def _set_torch(generator: torch.Generator, state: bytes) -> None:
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def accept_torch(generator: torch.Generator, claim: bytes, *, checked: bool) -> None:
    """Advance a generator to the state that the other side reports.

    Args:
        generator: on the CPU.
        claim: bytes of its state, as `get_state` gives them.
        checked: believe only what drawing leads to, from the state as it is or after seeding.
    """
    before = _torch_bytes(generator)
    if before == claim:
        return
    if len(claim) == len(before):
        if not checked:
            _set_torch(generator, claim)
            return
        seed, words, used, cache = _torch_parts(claim)
        fresh = torch.Generator().manual_seed(seed)
        head, caches = _TORCH_HEAD.unpack_from(claim), (before[-40:], _torch_bytes(fresh)[-40:])
        consistent = head[2] == 1 and (head[3] == used or (head[1] == 1 and head[3] == 0))
        exact = np.frombuffer(claim, np.uint64, _WORDS, _TORCH_HEAD.size).max() < 2**32
        if consistent and exact and 1 <= head[1] <= _WORDS and cache in caches:
            for start in (before, _torch_bytes(fresh)):
                own, key, at, _ = _torch_parts(start)
                if own == seed and reachable(key, at, words, used):
                    _set_torch(generator, claim)
                    return
    generator.manual_seed(_seed(claim))


class RandomStates:
    """The global states of torch, numpy and `random`, and what the other side knows of them.

    Where torch is not installed, its state is None, and none is believed.

    Args:
        checked: take none over; go on from other states where the other side's have changed.

    Attributes:
        known: the states that the other side has.
        salt: what the other side does not know, for these other states.
    """

    def __init__(self, *, checked: bool) -> None:
        self._checked = checked
        self.known: list[Any] = [None, None, None]
        self.salt = b""
        self._python: tuple[Any, Any] = (None, None)  # a state as it is in memory, and as a value

    def _now(self) -> list[Any]:
        own = _torch_bytes(torch.default_generator) if HAS_TORCH else None
        return [own, self._numpy(), self._random()]

    def _random(self) -> Any:
        # getstate makes 625 numbers: a look takes a twentieth of the time.
        seen = (_python_bytes(), _PYTHON.gauss_next) if _CAN_LOOK else None
        if seen is None or seen != self._python[0]:
            self._python = seen, random.getstate()
        return self._python[1]

    def _numpy(self) -> list[Any] | None:
        # get_state takes 30 µs, a look at the words 1 µs; only a cached normal deviate may be
        # used up while the words stay as they are.
        generator: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]
        if type(generator) is not np.random.MT19937:
            return None
        raw = ctypes.string_at(generator.ctypes.state_address, 4 * _WORDS + 4)
        known = self.known[1]
        if known is not None and known[2] == 0 and raw == known[0] + struct.pack("i", known[1]):
            return known  # type: ignore[no-any-return]
        state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
        _, words, used, cached, normal = state
        return [words.tobytes(), int(used), int(cached), float(normal)]

    def look(self) -> tuple[list[Any], list[Any]]:
        """The states as they are, and as plain values those that the other side does not know."""
        now = self._now()
        changed = [
            state if state != known else None for state, known in zip(now, self.known, strict=True)
        ]
        if changed[2] is not None:
            _, words, normal = changed[2]
            changed[2] = [np.array(words[:-1], np.uint32).tobytes(), words[-1], normal]
        return now, changed

    def changes(self) -> list[Any]:
        """What is to be told to the other side, which knows it from now on."""
        self.known, changed = self.look()
        return changed

    def apply(self, changes: Any) -> None:
        """Take over what `changes` of the other side gave.

        Raises:
            ValueError: it is not that.
        """
        if type(changes) is not list or len(changes) != 3:
            raise ValueError("random states of the wrong form")
        for change, take in zip(
            changes, (self._take_torch, self._take_numpy, self._take_random), strict=True
        ):
            if change is not None:
                take(change)
        if any(change is not None for change in changes):
            self.known = self._now()

    def _other(self, state: bytes) -> int:
        return _seed(self.salt + state)

    def _take_torch(self, claim: Any) -> None:
        if type(claim) is not bytes or not HAS_TORCH:
            raise ValueError("a random state of the wrong form")
        if self._checked:
            torch.default_generator.manual_seed(self._other(_torch_bytes(torch.default_generator)))
        else:
            accept_torch(torch.default_generator, claim, checked=False)

    def _take_numpy(self, claim: Any) -> None:
        words, used, cached, normal = _claim(claim, 4)
        if type(cached) is not int or type(normal) is not float:
            raise ValueError("a random state of the wrong form")
        if self._checked:
            state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
            _, own, at, *_ = state
            np.random.seed(self._other(own.tobytes() + str(at).encode()) % 2**32)  # noqa: NPY002
        else:
            key = np.frombuffer(words, np.uint32)
            np.random.set_state(("MT19937", key, used, cached, normal))  # noqa: NPY002

    def _take_random(self, claim: Any) -> None:
        words, used, normal = _claim(claim, 3)
        if normal is not None and type(normal) is not float:
            raise ValueError("a random state of the wrong form")
        if self._checked:
            random.seed(self._other(str(random.getstate()).encode()))
        else:
            key = np.frombuffer(words, np.uint32).tolist()
            random.setstate((3, (*key, used), normal))


def _claim(claim: Any, n: int) -> list[Any]:
    if type(claim) is not list or len(claim) != n or type(claim[0]) is not bytes:
        raise ValueError("a random state of the wrong form")
    if type(claim[1]) is not int or not 0 <= claim[1] <= _WORDS or len(claim[0]) != 4 * _WORDS:
        raise ValueError("a random state of the wrong form")
    return claim
