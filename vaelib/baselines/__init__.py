"""What the lecture compares VAEs with: an autoregressive model and an adversarial one."""

from vaelib.baselines.gan import GAN, adversarial_step, discriminator_loss, fit_gan, generator_loss
from vaelib.baselines.pixelcnn import MaskedConv2d, PixelCNN, fit_pixelcnn

__all__ = [
    "GAN",
    "MaskedConv2d",
    "PixelCNN",
    "adversarial_step",
    "discriminator_loss",
    "fit_gan",
    "fit_pixelcnn",
    "generator_loss",
]
