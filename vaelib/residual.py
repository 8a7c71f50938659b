"""Residual networks for photographs: a linear map, plus blocks that learn the nonlinear rest."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib._checks import check_at_least
from vaelib.networks import halved, image_shape

__all__ = ["ResidualBlock", "ResidualDecoder", "ResidualEncoder"]


class ResidualBlock(nn.Module):
    """x plus two 3 × 3 convolutions of x: (N, C, H, W) → (N, C, H, W).

    Normalisation and nonlinearity come before each convolution (He et al. 2016, identity mappings).
    Group normalisation (Wu & He 2018) normalises each image by itself, so that training and
    evaluation compute the same.

    Raises:
        ValueError: when channels is not a positive integer.

    Example:
        >>> ResidualBlock(8)(torch.zeros(2, 8, 5, 6)).shape
        torch.Size([2, 8, 5, 6])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_at_least(1, channels=channels)
        groups = gcd(8, channels)
        self.change = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        changed: Tensor = x + self.change(x)
        return changed


class ResidualEncoder(nn.Module):
    """x → K means and K log variances: a linear map to means, plus residual blocks.

    Blocks and strided convolutions halve the image until its shorter side is below 8. The linear
    part alone can be the encoder of probabilistic PCA (`PPCA.initialise`), so that the blocks learn
    only the nonlinear rest.

    Arguments:
        shape: (C, H, W), H and W at least 4. The blocks get pixels mapped from [0, 1] to [−1, 1].
        width: channels after the first halving; twice as many after the next ones.
        latent_dim: K.

    Raises:
        ValueError: when a size is out of range.

    Example:
        >>> encoder = ResidualEncoder((3, 32, 32), width=8, latent_dim=5)
        >>> encoder(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, shape: Sequence[int], width: int, latent_dim: int) -> None:
        super().__init__()
        channels, _, _ = image_shape(shape, width)
        check_at_least(1, latent_dim=latent_dim)
        self.linear = nn.Linear(prod(shape), latent_dim)
        sizes = _halvings(shape)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 5, stride=2, padding=2)]
        for i in range(1, len(sizes)):
            if i > 1:
                n_in = width if i == 2 else 2 * width
                layers.append(nn.Conv2d(n_in, 2 * width, 3, stride=2, padding=1))
            layers.append(ResidualBlock(_channels(i, width)))
        n_small, few = _channels(len(sizes) - 1, width), (width + 1) // 2
        # Not normalised at the end, so that the code can hold an image's brightness and contrast.
        layers += [nn.SiLU(), nn.Conv2d(n_small, few, 1), nn.SiLU(), _ToRows()]
        layers.append(nn.Linear(few * prod(sizes[-1]), 2 * latent_dim))
        self.blocks = _channels_last(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape) → (N, 2K)."""
        mu, logvar = self.blocks(_lay_out(2 * x - 1)).chunk(2, dim=-1)
        return torch.cat([self.linear(x.flatten(1)) + mu, logvar], dim=-1)


class ResidualDecoder(nn.Module):
    """z → one or more numbers per pixel: a linear map to the first, plus residual blocks.

    It mirrors `ResidualEncoder`. The image is enlarged by repeating pixels and convolving, and at
    the end by a pixel shuffle (Shi et al. 2016). An up-convolution would leave a pattern of its
    stride in the picture (Odena et al. 2016).

    Arguments:
        latent_dim, width, shape: as for `ResidualEncoder`.
        per_pixel: numbers for each of the D = Π shape. All but the first come from the blocks
            alone.

    Raises:
        ValueError: when a size is out of range.

    Example:
        >>> decoder = ResidualDecoder(5, width=8, shape=(3, 25, 25), per_pixel=2)
        >>> decoder(torch.zeros(7, 5)).shape
        torch.Size([7, 2, 3, 25, 25])
    """

    def __init__(
        self, latent_dim: int, width: int, shape: Sequence[int], per_pixel: int = 1
    ) -> None:
        super().__init__()
        channels, height, n_columns = image_shape(shape, width)
        check_at_least(1, latent_dim=latent_dim, per_pixel=per_pixel)
        self.outputs = (per_pixel, channels, height, n_columns)
        self.linear = nn.Linear(latent_dim, prod(shape))
        sizes = _halvings(shape)
        n_small, few = _channels(len(sizes) - 1, width), (width + 1) // 2
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, few * prod(sizes[-1])),
            _ToImages(few, sizes[-1]),
            nn.Conv2d(few, n_small, 1),
            ResidualBlock(n_small),
        ]
        for i in range(len(sizes) - 2, 0, -1):
            n_in, n_out = _channels(i + 1, width), _channels(i, width)
            layers += [_Enlarge(sizes[i]), nn.Conv2d(n_in, n_out, 3, padding=1)]
            layers.append(ResidualBlock(n_out))
        layers += [
            nn.GroupNorm(gcd(8, width), width),
            nn.SiLU(),
            nn.Conv2d(width, 4 * few, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(few, per_pixel * channels, 3, padding=1),
        ]
        self.blocks = _channels_last(layers)

    def forward(self, z: Tensor) -> Tensor:
        """(N, K) → (N, per_pixel, *shape)."""
        per_pixel, channels, height, n_columns = self.outputs
        # Odd sizes were rounded up when they were halved.
        added = self.blocks(z)[..., :height, :n_columns]
        added = added.unflatten(1, (per_pixel, channels))
        first = self.linear(z).view(-1, channels, height, n_columns) + added[:, 0]
        return torch.cat([first.unsqueeze(1), added[:, 1:]], dim=1)


def _halvings(shape: Sequence[int]) -> list[tuple[int, int]]:
    """(H, W), halved once and then until the shorter side is below 8."""
    sizes = [(shape[1], shape[2])]
    while len(sizes) == 1 or min(sizes[-1]) >= 8:
        sizes.append((halved(sizes[-1][0]), halved(sizes[-1][1])))
    return sizes


def _channels(halvings: int, width: int) -> int:
    return width if halvings == 1 else 2 * width


def _channels_last(layers: list[nn.Module]) -> nn.Sequential:
    # The layout in which convolutions are fast, on a GPU and, in bfloat16, on a CPU.
    network = nn.Sequential(*layers)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _lay_out(images: Tensor) -> Tensor:
    moved: Tensor = images.contiguous(memory_format=torch.channels_last)
    return moved


class _ToRows(nn.Module):
    """(N, C, H, W) → (N, H·W·C), without a copy in this layout."""

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1).flatten(1)


class _ToImages(nn.Module):
    """(N, H·W·C) → (N, C, H, W), without a copy."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, rows: Tensor) -> Tensor:
        pixels: Tensor = rows.unflatten(1, (*self.size, self.channels))
        return pixels.permute(0, 3, 1, 2)


class _Enlarge(nn.Module):
    """Repeat pixels: (N, C, h, w) → (N, C, H, W)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        enlarged: Tensor = F.interpolate(images, self.size)
        return enlarged
