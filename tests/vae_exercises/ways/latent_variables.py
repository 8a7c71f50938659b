"""Right solutions of the exercise on latent variables, each written another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from tests.vae_exercises.way import way

Function = Callable[..., Any]


@way("latent_variables.ancestral_sample")
def _(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    z = torch.normal(torch.zeros(n, latent_dim), torch.ones(n, latent_dim), generator=generator)
    mean = decode(z)
    return z, torch.normal(mean, torch.full_like(mean, sigma), generator=generator)


@way("latent_variables.ancestral_sample")
def _(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    codes, data = [], []
    for _ in range(n):
        z = torch.randn(1, latent_dim, generator=generator)
        mean = decode(z)[0]
        codes.append(z[0])
        data.append(mean + sigma * torch.randn(len(mean), generator=generator))
    return torch.stack(codes), torch.stack(data)


@way("latent_variables.ancestral_sample")
def _(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    z = torch.empty(n, latent_dim).normal_(generator=generator)
    x = decode(z).clone()
    x += torch.empty_like(x).normal_(0, sigma, generator=generator)
    return z, x


@way("latent_variables.ancestral_sample")
def _(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    uniform = torch.rand(n, latent_dim, generator=generator)
    z = Normal(0.0, 1.0).icdf(uniform.clamp(1e-7, 1 - 1e-7))
    mean = decode(z)
    noise = torch.randn(*mean.shape, generator=generator)
    with torch.no_grad():
        return z, torch.add(mean, noise, alpha=sigma)


@way("latent_variables.log_marginal_quadrature")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    terms = log_likelihood + log_prior.unsqueeze(1) + torch.log(width).unsqueeze(1)
    highest = terms.max(dim=0).values
    return highest + (terms - highest).exp().sum(dim=0).log()


@way("latent_variables.log_marginal_quadrature")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    weight = log_prior + torch.log(width)
    return torch.stack([(row + weight).logsumexp(0) for row in log_likelihood.T])


@way("latent_variables.log_marginal_quadrature")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    joint = log_likelihood + log_prior.view(-1, 1)
    shift = joint.detach().amax(0)
    return shift + torch.einsum("gn,g->n", (joint - shift).exp(), width).log()


@way("latent_variables.log_marginal_quadrature")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    total = log_likelihood[0] + log_prior[0] + width[0].log()
    for g in range(1, len(width)):
        total = torch.logaddexp(total, log_likelihood[g] + log_prior[g] + width[g].log())
    return total


@way("latent_variables.log_marginal_quadrature")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    logs = [math.log(w) for w in width.tolist()]
    weight = log_prior + torch.tensor(logs, dtype=log_prior.dtype)
    return (log_likelihood.T + weight).logsumexp(-1)


@way("latent_variables.posterior_on_grid")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    weight = log_prior + width.log()
    return torch.softmax(log_likelihood + weight[:, None], 0) / width[:, None]


@way("latent_variables.posterior_on_grid")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    joint = log_likelihood + log_prior.unsqueeze(-1)
    density = (joint - joint.max(0).values).exp()
    return density / (width @ density)


@way("latent_variables.posterior_on_grid")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    columns = []
    for row in log_likelihood.T:
        joint = row + log_prior
        marginal = torch.logsumexp(joint + width.log(), 0)
        columns.append(torch.exp(joint - marginal))
    return torch.stack(columns, 1)


@way("latent_variables.posterior_on_grid")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    joint = log_likelihood.clone()
    joint += log_prior[:, None]
    joint -= joint.amax(0)
    joint.exp_()
    joint /= (joint * width[:, None]).sum(0)
    return joint


@way("latent_variables.posterior_on_grid")
def _(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    weight = (log_prior + width.log())[:, None]
    cells = torch.log_softmax(log_likelihood + weight, dim=0)
    return (cells - width.log()[:, None]).exp()


@way("latent_variables.marginal_monte_carlo")
def _(likelihood: Tensor) -> tuple[Tensor, Tensor]:
    return likelihood.mean(0), (likelihood.var(0) / len(likelihood)).sqrt()


@way("latent_variables.marginal_monte_carlo")
def _(likelihood: Tensor) -> tuple[Tensor, Tensor]:
    s = len(likelihood)
    estimate = likelihood.sum(0) / s
    squares = (likelihood - estimate).square().sum(0)
    return estimate, (squares / (s * (s - 1))).sqrt()


@way("latent_variables.marginal_monte_carlo")
def _(likelihood: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(likelihood, dim=0)
    return mean, torch.sqrt(variance) / math.sqrt(likelihood.size(0))


@way("latent_variables.marginal_monte_carlo")
def _(likelihood: Tensor) -> tuple[Tensor, Tensor]:
    estimates, errors = [], []
    for column in likelihood.T:
        estimates.append(column.mean())
        errors.append(column.std() / len(column) ** 0.5)
    return torch.stack(estimates), torch.stack(errors)


@way("latent_variables.marginal_monte_carlo")
def _(likelihood: Tensor) -> tuple[Tensor, Tensor]:
    numbers = likelihood.detach().numpy()
    error = numbers.std(0, ddof=1) / math.sqrt(len(numbers))
    result = torch.from_numpy(numbers.mean(0)), torch.from_numpy(error)
    return result[0].to(likelihood.dtype), result[1].to(likelihood.dtype)


@way("latent_variables.ancestral_sample")
def _(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    z = torch.randn(n, latent_dim, generator=generator)
    return z, decode(z) + sigma * torch.randn(decode(z).shape, generator=generator)


@way("latent_variables.ancestral_sample")
def _(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    data_dim = decode(torch.zeros(1, latent_dim)).shape[1]
    noise = torch.randn(n, latent_dim + data_dim, generator=generator)
    z = noise[:, :latent_dim]
    return z, decode(z) + sigma * noise[:, latent_dim:]


@way("latent_variables.marginal_monte_carlo")
def _(likelihood: Tensor) -> tuple[Tensor, Tensor]:
    s = len(likelihood)
    without_one = (likelihood.sum(0) - likelihood) / (s - 1)  # the jackknife
    return likelihood.mean(0), without_one.var(0).mul((s - 1) ** 2 / s).sqrt()
