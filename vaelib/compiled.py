"""A training step as one compiled graph of the forward pass, the backward pass and Adam."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.objective import Precision, bound_in, slopes, term_sums

__all__ = ["CompilationError", "CompiledStep", "compiler"]


class CompilationError(RuntimeError):
    """torch.compile failed, for example because there is no C++ compiler."""


@contextlib.contextmanager
def compiler() -> Iterator[None]:
    """Set torch.compile up so that a step becomes one graph, and explain its failures.

    Raises:
        CompilationError: when no C++ compiler is found.
    """
    # torch.compile turns validation off for the whole process, because a graph reads no values.
    before = Distribution._validate_args
    import torch._dynamo
    import torch._inductor.config

    Distribution.set_default_validate_args(False)
    # Gradients must be in the graph of the bound, which is not yet torch's default. A session may
    # train more than eight models, after which torch by default stops compiling.
    graphs = torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=64)
    # Dropout draws the same numbers as without a compiler; and no kernel is chosen by its time, so
    # that a resumed run computes as an uninterrupted one.
    kernels = torch._inductor.config.patch(fallback_random=True, deterministic=True)
    try:
        with graphs, kernels, warnings.catch_warnings():
            # On a GPU torch proposes products in TensorFloat32, which are not float32.
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
            yield
    except torch._dynamo.exc.BackendCompilerFailed as error:
        reason = str(error).splitlines()[0]
        raise CompilationError(
            f"torch.compile failed ({reason}): it needs a C++ compiler such as g++, and Python's "
            "headers; without it, training reaches the same parameters, only more slowly"
        ) from error
    finally:
        Distribution.set_default_validate_args(before)


class CompiledStep:
    """`training_step` with a plain Adam as one graph.

    Call it inside `compiler`; it returns the `term_sums` of the bound. Adam is written out, so that
    the compiler merges its pass over the parameters with the last pass over the gradients. This
    saves a sixth of a small step; compiling torch's own Adam saves nothing.
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
        """Make the step. A minibatch of another size is left to `plain`, without a graph."""
        self.count += 1
        if len(x) != self.batch_size:
            for kept in self.state:
                kept["step"].fill_(self.count - 1)
            return self.plain(x, eps, y, beta, size)
        beta1, beta2 = self.group["betas"]
        rate = float(self.group["lr"]) / (1 - beta1**self.count)
        scale = (1 - beta2**self.count) ** -0.5
        # In a tensor, since Python numbers would become constants of the graph.
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
        """Tell the optimizer how many steps have been made."""
        for kept in self.state:
            kept["step"].fill_(self.count)
        # Otherwise a scheduler warns that it is called before the optimizer.
        self.adam._opt_called = True  # type: ignore[attr-defined]


def _adam_state(adam: torch.optim.Optimizer, trained: list[Tensor]) -> list[dict[str, Tensor]]:
    """Adam's state of each parameter."""
    adam.zero_grad()
    if not adam.state:
        # A step with gradients of 0 moves no parameter, and creates the state as torch does.
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        adam.step()
        for parameter in trained:
            adam.state[parameter]["step"].zero_()
        adam.zero_grad()
    return [adam.state[parameter] for parameter in trained]


@cache
def _graph() -> Callable[..., Tensor]:
    # A graph for each shape, since one for all shapes is slower by a fifth.
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
    """Make a step of Adam (Kingma & Ba 2015, algorithm 1); `numbers` holds what changes."""
    beta, size, rate, scale = numbers.unbind()
    beta1, beta2, epsilon = constants
    bound = bound_in(precision, objective, x, eps, y)
    terms, by = slopes(bound, -1 / size, beta / size)
    gradients = torch.autograd.grad(terms, trained, by, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient, (mean, square) in zip(trained, gradients, moments, strict=True):
            if gradient is not None:
                mean.lerp_(gradient, 1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                parameter.sub_(rate * mean / (square.sqrt() * scale + epsilon))
    return term_sums(bound)
