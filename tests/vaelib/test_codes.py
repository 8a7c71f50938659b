from __future__ import annotations

import math

import pytest
import torch
from largest_tensor import LargestTensor
from laws import integral, real_line
from statistical import assert_mean_equals

from vaelib.codes import (
    active_units,
    linear_probe,
    log_aggregate_posterior,
    mutual_information,
)
from vaelib.kl import kl_to_standard_normal
from vaelib.reparameterization import DiagonalGaussian, FullGaussian


def codes(device: torch.device, n: int = 6, k: int = 1) -> DiagonalGaussian:
    mu = torch.linspace(-2, 2, n * k, dtype=torch.float64, device=device).view(n, k)
    return DiagonalGaussian(mu, 1.5 * mu - 2)  # wide ones overlap, narrow ones do not


class TestCodes:
    def test_active_units_have_means_that_vary(self, device):
        mu = torch.tensor([[1.0, 0.09, 5.0], [-1.0, -0.09, 5.0], [0.0, 0.0, 5.0]], device=device)
        q = DiagonalGaussian(mu, 3 * mu.roll(1, dims=1))  # whose variances vary tells nothing
        assert active_units(q).tolist() == [True, False, False]  # variances 1, 0.0081 and 0
        assert active_units(q, threshold=0.008).tolist() == [True, True, False]

    def test_log_aggregate_posterior_is_the_mixture(self, device):
        q = codes(device, n=40, k=3)
        z = torch.linspace(-3, 3, 7 * 2 * 3, dtype=torch.float64, device=device).view(7, 2, 3)
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(torch.ones(40, device=device)),
            torch.distributions.Independent(torch.distributions.Normal(q.mu, q.stddev), 1),
        )
        torch.testing.assert_close(log_aggregate_posterior(q, z), mixture.log_prob(z))
        full = FullGaussian(q.mu, scale_tril=q.stddev.diag_embed())
        torch.testing.assert_close(log_aggregate_posterior(full, z), mixture.log_prob(z))

    def test_log_aggregate_posterior_in_bounded_memory(self, device):
        q = codes(device, n=50_000, k=2)
        z = torch.linspace(-3, 3, 400, dtype=torch.float64, device=device).view(200, 2)
        with LargestTensor() as seen:
            density = log_aggregate_posterior(q, z)
        assert seen.numel <= 2**22
        torch.testing.assert_close(density[150:], log_aggregate_posterior(q, z[150:]))

    def test_mutual_information_against_quadrature(self, device, generator):
        q, grid = codes(device), real_line(device)
        log_q = q.log_prob(grid.view(-1, 1, 1))  # (nodes, N)
        log_mixture = log_q.logsumexp(1) - math.log(6)
        exact = integral(log_q.exp() * (log_q - log_mixture.unsqueeze(1)), grid).mean()
        estimates = [mutual_information(q, generator, samples=20) for _ in range(1000)]
        values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
        assert_mean_equals(values, exact.item())
        errors = torch.tensor([estimate.standard_error for estimate in estimates])
        torch.testing.assert_close(errors.square().mean().sqrt().double(), values.std(), rtol=0.11,
                                   atol=0)  # fmt: skip
        # Hoffman & Johnson: the mean KL is this and the aggregate posterior's KL to the prior.
        log_prior = DiagonalGaussian.standard(1, like=q.mu).log_prob(grid.unsqueeze(-1))
        marginal = integral(log_mixture.exp() * (log_mixture - log_prior), grid)
        mean_kl = kl_to_standard_normal(q.mu, q.logvar).mean()
        torch.testing.assert_close(mean_kl, exact + marginal)

    def test_mutual_information_of_extremes(self, device, generator):
        apart = DiagonalGaussian(torch.arange(8.0, device=device).view(8, 1) * 100,
                                 torch.zeros(8, 1, device=device))  # fmt: skip
        assert mutual_information(apart, generator).value == pytest.approx(math.log(8), abs=1e-4)
        same = DiagonalGaussian(torch.ones(8, 1, device=device), torch.ones(8, 1, device=device))
        estimate = mutual_information(same, generator)
        assert estimate.value == pytest.approx(0, abs=1e-5)
        assert estimate.standard_error < 1e-5

    def test_an_integer_is_a_seed(self, device):
        generator = torch.Generator().manual_seed(3)
        assert mutual_information(codes(device), 3) == mutual_information(codes(device), generator)
        with pytest.raises(ValueError, match=r"^generator must be"):
            mutual_information(codes(device), -3)

    def test_names_bad_arguments(self, device, generator):
        with pytest.raises(ValueError, match=r"^q must have N ≥ 2 examples"):
            active_units(codes(device)[:1])
        with pytest.raises(ValueError, match=r"^q must have N ≥ 1 examples"):
            mutual_information(codes(device)[0], generator)
        with pytest.raises(ValueError, match=r"^samples must be an integer of at least 2, not 1"):
            mutual_information(codes(device), generator, samples=1)
        with pytest.raises(ValueError, match=r"^z must be \(…, 1\), but is \(4, 3\)"):
            log_aggregate_posterior(codes(device), torch.zeros(4, 3, device=device))


class TestLinearProbe:
    def test_counts_the_mistakes(self, device, generator):
        labels = torch.arange(3, device=device).repeat(50)
        features = torch.eye(3, device=device)[labels]
        noise = torch.randn(150, 3, generator=generator, device=device)
        features = features + 0.05 * noise
        wrong = labels.clone()
        wrong[:15] = (wrong[:15] + 1) % 3
        assert linear_probe(features, labels, features, labels) == 0
        assert linear_probe(features, labels, features, wrong) == pytest.approx(0.1)

    def test_does_not_depend_on_units_or_origin(self, device, generator):
        labels = torch.arange(2, device=device).repeat(100)
        features = labels.view(-1, 1) + torch.randn(200, 5, generator=generator, device=device)
        first, second = slice(0, 100), slice(100, 200)
        errors = {
            linear_probe(f[first], labels[first], f[second], labels[second])
            for f in (features, 1000 * features, 0.001 * features - 3, features.view(200, 5, 1))
        }
        assert len(errors) == 1
        assert 0 < errors.pop() < 0.4

    def test_nothing_is_learnt_from_constants(self, device):
        labels = torch.tensor([0, 0, 1], device=device)
        same = torch.full((3, 2), 0.1, device=device)
        assert linear_probe(same, labels, same, labels) == pytest.approx(1 / 3)

    def test_names_bad_arguments(self):
        labels = torch.arange(3)
        with pytest.raises(ValueError, match=r"^test_labels must be \(4,\)"):
            linear_probe(torch.zeros(3, 1), labels, torch.zeros(4, 1), labels)
