"""Samplers have the moments and densities they claim; both gradient estimators are unbiased."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from laws import assert_gradients_equal, assert_well_behaved, integral, real_line
from statistical import assert_mean_equals
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from vaelib import (
    DiagonalGaussian,
    FullGaussian,
    pathwise_gradient,
    pathwise_terms,
    reparameterize,
    sample_gaussian,
    score_function_gradient,
    score_function_terms,
)
from vaelib._checks import value_checks

S = 20_000


@pytest.fixture
def mu(generator: torch.Generator, device: torch.device) -> Tensor:
    return 2 * torch.randn(4, 3, generator=generator, dtype=torch.float64, device=device)


@pytest.fixture
def logvar(generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(4, 3, generator=generator, dtype=torch.float64, device=device)


@pytest.fixture
def covariance(generator: torch.Generator, device: torch.device) -> Tensor:
    """(4, 3, 3), far from diagonal, one a row."""
    factor = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64, device=device)
    return factor @ factor.mT + 0.1 * torch.eye(3, dtype=torch.float64, device=device)


@pytest.fixture
def eps(generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(4, 3, generator=generator, dtype=torch.float64, device=device)


@pytest.fixture
def many(generator: torch.Generator, device: torch.device) -> Tensor:
    """(S, 4, 3)."""
    return torch.randn(S, 4, 3, generator=generator, dtype=torch.float64, device=device)


def assert_moments(z: Tensor, mu: Tensor, covariance: Tensor) -> None:
    """Z (S, N, K): mean and covariance of each row; rows independent of each other."""
    centred = z - mu
    assert_mean_equals(z, mu)
    assert_mean_equals(centred.unsqueeze(-1) * centred.unsqueeze(-2), covariance)
    assert_mean_equals(centred[:, 0] * centred[:, 1], 0.0)


class TestReparameterize:
    def test_is_the_formula(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        assert_gradients_equal(
            reparameterize, lambda mu, logvar, eps: mu + logvar.exp().sqrt() * eps, mu, logvar, eps
        )

    def test_no_noise_gives_the_mean_and_unit_noise_one_sigma(
        self, mu: Tensor, logvar: Tensor
    ) -> None:
        zero = torch.zeros_like(mu)
        assert torch.equal(reparameterize(mu, logvar, zero), mu)
        scaled = (reparameterize(mu, logvar, zero + 1) - mu).square()
        torch.testing.assert_close(scaled, logvar.exp())

    def test_moments(self, mu: Tensor, logvar: Tensor, many: Tensor) -> None:
        assert_moments(reparameterize(mu, logvar, many), mu, logvar.exp().diag_embed())

    def test_gradcheck(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        inputs = (mu.requires_grad_(), logvar.requires_grad_(), eps.requires_grad_())
        assert torch.autograd.gradcheck(reparameterize, inputs)
        assert torch.autograd.gradgradcheck(reparameterize, inputs)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_stable_for_extreme_log_variances(
        self, dtype: torch.dtype, device: torch.device
    ) -> None:
        logvar = torch.tensor([-30.0, 30.0], dtype=dtype, device=device, requires_grad=True)
        zero = torch.zeros_like(logvar)
        z = reparameterize(zero, logvar, zero + 2)
        exact = torch.tensor([2 * math.exp(-15), 2 * math.exp(15)]).to(z)
        torch.testing.assert_close(z, exact, rtol=1e-5, atol=0.0)
        (slope,) = torch.autograd.grad(z.sum(), logvar)
        torch.testing.assert_close(slope, exact / 2, rtol=1e-5, atol=0.0)

    def test_is_well_behaved(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        assert_well_behaved(reparameterize, mu, logvar, eps)
        assert_well_behaved(reparameterize, mu[0], logvar[0], eps)


class TestSampleGaussian:
    def test_noise_along_the_axes_gives_the_columns_of_the_cholesky_factor(
        self, mu: Tensor, covariance: Tensor
    ) -> None:
        """So the covariance is exact: L Lᵀ = Σ, L lower triangular with a positive diagonal."""
        axes = torch.eye(3, dtype=mu.dtype, device=mu.device)
        columns = [sample_gaussian(mu, covariance, axis.expand_as(mu)) - mu for axis in axes]
        factor = torch.stack(columns, dim=-1)
        torch.testing.assert_close(factor @ factor.mT, covariance)
        torch.testing.assert_close(factor, factor.tril())
        assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all()

    def test_moments(self, mu: Tensor, covariance: Tensor, many: Tensor) -> None:
        z = sample_gaussian(
            mu.expand(S, 4, 3).reshape(-1, 3),
            covariance.expand(S, 4, 3, 3).reshape(-1, 3, 3),
            many.view(-1, 3),
        )
        assert_moments(z.view(S, 4, 3), mu, covariance)

    def test_one_covariance_for_all_rows(self, mu: Tensor, covariance: Tensor, eps: Tensor) -> None:
        one = sample_gaussian(mu, covariance[0], eps)
        torch.testing.assert_close(one, sample_gaussian(mu, covariance[:1].expand(4, 3, 3), eps))

    def test_diagonal_covariance_is_reparameterize(
        self, mu: Tensor, logvar: Tensor, eps: Tensor
    ) -> None:
        z = sample_gaussian(mu, logvar.exp().diag_embed(), eps)
        torch.testing.assert_close(z, reparameterize(mu, logvar, eps))

    def test_gradcheck(self, mu: Tensor, covariance: Tensor, eps: Tensor) -> None:
        def from_any_matrix(mu: Tensor, matrix: Tensor, eps: Tensor) -> Tensor:
            # Finite differences must not leave the symmetric matrices.
            return sample_gaussian(mu, 0.5 * (matrix + matrix.mT), eps)

        inputs = (mu.requires_grad_(), covariance.requires_grad_(), eps.requires_grad_())
        assert torch.autograd.gradcheck(from_any_matrix, inputs)

    def test_is_well_behaved(self, mu: Tensor, covariance: Tensor, eps: Tensor) -> None:
        assert_well_behaved(sample_gaussian, mu, covariance, eps)
        assert_well_behaved(sample_gaussian, mu, covariance[0], eps)


class TestDiagonalGaussian:
    def test_density_equals_torch(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        assert_gradients_equal(
            lambda mu, logvar, z: DiagonalGaussian(mu, logvar).log_prob(z),
            lambda mu, logvar, z: Independent(Normal(mu, (logvar / 2).exp()), 1).log_prob(z),
            mu,
            logvar,
            eps,
        )
        assert_gradients_equal(
            lambda mu, logvar, z: DiagonalGaussian(mu, logvar).log_prob(z),
            lambda mu, logvar, z: MultivariateNormal(mu, logvar.exp().diag_embed()).log_prob(z),
            mu,
            logvar,
            eps,
        )

    def test_density_integrates_to_one(self, mu: Tensor, logvar: Tensor) -> None:
        """Each dimension alone, and two of them in the plane."""
        q = DiagonalGaussian(mu, logvar)
        grid = real_line(mu.device)
        densities = q.log_prob_terms(grid.view(-1, 1, 1).expand(-1, 4, 3)).exp()
        mass = integral(densities, grid)
        torch.testing.assert_close(mass, torch.ones_like(mass))
        grid = real_line(mu.device, n=401)
        plane = torch.cartesian_prod(grid, grid)
        density = DiagonalGaussian(mu[0, :2], logvar[0, :2]).log_prob(plane).exp()
        mass = integral(integral(density.view(401, 401), grid), grid)
        torch.testing.assert_close(mass, torch.ones_like(mass))

    def test_density_is_that_of_the_moved_noise(
        self, mu: Tensor, logvar: Tensor, many: Tensor
    ) -> None:
        """Change of variables: log q(z) = log N(ε; 0, I) − log |dz/dε|."""
        q = DiagonalGaussian(mu, logvar)
        log_noise = Normal(torch.zeros_like(mu), 1.0).log_prob(many[:5]).sum(-1)
        torch.testing.assert_close(
            q.log_prob(q.reparameterize(many[:5])), log_noise - 0.5 * logvar.sum(-1)
        )

    def test_gradcheck(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        inputs = (mu.requires_grad_(), logvar.requires_grad_(), eps.requires_grad_())

        def log_prob(mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
            return DiagonalGaussian(mu, logvar).log_prob(z)

        assert torch.autograd.gradcheck(log_prob, inputs)
        assert torch.autograd.gradgradcheck(log_prob, inputs)

    def test_terms_sum_to_the_density(self, mu: Tensor, logvar: Tensor, many: Tensor) -> None:
        q = DiagonalGaussian(mu, logvar)
        terms = q.log_prob_terms(many[:5])
        assert terms.shape == (5, 4, 3)
        torch.testing.assert_close(terms.sum(-1), q.log_prob(many[:5]))

    def test_moments_and_entropy_equal_torch_and_the_integral(
        self, mu: Tensor, logvar: Tensor
    ) -> None:
        q, torchs = DiagonalGaussian(mu, logvar), Normal(mu, (logvar / 2).exp())
        torch.testing.assert_close(q.mean, torchs.mean)
        torch.testing.assert_close(q.variance, torchs.variance)
        torch.testing.assert_close(q.stddev, torchs.stddev)
        torch.testing.assert_close(q.entropy(), torchs.entropy().sum(-1))
        grid = real_line(mu.device)
        z = grid.view(-1, 1, 1).expand(-1, 4, 3)
        terms = q.log_prob_terms(z)
        density = terms.exp()
        torch.testing.assert_close(integral(density * z, grid), q.mean)
        torch.testing.assert_close(integral(density * (z - mu) ** 2, grid), q.variance)
        torch.testing.assert_close(-integral(density * terms, grid).sum(-1), q.entropy())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_stable_for_extreme_log_variances(
        self, dtype: torch.dtype, device: torch.device
    ) -> None:
        for extreme in (-30.0, 30.0):
            logvar = torch.full((1, 2), extreme, dtype=dtype, device=device, requires_grad=True)
            q = DiagonalGaussian(torch.zeros_like(logvar), logvar)
            z = q.reparameterize(torch.ones_like(logvar)).detach()  # one σ from the mean
            value = q.log_prob(z)
            exact = -(1 + extreme + math.log(2 * math.pi))
            torch.testing.assert_close(value, torch.tensor([exact]).to(value))
            (slope,) = torch.autograd.grad(value.sum(), logvar)
            assert slope.abs().max() < 1e-4  # the density at one σ is at its maximum over σ

    def test_samples_from_torchs_generator_when_asked_as_torch_asks(
        self, mu: Tensor, logvar: Tensor
    ) -> None:
        q = DiagonalGaussian(mu.requires_grad_(), logvar)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            z = q.rsample(torch.Size([S]))
            fixed = q.sample(torch.Size([2, 5]))
        assert_moments(z, mu, logvar.exp().diag_embed())
        assert z.requires_grad
        assert fixed.shape == (2, 5, 4, 3)
        assert not fixed.requires_grad

    def test_standard_is_the_prior(self, device: torch.device) -> None:
        for dtype in (torch.float32, torch.float64):
            prior = DiagonalGaussian.standard(3, like=torch.ones(1, dtype=dtype, device=device))
            assert prior.batch_shape == ()
            assert prior.event_shape == (3,)
            assert prior.mean.dtype == dtype
            assert prior.mean.device.type == device.type
            assert (prior.mean == 0).all()
            assert (prior.variance == 1).all()

    def test_is_indexed_by_example(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        q = DiagonalGaussian(mu, logvar)
        rows = torch.tensor([2, 0], device=mu.device)
        for index, shape in ((1, ()), (slice(1, 3), (2,)), (rows, (2,))):
            part = q[index]
            assert part.batch_shape == shape
            assert torch.equal(part.log_prob(eps[index]), q.log_prob(eps)[index])

    def test_is_well_behaved(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        for of in (
            lambda mu, logvar, eps: DiagonalGaussian(mu, logvar).log_prob(eps),
            lambda mu, logvar, eps: DiagonalGaussian(mu, logvar).log_prob_terms(eps),
            lambda mu, logvar, eps: DiagonalGaussian(mu, logvar).reparameterize(eps),
        ):
            assert_well_behaved(of, mu, logvar, eps)
        assert_well_behaved(lambda mu, logvar: DiagonalGaussian(mu, logvar).entropy(), mu, logvar)
        assert_well_behaved(lambda mu, logvar: DiagonalGaussian(mu, logvar).stddev, mu, logvar)


class TestFullGaussian:
    def test_samples_as_sample_gaussian(self, mu: Tensor, covariance: Tensor, eps: Tensor) -> None:
        assert_gradients_equal(
            lambda mu, matrix, eps: FullGaussian(
                mu, covariance_matrix=0.5 * (matrix + matrix.mT)
            ).reparameterize(eps),
            lambda mu, matrix, eps: sample_gaussian(mu, 0.5 * (matrix + matrix.mT), eps),
            mu,
            covariance,
            eps,
        )

    def test_density_is_that_of_the_moved_noise(
        self, mu: Tensor, covariance: Tensor, many: Tensor
    ) -> None:
        """Change of variables: log q(z) = log N(ε; 0, I) − ½ log |Σ|."""
        log_noise = Normal(torch.zeros_like(mu), 1.0).log_prob(many[:5]).sum(-1)
        expected = log_noise - 0.5 * torch.logdet(covariance)
        factor = torch.linalg.cholesky(covariance)
        for parameters in ({"covariance_matrix": covariance}, {"scale_tril": factor}):
            q = FullGaussian(mu, **parameters)
            torch.testing.assert_close(q.log_prob(q.reparameterize(many[:5])), expected)

    def test_moments(self, mu: Tensor, covariance: Tensor, many: Tensor) -> None:
        q = FullGaussian(mu, covariance_matrix=covariance)
        assert_moments(q.reparameterize(many), mu, covariance)
        shared = FullGaussian(mu, covariance_matrix=covariance[0])
        assert_moments(shared.reparameterize(many), mu, covariance[0].expand(4, 3, 3))

    def test_is_well_behaved(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> None:
        assert_well_behaved(
            lambda mu, scale, eps: FullGaussian(
                mu, scale_tril=scale.exp().diag_embed()
            ).reparameterize(eps),
            mu,
            logvar,
            eps,
        )


def variance_for_sigma(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + logvar.exp() * eps


def log_sigma_with_the_wrong_sign(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + (-0.5 * logvar).exp() * eps


def one_eps_for_the_batch(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + (0.5 * logvar).exp() * eps[:, :1]


def one_eps_for_all_dimensions(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + (0.5 * logvar).exp() * eps[..., :1]


class TestDensityAtTheNoise:
    def test_is_the_density_at_the_sample(
        self, mu: Tensor, logvar: Tensor, covariance: Tensor, many: Tensor
    ) -> None:
        for q in (DiagonalGaussian(mu, logvar), FullGaussian(mu, covariance)):
            torch.testing.assert_close(q.log_prob_at(many), q.log_prob(q.reparameterize(many)))

    def test_has_the_gradients_of_the_density_at_the_sample(
        self, mu: Tensor, logvar: Tensor, eps: Tensor
    ) -> None:
        def by_way_of_the_sample(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
            q = DiagonalGaussian(mu, logvar)
            return q.log_prob(q.reparameterize(eps)) + 0 * mu.sum()

        assert_gradients_equal(
            lambda mu, logvar, eps: DiagonalGaussian(mu, logvar).log_prob_at(eps) + 0 * mu.sum(),
            by_way_of_the_sample,
            mu,
            logvar,
            eps,
        )

    @pytest.mark.parametrize("level", [-30.0, 30.0])
    def test_keeps_its_digits_in_single_precision(
        self, mu: Tensor, eps: Tensor, level: float
    ) -> None:
        """z − μ would lose them: at −30 σ is 3e-7, and 1 + 3e-7 is the next float but one."""
        logvar = torch.full_like(mu, level)
        expected = DiagonalGaussian(mu, logvar).log_prob_at(eps)
        single = DiagonalGaussian(mu.float(), logvar.float())
        full = FullGaussian(mu.float(), scale_tril=torch.diag_embed(single.stddev))
        for q in (single, full):
            torch.testing.assert_close(q.log_prob_at(eps.float()).double(), expected, rtol=1e-5,
                                       atol=1e-4)  # fmt: skip


class TestPublishedMistakes:
    """Each is made here, and each breaks the law that the library's sampler is held to."""

    @pytest.mark.parametrize(
        "mistake",
        [
            variance_for_sigma,
            log_sigma_with_the_wrong_sign,
            one_eps_for_the_batch,
            one_eps_for_all_dimensions,
        ],
    )
    def test_in_reparameterize_is_caught(
        self,
        mistake: Callable[[Tensor, Tensor, Tensor], Tensor],
        mu: Tensor,
        logvar: Tensor,
        many: Tensor,
    ) -> None:
        covariance = logvar.exp().diag_embed()
        assert_moments(reparameterize(mu, logvar, many), mu, covariance)
        with pytest.raises(AssertionError):
            assert_moments(mistake(mu, logvar, many), mu, covariance)

    @pytest.mark.parametrize(
        "factor",
        [
            lambda covariance: covariance,
            lambda covariance: covariance.abs().sqrt(),
            lambda covariance: covariance.diagonal(dim1=-2, dim2=-1).sqrt().diag_embed(),
            lambda covariance: torch.linalg.cholesky(covariance).mT,
        ],
        ids=["Σ itself", "elementwise root", "diagonal only", "upper factor"],
    )
    def test_in_sample_gaussian_is_caught(
        self, factor: Callable[[Tensor], Tensor], mu: Tensor, covariance: Tensor, many: Tensor
    ) -> None:
        with pytest.raises(AssertionError):
            assert_moments(
                mu + (factor(covariance) @ many.unsqueeze(-1)).squeeze(-1), mu, covariance
            )

    def test_one_eps_for_the_batch_is_refused(
        self, mu: Tensor, logvar: Tensor, covariance: Tensor, eps: Tensor
    ) -> None:
        """It would broadcast without a word."""
        full = FullGaussian(mu, covariance_matrix=covariance)
        for shared in (eps[0], eps[:1], eps[:, :1]):
            for sample in (
                lambda eps: reparameterize(mu, logvar, eps),
                lambda eps: sample_gaussian(mu, covariance, eps),
                lambda eps: DiagonalGaussian(mu, logvar).reparameterize(eps),
                full.reparameterize,
            ):
                with pytest.raises(ValueError, match="eps must"):
                    sample(shared)


# f, and E[f(μ + σε)] in closed form.
EXPECTATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "linear": (lambda z: 3 * z - 1, lambda m, s: 3 * m - 1 + 0 * s),
    "square": (torch.square, lambda m, s: m**2 + s**2),
    "cube": (lambda z: z**3, lambda m, s: m**3 + 3 * m * s**2),
    "quartic": (lambda z: z**4 - z, lambda m, s: m**4 + 6 * m**2 * s**2 + 3 * s**4 - m),
    "sine": (torch.sin, lambda m, s: torch.exp(-(s**2) / 2) * torch.sin(m)),
    "exponential": (torch.exp, lambda m, s: torch.exp(m + s**2 / 2)),
}


@pytest.fixture(params=EXPECTATIONS)
def expectation(
    request: pytest.FixtureRequest, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor]:
    """f, μ, σ and the exact gradient of E[f(μ + σε)] in both."""
    f, closed_form = EXPECTATIONS[request.param]
    mu = torch.tensor(0.7, dtype=torch.float64, device=device, requires_grad=True)
    sigma = torch.tensor(0.6, dtype=torch.float64, device=device, requires_grad=True)
    exact = torch.autograd.grad(closed_form(mu, sigma), (mu, sigma))
    return f, mu.detach(), sigma.detach(), torch.stack(exact)


def expected(terms: Tensor, eps: Tensor) -> Tensor:
    """E[terms(ε)], ε ~ N(0, 1), by quadrature: terms (G, 2) at the grid eps (G,) → (2,)."""
    weight = torch.exp(-0.5 * eps.square()) / math.sqrt(2 * math.pi)
    return integral(terms * weight.unsqueeze(-1), eps)


@pytest.mark.parametrize("terms", [pathwise_terms, score_function_terms])
class TestBothGradientEstimators:
    def test_are_unbiased_to_rounding(
        self,
        terms: Callable[..., Tensor],
        expectation: tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor],
    ) -> None:
        """No sampling here: the expectation over ε of the summands, by quadrature."""
        f, mu, sigma, exact = expectation
        eps = real_line(mu.device)
        torch.testing.assert_close(expected(terms(f, mu, sigma, eps), eps), exact)

    def test_are_unbiased_on_samples(
        self,
        terms: Callable[..., Tensor],
        expectation: tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor],
        generator: torch.Generator,
    ) -> None:
        f, mu, sigma, exact = expectation
        eps = torch.randn(
            100_000, generator=generator, dtype=torch.float64, device=generator.device
        )
        assert_mean_equals(terms(f, mu, sigma, eps), exact)

    def test_are_well_behaved(self, terms: Callable[..., Tensor], eps: Tensor) -> None:
        mu, sigma = eps[0, 0], eps[0, 1].exp()
        assert_well_behaved(
            lambda mu, sigma, eps: terms(torch.sin, mu, sigma, eps), mu, sigma, eps.flatten()
        )

    def test_are_well_behaved_with_parameters_that_ask_for_gradients(
        self, terms: Callable[..., Tensor], eps: Tensor
    ) -> None:
        mu = torch.tensor(0.5, dtype=torch.float64, device=eps.device, requires_grad=True)
        sigma = torch.tensor(2.0, dtype=torch.float64, device=eps.device, requires_grad=True)
        with_graph = terms(torch.sin, mu, sigma, eps.flatten())
        with torch.no_grad():
            without = terms(torch.sin, mu, sigma, eps.flatten())
        assert torch.equal(with_graph, without)
        assert mu.grad is None
        assert not with_graph.requires_grad


def test_an_estimate_is_the_mean_of_its_terms(eps: Tensor) -> None:
    mu, sigma, eps = eps[0, 0], eps[0, 1].exp(), eps.flatten()
    for estimate, terms, arguments in (
        (pathwise_gradient, pathwise_terms, ()),
        (score_function_gradient, score_function_terms, ()),
        (score_function_gradient, score_function_terms, (1.5,)),
    ):
        summands = terms(torch.sin, mu, sigma, eps, *arguments)
        assert summands.shape == (12, 2)
        value = estimate(torch.sin, mu, sigma, eps, *arguments)
        torch.testing.assert_close(value, summands.mean(0))
        assert_well_behaved(
            lambda mu, sigma, eps, estimate=estimate, arguments=arguments: estimate(
                torch.sin, mu, sigma, eps, *arguments
            ),
            mu,
            sigma,
            eps,
        )


class TestPathwise:
    def test_each_term_is_what_autograd_says(self, eps: Tensor) -> None:
        eps = eps.flatten()
        for i, noise in enumerate(eps):
            mu = torch.tensor(0.7, dtype=torch.float64, device=eps.device, requires_grad=True)
            sigma = torch.tensor(0.6, dtype=torch.float64, device=eps.device, requires_grad=True)
            gradient = torch.autograd.grad(torch.sin(mu + sigma * noise), (mu, sigma))
            terms = pathwise_terms(torch.sin, mu.detach(), sigma.detach(), eps)
            torch.testing.assert_close(terms[i], torch.stack(gradient))

    def test_a_step_has_no_path(self, eps: Tensor) -> None:
        """Its slope is 0 wherever it exists, and its expectation's is not."""
        with pytest.raises(ValueError, match="f must be differentiable"):
            pathwise_terms(lambda z: (z > 0).to(z), eps[0, 0], eps[0, 0].exp(), eps.flatten())


class TestScoreFunction:
    def test_never_differentiates_f(self, eps: Tensor) -> None:
        def by_hand(z: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            assert not z.requires_grad
            return torch.tensor([math.sin(value) for value in z.tolist()]).to(z)

        mu, sigma = eps[0, 0], eps[0, 1].exp()
        torch.testing.assert_close(
            score_function_gradient(by_hand, mu, sigma, eps.flatten()),
            score_function_gradient(torch.sin, mu, sigma, eps.flatten()),
            rtol=1e-6,
            atol=1e-6,
        )

    def test_is_unbiased_for_a_step(self, generator: torch.Generator) -> None:
        """E[1(z > 0)] = Φ(μ/σ)."""
        mu, sigma = torch.tensor(0.3).double(), torch.tensor(0.8).double()
        mu, sigma = mu.to(generator.device), sigma.to(generator.device)
        density = Normal(torch.zeros_like(mu), 1.0).log_prob(mu / sigma).exp()
        exact = torch.stack([density / sigma, -density * mu / sigma**2])
        eps = torch.randn(
            100_000, generator=generator, dtype=torch.float64, device=generator.device
        )
        terms = score_function_terms(lambda z: (z > 0).to(z), mu, sigma, eps)
        assert_mean_equals(terms, exact)

    def test_a_baseline_leaves_the_mean_and_changes_the_variance(
        self, expectation: tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor]
    ) -> None:
        f, mu, sigma, exact = expectation
        eps = real_line(mu.device)
        weight = torch.exp(-0.5 * eps.square()) / math.sqrt(2 * math.pi)
        value = float(integral(f(mu + sigma * eps) * weight, eps))  # E[f], the usual baseline
        variances = []
        for baseline in (0.0, value, value + 500.0):
            terms = score_function_terms(f, mu, sigma, eps, baseline)
            torch.testing.assert_close(expected(terms, eps), exact)
            variances.append(expected(terms.square(), eps) - exact.square())
        plain, usual, absurd = variances
        assert ((usual - plain).abs() > 1e-3).all()
        assert (absurd > 10 * plain).all()

    def test_the_best_baseline_reduces_the_variance(self, device: torch.device) -> None:
        """For f = z² + 10, b = E[f]: the constant 10 is noise without it."""
        mu, sigma = torch.tensor([0.7, 0.6], dtype=torch.float64, device=device)
        eps = real_line(device)
        plain, reduced = (
            expected(score_function_terms(lambda z: z**2 + 10, mu, sigma, eps, b).square(), eps)
            for b in (0.0, float(mu**2 + sigma**2 + 10))
        )
        assert (reduced < plain / 10).all()

    def test_a_baseline_of_one_value_a_sample(self, eps: Tensor) -> None:
        """As other samples give it; here a constant, so that both are the same."""
        eps = eps.flatten()
        mu, sigma = eps[0], eps[1].exp()
        torch.testing.assert_close(
            score_function_terms(torch.sin, mu, sigma, eps, torch.full_like(eps, 0.3)),
            score_function_terms(torch.sin, mu, sigma, eps, 0.3),
        )

    def test_has_more_variance_than_the_path(self, device: torch.device) -> None:
        mu, sigma = torch.tensor([0.7, 0.6], dtype=torch.float64, device=device)
        eps = real_line(device)
        score, path = (
            expected(terms(torch.square, mu, sigma, eps).square(), eps)
            for terms in (score_function_terms, pathwise_terms)
        )
        assert (score > path).all()

    @pytest.mark.parametrize(
        "mistake",
        [
            lambda f, mu, sigma, eps: torch.stack([f * eps, f * (eps**2 - 1)], -1),
            lambda f, mu, sigma, eps: torch.stack([f * eps / sigma, f * eps**2 / sigma], -1),
            lambda f, mu, sigma, eps: torch.stack([-f * eps / sigma, f * (1 - eps**2) / sigma], -1),
            lambda f, mu, sigma, eps: torch.stack([(f - f) * eps, (f - f) * eps], -1),
        ],
        ids=["σ left out", "normaliser left out", "sign", "baseline that sees its own sample"],
    )
    def test_a_mistake_is_caught(
        self,
        mistake: Callable[..., Tensor],
        expectation: tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor],
    ) -> None:
        f, mu, sigma, exact = expectation
        eps = real_line(mu.device)
        wrong = expected(mistake(f(mu + sigma * eps), mu, sigma, eps), eps)
        assert (wrong - exact).abs().max() > 1e-2


Call = Callable[[Tensor, Tensor], object]
BAD_CALLS: dict[str, tuple[Call, str]] = {
    "reparameterize shapes": (
        lambda a, b: reparameterize(a, b[:, :2], b),
        r"mu and logvar must have the same shape, but have \(4, 3\) and \(4, 2\)",
    ),
    "reparameterize integers": (
        lambda a, b: reparameterize(a.long(), b, b),
        r"mu must be floating point, but is torch.int64",
    ),
    "reparameterize integer noise": (
        lambda a, b: reparameterize(a, b, b.long()),
        r"eps must be floating point, but is torch.int64",
    ),
    "reparameterize noise": (
        lambda a, b: reparameterize(a, b, b[:3]),
        r"eps must end in mu's shape \(4, 3\), but is \(3, 3\)",
    ),
    "sample_gaussian mu": (
        lambda a, b: sample_gaussian(a[0], torch.eye(3).to(a), b[0]),
        r"mu must be \(N, K\), but is \(3,\)",
    ),
    "sample_gaussian integers": (
        lambda a, b: sample_gaussian(a, torch.eye(3).long(), b),
        r"covariance must be floating point, but is torch.int64",
    ),
    "sample_gaussian shape": (
        lambda a, b: sample_gaussian(a, torch.eye(2).to(a), b),
        r"covariance must be \(3, 3\), but is \(2, 2\)",
    ),
    "sample_gaussian batch": (
        lambda a, b: sample_gaussian(a[:1], torch.eye(3).to(a).expand(4, 3, 3), b[:1]),
        r"covariance must be \(1, 3, 3\), but is \(4, 3, 3\)",
    ),
    "sample_gaussian not symmetric": (
        lambda a, b: sample_gaussian(a, torch.eye(3).to(a) + torch.ones(3, 3).to(a).tril(-1), b),
        r"covariance must be symmetric",
    ),
    "sample_gaussian not positive": (
        lambda a, b: sample_gaussian(a, torch.diag(torch.tensor([1.0, -1.0, 1.0])).to(a), b),
        r"covariance must be positive definite",
    ),
    "sample_gaussian NaN": (
        lambda a, b: sample_gaussian(a, torch.full((3, 3), math.nan).to(a), b),
        r"covariance must be finite",
    ),
    "DiagonalGaussian shapes": (
        lambda a, b: DiagonalGaussian(a, b[0]),
        r"mu and logvar must have the same shape, but have \(4, 3\) and \(3,\)",
    ),
    "DiagonalGaussian scalar": (
        lambda a, b: DiagonalGaussian(a[0, 0], b[0, 0]),
        r"mu must have a latent dimension",
    ),
    "DiagonalGaussian integers": (
        lambda a, b: DiagonalGaussian(a, b.int()),
        r"logvar must be floating point, but is torch.int32",
    ),
    "DiagonalGaussian NaN": (
        lambda a, b: DiagonalGaussian(a, b * math.nan),
        r"logvar must be finite, but holds NaN or infinity",
    ),
    "DiagonalGaussian infinity": (
        lambda a, b: DiagonalGaussian(a / 0, b),
        r"mu must be finite, but holds NaN or infinity",
    ),
    "DiagonalGaussian value": (
        lambda a, b: DiagonalGaussian(a, b).log_prob(a[:, :1]),
        r"value must end in the shape \(3,\), but is \(4, 1\)",
    ),
    "DiagonalGaussian value's batch": (
        lambda a, b: DiagonalGaussian(a, b).log_prob(a[:2]),
        r"value must be one observation \(3,\) for each of the batch \(4,\), but is \(2, 3\)",
    ),
    "DiagonalGaussian value's NaN": (
        lambda a, b: DiagonalGaussian(a, b).log_prob(a * math.nan),
        r"value must be finite",
    ),
    "FullGaussian noise": (
        lambda a, b: FullGaussian(a, scale_tril=torch.eye(3).to(a)).reparameterize(b[:3]),
        r"eps must end in mu's shape \(4, 3\), but is \(3, 3\)",
    ),
    "pathwise not scalar": (
        lambda a, b: pathwise_gradient(torch.sin, a, b, b[0]),
        r"mu must be a scalar, but is \(4, 3\)",
    ),
    "pathwise no samples": (
        lambda a, b: pathwise_gradient(torch.sin, a[0, 0], b[0, 0].exp(), b[0, :0]),
        r"eps must be \(S ≥ 1,\), but is \(0,\)",
    ),
    "pathwise sigma": (
        lambda a, b: pathwise_gradient(torch.sin, a[0, 0], -b[0, 0].exp(), b[0]),
        r"sigma must be positive, but is -",
    ),
    "pathwise integers": (
        lambda a, b: pathwise_gradient(torch.sin, torch.tensor(1), b[0, 0].exp(), b[0]),
        r"mu must be floating point",
    ),
    "pathwise f": (
        lambda a, b: pathwise_gradient(torch.mean, a[0, 0], b[0, 0].exp(), b[0]),
        r"f must act elementwise, \(3,\) → \(3,\)",
    ),
    "score function sigma": (
        lambda a, b: score_function_gradient(torch.sin, a[0, 0], 0 * b[0, 0], b[0]),
        r"sigma must be positive, but is 0$",
    ),
    "score function NaN": (
        lambda a, b: score_function_gradient(torch.sin, a[0, 0], math.nan * b[0, 0], b[0]),
        r"sigma must be finite",
    ),
    "score function f": (
        lambda a, b: score_function_gradient(torch.mean, a[0, 0], b[0, 0].exp(), b[0]),
        r"f must act elementwise, \(3,\) → \(3,\)",
    ),
    "score function baseline": (
        lambda a, b: score_function_gradient(
            torch.sin, a[0, 0], b[0, 0].exp(), b[0], b[0, :, None]
        ),
        r"f must act elementwise.* baseline .* the result is \(3, 3\)",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_named(call: Call, message: str, mu: Tensor, logvar: Tensor) -> None:
    with pytest.raises(ValueError, match=message):
        call(mu, logvar)


class TestWithoutValidation:
    @pytest.fixture(autouse=True)
    def _unchecked(self) -> Iterator[None]:
        with value_checks(False):
            yield

    def test_values_go_unread(self, mu: Tensor, logvar: Tensor) -> None:
        assert DiagonalGaussian(mu * math.nan, logvar).log_prob(mu).isnan().all()
        assert DiagonalGaussian(mu, logvar).log_prob(mu * math.nan).isnan().all()

    def test_unless_asked_for(self, mu: Tensor, logvar: Tensor) -> None:
        with pytest.raises(ValueError, match="mu must be finite"):
            DiagonalGaussian(mu * math.nan, logvar, validate_args=True)

    def test_shapes_are_still_checked(self, mu: Tensor, logvar: Tensor) -> None:
        with pytest.raises(ValueError, match="mu and logvar must have the same shape"):
            DiagonalGaussian(mu, logvar[0])
        with pytest.raises(ValueError, match="value must end in the shape"):
            DiagonalGaussian(mu, logvar).log_prob(mu[:, :1])
