"""Right solutions of the exercise on elbo, each written another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from tests.vae_exercises.way import way

Function = Callable[..., Any]


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    return Bernoulli(logits=logits).log_prob(x).flatten(1).sum(1)


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    terms = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return -terms.sum(dim=tuple(range(1, x.dim())))


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    white = torch.einsum("n...,n...->n", x, F.logsigmoid(logits))
    return white + torch.einsum("n...,n...->n", 1 - x, F.logsigmoid(-logits))


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    totals = []
    for one, pixels in zip(logits, x, strict=True):
        terms = one * pixels
        terms -= torch.logaddexp(one, torch.zeros_like(one))
        totals.append(terms.sum())
    return torch.stack(totals)


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    wide = logits.double()
    terms = torch.where(x == 1, -F.softplus(-wide), -F.softplus(wide) + x * wide)
    return terms.reshape(len(x), -1).sum(-1).to(logits.dtype)


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    terms = logits.clamp(min=0) - logits * x + (-logits.abs()).exp().log1p()
    while terms.dim() > 1:
        terms = terms.sum(-1)
    return -terms


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    pixels = Bernoulli(logits=logits, validate_args=False)
    return Independent(pixels, logits.dim() - 1).log_prob(x)


@way("elbo.bernoulli_log_likelihood")
def _(logits: Tensor, x: Tensor) -> Tensor:
    loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
    return torch.stack([-loss(logits[n], x[n]) for n in range(len(x))])


@way("elbo.gaussian_log_likelihood")
def _(mean: Tensor, x: Tensor, sigma: Any) -> Tensor:
    return Independent(Normal(mean, sigma), mean.dim() - 1).log_prob(x)


@way("elbo.gaussian_log_likelihood")
def _(mean: Tensor, x: Tensor, sigma: Any) -> Tensor:
    return (
        -F.gaussian_nll_loss(
            mean,
            x,
            (torch.zeros_like(mean) + sigma) ** 2,
            full=True,
            eps=0,
            reduction="none",
        )
        .flatten(1)
        .sum(1)
    )


@way("elbo.gaussian_log_likelihood")
def _(mean: Tensor, x: Tensor, sigma: Any) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=mean.dtype).expand_as(mean)
    distance = torch.einsum("n...,n...->n", x - mean, (x - mean) / sigma**2)
    constants = (2 * math.pi * sigma**2).log().flatten(1).sum(1)
    return -0.5 * (distance + constants)


@way("elbo.gaussian_log_likelihood")
def _(mean: Tensor, x: Tensor, sigma: Any) -> Tensor:
    totals = []
    for one, pixels in zip(mean, x, strict=True):
        terms = (pixels - one) / sigma
        terms = terms.square().mul_(-0.5)
        terms -= torch.log(sigma) if isinstance(sigma, Tensor) else math.log(sigma)
        terms -= math.log(math.sqrt(2 * math.pi))
        totals.append(terms.sum())
    return torch.stack(totals)


@way("elbo.gaussian_log_likelihood")
def _(mean: Tensor, x: Tensor, sigma: Any) -> Tensor:
    log_sigma = torch.log(sigma) if isinstance(sigma, Tensor) else np.log(sigma)
    log_sigma = log_sigma + 0 * mean
    squares = torch.square((mean - x) / sigma).flatten(1).sum(1)
    pixels = mean[0].numel()
    return -0.5 * (squares + 2 * log_sigma.flatten(1).sum(1) + pixels * np.log(2 * np.pi))


@way("elbo.gaussian_log_likelihood")
def _(mean: Tensor, x: Tensor, sigma: Any) -> Tensor:
    standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    stretch = torch.as_tensor(sigma).to(mean.dtype).log()
    return (standard.log_prob((x - mean) / sigma) - stretch).sum(tuple(range(1, x.ndim)))


@way("elbo.log_marginal_monte_carlo")
def _(log_likelihood: Tensor) -> Tensor:
    return torch.logsumexp(log_likelihood - math.log(len(log_likelihood)), dim=0)


@way("elbo.log_marginal_monte_carlo")
def _(log_likelihood: Tensor) -> Tensor:
    highest = log_likelihood.max(0).values
    return highest + (log_likelihood - highest).exp().mean(0).log()


@way("elbo.log_marginal_monte_carlo")
def _(log_likelihood: Tensor) -> Tensor:
    total = log_likelihood[0]
    for row in log_likelihood[1:]:
        total = torch.logaddexp(total, row)
    return total - math.log(log_likelihood.shape[0])


@way("elbo.log_marginal_monte_carlo")
def _(log_likelihood: Tensor) -> Tensor:
    columns = []
    for column in log_likelihood.T:
        shifted = column - column.detach().max()
        mean = torch.einsum("s->", shifted.exp()) / len(column)
        columns.append(mean.log() + column.detach().max())
    return torch.stack(columns)


@way("elbo.log_marginal_monte_carlo")
def _(log_likelihood: Tensor) -> Tensor:
    weights = torch.full((len(log_likelihood),), 1 / len(log_likelihood)).double()
    joint = log_likelihood.double().T + weights.log()
    return (joint[:, 0] - joint.log_softmax(1)[:, 0]).to(log_likelihood.dtype)


@way("elbo.log_marginal_monte_carlo")
def _(log_likelihood: Tensor) -> Tensor:
    first, *others = log_likelihood
    for row in others:
        higher, lower = torch.maximum(first, row), torch.minimum(first, row)
        first = higher + torch.log1p(torch.exp(lower - higher))
    return first - torch.tensor(1.0 + len(others), dtype=first.dtype).log()


@way("elbo.negative_elbo")
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return -(log_likelihood - kl).mean()


@way("elbo.negative_elbo")
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return kl.sum() / len(kl) - log_likelihood.sum() / len(log_likelihood)


@way("elbo.negative_elbo")
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    total = torch.zeros((), dtype=kl.dtype)
    for one, other in zip(log_likelihood, kl, strict=True):
        total = total + (other - one) / len(kl)
    return total


@way("elbo.negative_elbo")
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    loss = torch.zeros_like(kl)
    loss += kl
    loss -= log_likelihood
    return torch.einsum("n->", loss).div(kl.numel())


@way("elbo.negative_elbo")
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return 2 * torch.lerp(-log_likelihood.mean(), kl.mean(), 0.5)
