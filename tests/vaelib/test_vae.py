"""The VAE as a whole: its bound, exact where it can be, and how it is saved, replayed and moved."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from statistical import assert_mean_equals
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl

from vaelib import ELBO, VAE, DiagonalGaussian, FullGaussian, kl_divergence

SHAPE = (1, 6, 7)
K = 3

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "defaults": {"hidden": [16]},
    "tanh, two layers": {"hidden": [16, 8], "activation": "tanh"},
    "linear": {"hidden": []},
    "sigmoid, grey": {"hidden": [16], "activation": "sigmoid", "likelihood": "grey bernoulli"},
    "gaussian": {"hidden": [16], "likelihood": "gaussian", "sigma": 0.5},
    "gaussian, learnt σ": {"hidden": [16], "likelihood": "gaussian", "sigma": None},
    "convolutional": {"hidden": [4], "network": "convolutional"},
    "convolutional, gaussian": {
        "hidden": [4],
        "network": "convolutional",
        "likelihood": "gaussian",
        "sigma": None,
    },
    "residual": {"hidden": [4], "network": "residual"},
    "residual, 8 bits": {
        "hidden": [4],
        "network": "residual",
        "likelihood": "discretised logistic",
    },
    "8 bits": {"hidden": [16], "likelihood": "discretised logistic"},
}


class OwnEncoder(nn.Module):
    """With Dropout and BatchNorm, as one's own have them."""

    def __init__(self, n_features: int = 2 * K) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(42, 8), nn.BatchNorm1d(8), nn.SiLU()
        )
        self.last = nn.Linear(8, n_features)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.last(self.layers(x))
        return features


class OwnDecoder(nn.Linear):
    def __init__(self, per_pixel: int = 1) -> None:
        super().__init__(K, 42 * per_pixel)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Parameters are drawn from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(params=CONFIGURATIONS)
def vae(request: pytest.FixtureRequest, device: torch.device) -> VAE:
    return VAE(SHAPE, latent_dim=K, **CONFIGURATIONS[request.param]).to(device, torch.float64)


@pytest.fixture
def x(generator: torch.Generator, device: torch.device) -> Tensor:
    half = torch.full((5, *SHAPE), 0.5, device=device, dtype=torch.float64)
    return torch.bernoulli(half, generator=generator)


@pytest.fixture
def eps(generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(2, 5, K, generator=generator, device=device, dtype=torch.float64)


def assert_bit_equal(bound: ELBO, other: ELBO) -> None:
    assert torch.equal(bound.reconstruction, other.reconstruction)
    assert torch.equal(bound.kl, other.kl)


def curved(device: torch.device) -> VAE:
    """A VAE whose decoder is far from linear where q has its mass, as a trained one is."""
    vae = VAE(SHAPE, latent_dim=K, hidden=[16]).to(device, torch.float64)
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.mul_(5)
    return vae


class TestTheBound:
    def test_has_one_value_an_example_and_latent_dimension(
        self, vae: VAE, x: Tensor, eps: Tensor
    ) -> None:
        for dtype in (torch.float32, torch.float64):
            bound = vae.to(dtype)(x.to(dtype), eps.to(dtype))
            assert bound.reconstruction.shape == (5,)
            assert bound.kl.shape == (5, K)
            assert bound.reconstruction.dtype == bound.kl.dtype == dtype
            assert bound.kl.device == x.device
            assert (bound.kl >= 0).all()

    def test_is_what_one_writes_with_torch_alone(
        self, device: torch.device, x: Tensor, eps: Tensor
    ) -> None:
        """Bernoulli and Gaussian, summed over pixels and dimensions, averaged over samples."""
        for likelihood in ("bernoulli", "gaussian"):
            sigma = 0.5 if likelihood == "gaussian" else None
            vae = VAE(SHAPE, K, hidden=[16], likelihood=likelihood, sigma=sigma)  # type: ignore[arg-type]
            vae = vae.to(x)
            mu, logvar = vae.encoder.body(x).chunk(2, dim=-1)
            q = Normal(mu, (logvar / 2).exp())
            outputs = vae.decoder.body(q.loc + q.scale * eps).view(2, 5, *SHAPE)
            target = x.expand_as(outputs)
            if likelihood == "bernoulli":
                terms = -F.binary_cross_entropy_with_logits(outputs, target, reduction="none")
            else:
                terms = Normal(outputs, vae.decoder.log_sigma.exp()).log_prob(target)
            bound = vae(x, eps)
            torch.testing.assert_close(bound.reconstruction, terms.sum((-3, -2, -1)).mean(0))
            kl = torch_kl(q, Normal(torch.zeros_like(mu), torch.ones_like(mu)))
            torch.testing.assert_close(bound.kl, kl)
            elbo = (terms.flatten(2).sum(-1).mean(0) - kl.sum(-1)).mean()
            torch.testing.assert_close(bound.mean(), elbo)

    def test_of_a_linear_gaussian_vae_is_exact(self, x: Tensor) -> None:
        """Without hidden layers p(x) is Gaussian: log p(x) = ELBO + KL(q ‖ posterior) to 1e-9."""
        vae = VAE(SHAPE, latent_dim=K, hidden=[], likelihood="gaussian", sigma=0.7).to(x)
        weight, bias = vae.decoder.body[0].weight, vae.decoder.body[0].bias
        variance = vae.decoder.log_sigma.exp().square()
        rows, eye = x.flatten(1) - bias, torch.eye(K).to(x)
        marginal = MultivariateNormal(
            torch.zeros_like(bias), weight @ weight.mT + variance * torch.eye(len(bias)).to(x)
        )
        precision = eye + weight.mT @ weight / variance
        mean = torch.linalg.solve(precision, weight.mT @ rows.mT / variance).mT
        posterior = FullGaussian(mean, precision_matrix=precision)
        # These 2K points have the mean and covariance of N(0, I): log p(x given z), quadratic in z,
        # is averaged over them without error.
        eps = (K**0.5 * torch.cat([eye, -eye])).unsqueeze(1).expand(2 * K, len(x), K)
        bound = vae(x, eps).per_example
        gap = kl_divergence(vae.encoder(x), posterior)
        assert (gap > 1e-3).all()
        torch.testing.assert_close(bound + gap, marginal.log_prob(rows), rtol=0.0, atol=1e-9)

    def test_reads_strided_images_and_changes_none(self, vae: VAE, x: Tensor, eps: Tensor) -> None:
        before = x.clone(), eps.clone()
        bound = vae(x, eps)
        strided = vae(x.mT.contiguous().mT, eps.mT.contiguous().mT)
        torch.testing.assert_close(strided.per_example, bound.per_example)
        assert torch.equal(x, before[0])
        assert torch.equal(eps, before[1])

    def test_of_an_example_depends_on_its_image_and_its_noise_alone(
        self, vae: VAE, x: Tensor, eps: Tensor
    ) -> None:
        x.requires_grad_()
        eps.requires_grad_()
        bound = vae(x, eps).per_example
        for i in range(5):
            by_x, by_eps = torch.autograd.grad(bound[i], (x, eps), retain_graph=True)
            others = torch.arange(5, device=x.device) != i
            assert by_x[i].any()
            assert not by_x[others].any()
            assert by_eps[:, i].all()
            assert not by_eps[:, others].any()

    def test_teaches_every_parameter(self, vae: VAE, x: Tensor, eps: Tensor) -> None:
        (-vae(x, eps).mean()).backward()
        for name, parameter in vae.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name

    def test_has_the_gradient_of_finite_differences(
        self, device: torch.device, x: Tensor, eps: Tensor
    ) -> None:
        vae = VAE(SHAPE, latent_dim=K, hidden=[4], activation="tanh").to(x)
        names, values = zip(*vae.named_parameters(), strict=True)

        def loss(*values: Tensor) -> Tensor:
            replaced = dict(zip(names, values, strict=True))
            return torch.func.functional_call(vae, replaced, (x, eps)).mean()

        assert torch.autograd.gradcheck(loss, values, fast_mode=True)

    def test_is_unchanged_by_eval(self, vae: VAE, x: Tensor, eps: Tensor) -> None:
        training = vae.train()(x, eps)
        evaluating = vae.eval()(x, eps)
        with torch.no_grad():
            assert_bit_equal(training, evaluating)
            assert_bit_equal(vae(x, eps), evaluating)

    def test_replays(self, vae: VAE, x: Tensor, eps: Tensor) -> None:
        """The noise is an argument: same noise, same bits, no other source."""
        state = torch.get_rng_state()
        assert_bit_equal(vae(x, eps), vae(x.clone(), eps.clone()))
        assert torch.equal(torch.get_rng_state(), state)
        other = vae(x, eps + 0.1)
        assert not torch.equal(other.reconstruction, vae(x, eps).reconstruction)

    def test_replays_its_gradient(self, device: torch.device, x: Tensor, eps: Tensor) -> None:
        vae = VAE(SHAPE, latent_dim=K, hidden=[16]).to(x)
        first, again = (
            torch.autograd.grad(vae(x, eps).mean(), list(vae.parameters())) for _ in range(2)
        )
        assert all(map(torch.equal, first, again))


class TestPublishedMistakes:
    def test_decoding_the_mean_gives_no_elbo(
        self, device: torch.device, x: Tensor, generator: torch.Generator
    ) -> None:
        """A "test loss" with z = μ is not the expectation that the bound estimates."""
        vae = curved(device).eval()
        eps = torch.randn(4000, 5, K, generator=generator, device=device, dtype=x.dtype)
        with torch.no_grad():
            q = vae.encoder(x)
            samples = vae.decoder(q.reparameterize(eps)).log_prob(x)
            at_the_mean = vae.decoder(q.mean).log_prob(x)
            assert_mean_equals(samples, vae(x, eps).reconstruction)
        with pytest.raises(AssertionError, match="5 of 5 means too far off"):
            assert_mean_equals(samples, at_the_mean)

    def test_kl_averaged_over_dimensions_is_another_number(
        self, device: torch.device, x: Tensor, eps: Tensor
    ) -> None:
        """Both terms are sums: nats per example, and the sum of the parts is the divergence."""
        vae = VAE(SHAPE, latent_dim=K, hidden=[16]).to(x)
        bound, q = vae(x, eps), vae.encoder(x)
        divergence = kl_divergence(q, vae.prior)
        torch.testing.assert_close(bound.reconstruction - bound.per_example, divergence)
        averaged = bound.reconstruction - bound.kl.mean(-1)
        assert ((averaged - bound.per_example).abs() > 1e-2).all()

    def test_one_noise_for_the_batch_is_refused(
        self, device: torch.device, x: Tensor, eps: Tensor
    ) -> None:
        vae = VAE(SHAPE, latent_dim=K, hidden=[16]).to(x)
        for shared in (eps[:, :1], eps[0, 0], eps[0]):
            with pytest.raises(ValueError, match=r"eps must be \(S, 5, 3\)"):
                vae(x, shared)

    def test_seeding_after_the_model_was_built_seeds_nothing(self) -> None:
        def build(seed_before: int, seed_after: int) -> list[Tensor]:
            torch.manual_seed(seed_before)
            vae = VAE(SHAPE, latent_dim=K, hidden=[16])
            torch.manual_seed(seed_after)
            return list(vae.parameters())

        assert all(map(torch.equal, build(1, 0), build(1, 1)))
        assert not any(map(torch.equal, build(1, 0), build(2, 0)))


class TestPrior:
    def test_is_standard_normal_and_follows_the_model(self, vae: VAE) -> None:
        z = torch.linspace(-2, 2, K)
        for dtype in (torch.float64, torch.float32):
            prior = vae.to(dtype).prior
            assert prior.mean.dtype == dtype
            assert prior.mean.device == next(vae.parameters()).device
            code = z.to(prior.mean)
            normal = Independent(Normal(torch.zeros_like(code), 1.0), 1)
            torch.testing.assert_close(prior.log_prob(code), normal.log_prob(code))

    def test_is_not_a_parameter_and_is_not_saved(self, vae: VAE) -> None:
        assert all("zeros" not in name for name in vae.state_dict())


class TestArguments:
    def test_rebuild_the_same_model(self, vae: VAE, x: Tensor, eps: Tensor) -> None:
        """Through JSON: plain values alone. With the parameters it is the same to the bit."""
        written = json.dumps(vae.arguments)
        torch.manual_seed(1)
        rebuilt = VAE.from_arguments(json.loads(written)).to(x)
        assert rebuilt.arguments == vae.arguments
        shapes, rebuilt_shapes = (
            {name: value.shape for name, value in model.state_dict().items()}
            for model in (vae, rebuilt)
        )
        assert rebuilt_shapes == shapes
        assert rebuilt(x, eps).mean() != vae(x, eps).mean()  # untrained, other numbers
        file = io.BytesIO()
        torch.save(vae.state_dict(), file)
        file.seek(0)
        rebuilt.load_state_dict(torch.load(file, weights_only=True))
        for name, value in vae.state_dict().items():
            assert torch.equal(rebuilt.state_dict()[name], value), name
        assert_bit_equal(rebuilt(x, eps), vae(x, eps))

    def test_are_all_that_the_model_was_built_from(self, vae: VAE) -> None:
        assert set(vae.arguments) == set(inspect.signature(VAE).parameters)

    def test_take_any_sequence_of_integers(self) -> None:
        vae = VAE(torch.Size([1, 4, 4]), 2, hidden=(np.int64(8),))  # type: ignore[arg-type]
        assert vae.arguments["shape"] == [1, 4, 4]
        assert vae.arguments["hidden"] == [8]
        json.dumps(vae.arguments)

    @pytest.mark.parametrize("shape", [(9,), (1, 4, 4), (3, 5, 8), (2, 33, 4)])
    def test_shapes_of_all_kinds(self, shape: tuple[int, ...], device: torch.device) -> None:
        for network in ("fully connected", "convolutional"):
            if network == "convolutional" and len(shape) != 3:
                continue
            vae = VAE(shape, latent_dim=2, hidden=[3], network=network).to(device)  # type: ignore[arg-type]
            x, eps = torch.zeros(4, *shape, device=device), torch.zeros(2, 4, 2, device=device)
            assert vae(x, eps).per_example.shape == (4,)
            assert vae.decoder(vae.prior.mean).mean.shape == shape
            assert isinstance(vae.encoder(x), DiagonalGaussian)

    @pytest.mark.parametrize(
        ("network", "hidden", "most"),
        [
            ("fully connected", [512], 3_500_000),
            ("convolutional", [16], 900_000),
            ("residual", [32], 2_000_000),
        ],
    )
    def test_default_width_is_sensible(self, network: Any, hidden: list[int], most: int) -> None:
        """At 32 × 32 in colour: 9.9 million parameters, when the width was that of a perceptron."""
        vae = VAE((3, 32, 32), latent_dim=128, network=network)
        assert vae.arguments["hidden"] == hidden
        assert sum(parameter.numel() for parameter in vae.parameters()) < most

    def test_mirror_the_hidden_layers(self) -> None:
        vae = VAE((12,), latent_dim=2, hidden=[7, 5])
        shapes = [tuple(p.shape) for name, p in vae.named_parameters() if "weight" in name]
        assert shapes == [(7, 12), (5, 7), (4, 5), (5, 2), (7, 5), (12, 7)]
        vae = VAE((3, 8, 8), latent_dim=2, hidden=[5], network="convolutional")
        shapes = [tuple(p.shape) for name, p in vae.named_parameters() if "weight" in name]
        encoder, decoder = shapes[:3], shapes[3:]
        assert encoder == [(5, 3, 3, 3), (10, 5, 3, 3), (4, 40)]
        assert decoder == [(40, 2), (10, 5, 3, 3), (5, 3, 3, 3)]

    def test_count_the_parameters_of_the_reference(self) -> None:
        """784-512-2-512-784: 807,700; 784-400-20-400-784: 652,824."""
        for latent_dim, hidden, count in ((2, 512, 807_700), (20, 400, 652_824)):
            vae = VAE((1, 28, 28), latent_dim=latent_dim, hidden=[hidden])
            assert sum(parameter.numel() for parameter in vae.parameters()) == count

    def test_name_the_convention_of_the_pixels(self, x: Tensor, eps: Tensor) -> None:
        grey = VAE(SHAPE, K, hidden=[4], likelihood="grey bernoulli").to(x)
        assert grey(0.5 * x, eps).per_example.isfinite().all()
        binary = VAE(SHAPE, K, hidden=[4]).to(x)
        with pytest.raises(ValueError, match="x holds grey pixels"):
            binary(0.5 * x, eps)

    def test_sigma_is_fixed_or_learnt(self, device: torch.device) -> None:
        fixed, learnt = (
            VAE(SHAPE, K, hidden=[4], likelihood="gaussian", sigma=sigma).to(device)
            for sigma in (0.5, None)
        )
        assert "decoder.scaled_log_sigma" not in dict(fixed.named_parameters())
        assert "decoder.scaled_log_sigma" in dict(learnt.named_parameters())
        z = torch.zeros(1, K, device=device)
        torch.testing.assert_close(fixed.decoder(z).stddev.unique().item(), 0.5)
        torch.testing.assert_close(learnt.decoder(z).stddev.unique().item(), 0.2)


class TestOnesOwnNetworks:
    def test_are_wrapped_in_the_distributions(self, x: Tensor, eps: Tensor) -> None:
        encoder, decoder = OwnEncoder(), OwnDecoder()
        vae = VAE(SHAPE, K, encoder=encoder, decoder=decoder, likelihood="gaussian").to(x).eval()
        mu, logvar = encoder(x).chunk(2, -1)
        torch.testing.assert_close(vae.encoder(x).mean, mu)
        torch.testing.assert_close(vae.encoder(x).logvar, logvar)
        torch.testing.assert_close(vae.decoder(mu).mean.flatten(1), decoder(mu))
        assert vae(x, eps).kl.shape == (5, K)

    def test_are_named_in_the_arguments(self) -> None:
        vae = VAE(SHAPE, K, encoder=OwnEncoder(), decoder=OwnDecoder())
        json.dumps(vae.arguments)
        assert vae.arguments["encoder"] == f"{__name__}.OwnEncoder"
        assert vae.arguments["decoder"] == f"{__name__}.OwnDecoder"
        for name in ("hidden", "network", "activation"):
            assert vae.arguments[name] is None

    def test_can_stand_beside_a_built_one(self, x: Tensor, eps: Tensor) -> None:
        vae = VAE(SHAPE, K, [6], encoder=OwnEncoder(), activation="tanh").to(x)
        assert vae.arguments["hidden"] == [6]
        assert vae.arguments["decoder"] is None
        assert vae(x, eps).per_example.shape == (5,)
        vae = VAE(SHAPE, K, network="residual", decoder=OwnDecoder()).to(x)
        assert vae.arguments["hidden"] == [32]
        assert vae(x, eps).per_example.shape == (5,)

    def test_give_two_numbers_per_pixel_where_the_likelihood_wants_them(
        self, x: Tensor, eps: Tensor
    ) -> None:
        vae = VAE(SHAPE, K, [6], decoder=OwnDecoder(per_pixel=2), likelihood="discretised logistic")
        assert vae.to(x)(x, eps).per_example.shape == (5,)

    def test_are_not_rebuilt_from_their_names(self) -> None:
        vae = VAE(SHAPE, K, [6], encoder=OwnEncoder())
        with pytest.raises(ValueError, match=r"has its own networks \(.*OwnEncoder\): build it"):
            VAE.from_arguments(vae.arguments)

    def test_an_empty_one_is_a_network(self) -> None:
        """`nn.Sequential()` is false, and yet given."""
        vae = VAE((2 * K,), K, [6], encoder=nn.Sequential())
        x = torch.rand(5, 2 * K)
        torch.testing.assert_close(vae.encoder(x).mean, x[:, :K])

    def test_a_conditional_vae_is_a_subclass(self, x: Tensor, eps: Tensor) -> None:
        """Sohn et al. 2015: the label goes into both networks."""

        class Conditional(VAE):
            def forward(self, x: Tensor, eps: Tensor, y: Tensor | None = None) -> ELBO:
                assert y is not None
                label = F.one_hot(y, 2).to(x)
                q = self.encoder(torch.cat([x.flatten(1), label], 1))
                z = q.reparameterize(eps)
                p = self.decoder(torch.cat([z, label.expand(*z.shape[:-1], 2)], -1))
                kl = kl_divergence(q, self.prior).unsqueeze(-1)
                return ELBO(p.log_prob(x.flatten(1)).mean(0), kl)

        vae = Conditional((44,), K, [6], decoder=nn.Linear(K + 2, 42)).to(x)
        vae.decoder.shape = (42,)
        y = torch.tensor([0, 1, 0, 1, 1], device=x.device)
        assert vae(x, eps, y).per_example.shape == (5,)
        assert not torch.equal(vae(x, eps, y).per_example, vae(x, eps, 1 - y).per_example)


class TestAutocast:
    # Eight bits of mantissa in the products: an output is off by parts in a thousand, and over the
    # pixels, where such errors are as often up as down, their sum by less.
    TOLERANCE = 5e-3

    def test_gives_float32_nats_near_those_of_float32(
        self, vae: VAE, x: Tensor, eps: Tensor, device: torch.device
    ) -> None:
        vae, x, eps = vae.float(), x.float(), eps.float()
        exact = vae(x, eps)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            bound = vae(x, eps)
        assert bound.reconstruction.dtype == bound.kl.dtype == torch.float32
        assert not torch.equal(bound.reconstruction, exact.reconstruction)  # it did something
        for value, truth in (
            (bound.reconstruction, exact.reconstruction),
            (bound.per_example, exact.per_example),
        ):
            assert ((value - truth).abs() <= self.TOLERANCE * truth.abs()).all()

    def test_gives_float32_gradients(
        self, vae: VAE, x: Tensor, eps: Tensor, device: torch.device
    ) -> None:
        vae, x, eps = vae.float(), x.float(), eps.float()
        exact = torch.autograd.grad(vae(x, eps).mean(), list(vae.parameters()))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = vae(x, eps).mean()
        gradients = torch.autograd.grad(loss, list(vae.parameters()))
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        # Of the whole: that of one small layer is off by more where a ReLU near 0 flips.
        whole, truth = (torch.cat([g.flatten() for g in gs]) for gs in (gradients, exact))
        assert (whole - truth).norm() <= 0.05 * truth.norm()


@pytest.fixture
def built(device: torch.device) -> VAE:
    return VAE(SHAPE, latent_dim=K, hidden=[4]).to(device, torch.float64)


Call = Callable[[VAE, Tensor, Tensor], object]
BAD_CALLS: dict[str, tuple[Call, str]] = {
    "shape of x": (
        lambda vae, x, eps: vae(x[:, 0], eps),
        r"x must be \(N, 1, 6, 7\), but is \(5, 6, 7\)",
    ),
    "bytes": (
        lambda vae, x, eps: vae(x.to(torch.uint8), eps),
        r"x must be floating point, but is torch.uint8",
    ),
    "grey pixels": (lambda vae, x, eps: vae(0.5 * x, eps), r"x holds grey pixels"),
    "NaN": (lambda vae, x, eps: vae(x * torch.nan, eps), r"must be finite, but holds NaN"),
    "eps without samples": (
        lambda vae, x, eps: vae(x, eps[0]),
        r"eps must be \(S, 5, 3\), .* but is \(5, 3\)",
    ),
    "eps for another batch": (
        lambda vae, x, eps: vae(x[:4], eps),
        r"eps must be \(S, 4, 3\), .* but is \(2, 5, 3\)",
    ),
    "eps of another dimension": (
        lambda vae, x, eps: vae(x, eps[..., :2]),
        r"eps must be \(S, 5, 3\), .* but is \(2, 5, 2\)",
    ),
    "integer eps": (
        lambda vae, x, eps: vae(x, eps.long()),
        r"eps must be floating point, but is torch.int64",
    ),
    "latent_dim": (
        lambda *_: VAE(SHAPE, latent_dim=0),
        r"latent_dim must be an integer",
    ),
    "no shape": (lambda *_: VAE(()), r"shape must hold at least one size"),
    "empty shape": (lambda *_: VAE((1, 0, 4)), r"shape must hold integers of at least 1"),
    "hidden": (lambda *_: VAE(SHAPE, hidden=[0]), r"hidden must hold integers of at least 1"),
    "network": (
        lambda *_: VAE(SHAPE, network="convolution"),  # type: ignore[arg-type]
        r"network must be one of fully connected, convolutional, residual, not 'convolution'",
    ),
    "activation": (
        lambda *_: VAE(SHAPE, activation="gelu"),  # type: ignore[arg-type]
        r"activation must be one of relu, tanh, sigmoid, not 'gelu'",
    ),
    "likelihood": (
        lambda *_: VAE(SHAPE, likelihood="poisson"),  # type: ignore[arg-type]
        r"likelihood must be one of bernoulli, .*, discretised logistic, not 'poisson'",
    ),
    "sigma": (
        lambda *_: VAE(SHAPE, likelihood="gaussian", sigma=-1.0),
        r"sigma must be a positive number, not -1.0",
    ),
    "sigma of no Gaussian": (
        lambda *_: VAE(SHAPE, sigma=0.5),
        r"sigma is for a Gaussian likelihood; leave it out with 'bernoulli'",
    ),
    "activation of convolutions": (
        lambda *_: VAE(SHAPE, network="residual", activation="tanh"),
        r"activation is for a fully connected network; leave it out with 'residual'",
    ),
    "hidden beside two networks": (
        lambda *_: VAE(SHAPE, K, [4], encoder=OwnEncoder(), decoder=OwnDecoder()),
        r"hidden has no effect with encoder and decoder",
    ),
    "network beside two networks": (
        lambda *_: VAE(SHAPE, K, network="residual", encoder=OwnEncoder(), decoder=OwnDecoder()),
        r"network has no effect with encoder and decoder",
    ),
    "a function for a network": (
        lambda *_: VAE(SHAPE, K, encoder=torch.flatten),  # type: ignore[arg-type]
        r"encoder must be a network \(nn.Module\), but is builtin_function_or_method",
    ),
    "features of another number": (
        lambda vae, x, eps: VAE(SHAPE, K, [4], encoder=OwnEncoder(8)).to(x)(x, eps),
        r"q\(z\|x\) must have events \(3,\), as model.prior .* events \(4,\): .* 2K = 6 numbers",
    ),
    "vector for residual blocks": (
        lambda *_: VAE((64,), network="residual"),
        r"shape must be \(C, H, W\)",
    ),
    "two widths": (
        lambda *_: VAE(SHAPE, hidden=[4, 8], network="convolutional"),
        r"hidden must be one number, the width",
    ),
    "vector for convolutions": (
        lambda *_: VAE((64,), hidden=[4], network="convolutional"),
        r"shape must be \(C, H, W\)",
    ),
    "unknown arguments": (
        lambda *_: VAE.from_arguments({"shape": [4], "width": 3}),
        r"arguments hold \['width'\], which VAE does not take",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_named(call: Call, message: str, built: VAE, x: Tensor, eps: Tensor) -> None:
    with pytest.raises(ValueError, match=message):
        call(built, x, eps)
