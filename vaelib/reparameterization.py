"""Sampling that gradients pass through: z = μ + Σ^{1/2} ε, ε ~ N(0, I).

All randomness is in the argument ε, so z is a smooth function of the parameters (Kingma & Welling
2013, section 2.4; Rezende et al. 2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, constraints

from vaelib._checks import (
    check_alike,
    check_finite,
    check_floating,
    check_floats,
    check_generator,
    check_integers,
    check_latent,
    check_observed,
    check_same_dtype,
    validates,
)
from vaelib._modes import gradients

__all__ = [
    "DiagonalGaussian",
    "FullGaussian",
    "noise",
    "pathwise_gradient",
    "pathwise_terms",
    "reparameterize",
    "sample_gaussian",
    "score_function_gradient",
    "score_function_terms",
]


def noise(shape: Sequence[int], generator: torch.Generator | int, like: Tensor) -> Tensor:
    """Standard normal noise ε, in the dtype and on the device of `like`.

    It is drawn on the generator's device and then moved, so a generator on the CPU gives the same
    noise for every device.

    Arguments:
        shape: of the noise.
        generator: or an integer seed.
        like: a floating-point tensor.

    Raises:
        ValueError: when an argument is not as described.

    Example:
        >>> noise((2, 3), 0, like=torch.zeros(1)).shape
        torch.Size([2, 3])
    """
    check_integers(0, shape=shape)
    check_floating(like=like)
    generator = check_generator(generator)
    eps = torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=generator.device)
    return eps.to(like.device)


def reparameterize(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = μ + e^{logvar/2}·ε, differentiable in mu and logvar.

    Kingma & Welling 2013, section 2.4.

    Arguments:
        mu: (*, K) means.
        logvar: (*, K) log *variances*.
        eps: (…, *, K) noise; leading dimensions beyond mu's are samples.

    Returns:
        (…, *, K), the broadcast shape.

    Raises:
        ValueError: when the shapes do not fit, a dtype is not floating point, or a number is not
            finite.

    Example:
        >>> reparameterize(torch.tensor([1.0]), torch.tensor([4.0]).log(), torch.tensor([0.5]))
        tensor([2.])
    """
    check_alike(mu=mu, logvar=logvar)
    _check_noise(mu, eps)
    return mu + torch.exp(0.5 * logvar) * eps


def sample_gaussian(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    """z = μ + Lε, where L is the lower Cholesky factor: L Lᵀ = Σ. Differentiable in μ and Σ.

    Arguments:
        mu: (N, K).
        covariance: (K, K) for all rows, or (N, K, K), symmetric positive definite.
        eps: (N, K).

    Returns:
        (N, K).

    Raises:
        ValueError: when the shapes or dtypes do not fit, a number is not finite, or Σ is not
            symmetric positive definite.

    Example:
        >>> covariance = torch.tensor([[4.0, 2.0], [2.0, 2.0]])  # L = [[2, 0], [1, 1]]
        >>> sample_gaussian(torch.zeros(1, 2), covariance, torch.ones(1, 2))
        tensor([[2., 2.]])
    """
    check_floats("mu", mu, "N", "K")
    check_alike(mu=mu, eps=eps)
    n_rows, n_dims = mu.shape
    # One covariance for each row, or one for all.
    rows = [n_rows] if isinstance(covariance, Tensor) and covariance.dim() == 3 else []
    check_floats("covariance", covariance, *rows, n_dims, n_dims)
    check_same_dtype(mu=mu, covariance=covariance)
    if not torch.allclose(covariance, covariance.mT, rtol=1e-4, atol=1e-6):
        raise ValueError("covariance must be symmetric, but differs from its transpose")
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(covariance)
    if info.any():
        raise ValueError(
            "covariance must be positive definite, but its Cholesky factorisation fails"
        )
    return mu + (factor @ eps.unsqueeze(-1)).squeeze(-1)


class DiagonalGaussian(Distribution):
    """N(μ, diag e^{logvar}) over the last dimension, sampled by moving noise.

    Arguments:
        mu: (*batch, K).
        logvar: (*batch, K) log variances.

    Raises:
        ValueError: when the shapes or dtypes differ, a dtype is not floating point, or a parameter
            or an observed value is NaN or infinite.

    Example:
        >>> q = DiagonalGaussian(torch.tensor([[1.0, -1.0]]), torch.zeros(1, 2))
        >>> q.reparameterize(torch.tensor([[0.5, 0.0]]))
        tensor([[ 1.5000, -1.0000]])
        >>> q.log_prob(q.mean)  # −log 2π nats
        tensor([-1.8379])
    """

    arg_constraints: ClassVar = {"mu": constraints.real_vector, "logvar": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True
    is_standard = False  # for N(0, I), the density and a KL to it take half the work

    def __init__(self, mu: Tensor, logvar: Tensor, validate_args: bool | None = None) -> None:
        validate_args = validates(validate_args)
        check_alike(validate_args, mu=mu, logvar=logvar)
        check_latent(mu=mu)
        self.mu = mu
        self.logvar = logvar
        shape = mu.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=False)
        self._validate_args = validate_args

    @classmethod
    def standard(cls, n_dims: int, like: Tensor) -> DiagonalGaussian:
        """N(0, I) in `n_dims` dimensions, with the dtype and device of `like`."""
        return cls.standard_from(torch.zeros(n_dims, dtype=like.dtype, device=like.device))

    @classmethod
    def standard_from(cls, zeros: Tensor) -> DiagonalGaussian:
        """N(0, I) from a tensor of zeros (K,), which becomes its mean and its log variance."""
        standard = cls(zeros, zeros, validate_args=False)
        standard.is_standard = True
        return standard

    @property
    def mean(self) -> Tensor:
        """μ: (*batch, K)."""
        return self.mu

    @property
    def variance(self) -> Tensor:
        """σ²: (*batch, K)."""
        return self.logvar.exp()

    @property
    def stddev(self) -> Tensor:
        """σ: (*batch, K)."""
        return torch.exp(0.5 * self.logvar)

    def reparameterize(self, eps: Tensor) -> Tensor:
        """Move noise (…, *batch, K) to samples of that shape."""
        _check_noise(self.mu, eps)
        mu, logvar = self.mu, self.logvar
        if not self._validate_args:  # otherwise they were checked at construction
            check_finite(mu=mu, logvar=logvar)
        std = torch.exp(0.5 * logvar)
        if eps.dim() == mu.dim() + 1:  # a gradient through more dimensions would be summed over one
            mu, std = mu.unsqueeze(0), std.unsqueeze(0)
        return mu + std * eps

    def log_prob_at(self, eps: Tensor) -> Tensor:
        """Log-density at `reparameterize(eps)` in nats: (…, *batch).

        It is computed from the noise, because z − μ is lost to rounding if σ is far below |μ|.

        Example:
            >>> eps = torch.tensor([[1.0]])
            >>> q = DiagonalGaussian(torch.tensor([[1.0]]), torch.tensor([[-30.0]]))
            >>> q.log_prob_at(eps)  # −½ − ½·log 2π + 15; computed from z it would be 13.4
            tensor([13.5811])
        """
        _check_noise(self.mu, eps)
        return -0.5 * (eps.square() + self.logvar + math.log(2 * math.pi)).sum(-1)

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Log-density of each dimension alone, in nats: (…, *batch, K)."""
        check_observed("value", value, self)
        check_floating(value=value)
        check_finite(self._validate_args, value=value)
        if self.is_standard:
            return -0.5 * (value.square() + math.log(2 * math.pi))
        distance = (value - self.mu).square() * torch.exp(-self.logvar)
        return -0.5 * (distance + self.logvar + math.log(2 * math.pi))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats: (…, *batch)."""
        return self.log_prob_terms(value).sum(-1)

    def entropy(self) -> Tensor:
        """½ Σ_k (1 + log 2π + logvar_k) nats: (*batch)."""
        return 0.5 * (self.logvar + (1 + math.log(2 * math.pi))).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Samples from torch's global generator, as all `torch.distributions` draw them."""
        shape = self._extended_shape(sample_shape)
        eps = torch.randn(shape, dtype=self.mu.dtype, device=self.mu.device)
        return self.reparameterize(eps)

    def __getitem__(self, index: Any) -> DiagonalGaussian:
        """The distributions of part of the batch."""
        return DiagonalGaussian(self.mu[index], self.logvar[index], validate_args=False)


class FullGaussian(MultivariateNormal):
    """N(μ, L Lᵀ): torch's `MultivariateNormal`, sampled by moving noise.

    The arguments are the same: μ (*batch, K) and one of `covariance_matrix`, `precision_matrix` and
    `scale_tril`, (*batch, K, K). Densities and divergences are in nats.

    Raises:
        ValueError: when a parameter is not such a matrix, or noise is not finite, not (…, *batch,
            K) or not in μ's dtype.

    Example:
        >>> q = FullGaussian(torch.zeros(1, 2), scale_tril=torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
        >>> q.reparameterize(torch.ones(1, 2))
        tensor([[2., 2.]])
    """

    def reparameterize(self, eps: Tensor) -> Tensor:
        """Move noise (…, *batch, K) to samples of that shape: μ + Lε."""
        _check_noise(self.loc, eps)
        return self.loc + (self._unbroadcasted_scale_tril @ eps.unsqueeze(-1)).squeeze(-1)

    def log_prob_at(self, eps: Tensor) -> Tensor:
        """Log-density at `reparameterize(eps)` in nats, computed from the noise: (…, *batch)."""
        _check_noise(self.loc, eps)
        log_scale = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log()
        return -(0.5 * (eps.square() + math.log(2 * math.pi)) + log_scale).sum(-1)


def pathwise_gradient(
    f: Callable[[Tensor], Tensor],
    mu: Tensor,
    sigma: Tensor,
    eps: Tensor,
) -> Tensor:
    """Estimate ∂/∂μ and ∂/∂σ of E[f(μ + σε)] by differentiating through the sample.

    It is the mean over S of f′(μ + σε)·(1, ε) (Kingma & Welling 2013, section 2.4).

    Arguments:
        f: acts elementwise and is differentiable.
        mu, sigma: scalars, σ > 0.
        eps: (S,) standard normal noise.

    Returns:
        (2,): the estimates for μ and σ.

    Raises:
        ValueError: when a shape does not fit, σ ≤ 0, a number is not finite, or autograd cannot
            differentiate f.

    Example:
        >>> eps = torch.tensor([-1.0, 1.0])
        >>> pathwise_gradient(torch.square, torch.tensor(3.0), torch.tensor(2.0), eps)
        tensor([6., 4.])
    """
    return pathwise_terms(f, mu, sigma, eps).mean(0)


def score_function_gradient(
    f: Callable[[Tensor], Tensor],
    mu: Tensor,
    sigma: Tensor,
    eps: Tensor,
    baseline: float | Tensor = 0.0,
) -> Tensor:
    """Estimate ∂/∂μ and ∂/∂σ of E[f(μ + σε)] by the log-derivative trick.

    It is the mean over S of (f(z) − b)·(ε/σ, (ε² − 1)/σ) with z = μ + σε. f is evaluated, but never
    differentiated (Williams 1992; Paisley et al. 2012).

    Arguments:
        f: acts elementwise; it need not be differentiable.
        mu, sigma: scalars, σ > 0.
        eps: (S,) standard normal noise.
        baseline: b, one number, or one for each sample. If it does not depend on eps, it changes
            only the variance of the estimate, which stays unbiased.

    Returns:
        (2,): the estimates for μ and σ.

    Raises:
        ValueError: when a shape does not fit, σ ≤ 0, or a number is not finite.

    Example:
        >>> eps = torch.tensor([-1.0, 1.0])
        >>> score_function_gradient(torch.square, torch.tensor(3.0), torch.tensor(2.0), eps)
        tensor([6., 0.])
    """
    return score_function_terms(f, mu, sigma, eps, baseline).mean(0)


@gradients()
def pathwise_terms(f: Callable[[Tensor], Tensor], mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """The terms whose mean is `pathwise_gradient`: (S, 2). Its variance is var(0) / S.

    Arguments and errors are those of `pathwise_gradient`.

    Example:
        >>> eps = torch.tensor([-1.0, 1.0])
        >>> pathwise_terms(torch.square, torch.tensor(3.0), torch.tensor(2.0), eps)
        tensor([[ 2., -2.],
                [10., 10.]])
    """
    _check_scalar_gaussian(mu, sigma, eps)
    z = (mu + sigma * eps).detach().requires_grad_()
    value = f(z)
    _check_elementwise(value, eps)
    if not value.requires_grad:
        raise ValueError(
            "f must be differentiable, but autograd finds no path from f(z) back to z; "
            "score_function_gradient does not need one"
        )
    (slope,) = torch.autograd.grad(value.sum(), z)
    return torch.stack([slope, slope * eps], dim=-1)


def score_function_terms(
    f: Callable[[Tensor], Tensor],
    mu: Tensor,
    sigma: Tensor,
    eps: Tensor,
    baseline: float | Tensor = 0.0,
) -> Tensor:
    """The terms whose mean is `score_function_gradient`: (S, 2). Its variance is var(0) / S.

    Arguments and errors are those of `score_function_gradient`.

    Example:
        >>> eps = torch.tensor([-1.0, 1.0])
        >>> score_function_terms(torch.square, torch.tensor(3.0), torch.tensor(2.0), eps)
        tensor([[-0.5000,  0.0000],
                [12.5000,  0.0000]])
    """
    _check_scalar_gaussian(mu, sigma, eps)
    try:
        baseline = torch.as_tensor(baseline, dtype=eps.dtype, device=eps.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"baseline must be a number or a tensor, not {baseline!r}") from None
    check_finite(baseline=baseline)
    with torch.no_grad():
        value = f(mu + sigma * eps) - baseline
        _check_elementwise(value, eps)
        return torch.stack([value * eps / sigma, value * (eps.square() - 1) / sigma], dim=-1)


def _check_noise(mu: Tensor, eps: Tensor) -> None:
    # If the dtype differs, eps may not even be floating point.
    if not isinstance(eps, Tensor) or eps.dtype != mu.dtype:
        check_floating(eps=eps)
        check_same_dtype(mu=mu, eps=eps)
    if eps.shape[eps.dim() - mu.dim() :] != mu.shape:
        raise ValueError(f"eps must end in mu's shape {tuple(mu.shape)}, but is {tuple(eps.shape)}")
    check_finite(eps=eps)


def _check_elementwise(value: Tensor, eps: Tensor) -> None:
    if value.shape != eps.shape:
        raise ValueError(
            f"f must act elementwise, {tuple(eps.shape)} → {tuple(eps.shape)} (and a baseline must "
            f"be a number or have that shape), but the result is {tuple(value.shape)}"
        )


def _check_scalar_gaussian(mu: Tensor, sigma: Tensor, eps: Tensor) -> None:
    check_floats("mu", mu)
    check_floats("sigma", sigma)
    check_floats("eps", eps, "S ≥ 1")
    check_same_dtype(mu=mu, sigma=sigma, eps=eps)
    if not sigma > 0:
        # `or 0`, since −0 is printed with its sign on some devices only.
        raise ValueError(f"sigma must be positive, but is {sigma.item() or 0:g}")
