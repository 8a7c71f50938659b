"""Kullback–Leibler divergence: D_KL(q ‖ p) = E_q[log q − log p] ≥ 0, in nats.

It is 0 only if q = p, and it may be infinite. It is not a distance: D_KL(q ‖ p) ≠ D_KL(p ‖ q) in
general (Kullback & Leibler 1951).
"""

from __future__ import annotations

from itertools import combinations
from typing import NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence
from torch.distributions.kl import register_kl

from vaelib._checks import (
    broadcasts,
    check_alike,
    check_at_least,
    check_finite,
    check_floating,
    check_latent,
)
from vaelib.reparameterization import DiagonalGaussian, FullGaussian

__all__ = [
    "kl_between_gaussians",
    "kl_divergence",
    "kl_monte_carlo",
    "kl_terms",
    "kl_to_standard_normal",
]


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, diag e^logvar) ‖ N(0, I)) = ½ Σ_k (μ² + e^logvar − 1 − logvar).

    Kingma & Welling 2013, appendix B.

    Arguments:
        mu, logvar: (…, K).

    Returns:
        (…), in nats.

    Raises:
        ValueError: when the shapes or dtypes differ, a dtype is not floating point, or a number is
            not finite.

    Example:
        >>> kl_to_standard_normal(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
        tensor([2.])
    """
    check_alike(mu=mu, logvar=logvar)
    check_latent(mu=mu)
    return _standard_normal_terms(mu, logvar).sum(-1)


def kl_between_gaussians(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """KL(q ‖ p) of two diagonal Gaussians.

    ½ Σ_k (e^{logvar_q − logvar_p} + (μ_q − μ_p)² e^{−logvar_p} − 1 − (logvar_q − logvar_p)).

    Arguments:
        mu_q, logvar_q, mu_p, logvar_p: (…, K), which broadcast.

    Returns:
        (…), in nats.

    Raises:
        ValueError: when the shapes do not broadcast, a dtype is not floating point, or a number is
            not finite.

    Example:
        >>> mu, narrow, wide = torch.zeros(1, 1), torch.zeros(1, 1), torch.full((1, 1), 2.0)
        >>> kl_between_gaussians(mu, narrow, mu, wide)
        tensor([0.5677])
        >>> kl_between_gaussians(mu, wide, mu, narrow)
        tensor([2.1945])
    """
    _check_parameters(mu_q=mu_q, logvar_q=logvar_q, mu_p=mu_p, logvar_p=logvar_p)
    return _gaussian_terms(mu_q, logvar_q, mu_p, logvar_p).sum(-1)


def kl_monte_carlo(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    """Estimate KL(q ‖ p) by the mean of log q(z) − log p(z) over z ~ q.

    The estimate is unbiased, and differentiable in q's parameters if q is reparameterizable.
    `torch.distributions` take no generator, so samples come from torch's global generator: call
    `torch.manual_seed` first.

    Arguments:
        q, p: with the same batch shape and event shape.
        n_samples: S ≥ 1.

    Returns:
        One estimate per batch entry, in nats. It can be negative, although the divergence cannot.

    Raises:
        ValueError: when n_samples < 1, or the shapes of q and p differ.

    Example:
        >>> q, p = torch.distributions.Exponential(2.0), torch.distributions.Exponential(1.0)
        >>> _ = torch.manual_seed(0)
        >>> estimate = kl_monte_carlo(q, p, 100_000)
        >>> bool((estimate - kl_divergence(q, p)).abs() < 0.01)
        True
    """
    check_at_least(1, n_samples=n_samples)
    for kind in ("batch_shape", "event_shape"):
        if getattr(q, kind) != getattr(p, kind):
            _refuse_pair(kind, q, p)
    shape = torch.Size([n_samples])
    z = q.rsample(shape) if q.has_rsample else q.sample(shape)
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


def kl_terms(q: Distribution, p: Distribution) -> Tensor:
    """The closed-form KL(q ‖ p) with its latent dimensions kept apart.

    Arguments:
        q: batch shape (N,), events (K,).
        p: the same shapes, or one distribution for all examples.

    Returns:
        (N, K) for diagonal Gaussians, or (N, 1) if dimensions are correlated and the divergence
        does not split; in nats. The sum over the last dimension is the divergence.

    Raises:
        NotImplementedError: when torch has no closed form for the pair.
        ValueError: when Gaussians differ in the number of dimensions or examples.

    Example:
        >>> q = DiagonalGaussian(torch.tensor([[0.0, 2.0]]), torch.zeros(1, 2))
        >>> kl_terms(q, DiagonalGaussian.standard(2, like=q.mu))
        tensor([[0., 2.]])
    """
    if isinstance(q, DiagonalGaussian) and isinstance(p, DiagonalGaussian):
        return _diagonal_terms(q, p)
    return kl_divergence(q, p).unsqueeze(-1)


def _diagonal_terms(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    _check_pair(q, p)
    if p.is_standard:
        return _standard_normal_terms(q.mu, q.logvar)
    return _gaussian_terms(q.mu, q.logvar, p.mu, p.logvar)


def _check_pair(q: Distribution, p: Distribution) -> None:
    if q.event_shape != p.event_shape:
        _refuse_pair("event_shape", q, p)
    if not broadcasts(q.batch_shape, p.batch_shape):
        _refuse_pair("batch_shape", q, p)


def _refuse_pair(kind: str, q: Distribution, p: Distribution) -> NoReturn:
    got, other = tuple(getattr(q, kind)), tuple(getattr(p, kind))
    raise ValueError(f"q and p must have the same {kind}, but have {got} and {other}")


@register_kl(DiagonalGaussian, DiagonalGaussian)  # type: ignore[untyped-decorator]
def _kl_diagonal_diagonal(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    return _diagonal_terms(q, p).sum(-1)


@register_kl(FullGaussian, DiagonalGaussian)  # type: ignore[untyped-decorator]
def _kl_full_diagonal(q: FullGaussian, p: DiagonalGaussian) -> Tensor:
    _check_pair(q, p)
    # tr(Σ_p⁻¹ Σ_q) needs only the diagonal of Σ_q; the rest of Σ_q enters by log|Σ_q|.
    marginal = _gaussian_terms(q.loc, q.variance.log(), p.mu, p.logvar).sum(-1)
    log_det = 2 * q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return marginal + 0.5 * (q.variance.log().sum(-1) - log_det)


@register_kl(DiagonalGaussian, FullGaussian)  # type: ignore[untyped-decorator]
def _kl_diagonal_full(q: DiagonalGaussian, p: FullGaussian) -> Tensor:
    _check_pair(q, p)
    full = MultivariateNormal(q.mu, scale_tril=torch.diag_embed(q.stddev), validate_args=False)
    divergence: Tensor = kl_divergence(full, p)
    return divergence


def _gaussian_terms(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    log_ratio = logvar_q - logvar_p
    # expm1 keeps the digits that e^r − 1 loses if the two variances are close.
    spread = torch.expm1(log_ratio) - log_ratio
    return 0.5 * ((mu_q - mu_p).square() * torch.exp(-logvar_p) + spread)


def _standard_normal_terms(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu.square() + (torch.expm1(logvar) - logvar))


def _check_parameters(**parameters: Tensor) -> None:
    check_floating(**parameters)
    check_latent(**parameters)
    shapes = [value.shape for value in parameters.values()]
    if any(a[-1] != b[-1] or not broadcasts(a, b) for a, b in combinations(shapes, 2)):
        listed = ", ".join(f"{name} {tuple(value.shape)}" for name, value in parameters.items())
        raise ValueError(f"all must have the same K, (…, K), and broadcast, but are {listed}")
    check_finite(**parameters)
