"""The models of the page *Your own model* are what it says they are.

Its classes and functions are taken from the page itself, so what a reader copies is what is tested.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from statistical import assert_mean_equals
from torch import Tensor, nn
from torch.distributions import Normal
from unchanged import distribution_checks

from vaelib import (
    VAE,
    DiagonalGaussian,
    Images,
    evaluate_elbo,
    fit,
    importance_weighted_bound,
    importance_weighted_elbo,
    load_dataset,
    log_weights,
    noise,
)

PAGE = Path(__file__).parents[2] / "chapters" / "your-own-model.md"
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def page() -> Any:
    """What the page imports and defines; its trainings are left to the book's build."""
    cells = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    code = re.sub(r"^:.*?$|^---\n.*?^---$", "", "\n".join(cells), flags=re.M | re.S)
    kept = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if isinstance(node, kept)]
    names: dict[str, Any] = {"__name__": "page"}
    with distribution_checks():
        exec(compile(tree, PAGE.name, "exec"), names)
    return SimpleNamespace(**names)


@pytest.fixture(scope="module")
def train() -> Images:
    return load_dataset("digits").binarise("dynamic")


@pytest.fixture(scope="module")
def validation() -> Images:
    return load_dataset("digits", "validation").binarise("static", 0)


def trained(model: nn.Module, *data: Images, epochs: int = 3, **options: Any) -> Any:
    options = {"learning_rate": 5e-3, "precision": "float32", **options}
    return fit(model, *data, epochs=epochs, device="cpu", progress=False, **options)


def some(n: int = 4, samples: int = 3, k: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.bernoulli(torch.full((n, *SHAPE), 0.5), generator=generator)
    eps = torch.randn(samples, n, k, generator=generator)
    return x.double(), eps.double(), torch.arange(n) % 10


def plain(hidden: list[int] | None = None) -> VAE:
    torch.manual_seed(0)
    return VAE(SHAPE, latent_dim=8, hidden=hidden or [32])


def test_the_history_of_an_iwae_is_the_bound_of_k_samples(validation: Images) -> None:
    vae, objective = plain(), importance_weighted_elbo
    history = trained(vae, validation, validation, epochs=1, samples=5, objective=objective)
    x = validation.floats()
    with torch.no_grad():
        bound = importance_weighted_bound(log_weights(vae, x, noise((5, len(x), 8), 0, like=x)))
        single = evaluate_elbo(vae, validation, 0, samples=5).mean()
    assert history.validation_elbo[0].item() == pytest.approx(bound.mean().item(), rel=1e-6)
    assert bound.mean() > single + 0.05


def test_free_bits_keep_the_value_and_pay_for_no_nat_below_the_floor(page: Any) -> None:
    vae = plain().double()
    x, eps, _ = some()
    bound, free = vae(x, eps), page.free_bits(vae, x, eps, λ=1e6)
    torch.testing.assert_close(free.per_example, bound.per_example)
    parameter = vae.encoder.body[-1][-1].bias
    (one,) = torch.autograd.grad(free.mean(), parameter)
    (other,) = torch.autograd.grad(vae(x, eps).reconstruction.mean(), parameter)
    torch.testing.assert_close(one, other)
    (one,) = torch.autograd.grad(page.free_bits(vae, x, eps, λ=0).mean(), parameter)
    (other,) = torch.autograd.grad(vae(x, eps).mean(), parameter)
    torch.testing.assert_close(one, other)


def test_free_bits_keep_every_unit(page: Any, train: Images) -> None:
    used = {}
    for objective in (page.free_bits, None):
        history = trained(plain([128, 64]), train, objective=objective, epochs=10)
        used[objective] = int((history.kl[-1] > 0.15).sum())
    assert used[page.free_bits] == 8
    assert used[None] <= 4


def test_a_learnt_prior_becomes_the_moments_of_all_codes(page: Any, validation: Images) -> None:
    torch.manual_seed(0)
    model = page.LearntPrior(SHAPE, latent_dim=8, hidden=[32])
    trained(model, validation, epochs=5)
    with torch.no_grad():
        model.mu.zero_(), model.logvar.zero_()
    before = evaluate_elbo(model, validation, 0).mean()
    alone = torch.optim.Adam([model.mu, model.logvar], lr=0.05)
    trained(model, validation, epochs=300, optimizer=alone, learning_rate=None, batch_size=200)
    with torch.no_grad():
        q = model.encoder(validation.floats())
        mean, variance = q.mean.mean(0), q.variance.mean(0) + q.mean.var(0, correction=0)
    torch.testing.assert_close(model.mu.detach(), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(model.logvar.detach().exp(), variance, atol=0.01, rtol=0.01)
    assert evaluate_elbo(model, validation, 0).mean() > before + 0.001


def test_a_vampprior_is_the_mixture_of_posteriors(page: Any) -> None:
    torch.manual_seed(0)
    model = page.VampPrior(torch.rand(5, *SHAPE), latent_dim=8, hidden=[32])
    with torch.no_grad():
        q = model.encoder(model.pseudo_inputs)
        z = torch.randn(7, 8)
        parts = Normal(q.mu, q.stddev).log_prob(z.unsqueeze(1)).sum(-1)
        torch.testing.assert_close(model.prior.log_prob(z), parts.logsumexp(1) - math.log(5))


def test_a_vampprior_trains_with_validation(page: Any, train: Images, validation: Images) -> None:
    torch.manual_seed(0)
    model = page.VampPrior(train[:20].floats(0), latent_dim=8, hidden=[32])
    start = model.pseudo_inputs.detach().clone()
    history = trained(model, train, validation)
    assert history.validation_elbo[-1] > history.validation_elbo[0] + 1
    assert history.kl.shape == (3, 1)
    assert (model.pseudo_inputs - start).abs().max() > 1e-3
    own = evaluate_elbo(model, validation, 0).mean()
    assert history.validation_elbo[-1].item() == pytest.approx(own.item(), rel=1e-6)


def test_a_flow_posterior_trains_with_validation(
    page: Any, train: Images, validation: Images
) -> None:
    model = plain()
    model.encoder = page.FlowEncoder(model.encoder, 8)
    still = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in still]
    history = trained(model, train, validation)
    assert history.validation_elbo[-1] > history.validation_elbo[0] + 1
    assert all(not torch.equal(p, old) for p, old in zip(still, before, strict=True))


@pytest.mark.slow
def test_a_flow_posterior_bends_where_the_gaussian_cannot(page: Any) -> None:
    """log p(x) is that of the decoder, which is fixed: only the posterior can raise the bound."""
    torch.manual_seed(0)

    class Distance(nn.Module):  # from the origin, so that the posterior is a ring
        def forward(self, z: Tensor) -> Tensor:
            return z.norm(dim=-1, keepdim=True)

    x = torch.full((256, 1), 2.0)
    bounds = {}
    for name in ("gaussian", "flow"):
        torch.manual_seed(0)
        vae = VAE(shape=(1,), latent_dim=2, hidden=[4], likelihood="gaussian", sigma=0.3)
        vae.decoder.body = Distance()
        if name == "flow":
            vae.encoder = page.FlowEncoder(vae.encoder, 2)
        trained(vae, x, epochs=200, batch_size=256, learning_rate=1e-2)
        bounds[name] = evaluate_elbo(vae, x, 0, samples=20).mean()
    assert bounds["flow"] > bounds["gaussian"] + 0.2


def test_a_conditional_model_is_validated_with_its_labels(
    page: Any, train: Images, validation: Images
) -> None:
    torch.manual_seed(0)
    model = page.ConditionalVAE()
    history = trained(model, train, validation, epochs=8)
    right = evaluate_elbo(model, validation, 0).mean()
    assert history.validation_elbo[-1].item() == pytest.approx(right.item(), rel=1e-6)
    wrong = replace(validation, labels=(validation.labels + 1) % 10)
    assert evaluate_elbo(model, wrong, 0).mean() < right - 0.5


def test_two_layers_are_evaluated_by_their_own_bound(page: Any, validation: Images) -> None:
    torch.manual_seed(0)
    model = page.TwoLayers()
    history = trained(model, validation, validation, epochs=1, samples=2)
    x = validation.floats()
    with torch.no_grad():
        own = model(x, noise((2, len(x), 12), 0, like=x)).mean().item()
    assert evaluate_elbo(model, validation, 0, samples=2).mean().item() == pytest.approx(own)
    assert history.validation_elbo[0].item() == pytest.approx(own)


def test_the_bound_of_two_layers_is_that_of_the_joint(page: Any) -> None:
    """Against log p(x, z₁, z₂) − log q(z₁, z₂|x), written out with torch's distributions."""
    torch.manual_seed(0)
    model = page.TwoLayers().double()
    x, eps, _ = some(n=1, samples=20_000, k=12)
    with torch.no_grad():
        q_1 = model.encoder(x)
        z_1 = q_1.reparameterize(eps[..., :8])
        q_2 = model.upper.encoder(z_1[:, 0])
        z_2 = q_2.reparameterize(eps[:, 0, 8:])
        joint = (
            model.decoder(z_1).log_prob(x)[:, 0]
            + Normal(model.upper.decoder(z_2).mean, 1.0).log_prob(z_1[:, 0]).sum(-1)
            + Normal(0.0, 1.0).log_prob(z_2).sum(-1)
        )
        log_q = Normal(q_1.mu, q_1.stddev).log_prob(z_1[:, 0]).sum(-1)
        log_q = log_q + Normal(q_2.mu, q_2.stddev).log_prob(z_2).sum(-1)
        assert_mean_equals(joint - log_q - model(x, eps).per_example, 0.0)
        torch.testing.assert_close(page.weights_of_both(model, x, eps)[:, 0], joint - log_q)


def m2(page: Any) -> Any:
    torch.manual_seed(0)
    return page.M2().double()


def test_m2_knows_a_label_or_sums_it_out(page: Any) -> None:
    model = m2(page)
    x, eps, y = some()
    given = [super(page.M2, model).forward(x, eps, torch.full_like(y, c)) for c in range(10)]
    log_joint = torch.stack([b.per_example for b in given]) - math.log(10)
    torch.testing.assert_close(model(x, eps, y).per_example, log_joint[y, torch.arange(4)])
    log_q = model.classifier(x).log_softmax(-1).T
    summed = (log_q.exp() * (log_joint - log_q)).sum(0)
    unknown = torch.full_like(y, -1)
    torch.testing.assert_close(model(x, eps, unknown).per_example, summed)
    assert (summed <= log_joint.logsumexp(0)).all()


def test_the_classifier_of_m2_has_a_gradient_from_images_without_labels(page: Any) -> None:
    model = m2(page)
    x, eps, y = some()
    last = model.classifier[-1][-1].bias
    bound = page.m2(model, x, eps, torch.full_like(y, -1))
    (gradient,) = torch.autograd.grad(bound.mean(), last)
    assert gradient.abs().max() > 1e-3
    extra = model(x, eps, y).per_example - page.m2(model, x, eps, y, α=3).per_example
    torch.testing.assert_close(extra, -3 * model.classifier(x).log_softmax(-1)[torch.arange(4), y])


@pytest.mark.slow
def test_m2_learns_from_images_without_labels(page: Any, train: Images, validation: Images) -> None:
    known = torch.rand(len(train), generator=torch.Generator().manual_seed(1)) < 0.03
    few = replace(train, labels=torch.where(known, train.labels, -1))
    wrong = {}
    for name, data, epochs in (("all", few, 40), ("labelled", few[known], 480)):
        torch.manual_seed(0)
        model = page.M2()
        trained(model, data, objective=page.m2, epochs=epochs)
        guess = model.classifier(validation.floats()).argmax(-1)
        wrong[name] = float((guess != validation.labels).float().mean())
    assert wrong["all"] < wrong["labelled"] - 0.03


def test_a_prior_over_all_noise_says_how_much_there_is(page: Any) -> None:
    for model, k in ((page.TwoLayers(), 12), (page.ConditionalVAE(), 8), (page.M2(), 8)):
        assert isinstance(model.prior, DiagonalGaussian)
        assert model.prior.event_shape == (k,)
