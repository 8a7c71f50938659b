"""The linear oracle, held against torch's Gaussians, scikit-learn's and samples."""

from __future__ import annotations

import math

import pytest
import torch
from largest_tensor import LargestTensor
from laws import assert_well_behaved, real_line
from sklearn.decomposition import PCA
from statistical import assert_mean_equals
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaelib import DiagonalGaussian, FullGaussian, LinearGaussian


@pytest.fixture
def linear(generator: torch.Generator) -> LinearGaussian:
    return linear_gaussian(5, 3, generator)


def linear_gaussian(
    n_dims: int, latent_dim: int, generator: torch.Generator, sigma: float = 0.4
) -> LinearGaussian:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)

    return LinearGaussian(draw(n_dims, latent_dim), draw(n_dims), sigma)


def marginal_covariance(model: LinearGaussian) -> Tensor:
    identity = torch.eye(len(model.weight)).to(model.weight)
    return model.weight @ model.weight.mT + model.sigma.square() * identity


class TestLinearGaussian:
    @pytest.mark.parametrize(("n_dims", "latent_dim"), [(1, 1), (5, 3), (2, 4)])
    def test_log_marginal_is_that_of_the_normal_distribution(
        self, n_dims: int, latent_dim: int, generator: torch.Generator
    ) -> None:
        model = linear_gaussian(n_dims, latent_dim, generator)
        x = 3 * model.sample(20, generator)
        expected = MultivariateNormal(model.mean, marginal_covariance(model)).log_prob(x)
        torch.testing.assert_close(model.log_marginal(x), expected, rtol=1e-12, atol=1e-12)

    def test_log_marginal_is_exact_in_many_dimensions_with_little_noise(
        self, generator: torch.Generator
    ) -> None:
        model = linear_gaussian(784, 20, generator, sigma=0.01)
        x = model.sample(4, generator)
        expected = MultivariateNormal(model.mean, marginal_covariance(model)).log_prob(x)
        torch.testing.assert_close(model.log_marginal(x), expected, rtol=1e-9, atol=0)
        single = LinearGaussian(model.weight.float(), model.mean.float(), 0.01)
        torch.testing.assert_close(
            single.log_marginal(x.float()).double(), expected, rtol=1e-3, atol=0
        )

    def test_posterior_is_the_conditional_of_the_joint(
        self, linear: LinearGaussian, generator: torch.Generator
    ) -> None:
        x = linear.sample(6, generator)
        covariance = marginal_covariance(linear)
        gain = torch.linalg.solve(covariance, linear.weight).mT  # Cov(z, x) Cov(x)⁻¹
        posterior = linear.posterior(x)
        torch.testing.assert_close(posterior.mean, (x - linear.mean) @ gain.mT)
        expected = torch.eye(3).to(x) - gain @ linear.weight
        torch.testing.assert_close(posterior.covariance_matrix, expected.expand(6, 3, 3))
        assert torch.equal(linear.encoder(x).mean, posterior.mean)

    @pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
    def test_exact_elbo_and_kl_are_the_means_of_their_samples(
        self, linear: LinearGaussian, generator: torch.Generator, full: bool
    ) -> None:
        x = linear.sample(4, generator)
        factor = torch.randn(4, 3, 3, generator=generator, dtype=x.dtype, device=x.device).tril(
            -1
        ) + 0.5 * torch.eye(3).to(x)
        q = (
            FullGaussian(torch.ones(4, 3).to(x), scale_tril=factor)
            if full
            else DiagonalGaussian(torch.ones(4, 3).to(x), factor[:, 0])
        )
        eps = torch.randn(50_000, 4, 3, generator=generator, dtype=x.dtype, device=x.device)
        z = q.reparameterize(eps)
        bound = linear.exact_elbo(x, q)
        assert_mean_equals(linear.decoder(z).log_prob(x), bound.reconstruction)
        assert_mean_equals(q.log_prob(z) - linear.prior.log_prob(z), bound.kl.sum(-1))
        assert_mean_equals(
            q.log_prob(z) - linear.posterior(x).log_prob(z), linear.kl_to_posterior(x, q)
        )

    def test_best_diagonal_is_the_mean_field_optimum(
        self, linear: LinearGaussian, generator: torch.Generator
    ) -> None:
        x = linear.sample(4, generator)
        best = linear.best_diagonal(x)
        mu, logvar = best.mu.clone().requires_grad_(), best.logvar.clone().requires_grad_()
        bound = linear.exact_elbo(x, DiagonalGaussian(mu, logvar)).per_example
        for slope in torch.autograd.grad(bound.sum(), [mu, logvar]):
            assert slope.abs().max() < 1e-10
        precision = torch.linalg.inv(linear.posterior(x).covariance_matrix[0])
        gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
        assert gap > 0.01  # else the latents would be uncorrelated and nothing would be tested
        torch.testing.assert_close(linear.kl_to_posterior(x, best), gap.expand(4))

    @pytest.mark.parametrize("latent_dim", [1, 2])
    def test_relative_variance_is_its_integral(
        self, latent_dim: int, generator: torch.Generator
    ) -> None:
        model = linear_gaussian(3, latent_dim, generator)
        x = model.sample(5, generator)
        line = real_line(x.device, half_width=9.0, n=601)
        z = torch.cartesian_prod(*[line] * latent_dim).view(-1, 1, latent_dim)
        mass = model.prior.log_prob(z).exp() * (line[1] - line[0]) ** latent_dim
        likelihood = model.decoder(z).log_prob(x).exp()
        first, second = (mass * likelihood).sum(0), (mass * likelihood.square()).sum(0)
        torch.testing.assert_close(first.log(), model.log_marginal(x))
        torch.testing.assert_close(second / first.square() - 1, model.relative_variance(x))

    def test_naive_monte_carlo_fails_as_the_dimension_grows(
        self, generator: torch.Generator
    ) -> None:
        variance = []
        for n_dims in (1, 2, 4, 8, 16):
            eye = torch.eye(n_dims, dtype=torch.float64, device=generator.device)
            model = LinearGaussian(eye, eye[0] * 0, sigma=0.3)
            variance.append(model.relative_variance(eye[:1] * 0).item())
        # n independent dimensions: 1 + variance is a power of n.
        for n_dims, value in zip((2, 4, 8, 16), variance[1:], strict=True):
            assert 1 + value == pytest.approx((1 + variance[0]) ** n_dims)

    def test_maximum_likelihood_is_sklearns(self, generator: torch.Generator) -> None:
        x = linear_gaussian(6, 2, generator).sample(100, generator)
        model = LinearGaussian.maximum_likelihood(x, latent_dim=2)
        pca = PCA(2).fit(x.cpu().numpy())
        # scikit-learn divides the covariance by N − 1, which is not the likelihood's maximum.
        expected = torch.from_numpy(pca.get_covariance()).to(x) * 99 / 100
        torch.testing.assert_close(marginal_covariance(model), expected)
        larger = (100 / 99) ** 0.5
        theirs = LinearGaussian(model.weight * larger, model.mean, model.sigma * larger)
        score = torch.from_numpy(pca.score_samples(x.cpu().numpy())).to(x)
        torch.testing.assert_close(theirs.log_marginal(x), score)
        assert model.log_marginal(x).mean() > score.mean()

    def test_maximum_likelihood_is_a_maximum(self, generator: torch.Generator) -> None:
        x = linear_gaussian(6, 2, generator).sample(100, generator)
        best = LinearGaussian.maximum_likelihood(x, latent_dim=2)
        parameters = [best.weight, best.mean, best.sigma]
        for value in parameters:
            value.requires_grad_()
        top = best.log_marginal(x).mean()
        for slope in torch.autograd.grad(top, parameters):
            assert slope.abs().max() < 1e-10
        for _ in range(50):
            moved = [
                value.detach()
                + 0.03 * torch.randn(value.shape, generator=generator, device=x.device)
                for value in parameters
            ]
            assert LinearGaussian(*moved).log_marginal(x).mean() < top

    def test_maximum_likelihood_needs_no_more_examples_than_dimensions(
        self, generator: torch.Generator
    ) -> None:
        x = linear_gaussian(784, 5, generator).sample(30, generator).float()
        model = LinearGaussian.maximum_likelihood(x, latent_dim=10)
        assert model.weight.shape == (784, 10)
        assert model.weight.dtype == model.sigma.dtype == torch.float32
        # At the maximum the mean squared Mahalanobis distance is D: tr(C⁻¹ S) = D.
        covariance = marginal_covariance(model).double()
        log_det = torch.logdet(2 * math.pi * covariance).item()
        assert model.log_marginal(x).mean().item() == pytest.approx(
            -0.5 * (log_det + 784), rel=1e-4
        )

    @pytest.mark.parametrize("n", [5, 29, 30, 31, 90])
    def test_maximum_likelihood_is_that_of_the_covariance(
        self, n: int, generator: torch.Generator
    ) -> None:
        x = linear_gaussian(30, 2, generator).sample(n, generator)
        model = LinearGaussian.maximum_likelihood(x, latent_dim=2)
        values, vectors = torch.linalg.eigh(torch.cov(x.mT, correction=0))
        variance = values[:-2].mean()
        top = vectors[:, -2:]
        expected = top * (values[-2:] - variance) @ top.mT + variance * torch.eye(30).to(x)
        torch.testing.assert_close(marginal_covariance(model), expected)
        lengths = model.weight.norm(dim=0)
        assert lengths[0] > lengths[1]

    def test_maximum_likelihood_of_few_examples_needs_no_covariance_matrix(
        self, generator: torch.Generator
    ) -> None:
        x = torch.randn(20, 1000, generator=generator, device=generator.device)
        with LargestTensor() as largest:
            LinearGaussian.maximum_likelihood(x, latent_dim=5)
        assert largest.numel <= x.numel()

    def test_samples_have_the_marginal_moments(
        self, linear: LinearGaussian, generator: torch.Generator
    ) -> None:
        x = linear.sample(20_000, generator)
        assert_mean_equals(x, linear.mean)
        centred = x - linear.mean
        products = centred.unsqueeze(-1) * centred.unsqueeze(-2)
        assert_mean_equals(products, marginal_covariance(linear))

    def test_gradients_reach_every_parameter(
        self, linear: LinearGaussian, generator: torch.Generator
    ) -> None:
        x = linear.sample(2, generator)

        def log_marginal(weight: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
            return LinearGaussian(weight, mean, sigma).log_marginal(x)

        parameters = [linear.weight, linear.mean, linear.sigma]
        for value in parameters:
            value.requires_grad_()
        assert torch.autograd.gradcheck(log_marginal, parameters)

    def test_values_depend_on_the_parameters_alone(
        self, linear: LinearGaussian, generator: torch.Generator
    ) -> None:
        x = linear.sample(3, generator)
        for function in (
            lambda weight, mean, x: LinearGaussian(weight, mean, 0.5).log_marginal(x),
            # Its logarithm, since an exponential turns absolute errors into relative ones.
            lambda weight, mean, x: LinearGaussian(weight, mean, 0.5).relative_variance(x).log1p(),
        ):
            assert_well_behaved(function, linear.weight, linear.mean, x)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((torch.zeros(3), torch.zeros(3), 1.0), r"weight must be \(D ≥ 1, .*\(3,\)"),
            ((torch.zeros(3, 0), torch.zeros(3), 1.0), r"weight must be \(D ≥ 1, .*\(3, 0\)"),
            ((torch.zeros(3, 1), torch.zeros(2), 1.0), r"mean must be \(3,\).*\(2,\)"),
            (
                (torch.zeros(3, 1), torch.zeros(3).double(), 1.0),
                r"weight and mean .* the same dtype.*float64",
            ),
            ((torch.zeros(3, 1), torch.zeros(3), 0.0), "sigma must be a positive number, not 0.0"),
            (
                (torch.zeros(3, 1), torch.zeros(3), math.nan),
                "sigma must be a .*not nan",
            ),
            ((torch.zeros(3, 1), torch.zeros(3), torch.ones(3)), "sigma must be one positive"),
        ],
    )
    def test_refuses_parameters_that_do_not_fit(
        self, arguments: tuple[Tensor, Tensor, float], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            LinearGaussian(*arguments)

    @pytest.mark.parametrize("method", ["encoder", "log_marginal", "best_diagonal"])
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (torch.zeros(5, dtype=torch.float64), r"x must be \(N, 5\).*\(5,\)"),
            (torch.zeros(2, 4, dtype=torch.float64), r"x must be \(N, 5\).*\(2, 4\)"),
            (torch.zeros(2, 5), "x must be .*float64, but .*float32"),
            (torch.full((2, 5), math.inf, dtype=torch.float64), "x must be finite"),
        ],
    )
    def test_refuses_what_is_not_an_observation(
        self, linear: LinearGaussian, method: str, bad: Tensor, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            getattr(linear, method)(bad.to(linear.weight.device))

    @pytest.mark.parametrize("latent_dim", [0, 4])
    def test_maximum_likelihood_refuses_other_latent_dimensions(self, latent_dim: int) -> None:
        with pytest.raises(ValueError, match=f"latent_dim must .*not {latent_dim}"):
            LinearGaussian.maximum_likelihood(torch.zeros(9, 4), latent_dim)

    def test_maximum_likelihood_refuses_data_without_noise(
        self, generator: torch.Generator
    ) -> None:
        plane = torch.randn(20, 2, generator=generator, device=generator.device) @ torch.ones(
            2, 5, device=generator.device
        )
        with pytest.raises(ValueError, match="x must vary in more than latent_dim = 2 dimensions"):
            LinearGaussian.maximum_likelihood(plane, latent_dim=2)

    @pytest.mark.parametrize("latent_dim", [3, 4, 7])
    def test_maximum_likelihood_refuses_as_few_examples_as_latent_dimensions(
        self, latent_dim: int, generator: torch.Generator
    ) -> None:
        x = torch.randn(4, 9, generator=generator, device=generator.device)
        with pytest.raises(ValueError, match=f"x must vary in more than .* {latent_dim} dim"):
            LinearGaussian.maximum_likelihood(x, latent_dim)
