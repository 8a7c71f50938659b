"""Answers that were once judged wrongly: some passed, and some were given a false name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence

from vae_exercises.autoencoders import Autoencoder, both
from vae_exercises.task import VISIBLE, CheckFailed

from .tasks import TASKS

Function = Callable[..., Any]
REFERENCE = {name.partition(".")[2]: task._reference for name, task in TASKS.items()}


class DoubledGradient(torch.autograd.Function):
    """The same values, with twice the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def then(name: str, change: Callable[[Any], Any]) -> Function:
    """The right solution, with its result changed."""
    return lambda *inputs: change(REFERENCE[name](*inputs))


def divergence(mu: Tensor, logvar: Tensor, most: int = 9) -> Tensor:
    terms = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
    total: Tensor = terms[:, :most].sum(-1)
    return total


def free_bits(mu: Tensor, logvar: Tensor) -> Tensor:
    return (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).clamp(min=0.02).sum(-1)


def with_a_least_variance(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    distance = (mu_q - mu_p) ** 2 / (logvar_p.exp() + 1e-12)
    ratio = logvar_q - logvar_p
    return 0.5 * (ratio.exp() + distance - 1 - ratio).sum(-1)


def samples(q: Any, n_samples: int) -> Tensor:
    return q.rsample((n_samples,)) if q.has_rsample else q.sample((n_samples,))


def through_densities(q: Any, p: Any, n_samples: int) -> Any:
    z = samples(q, n_samples)
    return (q.log_prob(z).exp() / p.log_prob(z).exp()).log().mean(0)


def closed_form_where_it_is_a_sum(q: Any, p: Any, n_samples: int) -> Any:
    if isinstance(q, Categorical):
        return kl_divergence(q, p)
    return REFERENCE["kl_monte_carlo"](q, p, n_samples)


def vectors_and_images_alone(x: Tensor, x_hat: Tensor) -> Tensor:
    squares = (x - x_hat) ** 2
    return squares.sum((1, 2, 3)) if x.dim() == 4 else squares.sum(1)


class Classifier(nn.Module):
    def __init__(self, autoencoder: Any, code_dim: int, n_classes: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.layer = nn.Linear(code_dim, n_classes)

    def forward(self, x: Tensor) -> Any:
        return self.layer(self.autoencoder.encode(x))


class OfCentredCodes(Classifier):
    def forward(self, x: Tensor) -> Any:
        codes = self.autoencoder.encode(x)
        return self.layer(codes - codes.mean(0))


class OfTanh(Classifier):
    def forward(self, x: Tensor) -> Any:
        return self.layer(self.autoencoder.encode(x).tanh())


class SoftmaxOverExamples(Classifier):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).softmax(0)


def bounded_prior(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    z = torch.randn(n, latent_dim, generator=generator).clamp(-2.5, 2.5)
    mean = decode(z)
    return z, mean + sigma * torch.randn(mean.shape, generator=generator)


def sorted_prior(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    z = torch.randn(n, latent_dim, generator=generator).sort(0).values
    mean = decode(z)
    return z, mean + sigma * torch.randn(mean.shape, generator=generator)


def with_one_width(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Any:
    alike = width.mean().expand_as(width)
    return REFERENCE["log_marginal_quadrature"](log_likelihood, log_prior, alike)


def shifted_by_the_smallest(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    log_joint = log_likelihood + log_prior[:, None]
    density = (log_joint - log_joint.amin(0)).exp()
    return density / (width @ density)


WRONG: list[tuple[str, Function]] = [
    ("kl.kl_to_standard_normal", lambda mu, logvar: divergence(mu, logvar, most=3)),
    ("kl.kl_to_standard_normal", free_bits),
    ("kl.kl_between_gaussians", with_a_least_variance),
    ("kl.kl_monte_carlo", then("kl_monte_carlo", lambda kl: 1.001 * kl)),
    ("kl.kl_monte_carlo", then("kl_monte_carlo", lambda kl: kl + 1e-3)),
    ("kl.kl_monte_carlo", then("kl_monte_carlo", lambda kl: kl.clamp(-1000, 1000))),
    ("kl.kl_monte_carlo", through_densities),
    ("kl.kl_monte_carlo", closed_form_where_it_is_a_sum),
    (
        "elbo.bernoulli_log_likelihood",
        then("bernoulli_log_likelihood", lambda result: result.clamp(-1000, 1000)),
    ),
    (
        "elbo.bernoulli_log_likelihood",
        lambda logits, x: REFERENCE["bernoulli_log_likelihood"](logits.clamp(-88, 88), x),
    ),
    (
        "latent_variables.marginal_monte_carlo",
        then("marginal_monte_carlo", lambda pair: tuple(part.clamp(0, 1000) for part in pair)),
    ),
    (
        "latent_variables.marginal_monte_carlo",
        then("marginal_monte_carlo", lambda pair: tuple(part + 1e-8 for part in pair)),
    ),
    ("latent_variables.ancestral_sample", bounded_prior),
    ("autoencoders.reconstruction_error", vectors_and_images_alone),
    ("autoencoders.initialise_classifier", OfCentredCodes),
]


@pytest.mark.parametrize(("name", "answer"), WRONG)
def test_a_wrong_answer_loses_a_point(name: str, answer: Function) -> None:
    for seed in (VISIBLE, "first secret", "second secret"):
        assert TASKS[name]._fails(answer, seed)


# What an answer must not be told, since it is not so.
FALSE: list[tuple[str, str, Function, str]] = [
    (
        "kl.kl_to_standard_normal",
        "gradient",
        then("kl_to_standard_normal", DoubledGradient.apply),
        "twice the KL",
    ),
    (
        "kl.kl_to_standard_normal",
        "gradient",
        then("kl_to_standard_normal", lambda kl: kl.round(decimals=2)),
        "The values are right",
    ),
    (
        "kl.kl_to_standard_normal",
        "gradient",
        lambda mu, logvar: divergence(mu.detach(), logvar),
        "Nothing depends on mu",
    ),
    (
        "latent_variables.log_marginal_quadrature",
        "gradient",
        with_one_width,
        "the widths are missing",
    ),
    ("latent_variables.ancestral_sample", "prior", sorted_prior, "one number for all"),
    ("latent_variables.posterior_on_grid", "numerics", shifted_by_the_smallest, "underflow"),
    ("autoencoders.initialise_classifier", "logits", OfTanh, "a ReLU between"),
    ("autoencoders.initialise_classifier", "logits", SoftmaxOverExamples, "a sigmoid"),
]


def told(name: str, aspect: str, answer: Function) -> str:
    with pytest.raises(CheckFailed) as failed:
        TASKS[name].check(aspect, answer)
    return re.sub(r"\s+", " ", str(failed.value))


@pytest.mark.parametrize(("name", "aspect", "answer", "message"), FALSE)
def test_an_answer_is_not_told_what_is_not_so(
    name: str, aspect: str, answer: Function, message: str
) -> None:
    assert message not in told(name, aspect, answer)


class Base(Autoencoder._reference):  # type: ignore[name-defined, misc]
    pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "encode": lambda self, x: self.to_code(F.relu6(self.inwards(x))),
                "decode": lambda self, h: self.to_data(F.relu6(self.outwards(h))).sigmoid(),
            },
            "a leaky ReLU instead",
        ),
        (
            {"decode": lambda self, h: F.hardsigmoid(self.to_data(self.outwards(h).relu()))},
            "hidden units bend",
        ),
        (
            {"encode": lambda self, x: self.to_code(self.inwards(x).relu()).softmax(-1)},
            "a sigmoid after the code",
        ),
        (
            {"encode": lambda self, x: F.normalize(self.to_code(self.inwards(x).relu()))},
            "a tanh after the code",
        ),
    ],
)
def test_a_network_is_not_told_what_is_not_so(changes: dict[str, Function], message: str) -> None:
    network = type("Network", (Base,), changes)
    assert message not in told("autoencoders.Autoencoder", "layers", network)


def test_two_mistakes_are_named_one_by_one() -> None:
    """The first aspect that is lost decides; a form that is lost as well hides nothing."""
    doubled = lambda mu, logvar: 2 * divergence(mu, logvar)[:, None]  # noqa: E731
    assert "the ½ is missing" in told("kl.kl_to_standard_normal", "value", doubled)
    assert "the ½ is missing" in told("kl.kl_to_standard_normal", "gradient", doubled)
    cut = lambda mu, logvar: divergence(mu, logvar).detach().float()  # noqa: E731
    assert "the gradient is cut" in told("kl.kl_to_standard_normal", "gradient", cut)


def test_a_class_of_the_students_own_is_used() -> None:
    class Own(Base):
        pass

    assert not TASKS["autoencoders.initialise_classifier"]._fails(both(Own, Classifier))
