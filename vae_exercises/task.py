"""A task of an exercise: what is checked, and what is said about a wrong answer.

A check makes *facts* of a function (numbers, gradients, shapes) on inputs drawn from a seed, and
compares them with the facts of a right solution. Where they differ, it makes the facts of every
known mistake as well: a mistake with the same facts is the one that was made.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_exercises import settings
from vae_exercises.draw import Draw
from vae_exercises.errors import Raised
from vae_exercises.facts import Facts, agree, difference, passes, same, telling
from vae_exercises.lines import filled
from vae_exercises.mistakes import Mistake
from vae_exercises.observe import Function, Observed, Watched
from vae_exercises.section import Section

__all__ = ["Aspect", "CheckFailed", "Task"]

VISIBLE = "visible"
LEFT = "what a call leaves behind"

Observer = Callable[[Watched, Draw], Observed]


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
        draws: whether it may draw from random numbers that belong to the notebook.

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
        self._kept: dict[tuple[Any, ...], Facts] = {}  # of the reference and of mistakes
        self._failed: dict[str, str] = {}  # aspects that fail, the last one last, and second hints
        self._made: tuple[Function, str, Mistake] | None = None  # of whom, and which

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
        right = self._known(aspect, self._reference, seed)
        try:
            facts = self._facts(aspect, function, seed, echo=True, right=right)
        except KeyboardInterrupt as stop:
            # Told as the line that was reached, without this package's frames.
            line = Raised.by(stop).line
            where = f" in the line `{line}`. Does a loop there never end?" if line else "."
            vars(stop)["_render_traceback_"] = lambda: [f"The check was stopped{where}"]
            raise
        self._failed.pop(aspect, None)
        if self._passes(aspect, function, seed, facts):
            if seed == VISIBLE:
                print(f"✓ {self.name}, {aspect} ({worth})")
            return
        headline, detail, more = self._verdict(aspect, function, seed, facts)
        self._failed[aspect] = more
        lines = [
            f"✗ {self.name}, {aspect} ({worth}): {headline}",
            *([filled(detail, "  ")] if detail else []),
            f"  Read: {self._section}",
            f"  exercise.{self.name}.read() opens it"
            + (", and .hint() says more." if more else "."),
        ]
        raise CheckFailed("\n".join(lines))

    def hint(self) -> None:
        """Print the second hint for the check that failed last, of those that do not pass yet."""
        if not self._failed:
            print(f"No check of {self.name} that you have run is failing.")
            return
        aspect, more = list(self._failed.items())[-1]
        more = more or "there is no second hint; .read() opens the section that explains it."
        print(filled(f"{self.name}, {aspect}: {more}"))

    def read(self) -> None:
        """Open the section of the book that explains this task."""
        self._section.open()

    def _verdict(
        self, aspect: str, function: Function, seed: str, seen: Facts
    ) -> tuple[str, str, str]:
        """A headline, a first hint and a second one, from the facts of a wrong function."""
        raised = next((fact for fact in seen.values() if isinstance(fact, Raised)), None)
        if raised is not None and raised.is_stub:
            if self._is_stub(function):
                return "not written yet", "", ""
            stub = "`raise NotImplementedError()` is still reached: delete that line."
            return "not finished", f"The line {stub}", ""
        if (mistake := self._diagnosis(aspect, function, seed, seen)) is not None:
            return mistake.name, mistake.hint, mistake.more
        right = self._known(aspect, self._reference, seed)
        return *difference(seen, right, numbers=seed == VISIBLE), self._hint

    def _is_stub(self, function: Function) -> bool:
        """Whether the function, or each method of the class, only raises as it was handed out."""
        parts = vars(function).values() if isinstance(function, type) else [function]
        codes = [getattr(part, "__code__", None) for part in parts]  # a grader shows none
        used = {name for code in codes if code is not None for name in code.co_names}
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
            echo: whether what the function prints is shown, up to the first fact that is wrong.
            right: those of a right solution; without `echo` the first that is wrong is the last.
        """
        facts: Facts = {}
        observed = self._aspects[aspect]
        # So that what a function draws repeats, what it switches off comes back, and nothing
        # depends on what the notebook has set.
        with settings.kept(), torch.inference_mode(False), contextlib.ExitStack() as quiet:
            if not echo:
                quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
            draw = self._drawn(aspect, seed, dtype)
            settings.put(gradients=True, dtype=torch.float32)
            watched = Watched(function, self._draws, observed.conduct)
            try:
                for name, value in observed.observer(watched, draw):
                    facts[name] = value.detach().clone() if isinstance(value, Tensor) else value
                    if right is not None and not (
                        name in right and passes(facts[name], right[name])
                    ):
                        if not echo:
                            return facts
                        quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
                if observed.conduct:
                    quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
                    left = watched.left
                    if function is not self._reference:  # which leaves nothing
                        left += self._left_elsewhere(aspect, function, seed, dtype)
                    facts[LEFT] = ", ".join(dict.fromkeys(left)) or "nothing"
            except Exception as error:
                facts["an exception"] = Raised.by(error)
        return facts

    def _left_elsewhere(
        self, aspect: str, function: Function, seed: str, dtype: torch.dtype
    ) -> list[str]:
        """The settings that are changed where others hold than in the notebook.

        Gradients that are switched on for good are seen where they were off. A call that raises
        an error there counts for nothing.
        """
        for default in (torch.float64, torch.float32):  # the latter where the former is an error
            watched = Watched(function, draws=True, settings_only=True)
            draw = self._drawn(aspect, seed, dtype)
            settings.put(gradients=False, dtype=default)
            with contextlib.suppress(Exception):
                for _ in self._aspects[aspect].observer(watched, draw):
                    pass
                break
        return watched.left

    def _drawn(self, aspect: str, seed: str, dtype: torch.dtype) -> Draw:
        """The inputs of a check; random numbers that are drawn besides repeat as well."""
        draw = Draw(f"{seed}/{self.name}/{aspect}", dtype)
        settings.seed(draw.seed())
        return draw

    def _known(
        self,
        aspect: str,
        function: Function,
        seed: str,
        dtype: torch.dtype = torch.float64,
        first: bool = False,
    ) -> Facts:
        """The facts of the reference or of a mistake, which are asked for again and again.

        Arguments:
            aspect, function, seed, dtype: as in `_facts`.
            first: whether the first of them is enough.

        Raises:
            RuntimeError: when the reference itself raised, which nothing could be compared with.
        """
        key = aspect, function, seed, dtype, first
        if key in self._kept:
            return self._kept[key]
        facts = self._facts(aspect, function, seed, dtype, right={} if first else None)
        raised = next((fact for fact in facts.values() if isinstance(fact, Raised)), None)
        if function is self._reference and raised is not None:
            raise RuntimeError(f"{self.name}, {aspect}: the solution raised {raised.told(True)}")
        self._kept[key] = facts
        return facts

    def _remember(self, aspect: str, seed: str, facts: Facts) -> None:
        """Take over facts of the reference, in float64, that another process has found."""
        self._kept[aspect, self._reference, seed, torch.float64, False] = facts

    def _passes(
        self, aspect: str, function: Function, seed: str = VISIBLE, facts: Facts | None = None
    ) -> bool:
        """Whether `function` fulfils an aspect, in float64 or else in float32.

        Arguments:
            aspect, function, seed: as in `check`.
            facts: of the function in float64, where they are known.
        """
        for dtype in (torch.float64, torch.float32):
            right = self._known(aspect, self._reference, seed, dtype)
            if facts is None or dtype != torch.float64:
                facts = self._facts(aspect, function, seed, dtype, right=right)
            if same(facts, right, passes):
                return True
        return False

    def _fails(self, function: Function, seed: str = VISIBLE) -> set[str]:
        """The aspects that `function` does not fulfil."""
        return {aspect for aspect in self._aspects if not self._passes(aspect, function, seed)}

    def _diagnosis(
        self, aspect: str, function: Function, seed: str = VISIBLE, facts: Facts | None = None
    ) -> Mistake | None:
        """The known mistake whose facts are those of `function`, if there is one such.

        The facts of all aspects count; an error that the function raised is told as itself. A
        function with two mistakes agrees with neither in all. Then the numbers of the aspect that
        failed decide, if they are many and exact, and if the first aspect that is lost is also the
        mistake's first and fits: what comes later, such as a gradient, may follow from another.

        Arguments:
            aspect, function, seed: as in `check`.
            facts: of the function in this aspect, where they are known.
        """
        if facts is None:
            facts = self._facts(aspect, function, seed)
        if any(isinstance(fact, Raised) for fact in facts.values()):
            return None
        if self._made is not None:
            maker, what, mistake = self._made
            same_one = maker is function and what == seed and aspect in mistake.breaks
            if same_one and self._fits(mistake, aspect, seed, facts):
                return mistake
        here = [
            mistake
            for mistake in self._mistakes
            if aspect in mistake.breaks and self._fits(mistake, aspect, seed, facts)
        ]
        if not here:
            return None
        seen = {a: facts if a == aspect else self._facts(a, function, seed) for a in self._aspects}
        lost = {a for a in seen if not same(seen[a], self._known(a, self._reference, seed), passes)}
        found = [
            mistake
            for mistake in here
            if mistake.breaks == lost
            and all(self._fits(mistake, a, seed, seen[a]) for a in self._aspects)
        ]
        if len(found) == 1:
            self._made = function, seed, found[0]
        elif not found and telling(facts, self._known(aspect, self._reference, seed)):
            first = self._first(lost)
            found = [
                mistake
                for mistake in here
                if self._first(mistake.breaks) == first
                and (not first or self._fits(mistake, first, seed, seen[first]))
            ]
        return found[0] if len(found) == 1 else None

    def _first(self, aspects: Collection[str]) -> str:
        """The first of some aspects, in order, that is not about what calls leave behind."""
        ordered = (name for name, aspect in self._aspects.items() if not aspect.conduct)
        return next((name for name in ordered if name in aspects), "")

    def _fits(self, mistake: Mistake, aspect: str, seed: str, seen: Facts) -> bool:
        """Whether facts in an aspect are those of a mistake; the first of them mostly says no."""
        first = self._known(aspect, mistake.function, seed, first=True)
        if not all(name in seen and agree(seen[name], fact) for name, fact in first.items()):
            return False
        return same(seen, self._known(aspect, mistake.function, seed), agree)
