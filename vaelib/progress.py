"""The progress of a training: a bar in a terminal, otherwise one line per epoch."""

from __future__ import annotations

import sys
import time
from typing import Any

from vaelib.history import History

__all__ = ["Progress"]


class Progress:
    """A bar of steps in a terminal; in a log or a notebook, one line per epoch.

    Arguments:
        epochs: of the whole run.
        steps: per epoch.
        done: epochs that have been made before.
        on: whether to show anything.

    Example:
        >>> with Progress(epochs=1, steps=2, done=0, on=False) as progress:
        ...     progress.step()
    """

    def __init__(self, epochs: int, steps: int, done: int, on: bool) -> None:
        from tqdm import tqdm

        self.epochs, self.on, self.start = epochs, on, time.perf_counter()
        # To standard output, since notebooks show standard error as an error.
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
        """Count a step."""
        self.bar.update()

    def epoch(self, history: History) -> None:
        """Show the bound after an epoch."""
        told = f"ELBO {history.elbo[-1]:.2f} nats"
        if len(history.validation_elbo):
            told += f", validation {history.validation_elbo[-1]:.2f}"
        self.bar.set_postfix_str(told)
        if self.on and not self.watched:
            seconds = time.perf_counter() - self.start
            print(f"epoch {len(history)} of {self.epochs}: {told} ({seconds:.0f} s)", flush=True)

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        if self.on:
            self.bar.write(line, file=sys.stdout)
