"""Likelihoods: normalised, equal to torch's, exact at the extremes, choosy about their data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from laws import assert_gradients_equal, assert_well_behaved, integral, real_line
from statistical import assert_mean_equals
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Independent, MultivariateNormal, Normal

from vaelib import (
    Bernoulli,
    DiscretisedLogistic,
    Gaussian,
    bernoulli_log_likelihood,
    bits_per_dim,
    gaussian_log_likelihood,
)
from vaelib._checks import value_checks

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(mean, x, sigma) → (N,)."""


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Values go unchecked, as in the training loop."""
    with value_checks(False):
        yield


@pytest.fixture
def logits(generator: torch.Generator, device: torch.device) -> Tensor:
    return 2 * torch.randn(3, 5, generator=generator, device=device, dtype=torch.float64)


@pytest.fixture
def binary(generator: torch.Generator, device: torch.device) -> Tensor:
    half = torch.full((3, 5), 0.5, device=device, dtype=torch.float64)
    return torch.bernoulli(half, generator=generator)


@pytest.fixture
def grey(generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(3, 5, generator=generator, device=device, dtype=torch.float64)


@pytest.fixture
def sigma(device: torch.device) -> Tensor:
    return torch.tensor([0.2, 0.7, 1.0, 1.5, 3.0], device=device, dtype=torch.float64)


def binary_images(n_pixels: int, device: torch.device) -> Tensor:
    """All of them: (2^D, D)."""
    images = list(itertools.product([0.0, 1.0], repeat=n_pixels))
    return torch.tensor(images, dtype=torch.float64, device=device)


class TestBernoulli:
    def test_sums_to_one_over_all_images(
        self, generator: torch.Generator, device: torch.device
    ) -> None:
        images = binary_images(6, device).view(64, 1, 1, 2, 3)
        logits = 3 * torch.randn(4, 1, 2, 3, generator=generator, device=device).double()
        p = Bernoulli(logits, event_dims=3)
        total = p.log_prob(images).exp().sum(0)
        torch.testing.assert_close(total, torch.ones(4, device=device).double())

    def test_equals_torch(self, logits: Tensor, binary: Tensor) -> None:
        assert_gradients_equal(
            lambda logits: Bernoulli(logits, event_dims=1).log_prob(binary),
            lambda logits: Independent(TorchBernoulli(logits=logits), 1).log_prob(binary),
            logits,
        )
        ours, torchs = Bernoulli(logits, event_dims=1), TorchBernoulli(logits=logits)
        torch.testing.assert_close(ours.mean, torchs.mean)
        torch.testing.assert_close(ours.variance, torchs.variance)
        torch.testing.assert_close(ours.stddev, torchs.stddev)

    def test_is_as_exact_without_gradients(self, logits: Tensor, grey: Tensor) -> None:
        for asked, kind in ((logits.float(), None), (logits.bfloat16(), torch.bfloat16)):
            with torch.autocast(asked.device.type, kind, enabled=kind is not None):
                without, with_gradients = (
                    Bernoulli(given, event_dims=1, pixels="grey").log_prob(grey.unsqueeze(1))
                    for given in (asked, asked.clone().requires_grad_())
                )
            assert without.dtype == torch.float32
            torch.testing.assert_close(without, with_gradients.detach())

    def test_equals_the_formula_on_paper(self, logits: Tensor, grey: Tensor) -> None:
        def on_paper(logits: Tensor, x: Tensor) -> Tensor:
            probability = 1 / (1 + torch.exp(-logits))
            terms = x * probability.log() + (1 - x) * (1 - probability).log()
            return terms.sum(-1)

        assert_gradients_equal(bernoulli_log_likelihood, on_paper, logits, grey)

    def test_gradcheck(self, logits: Tensor, grey: Tensor) -> None:
        inputs = (logits.requires_grad_(), grey.requires_grad_())
        assert torch.autograd.gradcheck(bernoulli_log_likelihood, inputs)
        assert torch.autograd.gradgradcheck(bernoulli_log_likelihood, inputs)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("extreme", [30.0, 100.0, 1e4])
    def test_is_exact_for_extreme_logits(
        self, extreme: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        logits = torch.tensor([[extreme], [extreme], [-extreme], [-extreme]], device=device)
        logits = logits.to(dtype).requires_grad_()
        x = torch.tensor([[1.0], [0.0], [1.0], [0.0]], dtype=dtype, device=device)
        value = bernoulli_log_likelihood(logits, x)
        (slope,) = torch.autograd.grad(value.sum(), logits)
        surprise = -extreme - math.exp(-extreme)
        exact = torch.tensor([-math.exp(-extreme), surprise, surprise, -math.exp(-extreme)])
        torch.testing.assert_close(value, exact.to(value))
        torch.testing.assert_close(slope, x - torch.sigmoid(logits))

    def test_through_probabilities_extreme_logits_would_be_lost(self, device: torch.device) -> None:
        logits, x = torch.full((1, 1), 100.0, device=device), torch.zeros(1, 1, device=device)
        probability = torch.sigmoid(logits)
        assert (1 - probability).log().isinf().all()
        assert bernoulli_log_likelihood(logits, x).item() == -100.0

    def test_is_a_log_likelihood_and_no_loss(self, logits: Tensor, binary: Tensor) -> None:
        """A "nll" returned for the log-likelihood has the other sign."""
        assert (Bernoulli(logits, event_dims=1).log_prob(binary) < 0).all()
        likely, unlikely = binary * 20 - 10, 10 - binary * 20
        better = bernoulli_log_likelihood(likely, binary)
        assert (better > bernoulli_log_likelihood(unlikely, binary)).all()

    def test_sums_over_pixels_and_averages_nothing(self, logits: Tensor, binary: Tensor) -> None:
        """Two copies of an image are twice as many nats; a mean over pixels or rows is not."""
        single, double = (
            bernoulli_log_likelihood(torch.cat([logits] * n, -1), torch.cat([binary] * n, -1))
            for n in (1, 2)
        )
        torch.testing.assert_close(double, 2 * single)
        loss = F.binary_cross_entropy_with_logits(logits, binary)  # the mean of N·D terms
        torch.testing.assert_close(single.sum(), -loss * logits.numel())
        assert not torch.allclose(single.mean(), -loss)

    @pytest.mark.parametrize("event_dims", [0, 1, 2, 3])
    def test_event_dims_split_the_shape(self, event_dims: int, device: torch.device) -> None:
        p = Bernoulli(torch.zeros(2, 3, 4, device=device), event_dims)
        shape = (2, 3, 4)[: 3 - event_dims]
        assert tuple(p.batch_shape) == shape
        assert p.batch_shape + p.event_shape == (2, 3, 4)
        value = p.log_prob(torch.ones(2, 3, 4, device=device))
        n_pixels = math.prod((2, 3, 4)[3 - event_dims :])
        torch.testing.assert_close(value, torch.full(shape, -n_pixels * math.log(2)).to(value))

    def test_samples_broadcast_against_examples(self, logits: Tensor, binary: Tensor) -> None:
        samples = torch.stack([logits, -logits])  # (S, N, D)
        value = Bernoulli(samples, event_dims=1).log_prob(binary)
        alone = [bernoulli_log_likelihood(row, binary) for row in samples]
        torch.testing.assert_close(value, torch.stack(alone))

    def test_is_well_behaved(self, logits: Tensor, grey: Tensor) -> None:
        assert_well_behaved(bernoulli_log_likelihood, logits, grey)
        assert_well_behaved(bernoulli_log_likelihood, logits[:, 0], grey[:, 0])
        assert_well_behaved(
            lambda logits: Bernoulli(logits, event_dims=1).log_prob(grey.round()), logits
        )

    def test_bytes_and_booleans_are_pixels(self, logits: Tensor, binary: Tensor) -> None:
        p = Bernoulli(logits.float(), event_dims=1)
        expected = p.log_prob(binary)
        assert expected.dtype == torch.float32  # that of the parameters
        for dtype in (torch.uint8, torch.bool, torch.int64):
            assert torch.equal(p.log_prob(binary.to(dtype)), expected)

    def test_draws_have_its_moments(self, logits: Tensor, generator: torch.Generator) -> None:
        p = Bernoulli(logits.expand(20_000, 3, 5), event_dims=1)
        draws = p.draw(generator)
        assert set(draws.unique().tolist()) == {0.0, 1.0}
        centred = draws - p.mean
        assert_mean_equals(draws, p.mean[0])
        covariance = torch.diag_embed(p.variance[0])  # pixels are independent given z
        assert_mean_equals(centred.unsqueeze(-1) * centred.unsqueeze(-2), covariance)
        assert_mean_equals(centred[:, 0] * centred[:, 1], 0.0)  # as rows are

    def test_draws_come_from_the_generator_alone(
        self, logits: Tensor, device: torch.device
    ) -> None:
        for p in (
            Bernoulli(logits, event_dims=1),
            Gaussian(logits, 0.5, event_dims=1),
            DiscretisedLogistic(logits, logits, event_dims=1),
        ):
            before = torch.get_rng_state()
            first, again, other = (
                p.draw(torch.Generator(device).manual_seed(seed)) for seed in (1, 1, 2)
            )
            assert torch.equal(first, again)
            assert not torch.equal(first, other)
            assert torch.equal(torch.get_rng_state(), before)
            assert first.dtype == logits.dtype
            seeded = p.draw(1)
            assert seeded.device == logits.device
            assert torch.equal(seeded, p.draw(torch.Generator().manual_seed(1)))

    def test_samples_as_torch_does(self, logits: Tensor) -> None:
        logits.requires_grad_()
        for p in (Bernoulli(logits, event_dims=1), Gaussian(logits, 0.5, event_dims=1)):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                draws = p.sample(torch.Size([20_000]))
            assert draws.shape == (20_000, 3, 5)
            assert not draws.requires_grad
            assert_mean_equals(draws, p.mean)
            assert_mean_equals((draws - p.mean).square(), p.variance)
            assert not p.has_rsample


class TestGreyPixels:
    def test_are_refused_unless_named(self, logits: Tensor, grey: Tensor) -> None:
        with pytest.raises(ValueError, match=r"x holds grey pixels .* binarise .* pixels=\"grey\""):
            Bernoulli(logits, event_dims=1).log_prob(grey)
        assert Bernoulli(logits, event_dims=1, pixels="grey").log_prob(grey).isfinite().all()

    def test_give_the_cross_entropy(self, logits: Tensor, grey: Tensor) -> None:
        """−H(x, p) = E log p(b), b ~ Bernoulli(x): what dynamic binarisation gives on average."""
        images = binary_images(5, logits.device)
        rows = images.unsqueeze(1)  # (2^D, 1, D) against (N, D)
        probability = torch.where(rows == 1, grey, 1 - grey).prod(-1)
        value = Bernoulli(logits, event_dims=1).log_prob(rows)
        expected = (probability * value).sum(0)
        p = Bernoulli(logits, event_dims=1, pixels="grey")
        torch.testing.assert_close(p.log_prob(grey), expected)

    def test_get_no_density(self, device: torch.device) -> None:
        """∫ exp(value) over [0, 1] is not 1: the value is not a log-likelihood."""
        grid = torch.linspace(0, 1, 2001, device=device, dtype=torch.float64)
        for logit in (0.0, 2.0):
            logits = torch.full((2001, 1), logit, device=device, dtype=torch.float64)
            value = Bernoulli(logits, event_dims=1, pixels="grey").log_prob(grid.unsqueeze(-1))
            p = 1 / (1 + math.exp(-logit))
            mass = 0.5 if logit == 0 else (2 * p - 1) / logit  # ∫ p^x (1−p)^(1−x) dx
            assert float(integral(value.exp(), grid)) == pytest.approx(mass, abs=1e-6)
            assert mass < 0.6

    @pytest.mark.parametrize(
        ("pixels", "value", "message"),
        [
            ("binary", 255.0, r"x must hold 0 and 1 alone, but holds 255"),
            ("binary", -1.0, r"x must hold 0 and 1 alone, but holds -1"),
            ("binary", torch.nan, r"x must hold 0 and 1 alone, but holds nan"),
            ("grey", 1.5, r"x must lie in \[0, 1\], but holds 1.5"),
            ("grey", -0.5, r"x must lie in \[0, 1\], but holds -0.5"),
            ("grey", torch.nan, r"x must lie in \[0, 1\], but holds nan"),
        ],
    )
    def test_outside_the_convention_nothing_passes(
        self, pixels: str, value: float, message: str, logits: Tensor, binary: Tensor
    ) -> None:
        p = Bernoulli(logits, event_dims=1, pixels=pixels)  # type: ignore[arg-type]
        p.log_prob(binary)
        binary[1, 2] = value
        with pytest.raises(ValueError, match=message):
            p.log_prob(binary)

    def test_are_in_the_support_by_convention(
        self, logits: Tensor, binary: Tensor, grey: Tensor
    ) -> None:
        for p, accepted in (
            (Bernoulli(logits, event_dims=1), [True, False, False]),
            (Bernoulli(logits, event_dims=1, pixels="grey"), [True, True, False]),
            (Gaussian(logits, 1.0, event_dims=1), [True, True, True]),
        ):
            inside = [p.support.check(x).all().item() for x in (binary, grey, 2 * grey + 1)]
            assert inside == accepted

    def test_bytes_of_an_unscaled_image_are_refused(self, device: torch.device) -> None:
        x = torch.tensor([[0, 255]], dtype=torch.uint8, device=device)
        with pytest.raises(ValueError, match="x must hold 0 and 1 alone, but holds 255"):
            Bernoulli(torch.zeros(1, 2, device=device), event_dims=1).log_prob(x)


class TestGaussian:
    def test_integrates_to_one(self, device: torch.device) -> None:
        mean = torch.tensor([[0.3], [-1.0], [2.0]], dtype=torch.float64, device=device)
        sigma = torch.tensor([[0.2], [1.0], [1.7]], dtype=torch.float64, device=device)
        assert_density(gaussian_log_likelihood, mean, sigma)

    def test_integrates_to_one_in_the_plane(self, device: torch.device) -> None:
        mean = torch.tensor([[0.3, -0.5]], dtype=torch.float64, device=device)
        sigma = torch.tensor([[0.4, 1.5]], dtype=torch.float64, device=device)
        assert_density(gaussian_log_likelihood, mean, sigma)

    def test_equals_torch(self, logits: Tensor, grey: Tensor, sigma: Tensor) -> None:
        assert_gradients_equal(
            gaussian_log_likelihood,
            lambda mean, x, sigma: Independent(Normal(mean, sigma), 1).log_prob(x),
            logits,
            grey,
            sigma,
        )
        assert_gradients_equal(
            gaussian_log_likelihood,
            lambda mean, x, sigma: MultivariateNormal(mean, (sigma**2).diag()).log_prob(x),
            logits,
            grey,
            sigma,
        )
        ours, torchs = Gaussian(logits, sigma, event_dims=1), Normal(logits, sigma)
        torch.testing.assert_close(ours.mean, torchs.mean)
        torch.testing.assert_close(ours.variance, torchs.variance)
        torch.testing.assert_close(ours.stddev, torchs.stddev)

    def test_gradcheck(self, logits: Tensor, grey: Tensor, sigma: Tensor) -> None:
        inputs = (logits.requires_grad_(), grey.requires_grad_(), sigma.requires_grad_())
        assert torch.autograd.gradcheck(gaussian_log_likelihood, inputs)
        assert torch.autograd.gradgradcheck(gaussian_log_likelihood, inputs)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_stable_for_extreme_sigmas(self, dtype: torch.dtype, device: torch.device) -> None:
        """Log-variances of ±30, the residuals one σ."""
        for log_sigma in (-15.0, 15.0):
            sigma = torch.tensor(log_sigma, dtype=dtype, device=device).exp().requires_grad_()
            x = torch.zeros(1, 3, dtype=dtype, device=device)
            value = gaussian_log_likelihood(x + sigma.detach(), x, sigma)
            (slope,) = torch.autograd.grad(value.sum(), sigma)
            exact = -3 * (0.5 + log_sigma + 0.5 * math.log(2 * math.pi))
            torch.testing.assert_close(value, torch.tensor([exact]).to(value))
            assert slope.abs() * sigma < 1e-5  # (residual/σ)² = 1 is the maximum over σ

    def test_one_sigma_is_a_number_or_a_tensor(self, logits: Tensor, grey: Tensor) -> None:
        as_number = gaussian_log_likelihood(logits, grey, 0.3)
        for shape in ((), (1,), (5,), (3, 1), (3, 5)):
            sigma = torch.full(shape, 0.3).to(logits)
            torch.testing.assert_close(gaussian_log_likelihood(logits, grey, sigma), as_number)

    def test_is_well_behaved(self, logits: Tensor, grey: Tensor, sigma: Tensor) -> None:
        assert_well_behaved(gaussian_log_likelihood, logits, grey, sigma)
        assert_well_behaved(lambda m, x: gaussian_log_likelihood(m, x, 0.3), logits, grey)

    def test_draws_have_its_moments(
        self, logits: Tensor, sigma: Tensor, generator: torch.Generator
    ) -> None:
        p = Gaussian(logits.expand(20_000, 3, 5), sigma, event_dims=1)
        centred = p.draw(generator) - logits
        assert_mean_equals(centred, 0.0)
        outer = centred.unsqueeze(-1) * centred.unsqueeze(-2)
        assert_mean_equals(outer, torch.diag(sigma.square()).expand(3, 5, 5))
        assert_mean_equals(centred[:, 0] * centred[:, 1], 0.0)

    def test_the_best_sigma_is_the_residuals_root_mean_square(
        self, logits: Tensor, grey: Tensor
    ) -> None:
        best = (logits - grey).square().mean().sqrt().requires_grad_()
        (slope,) = torch.autograd.grad(gaussian_log_likelihood(logits, grey, best).sum(), best)
        assert abs(slope.item()) < 1e-10


class TestDiscretisedLogistic:
    """Pixels of 256 values, in the middle and at both ends, of scales from a hair to a room."""

    @pytest.fixture
    def p(self, device: torch.device) -> DiscretisedLogistic:
        mean = torch.tensor([-0.3, 0.0, 0.2, 0.5019, 1.0, 1.4], dtype=torch.float64, device=device)
        log_scale = torch.tensor([-7.8, -5.0, -3.0, -1.0, 2.0], dtype=torch.float64, device=device)
        return DiscretisedLogistic(
            mean.view(-1, 1, 1).expand(6, 5, 1), log_scale.view(1, 5, 1), event_dims=1
        )

    @pytest.fixture
    def levels(self, device: torch.device) -> Tensor:
        """All 256 pixels: (256, 1, 1, 1)."""
        return torch.arange(256, dtype=torch.float64, device=device).view(-1, 1, 1, 1) / 255

    def test_sums_to_one_over_the_256_values(self, p: DiscretisedLogistic, levels: Tensor) -> None:
        log_p = p.log_prob(levels)
        assert (log_p <= 0).all()
        torch.testing.assert_close(log_p.exp().sum(0), torch.ones(6, 5).to(log_p))

    def test_equals_the_formula_on_paper(self, levels: Tensor) -> None:
        """σ((x + ½/255 − m)/s) − σ((x − ½/255 − m)/s), with the tails in the first and last bin."""

        def on_paper(mean: Tensor, log_scale: Tensor) -> Tensor:
            upper = torch.sigmoid((levels + 0.5 / 255 - mean) / log_scale.exp())
            lower = torch.sigmoid((levels - 0.5 / 255 - mean) / log_scale.exp())
            upper = torch.where(levels == 1, 1.0, upper)
            lower = torch.where(levels == 0, 0.0, lower)
            return (upper - lower).log().sum(-1)

        mean = torch.tensor([[[0.1], [0.45], [0.9]]]).to(levels)
        log_scale = torch.tensor([[[-2.5], [-3.0], [-1.0]]]).to(levels)
        assert_gradients_equal(
            lambda m, s: DiscretisedLogistic(m, s, event_dims=1).log_prob(levels),
            on_paper,
            mean,
            log_scale,
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_exact_however_far_out_the_pixel_lies(
        self, dtype: torch.dtype, device: torch.device
    ) -> None:
        """A thousand scales away: log σ(−1000), where the difference of two sigmoids is 0."""
        mean = torch.full((1, 1), 0.2, dtype=dtype, device=device, requires_grad=True)
        log_scale = torch.tensor(math.log(0.5e-3), dtype=dtype, device=device, requires_grad=True)
        x = torch.full((1, 1), 178 / 255, dtype=dtype, device=device)
        value = DiscretisedLogistic(mean, log_scale, event_dims=1).log_prob(x)
        distance = (178 / 255 - 0.2 - 0.5 / 255) / 0.5e-3
        exact = -distance + math.log(-math.expm1(-1 / 255 / 0.5e-3))
        torch.testing.assert_close(value, torch.tensor([exact]).to(value), rtol=1e-5, atol=0.0)
        slopes = torch.autograd.grad(value.sum(), (mean, log_scale))
        torch.testing.assert_close(slopes[0].item(), 2000.0, rtol=1e-4, atol=0.0)
        assert slopes[1].isfinite()

    def test_gradcheck(self, generator: torch.Generator, device: torch.device) -> None:
        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)

        mean, log_scale = random(2, 3, 2, 2), -3 * random(2, 3, 2, 2)
        x = (255 * random(2, 3, 2, 2)).round() / 255
        x[0, 0, 0] = torch.tensor([0.0, 1.0])
        inputs = [value.requires_grad_() for value in (mean, log_scale)]
        assert torch.autograd.gradcheck(
            lambda m, s: DiscretisedLogistic(m, s, 3).log_prob(x), inputs
        )

    def test_mean_is_within_half_a_grey_level(self, p: DiscretisedLogistic, levels: Tensor) -> None:
        exact = (p.log_prob(levels).exp().unsqueeze(-1) * levels).sum(0)
        assert ((p.mean - exact).abs() < 0.5 / 255 + 1e-9).all()
        broad = p.log_scale.flatten() > -4.9
        torch.testing.assert_close(p.mean[:, broad], exact[:, broad], rtol=0.0, atol=1e-5)

    def test_draws_are_grey_levels(
        self, p: DiscretisedLogistic, generator: torch.Generator
    ) -> None:
        for x in (p.draw(generator), p.sample(torch.Size([7]))):
            assert torch.equal((255 * x).round() / 255, x)
            assert x.min() == 0
            assert x.max() == 1

    def test_draws_have_its_moments(
        self, p: DiscretisedLogistic, levels: Tensor, generator: torch.Generator
    ) -> None:
        p = DiscretisedLogistic(p.loc[1:5, 1:], p.log_scale[:, 1:], event_dims=1)
        many = DiscretisedLogistic(p.loc.expand(20_000, 4, 4, 1), p.log_scale, event_dims=1)
        probability = p.log_prob(levels).exp().unsqueeze(-1)
        draws = many.draw(generator)
        for power in (1, 2):
            assert_mean_equals(draws**power, (probability * levels**power).sum(0))

    def test_samples_broadcast_against_examples(
        self, generator: torch.Generator, device: torch.device
    ) -> None:
        mean = torch.rand(4, 2, 3, 5, 6, generator=generator, device=device)
        x = (255 * torch.rand(2, 3, 5, 6, generator=generator, device=device)).round() / 255
        value = DiscretisedLogistic(mean, -mean, 3).log_prob(x)
        assert value.shape == (4, 2)
        alone = [DiscretisedLogistic(m, -m, 3).log_prob(x) for m in mean]
        torch.testing.assert_close(value, torch.stack(alone))

    @pytest.mark.parametrize("value", [0.5, 0.1, -1 / 255, 256 / 255, 128.0, math.nan])
    def test_other_pixels_are_refused(self, value: float, p: DiscretisedLogistic) -> None:
        x = torch.full((6, 5, 1), 3 / 255).to(p.loc)
        p.log_prob(x.float().to(x))  # rounded to float32, as images are
        x[1] = value
        with pytest.raises(ValueError, match=r"x must hold 8-bit pixels k/255, but holds"):
            p.log_prob(x)

    def test_bits_per_dim(self, device: torch.device) -> None:
        """All 256 values alike are 8 bits; a hundredth of a nat per dimension is 0.0144 bits."""
        assert bits_per_dim(-12 * math.log(256), (3, 2, 2)) == pytest.approx(8)
        nats = torch.tensor([-0.12, -12.0], device=device)
        torch.testing.assert_close(
            bits_per_dim(nats, (3, 2, 2)), torch.tensor([0.01, 1.0]).to(nats) / math.log(2)
        )


def assert_density(log_likelihood: Formula, mean: Tensor, sigma: Tensor) -> None:
    """∫ exp(log p(x)) dx = 1 in one or two dimensions, for each row."""
    n_dims = mean.shape[-1]
    grid = real_line(mean.device, n=4001 if n_dims == 1 else 401)
    x = torch.cartesian_prod(*[grid] * n_dims).view(-1, n_dims)
    for row, scale in zip(mean, sigma, strict=True):
        density = log_likelihood(row.expand_as(x), x, scale.expand_as(x)).exp()
        mass = density.view(*[len(grid)] * n_dims)
        for _ in range(n_dims):
            mass = integral(mass, grid)
        torch.testing.assert_close(mass, torch.ones_like(mass))


def correct(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The formula that the mistakes below are made in."""
    terms = 0.5 * ((x - mean) / sigma) ** 2 + sigma.log() + 0.5 * math.log(2 * math.pi)
    return -terms.sum(-1)


def constant_once_an_element(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    n_dims = mean.shape[-1]
    constant = n_dims / 2 * math.log(2 * math.pi)
    return -(0.5 * ((x - mean) / sigma) ** 2 + sigma.log() + constant).sum(-1)


def log_sigma_with_the_wrong_sign(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    return correct(mean, x, sigma) + 2 * sigma.log().sum(-1)


def constant_left_out(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    return correct(mean, x, sigma) + mean.shape[-1] / 2 * math.log(2 * math.pi)


def mean_over_pixels(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    return correct(mean, x, sigma) / mean.shape[-1]


def half_left_out(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    return correct(mean, x, sigma) - 0.5 * (((x - mean) / sigma) ** 2).sum(-1)


def sigma_read_as_variance(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    terms = 0.5 * (x - mean) ** 2 / sigma + sigma.log() + 0.5 * math.log(2 * math.pi)
    return -terms.sum(-1)


def returned_as_loss(mean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    return -correct(mean, x, sigma)


class TestPublishedMistakes:
    """Each is made here, and each breaks the law that the library's formula is held to."""

    @pytest.mark.parametrize(
        "mistake",
        [
            constant_once_an_element,
            log_sigma_with_the_wrong_sign,
            constant_left_out,
            mean_over_pixels,
            half_left_out,
            sigma_read_as_variance,
            returned_as_loss,
        ],
    )
    def test_is_caught(self, mistake: Formula, device: torch.device) -> None:
        mean = torch.tensor([[0.3, -0.5]], dtype=torch.float64, device=device)
        x = torch.tensor([[1.1, 0.4]], dtype=torch.float64, device=device)
        sigma = torch.tensor([[0.4, 1.5]], dtype=torch.float64, device=device)
        torch.testing.assert_close(gaussian_log_likelihood(mean, x, sigma), correct(mean, x, sigma))
        assert_density(correct, mean, sigma)
        difference = mistake(mean, x, sigma) - gaussian_log_likelihood(mean, x, sigma)
        assert difference.abs().item() > 0.1
        with pytest.raises(AssertionError):
            assert_density(mistake, mean, sigma)

    def test_the_constant_once_an_element_is_an_error_of_d_squared(
        self, device: torch.device
    ) -> None:
        """784 pixels: half a million nats."""
        mean = torch.zeros(1, 784, device=device, dtype=torch.float64)
        sigma = torch.ones_like(mean)
        error = gaussian_log_likelihood(mean, mean, sigma) - constant_once_an_element(
            mean, mean, sigma
        )
        assert error.item() == pytest.approx(784 * 783 / 2 * math.log(2 * math.pi))


BAD_CALLS: dict[str, tuple[Callable[[Tensor, Tensor], object], str]] = {
    "bernoulli shapes": (
        lambda a, x: bernoulli_log_likelihood(a, x[:, :4]),
        r"logits and x must have the same shape, but have \(3, 5\) and \(3, 4\)",
    ),
    "bernoulli scalar": (
        lambda a, x: bernoulli_log_likelihood(a[0, 0], x[0, 0]),
        r"logits must have a batch dimension",
    ),
    "bernoulli integers": (
        lambda a, x: bernoulli_log_likelihood(a.long(), x),
        r"logits must be floating point, but is torch.int64",
    ),
    "bernoulli NaN": (
        lambda a, x: bernoulli_log_likelihood(a / 0, x),
        r"logits must be finite, but holds NaN or infinity",
    ),
    "bernoulli event": (
        lambda a, x: Bernoulli(a, event_dims=1).log_prob(x[:, :4]),
        r"x must end in the shape \(5,\), but is \(3, 4\)",
    ),
    "bernoulli batch": (
        lambda a, x: Bernoulli(a, event_dims=1).log_prob(x[:2]),
        r"x must be one observation \(5,\) for each of the batch \(3,\), but is \(2, 5\)",
    ),
    "bernoulli pixels": (
        lambda a, x: Bernoulli(a, event_dims=1, pixels="gray"),  # type: ignore[arg-type]
        r'pixels must be "binary" or "grey", not \'gray\'',
    ),
    "bernoulli event_dims": (
        lambda a, x: Bernoulli(a, event_dims=3),
        r"event_dims must lie in 0…2, .* not 3",
    ),
    "gaussian shapes": (
        lambda a, x: gaussian_log_likelihood(a, x[:, :4], 1.0),
        r"mean and x must have the same shape, but have \(3, 5\) and \(3, 4\)",
    ),
    "gaussian scalar": (
        lambda a, x: gaussian_log_likelihood(a[0, 0], x[0, 0], 1.0),
        r"mean must have a batch dimension",
    ),
    "gaussian integers": (
        lambda a, x: gaussian_log_likelihood(a.long(), x, 0.5),
        r"mean must be floating point, but is torch.int64",
    ),
    "gaussian sigma shape": (
        lambda a, x: gaussian_log_likelihood(a, x, torch.ones(4)),
        r"sigma must broadcast to mean's shape \(3, 5\), but is \(4,\)",
    ),
    "gaussian sigma too large": (
        lambda a, x: gaussian_log_likelihood(a[:1], x[:1], torch.ones(3, 5)),
        r"sigma must broadcast to mean's shape \(1, 5\), but is \(3, 5\)",
    ),
    "gaussian sigma with samples": (
        lambda a, x: gaussian_log_likelihood(a, x, torch.ones(2, 3, 5)),
        r"sigma must broadcast to mean's shape \(3, 5\), but is \(2, 3, 5\)",
    ),
    "gaussian sigma zero": (
        lambda a, x: gaussian_log_likelihood(a, x, 0.0),
        r"sigma must be a positive number, not 0",
    ),
    "gaussian sigma negative": (
        lambda a, x: gaussian_log_likelihood(a, x, torch.tensor([1.0, 1, 1, 1, -2])),
        r"sigma must be positive, but holds -2",
    ),
    "gaussian sigma NaN": (
        lambda a, x: gaussian_log_likelihood(a, x, math.nan),
        r"sigma must be a positive number, not nan",
    ),
    "gaussian mean NaN": (
        lambda a, x: gaussian_log_likelihood(a * math.nan, x, 1.0),
        r"mean must be finite",
    ),
    "gaussian x NaN": (
        lambda a, x: gaussian_log_likelihood(a, x * math.nan, 1.0),
        r"x must be finite",
    ),
    "gaussian x infinite": (
        lambda a, x: Gaussian(a, 1.0, event_dims=1).log_prob(x + math.inf),
        r"x must be finite",
    ),
    "logistic scale": (
        lambda a, x: DiscretisedLogistic(a, a[:2], event_dims=1),
        r"log_scale must broadcast to mean's shape \(3, 5\), but is \(2, 5\)",
    ),
    "logistic NaN": (
        lambda a, x: DiscretisedLogistic(a / 0, a, event_dims=1),
        r"mean must be finite",
    ),
    "logistic bytes": (
        lambda a, x: DiscretisedLogistic(a, a, event_dims=1).log_prob(x.to(torch.uint8)),
        r"x must be floating point, but is torch.uint8",
    ),
    "bits of no shape": (
        lambda a, x: bits_per_dim(1.0, ()),
        r"shape must hold at least one size",
    ),
    "gaussian event": (
        lambda a, x: Gaussian(a, 1.0, event_dims=2).log_prob(x[0]),
        r"x must end in the shape \(3, 5\), but is \(5,\)",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_named(
    call: Callable[[Tensor, Tensor], object], message: str, logits: Tensor, binary: Tensor
) -> None:
    with pytest.raises(ValueError, match=message):
        call(logits, binary)


@pytest.mark.usefixtures("unchecked")
class TestWithoutValidation:
    def test_values_go_unread(self, logits: Tensor, grey: Tensor) -> None:
        value = Bernoulli(logits, event_dims=1).log_prob(grey)
        torch.testing.assert_close(value, bernoulli_log_likelihood(logits, grey))
        assert Bernoulli(logits / 0, event_dims=1).log_prob(grey).isnan().all()
        assert gaussian_log_likelihood(logits, grey * math.nan, 1.0).isnan().all()
        assert gaussian_log_likelihood(logits, grey, torch.tensor(-1.0)).isnan().all()

    def test_unless_asked_for(self, logits: Tensor, grey: Tensor) -> None:
        with pytest.raises(ValueError, match="x holds grey pixels"):
            Bernoulli(logits, event_dims=1, validate_args=True).log_prob(grey)
        with pytest.raises(ValueError, match="sigma must be positive"):
            Gaussian(logits, torch.tensor(-1.0), event_dims=1, validate_args=True)

    def test_shapes_are_still_checked(self, device: torch.device) -> None:
        """(N, 4, 4) would broadcast against (S, N, 1, 4, 4) to another number a row: no error."""
        p = Bernoulli(torch.zeros(2, 3, 1, 4, 4, device=device), event_dims=3)
        with pytest.raises(ValueError, match=r"x must end in the shape \(1, 4, 4\)"):
            p.log_prob(torch.zeros(3, 4, 4, device=device))
