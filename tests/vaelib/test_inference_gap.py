"""The two parts of the gap, held against a model whose best diagonal Gaussian is known."""

from __future__ import annotations

import math

import pytest
import torch
from models import mixing_latents, normal, small, with_encoder
from statistical import z_threshold
from torch import Tensor

from vaelib import (
    VAE,
    DiagonalGaussian,
    LinearGaussian,
    fit_posterior,
    inference_gap,
)

N, K = 4, 3


@pytest.fixture
def linear(device: torch.device) -> LinearGaussian:
    return mixing_latents(device)


@pytest.fixture
def x(linear: LinearGaussian, generator: torch.Generator) -> Tensor:
    return linear.sample(N, generator)


@pytest.fixture
def vae(device: torch.device) -> VAE:
    return small(device)


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return (normal(generator, N, 1, 4, 4) > 0).double()


class TestInferenceGap:
    def test_fit_posterior_finds_the_mean_field_optimum(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        best = linear.best_diagonal(x)
        fitted = fit_posterior(linear, x, generator, steps=1_000)
        torch.testing.assert_close(fitted.mu, best.mu, rtol=0, atol=0.05)
        torch.testing.assert_close(fitted.logvar, best.logvar, rtol=0, atol=0.1)
        lost = linear.exact_elbo(x, best).per_example - linear.exact_elbo(x, fitted).per_example
        assert (lost >= 0).all()
        assert (lost < 0.01).all()

    def test_fit_posterior_starts_at_the_encoder(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        far = DiagonalGaussian(torch.full((N, K), 9.0).to(x), torch.full((N, K), -4.0).to(x))
        model = with_encoder(linear, lambda x: far)
        fitted = fit_posterior(model, x, generator, steps=2, learning_rate=0.01)
        assert ((fitted.mu - far.mu).abs() < 0.03).all()
        assert (far.mu == 9.0).all()

    def test_fit_posterior_replays_and_leaves_the_model_alone(
        self, vae: VAE, images: Tensor
    ) -> None:
        before = [value.clone() for value in vae.parameters()]
        first, second = (
            fit_posterior(vae, images, torch.Generator(images.device).manual_seed(1), steps=5)
            for _ in range(2)
        )
        assert torch.equal(first.mu, second.mu)
        assert torch.equal(first.logvar, second.logvar)
        assert all(map(torch.equal, before, vae.parameters()))
        assert all(value.grad is None for value in vae.parameters())

    def test_fit_posterior_draws_noise_for_each_example(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        same = x[:1].expand(N, -1)
        fitted = fit_posterior(linear, same, generator, steps=3, samples=1)
        assert len({tuple(row.tolist()) for row in fitted.logvar}) == N

    def test_splits_the_gap_into_its_known_parts(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        best = linear.best_diagonal(x)
        bad = DiagonalGaussian(best.mu + 0.3, best.logvar + 0.5)
        samples = 20_000
        truth = linear.log_marginal(x)
        approximation = linear.kl_to_posterior(x, best)
        for q in (best, bad):
            model = with_encoder(linear, lambda x, q=q: q)
            gap = inference_gap(model, x, truth, generator, samples=samples)
            amortisation = linear.kl_to_posterior(x, q) - approximation
            # Each bound is a mean of `samples`; 0.01 for the search, as tested above.
            eps = normal(generator, 1_000, N, K)
            noise = linear.decoder(q.reparameterize(eps)).log_prob(x).std(0)
            allowed = 0.01 + 2 * z_threshold(4 * N) * noise / math.sqrt(samples)
            assert ((gap.approximation - approximation).abs() < allowed).all()
            assert ((gap.amortisation - amortisation).abs() < allowed).all()
            assert ((gap.total - linear.kl_to_posterior(x, q)).abs() < allowed).all()
            assert (approximation > allowed).all()  # else a gap of 0 would pass
            assert q is best or (amortisation > allowed).all()

    def test_an_optimal_encoder_has_no_amortisation_gap(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        # Both bounds on one draw: most of the noise cancels.
        model = with_encoder(linear, linear.best_diagonal)
        gap = inference_gap(model, x, linear.log_marginal(x), generator)
        assert (gap.amortisation.abs() < 0.02).all()

    def test_arguments_of_the_gap(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        truth = linear.log_marginal(x)
        with pytest.raises(ValueError, match=r"log_marginal must be \(4,\).*\(\)"):
            inference_gap(linear, x, truth.mean(), generator)
        with pytest.raises(ValueError, match="samples must be an integer of at least 1, not 0"):
            inference_gap(linear, x, truth, generator, samples=0)
        with pytest.raises(ValueError, match="steps must be an integer of at least 2, not 1"):
            fit_posterior(linear, x, generator, steps=1)
        with pytest.raises(ValueError, match="samples must be an integer of at least 1, not 0"):
            fit_posterior(linear, x, generator, steps=5, samples=0)
