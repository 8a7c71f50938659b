"""Autoencoders: an encoder that lowers the dimension, learnt by reconstructing its input.

Only the initial weights and the order of minibatches are random. The code h of an image is a point;
in a VAE it is a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from vaelib._checks import (
    check_alike,
    check_at_least,
    check_fits,
    check_floats,
    check_generator,
    check_integers,
    check_positive,
    check_shape,
    value_checks,
)
from vaelib._modes import gradients, training
from vaelib.data import Images, check_images
from vaelib.networks import convolutional_decoder, convolutional_encoder, fully_connected

__all__ = [
    "Autoencoder",
    "fit_autoencoder",
    "linear_autoencoder_weights",
    "random_codes",
    "reconstruction_error",
]

HIDDEN = {"linear": (), "sigmoid": (), "deep": (256, 128), "convolutional": (16,)}


def reconstruction_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Squared error Σ_d (x_d − x̂_d)², summed over all dimensions but the first: (N, …) → (N,).

    Raises:
        ValueError: when the shapes or dtypes differ, or a number is not a finite float.

    Example:
        >>> reconstruction_error(torch.ones(2, 1, 2, 3), torch.zeros(2, 1, 2, 3))
        tensor([6., 6.])
    """
    check_alike(x=x, x_hat=x_hat)
    return (x - x_hat).square().unsqueeze(-1).flatten(1).sum(1)


def linear_autoencoder_weights(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best linear autoencoder with a code of k numbers: principal component analysis.

    Encoding by h = Wᵀ(x − mean) and decoding by x̂ = W h + mean has the least squared error of all
    linear encoders and decoders (Eckart & Young 1936; for autoencoders Baldi & Hornik 1989): the
    sum of the squared singular values of the centred x after the k-th. Only the subspace is unique,
    so a trained linear autoencoder finds it in other coordinates.

    Arguments:
        x: (N, D), one example per row.
        k: from 1 to the smaller of N and D.

    Returns:
        mean (D,) and W (D, k). The columns of W are orthonormal: the principal directions, largest
        variance first, each with an arbitrary sign.

    Raises:
        ValueError: when x is not a finite floating-point tensor (N, D), or k is out of range.

    Example:
        >>> x = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])  # on the diagonal
        >>> mean, W = linear_autoencoder_weights(x, 1)
        >>> mean, W.abs()
        (tensor([2., 2.]), tensor([[0.7071],
                [0.7071]]))
    """
    if isinstance(x, Tensor) and x.dim() > 2:
        raise ValueError(f"x must be (N, D), but is {tuple(x.shape)}: flatten it with x.flatten(1)")
    check_floats("x", x, "N", "D")
    check_at_least(1, k=k)
    if k > min(x.shape):
        raise ValueError(f"k must be from 1 to {min(x.shape)}, the smaller side of x, not {k}")
    mean = x.mean(0)
    _, _, vh = torch.linalg.svd(x - mean, full_matrices=False)
    return mean, vh[:k].mT.contiguous()


class Autoencoder(nn.Module):
    """Two networks that map x to a code h, and h to a reconstruction x̂.

    Source: Hinton & Salakhutdinov 2006.

    Arguments:
        shape: of one observation, (C, H, W) or (D,).
        code_dim: numbers in a code.
        hidden: sizes of the hidden layers, mirrored in the decoder. A convolutional network takes
            one number, its width in channels. By default (256, 128) for a deep and (16,) for a
            convolutional network; the other two have no hidden layer.
        network: the kinds, in historical order:

            - `"linear"`: one linear layer each way, at best as good as PCA;
            - `"sigmoid"`: the same, with a sigmoid on the code and on the reconstruction;
            - `"deep"`: with fully connected ReLU layers in between;
            - `"convolutional"`: ReLU convolutions, and up-convolutions in the decoder.

    Codes are real numbers, and lie in (0, 1) for `"sigmoid"`. Reconstructions lie in (0, 1), as
    pixels do, except for `"linear"`. PyTorch draws the initial parameters from its global
    generator: call `torch.manual_seed` first.

    Raises:
        ValueError: when an argument is not as described.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> autoencoder = Autoencoder((1, 8, 8), code_dim=3, network="convolutional")
        >>> x = torch.zeros(5, 1, 8, 8)
        >>> autoencoder.encode(x).shape, autoencoder(x).shape
        (torch.Size([5, 3]), torch.Size([5, 1, 8, 8]))
    """

    def __init__(
        self,
        shape: Sequence[int],
        code_dim: int = 64,
        hidden: Sequence[int] | None = None,
        *,
        network: Literal["linear", "sigmoid", "deep", "convolutional"] = "deep",
    ) -> None:
        super().__init__()
        if network not in HIDDEN:
            raise ValueError(f"network must be one of {', '.join(HIDDEN)}, not {network!r}")
        hidden = HIDDEN[network] if hidden is None else hidden
        check_shape(shape)
        check_integers(1, hidden=hidden)
        check_at_least(1, code_dim=code_dim)
        if network != "deep" and len(hidden) != len(HIDDEN[network]):
            raise ValueError(
                f"hidden must hold {len(HIDDEN[network])} numbers for a {network} network, "
                f"not {hidden}"
            )
        self.shape = tuple(map(int, shape))
        self.code_dim = code_dim
        if network == "convolutional":
            self.encoder = convolutional_encoder(shape, hidden[0], code_dim)
            self.decoder = convolutional_decoder(code_dim, hidden[0], shape)
        else:
            sizes = [prod(shape), *hidden, code_dim]
            self.encoder = nn.Sequential(nn.Flatten(), *fully_connected(sizes))
            self.decoder = nn.Sequential(*fully_connected(sizes[::-1]), nn.Unflatten(1, self.shape))
        if network == "sigmoid":
            self.encoder.append(nn.Sigmoid())
        if network != "linear":
            self.decoder.append(nn.Sigmoid())

    def encode(self, x: Tensor) -> Tensor:
        """Codes h: (N, *shape) → (N, code_dim)."""
        check_fits("x", x, self.encoder)
        check_floats("x", x, "N", *self.shape)
        h: Tensor = self.encoder(x)
        return h

    def decode(self, h: Tensor) -> Tensor:
        """Reconstructions x̂: (N, code_dim) → (N, *shape)."""
        check_fits("h", h, self.decoder)
        check_floats("h", h, "N", self.code_dim)
        x_hat: Tensor = self.decoder(h)
        return x_hat

    def forward(self, x: Tensor) -> Tensor:
        """decode(encode(x)): (N, *shape) → (N, *shape)."""
        return self.decode(self.encode(x))


@gradients()
def fit_autoencoder(
    autoencoder: Autoencoder,
    images: Images,
    generator: torch.Generator | int,
    *,
    epochs: int = 20,
    batch_size: int = 50,
    learning_rate: float = 3e-3,
    progress: bool = False,
) -> list[float]:
    """Minimise the mean `reconstruction_error` with Adam, in training mode, without labels.

    Arguments:
        autoencoder: trained in place, on the device of the images.
        images: the training images, with pixels read as their convention says.
        generator: draws the order of the minibatches, and the pixels of dynamic images; or an
            integer seed.
        epochs, batch_size, learning_rate: of the training.
        progress: whether to show a progress bar.

    Returns:
        For each epoch, the squared error summed over pixels and averaged over examples. Each
        example counts with the parameters of its own step.

    Raises:
        ValueError: when a number is out of range, or images are empty or have another shape.
        FloatingPointError: when the error becomes NaN or infinite.

    Example:
        >>> from vaelib import load_dataset
        >>> _ = torch.manual_seed(0)
        >>> digits = load_dataset("digits")
        >>> autoencoder = Autoencoder(digits.shape, code_dim=8)
        >>> generator = torch.Generator().manual_seed(0)
        >>> losses = fit_autoencoder(autoencoder, digits, generator, epochs=2)
        >>> losses[1] < losses[0]
        True
    """
    from tqdm.auto import trange

    check_at_least(1, epochs=epochs, batch_size=batch_size)
    check_positive(learning_rate=learning_rate)
    check_images(autoencoder.shape, images=images)
    generator = check_generator(generator)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=learning_rate, fused=True)
    dtype = next(autoencoder.parameters()).dtype
    losses: list[float] = []
    for epoch in trange(epochs, unit="epoch", disable=not progress):
        total = torch.zeros((), device=images.pixels.device)
        for x in images.batches(batch_size, generator):
            x = x.to(dtype)
            # Pixels are finite, and divergence has its own error.
            with training(autoencoder), value_checks(False):
                errors = reconstruction_error(x, autoencoder(x))
            optimizer.zero_grad()
            errors.mean().backward()
            optimizer.step()
            total += errors.detach().sum()
        losses.append(total.item() / len(images))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"the error became {losses[-1]} in epoch {epoch + 1}: lower learning_rate "
                f"({learning_rate:g})"
            )
    return losses


def random_codes(codes: Tensor, n: int, generator: torch.Generator | int) -> Tensor:
    """n codes drawn uniformly from the smallest box around `codes`: (N, K) → (n, K).

    An autoencoder learns what the codes of images decode to, but nothing about the points between
    them. To generate images, a model has to know where its codes lie. The generator may be an
    integer seed.

    Raises:
        ValueError: when codes are not a finite floating-point tensor (N, K) with N ≥ 1, or n is
            below 1.

    Example:
        >>> codes = torch.tensor([[0.0, 5.0], [1.0, 5.0]])
        >>> random_codes(codes, 2, torch.Generator().manual_seed(0))
        tensor([[0.4963, 5.0000],
                [0.0885, 5.0000]])
    """
    check_floats("codes", codes, "N ≥ 1", "K")
    check_at_least(1, n=n)
    generator = check_generator(generator)
    low, high = codes.aminmax(dim=0)
    uniform = torch.rand(
        (n, codes.shape[1]), generator=generator, dtype=codes.dtype, device=generator.device
    )
    return low + (high - low) * uniform.to(codes.device)
