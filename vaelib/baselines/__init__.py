"""What the lecture compares VAEs with: a linear model, an autoregressive and an adversarial one."""

from vaelib.baselines.gan import GAN, adversarial_step, discriminator_loss, fit_gan, generator_loss
from vaelib.baselines.pixelcnn import MaskedConv2d, PixelCNN, fit_pixelcnn
from vaelib.baselines.ppca import PPCA

__all__ = [
    "GAN",
    "PPCA",
    "MaskedConv2d",
    "PixelCNN",
    "adversarial_step",
    "discriminator_loss",
    "fit_gan",
    "fit_pixelcnn",
    "generator_loss",
]
