"""A training step as one compiled graph: forwards, backwards, and Adam in the same pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.objective import Precision, negative_bound, term_sums

__all__ = ["CompiledStep", "compiler"]


@contextlib.contextmanager
def compiler() -> Iterator[None]:
    """Settings of torch.compile under which a step is one graph; its failures in plain words.

    Raises:
        RuntimeError: when there is no compiler to be found.
    """
    # Compiling turns it off, and for the whole process: in a graph nobody can read a value.
    before = Distribution._validate_args
    import torch._dynamo
    import torch._inductor.config

    Distribution.set_default_validate_args(False)
    # Gradients belong into the graph that gives the bound, which is not yet torch's default; and a
    # session may train more than the eight models after which torch stops to compile.
    graphs = torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=64)
    # Dropout draws the numbers that it draws without a compiler.
    draws = torch._inductor.config.patch(fallback_random=True)
    try:
        with graphs, draws:
            yield
    except torch._dynamo.exc.BackendCompilerFailed as error:
        reason = str(error).splitlines()[0]
        raise RuntimeError(
            f"compile=True failed ({reason}): torch.compile needs a C++ compiler such as g++, and "
            "Python's headers; without compile, fit trains to the same parameters, if slower"
        ) from error
    finally:
        Distribution.set_default_validate_args(before)


class CompiledStep:
    """`training_step` with a plain Adam as one graph.

    To be called inside `compiler`; gives the `term_sums` of the bound. Adam is written out, since
    in the graph its pass over the parameters is one with the last pass over the gradients, which
    saves a sixth of a small step; torch's own, as the compiler finds it, saves nothing.
    """

    def __init__(
        self,
        objective: nn.Module,
        plain: Callable[..., Tensor],
        adam: torch.optim.Optimizer,
        precision: Precision,
        batch_size: int,
    ) -> None:
        self.objective, self.plain, self.precision = objective, plain, precision
        self.batch_size, self.adam = batch_size, adam
        (self.group,) = adam.param_groups
        self.trained = [p for p in self.group["params"] if p.requires_grad]
        self.state = _adam_state(adam, self.trained)
        self.moments = [(kept["exp_avg"], kept["exp_avg_sq"]) for kept in self.state]
        self.count = int(self.state[0]["step"])

    def __call__(
        self, x: Tensor, eps: Tensor, y: Tensor | None, beta: float, size: float
    ) -> Tensor:
        """Make the step; one of another size is not worth a graph of its own."""
        self.count += 1
        if len(x) != self.batch_size:
            for kept in self.state:
                kept["step"].fill_(self.count - 1)
            return self.plain(x, eps, y, beta, size)
        beta1, beta2 = self.group["betas"]
        rate = float(self.group["lr"]) / (1 - beta1**self.count)
        scale = (1 - beta2**self.count) ** -0.5
        # In a tensor, since numbers by themselves would be constants of the graph.
        numbers = eps.new_tensor([beta, size, rate, scale])
        return _graph()(
            self.objective,
            x,
            eps,
            y,
            numbers,
            self.trained,
            self.moments,
            (beta1, beta2, self.group["eps"]),
            self.precision,
        )

    def finish(self) -> None:
        """Tell the optimizer how many steps were made for it."""
        for kept in self.state:
            kept["step"].fill_(self.count)
        # A scheduler would warn that it goes ahead of the optimizer.
        self.adam._opt_called = True  # type: ignore[attr-defined]


def _adam_state(adam: torch.optim.Optimizer, trained: list[Tensor]) -> list[dict[str, Tensor]]:
    """What Adam knows of each parameter."""
    adam.zero_grad()
    if not adam.state:
        # A step with gradients of 0 moves nothing, and makes the state as torch lays it out.
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        adam.step()
        for parameter in trained:
            adam.state[parameter]["step"].zero_()
        adam.zero_grad()
    return [adam.state[parameter] for parameter in trained]


@cache
def _graph() -> Callable[..., Tensor]:
    # A graph for each shape: one for all of them is slower by a fifth.
    return torch.compile(_ascend, dynamic=False)


def _ascend(
    objective: nn.Module,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None,
    numbers: Tensor,
    trained: list[Tensor],
    moments: list[tuple[Tensor, Tensor]],
    constants: tuple[float, float, float],
    precision: Any,
) -> Tensor:
    """Kingma & Ba 2015, algorithm 1, with the numbers that change from step to step in a tensor."""
    beta, size, rate, scale = numbers.unbind()
    beta1, beta2, epsilon = constants
    bound, loss = negative_bound(objective, x, eps, y, beta, precision, size)
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient, (mean, square) in zip(trained, gradients, moments, strict=True):
            if gradient is not None:
                mean.lerp_(gradient, 1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                parameter.sub_(rate * mean / (square.sqrt() * scale + epsilon))
    return term_sums(bound)
