"""Right solutions of the exercise on generation, each written another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Normal,
)

from tests.vae_exercises.way import way

Function = Callable[..., Any]

Decode = Callable[[Tensor], Tensor]


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    z = torch.randn(n, latent_dim, generator=generator)
    return torch.sigmoid(decode(z))


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    rows = []
    with torch.no_grad():
        for _ in range(n):
            rows.append(decode(torch.randn(1, latent_dim, generator=generator)).sigmoid())
    return torch.cat(rows)


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    z = torch.empty(n, latent_dim, dtype=torch.float64)
    return 1 / (1 + torch.exp(-decode(z.normal_(generator=generator))))


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    u = torch.rand(n, latent_dim, generator=generator, dtype=torch.float64)
    return Bernoulli(logits=decode(Normal(0.0, 1.0).icdf(u).float())).probs


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    noise = [torch.randn(latent_dim, generator=generator) for _ in range(n)]
    return torch.stack([decode(z).sigmoid() for z in noise])


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    mean, deviation = torch.zeros(n, latent_dim), torch.ones(n, latent_dim)
    logits = decode(torch.normal(mean, deviation, generator=generator)).detach().numpy()
    return torch.from_numpy(1 / (1 + np.exp(-logits)))


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    was_training = decode.training if isinstance(decode, nn.Module) else False
    if isinstance(decode, nn.Module):
        decode.eval()
    with torch.no_grad():
        logits = decode(torch.randn((n, latent_dim), generator=generator))
    if isinstance(decode, nn.Module):
        decode.train(was_training)
    return torch.exp(-F.softplus(-logits))


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    # Box and Muller
    u, v = torch.rand(2, n, latent_dim, generator=generator, dtype=torch.float64)
    z = (-2 * torch.log1p(-u)).sqrt() * (2 * math.pi * v).cos()
    return 0.5 * (1 + torch.tanh(decode(z.float()) / 2))


@way("generation.sample_prior")
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    seed = int(torch.randint(2**31, (), generator=generator))
    z = np.random.default_rng(seed).standard_normal((n, latent_dim))
    return torch.special.expit(decode(torch.from_numpy(z).float()))


@way("generation.latent_grid")
def _(n: int, tail: float = 0.05) -> Tensor:
    q = Normal(0.0, 1.0).icdf(torch.linspace(tail, 1 - tail, n))
    x, y = torch.meshgrid(q, q.flip(0), indexing="xy")
    return torch.stack([x, y], dim=-1)


@way("generation.latent_grid")
def _(n: int, tail: float = 0.05) -> Tensor:
    grid = torch.zeros(n, n, 2, dtype=torch.float64)
    normal = NormalDist()
    for i in range(n):
        for j in range(n):
            x, y = (tail + (1 - 2 * tail) * k / (n - 1) for k in (j, n - 1 - i))
            grid[i, j, 0], grid[i, j, 1] = normal.inv_cdf(x), normal.inv_cdf(y)
    return grid


@way("generation.latent_grid")
def _(n: int, tail: float = 0.05) -> Tensor:
    q = 2**0.5 * torch.erfinv(2 * torch.linspace(tail, 1 - tail, n, dtype=torch.float64) - 1)
    return torch.stack([q.expand(n, n), -q[:, None].expand(n, n)], -1)


@way("generation.latent_grid")
def _(n: int, tail: float = 0.05) -> Tensor:
    q = torch.special.ndtri(torch.as_tensor(np.linspace(tail, 1 - tail, n)))
    pairs = torch.cartesian_prod(q.flip(0), q)
    return pairs.flip(-1).view(n, n, 2)


@way("generation.latent_grid")
def _(n: int, tail: float = 0.05) -> Tensor:
    q = [NormalDist().inv_cdf(p) for p in np.linspace(tail, 1 - tail, n)]
    return torch.tensor([[[x, y] for x in q] for y in reversed(q)])


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    columns = []
    for k in range(len(z_start)):
        way = torch.linspace(0, 1, steps).to(z_start) * (z_end[k] - z_start[k])
        columns.append(z_start[k] + way)
    return torch.stack(columns, dim=1)


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    weights = torch.linspace(0, 1, steps).to(z_start.dtype).unsqueeze(1)
    return torch.lerp(z_start, z_end, weights)


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps, dtype=z_start.dtype)
    return torch.outer(1 - t, z_start) + torch.outer(t, z_end)


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps, dtype=z_start.dtype)[:, None]
    return (1 - t) * z_start + t * z_end


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return torch.stack([z_start + i / (steps - 1) * (z_end - z_start) for i in range(steps)])


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    t = torch.arange(steps, dtype=z_start.dtype) / (steps - 1)
    shares = torch.stack([1 - t, t])
    return torch.einsum("es,ek->sk", shares, torch.stack([z_start, z_end]))


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    points = z_start.repeat(steps, 1)
    points[1:] += ((z_end - z_start) / (steps - 1)).expand(steps - 1, -1).cumsum(0)
    return points


@way("generation.interpolate")
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    ends = torch.stack([z_start, z_end]).mT[None]
    return F.interpolate(ends, size=steps, mode="linear", align_corners=True)[0].mT


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(dim=0) - torch.tensor(float(log_w.shape[0])).log()


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    largest = log_w.max(dim=0, keepdim=True).values
    return (largest + (log_w - largest).exp().mean(0, keepdim=True).log()).squeeze(0)


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    largest = log_w.amax(0).detach()
    return largest + torch.log(torch.einsum("sn->n", torch.exp(log_w - largest)) / len(log_w))


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    return log_w[0] - log_w.log_softmax(0)[0] - np.log(log_w.shape[0])


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    top = log_w.sort(0, descending=True).values
    return top[0] + (top[1:] - top[0]).exp().sum(0).log1p() - math.log(len(log_w))


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    total = log_w[0]
    for row in log_w[1:]:
        total = torch.logaddexp(total, row)
    return total - math.log(len(log_w))


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    shifted = log_w.double() - math.log(len(log_w))
    return torch.stack([torch.logsumexp(column, 0) for column in shifted.mT]).to(log_w.dtype)


@way("generation.importance_weighted_bound")
def _(log_w: Tensor) -> Tensor:
    equal = Categorical(logits=torch.zeros(log_w.shape[1], log_w.shape[0], dtype=log_w.dtype))
    return torch.logsumexp(equal.logits + log_w.mT, 1)
