"""Models that stand for whole kinds of models: what `fit` and the evaluations must be right for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaelib import (
    ELBO,
    VAE,
    DiagonalGaussian,
    FullGaussian,
    LatentVariableModel,
    LinearGaussian,
    evidence_lower_bound,
)
from vaelib.elbo import log_weights

__all__ = [
    "Conditional",
    "ConditionalWithWeights",
    "Counting",
    "FullPosterior",
    "LearntPrior",
    "MixturePrior",
    "TwoLayers",
    "mixing_latents",
    "normal",
    "small",
    "with_encoder",
    "with_modes",
]

SHAPE, K = (1, 8, 8), 3


def mixing_latents(device: torch.device) -> LinearGaussian:
    """Each pixel mixes latents, so that the posterior is correlated: the gap is 0.6 nats."""
    rows = [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
    weight = torch.tensor(rows, dtype=torch.float64, device=device)
    return LinearGaussian(weight, weight.mean(1), sigma=0.8)


def small(device: torch.device) -> VAE:
    """A VAE of binary images (1, 4, 4), in float64."""
    torch.manual_seed(0)
    return VAE((1, 4, 4), latent_dim=2, hidden=[8]).double().to(device)


def with_encoder(model: LatentVariableModel, encoder: Callable[[Tensor], Any]) -> Any:
    """A model with another encoder."""
    return SimpleNamespace(prior=model.prior, decoder=model.decoder, encoder=encoder)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in float64, on the generator's device."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def with_modes(seed: int = 0, *, dropout: float = 0.5, normalised: bool = True) -> VAE:
    """A VAE whose training mode and evaluation mode differ, in dropout and batch normalisation."""
    torch.manual_seed(seed)
    vae = VAE(SHAPE, K, [16])
    between = nn.BatchNorm1d(16) if normalised else nn.Identity()
    vae.encoder.body = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), between, nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(16, 2 * K),
    )  # fmt: skip
    return vae


class LearntPrior(VAE):
    """The prior's mean and variance are parameters."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [16])
        self.prior_mu = nn.Parameter(torch.zeros(K))
        self.prior_logvar = nn.Parameter(torch.zeros(K))

    @property
    def prior(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.prior_mu, self.prior_logvar)


class MixturePrior(VAE):
    """A mixture of Gaussians as prior, as the VampPrior is: no closed form for the KL."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [16])
        self.means = nn.Parameter(torch.randn(4, K))

    @property
    def prior(self) -> Any:
        parts = Independent(Normal(self.means, torch.ones_like(self.means)), 1)
        return MixtureSameFamily(Categorical(logits=torch.zeros_like(self.means[:, 0])), parts)


class FullPosterior(VAE):
    """q(z|x) with a full covariance: the KL does not split into dimensions."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [16])
        self.factor = nn.Parameter(torch.zeros(K, K))
        self.diagonal = self.encoder

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__("full" if name == "encoder" else name)

    def full(self, x: Tensor) -> FullGaussian:
        q = super().__getattribute__("_modules")["encoder"](x)
        scale = torch.diag_embed(q.stddev) + self.factor.tril(-1)
        return FullGaussian(q.mean, scale_tril=scale)


class TwoLayers(nn.Module):
    """z₁ depends on z₂, and so does its prior: only its own forward knows the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = VAE(SHAPE, K, [16]), VAE((K,), 2, [8], likelihood="gaussian")

    @property
    def prior(self) -> DiagonalGaussian:
        return DiagonalGaussian.standard(K + 2, like=next(self.parameters()))

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        q = self.first.encoder(x)
        z = q.reparameterize(eps[..., :K])
        rows, noise = z.reshape(-1, K), eps[..., K:].reshape(1, -1, 2)
        upper = self.second(rows, noise).per_example.view(len(eps), len(x))
        kl = (q.log_prob_at(eps[..., :K]) - upper).mean(0)
        return ELBO(self.first.decoder(z).log_prob(x).mean(0), kl.unsqueeze(1))

    def log_weights(self, x: Tensor, eps: Tensor) -> Tensor:
        q = self.first.encoder(x)
        z = q.reparameterize(eps[..., :K])
        rows, noise = z.reshape(-1, K), eps[..., K:].reshape(1, -1, 2)
        upper = log_weights(self.second, rows, noise).view(len(eps), len(x))
        return self.first.decoder(z).log_prob(x) + upper - q.log_prob_at(eps[..., :K])


class Conditional(VAE):
    """Encoder and decoder see a label beside x and z."""

    def __init__(self) -> None:
        super().__init__((64 + 10,), K, [16])
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, eps: Tensor, y: Tensor) -> ELBO:
        self.seen.append(y)
        label = nn.functional.one_hot(y, 10).to(x.dtype)
        return evidence_lower_bound(self, torch.cat([x.flatten(1), label], 1), eps)


class ConditionalWithWeights(Conditional):
    """Knows its importance weights as well."""

    def log_weights(self, x: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        label = nn.functional.one_hot(y, 10).to(x.dtype)
        both = torch.cat([x.flatten(1), label], 1)
        return log_weights(self, both, eps, q=self.encoder(both))


class Counting(VAE):
    """Counts its steps in Python, which a graph would not."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [16])
        self.steps = 0

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        self.steps += 1
        return super().forward(x, eps)


def sampled_bound(model: Any, x: Tensor, eps: Tensor) -> Tensor:
    """Its ELBO from `log_weights` alone, (N,)."""
    return log_weights(model, x, eps).mean(0)
