"""A Gaussian moved by transforms is a density, and knows it where noise puts it."""

from __future__ import annotations

import pytest
import torch
from statistical import assert_mean_equals
from torch import Tensor
from torch.distributions import Normal, Transform
from torch.distributions.transforms import AbsTransform, AffineTransform, TanhTransform
from unchanged import distribution_checks

from vaelib import (
    VAE,
    DiagonalGaussian,
    FullGaussian,
    TransformedGaussian,
    evidence_lower_bound,
    kl_divergence,
    log_weights,
    noise,
)

with distribution_checks():
    import zuko


def gaussian(k: int = 2, n: int = 3) -> DiagonalGaussian:
    torch.manual_seed(0)
    return DiagonalGaussian(torch.randn(n, k).double(), torch.randn(n, k).double() / 2)


def full_gaussian() -> FullGaussian:
    scale = torch.tensor([[1.0, 0.0], [0.7, 0.5]]).double()
    return FullGaussian(gaussian().mu, scale_tril=scale)


def autoregressive(k: int = 2) -> Transform:
    torch.manual_seed(1)
    flow = zuko.flows.MAF(k, transforms=2, hidden_features=(8,)).double()
    for p in flow.parameters():
        p.requires_grad_(False).mul_(1.5)  # farther from the identity
    return flow().transform


TRANSFORMS = {
    "each dimension alone": [TanhTransform()],
    "the whole vector": [AffineTransform(1.0, -2.0, event_dim=1)],
    "autoregressive": [autoregressive()],
    "several": [TanhTransform(), autoregressive(), AffineTransform(0.0, 4.0, event_dim=1)],
}


@pytest.mark.parametrize("base", [gaussian(), full_gaussian()], ids=["diagonal", "full"])
@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_density_at_noise_is_the_density_at_the_sample(
    base: DiagonalGaussian | FullGaussian, transforms: list[Transform]
) -> None:
    q = TransformedGaussian(base, transforms)
    eps = torch.randn(5, 3, 2).double()
    # torch's own way: T is inverted.
    torch.testing.assert_close(q.log_prob_at(eps), q.log_prob(q.reparameterize(eps)))


def test_no_transform_leaves_the_gaussian() -> None:
    q, eps = TransformedGaussian(gaussian(), []), torch.randn(5, 3, 2).double()
    assert torch.equal(q.reparameterize(eps), gaussian().reparameterize(eps))
    assert torch.equal(q.log_prob_at(eps), gaussian().log_prob_at(eps))


def test_an_affine_map_gives_the_gaussian_that_it_should() -> None:
    base, eps = gaussian(), torch.randn(5, 3, 2).double()
    q = TransformedGaussian(base, AffineTransform(1.0, -2.0, event_dim=1))
    expected = Normal(1 - 2 * base.mu, 2 * base.stddev)
    log_p = expected.log_prob(q.reparameterize(eps)).sum(-1)
    torch.testing.assert_close(q.log_prob_at(eps), log_p)


def plane(side: int = 401, end: float = 20.0) -> tuple[Tensor, float]:
    axis = torch.linspace(-end, end, side).double()
    return torch.cartesian_prod(axis, axis), float((axis[1] - axis[0]) ** 2)


def test_it_integrates_to_one() -> None:
    q = TransformedGaussian(gaussian(n=1), autoregressive())
    points, area = plane()
    assert q.log_prob(points).exp().sum().mul(area) == pytest.approx(1, abs=1e-3)


def test_the_sampled_kl_of_the_bound_is_unbiased(generator: torch.Generator) -> None:
    q = TransformedGaussian(gaussian(n=1), autoregressive())
    vae = VAE(shape=(4,), latent_dim=2, hidden=[3]).double()
    points, area = plane()
    log_q = q.log_prob(points)
    kl = (log_q.exp() * (log_q - vae.prior.log_prob(points))).sum() * area
    with torch.no_grad():
        n = 20_000  # the same example over and over, a sample each
        eps = noise((1, n, 2), generator, like=points)
        base = DiagonalGaussian(*(p.expand(n, 2) for p in (q.base_dist.mu, q.base_dist.logvar)))
        bound = evidence_lower_bound(
            vae, torch.ones(n, 4).double(), eps, TransformedGaussian(base, autoregressive())
        )
    assert_mean_equals(bound.kl[:, 0], kl)


def test_the_bound_has_the_gradient_of_its_terms() -> None:
    vae = VAE(shape=(4,), latent_dim=2, hidden=[3]).double()
    mu = torch.zeros(1, 2).double().requires_grad_()
    q = TransformedGaussian(DiagonalGaussian(mu, torch.zeros_like(mu)), autoregressive())
    x, eps = torch.ones(1, 4).double(), torch.randn(7, 1, 2).double()
    (one,) = torch.autograd.grad(evidence_lower_bound(vae, x, eps, q).mean(), mu)
    (other,) = torch.autograd.grad(log_weights(vae, x, eps, q).mean(), mu)
    torch.testing.assert_close(one, other)


def test_the_kl_has_no_closed_form() -> None:
    with pytest.raises(NotImplementedError):
        kl_divergence(TransformedGaussian(gaussian(), autoregressive()), gaussian())


@pytest.mark.parametrize(
    ("base", "transforms", "named"),
    [
        (Normal(torch.zeros(2), 1.0), [], "base"),
        (gaussian(), AbsTransform(), "transforms"),
        (gaussian(), ["tanh"], "transforms"),
        (gaussian(), AffineTransform(0.0, 1.0, event_dim=2), "transforms"),
    ],
)
def test_what_cannot_be_moved_is_refused(base: object, transforms: object, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named} must"):
        TransformedGaussian(base, transforms)  # type: ignore[arg-type]
