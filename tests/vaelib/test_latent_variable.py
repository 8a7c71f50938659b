"""The oracles, held against other integrals, against torch's Gaussians and against samples."""

from __future__ import annotations

import math

import pytest
import torch
from laws import integral, real_line
from statistical import assert_mean_equals
from torch import Tensor

from vaelib import Arc, DiagonalGaussian, NonlinearGaussian


@pytest.fixture
def toy(device: torch.device) -> NonlinearGaussian:
    return NonlinearGaussian(device)


@pytest.fixture
def x(device: torch.device) -> Tensor:
    """Observations of the toy: on both humps, between, where two z compete, and far out."""
    values = [-6.0, -2.2, -1.0, 0.0, 0.5, 0.8, 1.3, 4.0]
    return torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(-1)


def gaussian(mu: float, sigma: float, like: Tensor) -> DiagonalGaussian:
    """N(μ, σ²) for each row of `like` (N, 1)."""
    return DiagonalGaussian(torch.full_like(like, mu), torch.full_like(like, 2 * math.log(sigma)))


def count_peaks(values: Tensor) -> int:
    """How many local maxima reach 5 % of the highest."""
    middle = values[1:-1]
    peaks = (middle > values[:-2]) & (middle > values[2:]) & (middle > 0.05 * values.max())
    return int(peaks.sum())


class TestNonlinearGaussian:
    def test_log_marginal_is_the_integral_of_the_joint(
        self, toy: NonlinearGaussian, x: Tensor
    ) -> None:
        z = real_line(x.device)
        noise = torch.distributions.Normal(toy.f(z).unsqueeze(-1), toy.sigma)
        prior = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
        joint = (noise.log_prob(x.squeeze(-1)) + prior.log_prob(z).unsqueeze(-1)).exp()
        torch.testing.assert_close(
            toy.log_marginal(x), integral(joint, z).log(), rtol=0, atol=1e-10
        )

    def test_marginal_is_a_density_with_two_humps(self, toy: NonlinearGaussian) -> None:
        grid = torch.linspace(-5, 5, 1001, dtype=torch.float64, device=toy.prior.mu.device)
        density = toy.log_marginal(grid.unsqueeze(-1)).exp()
        assert integral(density, grid).item() == pytest.approx(1, abs=1e-10)
        assert count_peaks(density) == 2

    def test_posterior_is_a_density_with_the_encoders_mean_and_variance(
        self, toy: NonlinearGaussian, x: Tensor
    ) -> None:
        z = real_line(x.device)
        density = toy.log_posterior(z.view(-1, 1, 1), x).exp()
        q = toy.encoder(x)
        mean = integral(density * z.unsqueeze(-1), z)
        variance = integral(density * (z.unsqueeze(-1) - mean).square(), z)
        torch.testing.assert_close(integral(density, z), torch.ones(len(x)).to(x))
        torch.testing.assert_close(q.mean.squeeze(-1), mean, rtol=0, atol=1e-10)
        torch.testing.assert_close(q.variance.squeeze(-1), variance, rtol=0, atol=1e-10)

    def test_some_posterior_has_two_modes(self, toy: NonlinearGaussian, x: Tensor) -> None:
        z = real_line(x.device).view(-1, 1, 1)
        density = toy.log_posterior(z, x).exp()
        assert count_peaks(density[:, 4]) == 2  # x = 0.5
        assert count_peaks(density[:, 7]) == 1  # x = 4

    @pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (0.7, 0.1), (-1.5, 0.05), (0.3, 1.9)])
    def test_terms_are_the_integrals_they_claim(
        self, toy: NonlinearGaussian, x: Tensor, mu: float, sigma: float
    ) -> None:
        q = gaussian(mu, sigma, like=x)
        z = real_line(x.device)
        nodes = z.view(-1, 1, 1)
        log_q = q.log_prob(nodes)
        reconstruction = integral(log_q.exp() * toy.decoder(nodes).log_prob(x), z)
        divergence = integral(log_q.exp() * (log_q - toy.log_posterior(nodes, x)), z)
        to_prior = integral(log_q.exp() * (log_q - toy.prior.log_prob(nodes)), z)
        bound = toy.exact_elbo(x, q)
        close = {"rtol": 0, "atol": 1e-10}
        torch.testing.assert_close(bound.reconstruction, reconstruction, **close)
        torch.testing.assert_close(bound.kl.squeeze(-1), to_prior, **close)
        torch.testing.assert_close(toy.kl_to_posterior(x, q), divergence, **close)

    @pytest.mark.parametrize("sigma", [1e-6, 1e-2, 1.0, 30.0])
    def test_quadrature_is_as_good_as_a_finer_one_at_every_width(
        self, toy: NonlinearGaussian, sigma: float
    ) -> None:
        q = gaussian(-1.2, sigma, like=torch.zeros(1, 1).to(toy.prior.mu))
        t = torch.linspace(-12, 12, 24 * 3000 + 1, dtype=torch.float64, device=q.mu.device)
        values = toy.f(q.mu.squeeze() + q.stddev.squeeze() * t).square()
        finer = integral(values * torch.exp(-0.5 * t.square()) / math.sqrt(2 * math.pi), t)
        coarse = toy.expectation(q, lambda z: toy.f(z).squeeze(-1).square())
        assert coarse.item() == pytest.approx(finer.item(), abs=1e-10)

    def test_best_diagonal_is_the_top_of_the_elbo(self, toy: NonlinearGaussian) -> None:
        x = torch.linspace(-3, 3, 25, dtype=torch.float64).unsqueeze(-1).to(toy.prior.mu)
        best = toy.best_diagonal(x)
        mu, logvar = best.mu.clone().requires_grad_(), best.logvar.clone().requires_grad_()
        bound = toy.exact_elbo(x, DiagonalGaussian(mu, logvar)).per_example
        for slope in torch.autograd.grad(bound.sum(), [mu, logvar]):
            assert slope.abs().max() < 1e-9
        others = [toy.encoder(x)]
        for mu in (-2, -1.5, -0.5, 0, 0.5, 1.5, 2):
            others += [gaussian(mu, sigma, like=x) for sigma in (0.1, 0.3)]
        for q in others:
            assert (toy.exact_elbo(x, q).per_example <= bound + 1e-12).all()

    def test_best_diagonal_is_another_gaussian_than_the_encoders(
        self, toy: NonlinearGaussian, x: Tensor
    ) -> None:
        # KL(q ‖ posterior) prefers one mode to the two that the moments cover.
        best, matched = toy.best_diagonal(x[4:5]), toy.encoder(x[4:5])
        assert best.stddev < 0.5 * matched.stddev

    def test_naive_monte_carlo_has_the_stated_mean_and_variance(
        self, toy: NonlinearGaussian, x: Tensor, generator: torch.Generator
    ) -> None:
        x = x[2:7]  # where the prior reaches: further out no sample size makes a mean normal
        z = torch.randn(200_000, 1, 1, generator=generator, dtype=torch.float64, device=x.device)
        ratio = torch.exp(toy.decoder(z).log_prob(x) - toy.log_marginal(x))
        assert_mean_equals(ratio, 1.0)
        assert_mean_equals((ratio - 1).square(), toy.relative_variance(x))

    def test_samples_follow_the_marginal(
        self, toy: NonlinearGaussian, generator: torch.Generator
    ) -> None:
        samples = toy.sample(50_000, generator).squeeze(-1)
        grid = torch.linspace(-5, 5, 1001, dtype=torch.float64, device=samples.device)
        density = toy.log_marginal(grid.unsqueeze(-1)).exp()
        for moment in (lambda x: x, lambda x: x.square(), lambda x: torch.cos(3 * x)):
            assert_mean_equals(moment(samples), integral(density * moment(grid), grid))

    def test_samples_replay(self, toy: NonlinearGaussian) -> None:
        first, second = (
            toy.sample(5, torch.Generator(toy.prior.mu.device).manual_seed(3)) for _ in range(2)
        )
        assert torch.equal(first, second)

    @pytest.mark.parametrize("method", ["encoder", "log_marginal", "best_diagonal"])
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (torch.zeros(3, dtype=torch.float64), r"x must be \(N, 1\).*\(3,\)"),
            (torch.zeros(3, 2, dtype=torch.float64), r"x must be \(N, 1\).*\(3, 2\)"),
            (torch.zeros(3, 1), r"x must be .*float64, but .*float32"),
            (torch.full((3, 1), math.nan, dtype=torch.float64), "x must be finite"),
        ],
    )
    def test_refuses_what_is_not_an_observation(
        self, toy: NonlinearGaussian, method: str, bad: Tensor, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            getattr(toy, method)(bad.to(toy.prior.mu.device))

    def test_refuses_integrands_of_another_shape(self, toy: NonlinearGaussian, x: Tensor) -> None:
        with pytest.raises(ValueError, match=r"g must take z \(3601, 8, 1\) to \(3601, 8\)"):
            toy.expectation(toy.encoder(x), torch.sin)


@pytest.mark.parametrize("sigma", [0.15, 0.25, 0.35, 0.6])
def test_no_start_finds_a_better_gaussian(sigma: float) -> None:
    toy = NonlinearGaussian()
    toy.sigma = sigma
    x = torch.linspace(-2, 2, 21, dtype=torch.float64).unsqueeze(-1)
    best = toy.exact_elbo(x, toy.best_diagonal(x)).per_example
    starts = torch.cartesian_prod(torch.linspace(-2.5, 2.5, 21), torch.tensor([-5.0, -3.0, -1.0]))
    for mu, logvar in starts.tolist():  # a crude search from everywhere, by fixed steps
        q = torch.tensor([mu, logvar], dtype=torch.float64).view(2, 1, 1).repeat(1, len(x), 1)
        bound = toy.exact_elbo(x, DiagonalGaussian(q[0], q[1])).per_example
        assert (bound <= best + 1e-9).all()


def test_no_observation_has_no_best_gaussian() -> None:
    assert NonlinearGaussian().best_diagonal(torch.zeros(0, 1, dtype=torch.float64)).mu.shape == (
        0,
        1,
    )


class TestArc:
    @pytest.fixture
    def arc(self, device: torch.device) -> Arc:
        return Arc(device)

    def test_f_lies_on_a_circle(self, arc: Arc) -> None:
        z = torch.linspace(-4, 4, 41, dtype=torch.float64, device=arc.prior.mu.device)
        radius = (arc.f(z.unsqueeze(-1)) - torch.tensor([0.0, 1.0]).to(z)).norm(dim=-1)
        torch.testing.assert_close(radius, torch.ones_like(radius))

    @pytest.mark.slow
    def test_marginal_is_a_density(self, arc: Arc) -> None:
        axis = torch.linspace(-2, 3, 251, dtype=torch.float64, device=arc.prior.mu.device)
        plane = torch.cartesian_prod(axis, axis)
        mass = sum(arc.log_marginal(rows).exp().sum() for rows in plane.split(10_000)) * 0.02**2
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=1e-8)

    @pytest.mark.parametrize("sigma", [0.05, 0.3])
    def test_bound_and_gap_add_up(self, arc: Arc, sigma: float, generator: torch.Generator) -> None:
        x = arc.sample(20, generator)
        q = arc.encoder(x)
        q = DiagonalGaussian(q.mu + 0.2, torch.full_like(q.mu, sigma).log() * 2)
        total = arc.exact_elbo(x, q).per_example + arc.kl_to_posterior(x, q)
        torch.testing.assert_close(total, arc.log_marginal(x), rtol=0, atol=1e-9)

    def test_best_diagonal_is_the_top_of_the_elbo(
        self, arc: Arc, generator: torch.Generator
    ) -> None:
        x = arc.sample(20, generator)
        best = arc.best_diagonal(x)
        top = arc.exact_elbo(x, best).per_example
        for mu, logvar in ((0.01, 0.0), (-0.01, 0.0), (0.0, 0.05), (0.0, -0.05)):
            q = DiagonalGaussian(best.mu + mu, best.logvar + logvar)
            assert (arc.exact_elbo(x, q).per_example < top).all()

    def test_refuses_the_data_of_the_other_toy(self, arc: Arc) -> None:
        with pytest.raises(ValueError, match="x must"):
            arc.log_marginal(torch.zeros(3, 1, dtype=torch.float64))
