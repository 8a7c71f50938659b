from __future__ import annotations

import math
from dataclasses import replace

import pytest
import scipy.ndimage
import torch
from largest_tensor import LargestTensor
from models import (
    Conditional,
    ConditionalWithWeights,
    FullPosterior,
    LearntPrior,
    MixturePrior,
    TwoLayers,
    with_modes,
)
from models import K as K_OF_MODELS
from statistical import assert_mean_equals, z_threshold
from torch import Tensor, nn

from vaelib._memory import keep_freed_memory
from vaelib.data import Images, load_dataset
from vaelib.elbo import (
    effective_sample_size,
    evidence_lower_bound,
    importance_weighted_bound,
    importance_weighted_elbo,
    log_weights,
)
from vaelib.evaluation import (
    _rows_at_once,
    convention_of,
    evaluate_elbo,
    log_likelihood,
    sharpness,
)
from vaelib.likelihood import Bernoulli
from vaelib.linear_gaussian import LinearGaussian
from vaelib.reparameterization import DiagonalGaussian, FullGaussian, noise
from vaelib.vae import VAE

D, K = 4, 2


class Oracle(LinearGaussian):
    """A linear-Gaussian model, and with `blur` > 0 one whose encoder is not the posterior."""

    def __init__(self, device: torch.device, blur: float = 0.0) -> None:
        values = torch.linspace(-1, 1, D * K + D, dtype=torch.float64, device=device).sin()
        super().__init__(values[: D * K].view(D, K), values[D * K :], sigma=0.7)
        self.blur = blur

    def encoder(self, x: Tensor) -> FullGaussian:
        exact = self.posterior(x)
        return FullGaussian(
            exact.mean + 0.2 * self.blur, scale_tril=(1 + self.blur) * exact.scale_tril
        )


@pytest.fixture
def x(device: torch.device) -> Tensor:
    return torch.linspace(-2, 2, 5 * D, dtype=torch.float64, device=device).view(5, D).cos()


def small_vae(device: torch.device, **options: str) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE((1, 3, 3), latent_dim=2, hidden=[5], **options)
    with torch.no_grad():
        for parameter in vae.parameters():  # far enough from 0 for z to matter
            parameter.mul_(3)
    return vae.double().to(device)


def grey_images(n: int, device: torch.device) -> Images:
    pixels = (torch.arange(n * 9, device=device) * 37 + 11).remainder(255).to(torch.uint8)
    labels = torch.arange(n, device=device)
    return Images(pixels.view(n, 1, 3, 3), labels, "made up", "test")


def digits(n: int, device: torch.device) -> Images:
    images = load_dataset("digits", "test", device=device)[:n]
    return images.binarise("static", torch.Generator().manual_seed(0))


def block_of_noise(device: torch.device) -> int:
    """How many samples are drawn at once."""
    return 1000 if device.type == "cpu" else 10_000


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


class TestAnyModel:
    """What is right for one VAE must be right for every model that the protocol admits."""

    def test_evaluation_mode_is_set_and_put_back(self, device):
        vae, images = with_modes().to(device), digits(5, device)
        expected = [
            evaluate_elbo(vae.eval(), images, 0).per_example,
            log_likelihood(vae, images, 0, samples=20).per_example,
        ]
        vae.train()
        vae.encoder.body[2].eval()  # frozen by hand
        before, buffers = modes(vae), [buffer.clone() for buffer in vae.buffers()]
        seen = [
            evaluate_elbo(vae, images, 0).per_example,
            log_likelihood(vae, images, 0, samples=20).per_example,
        ]
        convention_of(torch.rand(3, 64, device=device), vae)
        for result, value in zip(seen, expected, strict=True):
            torch.testing.assert_close(result, value, rtol=0, atol=0)
        assert modes(vae) == before
        for buffer, value in zip(vae.buffers(), buffers, strict=True):
            torch.testing.assert_close(buffer, value, rtol=0, atol=0)

    @pytest.mark.parametrize("n", [1, 3])
    def test_few_images_and_batch_normalisation(self, device, n):
        vae, images = with_modes().to(device), digits(n, device)
        assert len(evaluate_elbo(vae, images, 0, batch_size=2).per_example) == n
        assert len(log_likelihood(vae, images, 0, samples=3).per_example) == n

    def test_the_bound_is_the_models_own(self, device):
        torch.manual_seed(0)
        two = TwoLayers().to(device)
        images = digits(6, device)
        bound = evaluate_elbo(two, images, 1, samples=4)
        x, generator = images.floats(), torch.Generator().manual_seed(1)
        expected = two(x, noise((4, 6, 5), generator, x))
        torch.testing.assert_close(bound.per_example, expected.per_example.detach())
        assert bound.kl.shape == (6, 1)

    @pytest.mark.parametrize("kind", [LearntPrior, MixturePrior, FullPosterior])
    def test_without_a_closed_form(self, device, kind):
        torch.manual_seed(0)
        model, images = kind().to(device), digits(4, device)
        bound = evaluate_elbo(model, images, 0, samples=5000).per_example
        weights = log_likelihood(model, images, 1, samples=5000)
        x = images.floats()
        with torch.no_grad():
            log_w = log_weights(model, x, noise((5000, 4, K_OF_MODELS), 2, x))
        error = log_w.std(0) * (2 / 5000) ** 0.5
        assert ((bound - log_w.mean(0)).abs() < z_threshold(4) * error).all()
        assert (weights.per_example > bound).all()

    def test_labels_go_where_they_are_taken(self, device):
        torch.manual_seed(0)
        model, images = Conditional().to(device), digits(5, device)
        evaluate_elbo(model, images, 0, batch_size=2)
        assert torch.cat(model.seen).tolist() == images.labels.tolist()
        with pytest.raises(ValueError, match="images must have labels, because the model takes"):
            evaluate_elbo(model, images.floats(), 0)
        assert len(evaluate_elbo(small_vae(device), grey_images(3, device).binarise("dynamic"), 0)
                   .per_example) == 3  # fmt: skip

    def test_a_models_own_weights_are_used(self, device):
        torch.manual_seed(0)
        two, images = TwoLayers().to(device), digits(4, device)
        result = log_likelihood(two, images, 1, samples=400)
        x = images.floats()
        log_w = two.log_weights(x, noise((400, 4, 5), 1, x).cpu().to(x)).detach()
        spread = log_w.exp().std(0) / log_w.exp().mean(0) * (2 / 400) ** 0.5
        other = importance_weighted_bound(log_w)
        assert ((result.per_example - other).abs() < z_threshold(4) * spread).all()
        bound = importance_weighted_elbo(two, x, noise((50, 4, 5), 2, x))
        expected = importance_weighted_bound(two.log_weights(x, noise((50, 4, 5), 2, x)))
        torch.testing.assert_close(bound.per_example, expected)

    def test_a_models_own_weights_are_given_the_labels(self, device):
        torch.manual_seed(0)
        model, images = ConditionalWithWeights().to(device), digits(5, device)
        right = log_likelihood(model, images, 0, samples=200).per_example
        swapped = replace(images, labels=(images.labels + 1) % 10)
        assert (log_likelihood(model, swapped, 0, samples=200).per_example != right).all()
        one_by_one = log_likelihood(model, images, 0, samples=200, chunk_size=7).per_example
        torch.testing.assert_close(one_by_one, right)
        with pytest.raises(ValueError, match="images must have labels"):
            log_likelihood(model, images.floats(), 0, samples=2)
        with pytest.raises(ValueError, match="must have a method log_weights"):
            log_likelihood(Conditional().to(device), images, 0, samples=2)

    def test_own_weights_of_another_shape_are_refused(self, device):
        two = TwoLayers().to(device)
        two.log_weights = lambda x, eps: torch.zeros(len(x), len(eps), device=device)
        with pytest.raises(ValueError, match=r"log_weights must give \(3, 4\)"):
            log_likelihood(two, digits(4, device), 0, samples=3)
        two.log_weights = lambda x, eps: 1.0
        with pytest.raises(ValueError, match=r"but gave \(\)"):
            log_likelihood(two, digits(4, device), 0, samples=3)

    def test_labels_that_nobody_reads_are_refused(self, device):
        x, y = digits(3, device).floats(), torch.arange(3, device=device)
        for model in (TwoLayers().to(device), VAE((1, 8, 8), 2, [4]).to(device)):
            k = model.prior.event_shape[0]
            with pytest.raises(ValueError, match="y must be left out"):
                importance_weighted_elbo(model, x, noise((2, 3, k), 0, x), y)

    def test_a_data_set_and_a_loader_are_as_good_as_a_tensor(self, device):
        torch.manual_seed(0)
        images, x = digits(7, device), digits(7, device).floats()
        pairs = torch.utils.data.TensorDataset(x.cpu(), images.labels.cpu())
        for model in (Conditional().to(device), with_modes().to(device)):
            expected = evaluate_elbo(model, images, 0, batch_size=3).per_example
            loader = torch.utils.data.DataLoader(pairs, batch_size=3)
            for data in (pairs, loader):
                bound = evaluate_elbo(model, data, 0, batch_size=3).per_example
                torch.testing.assert_close(bound, expected, rtol=0, atol=0)
        expected = log_likelihood(model, x, 0, samples=30)
        result = log_likelihood(model, pairs, 0, samples=30)
        torch.testing.assert_close(result.per_example, expected.per_example)
        assert result.convention == expected.convention == "binary pixels"

    def test_only_a_minibatch_becomes_floats(self):
        images = grey_images(5000, torch.device("cpu")).binarise("dynamic")
        vae = VAE((1, 3, 3), latent_dim=1, hidden=[1])
        keep_freed_memory()
        for evaluate in (
            lambda data: evaluate_elbo(vae, data, 0, batch_size=100),
            lambda data: log_likelihood(vae, data, 0, samples=1, chunk_size=100),
            lambda data: convention_of(data, vae),
        ):
            with LargestTensor() as seen:
                evaluate(images)
            assert seen.numel <= 2 * len(images)  # the estimates; all pixels are 45,000

    def test_pixels_of_memory_maps_are_judged_by_some(self):
        x = torch.zeros(10_000, 2)
        x[5] = 0.5  # one grey picture of ten thousand is not looked for
        vae = VAE((2,), latent_dim=1, hidden=[1])
        assert convention_of(x, vae) == "binary pixels"
        assert convention_of(x[5:6], vae) == "grey pixels: not a log-likelihood"

    @pytest.mark.parametrize("outside", [-0.1, 1.1])
    def test_numbers_that_are_no_pixels_are_not_called_so(self, outside: float):
        x = torch.tensor([[0.0, 0.5], [1.0, outside]])
        vae = VAE((2,), latent_dim=1, hidden=[1], likelihood="gaussian")
        assert convention_of(x, vae) == "real numbers"
        assert convention_of(x[:1], vae) == "grey pixels"
        assert "(real numbers, 2 examples, 3" in str(log_likelihood(vae, x, 0, samples=3))
        assert "(grey pixels, 1 images, 3" in str(log_likelihood(vae, x[:1], 0, samples=3))

    def test_grey_pixels_of_any_bernoulli_have_no_log_likelihood(self, device):
        class Own:
            prior = DiagonalGaussian.standard(2, like=torch.zeros(1, device=device))

            def __init__(self, distribution: object) -> None:
                self.distribution = distribution

            def decoder(self, z: Tensor) -> object:
                return self.distribution(z)

        grey, logits = torch.full((1, 2), 0.5, device=device), torch.zeros(1, 2, device=device)
        bernoulli = torch.distributions.Bernoulli(logits=logits)
        for distribution, expected in {
            lambda z: Bernoulli(logits, 1, "grey"): "grey pixels: not a log-likelihood",
            lambda z: bernoulli: "grey pixels: not a log-likelihood",
            lambda z: torch.distributions.Independent(bernoulli, 1): "grey pixels: not a "
            "log-likelihood",
            lambda z: torch.distributions.Normal(logits, 1.0): "grey pixels",
            lambda z, y: bernoulli: "grey pixels",  # cannot be asked without a label
        }.items():
            assert convention_of(grey, Own(distribution)) == expected

    def test_an_integer_is_a_seed(self, device, x):
        model = Oracle(device, blur=0.5)
        for function, drawn_on in (
            (lambda seed: evaluate_elbo(model, x, seed).per_example, "cpu"),
            (lambda seed: log_likelihood(model, x, seed, samples=5).per_example, device),
        ):
            generator = torch.Generator(drawn_on).manual_seed(3)
            torch.testing.assert_close(function(3), function(generator))
            with pytest.raises(ValueError, match=r"generator must be a torch\.Generator or a"):
                function(0.5)


class TestEvaluateElbo:
    def test_averages_examples_and_not_batches(self, device, generator, x):
        model = Oracle(device, blur=0.5)
        unequal = torch.cat([x, 5 + x[:1]])  # five in the first batch, an odd one in the last
        exact = model.exact_elbo(unequal, model.encoder(unequal))
        bound = evaluate_elbo(model, unequal.repeat(2000, 1), generator, batch_size=10_001)
        assert_mean_equals(bound.per_example.view(2000, 6), exact.per_example)
        torch.testing.assert_close(bound.mean(), bound.per_example.view(2000, 6).mean())
        torch.testing.assert_close(bound.kl[-6:], exact.kl)

    def test_is_a_bound_in_eval_too(self, device, generator):
        # A test loss at z = μ is not an ELBO: with this model it is another number.
        vae = small_vae(device)
        images = grey_images(7, device).binarise("static", generator)
        pixels = images.floats().double()
        eps = torch.randn(20_000, 7, 2, generator=generator, dtype=torch.float64, device=device)
        with torch.no_grad():
            terms = vae.decoder(vae.encoder(pixels).reparameterize(eps)).log_prob(pixels)
            at_the_mean = evidence_lower_bound(vae, pixels, torch.zeros_like(eps[:1]))
        seed = generator.get_state()
        training = evaluate_elbo(vae, images, generator, samples=20_000, batch_size=3)
        evaluated = evaluate_elbo(vae.eval(), images, generator.set_state(seed), samples=20_000,
                                  batch_size=3)  # fmt: skip
        torch.testing.assert_close(evaluated.per_example, training.per_example, rtol=0, atol=0)
        error = terms.std(0) * (2 / 20_000) ** 0.5
        assert ((training.reconstruction - terms.mean(0)).abs() < z_threshold(7) * error).all()
        assert ((at_the_mean.reconstruction - terms.mean(0)).abs() > 20 * error).any()

    def test_keeps_the_dtype_and_needs_no_gradient(self, device, generator):
        vae = small_vae(device)
        images = grey_images(4, device).binarise("dynamic")
        for model in (vae, vae.float()):
            bound = evaluate_elbo(model, images, generator)
            assert bound.kl.dtype == bound.reconstruction.dtype == model.prior.mean.dtype
            assert not bound.per_example.requires_grad

    def test_cpu_noise_serves_every_device(self, device):
        vae, images = small_vae(device), grey_images(4, device).binarise("dynamic")
        here = evaluate_elbo(vae, images, torch.Generator().manual_seed(1))
        there = evaluate_elbo(vae.cpu(), images.to("cpu"), torch.Generator().manual_seed(1))
        torch.testing.assert_close(here.per_example.cpu(), there.per_example)

    @pytest.mark.parametrize("bad", [{"samples": 0}, {"batch_size": 0}, {"samples": 2.0}])
    def test_names_bad_arguments(self, device, generator, x, bad):
        with pytest.raises(ValueError, match=f"^{next(iter(bad))} must be an integer"):
            evaluate_elbo(Oracle(device), x, generator, **bad)

    def test_refuses_no_images(self, device, generator, x):
        for function in (evaluate_elbo, log_likelihood):
            for nothing in (x[:0], grey_images(0, device)):
                with pytest.raises(ValueError, match="images must hold at least one"):
                    function(Oracle(device), nothing, generator)


class TestLogLikelihood:
    @pytest.mark.parametrize("samples", [1, 7, 100, 1030])
    @pytest.mark.parametrize("chunk_size", [1, 30, 1000])
    def test_the_exact_posterior_gives_the_exact_answer(
        self, device, generator, x, samples, chunk_size
    ):
        # Every weight is p(x), so a sum over 120 samples divided by 100 would be off by 0.18.
        if samples > 100 and chunk_size == 1:
            samples = 101
        model = Oracle(device)
        result = log_likelihood(model, x, generator, samples=samples, chunk_size=chunk_size)
        torch.testing.assert_close(result.per_example, model.log_marginal(x))
        sizes = torch.full_like(x[:, 0], samples)
        torch.testing.assert_close(result.effective_sample_size, sizes)
        if samples > 1:
            assert (result.standard_error < 1e-7).all()
            assert result.mean_standard_error() < 1e-7

    def test_agrees_with_the_truth_within_its_standard_error(self, device, generator, x):
        model, repeats = Oracle(device, blur=0.5), 400
        exact = model.log_marginal(x)
        result = log_likelihood(model, x.repeat(repeats, 1), generator, samples=300)
        z = (result.per_example - exact.repeat(repeats)) / result.standard_error
        # Repetitions tell whether the standard error is one: z has mean 0 and variance 1. Both only
        # up to 1/S, the order of the delta method: small beside what 2,000 repetitions resolve.
        assert_mean_equals(z, 0.0)
        assert abs(z.var() - 1) < z_threshold() * (2 / len(z)) ** 0.5
        means = result.per_example.view(repeats, 5).mean(1)
        predicted = log_likelihood(model, x, generator, samples=300).mean_standard_error()
        torch.testing.assert_close(means.std(), predicted, rtol=0.25, atol=0)

    def test_equals_all_weights_at_once(self, device, generator, x):
        model, samples = Oracle(device, blur=1.0), 500
        state = generator.get_state()
        result = log_likelihood(model, x[:1], generator, samples=samples, chunk_size=7)
        eps = torch.randn(
            samples, 1, K, generator=generator.set_state(state), dtype=x.dtype, device=device
        )
        log_w = log_weights(model, x[:1], eps)
        torch.testing.assert_close(result.per_example, importance_weighted_bound(log_w))
        torch.testing.assert_close(result.effective_sample_size, effective_sample_size(log_w))
        w = (log_w - log_w.max()).exp()
        torch.testing.assert_close(
            result.standard_error, w.std(0) / (w.mean(0) * samples**0.5)
        )  # fmt: skip

    @pytest.mark.parametrize("samples", [3, 500, 1003])
    def test_noise_is_drawn_image_by_image(self, device, generator, x, samples):
        # Whatever is decoded at once. On a CPU as in the first edition: old numbers still hold.
        model, state = Oracle(device, blur=1.0), generator.get_state()
        expected, block = [], block_of_noise(device)
        for image in x:
            sizes = [min(block, samples - start) for start in range(0, samples, block)]
            eps = torch.cat([noise((size, 1, K), generator, x) for size in sizes])
            expected.append(importance_weighted_bound(log_weights(model, image[None], eps)))
        for chunk_size in (None, 1, 3000, 10**6):
            result = log_likelihood(model, x, generator.set_state(state), samples=samples,
                                    chunk_size=chunk_size)  # fmt: skip
            torch.testing.assert_close(result.per_example, torch.cat(expected))

    @pytest.mark.parametrize(("rows", "decoded"), [(100_000, 3), (500, 3), (300, 2), (10, 1)])
    def test_images_share_a_chunk(self, device, rows, decoded):
        seen = []

        class Watching(Oracle):
            def decoder(self, z: Tensor) -> torch.distributions.Distribution:
                seen.append(z.shape[1])
                return super().decoder(z)

        images = torch.zeros(3, D, dtype=torch.float64, device=device)
        log_likelihood(Watching(device), images, 0, samples=150, chunk_size=rows)
        assert max(seen) == decoded

    def test_a_gpu_decodes_more_at_once(self):
        on_cpu, on_gpu = (
            [_rows_at_once(torch.device(name), pixels) for pixels in (784, 3072, 10**9)]
            for name in ("cpu", "cuda")
        )
        assert on_cpu == [1000, 255, 1]
        assert on_gpu == [100_000, 25_520, 1]

    def test_says_how_many_samples_count(self, device, x):
        model = Oracle(device, blur=1.0)
        result = log_likelihood(model, x, 0, samples=100)
        size = result.effective_sample_size
        assert str(result).endswith(
            f"effective sample size: median {size.median():.1f}, minimum {size.min():.1f})"
        )

    @pytest.mark.parametrize("samples", [100, 2100])
    def test_does_not_depend_on_the_chunk(self, device, generator, x, samples):
        state = generator.get_state()
        results = [
            log_likelihood(
                Oracle(device, blur=1.0),
                x,
                generator.set_state(state),
                samples=samples,
                chunk_size=chunk_size,
            )
            for chunk_size in (30, 64, 333, 1000, 10_000)
        ]
        for result in results[1:]:
            torch.testing.assert_close(result.per_example, results[0].per_example)
            torch.testing.assert_close(
                result.effective_sample_size, results[0].effective_sample_size
            )

    def test_memory_is_bounded_by_the_chunk(self, device, generator):
        class Wide(nn.Linear):
            def forward(self, z: Tensor) -> Tensor:
                assert len(z) <= 50
                return super().forward(z)

        vae = small_vae(device)
        vae.decoder.body = Wide(2, 9, dtype=torch.float64, device=device)
        images = grey_images(3, device).binarise("static", generator)
        keep_freed_memory()  # which is done once
        largest, block = {}, block_of_noise(device)
        for samples in (10, 60, block, 4 * block):
            with LargestTensor() as seen:
                log_likelihood(vae, images, generator, samples=samples, chunk_size=50)
            largest[samples] = seen.numel
        # 50 images of 9 pixels decoded at once, or a block of noise: samples of 2 numbers.
        assert max(largest.values()) <= max(50 * 9, block * 2)
        assert largest[4 * block] == largest[block]

    def test_dynamic_pixels_are_drawn_once(self, device, generator):
        # If neither p(x given z) nor q depends on anything, all weights of an image are equal,
        # unless its pixels change between chunks.
        vae = small_vae(device)
        for parameter in vae.parameters():
            nn.init.zeros_(parameter)
        images = grey_images(6, device).binarise("dynamic")
        result = log_likelihood(vae, images, generator, samples=40, chunk_size=10)
        torch.testing.assert_close(
            result.per_example, torch.full_like(result.per_example, -9 * math.log(2))
        )
        vae.decoder.body[-1].bias.data.fill_(1.0)
        state = generator.get_state()
        result = log_likelihood(vae, images, generator, samples=40, chunk_size=10)
        pixels = images.floats(generator.set_state(state)).double()
        exact = vae.decoder(torch.zeros(6, 2, dtype=torch.float64, device=device)).log_prob(pixels)
        torch.testing.assert_close(result.per_example, exact.detach())
        assert (result.standard_error < 1e-6).all()

    def test_says_under_which_convention(self, device, generator):
        grey = grey_images(3, device)
        static, binary = grey.binarise("static", generator), small_vae(device)
        cross_entropy = small_vae(device, likelihood="grey bernoulli")
        gaussian = small_vae(device, likelihood="gaussian")
        for model, images, convention in [
            (binary, static, "static binarisation"),
            (binary, grey.binarise("dynamic"), "dynamic binarisation"),
            (binary, static.floats(), "binary pixels"),
            (cross_entropy, static, "static binarisation"),
            (cross_entropy, grey, "grey pixels: not a log-likelihood"),
            (cross_entropy, grey.floats(), "grey pixels: not a log-likelihood"),
            (gaussian, grey, "grey pixels"),
        ]:
            result = log_likelihood(model, images, generator, samples=2)
            assert result.convention == convention
            assert f"({convention}, 3 images, 2 samples each; effective" in str(result)
        with pytest.raises(ValueError, match="grey pixels"):
            log_likelihood(binary, grey, generator, samples=2)

    def test_is_a_log_likelihood_and_not_an_nll(self, device, generator):
        # Over all 2⁹ binary images p(x) sums to one, up to the sum of 512 independent errors.
        pixels = torch.tensor([0.0, 1.0], device=device)
        everything = torch.cartesian_prod(*[pixels] * 9).view(-1, 1, 3, 3)
        result = log_likelihood(small_vae(device), everything, generator, samples=1000)
        p = result.per_example.exp()
        error = (p * result.standard_error).square().sum().sqrt()
        assert error < 0.05
        assert abs(p.sum() - 1) < z_threshold() * error

    def test_one_sample_has_no_standard_error(self, device, generator, x):
        result = log_likelihood(Oracle(device, blur=1.0), x, generator, samples=1)
        assert result.standard_error.isnan().all()

    def test_keeps_the_dtype_and_needs_no_gradient(self, device, generator):
        vae = small_vae(device).float()
        images = grey_images(4, device).binarise("static", generator)
        result = log_likelihood(vae, images, generator, samples=3)
        for value in (result.per_example, result.effective_sample_size, result.standard_error):
            assert value.dtype == torch.float32
            assert value.device.type == device.type
            assert not value.requires_grad

    @pytest.mark.parametrize("bad", [{"samples": 0}, {"chunk_size": 0}, {"samples": True}])
    def test_names_bad_arguments(self, device, generator, x, bad):
        with pytest.raises(ValueError, match=f"^{next(iter(bad))} must be an integer"):
            log_likelihood(Oracle(device), x, generator, **bad)


class TestSharpness:
    def test_is_the_variance_of_the_laplacian(self, device, generator):
        images = torch.rand(3, 2, 6, 5, generator=generator, dtype=torch.float64, device=device)
        for image, value in zip(images.cpu(), sharpness(images).cpu(), strict=True):
            edges = scipy.ndimage.laplace(image.mean(0).numpy())[1:-1, 1:-1]
            assert value.item() == pytest.approx(edges.var())

    def test_falls_with_blur_and_ignores_brightness(self, device, generator):
        images = torch.rand(20, 1, 28, 28, generator=generator, dtype=torch.float64, device=device)
        blurred = nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
        assert (sharpness(blurred) < sharpness(images)).all()
        torch.testing.assert_close(sharpness(images + 0.5), sharpness(images))
        torch.testing.assert_close(sharpness(images * 3), 9 * sharpness(images))

    def test_names_bad_arguments(self):
        with pytest.raises(ValueError, match=r"images must be \(N ≥ 1, C ≥ 1"):
            sharpness(torch.zeros(3, 2, 5))


def test_a_weight_that_is_not_a_number_gives_no_result(device: torch.device) -> None:
    class Late(Oracle):
        """Its decoder fails in the second chunk, when values are no longer read."""

        calls = 0

        def decoder(self, z: Tensor) -> torch.distributions.Distribution:
            self.calls += 1
            return super().decoder(z if self.calls < 2 else z * torch.nan)

    x = torch.zeros(1, D, dtype=torch.float64, device=device)
    with pytest.raises(ValueError, match="model gives an image the weight NaN"):
        log_likelihood(Late(device), x, torch.Generator(device).manual_seed(0), samples=40,
                       chunk_size=20)  # fmt: skip
