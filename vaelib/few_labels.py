"""A classifier on a trained encoder: does it need fewer labels than one that starts anew?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from vaelib._checks import (
    check_at_least,
    check_generator,
    check_integers,
    check_positive,
)
from vaelib._modes import evaluating, gradients, training
from vaelib.autoencoder import Autoencoder
from vaelib.images import Images, check_images, check_labels, check_not_dynamic

__all__ = [
    "FewLabels",
    "balanced_subset",
    "few_labels_experiment",
    "initialise_classifier",
]


def initialise_classifier(autoencoder: Autoencoder, code_dim: int, n_classes: int) -> nn.Sequential:
    """The encoder with a linear layer on top of its codes: (N, *shape) → (N, n_classes) logits.

    The encoder's parameters are *shared*, not copied: training the classifier fine-tunes them
    jointly with the new layer. The decoder is not used. The new layer starts at zero: all classes
    begin equal, and no arbitrary first gradient spoils the encoder's features.

    Raises:
        ValueError: when code_dim differs from the autoencoder's, or n_classes is below 2.

    Example:
        >>> autoencoder = Autoencoder((6,), code_dim=3, hidden=[4])
        >>> classifier = initialise_classifier(autoencoder, code_dim=3, n_classes=10)
        >>> classifier(torch.zeros(5, 6)).shape
        torch.Size([5, 10])
        >>> classifier[0] is autoencoder.encoder
        True
    """
    if code_dim != autoencoder.code_dim:
        raise ValueError(f"code_dim must be {autoencoder.code_dim}, the encoder's, not {code_dim}")
    check_at_least(2, n_classes=n_classes)
    parameter = next(autoencoder.parameters())
    head = skip_init(nn.Linear, code_dim, n_classes, device=parameter.device, dtype=parameter.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(autoencoder.encoder, head)


@dataclass(frozen=True)
class FewLabels:
    """Test errors of classifiers trained on few labels: shares in [0, 1], CPU tensors.

    Attributes:
        n_labels: L numbers of labelled images.
        steps: T numbers of training steps after which the error was measured.
        random: (L, R, T) errors from random initialisation, for R seeds.
        pretrained: (L, R, T) errors from the autoencoder's encoder, with the same labels and
            minibatches for the same seed: differences are paired.

    Example:
        >>> random, pretrained = torch.full((1, 2, 1), 0.5), torch.tensor([[[0.3], [0.4]]])
        >>> result = FewLabels((10,), (200,), random, pretrained)
        >>> (result.random - result.pretrained)[0, :, -1].mean()  # gain with 10 labels, at the end
        tensor(0.1500)
    """

    n_labels: tuple[int, ...]
    steps: tuple[int, ...]
    random: Tensor
    pretrained: Tensor


def balanced_subset(labels: Tensor, n: int, generator: torch.Generator | int) -> Tensor:
    """Indices of n random examples, equally many of each class (±1): (N,) → (n,).

    A class with fewer examples than its share gives all of them. With the same integer seed, or a
    generator in the same state, a smaller subset is the beginning of a larger one.

    Raises:
        ValueError: when n is not from 1 to N.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2])
        >>> chosen = balanced_subset(labels, 6, torch.Generator().manual_seed(0))
        >>> labels[chosen].bincount()
        tensor([3, 2, 1])
    """
    check_at_least(1, n=n)
    if n > len(labels):
        raise ValueError(f"n must be from 1 to {len(labels)}, the number of labels, not {n}")
    generator = check_generator(generator)
    order = torch.randperm(len(labels), generator=generator, device=generator.device)
    order = order.to(labels.device)
    shuffled = labels[order]
    seen_before = F.one_hot(shuffled).cumsum(0).gather(1, shuffled[:, None])[:, 0]
    return order[seen_before.argsort(stable=True)[:n]]


@gradients()
def few_labels_experiment(
    autoencoder: Autoencoder,
    train: Images,
    test: Images,
    *,
    n_labels: Sequence[int] = (10, 30, 100, 300, 1000),
    seeds: Sequence[int] = range(5),
    steps: Sequence[int] = (5, 10, 20, 50, 100, 200),
    batch_size: int = 50,
    learning_rate: float = 1e-3,
) -> FewLabels:
    """Test whether a classifier needs fewer labels when it starts from a trained encoder.

    The function trains two classifiers for each number of labels and each seed. The first is
    `initialise_classifier` with the trained encoder. The second is the same network with the usual
    random initialisation of every layer (He et al. 2015). Everything else is the same: labels,
    minibatches, Adam and the number of steps. Neither is tuned, so there is no validation set.

    With 10 to 100 labels of mnist5k the first is better. The difference shrinks with more labels.

    Arguments:
        autoencoder: trained without labels on all of `train`; it is not changed.
        train: grey or static images, of which some are labelled, equally many of each class.
        test: the images on which errors are measured.
        n_labels: numbers of labels, each at most `len(train)`.
        seeds: each draws labels, minibatches and the random encoder.
        steps: the steps after which errors are measured; training ends after the last.
        batch_size, learning_rate: of the training.

    Returns:
        `FewLabels`. All seeds share one autoencoder, so their spread does not include that of its
        training.

    Raises:
        ValueError: when a number is out of range, steps do not increase, there are no images or
            they are dynamic, or n_labels, seeds or steps are empty.

    Example:
        >>> from vaelib import fit_autoencoder, load_dataset
        >>> train, test = load_dataset("digits"), load_dataset("digits", "test")
        >>> autoencoder = Autoencoder(train.shape, code_dim=8)
        >>> _ = fit_autoencoder(autoencoder, train, torch.Generator().manual_seed(0), epochs=1)
        >>> result = few_labels_experiment(
        ...     autoencoder, train, test, n_labels=[10, 50], seeds=[0, 1, 2], steps=[1, 5]
        ... )
        >>> result.random.shape, result.pretrained.shape
        (torch.Size([2, 3, 2]), torch.Size([2, 3, 2]))
    """
    check_images(train=train, test=test)
    check_not_dynamic(train=train, test=test)
    labels = check_labels("train", train)
    check_labels("test", test)
    check_at_least(1, batch_size=batch_size)
    check_positive(learning_rate=learning_rate)
    check_integers(1, n_labels=n_labels, steps=steps)
    check_integers(0, seeds=seeds)
    if not n_labels or not seeds:
        raise ValueError("n_labels and seeds must hold one number or more")
    if max(n_labels) > len(train):
        raise ValueError(
            f"n_labels must be at most {len(train)}, the images of train, not {max(n_labels)}"
        )
    if not steps or any(a >= b for a, b in pairwise(steps)):
        raise ValueError(
            "steps must hold at least one number, each greater than the one before, not "
            f"{list(steps)}"
        )
    n_classes = int(labels.max()) + 1
    pretrained = initialise_classifier(autoencoder, autoencoder.code_dim, n_classes)
    errors = torch.zeros(2, len(n_labels), len(seeds), len(steps))
    for i, n in enumerate(n_labels):
        for j, seed in enumerate(seeds):
            chosen = balanced_subset(labels, n, seed)
            for arm, start in enumerate((_drawn_anew(pretrained, seed), pretrained)):
                errors[arm, i, j] = _fine_tune(
                    copy.deepcopy(start),
                    train[chosen],
                    test,
                    steps,
                    batch_size,
                    learning_rate,
                    seed,
                )
    return FewLabels(tuple(n_labels), tuple(steps), *errors)


def _drawn_anew(classifier: nn.Sequential, seed: int) -> nn.Sequential:
    device = next(classifier.parameters()).device
    # On the CPU, so that a seed gives the same numbers for every device.
    fresh, generator = copy.deepcopy(classifier).cpu(), check_generator(seed)
    for parameter in fresh.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        else:
            nn.init.zeros_(parameter)
    return fresh.to(device)


def _fine_tune(
    classifier: nn.Module,
    train: Images,
    test: Images,
    steps: Sequence[int],
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Tensor:
    generator = check_generator(seed)
    dtype = next(classifier.parameters()).dtype
    x, x_test = (images.floats().to(dtype) for images in (train, test))
    y, y_test = check_labels("train", train), check_labels("test", test)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=learning_rate, fused=True)
    errors = []
    for step in range(1, steps[-1] + 1):
        batch = torch.randperm(len(x), generator=generator)[:batch_size].to(x.device)
        with training(classifier):
            loss = F.cross_entropy(classifier(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in steps:
            with torch.no_grad(), evaluating(classifier):
                wrong = classifier(x_test).argmax(-1) != y_test
            errors.append(wrong.float().mean())
    return torch.stack(errors).cpu()
