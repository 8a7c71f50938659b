"""Right solutions of every task, each written another way: all of them earn full points.

`WAYS["module.task"]` holds at least four; the tests also hand each of them strided views.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.optim import Optimizer
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from vaelib.exercises.autoencoders import both

__all__ = ["WAYS"]

Function = Callable[..., Any]
WAYS: dict[str, list[Callable[..., Any]]] = {}


def way(task: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        WAYS.setdefault(task, []).append(function)
        return function

    return register


# --- 1-autoencoders ------------------------------------------------------------------------------


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).mT @ (x - mean))
    return mean, vectors[:, -k:]


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    *_, v = torch.pca_lowrank(x, q=k)
    return x.mean(0), v


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows = x.numpy()
    _, _, vh = np.linalg.svd(rows - rows.mean(0))
    return torch.tensor(rows.mean(0)), torch.tensor(vh[:k].T.copy())


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = torch.einsum("nd->d", x) / len(x)
    w = torch.eye(x.shape[1], k, dtype=x.dtype)
    for _ in range(100):  # subspace iteration
        w = torch.linalg.qr((x - mean).mT @ ((x - mean) @ w)).Q
    return mean, w


@way("autoencoders.linear_autoencoder_weights")
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.double().mean(0)
    u = torch.linalg.svd((x.double() - mean).mT).U
    turned = u[:, :k] @ torch.linalg.qr(torch.ones(k, k) + torch.eye(k)).Q.double()
    return mean.to(x.dtype), turned.to(x.dtype)


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).pow(2).sum(dim=tuple(range(1, x.dim())))


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return F.mse_loss(x_hat, x, reduction="none").flatten(1).sum(1)


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    difference = (x_hat - x).reshape(len(x), -1)
    return torch.einsum("nd,nd->n", difference, difference)


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return torch.stack([((a - b) ** 2).sum() for a, b in zip(x, x_hat, strict=True)])


@way("autoencoders.reconstruction_error")
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return torch.linalg.vector_norm((x - x_hat).double().flatten(1), dim=1).square().to(x.dtype)


class Stacked(nn.Module):
    """Two networks, each a Sequential."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(data_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, code_dim)
        )
        self.decode = nn.Sequential(
            nn.Linear(code_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, data_dim),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class LayerByLayer(nn.Module):
    """Four layers, the decoder's first; biases only where data come out."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        self.to_hidden = nn.Linear(code_dim, hidden_dim, bias=False)
        self.to_data = nn.Linear(hidden_dim, data_dim)
        self.from_data = nn.Linear(data_dim, hidden_dim)
        self.to_code = nn.Linear(hidden_dim, code_dim)

    def encode(self, x: Tensor) -> Tensor:
        return self.to_code(F.relu(self.from_data(x)))

    def decode(self, h: Tensor) -> Tensor:
        return torch.sigmoid(self.to_data(self.to_hidden(h).clamp(min=0)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Matrices(nn.Module):
    """Parameters without layers, columns for outputs."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        sizes = [data_dim, hidden_dim, code_dim, hidden_dim, data_dim]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([torch.randn(a, b) / a**0.5 for a, b in pairs])
        self.biases = nn.ParameterList([torch.zeros(b) for _, b in pairs])

    def layer(self, i: int, a: Tensor) -> Tensor:
        return torch.einsum("na,ab->nb", a, self.weights[i]) + self.biases[i]

    def encode(self, x: Tensor) -> Tensor:
        return self.layer(1, torch.maximum(self.layer(0, x), torch.zeros(())))

    def decode(self, h: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-self.layer(3, self.layer(2, h).relu_())))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Layers(nn.Module):
    """Layers by name, in a loop."""

    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        sides = {"encoder": (data_dim, code_dim), "decoder": (code_dim, data_dim)}
        self.layers = nn.ModuleDict()
        for side, (n_in, n_out) in sides.items():
            self.layers[side] = nn.ModuleList(
                [nn.Linear(n_in, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, n_out)]
            )

    def encode(self, x: Tensor) -> Tensor:
        for layer in self.layers["encoder"]:
            x = layer(x)
        return x

    def decode(self, h: Tensor) -> Tensor:
        for layer in self.layers["decoder"]:
            h = layer(h)
        return Bernoulli(logits=h).probs

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


WAYS["autoencoders.Autoencoder"] = [Stacked, LayerByLayer, Matrices, Layers]


class OnTop(nn.Module):
    def __init__(self, autoencoder: Any, head: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.autoencoder.encode(x))


class Added(Layers):
    """The parameters of an autoencoder and its own."""

    def __init__(self, autoencoder: Layers, code_dim: int, n_classes: int) -> None:
        nn.Module.__init__(self)
        self.layers = autoencoder.layers
        self.weight = nn.Parameter(torch.randn(n_classes, code_dim) / code_dim**0.5)
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.encode(x), self.weight, self.bias)


def on_top(autoencoder: nn.Module, code_dim: int, n_classes: int) -> nn.Module:
    return OnTop(autoencoder, nn.Linear(code_dim, n_classes))


def in_a_row(autoencoder: Stacked, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encode, nn.Linear(code_dim, n_classes))


def all_layers(autoencoder: LayerByLayer, code_dim: int, n_classes: int) -> nn.Module:
    head = nn.Linear(code_dim, n_classes)
    nn.init.zeros_(head.weight)
    return nn.Sequential(autoencoder.from_data, nn.ReLU(), autoencoder.to_code, head)


def same_values(autoencoder: Stacked, code_dim: int, n_classes: int) -> nn.Module:
    """A copy whose parameters are replaced by the autoencoder's own."""
    copied = copy.deepcopy(autoencoder.encode)
    for mine, theirs in zip(copied, autoencoder.encode, strict=True):
        for name, parameter in theirs.named_parameters():
            setattr(mine, name, parameter)
    return nn.Sequential(copied, nn.Linear(code_dim, n_classes))


WAYS["autoencoders.initialise_classifier"] = [
    both(Stacked, in_a_row),
    both(Matrices, on_top),
    both(LayerByLayer, all_layers),
    both(Layers, Added),
    both(Stacked, same_values),
]


# --- 2-elbo --------------------------------------------------------------------------------------


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
    terms = torch.where(x > 0.5, -F.softplus(-wide), -F.softplus(wide))
    return terms.reshape(len(x), -1).sum(-1).to(logits.dtype)


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


# --- 3-kl ----------------------------------------------------------------------------------------


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


# --- 4-reparameterization ------------------------------------------------------------------------


@way("reparameterization.reparameterize")
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    rows = [m + (v / 2).exp() * e for m, v, e in zip(mu, logvar, eps, strict=True)]
    return torch.stack(rows)


@way("reparameterization.reparameterize")
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return torch.addcmul(mu, torch.exp(logvar / 2), eps)


@way("reparameterization.reparameterize")
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    z = eps.clone()
    z *= torch.exp(0.5 * logvar)
    z += mu
    return z


@way("reparameterization.reparameterize")
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    q = Normal(mu, logvar.mul(0.5).exp())
    return q.loc + torch.einsum("nk,nk->nk", q.scale, eps)


@way("reparameterization.reparameterize")
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    z = mu.double() + math.e ** (logvar.double() * 0.5) * eps.double()
    return z.to(mu.dtype)


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    lower = torch.linalg.cholesky(covariance)
    if covariance.dim() == 2:
        return mu + eps @ lower.T
    return torch.stack([m + a @ e for m, a, e in zip(mu, lower, eps, strict=True)])


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    lower = torch.linalg.cholesky(covariance).expand(len(mu), -1, -1)
    return mu + torch.einsum("nij,nj->ni", lower, eps)


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    lower = MultivariateNormal(mu, covariance_matrix=covariance).scale_tril
    return mu + (lower * eps.unsqueeze(-2)).sum(-1)


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    upper = torch.linalg.cholesky(covariance, upper=True)
    return mu + (upper.mT @ eps[..., None])[..., 0]


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    # Cholesky and Banachiewicz by hand, a row of L after the other.
    k = mu.shape[1]
    lower: list[list[Tensor]] = []
    for i in range(k):
        row: list[Tensor] = []
        for j in range(i + 1):
            rest = covariance[..., i, j]
            for a, b in zip(row, lower[j] if j < i else row, strict=False):
                rest = rest - a * b
            row.append(rest.sqrt() if i == j else rest / lower[j][j])
        lower.append(row)
    columns = [mu[:, i] + sum(lower[i][j] * eps[:, j] for j in range(i + 1)) for i in range(k)]
    return torch.stack(columns, 1)


@way("reparameterization.pathwise_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    mu, sigma = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
    f(mu + sigma * eps).mean().backward()
    assert mu.grad is not None
    assert sigma.grad is not None
    return torch.stack([mu.grad, sigma.grad])


@way("reparameterization.pathwise_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    slopes = []
    for e in eps:
        z = (mu + sigma * e).reshape(1).requires_grad_()
        slopes.append(torch.autograd.grad(f(z), z)[0].squeeze())
    slope = torch.stack(slopes)
    return torch.stack([slope.mean(), (slope * eps).mean()])


@way("reparameterization.pathwise_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = torch.add(mu, sigma * eps).requires_grad_()
    f(z).sum().backward()
    assert z.grad is not None
    path = torch.stack([torch.ones_like(eps), eps])
    return torch.einsum("ps,s->p", path, z.grad) / len(eps)


@way("reparameterization.pathwise_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    both = torch.stack([mu, sigma])
    jacobian = torch.autograd.functional.jacobian(lambda p: f(p[0] + p[1] * eps), both)
    mean: Tensor = jacobian.mean(0)
    return mean


@way("reparameterization.pathwise_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    mu, sigma = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
    ones = torch.ones_like(eps)
    grads = torch.autograd.grad(f(mu + sigma * eps), (mu, sigma), grad_outputs=ones)
    result = eps.new_zeros(2)
    for i, gradient in enumerate(grads):
        result[i] = gradient / len(eps)
    return result


@way("reparameterization.score_function_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = (mu + sigma * eps).detach()
    mu, sigma = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
    (f(z) * Normal(mu, sigma).log_prob(z)).mean().backward()
    assert mu.grad is not None
    assert sigma.grad is not None
    return torch.stack([mu.grad, sigma.grad])


@way("reparameterization.score_function_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = mu + sigma * eps
    total = eps.new_zeros(2)
    for height, one in zip(f(z), z, strict=True):
        apart = one - mu
        total[0] += height * apart / sigma**2
        total[1] += height * (apart**2 / sigma**3 - 1 / sigma)
    return total / len(eps)


@way("reparameterization.score_function_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    height = f(mu + sigma * eps).detach().numpy()
    noise = eps.numpy()
    score = np.stack([noise, noise**2 - 1]) / sigma.numpy()
    return torch.from_numpy((score @ height) / noise.size)


@way("reparameterization.score_function_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    height = torch.cat([f(mu + sigma * e.reshape(1)) for e in eps]).detach()
    score = torch.stack([eps, eps.square() - 1], -1)
    score.div_(sigma)
    return torch.einsum("s,sp->p", height, score) / height.numel()


@way("reparameterization.score_function_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = mu.double() + sigma.double() * eps.double()
    height = f(z).detach()

    def surrogate(p: Tensor) -> Tensor:
        log_q = -0.5 * ((z - p[0]) / p[1]) ** 2 - p[1].log()
        return (height * log_q).mean()

    both = torch.stack([mu, sigma]).double()
    gradient: Tensor = torch.autograd.functional.jacobian(surrogate, both)
    return gradient.to(mu.dtype)


# --- 5-training ----------------------------------------------------------------------------------


@way("training.vae_loss")
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    p = Independent(Bernoulli(logits=logits, validate_args=False), 1)
    q = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    reconstruction = -p.log_prob(x).mean()
    kl = kl_divergence(q, prior).mean()
    return reconstruction + kl, reconstruction, kl


@way("training.vae_loss")
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    total = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    reconstruction = total / x.size(0)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
    return reconstruction.add(kl), reconstruction, kl


@way("training.vae_loss")
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    reconstructions, kls = [], []
    for logit, pixels, m, v in zip(logits, x, mu, logvar, strict=True):
        terms = pixels * F.logsigmoid(logit) + (1 - pixels) * F.logsigmoid(-logit)
        reconstructions.append(-terms.sum())
        kls.append(sum((m[k] ** 2 + v[k].exp() - 1 - v[k]) / 2 for k in range(len(m))))
    reconstruction, kl = torch.stack(reconstructions).mean(), torch.stack(kls).mean()
    return [reconstruction + kl, reconstruction, kl]


@way("training.vae_loss")
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    share = torch.full((len(x),), 1 / len(x), dtype=x.dtype)
    reconstruction = torch.einsum("nd,n->", F.softplus(logits), share)
    reconstruction = reconstruction - torch.einsum("nd,nd,n->", logits, x, share)
    kl = 0.5 * torch.einsum("nk,n->", mu * mu + torch.expm1(logvar) - logvar, share)
    return reconstruction + kl, reconstruction, kl


@way("training.vae_loss")
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    log_p = F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none")
    terms = mu.double().square()
    terms.add_(logvar.double().exp())
    terms.sub_(1).sub_(logvar.double())
    loss = (log_p.sum(1) + terms.sum(1) / 2).mean()
    kl = terms.sum(1).div(2).mean()
    return tuple(term.to(logits.dtype) for term in (loss, loss - kl, kl))


def _loss(model: nn.Module, x: Tensor) -> Tensor:
    logits, mu, logvar = model(x)
    terms = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    return (terms + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)).mean()


@way("training.training_step")
def _(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    optimizer.zero_grad()
    loss = _loss(model, x)
    loss.backward()
    optimizer.step()
    return loss.item()


@way("training.training_step")
def _(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    loss = _loss(model, x)
    value = float(loss.detach())
    model.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return value


@way("training.training_step")
def _(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    parameters = list(model.parameters())
    loss = _loss(model, x)
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss.tolist()


@way("training.training_step")
def _(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    with torch.no_grad():  # the loss is asked for once more, before the step
        before = _loss(model, x).numpy()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    for row in x:  # the gradients of the examples add up
        (_loss(model, row[None]) / len(x)).backward()
    optimizer.step()
    return float(before)


def _step(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    optimizer.zero_grad()
    loss = _loss(model, x)
    loss.backward()
    optimizer.step()
    return loss.item()


@way("training.train_epoch")
def _(
    model: nn.Module, optimizer: Optimizer, x: Tensor, batch_size: int, generator: torch.Generator
) -> float:
    loader = DataLoader(TensorDataset(x), batch_size, shuffle=True, generator=generator)
    total = 0.0
    for (batch,) in loader:
        total += len(batch) * _step(model, optimizer, batch)
    return total / len(x)


@way("training.train_epoch")
def _(
    model: nn.Module, optimizer: Optimizer, x: Tensor, batch_size: int, generator: torch.Generator
) -> float:
    model.train()
    shuffled = x[torch.randperm(x.shape[0], generator=generator)]
    losses = np.empty(len(x))
    for start in range(0, len(x), batch_size):
        batch = shuffled[start : start + batch_size]
        losses[start : start + batch_size] = _step(model, optimizer, batch)
    return float(losses.mean())


@way("training.train_epoch")
def _(
    model: nn.Module, optimizer: Optimizer, x: Tensor, batch_size: int, generator: torch.Generator
) -> float:
    left = torch.rand(len(x), generator=generator).argsort().tolist()
    losses, sizes = [], []
    while left:
        batch, left = x[left[:batch_size]], left[batch_size:]
        losses.append(_step(model, optimizer, batch))
        sizes.append(len(batch))
    return float(np.average(losses, weights=sizes))


@way("training.train_epoch")
def _(
    model: nn.Module, optimizer: Optimizer, x: Tensor, batch_size: int, generator: torch.Generator
) -> float:
    sampler = RandomSampler(x, generator=generator)
    mean = torch.zeros((), dtype=torch.float64)
    for batch in BatchSampler(sampler, batch_size, drop_last=False):
        loss = _loss(model, x[batch])  # asked twice, stepped once
        mean += _step(model, optimizer, x[batch]) * len(batch) / len(x)
        del loss
    return mean.item()


@way("training.evaluate")
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    mode = model.training
    model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in x.split(batch_size):
            total += _loss(model, batch).item() * len(batch)
    model.train(mode)
    return total / len(x)


@way("training.evaluate")
@torch.inference_mode()
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    was_training = model.training
    model.train(False)
    try:
        losses = [_loss(model, row) for (row,) in DataLoader(TensorDataset(x), batch_size)]
        sizes = [min(batch_size, len(x) - i) for i in range(0, len(x), batch_size)]
        return float(np.average(torch.stack(losses).numpy(), weights=sizes))
    finally:
        if was_training:
            model.train()


@way("training.evaluate")
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    model = copy.deepcopy(model).eval().requires_grad_(False)
    values = torch.zeros(len(x), dtype=x.dtype)
    for start in range(0, len(x), batch_size):
        values[start : start + batch_size] = _loss(model, x[start : start + batch_size])
    return values.mean().item()


@way("training.evaluate")
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    mode, gradients = model.training, torch.is_grad_enabled()
    model.eval()
    torch.set_grad_enabled(False)
    total, start = 0.0, 0
    while start < len(x):
        batch = x[start : start + batch_size]
        total += float(_loss(model, batch)) * batch.shape[0]
        start += batch_size
    torch.set_grad_enabled(gradients)
    model.train(mode)
    return total / len(x)


# --- 6-generation --------------------------------------------------------------------------------

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
