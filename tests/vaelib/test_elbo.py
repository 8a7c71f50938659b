"""The laws of the bounds, held against two models whose log p(x) and posterior are exact.

Where it can be, an expectation over the noise is computed and not sampled. For `LinearGaussian`
everything is quadratic in ε, and the 2K points ±√K·e_k have the mean and the covariance of
N(0, I): a plain average over them is the expectation. For the toy it is a quadrature in one ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from laws import integral, real_line
from models import mixing_latents, normal, small, with_encoder
from statistical import assert_mean_equals
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Laplace, OneHotCategorical

from vaelib import (
    ELBO,
    VAE,
    DiagonalGaussian,
    FullGaussian,
    LinearGaussian,
    NonlinearGaussian,
    effective_sample_size,
    evaluate_elbo,
    evidence_lower_bound,
    importance_weighted_bound,
    kl_divergence,
    log_likelihood,
    log_marginal_monte_carlo,
    log_weights,
    sample_prior,
)

N, K = 4, 3


@pytest.fixture
def toy(device: torch.device) -> NonlinearGaussian:
    return NonlinearGaussian(device)


@pytest.fixture
def toy_x(device: torch.device) -> Tensor:
    values = [-2.2, -1.0, 0.0, 0.5, 0.8, 1.3]
    return torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(-1)


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


def two_points_a_dimension(like: Tensor) -> Tensor:
    """±√K·e_k for each row of `like` (N, K): (2K, N, K), with the moments of N(0, I)."""
    n, n_dims = like.shape
    axes = math.sqrt(n_dims) * torch.eye(n_dims).to(like)
    return torch.cat([axes, -axes]).unsqueeze(1).expand(-1, n, -1)


def some_gaussians(posterior: Any, generator: torch.Generator) -> list[Any]:
    """The prior, two arbitrary ones, and one that is correlated, for each example."""
    n, n_dims = posterior.mean.shape
    zeros = torch.zeros_like(posterior.mean)
    factor = normal(generator, n, n_dims, n_dims).tril(-1) + torch.eye(n_dims).to(zeros)
    return [
        DiagonalGaussian(zeros, zeros),
        DiagonalGaussian(posterior.mean, zeros - 3),
        DiagonalGaussian(normal(generator, n, n_dims), normal(generator, n, n_dims)),
        FullGaussian(normal(generator, n, n_dims), scale_tril=factor),
    ]


class TestLogMarginalIsElboPlusKL:
    """Log p(x) = ELBO + KL(q ‖ posterior) for whatever q, to 1e-9 nats."""

    def test_on_the_linear_model(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        truth = linear.log_marginal(x)
        for q in [*some_gaussians(linear.posterior(x), generator), linear.posterior(x)]:
            eps = two_points_a_dimension(q.mean)
            bound = evidence_lower_bound(linear, x, eps, q).per_example
            gap = linear.kl_to_posterior(x, q)
            assert (gap >= -1e-12).all()
            close = {"rtol": 0, "atol": 1e-9}
            torch.testing.assert_close(bound + gap, truth, **close)
            torch.testing.assert_close(log_weights(linear, x, eps, q).mean(0) + gap, truth, **close)
            torch.testing.assert_close(linear.exact_elbo(x, q).per_example + gap, truth, **close)

    @pytest.mark.parametrize(
        ("mu", "sigma"), [(0.0, 1.0), (0.7, 0.1), (-1.5, 0.01), (0.3, 5.0), (2.0, 1.0)]
    )
    def test_on_the_toy(
        self, toy: NonlinearGaussian, toy_x: Tensor, mu: float, sigma: float
    ) -> None:
        like = torch.zeros_like(toy_x)
        q = DiagonalGaussian(like + mu, like + 2 * math.log(sigma))
        truth, gap = toy.log_marginal(toy_x), toy.kl_to_posterior(toy_x, q)
        assert (gap > 0).all()
        eps = real_line(toy_x.device, half_width=9.0, n=3601)
        density = torch.exp(-0.5 * eps.square()) / math.sqrt(2 * math.pi)
        noise = eps.view(-1, 1, 1).expand(-1, *toy_x.shape)
        log_w = integral(density.unsqueeze(-1) * log_weights(toy, toy_x, noise, q), eps)
        close = {"rtol": 0, "atol": 1e-9}
        torch.testing.assert_close(log_w + gap, truth, **close)
        torch.testing.assert_close(toy.exact_elbo(toy_x, q).per_example + gap, truth, **close)
        for row in range(len(toy_x)):
            # Each node is an example of its own, as the bound averages over samples unweighted.
            repeated = toy_x[row].expand(len(eps), 1)
            q_row = DiagonalGaussian(q.mu[row].expand(3601, 1), q.logvar[row].expand(3601, 1))
            bound = evidence_lower_bound(toy, repeated, eps.view(1, -1, 1), q_row).per_example
            mean = integral(density * bound, eps)
            torch.testing.assert_close(mean + gap[row], truth[row], **close)

    def test_the_bound_is_below_the_truth_for_hundreds_of_q(
        self,
        linear: LinearGaussian,
        x: Tensor,
        toy: NonlinearGaussian,
        toy_x: Tensor,
        generator: torch.Generator,
    ) -> None:
        for _ in range(50):
            for model, data in ((linear, x), (toy, toy_x)):
                shape = model.encoder(data).mean.shape
                q = DiagonalGaussian(normal(generator, *shape), 2 * normal(generator, *shape))
                assert (model.exact_elbo(data, q).per_example < model.log_marginal(data)).all()


class TestEstimates:
    def test_both_estimates_are_unbiased_under_random_noise(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 20_000, N, K)
        for q in some_gaussians(linear.posterior(x), generator):
            exact = linear.exact_elbo(x, q)
            assert_mean_equals(log_weights(linear, x, eps, q), exact.per_example)
            z = q.reparameterize(eps)
            bound = evidence_lower_bound(linear, x, eps, q)
            torch.testing.assert_close(bound.reconstruction, linear.decoder(z).log_prob(x).mean(0))
            assert_mean_equals(linear.decoder(z).log_prob(x), exact.reconstruction)
            torch.testing.assert_close(bound.kl, exact.kl)

    def test_at_the_posterior_every_weight_is_the_evidence(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 50, N, K)
        log_w = log_weights(linear, x, eps)
        truth = linear.log_marginal(x).expand(50, N)
        torch.testing.assert_close(log_w, truth, rtol=0, atol=1e-9)
        # The closed-form KL does not share this: its noise does not cancel.
        one_by_one = [evidence_lower_bound(linear, x, e.unsqueeze(0)).per_example for e in eps]
        assert (torch.stack(one_by_one).std(0) > 0.1).all()

    def test_the_kl_is_summed_over_latents_as_the_reconstruction_is_over_pixels(
        self, vae: VAE, images: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 1, N, 2)
        bound = vae(images, eps)
        q = vae.encoder(images)
        z = q.reparameterize(eps)[0]
        pixels = torch.distributions.Bernoulli(logits=vae.decoder(z).logits).log_prob(images)
        expected = pixels.sum((1, 2, 3)) - kl_divergence(q, vae.prior)
        torch.testing.assert_close(bound.per_example, expected)
        assert bound.kl.shape == (N, 2)

    def test_every_sample_of_every_example_has_noise_of_its_own(
        self, vae: VAE, images: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 5, N, 2)
        log_w = log_weights(vae, images, eps)
        eps[2, 1] += 1
        changed = log_weights(vae, images, eps) != log_w
        expected = torch.zeros_like(changed)
        expected[2, 1] = True
        assert torch.equal(changed, expected)

    def test_samples_average_and_examples_permute(
        self, vae: VAE, images: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 6, N, 2)
        bound = vae(images, eps).per_example
        halves = [vae(images, half).per_example for half in eps.chunk(2)]
        torch.testing.assert_close(bound, (halves[0] + halves[1]) / 2)
        order = [2, 0, 3, 1]
        torch.testing.assert_close(vae(images[order], eps[:, order]).per_example, bound[order])

    def test_eval_changes_no_estimate_and_does_not_drop_the_noise(
        self, vae: VAE, images: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 3, N, 2)
        training = vae(images, eps).per_example, log_weights(vae, images, eps)
        vae.eval()
        evaluating = vae(images, eps).per_example, log_weights(vae, images, eps)
        assert all(map(torch.equal, training, evaluating))
        # A "test loss" at z = μ is not a bound: it would not move with the noise.
        assert (evaluating[0] != vae(images, torch.zeros_like(eps)).per_example).all()

    def test_replays_bit_for_bit_and_draws_nothing(
        self, vae: VAE, images: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 3, N, 2)
        state = torch.get_rng_state()
        assert torch.equal(vae(images, eps).per_example, vae(images, eps).per_example)
        assert torch.equal(log_weights(vae, images, eps), log_weights(vae, images, eps))
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"likelihood": "bernoulli"},
            {"likelihood": "gaussian", "sigma": None},
            {"likelihood": "bernoulli", "network": "convolutional"},
        ],
        ids=["bernoulli", "learnt sigma", "convolutional"],
    )
    def test_gradients_reach_every_parameter(
        self, arguments: dict[str, Any], images: Tensor, generator: torch.Generator
    ) -> None:
        torch.manual_seed(0)
        vae = VAE((1, 4, 4), latent_dim=2, hidden=[8], **arguments).double().to(images.device)
        for estimate in (
            lambda eps: vae(images, eps).mean(),
            lambda eps: importance_weighted_bound(log_weights(vae, images, eps)).mean(),
        ):
            vae.zero_grad()
            estimate(normal(generator, 2, N, 2)).backward()
            for name, parameter in vae.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
                assert parameter.grad.any(), name

    def test_gradients_in_q_are_those_of_the_exact_bound(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        parameters = [normal(generator, N, K).requires_grad_() for _ in range(2)]
        q = DiagonalGaussian(*parameters)
        eps = two_points_a_dimension(q.mu)
        exact = linear.exact_elbo(x, q).per_example
        expected = torch.autograd.grad(exact.sum(), parameters, retain_graph=True)
        for estimate in (
            evidence_lower_bound(linear, x, eps, q).per_example,
            log_weights(linear, x, eps, q).mean(0),
        ):
            slopes = torch.autograd.grad(estimate.sum(), parameters, retain_graph=True)
            torch.testing.assert_close(slopes, expected)

    def test_the_gradient_is_that_of_the_marginal_at_the_posterior(
        self, linear: LinearGaussian, x: Tensor
    ) -> None:
        # ∇ log p(x) = E_posterior[∇ log p(x, z)] (Fisher): the bound is tight, and so its slope.
        q = linear.posterior(x)
        parameters = [linear.weight, linear.mean, linear.sigma]
        for value in parameters:
            value.requires_grad_()
        bound = evidence_lower_bound(linear, x, two_points_a_dimension(q.mean), q)
        slopes = torch.autograd.grad(bound.per_example.sum(), parameters)
        expected = torch.autograd.grad(linear.log_marginal(x).sum(), parameters)
        torch.testing.assert_close(slopes, expected)

    @pytest.mark.slow
    def test_compiled_agrees_with_eager(
        self,
        vae: VAE,
        images: Tensor,
        generator: torch.Generator,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # `torch.compile` turns the validation of torch's distributions off for the whole process:
        # put the switch back for the tests that follow.
        switch = torch.distributions.Distribution
        monkeypatch.setattr(switch, "_validate_args", switch._validate_args)
        eps = normal(generator, 3, N, 2)

        def estimates(x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
            return vae(x, eps).per_example, log_weights(vae, x, eps)

        # One graph without a break, run by PyTorch's own kernels: no compiler is needed for this.
        compiled = torch.compile(estimates, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(images, eps), estimates(images, eps))
        # vaelib's own go on: it is a graph that reads no values, not the process.
        with pytest.raises(ValueError, match="grey pixels"):
            vae(torch.full_like(images, 0.5), eps)


class TestElbo:
    def test_beta_weighs_the_kl_alone(self) -> None:
        bound = ELBO(torch.tensor([-3.0, -5.0]), torch.tensor([[0.5, 0.0], [1.0, 0.5]]))
        assert bound.weighted(0.0).tolist() == [-3.0, -5.0]
        assert bound.weighted(4.0).tolist() == [-5.0, -11.0]
        assert torch.equal(bound.weighted(1.0), bound.per_example)
        assert bound.mean() == -5.0

    def test_one_q_for_all_examples_gives_terms_for_each(
        self, linear: LinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        eps = normal(generator, 2, N, K)
        bound = evidence_lower_bound(linear, x, eps, q=linear.prior)
        assert bound.kl.shape == (N, K)
        assert not bound.kl.any()
        likelihood = linear.decoder(eps).log_prob(x)
        torch.testing.assert_close(bound.per_example, likelihood.mean(0))
        torch.testing.assert_close(log_weights(linear, x, eps, q=linear.prior), likelihood)


class TestImportanceWeightedBound:
    def test_rises_with_the_sample_count_whatever_the_weights(
        self, generator: torch.Generator
    ) -> None:
        # Jensen, draw by draw: log of a mean of two means ≥ the mean of their two logarithms.
        log_w = 5 * normal(generator, 64, 100)

        def average_bound(samples: int) -> Tensor:
            """Over the 64 / samples groups of weights."""
            groups = log_w.view(-1, samples, 100).transpose(0, 1)
            return importance_weighted_bound(groups.flatten(1)).view(-1, 100).mean(0)

        bounds = torch.stack([average_bound(samples) for samples in (1, 2, 4, 8, 16, 32, 64)])
        assert (bounds[1:] > bounds[:-1]).all()
        torch.testing.assert_close(bounds[0], log_w.mean(0))
        torch.testing.assert_close(bounds[-1], importance_weighted_bound(log_w))

    def test_climbs_in_expectation_from_the_elbo_to_the_truth(
        self, toy: NonlinearGaussian, toy_x: Tensor, generator: torch.Generator
    ) -> None:
        # Wider than the posterior, so that the weights are bounded and their means normal.
        matched = toy.encoder(toy_x)
        q = DiagonalGaussian(matched.mu, matched.logvar + 0.5)
        truth, elbo = toy.log_marginal(toy_x), toy.exact_elbo(toy_x, q).per_example
        log_w = log_weights(toy, toy_x, normal(generator, 64 * 2_000, len(toy_x), 1), q)
        gaps = []
        for samples in (1, 2, 4, 8, 16, 32, 64):
            groups = log_w.view(samples, -1)
            bounds = importance_weighted_bound(groups).view(-1, len(toy_x))
            # exp(bound) is unbiased for p(x) at every sample count; the bound only from below.
            assert_mean_equals(torch.exp(bounds - truth), 1.0)
            gaps.append((truth - bounds).mean(0))
            if samples == 1:
                assert_mean_equals(bounds, elbo)
        gap = torch.stack(gaps)
        assert (gap[:-1] > gap[1:]).all()
        assert (gap > 0).all()
        assert (gap[-1] < 0.05 * gap[0]).all()

    def test_two_samples_give_the_integral_over_both(
        self, toy: NonlinearGaussian, toy_x: Tensor, generator: torch.Generator
    ) -> None:
        q = DiagonalGaussian(toy.encoder(toy_x).mu, toy.encoder(toy_x).logvar + 0.5)
        eps = real_line(toy_x.device, half_width=8.0, n=641)
        mass = torch.exp(-0.5 * eps.square()) / math.sqrt(2 * math.pi) * (eps[1] - eps[0])
        log_w = log_weights(toy, toy_x, eps.view(-1, 1, 1).expand(-1, *toy_x.shape), q)
        pairs = torch.stack(torch.broadcast_tensors(log_w.unsqueeze(0), log_w.unsqueeze(1)))
        bound = importance_weighted_bound(pairs.flatten(1)).view(pairs.shape[1:])
        exact = torch.einsum("i,j,ijn->n", mass, mass, bound)
        elbo = mass @ log_w
        truth = toy.log_marginal(toy_x)
        assert (elbo + 0.01 < exact).all()
        assert (exact + 0.01 < truth).all()
        sampled = log_weights(toy, toy_x, normal(generator, 2 * 20_000, len(toy_x), 1), q)
        estimates = importance_weighted_bound(sampled.view(2, -1)).view(-1, len(toy_x))
        assert_mean_equals(estimates, exact)

    def test_its_gradient_weighs_samples_by_their_weights(self, generator: torch.Generator) -> None:
        # Burda et al. 2015, eq. 14. A softmax over *losses* would favour the worst sample.
        log_w = (3 * normal(generator, 7, N)).requires_grad_()
        (slope,) = torch.autograd.grad(importance_weighted_bound(log_w).sum(), log_w)
        weights = log_w.detach().exp()
        torch.testing.assert_close(slope, weights / weights.sum(0))

    def test_is_exact_far_from_zero(self) -> None:
        log_w = torch.tensor([[0.0, -1.0], [math.log(3), 1.0]], dtype=torch.float64)
        expected = log_w.exp().mean(0).log()
        for shift in (-5e4, 5e4):
            torch.testing.assert_close(importance_weighted_bound(log_w + shift) - shift, expected)
        equal = torch.full((5, 1), -90_000.0)
        torch.testing.assert_close(importance_weighted_bound(equal), equal[0])


class TestNaiveMonteCarlo:
    def test_does_not_underflow(self) -> None:
        log_likelihood = torch.tensor([[-2_000.0], [-2_000.0 + math.log(3)]])
        assert not log_likelihood.exp().any()
        assert log_marginal_monte_carlo(log_likelihood).item() == pytest.approx(
            -2_000 + math.log(2)
        )

    def test_its_exponential_is_unbiased_with_the_stated_variance(
        self, toy: NonlinearGaussian, toy_x: Tensor, generator: torch.Generator
    ) -> None:
        toy_x = toy_x[1:]
        samples, runs = 50, 10_000
        log_likelihood = toy.decoder(normal(generator, samples * runs, 1, 1)).log_prob(toy_x)
        estimate = log_marginal_monte_carlo(log_likelihood.reshape(samples, -1))
        ratio = torch.exp(estimate.view(runs, -1) - toy.log_marginal(toy_x))
        assert_mean_equals(ratio, 1.0)
        assert_mean_equals((ratio - 1).square(), toy.relative_variance(toy_x) / samples)


class TestEffectiveSampleSize:
    def test_counts_equal_weights_and_sees_one_that_dominates(self) -> None:
        log_w = torch.zeros(10, 3, dtype=torch.float64)
        log_w[0, 1] = 800.0
        log_w[:5, 2] = -800.0
        torch.testing.assert_close(
            effective_sample_size(log_w), torch.tensor([10.0, 1.0, 5.0]).to(log_w)
        )
        assert effective_sample_size(log_w[:1]).tolist() == [1.0, 1.0, 1.0]

    def test_is_between_one_and_all_and_blind_to_the_scale(
        self, generator: torch.Generator
    ) -> None:
        log_w = 3 * normal(generator, 20, 100)
        size = effective_sample_size(log_w)
        assert ((size > 1) & (size < 20)).all()
        weights = log_w.exp()
        torch.testing.assert_close(size, weights.sum(0).square() / weights.square().sum(0))
        torch.testing.assert_close(effective_sample_size(log_w - 40_000), size)

    def test_is_nan_where_no_weight_is_above_0(self) -> None:
        log_w = torch.tensor([[-math.inf, -math.inf], [-math.inf, 0.0]])
        size = effective_sample_size(log_w)
        assert size[0].isnan()
        assert size[1] == 1

    def test_of_naive_samples_is_what_their_variance_leaves(
        self, toy: NonlinearGaussian, toy_x: Tensor, generator: torch.Generator
    ) -> None:
        toy_x = toy_x[1:]
        log_likelihood = toy.decoder(normal(generator, 200_000, 1, 1)).log_prob(toy_x)
        share = effective_sample_size(log_likelihood) / len(log_likelihood)
        expected = 1 / (1 + toy.relative_variance(toy_x))
        torch.testing.assert_close(share, expected, rtol=0.03, atol=0)


class TestErrors:
    @pytest.mark.parametrize("function", [log_weights, evidence_lower_bound])
    @pytest.mark.parametrize("shape", [(N, 2), (1, N, 3), (1, N + 1, 2), (3, 1, 2), (0, N, 2)])
    def test_noise_of_another_shape(
        self, vae: VAE, images: Tensor, function: Callable[..., Any], shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(ValueError, match=rf"eps must be \(S, {N}, 2\).*"):
            function(vae, images, torch.zeros(shape, dtype=torch.float64, device=images.device))

    @pytest.mark.parametrize("function", [log_weights, evidence_lower_bound])
    def test_observations_the_likelihood_does_not_know(
        self, vae: VAE, images: Tensor, function: Callable[..., Any]
    ) -> None:
        eps = torch.zeros(1, N, 2).to(images)
        q = vae.encoder(images)
        with pytest.raises(ValueError, match=r"x must end in the shape \(1, 4, 4\)"):
            function(vae, images[..., :3], eps, q)
        with pytest.raises(ValueError, match="x holds grey pixels"):
            function(vae, images / 2, eps)

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            (importance_weighted_bound, "log_w"),
            (effective_sample_size, "log_w"),
            (log_marginal_monte_carlo, "log_likelihood"),
        ],
    )
    @pytest.mark.parametrize("shape", [(3,), (0, 3), (1, 2, 3)])
    def test_weights_of_another_shape(
        self, function: Callable[[Tensor], Tensor], name: str, shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(ValueError, match=rf"{name} must be \(S, N\) with S ≥ 1, but is"):
            function(torch.zeros(shape))


def test_encoders_may_be_any_module(generator: torch.Generator) -> None:
    """A model is what has a prior, an encoder and a decoder: nothing has to be inherited."""

    class Encoder(nn.Module):
        def forward(self, x: Tensor) -> DiagonalGaussian:
            return DiagonalGaussian(x[:, :2], torch.zeros_like(x[:, :2]))

    linear = LinearGaussian(normal(generator, 5, 2), normal(generator, 5), sigma=1.0)
    x = linear.sample(N, generator)
    log_w = log_weights(with_encoder(linear, Encoder()), x, normal(generator, 6, N, 2))
    assert log_w.shape == (6, N)


@pytest.mark.parametrize("level", [0.0, -1234.56, -1e6, 1e6])
def test_equal_weights_are_as_many_as_they_are_at_any_level(level: float) -> None:
    size = effective_sample_size(torch.full((10, 3), level))
    torch.testing.assert_close(size, torch.full((3,), 10.0), rtol=1e-6, atol=0)


def test_weights_of_a_narrow_q_keep_their_digits_in_single_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, mean, x, mu, eps = (
        torch.randn(shape, generator=generator) for shape in ((5, 2), 5, (4, 5), (4, 2), (8, 4, 2))
    )

    def weights(dtype: torch.dtype) -> Tensor:
        model = LinearGaussian(weight.to(dtype), mean.to(dtype), sigma=1.0)
        q = DiagonalGaussian(mu.to(dtype), torch.full_like(mu, -30.0, dtype=dtype))
        return log_weights(model, x.to(dtype), eps.to(dtype), q)

    torch.testing.assert_close(
        weights(torch.float32).double(), weights(torch.float64), rtol=1e-5, atol=1e-4
    )


class TestOtherDistributions:
    """Distributions that are not what the bounds need are named, with what to do."""

    x = torch.zeros(N, 1, 4, 4)

    def model(self, **parts: Any) -> Any:
        vae = VAE((1, 4, 4), latent_dim=2, hidden=[8])
        return SimpleNamespace(
            **{"prior": vae.prior, "encoder": vae.encoder, "decoder": vae.decoder, **parts}
        )

    @pytest.mark.parametrize("bound", [evidence_lower_bound, log_weights])
    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            (
                {"encoder": lambda x: OneHotCategorical(logits=torch.zeros(len(x), 2))},
                r"model.encoder\(x\) must be .* reparameterize.* but is OneHotCategorical",
            ),
            (
                {"decoder": lambda z: Bernoulli(logits=torch.zeros(*z.shape[:2], 1, 4, 4))},
                r"model.decoder\(z\).log_prob\(x\) must be \(1, 4\), .* but is \(1, 4, 1, 4, 4\)",
            ),
            (
                {"prior": Laplace(torch.zeros(2), 1.0)},
                r"model.prior.log_prob\(z\) must be \(1, 4\), .* but is \(1, 4, 2\): .*Independent",
            ),
        ],
        ids=["discrete posterior", "pixels not summed", "prior not summed"],
    )
    def test_one_that_is_not_what_the_bound_needs(
        self, bound: Any, parts: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            bound(self.model(**parts), self.x, torch.zeros(1, N, 2))

    @pytest.mark.parametrize(
        ("event", "remedy"), [((), "wrap it in Independent"), ((2, 3, 3), "flatten z")]
    )
    def test_a_prior_whose_events_are_not_vectors(
        self, event: tuple[int, ...], remedy: str
    ) -> None:
        prior = Independent(Laplace(torch.zeros(event), 1.0), len(event))
        model = self.model(prior=prior)
        message = rf"model.prior must have events \(K,\), but has events .*: {remedy}"
        for measure in (evaluate_elbo, log_likelihood):
            with pytest.raises(ValueError, match=message):
                measure(model, self.x, 0)
        with pytest.raises(ValueError, match=r"model\.prior must have the method"):
            sample_prior(model, 3, 0)
