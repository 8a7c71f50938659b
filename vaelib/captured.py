"""A whole training step that a CUDA graph can replay, on tensors that stay in place.

Launching a hundred small kernels takes the host five times as long as the GPU takes to run them. A
graph launches them all at once: reading, binarisation, noise, forwards, backwards, optimizer, sums.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaelib._checks import value_checks
from vaelib._optimizers import held_parameters
from vaelib.cuda_graph import CaptureError, capture, reading_of_a_value
from vaelib.minibatches import InMemory, minibatch_sizes
from vaelib.objective import Precision, bound_in, slopes, term_sums
from vaelib.reparameterization import noise

__all__ = ["CapturedStep", "StaticStep", "python_state", "settings"]

OF_EVERY_MODULE = frozenset(vars(nn.Module()))


class StaticStep:
    """One training step that reads minibatch, KL slope and position from static tensors.

    A call makes a step as `training_step` does, with the same random numbers. Nothing that changes
    from step to step is a Python value, so the call can be captured and replayed.

    Arguments:
        objective: returns the bound.
        optimizer: with `capturable` set, if the step is to be captured.
        data: on the model's device.
        generator: draws noise and dynamic pixels, on that device.
        noise_shape: (S, N, K) with N the batch size.
        like: a parameter of the model.
        precision: of the matrix products.

    Example:
        >>> from vaelib import VAE
        >>> from vaelib.objective import Objective
        >>> vae, x = VAE(shape=(6,), hidden=[4]), torch.ones(10, 6)
        >>> step = StaticStep(
        ...     Objective(vae), torch.optim.Adam(vae.parameters()), InMemory("train", x),
        ...     torch.Generator(), noise_shape=(1, 5, 2), like=x,
        ... )
        >>> step.begin_epoch(torch.arange(10), [1.0, 1.0])
        >>> step(), step()
        (None, None)
        >>> step.sums.shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: InMemory,
        generator: torch.Generator,
        *,
        noise_shape: tuple[int, int, int],
        like: Tensor,
        precision: Precision = "float32",
    ) -> None:
        self.objective, self.optimizer, self.data = objective, optimizer, data
        self.generator, self.precision = generator, precision
        self.like, self.noise_shape = like, noise_shape
        _, batch_size, _ = noise_shape
        # The last minibatch may have another size.
        steps = minibatch_sizes(len(data), batch_size).count(batch_size)
        device = data.device
        self.order = torch.zeros(steps, batch_size, dtype=torch.int64, device=device)
        self.of_reconstruction = torch.full((1,), -1 / batch_size, dtype=like.dtype, device=device)
        self.of_kl = torch.zeros(steps, dtype=like.dtype, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.sums = torch.zeros(0, device=device)
        self.held = held_parameters(objective, optimizer)

    def begin_epoch(self, order: Tensor, betas: list[float]) -> None:
        """Set the epoch's order (N,) and the KL's weight in each step, and go to the first step."""
        self.order.copy_(order[: self.order.numel()].view_as(self.order))
        _, batch_size = self.order.shape
        slopes_of_kl = [beta / batch_size for beta in betas[: len(self.of_kl)]]
        self.of_kl.copy_(torch.tensor(slopes_of_kl, dtype=self.of_kl.dtype))
        self.position.zero_()

    def __call__(self) -> None:
        """Make the step at `position`, write its `term_sums` there, and move on."""
        index = self.order.index_select(0, self.position).view(-1)
        x, y = self.data.read(index, self.generator)
        eps = noise(self.noise_shape, self.generator, self.like)
        bound = bound_in(self.precision, self.objective, x.to(self.like.dtype), eps, y)
        self.forget_gradients()
        of_kl = self.of_kl.index_select(0, self.position)
        torch.autograd.backward(*slopes(bound, self.of_reconstruction, of_kl))
        self.optimizer.step()
        row = term_sums(bound)
        if not self.sums.numel():  # the first bound tells how many terms there are
            self.sums = row.new_zeros(len(self.order), len(row))
        self.sums.index_copy_(0, self.position, row.unsqueeze(0))
        self.position.add_(1)

    def forget_gradients(self) -> None:
        """Remove the gradients of the model and of the optimizer."""
        for parameter in self.held:
            parameter.grad = None


class CapturedStep:
    """A `StaticStep` that is captured as a CUDA graph after a few steps, then replayed.

    If the step cannot be captured, it runs as it is, and `say` is called with the reason in one
    line. `plain` makes an epoch's last step if its minibatch has another size. A graph keeps the
    settings it was captured with, so they are compared before each epoch: if a setting of the model
    or the optimizer has changed, the step is captured again.
    """

    # What libraries and the optimizer set up in their first steps must not be in the graph.
    WARM_UP = 3

    def __init__(
        self, step: StaticStep, plain: Callable[..., Tensor], say: Callable[[str], None]
    ) -> None:
        self.step, self.plain, self.say = step, plain, say
        self.graph: torch.cuda.CUDAGraph | None = None
        self.made = 0
        self.refused = False
        self.settings: list[Any] = []
        self.rates = [group["lr"] for group in step.optimizer.param_groups]

    def __call__(self) -> None:
        """Make a step."""
        self.made += 1
        if self.graph is not None:
            self.graph.replay()
        elif self.made == self.WARM_UP:
            self._step_and_capture()
        else:
            with value_checks(self.made == 1):
                self.step()

    def epoch(self, betas: list[float], made: Callable[[], None]) -> Tensor:
        """Make an epoch's steps, calling `made` after each: their `term_sums`, (steps, terms)."""
        step = self.step
        self._begin_epoch()
        order = step.data.order(step.generator)
        step.begin_epoch(order, betas)
        for _ in range(len(step.order)):
            self()
            made()
        rest = order[step.order.numel() :]
        if not len(rest):
            return step.sums
        x, y = step.data.read(rest, step.generator)
        samples, _, latent_dim = step.noise_shape
        eps = noise((samples, len(rest), latent_dim), step.generator, step.like)
        last = self.plain(x.to(step.like), eps, y, betas[-1], len(rest)).unsqueeze(0)
        made()
        return torch.cat([step.sums, last]) if len(step.order) else last

    def _begin_epoch(self) -> None:
        # A scheduler or a user may have replaced the tensor that the graph reads by a number.
        for group, rate in zip(self.step.optimizer.param_groups, self.rates, strict=True):
            if group["lr"] is not rate and isinstance(rate, Tensor):
                rate.fill_(float(group["lr"]))
                group["lr"] = rate
        now = settings(self.step.objective, self.step.optimizer)
        if now != self.settings and not self.refused:
            self.settings, self.graph, self.made = now, None, 0

    def _step_and_capture(self) -> None:
        before = python_state(self.step.objective)
        with value_checks(False):
            reason = reading_of_a_value(self.step)
        if changed := _changed(before, python_state(self.step.objective)):
            reason = f"each step changes {changed}, which a replayed step would not"
        try:
            if reason:
                raise CaptureError(reason)
            self.step.forget_gradients()  # so that new ones are in the graph's own memory
            with value_checks(False):
                self.graph = capture(self.step, [self.step.generator])
        except CaptureError as error:
            self.refused = True
            self.say(f"steps are not replayed as a CUDA graph, which makes them slower: {error}")


def python_state(model: nn.Module) -> dict[str, Any]:
    """The state that a step may change but a replayed step would not.

    This is every Python value, and which tensors there are: tensors are compared by identity,
    because a graph keeps using those that it was captured with.
    """
    state: dict[str, Any] = {
        "Python's random numbers": random.getstate(),
        "NumPy's random numbers": repr(np.random.get_state()),  # noqa: NPY002
        "the random numbers of the CPU": torch.random.get_rng_state().tolist(),
    }
    for module in model.modules():
        own = {name: value for name, value in vars(module).items() if name not in OF_EVERY_MODULE}
        for name, value in {**own, **module._buffers}.items():
            state[f"{type(module).__name__}.{name}"] = _identified(value)
    return state


class _Same:
    """A tensor compared by identity, and kept alive so that no other takes its address."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.tensor is self.tensor

    __hash__ = None  # type: ignore[assignment]


def _identified(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Same(value)
    if isinstance(value, (list, tuple)):
        return [_identified(part) for part in value]
    if isinstance(value, dict):
        return {key: _identified(part) for key, part in value.items()}
    return value if isinstance(value, (bool, int, float, str, type(None))) else id(value)


def settings(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """The settings that a graph keeps, but that may be changed between two epochs."""
    of_optimizer = [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]
    of_parameters = [(p.requires_grad, p.data_ptr()) for p in held_parameters(model, optimizer)]
    of_modules = [
        (module.training, {n: v for n, v in vars(module).items() if _is_plain(n, v)})
        for module in model.modules()
    ]
    return [of_optimizer, of_parameters, of_modules]


def _is_plain(name: str, value: object) -> bool:
    return name not in OF_EVERY_MODULE and isinstance(value, (bool, int, float, str))


def _changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    return ", ".join(name for name in after if before.get(name) != after[name])
