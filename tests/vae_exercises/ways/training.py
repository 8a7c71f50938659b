"""Right solutions of the exercise on training, each written another way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Independent,
    Normal,
    kl_divergence,
)
from torch.optim import Optimizer
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from tests.vae_exercises.way import way

Function = Callable[..., Any]


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


@way("training.vae_loss")
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    n = logits.shape[0]
    reconstruction = (torch.logaddexp(logits, torch.zeros_like(logits)) - x * logits).sum() / n
    kl = torch.sum(mu**2 + torch.exp(logvar) - logvar - 1) / (2 * n)
    return reconstruction + kl, reconstruction.detach(), kl.detach()  # these two are shown only


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


@way("training.training_step")
def _(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = _loss(model, x)
        loss.backward()
        return loss

    return float(optimizer.step(closure))


@way("training.training_step")
def _(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    model.train()
    for parameter in model.parameters():
        parameter.grad = None
    loss = _loss(model, x)
    value = loss.clone().detach().numpy()
    loss.backward()
    optimizer.step()
    return np.float64(value)


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


@way("training.train_epoch")
def _(
    model: nn.Module, optimizer: Optimizer, x: Tensor, batch_size: int, generator: torch.Generator
) -> float:
    seed = torch.empty((), dtype=torch.int64).random_(generator=generator).item()
    order = np.random.default_rng(seed).permutation(len(x))
    losses: list[float] = []
    for start in range(0, len(order), batch_size):
        rows = torch.from_numpy(order[start : start + batch_size])
        losses += [_step(model, optimizer, x[rows])] * len(rows)
    return sum(losses) / len(losses)


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


@way("training.evaluate")
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        try:
            model.eval()
            order = torch.arange(len(x) - 1, -1, -1)
            batches = [x[rows] for rows in order.split(batch_size)]
            weighed = [_loss(model, batch) * (len(batch) / len(x)) for batch in batches]
        finally:
            for module, mode in modes.items():
                module.training = mode
    return sum(loss.item() for loss in weighed)


@way("training.evaluate")
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    was_training, total = model.training, 0.0
    model.eval()
    with torch.no_grad():  # minibatches that are as equal as can be
        for batch in x.tensor_split(-(-len(x) // batch_size)):
            total += _loss(model, batch).item() * len(batch)
    model.train(was_training)
    return total / len(x)
