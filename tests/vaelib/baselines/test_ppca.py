"""Probabilistic PCA: equal to the multivariate normal, a bound on 8 bits, and where VAEs start."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from statistical import assert_mean_equals
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaelib import PPCA, VAE, LinearGaussian, bits_per_dim, load_dataset

K = 3
SHAPE = (2, 4, 5)


@pytest.fixture
def images(device: torch.device) -> Tensor:
    """8-bit images of few factors and some noise: (200, 2, 4, 5)."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(200, 5, generator=generator) @ torch.randn(5, 40, generator=generator)
    noise = torch.randn(200, 40, generator=generator)
    grey = 128 + 20 * factors + 8 * noise
    return (grey.round().clamp(0, 255) / 255).view(200, *SHAPE).to(device)


class TestFit:
    def test_is_the_linear_gaussian_of_highest_likelihood(self, images: Tensor) -> None:
        ppca = PPCA.fit(images, K)
        expected = LinearGaussian.maximum_likelihood(images.flatten(1).double(), K)
        torch.testing.assert_close(ppca.model.sigma, expected.sigma)
        torch.testing.assert_close(ppca.model.weight.abs(), expected.weight.abs())
        assert ppca.shape == SHAPE

    def test_reads_images_and_tensors(self) -> None:
        digits = load_dataset("digits", "test")
        one, other = PPCA.fit(digits, K), PPCA.fit(digits.floats(), K)
        torch.testing.assert_close(one.model.mean, other.model.mean)
        assert one.shape == digits.shape

    def test_more_dimensions_fit_better(self, images: Tensor) -> None:
        values = [PPCA.fit(images, k).log_prob(images).mean().item() for k in (1, 3, 5, 7)]
        assert values == sorted(values)


class TestLogProb:
    def test_is_that_of_the_multivariate_normal(self, images: Tensor) -> None:
        ppca = PPCA.fit(images, K)
        weight, sigma = ppca.model.weight, ppca.model.sigma
        covariance = weight @ weight.mT + sigma.square() * torch.eye(40).to(weight)
        x = images.double()
        expected = MultivariateNormal(ppca.model.mean, covariance).log_prob(x.flatten(1))
        torch.testing.assert_close(ppca.log_prob(x), expected)
        assert ppca.log_prob(images).dtype == torch.float32

    def test_8bit_is_the_mean_over_dequantised_pixels(
        self, images: Tensor, generator: torch.Generator
    ) -> None:
        ppca = PPCA.fit(images, K)
        x = images[:3].double()
        noise = torch.rand(20_000, *x.shape, generator=generator, device=x.device).to(x) - 0.5
        moved = (x + noise / 255).flatten(0, 1)
        value = ppca.log_prob(moved).view(-1, 3) - 40 * math.log(255)
        assert_mean_equals(value, ppca.log_prob_8bit(x))

    @pytest.mark.parametrize("sigma", [0.3, 2.0, 20.0])
    def test_8bit_is_below_the_mass_of_a_step(self, sigma: float, device: torch.device) -> None:
        """In one dimension the mass is known: the bound holds, and is tight for σ of many steps."""
        weight = torch.tensor([[1e-9]], dtype=torch.float64, device=device)
        ppca = PPCA(LinearGaussian(weight, weight[0] + 0.5, sigma / 255), (1,))
        x = torch.arange(256).to(weight).view(-1, 1) / 255
        normal = torch.distributions.Normal(0.5, sigma / 255)
        edges = torch.tensor([-0.5, 0.5]).to(weight) / 255
        mass = normal.cdf(x + edges[1]) - normal.cdf(x + edges[0])
        bound = ppca.log_prob_8bit(x)
        seen = mass[:, 0] > 1e-12
        gap = mass[seen, 0].log() - bound[seen]
        assert (gap > -1e-9).all()
        assert bound.exp().sum() <= 1
        if sigma == 20:
            assert gap.max() < 5e-3

    def test_bits_are_fewer_than_eight(self) -> None:
        train, test = load_dataset("digits"), load_dataset("digits", "test").floats()
        bits = bits_per_dim(PPCA.fit(train, 16).log_prob_8bit(test), (1, 8, 8)).mean()
        assert 5 < bits < 8


class TestImages:
    def test_are_reconstructed_by_projection(self, images: Tensor) -> None:
        """As σ goes to 0 the posterior's mean is PCA; before, it is pulled towards μ."""
        ppca = PPCA.fit(images, 5)
        error = (ppca.reconstruct(images) - images).square().mean()
        centred = (images.flatten(1) - images.flatten(1).mean(0)).double()
        directions = torch.linalg.svd(centred, full_matrices=False).Vh[:5]
        projected = centred @ directions.mT @ directions
        best = (projected - centred).square().mean()
        assert best <= error < 1.1 * best
        assert ppca.reconstruct(images).shape == images.shape

    def test_are_sampled_with_the_models_moments(
        self, images: Tensor, generator: torch.Generator
    ) -> None:
        ppca = PPCA.fit(images, K)
        samples = ppca.sample(20_000, generator)
        assert samples.shape == (20_000, *SHAPE)
        rows = samples.flatten(1).double() - ppca.model.mean
        assert_mean_equals(rows, 0.0)
        assert_mean_equals(rows.square(), ppca.model.weight.square().sum(1))


class TestInitialise:
    def test_gives_a_vae_whose_bound_is_the_log_likelihood(
        self, images: Tensor, generator: torch.Generator
    ) -> None:
        """Exactly: q is the posterior, and 2K points average a quadratic without error."""
        ppca = PPCA.fit(images, K)
        vae = VAE(SHAPE, K, [4], network="residual", likelihood="gaussian").to(images).double()
        ppca.initialise(vae)
        x = images[:7].double()
        eye = torch.eye(K).to(x)
        eps = (K**0.5 * torch.cat([eye, -eye])).unsqueeze(1).expand(2 * K, len(x), K)
        torch.testing.assert_close(vae(x, eps).per_example, ppca.log_prob(x))
        torch.testing.assert_close(vae.decoder(vae.encoder(x).mean).mean, ppca.reconstruct(x))

    def test_gives_the_discretised_logistic_its_mean_and_spread(self, images: Tensor) -> None:
        ppca = PPCA.fit(images, K)
        vae = VAE(SHAPE, K, [4], network="residual", likelihood="discretised logistic").to(images)
        ppca.initialise(vae)
        p = vae.decoder(vae.encoder(images).mean)
        torch.testing.assert_close(p.loc, ppca.reconstruct(images))
        spread = p.log_scale.exp() * math.pi / math.sqrt(3)
        torch.testing.assert_close(spread, ppca.model.sigma.to(spread).expand_as(spread))

    def test_leaves_every_block_to_be_trained(self, images: Tensor) -> None:
        """The last layers are zero and get a gradient; a step later all others do."""
        ppca = PPCA.fit(images, K)
        vae = VAE(SHAPE, K, [4], network="residual", likelihood="gaussian").to(images)
        ppca.initialise(vae)
        adam = torch.optim.Adam(vae.parameters(), lr=1e-3)
        eps = torch.randn(1, len(images), K, device=images.device)
        for _ in range(2):
            adam.zero_grad()
            (-vae(images, eps).mean()).backward()
            adam.step()
        for name, parameter in vae.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


Call = Callable[[PPCA], object]
BAD_CALLS: dict[str, tuple[Call, str]] = {
    "k": (lambda _: PPCA.fit(torch.rand(5, 4), 4), r"^k must be below 4, .* not 4"),
    "k of a picture": (lambda _: PPCA.fit(torch.rand(5, 1, 2, 3), 7), r"^k must be below 6, .* 7"),
    "constant images": (
        lambda _: PPCA.fit(torch.ones(5, 4), 1),
        r"^images must vary in more than k = 1 dim",
    ),
    "one image": (lambda _: PPCA.fit(torch.rand(1, 4), 1), r"^images must be \(N ≥ 2, D, …\)"),
    "NaN": (lambda _: PPCA.fit(torch.rand(5, 4) * torch.nan, 1), "^images must be finite"),
    "dynamic images": (
        lambda _: PPCA.fit(load_dataset("digits").binarise("dynamic"), 1),
        "^images must be grey or static, not dynamic",
    ),
    "shape": (lambda p: p.log_prob(torch.rand(5, 4, 5)), r"x must be \(N, 2, 4, 5\)"),
    "pixels": (lambda p: PPCA(p.model, (3,)), r"shape must hold the model's 40 pixels, not \(3,\)"),
    "another network": (
        lambda p: p.initialise(VAE(SHAPE, K, likelihood="gaussian")),
        r'vae must have linear parts to initialise: network="residual"',
    ),
    "other latents": (
        lambda p: p.initialise(VAE(SHAPE, 2, network="residual", likelihood="gaussian")),
        r"vae must have the shape \(2, 4, 5\) and 3 latent dimensions, but has .* and 2",
    ),
    "binary pixels": (
        lambda p: p.initialise(VAE(SHAPE, K, network="residual")),
        r"vae must have a Gaussian or a discretised logistic likelihood",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_named(call: Call, message: str, images: Any) -> None:
    with pytest.raises(ValueError, match=message):
        call(PPCA.fit(images, K))
