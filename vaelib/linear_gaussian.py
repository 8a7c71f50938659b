"""The linear latent variable model, whose p(x) and p(z|x) are known in any dimension."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib._checks import (
    check_at_least,
    check_floats,
    check_generator,
    check_positive,
    check_same_dtype,
)
from vaelib.elbo import ELBO
from vaelib.kl import kl_divergence, kl_terms
from vaelib.likelihood import Gaussian
from vaelib.reparameterization import DiagonalGaussian, FullGaussian, noise

__all__ = ["LinearGaussian"]


class LinearGaussian:
    """The linear-Gaussian VAE, or probabilistic PCA: x = Wz + μ + σε, z ~ N(0, I), ε ~ N(0, I).

    p(x) = N(μ, W Wᵀ + σ² I) and p(z|x) = N(Λ⁻¹ Wᵀ(x − μ)/σ², Λ⁻¹) with the precision
    Λ = I + Wᵀ W/σ² (Tipping & Bishop 1999, section 3.1). It is a `LatentVariableModel` whose
    encoder is the exact posterior. Only K × K matrices are factorised, so D = 784 costs little.
    Gradients reach W, μ and σ where these require them.

    Arguments:
        weight: W (D, K); its dtype and device are the model's.
        mean: μ (D,).
        sigma: σ > 0, a number or a scalar tensor.

    Raises:
        ValueError: when a shape or dtype does not fit or σ is not positive; when a method is given
            x that is not (N, D), finite and of the model's dtype.

    Example:
        >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> model.log_marginal(torch.zeros(1, 3))  # −½ log |2π(1 + WWᵀ)|
        tensor([-3.4500])
        >>> model.posterior(torch.ones(1, 3)).mean
        tensor([[0.7500]])
    """

    def __init__(self, weight: Tensor, mean: Tensor, sigma: float | Tensor) -> None:
        check_floats("weight", weight, "D ≥ 1", "K ≥ 1")
        check_floats("mean", mean, len(weight))
        check_same_dtype(weight=weight, mean=mean)
        if not isinstance(sigma, Tensor):
            check_positive(sigma=sigma)
        self.weight = weight
        self.mean = mean
        self.sigma = torch.as_tensor(sigma, dtype=weight.dtype, device=weight.device)
        if self.sigma.dim() or not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be one positive number, but is {sigma}")

    @classmethod
    def maximum_likelihood(cls, x: Tensor, latent_dim: int) -> LinearGaussian:
        """The parameters with the highest likelihood, in closed form.

        With λ_1 ≥ … ≥ λ_D and u_j the eigenvalues and eigenvectors of the covariance (divisor N):
        σ² = the mean of λ_{K+1}, …, λ_D and w_k = u_k·√(λ_k − σ²), which is unique up to a
        rotation of the latent space (Tipping & Bishop 1999, section 3.2).

        Arguments:
            x: (N, D) data.
            latent_dim: K, at least 1 and below D.

        Raises:
            ValueError: when latent_dim is out of range, or the data lie in K dimensions, where the
                likelihood has no maximum.

        Example:
            >>> x = torch.tensor([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
            >>> model = LinearGaussian.maximum_likelihood(x, latent_dim=1)
            >>> model.sigma, model.weight.abs()
            (tensor(1.), tensor([[1.7321],
                    [0.0000]]))
        """
        check_floats("x", x, "N ≥ 2", "D")
        check_at_least(1, latent_dim=latent_dim)
        n_dims = x.shape[1]
        if latent_dim >= n_dims:
            raise ValueError(f"latent_dim must lie in 1…{n_dims - 1}, not {latent_dim}")
        mean = x.double().mean(0)
        centred = x.double() - mean
        if len(x) < n_dims:
            # The other eigenvalues are 0, and a D × D matrix of thousands of pixels takes minutes.
            _, singular, rows = torch.linalg.svd(centred, full_matrices=False)
            values, vectors = singular.square() / len(x), rows.mT
        else:
            ascending = torch.linalg.eigh(centred.mT @ centred / len(x))
            values, vectors = (part.flip(-1) for part in ascending)
        variance = values[latent_dim:].sum() / (n_dims - latent_dim)
        if not variance > n_dims * torch.finfo(values.dtype).eps * values[0]:
            raise ValueError(
                f"x must vary in more than latent_dim = {latent_dim} dimensions: its likelihood "
                "grows without bound as sigma goes to 0"
            )
        scale = (values[:latent_dim] - variance).clamp(min=0).sqrt()
        weight = vectors[:, :latent_dim] * scale
        return cls(weight.to(x.dtype), mean.to(x.dtype), variance.sqrt().to(x.dtype))

    @property
    def prior(self) -> DiagonalGaussian:
        """p(z) = N(0, I), events (K,)."""
        return DiagonalGaussian.standard(self.weight.shape[1], like=self.weight)

    def decoder(self, z: Tensor) -> Gaussian:
        """z (…, K) → p(x|z) = N(Wz + μ, σ² I), events (D,)."""
        check_floats("z", z, ..., self.weight.shape[1])
        check_same_dtype(z=z, weight=self.weight)
        return Gaussian(z @ self.weight.mT + self.mean, self.sigma, event_dims=1)

    def encoder(self, x: Tensor) -> FullGaussian:
        """The exact posterior."""
        return self.posterior(x)

    def posterior(self, x: Tensor) -> FullGaussian:
        """x (N, D) → p(z|x) = N(Λ⁻¹ Wᵀ(x − μ)/σ², Λ⁻¹), batch shape (N,)."""
        check_floats("x", x, "N", *self.mean.shape, dtype=self.weight.dtype)
        precision = self._precision()
        pull = (x - self.mean) @ self.weight / self.sigma.square()
        mean = torch.linalg.solve(precision, pull.mT).mT
        return FullGaussian(mean, precision_matrix=precision, validate_args=False)

    def sample(self, n: int, generator: torch.Generator | int) -> Tensor:
        """Draw n observations, z from the prior, then x from p(x|z): (n, D)."""
        check_at_least(1, n=n)
        generator = check_generator(generator)
        z = noise((n, self.weight.shape[1]), generator, like=self.weight)
        return self.decoder(z).draw(generator)

    def log_marginal(self, x: Tensor) -> Tensor:
        """log p(x) = log N(x; μ, W Wᵀ + σ² I): (N, D) → (N,), in nats.

        By Bayes' rule p(x) = p(x|z) p(z) / p(z|x) for every z. At the posterior mean this adds
        squares where Woodbury's identity takes the difference of large numbers.

        Example:
            >>> model = LinearGaussian(torch.tensor([[2.0]]), torch.zeros(1), sigma=1.0)
            >>> exact = torch.distributions.Normal(0.0, 5.0**0.5).log_prob(torch.tensor(3.0))
            >>> bool(torch.isclose(model.log_marginal(torch.tensor([[3.0]])), exact))
            True
        """
        posterior: Distribution = self.posterior(x)
        z = posterior.mean
        log_joint: Tensor = self.decoder(z).log_prob(x) + self.prior.log_prob(z)
        return log_joint - posterior.log_prob(z)

    def exact_elbo(self, x: Tensor, q: DiagonalGaussian | FullGaussian) -> ELBO:
        """The ELBO of q without sampling.

        E_q[log p(x|z)] = log p(x|E_q[z]) − tr(Wᵀ W Cov_q) / 2σ².
        """
        check_floats("x", x, "N", *self.mean.shape, dtype=self.weight.dtype)
        covariance = (
            q.variance.diag_embed() if isinstance(q, DiagonalGaussian) else q.covariance_matrix
        )
        spread = (self.weight.mT @ self.weight * covariance).sum((-2, -1))
        reconstruction = self.decoder(q.mean).log_prob(x) - spread / (2 * self.sigma.square())
        return ELBO(reconstruction, kl_terms(q, self.prior))

    def kl_to_posterior(self, x: Tensor, q: DiagonalGaussian | FullGaussian) -> Tensor:
        """KL(q ‖ posterior) in closed form, q of N examples: (N,), in nats."""
        posterior = self.posterior(x)
        if q.batch_shape != posterior.batch_shape:
            raise ValueError(
                f"x must hold q's examples, {tuple(q.batch_shape)}, but is {tuple(x.shape)}"
            )
        return kl_divergence(q, posterior)

    def best_diagonal(self, x: Tensor) -> DiagonalGaussian:
        """The diagonal Gaussian with the highest ELBO: the mean-field optimum.

        It has the posterior's mean and the diagonal of its *precision* Λ, so its variances are
        too small where latents are correlated (Bishop 2006, section 10.1.2).

        Example:
            >>> model = LinearGaussian(torch.tensor([[1.0, 1.0]]), torch.zeros(1), sigma=1.0)
            >>> x = torch.zeros(1, 1)
            >>> model.posterior(x).variance, model.best_diagonal(x).variance
            (tensor([[0.6667, 0.6667]]), tensor([[0.5000, 0.5000]]))
        """
        mean = self.posterior(x).mean
        return DiagonalGaussian(mean, -self._precision().diagonal().log().expand_as(mean))

    def relative_variance(self, x: Tensor) -> Tensor:
        """Var[p(x|z)] / p(x)² over z ~ p(z): (N,); infinity where it overflows.

        It is that of the naive Monte-Carlo estimate of p(x) from one sample; S samples divide it
        by S. E[p(x|z)²] = (4πσ²)^{−D/2}·N(x; μ, W Wᵀ + ½σ² I), as the square of a Gaussian density
        is proportional to one of half the variance.
        """
        half = LinearGaussian(self.weight, self.mean, self.sigma / math.sqrt(2))
        log_scale = -0.5 * len(self.weight) * (4 * math.pi * self.sigma.square()).log()
        return torch.expm1(log_scale + half.log_marginal(x) - 2 * self.log_marginal(x))

    def _precision(self) -> Tensor:
        """Λ = I + Wᵀ W/σ²: (K, K)."""
        identity = torch.eye(self.weight.shape[1]).to(self.weight)
        return identity + self.weight.mT @ self.weight / self.sigma.square()
