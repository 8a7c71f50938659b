"""Models to compare VAEs with: linear, autoregressive, adversarial; and a judge of samples."""

from vaelib.baselines.classifier import Classifier, fit_classifier, frechet_distance
from vaelib.baselines.gan import GAN, adversarial_step, discriminator_loss, fit_gan, generator_loss
from vaelib.baselines.pixelcnn import MaskedConv2d, PixelCNN, fit_pixelcnn
from vaelib.baselines.ppca import PPCA

__all__ = [
    "Classifier",
    "GAN",
    "MaskedConv2d",
    "PPCA",
    "PixelCNN",
    "adversarial_step",
    "discriminator_loss",
    "fit_classifier",
    "fit_gan",
    "fit_pixelcnn",
    "frechet_distance",
    "generator_loss",
]
