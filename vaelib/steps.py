"""The choice between the ways to make a training step: plain, compiled, or replayed on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from vaelib._optimizers import capturable, held_parameters
from vaelib.captured import CapturedStep, StaticStep
from vaelib.compiled import CompiledStep
from vaelib.elbo import noise_dim
from vaelib.minibatches import InMemory, Minibatches
from vaelib.parallel import Processes
from vaelib.resumption import Run

__all__ = ["Step", "step_for"]

Step = Callable[[Tensor, Tensor, Tensor | None, float, float], Tensor]
"""A function of a minibatch x, eps, y, the weight β and the size that makes a step: `term_sums`."""


@contextlib.contextmanager
def step_for(
    run: Run,
    plain_step: Callable[..., Tensor],
    data: Minibatches,
    group: Processes,
    say: Callable[[str], None],
) -> Iterator[Step | CapturedStep]:
    """Choose how steps are made: replayed if a GPU can, compiled if asked for, otherwise plain.

    Arguments:
        run: whose model is trained.
        plain_step: of the objective, the optimizer, all parameters, the precision, then as `Step`.
        data: the training set.
        group: the processes that train together.
        say: is called with the reason, in one line, if a GPU cannot replay steps.

    Returns:
        Inside the `with`, the function that makes a step.
    """
    objective, optimizer = group.wrap(run.objective), run.optimizer
    precision, batch_size = run.settings["precision"], run.settings["batch_size"]
    held, compiles = held_parameters(run.model, optimizer), run.settings["compile"]
    plain = partial(plain_step, objective, optimizer, held, precision)
    like = next(run.model.parameters())
    reason = _why_not_captured(run, data, group)
    if like.device.type == "cuda" and reason is None:
        assert isinstance(data, InMemory)
        with capturable(optimizer, like.device):
            static = StaticStep(
                cast(nn.Module, torch.compile(objective)) if compiles else objective,
                optimizer,
                data,
                run.generator,
                noise_shape=(run.settings["samples"], batch_size, noise_dim(run.model)),
                like=like,
                precision=precision,
            )
            yield CapturedStep(static, plain, say)
        return
    if like.device.type == "cuda":
        say(f"steps are not replayed as a CUDA graph, which makes them slower: {reason}")
    if compiles:
        yield CompiledStep(objective, plain, optimizer, precision, batch_size)
    else:
        yield plain


def _why_not_captured(run: Run, data: Minibatches, group: Processes) -> str | None:
    if group.count > 1:
        return "several processes train together"
    if not isinstance(data, InMemory):
        return "the examples come from a Dataset or DataLoader"
    if data.device.type != "cuda":
        return "the examples do not fit into the GPU's memory"
    if not all("capturable" in options for options in run.optimizer.param_groups):
        return f"a step of {type(run.optimizer).__name__} cannot be captured"
    return None
