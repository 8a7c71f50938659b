"""A small convolutional classifier that judges samples and gives features to compare them by.

A classifier of digits tells whether a sample is a digit. The Fréchet distance compares samples with
real images in its last hidden layer (Heusel et al. 2017).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib._checks import (
    check_at_least,
    check_finite,
    check_fits,
    check_floating,
    check_floats,
    check_generator,
    check_positive,
)
from vaelib._modes import evaluating, gradients, training
from vaelib.baselines._products import Precision, products
from vaelib.images import Images, check_images, check_labels
from vaelib.networks import convolutional_encoder

__all__ = ["Classifier", "fit_classifier", "frechet_distance", "shifted"]


class Classifier(nn.Module):
    """p(y|x): two strided convolutions, one hidden layer, one logit per class.

    Arguments:
        shape: (C, H, W), H and W at least 4.
        classes: number of classes.
        width: channels of the first convolution; the second has twice as many.
        features: size of the hidden layer.

    PyTorch draws the initial parameters from its global generator: call `torch.manual_seed` first.

    Raises:
        ValueError: when an argument is not as described.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> classifier = Classifier((1, 8, 8), width=2, features=16)
        >>> x = torch.zeros(5, 1, 8, 8)
        >>> classifier(x).shape, classifier.features(x).shape
        (torch.Size([5, 10]), torch.Size([5, 16]))
    """

    def __init__(
        self, shape: Sequence[int], classes: int = 10, width: int = 32, features: int = 128
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, features=features)
        check_at_least(2, classes=classes)
        self.body = nn.Sequential(convolutional_encoder(shape, width, features), nn.ReLU())
        self.shape = tuple(shape)
        self.head = nn.Linear(features, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, x: Tensor) -> Tensor:
        """The hidden layer, which `frechet_distance` compares: (N, *shape) → (N, F)."""
        check_fits("x", x, self)
        check_floats("x", x, "N", *self.shape)
        h: Tensor = self.body(x)
        return h

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (N, *shape) → (N, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    @torch.no_grad()
    def accuracy(self, images: Images, generator: torch.Generator | int = 0) -> Tensor:
        """Whether each image is classified correctly: (N,) booleans.

        Arguments:
            images: with labels.
            generator: draws dynamic pixels; or an integer seed.
        """
        check_images(self.shape, images=images)
        labels = check_labels("images", images)
        batches = images.batches(1000, check_generator(generator), shuffle=False)
        dtype = self.head.weight.dtype
        with evaluating(self):
            found = torch.cat([self(x.to(dtype)).argmax(1) for x in batches])
        return found == labels


@gradients()
def fit_classifier(
    classifier: Classifier,
    images: Images,
    generator: torch.Generator | int,
    *,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    shift: int = 2,
    precision: Precision = "float32",
    optimizer: torch.optim.Optimizer | None = None,
    progress: bool = False,
) -> list[float]:
    """Minimise the mean cross-entropy with Adam, with images shifted at random.

    Arguments:
        classifier: trained in place, on the device of the images.
        images: with labels; pixels are read as their convention says.
        generator: draws the order, the shifts and dynamic pixels; or an integer seed.
        epochs, batch_size, learning_rate: of the training.
        shift: largest shift in pixels, up, down, left or right.
        precision: of the products, "float32" or "bfloat16"; parameters and sums keep their own.
        optimizer: over `classifier.parameters()`, used instead of Adam. It keeps its state from
            call to call.
        progress: whether to show a progress bar.

    Returns:
        For each epoch, the mean −log p(y|x) in nats. Each example counts with the parameters of its
        own step.

    Raises:
        ValueError: when a number is out of range, or the images do not fit.
        FloatingPointError: when the loss becomes NaN or infinite.

    Example:
        >>> from vaelib.data import load_dataset
        >>> _ = torch.manual_seed(0)
        >>> digits = load_dataset("digits")
        >>> classifier = Classifier(digits.shape, width=4)
        >>> losses = fit_classifier(classifier, digits, 0, epochs=2, shift=1)
        >>> losses[1] < losses[0]
        True
    """
    from tqdm import trange

    check_at_least(1, epochs=epochs, batch_size=batch_size)
    check_at_least(0, shift=shift)
    check_positive(learning_rate=learning_rate)
    check_images(classifier.shape, images=images)
    labels = check_labels("images", images)
    classes = classifier.head.out_features
    if not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(
            f"images must have labels from 0 to {classes - 1}, as the classifier has {classes} "
            f"classes, but theirs are from {labels.min()} to {labels.max()}"
        )
    generator = check_generator(generator)
    if optimizer is None:
        optimizer = torch.optim.Adam(classifier.parameters(), lr=learning_rate, fused=True)
    dtype = classifier.head.weight.dtype
    losses: list[float] = []
    with products(images.pixels.device, precision), training(classifier):
        for epoch in trange(epochs, unit="epoch", file=sys.stdout, disable=not progress):
            order = torch.randperm(len(images), generator=generator, device=generator.device)
            total = torch.zeros((), device=images.pixels.device)
            for chosen in order.to(images.pixels.device).split(int(batch_size)):
                x = shifted(images[chosen].floats(generator), shift, generator)
                loss = F.cross_entropy(classifier(x.to(dtype)), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += len(chosen) * loss.detach()
            losses.append(total.item() / len(images))
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss became {losses[-1]} in epoch {epoch + 1}: lower learning_rate "
                    f"({learning_rate:g})"
                )
    return losses


def shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `most` pixels up, down, left or right, filled with zeros.

    Example:
        >>> x = torch.ones(1, 1, 3, 3)
        >>> shifted(x, 1, torch.Generator().manual_seed(0))[0, 0]  # down by one
        tensor([[0., 0., 0.],
                [1., 1., 1.],
                [1., 1., 1.]])
    """
    if most == 0:
        return x
    n, _, height, width = x.shape
    offsets = torch.randint(
        2 * most + 1, (2, n, 1), generator=generator, device=generator.device
    ).to(x.device)
    rows = offsets[0] + torch.arange(height, device=x.device)
    columns = offsets[1] + torch.arange(width, device=x.device)
    padded = F.pad(x, (most,) * 4).movedim(1, 3)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].movedim(3, 1)


@torch.no_grad()
def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The distance of two sets of features as Gaussians: |μ_a − μ_b|² + tr(A + B − 2·(AB)^½).

    μ_a, μ_b and A, B are the means and covariances of the sets. This is the squared 2-Wasserstein
    distance of N(μ_a, A) and N(μ_b, B) (Dowson & Landau 1982). Heusel et al. 2017 use it on the
    features of a classifier. With those of Inception it is called FID; other features give other
    numbers. It is biased upwards by about 1/N, so compare only numbers of equally many images.

    Arguments:
        a, b: (N, F) and (M, F), `Classifier.features` of two sets of images; N, M ≥ 2.

    Returns:
        The distance, in squared units of the features; 0 for equal means and covariances.

    Raises:
        ValueError: when a or b is not finite, floating point and (N, F) with N ≥ 2, or F differs.

    Example:
        >>> a = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        >>> frechet_distance(a, a + 2)  # the means are 2 apart in each of 3 directions
        12.0
    """
    check_floating(a=a, b=b)
    for name, value in (("a", a), ("b", b)):
        if value.dim() != 2 or len(value) < 2:
            raise ValueError(f"{name} must be (N, F) with N ≥ 2, but is {tuple(value.shape)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a and b must have the same F, not {a.shape[1]} and {b.shape[1]}")
    check_finite(a=a, b=b)
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T).view(2 * a.shape[1:]), torch.cov(b.T).view(2 * b.shape[1:])
    # tr (AB)^½ = tr (A^½ B A^½)^½, whose argument is symmetric. Rounding may make a 0 negative.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, float(distance))
