"""A task of an exercise: what is checked, which mistakes are known, and what is said about them.

A check makes *facts* of a function (numbers, gradients, shapes) on inputs drawn from a seed, and
compares them with the facts of a right solution. Where they differ it makes the facts of every
known mistake as well: a mistake with the same facts is the one that was made.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import math
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["CheckFailed", "Clue", "Draw", "Mistake", "Near", "Rough", "Task"]

VISIBLE = "visible"
RELATIVE, ABSOLUTE = 1e-4, 1e-6  # checks run in float64; a mistake is off by per cents

_EXCEPTIONS = {
    value.__name__
    for module in (builtins, torch, torch.linalg)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, BaseException)
}

Facts = dict[str, Any]
Observer = Callable[[Callable[..., Any], "Draw"], Iterator[tuple[str, Any]]]
Function = TypeVar("Function", bound=Callable[..., Any])


class CheckFailed(AssertionError):
    """A check did not pass; the message says what is wrong, its first line in short."""

    def _render_traceback_(self) -> list[str]:
        """The message without this package's frames, for a shell that asks for it."""
        return str(self).splitlines()


class Draw:
    """Inputs drawn from a seed, such that wrong results differ from right ones.

    Example:
        >>> from vaelib.exercises.task import Draw
        >>> draw = Draw("a seed")
        >>> mu = draw.mean(4, 2)
        >>> bool(((mu.abs() > 0.25) & ((mu.abs() - 1).abs() > 0.15)).all())
        True
    """

    def __init__(self, seed: str) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self.generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform numbers, float64."""
        u = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * u

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float64."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def integer(self, low: int, high: int) -> int:
        """One of low, …, high − 1."""
        return int(torch.randint(low, high, (), generator=self.generator))

    def sign(self, *shape: int) -> Tensor:
        """−1 or 1."""
        return 2.0 * torch.randint(0, 2, shape, generator=self.generator).double() - 1

    def mean(self, *shape: int) -> Tensor:
        """Numbers of both signs, away from 0 and ±1: in ±[0.3, 0.8] and ±[1.2, 1.7]."""
        size = self.uniform(0.3, 0.8, *shape)
        far = torch.randint(0, 2, shape, generator=self.generator).double()
        return (size + 0.9 * far) * self.sign(*shape)

    def logvar(self, n: int, k: int) -> Tensor:
        """(n, k) log-variances, |·| in [0.3, 1.2]: rows of both signs, positive and negative."""
        size = self.uniform(0.3, 1.2, n, k)
        sign = torch.ones(n, k, dtype=torch.float64)
        sign[0::3, ::2] = -1
        sign[2::3] = -1
        return size * sign

    def seed(self) -> int:
        """For a generator."""
        return self.integer(0, 2**31)


@dataclass(frozen=True)
class Near:
    """A number that varies with the noise: passes when within `tolerance` of `exact`.

    With a tolerance of 6.5 standard errors a right solution fails once in 10¹⁰ numbers.
    """

    value: Tensor
    exact: Tensor
    tolerance: Tensor


@dataclass(frozen=True)
class Rough:
    """A fact of which only the size counts: finite, of the right sign, and within a factor."""

    value: Tensor
    factor: float = 10.0


@dataclass(frozen=True)
class Clue:
    """A fact that nothing is asked of: it tells mistakes apart that agree in all others."""

    value: str


@dataclass(frozen=True)
class Raised:
    """The function raised instead."""

    kind: str
    text: str = field(compare=False)
    where: str = field(compare=False)

    @classmethod
    def by(cls, error: BaseException) -> Raised:
        """With the last line that is not of this package, to say where."""
        package = str(Path(__file__).parent)
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not f.filename.startswith(package)]
        where = f" In the line: {own[0].line}" if own and own[0].line else ""
        lines = str(error).strip().splitlines() or [""]
        return cls(type(error).__name__, lines[0][:300], where)


@dataclass(frozen=True)
class Mistake:
    """A well-known wrong solution.

    Attributes:
        name: in a few words; the headline of the message.
        function: the wrong solution.
        hint: what is said to those who made it.
        breaks: the aspects that it loses.
    """

    name: str
    function: Callable[..., Any]
    hint: str
    breaks: frozenset[str]


@dataclass(eq=False)
class Task:
    """One function that students write.

    Attributes:
        name: of the function.
        reference: a right solution.
        read: chapter and heading to read where it went wrong.
        aspects: by name, what a right solution must fulfil; each is worth points of its own.
        mistakes: the known ones.

    Example:
        >>> from vaelib.exercises.kl import kl_to_standard_normal as task
        >>> task.check("value", lambda mu, logvar: (logvar.exp() + mu**2 - 1 - logvar).sum(-1))
        Traceback (most recent call last):
            ...
        vaelib.exercises.task.CheckFailed: kl_to_standard_normal, value: the ½ is missing
        ...
    """

    name: str
    reference: Callable[..., Any]
    read: tuple[str, str]
    aspects: dict[str, Observer] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def aspect(self, name: str) -> Callable[[Observer], Observer]:
        """Register an observer: it is given a function and a `Draw`, and yields named facts."""

        def register(observer: Observer) -> Observer:
            self.aspects[name] = observer
            return observer

        return register

    def mistake(self, name: str, breaks: str, hint: str) -> Callable[[Function], Function]:
        """Register a wrong solution; `breaks` names the aspects that it loses, with spaces."""

        def register(function: Function) -> Function:
            self.mistakes.append(Mistake(name, function, hint, frozenset(breaks.split())))
            return function

        return register

    def facts(self, aspect: str, function: Callable[..., Any], seed: str = VISIBLE) -> Facts:
        """The facts of a function in an aspect; the last one is `Raised` where it raised."""
        draw = Draw(f"{seed}/{self.name}/{aspect}")
        facts: Facts = {}
        # So that what a function draws repeats, and gradients that it switches off come back.
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.default_generator.manual_seed(draw.seed())
            try:
                for name, value in self.aspects[aspect](function, draw):
                    facts[name] = value.detach().clone() if isinstance(value, Tensor) else value
            except Exception as error:
                facts["an exception"] = Raised.by(error)
        return facts

    def check(self, aspect: str, function: Callable[..., Any], seed: str = VISIBLE) -> None:
        """Pass quietly, or say what is wrong.

        Arguments:
            aspect: one of `aspects`.
            function: the student's.
            seed: of the inputs. With another than the visible one the message holds no number.

        Raises:
            CheckFailed: when a fact is not that of a right solution.
        """
        if aspect not in self.aspects:
            raise ValueError(f"aspect: expected one of {list(self.aspects)}, got {aspect!r}")
        seen = self.facts(aspect, function, seed)
        wanted = self._known_facts(aspect, self.reference, seed)
        if _same(seen, wanted, _passes):
            if seed == VISIBLE:
                print(f"✓ {self.name}, {aspect}")
            return
        mistake = None
        if self._unwritten(function, seed):
            headline, detail = "not written yet", ""
        elif (mistake := self.diagnose(aspect, function, seed)) is None:
            headline, detail = _first_difference(seen, wanted, numbers=seed == VISIBLE)
        else:
            headline, detail = mistake.name, mistake.hint
        chapter, heading = self.read
        detail = "".join(f"  {line}\n" for line in textwrap.wrap(detail, 88))
        raise CheckFailed(
            f"{self.name}, {aspect}: {headline}\n{detail}"
            f"  Read: chapter “{chapter}”, section “{heading}”."
        )

    @functools.lru_cache(maxsize=512)  # noqa: B019, tasks live as long as the program
    def _known_facts(self, aspect: str, function: Callable[..., Any], seed: str) -> Facts:
        """Those of the reference or of a mistake, which are asked for again and again."""
        return self.facts(aspect, function, seed)

    def _unwritten(self, function: Callable[..., Any], seed: str) -> bool:
        return all(
            "an exception" in (facts := self.facts(aspect, function, seed))
            and facts["an exception"].kind == "NotImplementedError"
            for aspect in self.aspects
        )

    def passes(self, aspect: str, function: Callable[..., Any], seed: str = VISIBLE) -> bool:
        """Whether `function` fulfils an aspect."""
        seen = self.facts(aspect, function, seed)
        return _same(seen, self._known_facts(aspect, self.reference, seed), _passes)

    def fails(self, function: Callable[..., Any], seed: str = VISIBLE) -> set[str]:
        """The aspects that `function` does not fulfil."""
        return {aspect for aspect in self.aspects if not self.passes(aspect, function, seed)}

    def diagnose(
        self, aspect: str, function: Callable[..., Any], seed: str = VISIBLE
    ) -> Mistake | None:
        """The known mistake whose facts are those of `function`.

        Facts of all aspects count. A function with two mistakes agrees with neither in all, but
        may do so in the one that failed: then that is said, if only one mistake fits.
        """

        def alike(mistake: Mistake, aspects: Iterable[str]) -> bool:
            return all(
                _same(seen[a], self._known_facts(a, mistake.function, seed), _agree)
                for a in aspects
            )

        seen = {a: self.facts(a, function, seed) for a in self.aspects}
        here = [m for m in self.mistakes if aspect in m.breaks and alike(m, [aspect])]
        found = [m for m in here if alike(m, self.aspects)] or here
        return found[0] if len(found) == 1 else None


def _same(seen: Facts, wanted: Facts, agree: Callable[[Any, Any], bool]) -> bool:
    return seen.keys() == wanted.keys() and all(agree(seen[name], wanted[name]) for name in seen)


def _agree(seen: Any, wanted: Any) -> bool:
    """Whether two facts are the same, as those of the same mistake are."""
    if isinstance(seen, Near) and isinstance(wanted, Near):
        if seen.value.shape != wanted.value.shape:
            return False
        apart = (seen.value - wanted.value).abs()
        return bool(((apart <= 2 * seen.tolerance.max()) | (apart != apart)).all())
    if isinstance(seen, Rough) and isinstance(wanted, Rough):
        return _close(seen.value, wanted.value, 1e-2)
    if isinstance(seen, Tensor) and isinstance(wanted, Tensor):
        return _close(seen, wanted, RELATIVE)
    if type(seen) is float and type(wanted) is float:
        return math.isclose(seen, wanted, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(seen) is type(wanted) and bool(seen == wanted)


def _passes(seen: Any, wanted: Any) -> bool:
    """Whether a fact is as good as that of a right solution."""
    if isinstance(seen, Clue) and isinstance(wanted, Clue):
        return True
    if isinstance(seen, Near):
        return seen.value.shape == seen.exact.shape and bool(
            ((seen.value - seen.exact).abs() <= seen.tolerance).all()
        )
    if isinstance(seen, Rough) and isinstance(wanted, Rough):
        if seen.value.shape != wanted.value.shape:
            return False
        ratio = seen.value / wanted.value
        return bool(((ratio > 1 / seen.factor) & (ratio < seen.factor)).all())
    return _agree(seen, wanted)


def _close(seen: Tensor, wanted: Tensor, relative: float) -> bool:
    return seen.shape == wanted.shape and torch.allclose(
        seen.double(), wanted.double(), relative, ABSOLUTE, equal_nan=True
    )


def _first_difference(seen: Facts, wanted: Facts, numbers: bool) -> tuple[str, str]:
    """A headline and what differs; without the numbers where the inputs are hidden."""
    for name, right in wanted.items():
        if name not in seen:
            break
        if _passes(seen[name], right):
            continue
        return f"wrong: {name}", _difference(seen[name], right, numbers)
    raised = seen.get("an exception")
    if not isinstance(raised, Raised):
        return "something is missing", f"Expected: {', '.join(wanted)}."
    if not numbers:  # a name, too, can be made of the inputs
        kind = raised.kind if raised.kind in _EXCEPTIONS else "an exception that is not Python's"
        return f"{kind} was raised", "Here the inputs are others."
    text = f": {raised.text}" if raised.text else "."
    return f"{raised.kind} was raised", f"{raised.kind}{text}{raised.where}"


def _difference(seen: Any, right: Any, numbers: bool) -> str:
    if isinstance(seen, Near):
        right, seen = seen.exact, seen.value
    elif isinstance(seen, Rough) and isinstance(right, Rough):
        right, seen = right.value, seen.value
    if not (isinstance(seen, Tensor) and isinstance(right, Tensor)):
        return f"It is {seen}, expected {right}." if numbers else "Here the inputs are others."
    if seen.shape != right.shape and seen.dim() == right.dim() == 1:
        return f"Numbers that came back: {len(seen)}, expected {len(right)}."
    if seen.shape != right.shape:
        return f"Its shape is {tuple(seen.shape)}, expected {tuple(right.shape)}."
    far = ~torch.isclose(seen.double(), right.double(), RELATIVE, ABSOLUTE)
    first = tuple(int(i) for i in far.nonzero()[0]) if far.any() else (0,) * seen.dim()
    place = f"at {list(first)} " if first else ""
    if not numbers:
        return f"First difference {place}of shape {tuple(seen.shape)}, on inputs not shown."
    return (
        f"First difference {place}of shape {tuple(seen.shape)}: "
        f"it is {seen[first].item():.6g}, expected {right[first].item():.6g}."
    )
