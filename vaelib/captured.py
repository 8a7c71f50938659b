"""A whole training step on tensors that stay where they are: what a CUDA graph can replay.

Launching a hundred small kernels takes a GPU's host five times as long as running them. A graph
launches them all at once: order, gather, binarisation, noise, forwards, backwards, optimizer, sums.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._checks import value_checks
from vaelib.elbo import ELBO
from vaelib.minibatches import InMemory
from vaelib.objective import Precision, negative_bound, term_sums
from vaelib.reparameterization import noise

__all__ = ["CaptureError", "CapturedStep", "StaticStep", "capturable", "capture", "stream"]


class CaptureError(RuntimeError):
    """A step that cannot be replayed; the message says why."""


class StaticStep:
    """One training step that reads its minibatch, its weight and its place from static tensors.

    Calling it makes a step, as `training_step` does and with the same random numbers; nothing that
    changes from step to step is a Python value, so the same call may be captured and replayed.

    Arguments:
        objective: gives the bound.
        optimizer: made `capturable` where the step is to be captured.
        data: on the device of the model.
        generator: of noise and dynamic pixels, on that device.
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
        objective: Callable[..., ELBO],
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
        steps, device = len(data) // batch_size, data.device
        self.order = torch.zeros(steps, batch_size, dtype=torch.int64, device=device)
        self.betas = torch.zeros(steps, dtype=like.dtype, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.sums = torch.zeros(0, device=device)

    def begin_epoch(self, order: Tensor, betas: list[float]) -> None:
        """Set the order (N,) of the epoch, and the KL's weight in each step; start at the first."""
        self.order.copy_(order[: self.order.numel()].view_as(self.order))
        self.betas.copy_(torch.tensor(betas[: len(self.betas)]))
        self.position.zero_()

    def __call__(self) -> None:
        """Make the step at `position`, write its `term_sums` there, and move on."""
        index = self.order.index_select(0, self.position).view(-1)
        x, y = self.data.read(index, self.generator)
        eps = noise(self.noise_shape, self.generator, self.like)
        beta = self.betas.index_select(0, self.position)
        bound, loss = negative_bound(
            self.objective, x.to(self.like.dtype), eps, y, beta, self.precision, len(index)
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        row = term_sums(bound)
        if not self.sums.numel():  # only the first bound tells how many terms there are
            self.sums = row.new_zeros(len(self.order), len(row))
        self.sums.index_copy_(0, self.position, row.unsqueeze(0))
        self.position.add_(1)


class CapturedStep:
    """A `StaticStep` that is captured as a CUDA graph after a few steps, and replayed from then on.

    Where it cannot be captured it goes on as it is, and `say` is told why in one line. The last,
    smaller minibatch of an epoch is for `plain`.
    """

    # What the libraries and the optimizer set up at their first steps must not be in the graph.
    WARM_UP = 3

    def __init__(
        self, step: StaticStep, plain: Callable[..., Tensor], say: Callable[[str], None]
    ) -> None:
        self.step, self.plain, self.say = step, plain, say
        self.graph: torch.cuda.CUDAGraph | None = None
        self.made = 0

    def __call__(self) -> None:
        """Make a step."""
        self.made += 1
        if self.graph is not None:
            self.graph.replay()
            return
        before = python_state(self.step.objective) if self.made == self.WARM_UP else {}
        with value_checks(self.made == 1):
            self.step()
        if self.made == self.WARM_UP:
            try:
                if changed := changed_state(before, python_state(self.step.objective)):
                    raise CaptureError(f"each step changes {changed}, and a replayed one would not")
                self.graph = capture(self.step)
            except CaptureError as error:
                self.say(f"steps are not replayed as a CUDA graph, and are slower for it: {error}")

    def epoch(self, betas: list[float]) -> Iterator[Tensor]:
        """The `term_sums` of each minibatch of an epoch, as the steps are made."""
        step = self.step
        order = step.data.order(step.generator)
        step.begin_epoch(order, betas)
        for position in range(len(step.order)):
            self()
            yield step.sums[position]
        rest = order[step.order.numel() :]
        if len(rest):
            x, y = step.data.read(rest, step.generator)
            samples, _, latent_dim = step.noise_shape
            eps = noise((samples, len(rest), latent_dim), step.generator, step.like)
            yield self.plain(x.to(step.like), eps, y, betas[-1], len(rest))


def capture(step: StaticStep) -> torch.cuda.CUDAGraph:
    """The step as a graph; this makes no step.

    Raises:
        CaptureError: when a step does what a graph cannot hold, such as reading a value.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(step.generator)
    step.optimizer.zero_grad()  # so that gradients live in the graph's own memory
    try:
        # On the stream of the steps before, to which autograd has bound the parameters.
        with value_checks(False), torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            step()
    except RuntimeError as error:
        torch.cuda.synchronize()
        raise CaptureError(str(error).strip().splitlines()[0]) from error
    return graph


@contextlib.contextmanager
def capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> Iterator[bool]:
    """Let an optimizer's steps be captured: its learning rates and counts are tensors on `device`.

    Gives whether that can be done. Afterwards the rates are plain numbers again.
    """
    if device.type != "cuda" or not all("capturable" in g for g in optimizer.param_groups):
        yield False
        return
    before = [group["capturable"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)
    try:
        yield True
    finally:
        for group, value in zip(optimizer.param_groups, before, strict=True):
            group["capturable"], group["lr"] = value, float(group["lr"])


@contextlib.contextmanager
def stream(device: torch.device) -> Iterator[None]:
    """A CUDA stream of its own, on which steps may be captured; elsewhere nothing."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        side, outer = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(outer)
        with torch.cuda.stream(side):
            yield
        outer.wait_stream(side)


def python_state(model: Any) -> dict[str, Any]:
    """The plain Python values that the modules of a model hold: a graph does not change them."""
    modules = model.modules() if isinstance(model, nn.Module) else []
    return {
        f"{type(module).__name__}.{name}": repr(value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, (bool, int, float, str, list, tuple, dict, type(None)))
        and not name.startswith("_")
    }


def changed_state(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Which of these values differ, as text."""
    return ", ".join(name for name in after if before.get(name) != after[name])
