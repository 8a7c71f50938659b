"""A small generative adversarial network: a generator that tries to fool a discriminator.

It draws as a VAE does, z ~ N(0, I) through a network, but there is no encoder and no likelihood:
only a second network that learns to tell made-up images from real ones (Goodfellow et al. 2014).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib._checks import check_at_least, check_generator, check_positive
from vaelib._modes import evaluating, training
from vaelib.baselines._products import Precision, products
from vaelib.data import Images, check_images
from vaelib.networks import convolutional_decoder, convolutional_encoder
from vaelib.reparameterization import noise

__all__ = ["GAN", "adversarial_step", "discriminator_loss", "fit_gan", "generator_loss"]


class GAN(nn.Module):
    """Two convolutional networks, built as the decoder and the encoder of a convolutional VAE.

    Goodfellow et al. 2014.

    Arguments:
        shape: (C, H, W), H and W at least 4.
        latent_dim: K.
        width: channels at full size, of both networks.
        batch_norm: whether both networks normalise over the minibatch, and the discriminator's
            units leak, as Radford et al. 2016 advise: slower, and better in a long training.

    Attributes:
        generator: z (N, K) → images (N, C, H, W) in (0, 1).
        discriminator: images → (N, 1) logits of their being real.

    Parameters start as PyTorch draws them, from the global generator: `torch.manual_seed` before.

    Raises:
        ValueError: when an argument is none of the above.

    Example:
        >>> gan = GAN((1, 8, 8), latent_dim=4, width=2)
        >>> gan.sample(5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int = 64,
        width: int = 24,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, latent_dim=latent_dim, width=width)
        self.latent_dim = latent_dim
        # Built in any case, since they check the shape.
        generator = convolutional_decoder(latent_dim, width, shape)
        self.discriminator = convolutional_encoder(shape, width, 1)
        if batch_norm:
            generator, self.discriminator = _normalised(latent_dim, width, shape)
        self.generator = nn.Sequential(generator, nn.Sigmoid())
        # Faster on a CPU, where the channels are few.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | int) -> Tensor:
        """Images for n latents z ~ N(0, I): (n, C, H, W) in (0, 1).

        Arguments:
            n: at least 1.
            generator: or an integer seed: the source of randomness, not the network of that name;
                one on the CPU draws the same z for every device.
        """
        with evaluating(self):
            images: Tensor = self.generator(self.noise(n, generator))
        return images

    def noise(self, n: int, generator: torch.Generator | int) -> Tensor:
        """z ~ N(0, I): (n, K), in the model's dtype and on its device."""
        check_at_least(1, n=n)
        return noise((n, self.latent_dim), generator, like=next(self.parameters()))


class _Cropped(nn.Module):
    """The upper left part of images that are too large."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]


def _normalised(
    latent_dim: int, width: int, shape: Sequence[int]
) -> tuple[nn.Sequential, nn.Sequential]:
    """Generator and discriminator of Radford et al. 2016, with two layers of convolutions each."""
    channels, height, width_out = shape
    large = math.ceil(height / 4), math.ceil(width_out / 4)
    generator = nn.Sequential(
        nn.Linear(latent_dim, 2 * width * large[0] * large[1], bias=False),
        nn.Unflatten(1, (2 * width, *large)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        _Cropped(height, width_out),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (width_out // 4), 1),
    )
    return generator, discriminator


def discriminator_loss(real: Tensor, made_up: Tensor) -> Tensor:
    """−log D(x) − log(1 − D(G(z))), averaged: to be minimised in D (Goodfellow et al. 2014, eq. 1).

    Arguments:
        real, made_up: logits of D = σ(logit).

    Example:
        >>> discriminator_loss(torch.zeros(1), torch.zeros(1))  # 2·log 2: D cannot tell
        tensor(1.3863)
    """
    return F.softplus(-real).mean() + F.softplus(made_up).mean()


def generator_loss(made_up: Tensor) -> Tensor:
    """−log D(G(z)), averaged: to be minimised in G.

    The *non-saturating* loss: the minimax game's log(1 − D(G(z))) is flat where D is sure, which is
    where G has most to learn (Goodfellow et al. 2014, section 3).

    Example:
        >>> generator_loss(torch.zeros(1))  # log 2
        tensor(0.6931)
    """
    return F.softplus(-made_up).mean()


def fit_gan(
    gan: GAN,
    images: Images,
    generator: torch.Generator | int,
    *,
    epochs: int = 18,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    precision: Precision = "float32",
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer] | None = None,
    progress: bool = False,
) -> list[tuple[float, float]]:
    """Train both networks in turn, a step of each for every minibatch, by Adam with β₁ = ½.

    Neither loss says how good the samples are: each is measured against the other player.

    Arguments:
        gan: trained in place, on the device of the images.
        images: better grey than binarised: that all pixels are 0 or 1 gives real images away, and
            the generator collapses.
        generator: or an integer seed; of the minibatches' order, the latents, and the pixels where
            they are drawn.
        epochs, batch_size, learning_rate: of the training.
        precision: of the products, "float32" or "bfloat16"; parameters and sums keep their own.
        optimizers: over the parameters of the discriminator and of the generator, in place of Adam;
            they keep their state from call to call.
        progress: whether to show a bar.

    Returns:
        For each epoch the mean loss of the discriminator and that of the generator, in nats.

    Raises:
        ValueError: when a number is out of range, or images are none.
        FloatingPointError: when a loss becomes NaN or infinite.

    Example:
        >>> from vaelib.data import load_dataset
        >>> digits = load_dataset("digits")[:100]
        >>> gan = GAN(digits.shape, latent_dim=4, width=2)
        >>> history = fit_gan(gan, digits, torch.Generator().manual_seed(0), epochs=2)
        >>> len(history)
        2
    """
    from tqdm import trange

    check_at_least(1, epochs=epochs, batch_size=batch_size)
    check_positive(learning_rate=learning_rate)
    check_images(images=images)
    generator = check_generator(generator)
    of_discriminator, of_generator = optimizers or (
        torch.optim.Adam(player.parameters(), lr=learning_rate, betas=(0.5, 0.999), fused=True)
        for player in (gan.discriminator, gan.generator)
    )
    history: list[tuple[float, float]] = []
    with products(images.pixels.device, precision), training(gan):
        for epoch in trange(epochs, unit="epoch", file=sys.stdout, disable=not progress):
            total = torch.zeros(2, device=images.pixels.device)
            for x in images.batches(batch_size, generator):
                z = gan.noise(len(x), generator)
                losses = adversarial_step(gan, of_discriminator, of_generator, x, z)
                total += len(x) * torch.stack(losses)
            told, fooled = (total / len(images)).tolist()
            history.append((told, fooled))
            if not math.isfinite(told + fooled):
                raise FloatingPointError(
                    f"the losses became {history[-1]} in epoch {epoch + 1}: lower learning_rate "
                    f"({learning_rate:g})"
                )
    return history


def adversarial_step(
    gan: GAN,
    discriminator_optimizer: torch.optim.Optimizer,
    generator_optimizer: torch.optim.Optimizer,
    x: Tensor,
    z: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step of the discriminator, then one of the generator against it.

    Arguments:
        gan: changed in place.
        discriminator_optimizer, generator_optimizer: over the parameters of one player each.
        x: (N, C, H, W) real images.
        z: (M, K) noise for the images that are made up.

    Returns:
        The losses of the two, each before its step, detached.
    """
    made_up = gan.generator(z)
    told = discriminator_loss(gan.discriminator(x), gan.discriminator(made_up.detach()))
    _step(discriminator_optimizer, told, gan.discriminator)
    fooled = generator_loss(gan.discriminator(made_up))
    _step(generator_optimizer, fooled, gan.generator)
    return told.detach(), fooled.detach()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, player: nn.Module) -> None:
    optimizer.zero_grad()
    # The loss depends on both players, the gradient is wanted for one.
    loss.backward(inputs=list(player.parameters()))
    optimizer.step()
