"""Why the bound is not tight: the family of q, or the encoder (Cremer et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaelib._checks import (
    check_at_least,
    check_finite,
    check_floating,
    check_generator,
    check_positive,
)
from vaelib._modes import evaluating, gradients
from vaelib.elbo import LatentVariableModel, evidence_lower_bound
from vaelib.reparameterization import DiagonalGaussian, noise

__all__ = [
    "InferenceGap",
    "fit_posterior",
    "inference_gap",
]


@dataclass(frozen=True)
class InferenceGap:
    """log p(x) − ELBO in two parts, (N,) nats each (Cremer et al. 2018).

    Attributes:
        approximation: log p(x) − the best ELBO of any diagonal Gaussian: due to the family.
        amortisation: the best ELBO − the encoder's: due to the encoder.

    Example:
        >>> InferenceGap(torch.tensor([1.0]), torch.tensor([2.0])).total
        tensor([3.])
    """

    approximation: Tensor
    amortisation: Tensor

    @property
    def total(self) -> Tensor:
        """KL(q ‖ posterior): (N,), in nats."""
        return self.approximation + self.amortisation


@gradients()
def fit_posterior(
    model: LatentVariableModel,
    x: Tensor,
    generator: torch.Generator | int,
    *,
    steps: int = 500,
    samples: int = 16,
    learning_rate: float = 0.02,
) -> DiagonalGaussian:
    """The diagonal Gaussian with the highest ELBO for each example alone, by Adam.

    Cremer et al. 2018 call it the optimal approximation q*.

    The search starts at the encoder's q if that is a diagonal Gaussian, otherwise at N(0, I),
    whatever the prior. The result is the average over the last half of the steps, because each step
    is noisy.

    Arguments:
        model: its parameters stay as they are.
        x: (N, …).
        generator: draws the noise of every step; or an integer seed.
        steps, samples, learning_rate: of the search.

    Returns:
        `DiagonalGaussian` with batch shape (N,).

    Raises:
        ValueError: when a number is out of range, or as `log_weights`.

    Example:
        >>> from vaelib import LinearGaussian
        >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> q = fit_posterior(model, x, torch.Generator().manual_seed(0))
        >>> bool((q.mean - model.posterior(x).mean).abs() < 0.1)
        True
    """
    check_at_least(2, steps=steps)
    check_at_least(1, samples=samples)
    check_positive(learning_rate=learning_rate)
    generator = check_generator(generator)
    with torch.no_grad(), evaluating(model):
        start = model.encoder(x)
    shape = start.batch_shape + start.event_shape
    if isinstance(start, DiagonalGaussian):
        mu, logvar = start.mu.clone(), start.logvar.clone()
    else:
        mu, logvar = x.new_zeros(shape), x.new_zeros(shape)
    parameters = torch.stack([mu, logvar]).requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=learning_rate)
    average = torch.zeros_like(parameters)
    for step in range(steps):
        eps = noise((samples, *shape), generator, like=mu)
        with evaluating(model):
            bound = evidence_lower_bound(
                model, x, eps, q=DiagonalGaussian(parameters[0], parameters[1])
            )
            # The sum, not the mean: each example has parameters of its own.
            (parameters.grad,) = torch.autograd.grad(-bound.per_example.sum(), parameters)
        optimizer.step()
        if step >= steps // 2:
            average += parameters.detach() / (steps - steps // 2)
    return DiagonalGaussian(average[0], average[1])


def inference_gap(
    model: LatentVariableModel,
    x: Tensor,
    log_marginal: Tensor,
    generator: torch.Generator | int,
    *,
    steps: int = 500,
    samples: int = 1000,
) -> InferenceGap:
    """Split log p(x) − ELBO into approximation and amortisation gap (Cremer et al. 2018, eq. 5).

    Arguments:
        model, x: as for `log_weights`.
        log_marginal: (N,) log p(x), exact or estimated with many importance samples.
        generator: draws all noise, the same for both bounds; or an integer seed.
        steps: of the search for the best diagonal Gaussian.
        samples: for the estimate of each bound.

    Returns:
        `InferenceGap`, its values exact up to Monte-Carlo error.

    Raises:
        ValueError: when log_marginal is not (N,) of finite floats, a number is out of range, or as
            `log_weights`.

    Example:
        >>> from vaelib import LinearGaussian
        >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> generator = torch.Generator().manual_seed(0)
        >>> gap = inference_gap(model, x, model.log_marginal(x), generator)
        >>> bool(gap.total.abs() < 0.1)  # the encoder gives the posterior itself
        True
    """
    check_at_least(2, steps=steps)
    check_at_least(1, samples=samples)
    check_floating(x=x, log_marginal=log_marginal)
    if x.dim() == 0:
        raise ValueError("x must be (N, …), but is a scalar")
    if log_marginal.shape != x.shape[:1]:
        raise ValueError(
            f"log_marginal must be ({len(x)},), one value per example, "
            f"but is {tuple(log_marginal.shape)}"
        )
    check_finite(log_marginal=log_marginal)
    generator = check_generator(generator)
    best = fit_posterior(model, x, generator, steps=steps)
    eps = noise((samples, *best.mu.shape), generator, like=best.mu)
    with torch.no_grad(), evaluating(model):
        best_bound = evidence_lower_bound(model, x, eps, q=best).per_example
        bound = evidence_lower_bound(model, x, eps).per_example
    return InferenceGap(log_marginal - best_bound, best_bound - bound)
