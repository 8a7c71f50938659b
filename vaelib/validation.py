"""Measurements after each epoch: active units, and the bound on the validation set."""

from __future__ import annotations

import copy
import math

import torch

from vaelib._checks import value_checks
from vaelib._modes import evaluating
from vaelib.codes import active_units
from vaelib.divergence import divergence, divergence_named
from vaelib.elbo import noise_dim
from vaelib.history import History, NonFiniteError
from vaelib.minibatches import Minibatches, named
from vaelib.reparameterization import noise
from vaelib.resumption import Run

__all__ = ["has_waited", "validate"]

AT_ONCE = 1000
FEW = 100  # examples; enough, since a unit is far above or far below the threshold of activity


def validate(run: Run, data: Minibatches, validation: Minibatches | None) -> None:
    """Measure the epoch that has just ended."""
    last_step = len(run.history) * data.steps(run.settings["batch_size"]) - 1
    measured = data if validation is None else validation
    with torch.no_grad(), evaluating(run.objective), named(measured.name):
        # The same noise each time, so that epochs differ only by their parameters; not drawn from
        # the training's own stream.
        generator = torch.Generator(run.generator.device).manual_seed(run.settings["seed"])
        _count_active(run, measured, generator, last_step)
        if validation is not None:
            generator.manual_seed(run.settings["seed"])
            _measure_bound(run, validation, generator, last_step)
    if run.history.best_epoch == len(run.history):
        run.best_model = copy.deepcopy(run.model.state_dict())


def _measure_bound(
    run: Run, validation: Minibatches, generator: torch.Generator, last_step: int
) -> None:
    like, samples = next(run.model.parameters()), run.settings["samples"]
    total, seen = 0.0, 0
    for i, (x, y) in enumerate(validation.ordered(AT_ONCE, generator)):
        x, y = x.to(like), None if y is None else y.to(like.device)
        eps = noise((samples, len(x), noise_dim(run.model)), generator, like)
        reads = i == 0 or like.device.type == "cpu"
        with value_checks(reads), divergence_named(run, last_step, x, eps, y):
            total += run.objective(x, eps, y).per_example.double().sum().item()
        seen += len(x)
    if not math.isfinite(total):
        raise divergence(run, last_step, "the validation bound")
    run.history.append(validation_elbo=total / seen)


def _count_active(run: Run, data: Minibatches, generator: torch.Generator, last_step: int) -> None:
    like = next(run.model.parameters())
    x, y = data.some(FEW, generator)
    x, y = x.to(like), None if y is None else y.to(like.device)
    eps = like.new_zeros(1, len(x), noise_dim(run.model))
    ways = [(x, y), (x,)] if run.objective.takes_labels and y is not None else [(x,)]
    units = -1
    for given in ways if len(x) > 1 else []:
        try:
            with divergence_named(run, last_step, x, eps, y):
                units = int(active_units(run.model.encoder(*given)).sum())  # type: ignore[operator]
            break
        except NonFiniteError:
            raise
        except Exception:
            pass  # a model with its own forward may call its encoder in any way, or have none
    run.history.append(active_units=units)


def has_waited(history: History, patience: int | None) -> bool:
    """Whether the validation ELBO has not risen for `patience` epochs."""
    best = history.best_epoch
    return patience is not None and best is not None and len(history) - best >= patience
