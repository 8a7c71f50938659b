"""Residual networks for photographs: a linear map, and blocks that add what is not linear."""

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
    """x + two 3 × 3 convolutions of x, normalised and bent before each: (N, C, H, W) → the same.

    He et al. 2016 (identity mappings), with group normalisation (Wu & He 2018): each image is
    normalised by itself, so that training and evaluation compute the same.

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
    """x → K means and K log variances: linear means, and what residual blocks add to them.

    Blocks and strided convolutions halve the image until its shorter side is below 8. The linear
    part alone is an encoder of probabilistic PCA (`PPCA.initialise` makes it one), so that the
    blocks have to learn only what is not linear.

    Arguments:
        shape: (C, H, W), H and W at least 4; pixels in [0, 1] are moved to [−1, 1] for the blocks.
        width: channels after the first halving; there are twice as many after the next ones.
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
        # Not normalised at the end: how bright and how rich in contrast an image is gets through.
        layers += [nn.SiLU(), nn.Conv2d(n_small, few, 1), nn.SiLU(), _ToRows()]
        layers.append(nn.Linear(few * prod(sizes[-1]), 2 * latent_dim))
        self.blocks = _channels_last(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, *shape) → (N, 2K)."""
        mu, logvar = self.blocks(_lay_out(2 * x - 1)).chunk(2, dim=-1)
        return torch.cat([self.linear(x.flatten(1)) + mu, logvar], dim=-1)


class ResidualDecoder(nn.Module):
    """z → one number per pixel or several: the first linear in z, and what residual blocks add.

    The way back of `ResidualEncoder`. Enlarging repeats pixels and then convolves, and at the end
    channels are laid side by side (Shi et al. 2016): an up-convolution would leave the traces of
    its stride in the picture (Odena et al. 2016).

    Arguments:
        latent_dim, width, shape: as for `ResidualEncoder`.
        per_pixel: numbers for each of the D = Π shape; the blocks alone give those after the first.

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
        # An odd size was rounded up where it was halved.
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
    # The layout in which convolutions are fast, in bfloat16 on a CPU as on a GPU.
    network = nn.Sequential(*layers)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _lay_out(images: Tensor) -> Tensor:
    moved: Tensor = images.contiguous(memory_format=torch.channels_last)
    return moved


class _ToRows(nn.Module):
    """(N, C, H, W) → (N, H·W·C), which moves nothing in this layout."""

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1).flatten(1)


class _ToImages(nn.Module):
    """(N, H·W·C) → (N, C, H, W), which moves nothing either."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, rows: Tensor) -> Tensor:
        pixels: Tensor = rows.unflatten(1, (*self.size, self.channels))
        return pixels.permute(0, 3, 1, 2)


class _Enlarge(nn.Module):
    """Repeats pixels: (N, C, h, w) → (N, C, H, W)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        enlarged: Tensor = F.interpolate(images, self.size)
        return enlarged
