"""KL divergences: torch's and the integral's values and gradients, never negative, directed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from laws import assert_gradients_equal, assert_well_behaved, integral, real_line
from statistical import assert_mean_equals
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Exponential,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
)

from vaelib import (
    DiagonalGaussian,
    FullGaussian,
    kl_between_gaussians,
    kl_divergence,
    kl_monte_carlo,
    kl_terms,
    kl_to_standard_normal,
)

Formula = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(mu_q, logvar_q, mu_p, logvar_p), each (N, K) → (N,)."""


@pytest.fixture
def parameters(generator: torch.Generator, device: torch.device) -> tuple[Tensor, ...]:
    """mu_q, logvar_q, mu_p, logvar_p: (4, 3) each, log-variances of both signs."""
    shape = (4, 4, 3)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device=device)
    return tuple(drawn)


@pytest.fixture
def scale_tril(generator: torch.Generator, device: torch.device) -> Tensor:
    """(4, 3, 3), far from diagonal."""
    factor = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64, device=device).tril(-1)
    diagonal = torch.rand(4, 3, generator=generator, dtype=torch.float64, device=device) + 0.3
    return factor + diagonal.diag_embed()


def torch_kl(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    q, p = Normal(mu_q, (0.5 * logvar_q).exp()), Normal(mu_p, (0.5 * logvar_p).exp())
    return kl_divergence(Independent(q, 1), Independent(p, 1))


def integrated_kl(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Σ_k ∫ q log(q/p): the definition. The densities are written out, not the library's."""
    z = real_line(mu_q.device).view(-1, 1, 1)

    def log_density(mu: Tensor, logvar: Tensor) -> Tensor:
        return -0.5 * ((z - mu) ** 2 / logvar.exp() + logvar + math.log(2 * math.pi))

    log_q, log_p = log_density(mu_q, logvar_q), log_density(mu_p, logvar_p)
    return integral(log_q.exp() * (log_q - log_p), z.flatten()).sum(-1)


class TestToStandardNormal:
    def test_equals_torch_and_the_integral(self, parameters: tuple[Tensor, ...]) -> None:
        mu, logvar, *_ = parameters
        zero = torch.zeros_like(mu)
        for reference in (torch_kl, integrated_kl):
            assert_gradients_equal(
                kl_to_standard_normal,
                lambda mu, logvar, reference=reference: reference(mu, logvar, zero, zero),
                mu,
                logvar,
            )

    def test_is_the_general_formula_against_zeros(self, parameters: tuple[Tensor, ...]) -> None:
        mu, logvar, *_ = parameters
        zero = torch.zeros_like(mu)
        general = kl_between_gaussians(mu, logvar, zero, zero)
        torch.testing.assert_close(kl_to_standard_normal(mu, logvar), general)

    def test_gradcheck(self, parameters: tuple[Tensor, ...]) -> None:
        inputs = tuple(value.requires_grad_() for value in parameters[:2])
        assert torch.autograd.gradcheck(kl_to_standard_normal, inputs)
        assert torch.autograd.gradgradcheck(kl_to_standard_normal, inputs)

    def test_is_zero_at_the_prior_alone(self, device: torch.device) -> None:
        zero = torch.zeros(1, 2, device=device, requires_grad=True)
        value = kl_to_standard_normal(zero, zero)
        assert value.item() == 0.0
        assert torch.autograd.grad(value.sum(), zero)[0].abs().max() == 0.0

    def test_is_well_behaved(self, parameters: tuple[Tensor, ...]) -> None:
        assert_well_behaved(kl_to_standard_normal, *parameters[:2])
        assert_well_behaved(kl_to_standard_normal, *[value[0] for value in parameters[:2]])


class TestBetweenGaussians:
    def test_equals_torch_and_the_integral(self, parameters: tuple[Tensor, ...]) -> None:
        assert_gradients_equal(kl_between_gaussians, torch_kl, *parameters)
        assert_gradients_equal(kl_between_gaussians, integrated_kl, *parameters)

    def test_gradcheck(self, parameters: tuple[Tensor, ...]) -> None:
        inputs = tuple(value[:2].detach().requires_grad_() for value in parameters)
        assert torch.autograd.gradcheck(kl_between_gaussians, inputs)
        assert torch.autograd.gradgradcheck(kl_between_gaussians, inputs)

    def test_is_directed(self, parameters: tuple[Tensor, ...]) -> None:
        mu_q, logvar_q, mu_p, logvar_p = parameters
        forward = kl_between_gaussians(mu_q, logvar_q, mu_p, logvar_p)
        backward = kl_between_gaussians(mu_p, logvar_p, mu_q, logvar_q)
        assert ((forward - backward).abs() > 1e-2).all()

    def test_is_never_negative(self, generator: torch.Generator, device: torch.device) -> None:
        """Far from equality and so near to it that rounding could have a say."""
        drawn = torch.randn(4, 20_000, 1, generator=generator, device=device, dtype=torch.float64)
        for scale in (1e-6, 1e-3, 5.0):
            for dtype in (torch.float32, torch.float64):
                mu_q, logvar_q, mu_p, logvar_p = (scale * drawn).to(dtype)
                assert (kl_between_gaussians(mu_q, logvar_q, mu_p, logvar_p) >= 0).all()
                assert (kl_to_standard_normal(mu_q, logvar_q) >= 0).all()

    def test_is_zero_at_equality_alone(self, parameters: tuple[Tensor, ...]) -> None:
        mu, logvar, *_ = parameters
        assert (kl_between_gaussians(mu, logvar, mu, logvar) == 0).all()
        assert (kl_between_gaussians(mu + 1e-6, logvar, mu, logvar) > 0).all()
        assert (kl_between_gaussians(mu, logvar + 1e-6, mu, logvar) > 0).all()
        assert (kl_between_gaussians(mu, logvar, mu, logvar + 1e-6) > 0).all()

    def test_keeps_its_digits_near_equality(self, device: torch.device) -> None:
        """For logvar_q − logvar_p = δ it is δ²/4 + O(δ³); e^δ − 1 − δ in floats is noise there."""
        delta = torch.tensor([[1e-5], [-1e-5], [1e-7]], dtype=torch.float64, device=device)
        zero = torch.zeros_like(delta)
        exact = (delta.square() / 4 + delta**3 / 12).squeeze(-1)
        near = kl_between_gaussians(zero, delta, zero, zero)
        torch.testing.assert_close(near, exact, rtol=1e-8, atol=0.0)
        torch.testing.assert_close(kl_to_standard_normal(zero, delta), exact, rtol=1e-8, atol=0.0)
        naive = 0.5 * (delta.exp() - 1 - delta).squeeze(-1)
        assert ((naive - exact).abs() > 1e-8 * exact).all()

    @pytest.mark.parametrize("extreme", [-30.0, 30.0])
    def test_is_stable_for_extreme_log_variances(
        self, extreme: float, device: torch.device
    ) -> None:
        """In float32, values and gradients against float64 through σ and torch."""
        mu_q, mu_p = torch.tensor([[0.5]], device=device), torch.tensor([[0.25]], device=device)
        for logvar_q, logvar_p in ((extreme, 0.0), (0.0, extreme), (extreme, -extreme)):
            values = (mu_q, torch.full_like(mu_q, logvar_q), mu_p, torch.full_like(mu_p, logvar_p))
            single = [value.clone().requires_grad_() for value in values]
            double = [value.double().requires_grad_() for value in values]
            ours, reference = kl_between_gaussians(*single), torch_kl(*double)
            torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-6)
            gradients = torch.autograd.grad(ours.sum(), single)
            expected = torch.autograd.grad(reference.sum(), double)
            for gradient, exact in zip(gradients, expected, strict=True):
                assert gradient.isfinite().all()
                torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-6)

    def test_is_unmoved_by_a_change_of_coordinates(self, parameters: tuple[Tensor, ...]) -> None:
        """z → a·z + b maps both; a divergence of distributions does not see it."""
        mu_q, logvar_q, mu_p, logvar_p = parameters
        a, b = -3.0, 0.7
        shift = 2 * math.log(abs(a))
        moved = kl_between_gaussians(a * mu_q + b, logvar_q + shift, a * mu_p + b, logvar_p + shift)
        torch.testing.assert_close(moved, kl_between_gaussians(*parameters))

    def test_independent_dimensions_add_up(self, parameters: tuple[Tensor, ...]) -> None:
        alone = [kl_between_gaussians(*[v[:, k, None] for v in parameters]) for k in range(3)]
        torch.testing.assert_close(torch.stack(alone).sum(0), kl_between_gaussians(*parameters))

    def test_broadcasts_the_batch(self, parameters: tuple[Tensor, ...]) -> None:
        mu_q, logvar_q, mu_p, logvar_p = parameters
        each = kl_between_gaussians(mu_q, logvar_q, mu_p[0], logvar_p[0])
        whole = (mu_p[0].expand_as(mu_q), logvar_p[0].expand_as(mu_q))
        torch.testing.assert_close(each, kl_between_gaussians(mu_q, logvar_q, *whole))

    def test_is_well_behaved(self, parameters: tuple[Tensor, ...]) -> None:
        assert_well_behaved(kl_between_gaussians, *parameters)


def half_left_out(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 2 * torch_kl(mu_q, logvar_q, mu_p, logvar_p)


def mean_over_dimensions(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return torch_kl(mu_q, logvar_q, mu_p, logvar_p) / mu_q.shape[-1]


def other_direction(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return torch_kl(mu_p, logvar_p, mu_q, logvar_q)


def log_sigma_with_the_wrong_sign(
    mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor
) -> Tensor:
    return torch_kl(mu_q, logvar_q, mu_p, logvar_p) + (logvar_q - logvar_p).sum(-1)


def logvar_read_as_log_sigma(
    mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor
) -> Tensor:
    return torch_kl(mu_q, 2 * logvar_q, mu_p, 2 * logvar_p)


def one_left_out(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return torch_kl(mu_q, logvar_q, mu_p, logvar_p) + 0.5 * mu_q.shape[-1]


def mean_not_squared(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    distance = mu_q - mu_p
    wrong = 0.5 * ((distance - distance**2) / logvar_p.exp()).sum(-1)
    return torch_kl(mu_q, logvar_q, mu_p, logvar_p) + wrong


@pytest.mark.parametrize(
    "mistake",
    [
        half_left_out,
        mean_over_dimensions,
        other_direction,
        log_sigma_with_the_wrong_sign,
        logvar_read_as_log_sigma,
        one_left_out,
        mean_not_squared,
    ],
)
def test_a_published_mistake_is_caught(mistake: Formula, parameters: tuple[Tensor, ...]) -> None:
    """Each breaks the law that the closed form obeys: to be the integral, row by row."""
    truth = integrated_kl(*parameters)
    torch.testing.assert_close(kl_between_gaussians(*parameters), truth)
    assert ((mistake(*parameters) - truth).abs() > 1e-2).all()
    if mistake is not other_direction:  # against N(0, I) too, where the prior is not in sight
        zeros = torch.zeros_like(parameters[0])
        to_prior = (*parameters[:2], zeros, zeros)
        assert ((mistake(*to_prior) - kl_to_standard_normal(*parameters[:2])).abs() > 1e-2).all()


Pair = tuple[type[Distribution], type[Distribution]]


class TestRegisteredPairs:
    """`kl_divergence` for every pair of Gaussians, against torch's MultivariateNormal."""

    @staticmethod
    def build(
        family: type[Distribution], mu: Tensor, logvar: Tensor, factor: Tensor
    ) -> Distribution:
        if family is DiagonalGaussian:
            return DiagonalGaussian(mu, logvar)
        return family(mu, scale_tril=factor)

    @staticmethod
    def same_in_torch(
        family: type[Distribution], mu: Tensor, logvar: Tensor, factor: Tensor
    ) -> Distribution:
        if family is DiagonalGaussian:
            return MultivariateNormal(mu, covariance_matrix=logvar.exp().diag_embed())
        return MultivariateNormal(mu, scale_tril=factor)

    @pytest.mark.parametrize(
        "pair",
        [
            (DiagonalGaussian, DiagonalGaussian),
            (FullGaussian, DiagonalGaussian),
            (DiagonalGaussian, FullGaussian),
            (FullGaussian, FullGaussian),
        ],
        ids=lambda pair: " ‖ ".join(family.__name__ for family in pair),
    )
    def test_equals_torch(
        self, pair: Pair, parameters: tuple[Tensor, ...], scale_tril: Tensor
    ) -> None:
        def divergence(build: Callable[..., Distribution]) -> Callable[..., Tensor]:
            def of(
                mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor, factor: Tensor
            ) -> Tensor:
                q = build(pair[0], mu_q, logvar_q, factor)
                p = build(pair[1], mu_p, logvar_p, factor.flip(0))
                # Parameters that a family does not have get a gradient of zero.
                unused = 0 * (logvar_q.sum() + logvar_p.sum() + factor.sum())
                return kl_divergence(q, p) + unused

            return of

        ours, torchs = divergence(self.build), divergence(self.same_in_torch)
        assert_gradients_equal(ours, torchs, *parameters, scale_tril)
        # One p for the whole batch, as the prior is.
        q = self.build(pair[0], parameters[0], parameters[1], scale_tril)
        p = self.build(pair[1], parameters[2][0], parameters[3][0], scale_tril[1])
        p_torch = self.same_in_torch(pair[1], parameters[2][0], parameters[3][0], scale_tril[1])
        q_torch = self.same_in_torch(pair[0], parameters[0], parameters[1], scale_tril)
        torch.testing.assert_close(kl_divergence(q, p), kl_divergence(q_torch, p_torch))

    def test_a_full_gaussian_that_is_diagonal(self, parameters: tuple[Tensor, ...]) -> None:
        mu_q, logvar_q, mu_p, logvar_p = parameters
        q, p = DiagonalGaussian(mu_q, logvar_q), DiagonalGaussian(mu_p, logvar_p)
        full_q = FullGaussian(mu_q, covariance_matrix=logvar_q.exp().diag_embed())
        full_p = FullGaussian(mu_p, covariance_matrix=logvar_p.exp().diag_embed())
        expected = kl_between_gaussians(*parameters)
        for a, b in ((q, p), (full_q, p), (q, full_p), (full_q, full_p)):
            torch.testing.assert_close(kl_divergence(a, b), expected)

    def test_correlation_costs_what_the_marginals_do_not_show(
        self, parameters: tuple[Tensor, ...], scale_tril: Tensor
    ) -> None:
        """KL(q ‖ Π_k q_k) > 0 is the total correlation; taking q's diagonal alone would give 0."""
        q = FullGaussian(parameters[0], scale_tril=scale_tril)
        marginals = DiagonalGaussian(q.mean, q.variance.log())
        assert (kl_divergence(q, marginals) > 1e-2).all()
        assert (kl_divergence(marginals, q) > 1e-2).all()


class TestTerms:
    def test_sum_to_the_divergence(self, parameters: tuple[Tensor, ...]) -> None:
        mu_q, logvar_q, mu_p, logvar_p = parameters
        q, p = DiagonalGaussian(mu_q, logvar_q), DiagonalGaussian(mu_p, logvar_p)
        terms = kl_terms(q, p)
        assert terms.shape == (4, 3)
        torch.testing.assert_close(terms.sum(-1), kl_divergence(q, p))

    def test_each_belongs_to_its_dimension(self, parameters: tuple[Tensor, ...]) -> None:
        mu, logvar, *_ = parameters
        terms = kl_terms(DiagonalGaussian(mu, logvar), DiagonalGaussian.standard(3, like=mu))
        for k in range(3):
            alone = kl_to_standard_normal(mu[:, k : k + 1], logvar[:, k : k + 1])
            torch.testing.assert_close(terms[:, k], alone)
        assert (terms >= 0).all()

    def test_do_not_split_where_dimensions_are_correlated(
        self, parameters: tuple[Tensor, ...], scale_tril: Tensor
    ) -> None:
        full = FullGaussian(parameters[0], scale_tril=scale_tril)
        diagonal = DiagonalGaussian(*parameters[2:])
        for q, p in ((full, diagonal), (diagonal, full), (full, full)):
            terms = kl_terms(q, p)
            assert terms.shape == (4, 1)
            torch.testing.assert_close(terms.squeeze(-1), kl_divergence(q, p))

    def test_without_a_closed_form_say_so(self, parameters: tuple[Tensor, ...]) -> None:
        mu, logvar, *_ = parameters
        q, p = DiagonalGaussian(mu, logvar), Independent(Laplace(mu, logvar.exp()), 1)
        with pytest.raises(NotImplementedError):
            kl_terms(q, p)


class TestMonteCarlo:
    """20,000 independent estimates of a few samples each, side by side in the batch."""

    M = 20_000

    @pytest.fixture(autouse=True)
    def _seed(self) -> Iterator[None]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield

    def test_is_unbiased_for_gaussians(self, parameters: tuple[Tensor, ...]) -> None:
        mu_q, logvar_q, mu_p, logvar_p = (v.expand(self.M, 4, 3) for v in parameters)
        q, p = DiagonalGaussian(mu_q, logvar_q), DiagonalGaussian(mu_p, logvar_p)
        estimates = kl_monte_carlo(q, p, n_samples=1)
        assert estimates.shape == (self.M, 4)
        assert_mean_equals(estimates, integrated_kl(*parameters))
        assert (estimates < 0).any()  # one estimate may be, the divergence may not

    def test_is_unbiased_for_other_distributions(self, device: torch.device) -> None:
        rate = torch.full((self.M,), 2.0, device=device, dtype=torch.float64)
        pairs = [
            (Exponential(rate), Exponential(rate / 2)),
            (Bernoulli(rate / 10), Bernoulli(rate / 3)),
            (
                Categorical(logits=rate.unsqueeze(-1) * torch.arange(3, device=device)),
                Categorical(logits=torch.zeros(self.M, 3, device=device, dtype=torch.float64)),
            ),
        ]
        for q, p in pairs:
            assert_mean_equals(kl_monte_carlo(q, p, n_samples=2), kl_divergence(q, p)[0])

    def test_goes_in_that_direction(self, parameters: tuple[Tensor, ...]) -> None:
        """Samples of p, or log p − log q, have another expectation."""
        mu_q, logvar_q, mu_p, logvar_p = (v[:1].expand(self.M, 3) for v in parameters)
        q, p = DiagonalGaussian(mu_q, logvar_q), DiagonalGaussian(mu_p, logvar_p)
        estimates = kl_monte_carlo(q, p, n_samples=1)
        assert_mean_equals(estimates, kl_divergence(q, p)[0])
        for wrong in (-estimates, kl_monte_carlo(p, q, n_samples=1)):
            with pytest.raises(AssertionError):
                assert_mean_equals(wrong, kl_divergence(q, p)[0])

    def test_more_samples_have_less_variance(self, device: torch.device) -> None:
        mu = torch.ones(self.M, 1, device=device)
        q, p = DiagonalGaussian(mu, 0 * mu), DiagonalGaussian.standard(1, like=mu)
        p = DiagonalGaussian(p.mu.expand_as(mu), p.logvar.expand_as(mu))
        one, ten = (kl_monte_carlo(q, p, n_samples=s).var().item() for s in (1, 10))
        assert one / ten == pytest.approx(10, rel=0.2)

    def test_its_gradient_is_unbiased(self, parameters: tuple[Tensor, ...]) -> None:
        leaves = [v[0].expand(self.M, 3).clone().requires_grad_() for v in parameters]
        q, p = DiagonalGaussian(leaves[0], leaves[1]), DiagonalGaussian(leaves[2], leaves[3])
        gradients = torch.autograd.grad(kl_monte_carlo(q, p, n_samples=2).sum(), leaves)
        exact = [v[:1].clone().requires_grad_() for v in parameters]
        expected = torch.autograd.grad(kl_between_gaussians(*exact).sum(), exact)
        for gradient, truth in zip(gradients, expected, strict=True):
            assert_mean_equals(gradient, truth[0])

    def test_between_a_distribution_and_itself_is_zero(
        self, parameters: tuple[Tensor, ...], scale_tril: Tensor
    ) -> None:
        for q in (
            DiagonalGaussian(*parameters[:2]),
            FullGaussian(parameters[0], scale_tril=scale_tril),
        ):
            torch.testing.assert_close(
                kl_monte_carlo(q, q, n_samples=3), torch.zeros_like(parameters[0][:, 0])
            )

    def test_keeps_the_dtype(self, device: torch.device) -> None:
        for dtype in (torch.float32, torch.float64):
            zeros = torch.zeros(2, 3, dtype=dtype, device=device)
            q, p = DiagonalGaussian(zeros, zeros), DiagonalGaussian(zeros + 1, zeros)
            assert kl_monte_carlo(q, p, n_samples=5).dtype == dtype


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v: v.long(), r"mu must be floating point, but is torch.int64"),
            (
                lambda v: v[:, :2],
                r"mu and logvar must have the same shape, but have \(4, 2\) and \(4, 3\)",
            ),
            (lambda v: v[0], r"must have the same shape, but have \(3,\) and \(4, 3\)"),
            (lambda v: v.float(), r"the same dtype, but have torch.float32 and torch.float64"),
        ],
    )
    def test_to_standard_normal(
        self, change: Callable[[Tensor], Tensor], message: str, parameters: tuple[Tensor, ...]
    ) -> None:
        with pytest.raises(ValueError, match=message):
            kl_to_standard_normal(change(parameters[0]), parameters[1])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda v: v.int(), r"mu_p must be floating point, but is torch.int32"),
            (lambda v: v[:, :2], r"the same K, .* mu_p \(4, 2\)"),
            (lambda v: v[:3], r"must .* broadcast, .* mu_p \(3, 3\)"),
            (lambda v: v[0, 0], r"mu_p must have a latent dimension"),
        ],
    )
    def test_between_gaussians(
        self, change: Callable[[Tensor], Tensor], message: str, parameters: tuple[Tensor, ...]
    ) -> None:
        mu_q, logvar_q, mu_p, logvar_p = parameters
        with pytest.raises(ValueError, match=message):
            kl_between_gaussians(mu_q, logvar_q, change(mu_p), logvar_p)

    def test_scalars(self, device: torch.device) -> None:
        zero = torch.zeros((), device=device)
        with pytest.raises(ValueError, match="mu must have a latent dimension"):
            kl_to_standard_normal(zero, zero)

    def test_monte_carlo(self, parameters: tuple[Tensor, ...]) -> None:
        mu, logvar, *_ = parameters
        q = DiagonalGaussian(mu, logvar)
        with pytest.raises(ValueError, match="n_samples must be an integer of at least 1, not 0"):
            kl_monte_carlo(q, q, n_samples=0)
        with pytest.raises(ValueError, match=r"same batch_shape, but have \(4,\) and \(2,\)"):
            kl_monte_carlo(q, q[:2], n_samples=1)
        with pytest.raises(ValueError, match=r"same event_shape, but have \(3,\) and \(\)"):
            kl_monte_carlo(q, Normal(mu[:, 0], 1.0), n_samples=1)


def test_distributions_of_other_spaces_have_no_divergence() -> None:
    plane = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
    line = DiagonalGaussian(torch.zeros(1), torch.zeros(1))
    full = FullGaussian(torch.zeros(2), scale_tril=torch.eye(2))
    for divergence, q, p in (
        (kl_terms, plane, line), (kl_divergence, plane, line), (kl_divergence, full, line),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"same event_shape, but have \(2,\) and \(1,\)"):
            divergence(q, p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_standard_normal_is_a_diagonal_gaussian_to_the_bit(
    device: torch.device, dtype: torch.dtype
) -> None:
    zeros = torch.zeros(3, dtype=dtype, device=device)
    values = torch.linspace(-4, 4, 24, dtype=dtype, device=device).view(2, 4, 3)
    results = []
    for p in (DiagonalGaussian.standard(3, like=zeros), DiagonalGaussian(zeros, zeros)):
        mu, logvar = (value.clone().requires_grad_() for value in values)
        terms = kl_terms(DiagonalGaussian(mu, logvar), p)
        density = p.log_prob(mu)
        gradients = torch.autograd.grad((terms.sum(-1) * density).sum(), [mu, logvar])
        results.append((terms, kl_divergence(DiagonalGaussian(mu, logvar), p), density, *gradients))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="must end in the shape"):
        DiagonalGaussian.standard(3, like=zeros).log_prob(values[..., :1])
