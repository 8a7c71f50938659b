"""Residual networks: every size, every pixel, one row at a time, and linear where blocks are 0."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vaelib.residual import ResidualBlock, ResidualDecoder, ResidualEncoder

K = 3


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Parameters are drawn from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class TestSizes:
    @pytest.mark.parametrize("height", range(4, 34, 3))
    def test_fit_all_images(self, height: int, device: torch.device) -> None:
        """Even and odd, square and not."""
        for n_columns in (height, 37 - height, 4):
            shape = (1 + height % 3, height, n_columns)
            encoder = ResidualEncoder(shape, width=2, latent_dim=K).to(device)
            features = encoder(torch.rand(2, *shape, device=device))
            assert features.shape == (2, 2 * K)
            decoder = ResidualDecoder(K, 2, shape, per_pixel=2).to(device)
            assert decoder(features[:, :K]).shape == (2, 2, *shape)

    def test_default_has_one_to_two_million_parameters(self) -> None:
        shape, width = (3, 32, 32), 32
        encoder, decoder = (
            ResidualEncoder(shape, width, 128),
            ResidualDecoder(128, width, shape, per_pixel=2),
        )
        count = sum(p.numel() for p in (*encoder.parameters(), *decoder.parameters()))
        assert 1_000_000 < count < 2_000_000


@pytest.mark.parametrize("size", [4, 5, 6, 7, 11])
class TestPixels:
    def test_all_are_seen_by_the_blocks(self, size: int, device: torch.device) -> None:
        encoder = ResidualEncoder((1, size, size), 8, K).to(device, torch.float64)
        nn.init.zeros_(encoder.linear.weight)
        x = torch.rand(6, 1, size, size, device=device, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(encoder(x).square().sum(), x)
        assert slope.abs().sum(0).all()

    def test_all_are_reached_by_the_blocks(self, size: int, device: torch.device) -> None:
        decoder = ResidualDecoder(K, 8, (1, size, size), per_pixel=2).to(device)
        nn.init.zeros_(decoder.linear.weight)
        assert (decoder(torch.randn(6, K, device=device)).std(0) > 0).all()


class TestTheLinearPart:
    def test_is_all_where_the_blocks_say_nothing(self, device: torch.device) -> None:
        shape = (2, 9, 12)
        encoder = ResidualEncoder(shape, 4, K).to(device)
        decoder = ResidualDecoder(K, 4, shape, per_pixel=3).to(device)
        for network in (encoder, decoder):
            for parameter in network.blocks[-1].parameters():
                nn.init.zeros_(parameter)
        x, z = torch.rand(5, *shape, device=device), torch.randn(5, K, device=device)
        means, logvars = encoder(x).chunk(2, -1)
        torch.testing.assert_close(means, encoder.linear(x.flatten(1)))
        assert not logvars.any()
        first, *others = decoder(z).unbind(1)
        torch.testing.assert_close(first.flatten(1), decoder.linear(z))
        assert len(others) == 2
        assert not any(other.any() for other in others)

    def test_lets_brightness_through_to_the_blocks(self, device: torch.device) -> None:
        """Group normalisation would hide how bright a flat image is, were it the first layer."""
        encoder = ResidualEncoder((1, 8, 8), 8, K).to(device)
        nn.init.zeros_(encoder.linear.weight)
        flat = torch.tensor([0.1, 0.5, 0.9], device=device).view(3, 1, 1, 1).expand(3, 1, 8, 8)
        assert (encoder(flat).std(0) > 1e-4).all()


class TestMemory:
    def test_is_laid_out_for_convolutions(self, device: torch.device) -> None:
        """Channels last inside, whatever comes in; in order at the end.

        On a GPU, where GroupNorm knows one layout only, the weights alone are asked.
        """
        encoder = ResidualEncoder((3, 16, 16), 8, K).to(device)
        decoder = ResidualDecoder(K, 8, (3, 16, 16), per_pixel=2).to(device)
        seen: list[bool] = []

        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

        for network in (encoder, decoder):
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.register_forward_pre_hook(look)
                    layout = module.weight.is_contiguous(memory_format=torch.channels_last)
                    assert layout or module.weight.shape[-1] == 1
        decoded = decoder(encoder(torch.rand(2, 3, 16, 16, device=device))[:, :K])
        assert len(seen) > 10
        assert all(seen) or device.type == "cuda"
        assert decoded.is_contiguous()

    def test_survives_saving(self, device: torch.device) -> None:
        encoder, other = (ResidualEncoder((1, 8, 8), 4, K).to(device) for _ in range(2))
        other.load_state_dict(encoder.state_dict())
        x = torch.rand(2, 1, 8, 8, device=device)
        assert torch.equal(other(x), encoder(x))


def test_a_block_is_an_identity_and_a_change(device: torch.device) -> None:
    block = ResidualBlock(8).to(device)
    x = torch.rand(2, 8, 5, 5, device=device)
    torch.testing.assert_close(block(x) - x, block.change(x))
    last = block.change[-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ResidualEncoder((28, 28), 8, 4), r"shape must be \(C, H, W\)"),
        (lambda: ResidualEncoder((1, 3, 8), 8, 4), r"H and W at least 4, not \(1, 3, 8\)"),
        (lambda: ResidualDecoder(0, 8, (1, 8, 8)), r"latent_dim must be an integer"),
        (lambda: ResidualDecoder(4, math.nan, (1, 8, 8)), r"width must be an integer"),
    ],
)
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
