"""Autoencoders: an encoder that lowers the dimension, learnt by reconstructing its input.

Only the initial weights and the order of minibatches are random. The code h of an image is a point;
in a VAE it is a distribution.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

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
from vaelib._modes import evaluating, training
from vaelib.data import Images, check_images, check_labels
from vaelib.networks import convolutional_decoder, convolutional_encoder, fully_connected

__all__ = [
    "Autoencoder",
    "FewLabels",
    "balanced_subset",
    "few_labels_experiment",
    "fit_autoencoder",
    "initialise_classifier",
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
        self.shape = tuple(shape)
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
    check_images(images=images)
    generator = check_generator(generator)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=learning_rate, fused=True)
    losses: list[float] = []
    for epoch in trange(epochs, unit="epoch", disable=not progress):
        total = torch.zeros((), device=images.pixels.device)
        for x in images.batches(batch_size, generator):
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

    With 10 to 100 labels of mnist5k the first is better. The difference shrinks with more labels,
    and is gone with 1,000.

    Arguments:
        autoencoder: trained without labels on all of `train`; it is not changed.
        train: the images of which some are labelled, equally many of each class.
        test: the images on which errors are measured.
        n_labels: numbers of labels, each at most `len(train)`.
        seeds: each draws labels, minibatches and the random encoder.
        steps: the steps after which errors are measured; training ends after the last.
        batch_size, learning_rate: of the training.

    Returns:
        `FewLabels`. All seeds share one autoencoder, so their spread does not include that of its
        training.

    Raises:
        ValueError: when a number is out of range, steps do not increase, there are no images, or
            n_labels, seeds or steps are empty.

    Example:
        >>> from vaelib import load_dataset
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
        raise ValueError(f"steps must be one or more and increase, not {list(steps)}")
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
    x, x_test = train.floats(), test.floats()
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
