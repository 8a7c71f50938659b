"""A task of an exercise: what is checked, and what is said about a wrong answer.

A check makes *facts* of a function (numbers, gradients, shapes) on inputs drawn from a seed, and
compares them with the facts of a right solution. Where they differ, it makes the facts of every
known mistake as well: a mistake with the same facts is the one that was made.
"""

from __future__ import annotations

import contextlib
import functools
import io
import textwrap
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_exercises.draw import Draw
from vae_exercises.errors import Raised
from vae_exercises.facts import Facts, agree, difference, passes, same, telling
from vae_exercises.mistakes import Mistake
from vae_exercises.observe import Function, Observed, Watched
from vae_exercises.section import Section

__all__ = ["Aspect", "CheckFailed", "Task"]

VISIBLE = "visible"
LEFT = "what a call leaves behind"

Observer = Callable[[Function, Draw], Observed]


class CheckFailed(AssertionError):
    """A check did not pass; the message says what is wrong, its first line in short."""

    def _render_traceback_(self) -> list[str]:
        """The message without this package's frames, for a shell that asks for it."""
        return str(self).splitlines()


@dataclass(frozen=True)
class Aspect:
    """One thing that is checked of a function.

    Attributes:
        observer: is given a function and a `Draw`, and yields named facts.
        points: what it is worth.
        conduct: whether what the calls leave behind is a fact of this aspect.
    """

    observer: Observer
    points: int
    conduct: bool


class Task:
    """One function that students write.

    Arguments:
        reference: a right solution.
        read: the section that explains it.
        mistakes: the known ones.
        hint: what nearly gives the answer, for a mistake that is not known.
        draws: whether it may draw from torch's own random numbers.

    Example:
        >>> from vae_exercises.kl import kl_to_standard_normal as task
        >>> task.check("value", lambda mu, logvar: (logvar.exp() + mu**2 - 1 - logvar).sum(-1))
        Traceback (most recent call last):
            ...
        vae_exercises.task.CheckFailed: ✗ kl_to_standard_normal, value (3 points): the ½ ...
        ...
    """

    def __init__(
        self, reference: Function, read: Section, mistakes: list[Mistake], hint: str, draws: bool
    ) -> None:
        self.name = reference.__name__
        # Names that completion in a notebook does not offer: they hold the answer.
        self._reference, self._mistakes = reference, mistakes
        self._section, self._hint, self._draws = read, hint, draws
        self._aspects: dict[str, Aspect] = {}
        self._failed: tuple[str, str] | None = None

    def __dir__(self) -> list[str]:
        """What completion offers."""
        return ["check", "hint", "read"]

    def aspect(
        self, name: str, points: int, conduct: bool = False
    ) -> Callable[[Observer], Observer]:
        """Register an observer, which is given a function and a `Draw` and yields named facts."""

        def register(observer: Observer) -> Observer:
            self._aspects[name] = Aspect(observer, points, conduct)
            return observer

        return register

    def check(self, aspect: str, function: Function, seed: str = VISIBLE) -> None:
        """Check one aspect of a function: print a ✓, or say what is wrong.

        Arguments:
            aspect: its name.
            function: the student's.
            seed: of the inputs. With another than the visible one the message holds no number.

        Raises:
            CheckFailed: when a fact is not that of a right solution.
            ValueError: when there is no such aspect.
        """
        if aspect not in self._aspects:
            raise ValueError(f"aspect must be one of {list(self._aspects)}, but is {aspect!r}")
        points = self._aspects[aspect].points
        worth = f"{points} point" + "s" * (points > 1)
        if self._passes(aspect, function, seed, echo=True):
            if seed == VISIBLE:
                print(f"✓ {self.name}, {aspect} ({worth})")
            return
        headline, detail, more = self._verdict(aspect, function, seed)
        self._failed = (aspect, more)
        lines = [
            f"✗ {self.name}, {aspect} ({worth}): {headline}",
            *(
                f"  {line}"
                for part in detail.splitlines()
                for line in textwrap.wrap(part, 88, break_long_words=False, break_on_hyphens=False)
            ),
            f"  Read: {self._section}",
            f"  exercise.{self.name}.read() opens it"
            + (", and .hint() says more." if more else "."),
        ]
        raise CheckFailed("\n".join(lines))

    def hint(self) -> None:
        """Print the second hint for the check of this task that failed last."""
        if self._failed is None:
            print(f"No check of {self.name} has failed: run its checks first.")
            return
        aspect, more = self._failed
        told = f"{self.name}, {aspect}: {more}"
        print(textwrap.fill(told, 90, break_long_words=False, break_on_hyphens=False))

    def read(self) -> None:
        """Open the section of the book that explains this task."""
        self._section.open()

    def _verdict(self, aspect: str, function: Function, seed: str) -> tuple[str, str, str]:
        """A headline, a first hint and a second one."""
        seen = self._facts(aspect, function, seed)
        raised = next((fact for fact in seen.values() if isinstance(fact, Raised)), None)
        if raised is not None and raised.is_stub:
            if self._is_stub(function):
                return "not written yet", "", ""
            stub = "`raise NotImplementedError()` is still reached: delete that line."
            return "not finished", f"The line {stub}", ""
        if (mistake := self._diagnosis(aspect, function, seed)) is not None:
            return mistake.name, mistake.hint, mistake.more
        right = self._known(aspect, self._reference, seed)
        return *difference(seen, right, numbers=seed == VISIBLE), self._hint

    def _is_stub(self, function: Function) -> bool:
        """Whether the function, or each method of the class, only raises as it was handed out."""
        parts = vars(function).values() if isinstance(function, type) else [function]
        codes = [part.__code__ for part in parts if hasattr(part, "__code__")]
        used = {name for code in codes for name in code.co_names}
        return used <= {"NotImplementedError", "super", "__init__"}

    def _facts(
        self,
        aspect: str,
        function: Function,
        seed: str = VISIBLE,
        dtype: torch.dtype = torch.float64,
        echo: bool = False,
        right: Facts | None = None,
    ) -> Facts:
        """The facts of a function in an aspect; the last one is `Raised` where it raised.

        Arguments:
            aspect, function, seed: as in `check`.
            dtype: of the inputs.
            echo: whether what the function prints is shown.
            right: those of a right solution: then the first fact that is wrong is the last.
        """
        draw = Draw(f"{seed}/{self.name}/{aspect}", dtype)
        watched = Watched(function, self._draws)
        facts: Facts = {}
        default = torch.get_default_dtype()
        quiet = contextlib.nullcontext() if echo else contextlib.redirect_stdout(io.StringIO())
        # So that what a function draws repeats, what it switches off comes back, and nothing
        # depends on what the notebook has set.
        fresh = torch.random.fork_rng(devices=[])
        with fresh, torch.inference_mode(False), torch.enable_grad(), quiet:
            torch.default_generator.manual_seed(draw.seed())
            torch.set_default_dtype(torch.float32)
            try:
                for name, value in self._aspects[aspect].observer(watched, draw):
                    facts[name] = value.detach().clone() if isinstance(value, Tensor) else value
                    if right is not None and not (
                        name in right and passes(facts[name], right[name])
                    ):
                        return facts
                if self._aspects[aspect].conduct:
                    facts[LEFT] = ", ".join(watched.left) or "nothing"
            except Exception as error:
                facts["an exception"] = Raised.by(error)
            finally:
                torch.set_default_dtype(default)
        return facts

    @functools.lru_cache(maxsize=4096)  # noqa: B019, tasks live as long as the program
    def _known(
        self, aspect: str, function: Function, seed: str, dtype: torch.dtype = torch.float64
    ) -> Facts:
        """The facts of the reference or of a mistake, which are asked for again and again.

        Raises:
            RuntimeError: when the reference itself raised, which nothing could be compared with.
        """
        facts = self._facts(aspect, function, seed, dtype)
        raised = next((fact for fact in facts.values() if isinstance(fact, Raised)), None)
        if function is self._reference and raised is not None:
            raise RuntimeError(f"{self.name}, {aspect}: the solution raised {raised.told(True)}")
        return facts

    def _passes(
        self, aspect: str, function: Function, seed: str = VISIBLE, echo: bool = False
    ) -> bool:
        """Whether `function` fulfils an aspect, in float64 or else in float32."""
        for dtype in (torch.float64, torch.float32):
            right = self._known(aspect, self._reference, seed, dtype)
            echoed = echo and dtype == torch.float64
            if same(self._facts(aspect, function, seed, dtype, echoed, right), right, passes):
                return True
        return False

    def _fails(self, function: Function, seed: str = VISIBLE) -> set[str]:
        """The aspects that `function` does not fulfil."""
        return {aspect for aspect in self._aspects if not self._passes(aspect, function, seed)}

    def _diagnosis(self, aspect: str, function: Function, seed: str = VISIBLE) -> Mistake | None:
        """The known mistake whose facts are those of `function`, if there is one such.

        The facts of all aspects count; an error that the function raised is told as itself. A
        function with two mistakes agrees with neither in all. Then the numbers of the aspect that
        failed decide, if they are many and exact, and if the first aspect that is lost is also the
        mistake's first and fits: what comes later, such as a gradient, may follow from another.
        """
        seen = {aspect: self._facts(aspect, function, seed)}
        if any(isinstance(fact, Raised) for fact in seen[aspect].values()):
            return None

        def fits(mistake: Mistake, aspect: str) -> bool:
            return same(seen[aspect], self._known(aspect, mistake.function, seed), agree)

        here = [m for m in self._mistakes if aspect in m.breaks and fits(m, aspect)]
        if not here:
            return None
        seen |= {a: self._facts(a, function, seed) for a in self._aspects if a != aspect}
        lost = {a for a in seen if not same(seen[a], self._known(a, self._reference, seed), passes)}
        found = [m for m in here if m.breaks == lost and all(fits(m, a) for a in seen)]
        if not found and telling(seen[aspect], self._known(aspect, self._reference, seed)):
            first = self._first(lost)
            found = [
                m for m in here if self._first(m.breaks) == first and (not first or fits(m, first))
            ]
        return found[0] if len(found) == 1 else None

    def _first(self, aspects: Collection[str]) -> str:
        """The first of some aspects, in order, that is not about what calls leave behind."""
        ordered = (name for name, aspect in self._aspects.items() if not aspect.conduct)
        return next((name for name in ordered if name in aspects), "")
