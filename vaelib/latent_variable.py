"""Latent variable models whose p(x) = ∫ p(x|z) p(z) dz can be computed: the oracles.

In a VAE this integral, and with it the posterior p(z|x) = p(x|z) p(z) / p(x), is intractable. Here
one latent dimension makes both exact, so that every bound and estimate can be compared with the
truth. In `linear_gaussian`, linearity does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaelib._checks import (
    check_at_least,
    check_device,
    check_floats,
    check_generator,
)
from vaelib._modes import gradients
from vaelib.elbo import ELBO
from vaelib.kl import kl_terms
from vaelib.likelihood import Gaussian
from vaelib.reparameterization import DiagonalGaussian, noise

__all__ = ["Arc", "NonlinearGaussian"]


class NonlinearGaussian:
    """The toy: z ~ N(0, 1), x|z ~ N(f(z), ¼²), with f(z) = tanh 2z + ½ sin 3z made by hand.

    f is steep at 0 and oscillates beyond: p(x) has two humps, and several z explain one x, so that
    some posteriors have two modes. It is a `LatentVariableModel` with D = K = 1. The encoder gives
    the Gaussian with the mean and the variance of the exact posterior, which minimises
    KL(posterior ‖ q); the one with the highest ELBO is `best_diagonal`.

    Integrals are sums over z = μ + s·t, t = −9, −8.995, …, 9, weighted by the density of N(0, 1)
    (the trapezoidal rule). The mass beyond |t| = 9 is 2e-19, and for analytic integrands the rule
    converges exponentially (Trefethen & Weideman 2014, theorem 5.1): with h = 0.005 its error is of
    order exp(−2π·a/(s·h)), where a = π/4 is the distance of f's nearest pole from the real line.
    In float64, which all tensors here have, absolute errors are therefore below 1e-10 for every q
    with standard deviation s ≤ 30.

    Arguments:
        device: where its tensors live.

    Raises:
        ValueError: for an unusable device; when a method is given x that is not (N, 1), float64 and
            finite, or z that is not (…, 1).

    Example:
        >>> toy = NonlinearGaussian()
        >>> x = torch.tensor([[0.5]], dtype=torch.float64)
        >>> q = toy.encoder(x)
        >>> bound, gap = toy.exact_elbo(x, q).per_example, toy.kl_to_posterior(x, q)
        >>> bool((toy.log_marginal(x) - (bound + gap)).abs() < 1e-9)  # log p(x) = ELBO + KL
        True

        The naive estimate of log p(x), from 10,000 samples of the prior:

        >>> from vaelib import log_marginal_monte_carlo
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = torch.randn(10_000, 1, 1, generator=generator, dtype=torch.float64)
        >>> estimate = log_marginal_monte_carlo(toy.decoder(z).log_prob(x))
        >>> bool((estimate - toy.log_marginal(x)).abs() < 0.05)
        True
    """

    data_dim = 1
    sigma = 0.25

    def __init__(self, device: torch.device | str | None = None) -> None:
        device = None if device is None else check_device(device)
        step, half_width = 0.005, 9.0
        n_nodes = 2 * round(half_width / step) + 1
        nodes = torch.linspace(
            -half_width, half_width, n_nodes, dtype=torch.float64, device=device
        ).view(-1, 1, 1)
        self._nodes = nodes
        self._log_mass = self.prior.log_prob(nodes) + math.log(step)

    @staticmethod
    def f(z: Tensor) -> Tensor:
        """The decoder's mean, tanh 2z + ½ sin 3z, elementwise."""
        return torch.tanh(2 * z) + 0.5 * torch.sin(3 * z)

    @property
    def prior(self) -> DiagonalGaussian:
        """p(z) = N(0, 1), events (1,)."""
        return DiagonalGaussian.standard(1, like=self._nodes)

    def decoder(self, z: Tensor) -> Gaussian:
        """z (…, 1) → p(x|z) = N(f(z), σ² I), events (D,)."""
        check_floats("z", z, ..., 1)
        return Gaussian(self.f(z), self.sigma, event_dims=1)

    def encoder(self, x: Tensor) -> DiagonalGaussian:
        """x (N, D) → the Gaussian with the mean and the variance of the exact posterior."""
        posterior = torch.softmax(self._log_likelihood(x) + self._log_mass, dim=0).unsqueeze(-1)
        mean = (posterior * self._nodes).sum(0)
        variance = (posterior * (self._nodes - mean).square()).sum(0)
        return DiagonalGaussian(mean, variance.log())

    def sample(self, n: int, generator: torch.Generator | int) -> Tensor:
        """Draw n observations, z from the prior, then x from p(x|z): (n, D)."""
        check_at_least(1, n=n)
        generator = check_generator(generator)
        z = noise((n, 1), generator, like=self._nodes)
        return self.decoder(z).draw(generator)

    def expectation(self, q: DiagonalGaussian, g: Callable[[Tensor], Tensor]) -> Tensor:
        """E_q[g(z)] by quadrature.

        Arguments:
            q: batch shape (N,), events (1,).
            g: takes z (S, N, 1), S nodes for each of N, to (S, N).

        Returns:
            (N,).

        Example:
            >>> toy = NonlinearGaussian()
            >>> q = DiagonalGaussian(torch.full((1, 1), 3.0).double(), torch.zeros(1, 1).double())
            >>> toy.expectation(q, lambda z: z.squeeze(-1) ** 2)  # μ² + σ²
            tensor([10.], dtype=torch.float64)
        """
        z = q.reparameterize(self._nodes.expand(-1, *q.mu.shape))
        value = g(z)
        if value.shape != z.shape[:-1]:
            raise ValueError(
                f"g must take z {tuple(z.shape)} to {tuple(z.shape[:-1])}, "
                f"but gave {tuple(value.shape)}"
            )
        return (self._log_mass.exp() * value).sum(0)

    def log_marginal(self, x: Tensor) -> Tensor:
        """log p(x) = log ∫ N(x; f(z), σ² I) N(z; 0, 1) dz: (N, D) → (N,), in nats.

        Example:
            >>> toy = NonlinearGaussian()
            >>> x = torch.linspace(-4, 4, 801, dtype=torch.float64).unsqueeze(-1)
            >>> round((toy.log_marginal(x).exp().sum() * 0.01).item(), 9)
            1.0
        """
        return torch.logsumexp(self._log_likelihood(x) + self._log_mass, dim=0)

    def log_posterior(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(z|x) by Bayes' rule: z (…, N, 1) and x (N, D) → (…, N), in nats."""
        log_joint: Tensor = self.decoder(z).log_prob(x) + self.prior.log_prob(z)
        return log_joint - self.log_marginal(x)

    def exact_elbo(self, x: Tensor, q: DiagonalGaussian) -> ELBO:
        """The ELBO of q: E_q[log p(x|z)] by quadrature, the KL in closed form."""
        check_floats("x", x, "N", self.data_dim, dtype=self._nodes.dtype)
        reconstruction = self.expectation(q, lambda z: self.decoder(z).log_prob(x))
        return ELBO(reconstruction, kl_terms(q, self.prior))

    def kl_to_posterior(self, x: Tensor, q: DiagonalGaussian) -> Tensor:
        """KL(q ‖ posterior) = E_q[log q(z) − log p(z|x)] by quadrature: (N,), in nats."""
        return self.expectation(q, lambda z: q.log_prob(z) - self.log_posterior(z, x))

    @gradients()
    def best_diagonal(self, x: Tensor) -> DiagonalGaussian:
        """The Gaussian with the highest ELBO for each x, which minimises KL(q ‖ posterior).

        Where the posterior has two modes it covers one of them. Newton's method, started from the
        four best local maxima of a grid of (μ, log σ²): ten steps reach rounding, and the highest
        bound wins.

        Example:
            >>> toy = NonlinearGaussian()
            >>> x = torch.tensor([[0.5]], dtype=torch.float64)
            >>> toy.encoder(x).mean, toy.best_diagonal(x).mean  # between the modes, on the wider
            (tensor([[0.8800]], dtype=torch.float64), tensor([[1.4583]], dtype=torch.float64))
        """
        starts = self._coarse_search(x)  # (2, M, N, 1)
        many = x.repeat(starts.shape[1], 1)
        parameters = starts.flatten(1, 2)
        for _ in range(10):
            parameters.requires_grad_()
            bound = self.exact_elbo(many, DiagonalGaussian(parameters[0], parameters[1]))
            (slope,) = torch.autograd.grad(bound.per_example.sum(), parameters, create_graph=True)
            rows = [
                torch.autograd.grad(row.sum(), parameters, retain_graph=True)[0] for row in slope
            ]
            curvature = torch.stack(rows).permute(2, 3, 0, 1)  # (M·N, 1, 2, 2)
            # From a start beside a peak a step may be wild; another start finds that peak.
            step, _ = torch.linalg.solve_ex(curvature, slope.detach().permute(1, 2, 0))
            step = step.nan_to_num(0.0).clamp(-1, 1)
            parameters = parameters.detach() - step.permute(2, 0, 1)
        with torch.no_grad():
            found = self.exact_elbo(many, DiagonalGaussian(parameters[0], parameters[1]))
        best = found.per_example.view(starts.shape[1], len(x)).argmax(0)
        mu, logvar = parameters.view_as(starts)[:, best, torch.arange(len(x))]
        return DiagonalGaussian(mu, logvar)

    def relative_variance(self, x: Tensor) -> Tensor:
        """Var[p(x|z)] / p(x)² over z ~ p(z): (N,).

        It is that of the naive Monte-Carlo estimate of p(x) from one sample; S samples divide it
        by S.
        """
        log_likelihood = self._log_likelihood(x)
        log_square = torch.logsumexp(2 * log_likelihood + self._log_mass, dim=0)
        return torch.expm1(log_square - 2 * self.log_marginal(x))

    def _log_likelihood(self, x: Tensor) -> Tensor:
        check_floats("x", x, "N", self.data_dim, dtype=self._nodes.dtype)
        return self.decoder(self._nodes).log_prob(x)

    def _coarse_search(self, x: Tensor) -> Tensor:
        """(μ, log σ²) of the best local maxima on a grid, for each x: (2, M, N, 1)."""
        check_floats("x", x, "N", self.data_dim, dtype=self._nodes.dtype)
        axes = torch.linspace(-3.5, 3.5, 71), torch.linspace(-6, 1, 29)
        grid = torch.cartesian_prod(*axes).to(x)
        q = DiagonalGaussian(grid[:, :1], grid[:, 1:])
        # log p(x|z) is quadratic in f, so two moments of f give the ELBO for every x.
        z = q.reparameterize(self._nodes.expand(-1, *q.mu.shape))
        mean, mass = self.f(z), self._log_mass.exp()
        first = (mass.unsqueeze(-1) * mean).sum(0)
        second = (mass * mean.square().sum(-1)).sum(0).unsqueeze(-1)
        square = x.square().sum(-1) - 2 * first @ x.mT + second
        bound = -square / (2 * self.sigma**2) - kl_terms(q, self.prior)  # (G, N)
        plane = bound.mT.reshape(len(x), 1, *map(len, axes))
        highest = torch.nn.functional.max_pool2d(plane, 3, stride=1, padding=1)
        peaks = plane.masked_fill(plane < highest, -torch.inf).flatten(1)
        # A peak may be missing among the four; what stands there instead is as good a start.
        best = torch.where(peaks.isfinite(), peaks, bound.mT - 1e6).topk(4, dim=1).indices
        return grid[best].permute(2, 1, 0).unsqueeze(-1).contiguous()


class Arc(NonlinearGaussian):
    """Points in the plane on a noisy arc: z ~ N(0, 1), x|z ~ N(f(z), 0.1² I), x in two dimensions.

    f(z) = (sin z, 1 − cos z) is the point at the angle z on a circle of radius 1, measured from
    its lowest point: a manifold of one dimension in a space of two. All else is as in
    `NonlinearGaussian`, with D = 2: one z explains an x, except near the top, where the ends of the
    arc meet. f has no poles, so quadrature is as exact.

    Raises:
        ValueError: when a method is given x that is not (N, 2), float64 and finite, or z that is
            not (…, 1).

    Example:
        >>> toy = Arc()
        >>> x = toy.sample(5, generator=0)
        >>> x.shape
        torch.Size([5, 2])
        >>> q = toy.best_diagonal(x)
        >>> gap = toy.log_marginal(x) - toy.exact_elbo(x, q).per_example
        >>> bool((gap - toy.kl_to_posterior(x, q)).abs().max() < 1e-9)
        True
    """

    data_dim = 2
    sigma = 0.1

    @staticmethod
    def f(z: Tensor) -> Tensor:
        """The decoder's mean, (sin z, 1 − cos z): (…, 1) → (…, 2)."""
        return torch.cat([z.sin(), 1 - z.cos()], dim=-1)
