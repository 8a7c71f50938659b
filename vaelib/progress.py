"""What a training shows while it runs: a bar in a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from vaelib.history import History

__all__ = ["Progress"]


class Progress:
    """A bar of steps where somebody watches a terminal; in a log or a notebook a line per epoch.

    Arguments:
        epochs, steps: of the whole run, and per epoch.
        done: epochs that were made before.
        on: whether to show anything.

    Example:
        >>> with Progress(epochs=1, steps=2, done=0, on=False) as progress:
        ...     progress.step()
    """

    def __init__(self, epochs: int, steps: int, done: int, on: bool) -> None:
        from tqdm import tqdm

        self.epochs, self.on, self.start = epochs, on, time.perf_counter()
        # To standard output, since notebooks show standard error as if something had gone wrong.
        self.watched = sys.stdout.isatty()
        self.bar: Any = tqdm(
            total=epochs * steps,
            initial=done * steps,
            disable=not (on and self.watched),
            file=sys.stdout,
            unit="step",
            mininterval=0.2,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def step(self) -> None:
        """A step was made."""
        self.bar.update()

    def epoch(self, history: History) -> None:
        """An epoch was made."""
        told = f"ELBO {history.elbo[-1]:.2f} nats"
        if len(history.validation_elbo):
            told += f", validation {history.validation_elbo[-1]:.2f}"
        self.bar.set_postfix_str(told)
        if self.on and not self.watched:
            seconds = time.perf_counter() - self.start
            print(f"epoch {len(history)} of {self.epochs}: {told} ({seconds:.0f} s)", flush=True)

    def say(self, line: str) -> None:
        """Print a line beside the bar."""
        if self.on:
            self.bar.write(line, file=sys.stdout)
