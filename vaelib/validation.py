"""What is measured after each epoch: active units, and the bound on the validation set."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from vaelib._checks import value_checks
from vaelib._modes import evaluating
from vaelib.divergence import divergence, divergence_named
from vaelib.evaluation import active_units
from vaelib.history import History
from vaelib.minibatches import Minibatches
from vaelib.objective import Objective, noise_dim
from vaelib.reparameterization import noise
from vaelib.resumption import Run

__all__ = ["has_waited", "validate"]

AT_ONCE = 1000


def validate(run: Run, data: Minibatches, validation: Minibatches | None) -> None:
    """Measure the epoch that has just ended."""
    # The same noise each time, so that two epochs differ by their parameters alone; and none of the
    # training's own stream.
    generator = torch.Generator(run.generator.device).manual_seed(run.settings["seed"])
    last_step = (len(run.history)) * data.steps(run.settings["batch_size"]) - 1
    like, samples = next(run.model.parameters()), run.settings["samples"]
    measured = data if validation is None else validation
    total = torch.zeros((), dtype=torch.float64)
    with torch.no_grad(), evaluating(run.objective):
        for i, (x, y) in enumerate(measured.ordered(AT_ONCE, generator)):
            x, y = x.to(like), None if y is None else y.to(like.device)
            eps = noise((samples, len(x), noise_dim(run.model)), generator, like)
            with (
                value_checks(i == 0 or like.device.type == "cpu"),
                divergence_named(run, last_step, x, eps, y),
            ):
                if i == 0:
                    run.history.append(active_units=_count_active(run.objective, x, y))
                if validation is None:
                    return
                total += run.objective(x, eps, y).per_example.sum().cpu()
    run.history.append(validation_elbo=total / len(measured))
    if not math.isfinite(total):
        raise divergence(run, last_step, "the validation bound")
    if run.history.best_epoch == len(run.history):
        run.best_model = copy.deepcopy(run.model.state_dict())


def _count_active(objective: Objective, x: Tensor, y: Tensor | None) -> int:
    # A unit is far above the threshold or far below it: a hundred examples tell.
    few = slice(None, None, len(x) // 100 + 1)
    if len(x) < 2:
        return -1
    given = (x[few], y[few]) if objective.takes_labels and y is not None else (x[few],)
    try:
        return int(active_units(objective.model.encoder(*given)).sum())  # type: ignore[operator]
    except (AttributeError, NotImplementedError, TypeError):
        return -1  # q(z|x) knows no mean


def has_waited(history: History, patience: int | None) -> bool:
    """Whether the validation ELBO has not risen for `patience` epochs."""
    best = history.best_epoch
    return patience is not None and best is not None and len(history) - best >= patience
