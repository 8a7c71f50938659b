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
