"""Measurements of a VAE: ELBO and log p(x) of the test images, and of images that ship with it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from recipes.run import Run, measurement
from vaelib import VAE, Images, evaluate_elbo, load_dataset, log_likelihood
from vaelib.pretrained import Measurement

NATS = "nats per image"


def bound(images: Images) -> Callable[[VAE], float]:
    """A function that returns a model's mean ELBO, in nats, always with the same draws."""

    def mean_elbo(model: VAE) -> float:
        return evaluate_elbo(model, images, torch.Generator().manual_seed(0)).mean().item()

    return mean_elbo


def measure_bounds(
    run: Run, published: str, samples: int = 5000
) -> Callable[[VAE], list[Measurement]]:
    """A function that measures a model on the test images, and on those of mnist5k.

    mnist5k comes with vaelib's dependencies, so everybody can reproduce its numbers. But its images
    are from MNIST's training set, on which the model was trained.

    Arguments:
        run: a quick run uses fewer images and samples.
        published: the value to compare with log p(x) of the test images.
        samples: importance samples for each test image.
    """
    test = run.mnist("test").binarise("dynamic")
    ships = load_dataset("mnist5k", "test", device=run.device).binarise("dynamic")
    many, few = (20, 10) if run.quick else (samples, 500)

    def measure(model: VAE) -> list[Measurement]:
        generator = torch.Generator().manual_seed(0)
        return [
            elbo(model, test, generator),
            log_p(model, test, many, generator, beside=published),
            elbo(model, ships, generator),
            log_p(model, ships, few, generator),
        ]

    return measure


def elbo(model: VAE, images: Images, generator: torch.Generator) -> Measurement:
    values = evaluate_elbo(model, images, generator).per_example
    return measurement("ELBO", values, images, unit=NATS)


def log_p(
    model: VAE, images: Images, samples: int, generator: torch.Generator, beside: str = ""
) -> Measurement:
    values = log_likelihood(model, images, generator, samples=samples).per_example
    return measurement("log p(x)", values, images, unit=NATS, samples=samples, beside=beside)
