"""A small generative adversarial network: a generator that tries to fool a discriminator.

It draws images as a VAE does, by a network of z ~ N(0, I), but has no encoder and no likelihood.
Instead, a second network learns to tell generated images from real ones (Goodfellow et al. 2014).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib._checks import check_at_least, check_generator, check_positive
from vaelib._modes import evaluating, gradients, training
from vaelib.baselines._products import Precision, products
from vaelib.data import Images, check_images
from vaelib.networks import convolutional_decoder, convolutional_encoder
from vaelib.reparameterization import noise

__all__ = ["GAN", "adversarial_step", "discriminator_loss", "fit_gan", "generator_loss"]


class GAN(nn.Module):
    """Two convolutional networks, built like the decoder and the encoder of a convolutional VAE.

    Goodfellow et al. 2014.

    Arguments:
        shape: (C, H, W), H and W at least 4.
        latent_dim: K.
        width: channels of the larger hidden layers; the smaller ones have twice as many.
        batch_norm: whether both networks use batch normalisation, and the discriminator leaky
            ReLUs, as Radford et al. 2016 advise. This is slower, and better in a long training.

    Attributes:
        generator: z (N, K) → images (N, C, H, W) in (0, 1).
        discriminator: images → (N, 1) logits of the probability that they are real.

    PyTorch draws the initial parameters from its global generator: call `torch.manual_seed` first.

    Raises:
        ValueError: when an argument is not as described.

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
        # Built in either case, since this checks the shape.
        generator = convolutional_decoder(latent_dim, width, shape)
        self.shape = tuple(shape)
        self.discriminator = convolutional_encoder(shape, width, 1)
        if batch_norm:
            generator, self.discriminator = _normalised(latent_dim, width, shape)
        self.generator = nn.Sequential(generator, nn.Sigmoid())
        # Faster on a CPU with so few channels.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | int) -> Tensor:
        """Images for n latents z ~ N(0, I): (n, C, H, W) in (0, 1).

        Arguments:
            n: number of images, at least 1.
            generator: the source of random numbers, not the network of that name; or an integer
                seed. A generator on the CPU draws the same z for every device.
        """
        with evaluating(self):
            images: Tensor = self.generator(self.noise(n, generator))
        return images

    def noise(self, n: int, generator: torch.Generator | int) -> Tensor:
        """z ~ N(0, I): (n, K), in the model's dtype and on its device."""
        check_at_least(1, n=n)
        return noise((n, self.latent_dim), generator, like=next(self.parameters()))


class _Cropped(nn.Module):
    """Crop images to their upper left part."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]


def _normalised(
    latent_dim: int, width: int, shape: Sequence[int]
) -> tuple[nn.Sequential, nn.Sequential]:
    """Generator and discriminator of Radford et al. 2016, with two convolutions each."""
    channels, height, width_out = shape
    large = math.ceil(height / 4), math.ceil(width_out / 4)
    generator = nn.Sequential(
        nn.Linear(latent_dim, 2 * width * large[0] * large[1], bias=False),
        nn.Unflatten(1, (int(2 * width), *large)),
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
    """The discriminator's loss: the mean of −log D(x) − log(1 − D(G(z))), in nats.

    Goodfellow et al. 2014, equation 1.

    Arguments:
        real: logits of real images, with D = σ(logit).
        made_up: logits of generated images.

    Returns:
        A scalar.

    Example:
        >>> discriminator_loss(torch.zeros(1), torch.zeros(1))  # 2·log 2: D cannot tell
        tensor(1.3863)
    """
    return F.softplus(-real).mean() + F.softplus(made_up).mean()


def generator_loss(made_up: Tensor) -> Tensor:
    """The generator's loss: the mean of −log D(G(z)), in nats, a scalar.

    This is the *non-saturating* loss. The minimax game's log(1 − D(G(z))) is flat where D is sure,
    which is where G has most to learn (Goodfellow et al. 2014, section 3).

    Arguments:
        made_up: logits of generated images, with D = σ(logit).

    Example:
        >>> generator_loss(torch.zeros(1))  # log 2
        tensor(0.6931)
    """
    return F.softplus(-made_up).mean()


@gradients()
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
    """Train both networks in turn with Adam (β₁ = ½), one step of each per minibatch.

    Neither loss says how good the samples are, because each is measured against the other network.

    Arguments:
        gan: trained in place, on the device of the images.
        images: better grey than binarised. Pixels that are all 0 or 1 give real images away, and
            the generator collapses.
        generator: draws the order of the minibatches, the latents and dynamic pixels; or an integer
            seed.
        epochs, batch_size, learning_rate: of the training.
        precision: of the products, "float32" or "bfloat16"; parameters and sums keep their own.
        optimizers: over the parameters of the discriminator and of the generator, used instead of
            Adam. They keep their state from call to call.
        progress: whether to show a progress bar.

    Returns:
        For each epoch, the mean losses of the discriminator and the generator, in nats.

    Raises:
        ValueError: when a number is out of range, or there are no images or they have another
            shape.
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
    check_images(gan.shape, images=images)
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
                losses = adversarial_step(gan, of_discriminator, of_generator, x.to(z), z)
                total += len(x) * torch.stack(losses)
            told, fooled = (total / len(images)).tolist()
            history.append((told, fooled))
            if not math.isfinite(told + fooled):
                raise FloatingPointError(
                    f"the losses became {history[-1]} in epoch {epoch + 1}: lower learning_rate "
                    f"({learning_rate:g})"
                )
    return history


@gradients()
def adversarial_step(
    gan: GAN,
    discriminator_optimizer: torch.optim.Optimizer,
    generator_optimizer: torch.optim.Optimizer,
    x: Tensor,
    z: Tensor,
) -> tuple[Tensor, Tensor]:
    """Make one step of the discriminator, then one of the generator.

    Arguments:
        gan: changed in place.
        discriminator_optimizer, generator_optimizer: over the parameters of one network each.
        x: (N, C, H, W) real images.
        z: (M, K) noise for the generated images.

    Returns:
        The losses of both, each before its step, detached.

    Example:
        >>> gan = GAN((1, 8, 8), latent_dim=4, width=2)
        >>> adams = [torch.optim.Adam(p.parameters()) for p in (gan.discriminator, gan.generator)]
        >>> losses = adversarial_step(gan, *adams, torch.zeros(5, 1, 8, 8), torch.randn(5, 4))
        >>> [loss.shape for loss in losses]
        [torch.Size([]), torch.Size([])]
    """
    made_up = gan.generator(z)
    told = discriminator_loss(gan.discriminator(x), gan.discriminator(made_up.detach()))
    _step(discriminator_optimizer, told, gan.discriminator)
    fooled = generator_loss(gan.discriminator(made_up))
    _step(generator_optimizer, fooled, gan.generator)
    return told.detach(), fooled.detach()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, player: nn.Module) -> None:
    optimizer.zero_grad()
    # The loss depends on both networks, but only one gets gradients.
    loss.backward(inputs=list(player.parameters()))
    optimizer.step()
