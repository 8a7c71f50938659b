"""Encoders and decoders: shapes, one row at a time, a gradient for every parameter, no NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from vaelib import (
    BernoulliDecoder,
    DiagonalGaussian,
    DiscretisedLogisticDecoder,
    GaussianDecoder,
    GaussianEncoder,
)
from vaelib.networks import convolutional_decoder, convolutional_encoder, fully_connected
from vaelib.residual import ResidualDecoder, ResidualEncoder

SHAPE = (2, 5, 6)
D = math.prod(SHAPE)
K = 3


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Parameters are drawn from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def flat_encoder() -> nn.Module:
    return GaussianEncoder(nn.Sequential(nn.Flatten(), fully_connected([D, 7, 2 * K])), SHAPE)


def convolving_encoder() -> nn.Module:
    return GaussianEncoder(convolutional_encoder(SHAPE, width=4, n_features=2 * K), SHAPE)


def flat_body() -> nn.Module:
    return fully_connected([K, 7, D], "tanh")


def convolving_body() -> nn.Module:
    return convolutional_decoder(K, width=4, shape=SHAPE)


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "fully connected": flat_encoder,
    "convolutional": convolving_encoder,
    "residual": lambda: GaussianEncoder(ResidualEncoder(SHAPE, 4, K), SHAPE),
}
DECODERS: dict[str, Callable[[], nn.Module]] = {
    "Bernoulli, fully connected": lambda: BernoulliDecoder(flat_body(), SHAPE),
    "Bernoulli, convolutional": lambda: BernoulliDecoder(convolving_body(), SHAPE),
    "Gaussian, fixed σ": lambda: GaussianDecoder(flat_body(), SHAPE, sigma=0.5),
    "Gaussian, learnt σ": lambda: GaussianDecoder(convolving_body(), SHAPE, learn_sigma=True),
    "Gaussian, residual": lambda: GaussianDecoder(ResidualDecoder(K, 4, SHAPE), SHAPE),
    "discretised logistic": lambda: DiscretisedLogisticDecoder(
        fully_connected([K, 7, 2 * D], "tanh"), SHAPE
    ),
    "discretised logistic, residual": lambda: DiscretisedLogisticDecoder(
        ResidualDecoder(K, 4, SHAPE, per_pixel=2), SHAPE
    ),
}

any_encoder = pytest.mark.parametrize("build", ENCODERS.values(), ids=ENCODERS)
any_decoder = pytest.mark.parametrize("build", DECODERS.values(), ids=DECODERS)
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture
def x(generator: torch.Generator, device: torch.device) -> Tensor:
    half = torch.full((6, *SHAPE), 0.5, device=device, dtype=torch.float64)
    return torch.bernoulli(half, generator=generator)


@pytest.fixture
def z(generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(6, K, generator=generator, device=device, dtype=torch.float64)


def parameters(q: DiagonalGaussian) -> Tensor:
    return torch.cat([q.mu, q.logvar], dim=-1)


def assert_rows_independent(function: Callable[[Tensor], Tensor], rows: Tensor) -> None:
    """Row i of the result depends on row i of the input, and on no other."""
    rows = rows.detach().requires_grad_()
    result = function(rows)
    for i in range(len(rows)):
        (slope,) = torch.autograd.grad(result[i].square().sum(), rows, retain_graph=True)
        others = torch.arange(len(rows), device=rows.device) != i
        assert slope[i].any(), f"row {i} depends on nothing"
        assert not slope[others].any(), f"row {i} depends on other rows"
    order = torch.arange(len(rows) - 1, -1, -1, device=rows.device)
    torch.testing.assert_close(function(rows[order]), result[order])
    torch.testing.assert_close(function(rows[:1]), result[:1])


def assert_every_parameter_learns(module: nn.Module, loss: Tensor) -> None:
    named = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    for name, gradient in zip(named, gradients, strict=True):
        assert gradient is not None, f"{name} gets no gradient"
        assert gradient.isfinite().all(), name
        assert gradient.any(), f"the gradient of {name} is zero"


class TestEncoders:
    @any_encoder
    @both_dtypes
    def test_return_a_diagonal_gaussian(
        self, build: Callable[[], nn.Module], dtype: torch.dtype, x: Tensor
    ) -> None:
        q = build().to(x.device, dtype)(x.to(dtype))
        assert isinstance(q, DiagonalGaussian)
        assert q.batch_shape == (6,)
        assert q.event_shape == (K,)
        for value in (q.mu, q.logvar):
            assert value.dtype == dtype
            assert value.device == x.device

    def test_means_come_first(self, x: Tensor) -> None:
        body = nn.Sequential(nn.Flatten(), nn.Linear(D, 2 * K)).to(x)
        q = GaussianEncoder(body, SHAPE)(x)
        torch.testing.assert_close(parameters(q), body(x))

    @any_encoder
    def test_see_one_row_at_a_time(self, build: Callable[[], nn.Module], x: Tensor) -> None:
        encoder = build().to(x)
        assert_rows_independent(lambda x: parameters(encoder(x)), x)

    @any_encoder
    def test_every_parameter_learns(self, build: Callable[[], nn.Module], x: Tensor) -> None:
        encoder = build().to(x)
        assert_every_parameter_learns(encoder, parameters(encoder(x)).square().sum())

    @any_encoder
    def test_see_every_pixel(self, build: Callable[[], nn.Module], x: Tensor) -> None:
        encoder = build().to(x)
        x.requires_grad_()
        (slope,) = torch.autograd.grad(parameters(encoder(x)).square().sum(), x)
        assert slope.abs().sum(0).all()

    def test_a_batch_norm_would_be_seen(self, x: Tensor) -> None:
        """The law of independent rows can fail."""
        body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(D), nn.Linear(D, 2 * K)).to(x)
        encoder = GaussianEncoder(body, SHAPE)
        with pytest.raises(AssertionError, match="depends on other rows"):
            assert_rows_independent(lambda x: parameters(encoder(x)), x)

    def test_a_dead_parameter_would_be_seen(self, x: Tensor) -> None:
        """The law that every parameter learns can fail."""
        encoder = flat_encoder().to(x)
        encoder.spare = nn.Parameter(torch.zeros(1).to(x))
        with pytest.raises(AssertionError, match="spare gets no gradient"):
            assert_every_parameter_learns(encoder, parameters(encoder(x)).square().sum())


class TestDecoders:
    @any_decoder
    @both_dtypes
    def test_return_a_likelihood(
        self, build: Callable[[], nn.Module], dtype: torch.dtype, x: Tensor, z: Tensor
    ) -> None:
        p = build().to(z.device, dtype)(z.to(dtype))
        assert p.batch_shape == (6,)
        assert p.event_shape == SHAPE
        value = p.log_prob(x.to(dtype))
        assert value.shape == (6,)
        assert value.dtype == dtype
        assert value.device == z.device
        assert value.isfinite().all()

    @any_decoder
    def test_accept_samples_of_examples(
        self, build: Callable[[], nn.Module], x: Tensor, z: Tensor
    ) -> None:
        """(S, N, K), (S₁, S₂, N, K), one code alone, strided codes: as if decoded one by one."""
        decoder = build().to(z)
        alone = torch.stack([decoder(code.unsqueeze(0)).mean.squeeze(0) for code in z])
        for shape in ((2, 3), (3, 1, 2), (6,), (1, 6)):
            p = decoder(z.view(*shape, K))
            assert p.batch_shape == shape
            torch.testing.assert_close(p.mean, alone.view(*shape, *SHAPE))
        torch.testing.assert_close(decoder(z[0]).mean, alone[0])
        torch.testing.assert_close(decoder(z.mT.contiguous().mT).mean, alone)
        examples = x.view(2, 3, *SHAPE)[0]
        value = decoder(z.view(2, 3, K)).log_prob(examples)
        again = [decoder(half).log_prob(examples) for half in z.view(2, 3, K)]
        torch.testing.assert_close(value, torch.stack(again))

    @any_decoder
    def test_see_one_row_at_a_time(self, build: Callable[[], nn.Module], z: Tensor) -> None:
        decoder = build().to(z)
        assert_rows_independent(lambda z: decoder(z).mean, z)

    @any_decoder
    def test_every_parameter_learns(
        self, build: Callable[[], nn.Module], x: Tensor, z: Tensor
    ) -> None:
        decoder = build().to(z)
        assert_every_parameter_learns(decoder, decoder(z).log_prob(x).sum())

    @any_decoder
    def test_reach_every_pixel(self, build: Callable[[], nn.Module], z: Tensor) -> None:
        decoder = build().to(z)
        assert (decoder(z).mean.std(0) > 0).all()

    def test_fill_the_shape_in_order(self, z: Tensor) -> None:
        body = nn.Linear(K, D).to(z)
        torch.testing.assert_close(BernoulliDecoder(body, SHAPE)(z).logits.flatten(1), body(z))
        torch.testing.assert_close(GaussianDecoder(body, SHAPE)(z).mean.flatten(1), body(z))

    def test_pass_the_convention_on(self, z: Tensor, x: Tensor) -> None:
        body = nn.Linear(K, D).to(z)
        grey = 0.5 * x
        assert BernoulliDecoder(body, SHAPE, pixels="grey")(z).log_prob(grey).isfinite().all()
        with pytest.raises(ValueError, match="x holds grey pixels"):
            BernoulliDecoder(body, SHAPE)(z).log_prob(grey)

    def test_a_transposed_layout_is_decoded_alike(self, z: Tensor) -> None:
        """Channels-last memory, as convolutions on a GPU like it."""

        class ChannelsLast(nn.Module):
            def forward(self, z: Tensor) -> Tensor:
                return body(z).contiguous(memory_format=torch.channels_last)

        body = convolving_body().to(z)
        logits = BernoulliDecoder(ChannelsLast(), (D,))(z).logits
        torch.testing.assert_close(logits, body(z).flatten(1))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_ends_at_the_distribution(half: torch.dtype, x: Tensor, z: Tensor) -> None:
    """Products may be rounded; sums of hundreds of nats may not."""
    for build in ENCODERS.values():
        q = build().to(x.device, half)(x.to(half))
        assert q.mu.dtype == q.logvar.dtype == torch.float32
    for build in DECODERS.values():
        p = build().to(z.device, half)(z.to(half))
        assert p.mean.dtype == p.log_prob(x.float()).dtype == torch.float32


class TestSigma:
    def test_is_fixed_unless_it_is_learnt(self, z: Tensor) -> None:
        body = nn.Linear(K, D)
        fixed = GaussianDecoder(body, SHAPE, sigma=0.3).to(z)
        learnt = GaussianDecoder(body, SHAPE, sigma=0.3, learn_sigma=True).to(z)
        for decoder in (fixed, learnt):
            sigma = decoder(z).stddev
            torch.testing.assert_close(sigma, torch.full_like(sigma, 0.3), rtol=1e-6, atol=0.0)
            torch.testing.assert_close(decoder.log_sigma.exp().item(), 0.3)
            assert "scaled_log_sigma" in decoder.state_dict()  # so it is saved with the rest
        assert "scaled_log_sigma" not in dict(fixed.named_parameters())
        assert "scaled_log_sigma" in dict(learnt.named_parameters())

    def test_is_learnt_towards_the_residuals(self, x: Tensor, z: Tensor) -> None:
        decoder = GaussianDecoder(nn.Linear(K, D), SHAPE, sigma=1e-2, learn_sigma=True).to(z)
        value = decoder(z).log_prob(x).sum()
        (slope,) = torch.autograd.grad(value, decoder.scaled_log_sigma)
        assert slope > 0
        with torch.no_grad():
            decoder.scaled_log_sigma.fill_(0.5)
        value = decoder(z).log_prob(x).sum()
        (slope,) = torch.autograd.grad(value, decoder.scaled_log_sigma)
        assert slope < 0

    @pytest.mark.parametrize("best", [0.02, 0.5])
    def test_is_found_within_an_epoch(self, best: float, z: Tensor) -> None:
        """300 steps of Adam's 1e-3, from 0.2: the residuals' root mean square (Rybkin et al.)."""
        generator = torch.Generator(z.device).manual_seed(0)
        decoder = GaussianDecoder(nn.Linear(K, D), SHAPE, sigma=0.2, learn_sigma=True).to(z)
        adam = torch.optim.Adam([decoder.scaled_log_sigma], lr=1e-3)
        mean = decoder(z).mean.detach()
        for _ in range(300):
            noise = torch.randn(mean.shape, generator=generator, device=z.device, dtype=z.dtype)
            adam.zero_grad()
            (-decoder(z).log_prob(mean + best * noise).mean()).backward()
            adam.step()
        assert decoder.log_sigma.exp().item() == pytest.approx(best, rel=0.05)


class TestDiscretisedLogistic:
    def test_scale_is_bounded_below(self, z: Tensor) -> None:
        decoder = DiscretisedLogisticDecoder(nn.Linear(K, 2 * D), SHAPE).to(z)
        scale = decoder(1e6 * z).log_scale.exp()
        assert scale.min().item() == pytest.approx(1 / 2550)

    def test_zeros_are_a_grey_image(self, z: Tensor) -> None:
        decoder = DiscretisedLogisticDecoder(nn.Linear(K, 2 * D), SHAPE).to(z)
        for parameter in decoder.body.parameters():
            nn.init.zeros_(parameter)
        p = decoder(z)
        torch.testing.assert_close(p.loc, torch.full_like(p.loc, 0.5))
        torch.testing.assert_close(p.log_scale.exp(), torch.full_like(p.loc, 0.1))

    def test_first_come_the_means(self, z: Tensor) -> None:
        body = nn.Linear(K, 2 * D).to(z)
        p = DiscretisedLogisticDecoder(body, SHAPE).to(z)(z)
        means, scales = body(z).chunk(2, -1)
        torch.testing.assert_close(2 * p.loc.flatten(1) - 1, means)
        torch.testing.assert_close(p.log_scale.flatten(1) + math.log(10), scales)


class TestConvolutions:
    @pytest.mark.parametrize("height", range(4, 34))
    def test_fit_every_size(self, height: int, device: torch.device) -> None:
        """Even and odd, square and not."""
        for width in (height, 37 - height, 4):
            shape = (1 + height % 3, height, width)
            x = torch.rand(2, *shape, device=device)
            encoder = convolutional_encoder(shape, width=2, n_features=5).to(device)
            assert encoder(x).shape == (2, 5)
            decoder = convolutional_decoder(5, width=2, shape=shape).to(device)
            assert decoder(encoder(x)).shape == (2, *shape)

    @pytest.mark.parametrize("size", [4, 5, 6, 7])
    def test_leave_no_border_out(self, size: int, z: Tensor) -> None:
        shape = (1, size, size)
        x = torch.rand(6, *shape, device=z.device, dtype=z.dtype, requires_grad=True)
        encoder = convolutional_encoder(shape, width=8, n_features=4).to(z)
        (slope,) = torch.autograd.grad(encoder(x).square().sum(), x)
        assert slope.abs().sum(0).all()
        decoder = convolutional_decoder(K, width=8, shape=shape).to(z)
        assert (decoder(z).std(0) > 0).all()


class TestFullyConnected:
    @pytest.mark.parametrize(
        ("activation", "function"),
        [("relu", torch.relu), ("tanh", torch.tanh), ("sigmoid", torch.sigmoid)],
    )
    def test_is_linear_maps_with_the_activation_between(
        self, activation: str, function: Callable[[Tensor], Tensor], z: Tensor
    ) -> None:
        network = fully_connected([K, 5, 4, 2], activation).to(z)  # type: ignore[arg-type]
        first, second, third = (layer for layer in network if isinstance(layer, nn.Linear))
        expected = third(function(second(function(first(z)))))
        torch.testing.assert_close(network(z), expected)

    def test_without_hidden_layers_is_linear(self, z: Tensor) -> None:
        network = fully_connected([K, 2]).to(z)
        assert [type(layer) for layer in network] == [nn.Linear]


BAD_CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "one size": (lambda: fully_connected([4]), r"sizes must hold two or more numbers, not \[4\]"),
    "no width": (lambda: fully_connected([4, 0]), r"sizes must hold integers of at least 1"),
    "activation": (
        lambda: fully_connected([4, 2], "gelu"),  # type: ignore[arg-type]
        r"activation must be one of relu, tanh, sigmoid, not 'gelu'",
    ),
    "no channels": (lambda: convolutional_encoder((28, 28), 8, 4), r"shape must be \(C, H, W\)"),
    "too small": (
        lambda: convolutional_encoder((1, 3, 8), 8, 4),
        r"H and W at least 4, not \(1, 3, 8\)",
    ),
    "empty image": (lambda: convolutional_decoder(4, 8, (0, 8, 8)), r"shape must hold integers"),
    "width": (
        lambda: convolutional_decoder(4, 0, (1, 8, 8)),
        r"width must be an integer",
    ),
    "sigma zero": (
        lambda: GaussianDecoder(nn.Linear(2, 6), (6,), sigma=0.0),
        r"sigma must be a positive number, not 0.0",
    ),
    "sigma NaN": (
        lambda: GaussianDecoder(nn.Linear(2, 6), (6,), sigma=math.nan),
        r"sigma must be a positive number, not nan",
    ),
    "decoder body": (
        lambda: BernoulliDecoder(nn.Linear(2, 6), (5,))(torch.zeros(3, 2)),
        r"body must give 5 numbers per row to fill the shape \(5,\), but gives \(6,\)",
    ),
    "integer codes": (
        lambda: BernoulliDecoder(nn.Linear(2, 6), (6,))(torch.zeros(3, 2).long()),
        r"z must be floating point, but is torch.int64",
    ),
    "encoder body": (
        lambda: GaussianEncoder(nn.Linear(6, 5), (6,))(torch.zeros(3, 6)),
        r"body must give 2K numbers per row, .* but gives \(5,\)",
    ),
    "image without channel": (
        lambda: flat_encoder()(torch.zeros(3, 5, 6)),
        r"x must be \(N, 2, 5, 6\), but is \(3, 5, 6\)",
    ),
    "image on its side": (
        lambda: convolving_encoder()(torch.zeros(3, 2, 6, 5)),
        r"x must be \(N, 2, 5, 6\), but is \(3, 2, 6, 5\)",
    ),
    "image without batch": (
        lambda: flat_encoder()(torch.zeros(SHAPE)),
        r"x must be \(N, 2, 5, 6\), but is \(2, 5, 6\)",
    ),
    "bytes": (
        lambda: flat_encoder()(torch.zeros(3, *SHAPE, dtype=torch.uint8)),
        r"x must be floating point, but is torch.uint8",
    ),
    "NaN pixels": (
        lambda: flat_encoder()(torch.full((3, *SHAPE), math.nan)),
        r"x must be finite, but holds NaN or infinity",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
