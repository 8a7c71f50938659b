"""Right solutions of the exercise on kl, each written another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    Normal,
    kl_divergence,
)

from tests.vae_exercises.way import way

Function = Callable[..., Any]


@way("kl.kl_to_standard_normal")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    q = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    return kl_divergence(q, Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1))


@way("kl.kl_to_standard_normal")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    total = mu.new_zeros(len(mu))
    for k in range(mu.shape[1]):
        total = total + (mu[:, k].square() + torch.expm1(logvar[:, k]) - logvar[:, k]) / 2
    return total


@way("kl.kl_to_standard_normal")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    half = torch.full((mu.shape[1],), 0.5, dtype=mu.dtype)
    squares = torch.einsum("nk,nk,k->n", mu, mu, half)
    return squares + torch.einsum("nk,k->n", logvar.exp() - logvar - 1, half)


@way("kl.kl_to_standard_normal")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    terms = mu * mu
    terms += torch.exp(logvar)
    terms -= 1
    terms -= logvar
    return torch.stack([row.sum() / 2 for row in terms])


@way("kl.kl_to_standard_normal")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return -(1 + logvar - mu.pow(2) - logvar.double().exp()).sum(dim=1).mul(0.5).to(mu.dtype)


@way("kl.kl_between_gaussians")
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    q, p = Normal(mu_q, (logvar_q / 2).exp()), Normal(mu_p, (logvar_p / 2).exp())
    return kl_divergence(q, p).sum(-1)


@way("kl.kl_between_gaussians")
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    rows = []
    for a, b, c, d in zip(mu_q, logvar_q, mu_p, logvar_p, strict=True):
        rows.append(((b - d).exp() + (a - c) ** 2 * (-d).exp() - 1 + d - b).sum() / 2)
    return torch.stack(rows)


@way("kl.kl_between_gaussians")
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    scaled = (mu_q - mu_p) / (0.5 * logvar_p).exp()
    distance = torch.einsum("nk,nk->n", scaled, scaled)
    ratio = logvar_q - logvar_p
    return 0.5 * (distance + (torch.expm1(ratio) - ratio).sum(1))


@way("kl.kl_between_gaussians")
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    terms = logvar_q - logvar_p
    terms = torch.expm1(terms) - terms
    terms.add_((mu_q - mu_p).square().div_(logvar_p.exp()))
    return terms.sum(-1).mul_(0.5)


@way("kl.kl_monte_carlo")
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    total = torch.zeros(())
    for _ in range(n_samples if n_samples < 100 else 100):
        draws = (n_samples // 100,) if n_samples >= 100 else (1,)
        z = q.rsample(draws) if q.has_rsample else q.sample(draws)
        total = total + (q.log_prob(z) - p.log_prob(z)).mean(0)
    return total / min(n_samples, 100)


@way("kl.kl_monte_carlo")
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    try:
        z = q.rsample(torch.Size([n_samples]))
    except NotImplementedError:
        z = q.sample(torch.Size([n_samples]))
    return q.log_prob(z).sum(0) / n_samples - p.log_prob(z).sum(0) / n_samples


@way("kl.kl_monte_carlo")
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = (q.rsample if q.has_rsample else q.sample)((n_samples,))
    log_ratio = p.log_prob(z) - q.log_prob(z)
    return torch.einsum("s...->...", -log_ratio) / n_samples


@way("kl.kl_monte_carlo")
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    if isinstance(q, Normal):  # the sampler written out
        eps = torch.randn(n_samples, *q.batch_shape, dtype=q.loc.dtype)
        z = q.loc + q.scale * eps
    else:
        z = q.rsample((n_samples,)) if q.has_rsample else q.sample((n_samples,))
    return torch.stack(list(q.log_prob(z) - p.log_prob(z))).mean(0)


@way("kl.kl_monte_carlo")
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    draw = q.rsample if q.has_rsample else q.sample
    z = draw(sample_shape=torch.Size((n_samples,)))
    return torch.mean(q.log_prob(value=z) - p.log_prob(value=z), dim=0)


@way("kl.kl_to_standard_normal")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return torch.vmap(lambda m, v: 0.5 * (m @ m + (v.exp() - v - 1).sum()))(mu, logvar)
