"""What students were once told wrongly: each answer is told for what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vae_exercises.task import CheckFailed

from .tasks import TASKS

Function = Callable[..., Any]
REFERENCE = {name.partition(".")[2]: task._reference for name, task in TASKS.items()}


def left_standing(mu: Tensor, logvar: Tensor) -> Tensor:
    half = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    raise NotImplementedError()
    return half.sum(-1)


def printed(mu: Tensor, logvar: Tensor) -> None:
    print(REFERENCE["kl_to_standard_normal"](mu, logvar))


def not_unpacked(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    logits, mu, logvar = model(x)
    loss = REFERENCE["vae_loss"](logits, x, mu, logvar)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.item())


def no_requires_grad(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return torch.stack(torch.autograd.grad(f(mu + sigma * eps).mean(), (mu, sigma)))


def backward_on_a_vector(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    m, s = (x.clone().requires_grad_() for x in (mu, sigma))
    f(m + s * eps).backward()
    return torch.stack([m.grad, s.grad])  # type: ignore[list-item]


class WrongShapes(nn.Module):
    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        self.layer, self.other = nn.Linear(data_dim, hidden_dim), nn.Linear(code_dim, data_dim)

    def encode(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def decode(self, h: Tensor) -> Tensor:
        return self.other(h).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def in_numpy(q: Any, p: Any, n_samples: int) -> Tensor:
    z = q.rsample((n_samples,)) if q.has_rsample else q.sample((n_samples,))
    return torch.tensor(np.mean((q.log_prob(z) - p.log_prob(z)).numpy(), 0))


TOLD: list[tuple[str, str, Function, str]] = [
    ("kl.kl_to_standard_normal", "value", lambda mu, logvar: (mu ^ 2).sum(-1), "write `**`"),
    ("kl.kl_to_standard_normal", "value", left_standing, "not finished … delete that line"),
    ("kl.kl_to_standard_normal", "value", printed, "your function returns nothing"),
    ("kl.kl_monte_carlo", "gradient", in_numpy, "NumPy keeps none"),
    ("training.training_step", "step", not_unpacked, "unpack it first"),
    ("reparameterization.pathwise_gradient", "mu", no_requires_grad, "requires_grad_()"),
    ("reparameterization.pathwise_gradient", "mu", backward_on_a_vector, "sum the vector first"),
    ("autoencoders.Autoencoder", "forward", WrongShapes, "RuntimeError was raised … print them"),
    (
        "generation.interpolate",
        "gradient",
        lambda a, b, steps: REFERENCE["interpolate"](a.detach(), b, steps),
        "the gradient in z_start is cut",
    ),
    (
        "elbo.gaussian_log_likelihood",
        "gradient",
        lambda mean, x, sigma: REFERENCE["gaussian_log_likelihood"](
            mean, x, torch.tensor(np.asarray(sigma))
        ),
        "NumPy keeps none",
    ),
]


@pytest.mark.parametrize(("name", "aspect", "answer", "message"), TOLD)
def test_an_answer_is_told_for_what_it_is(
    name: str, aspect: str, answer: Function, message: str
) -> None:
    with pytest.raises(CheckFailed) as failed:
        TASKS[name].check(aspect, answer)
    said = re.sub(r"\s+", " ", str(failed.value))
    assert all(part in said for part in message.split(" … ")), said


@pytest.mark.parametrize(("name", "aspect", "answer", "message"), TOLD)
def test_hidden_inputs_change_nothing_of_that(
    name: str, aspect: str, answer: Function, message: str
) -> None:
    assert aspect in TASKS[name]._fails(answer, "a secret")


def grad_left_behind(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    for x in (mu, sigma):
        x.requires_grad_()
        x.grad = None
    f(mu + sigma * eps).mean().backward()
    result = torch.stack([mu.grad, sigma.grad])  # type: ignore[list-item]
    mu.requires_grad_(False)
    sigma.requires_grad_(False)
    return result


def clipped(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    logits, mu, logvar = model(x)
    loss = REFERENCE["vae_loss"](logits, x, mu, logvar)[0]
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 100.0)
    optimizer.step()
    return float(loss.item())


def rotated(model: nn.Module, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    start = int(torch.randint(len(x), (), generator=generator))
    total = 0.0
    for rows in torch.arange(len(x)).roll(start).split(batch_size):
        total += REFERENCE["training_step"](model, optimizer, x[rows]) * len(rows)
    return total / len(x)


def in_float64(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return float(REFERENCE["evaluate"](model.double(), x.double(), batch_size))


def truncated(decode: Function, n: int, latent_dim: int, generator: Any) -> Tensor:
    z = torch.randn(n, latent_dim, generator=generator).clamp(-2.5, 2.5)
    return torch.sigmoid(decode(z))


PASSED_ONCE: list[tuple[str, Function]] = [
    (
        "reparameterization.reparameterize",
        lambda mu, logvar, eps: mu.clamp(-100, 100) + (0.5 * logvar).exp() * eps,
    ),
    ("reparameterization.pathwise_gradient", grad_left_behind),
    ("training.training_step", clipped),
    ("training.train_epoch", rotated),
    ("training.evaluate", in_float64),
    ("generation.sample_prior", truncated),
]


@pytest.mark.parametrize(("name", "answer"), PASSED_ONCE)
@pytest.mark.parametrize("seed", ["visible", "a secret"])
def test_a_wrong_answer_loses_a_point(name: str, answer: Function, seed: str) -> None:
    assert TASKS[name]._fails(answer, seed)


def noise_for_each_dimension(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + (0.5 * logvar).exp() * torch.randn(mu.shape[1], dtype=mu.dtype)


def on_the_sphere(decode: Function, n: int, latent_dim: int, generator: Any) -> Tensor:
    z = torch.randn(n, latent_dim, generator=generator)
    return torch.sigmoid(decode(nn.functional.normalize(z)))


def unfrozen(model: nn.Module, x: Tensor, batch_size: int) -> float:
    loss = REFERENCE["evaluate"](model, x, batch_size)
    model.requires_grad_(True)
    return float(loss)


def seeded_by_numpy(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    np.random.seed(0)  # noqa: NPY002
    return float(REFERENCE["training_step"](model, optimizer, x))


def median_taken_out(log_w: Tensor) -> Tensor:
    shift = log_w.quantile(0.3, dim=0, interpolation="nearest")
    return (log_w - shift).exp().mean(0).log() + shift


# An answer, and the name of a mistake that it is not.
MISNAMED_ONCE: list[tuple[str, str, Function, str]] = [
    ("reparameterization.reparameterize", "value", noise_for_each_dimension, "uniform noise"),
    (
        "reparameterization.score_function_gradient",
        "sigma",
        lambda f, mu, sigma, eps: (
            torch.tensor([1, -1]) * REFERENCE["score_function_gradient"](f, mu, sigma, eps)
        ),
        "the sign is wrong",
    ),
    ("generation.sample_prior", "prior", truncated, "uniform"),
    ("generation.sample_prior", "prior", on_the_sphere, "uniform"),
    (
        "generation.importance_weighted_bound",
        "numerics",
        median_taken_out,
        "the mean log-weight is taken out",
    ),
    ("training.evaluate", "mode", unfrozen, "the parameters stay frozen"),
    ("training.training_step", "step", seeded_by_numpy, "the seed is set"),
    (
        "evaluation.log_likelihood_estimate",
        "error",
        lambda log_w: (
            REFERENCE["log_likelihood_estimate"](log_w)[0],
            log_w.mean(0).std() / log_w.shape[1] ** 0.5,
        ),
        "the mean of the log-weights",
    ),
    (
        "evaluation.select_and_report",
        "shape",
        lambda validation, test: (
            validation.mean(1, keepdim=True).argmax(0),
            *REFERENCE["select_and_report"](validation, test)[1:],
        ),
        "the index is not an integer",
    ),
]


@pytest.mark.parametrize(("name", "aspect", "answer", "other"), MISNAMED_ONCE)
def test_an_answer_is_not_given_the_name_of_another_mistake(
    name: str, aspect: str, answer: Function, other: str
) -> None:
    with pytest.raises(CheckFailed) as failed:
        TASKS[name].check(aspect, answer)
    assert other not in str(failed.value).splitlines()[0]
