"""Right solutions of the exercise on reparameterization, each written another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import AffineTransform, MultivariateNormal, Normal

from tests.vae_exercises.way import way

Function = Callable[..., Any]


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


@way("reparameterization.reparameterize")
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return AffineTransform(mu, torch.exp(logvar / 4) ** 2)(eps)


class _Sample(torch.autograd.Function):
    """Its own backward pass."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        moved = (logvar / 2).exp() * eps
        ctx.save_for_backward(moved)
        return mu + moved

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Any:
        (moved,) = ctx.saved_tensors
        return above[0], 0.5 * above[0] * moved, None


@way("reparameterization.reparameterize")
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    z: Tensor = _Sample.apply(mu, logvar, eps)  # type: ignore[no-untyped-call]
    return z


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    _, upper = torch.linalg.qr((vectors * values.sqrt().unsqueeze(-2)).mT)
    lower = upper.mT * upper.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return mu + (lower @ eps[:, :, None])[:, :, 0]


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


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    lower = torch.linalg.cholesky(covariance).tril()
    return mu + torch.matmul(eps[:, None, :], lower.mT).squeeze(1)


@way("reparameterization.sample_gaussian")
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    if covariance.ndim == 2:
        covariance = torch.stack([covariance] * len(mu))
    lower, _ = torch.linalg.cholesky_ex(covariance)
    z = torch.bmm(lower, eps.reshape(*eps.shape, 1)).reshape(eps.shape)
    z += mu
    return z


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


@way("reparameterization.pathwise_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    both = torch.tensor([mu.item(), sigma.item()], dtype=mu.dtype, requires_grad=True)
    torch.mean(f(both[0] + both[1] * eps)).backward()
    assert both.grad is not None
    return both.grad


@way("reparameterization.pathwise_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return torch.stack(torch.func.grad(lambda m, s: f(m + s * eps).mean(), (0, 1))(mu, sigma))


@way("reparameterization.score_function_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z, both = mu + sigma * eps, torch.stack([mu, sigma])

    def log_q(p: Tensor, one: Tensor) -> Tensor:
        return Normal(p[0], p[1], validate_args=False).log_prob(one)

    score = torch.vmap(torch.func.grad(log_q), (None, 0))(both, z)
    mean: Tensor = (f(z).detach()[:, None] * score).mean(0)
    return mean


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


@way("reparameterization.score_function_gradient")
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    with torch.no_grad():
        z = mu + sigma * eps
        height = f(z)
    leaves = [mu.clone().requires_grad_(), sigma.clone().requires_grad_()]
    log_q = Normal(*leaves).log_prob(z)
    found = torch.autograd.grad(log_q, leaves, grad_outputs=height / len(z))
    return torch.stack(found)
