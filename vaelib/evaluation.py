"""How good is a model: its bound and log-likelihood, what its codes know, how sharp its pictures.

Log-likelihoods and informations are in nats, and a log-likelihood names its data convention.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from vaelib._checks import (
    check_at_least,
    check_finite,
    check_floating,
    check_not_negative,
    check_tensor,
    value_checks,
)
from vaelib.data import Images
from vaelib.elbo import ELBO, LatentVariableModel, evidence_lower_bound, log_weights
from vaelib.likelihood import Bernoulli
from vaelib.reparameterization import DiagonalGaussian, FullGaussian

__all__ = [
    "Estimate",
    "LogLikelihood",
    "active_units",
    "evaluate_elbo",
    "linear_probe",
    "log_aggregate_posterior",
    "log_likelihood",
    "mutual_information",
    "sharpness",
]

# Noise is drawn in blocks of this many samples whatever the chunk, so that the chunk does not
# change the estimate: torch.randn(2n) is not torch.randn(n) twice.
_NOISE_BLOCK = 1000


@torch.no_grad()
def evaluate_elbo(
    model: LatentVariableModel,
    images: Images | Tensor,
    generator: torch.Generator,
    *,
    samples: int = 1,
    batch_size: int = 1000,
) -> ELBO:
    """The ELBO of every image, on the model's device, without gradients.

    Its mean is over examples, so a ragged last batch weighs what it holds. z is drawn, in `eval()`
    too: with z = μ this would be no bound.

    Arguments:
        model: any `LatentVariableModel`.
        images: read in the order they have, dynamic pixels drawn once; or a tensor (N, …).
        generator: draws the pixels where they are dynamic, and ε.
        samples: S, draws of z for each image.
        batch_size: images at a time.

    Returns:
        `ELBO` with terms for all N images, in nats.

    Raises:
        ValueError: when samples or batch_size is below 1, there are no images, or they are not what
            the encoder and the likelihood accept.

    Example:
        >>> from vaelib import VAE
        >>> from vaelib.data import load_dataset
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16])
        >>> images = load_dataset("digits", "test").binarise("dynamic")
        >>> bound = evaluate_elbo(vae, images, torch.Generator().manual_seed(0))
        >>> len(bound.per_example) == len(images), bound.kl.shape[1]
        (True, 2)
    """
    check_at_least(1, samples=samples, batch_size=batch_size)
    like = model.prior.mean
    parts = []
    for x in _batches(images, batch_size, generator):
        eps = _noise((samples, len(x), *like.shape), generator, like)
        parts.append(evidence_lower_bound(model, x.to(like), eps))
    return ELBO(
        torch.cat([part.reconstruction for part in parts]), torch.cat([part.kl for part in parts])
    )


@dataclass(frozen=True)
class LogLikelihood:
    """Importance-sampling estimates of log p(x), positive where better: the NLL is −`mean()`.

    Attributes:
        per_example: (N,) estimates in nats; each is below log p(x) in expectation.
        effective_sample_size: (N,), between 1 and `samples`: where it is near 1 one weight
            decides, and neither the estimate nor its standard error can be trusted.
        samples: S, importance samples for each image.
        convention: of the pixels, such as "static binarisation". Numbers of different conventions
            must not be compared.

    Example:
        >>> result = LogLikelihood(torch.tensor([-80.0, -90.0]), torch.tensor([50.0, 20.0]), 100,
        ...                        "static binarisation")
        >>> print(result)
        log p(x) = -85.00 ± 0.11 nats (static binarisation, 2 images, 100 samples each)
    """

    per_example: Tensor
    effective_sample_size: Tensor
    samples: int
    convention: str

    @property
    def standard_error(self) -> Tensor:
        """Of each estimate: (N,), in nats; NaN for a single sample.

        The delta method, sd(w) / (mean(w)·√S), which is √((S / ESS − 1) / (S − 1)).
        """
        excess = self.samples / self.effective_sample_size - 1
        return (excess.clamp(min=0) / (self.samples - 1)).sqrt()

    def mean(self) -> Tensor:
        """Log p(x) averaged over examples: a scalar, in nats an example."""
        return self.per_example.mean()

    def mean_standard_error(self) -> Tensor:
        """Of `mean()`, by importance sampling alone: a scalar, in nats.

        How much the mean of *these* images would move with other noise. How much it would move
        with other images, `per_example.std() / N**0.5`, is another and mostly larger number.
        """
        return self.standard_error.square().sum().sqrt() / len(self.per_example)

    def __str__(self) -> str:
        return (
            f"log p(x) = {self.mean():.2f} ± {self.mean_standard_error():.2f} nats "
            f"({self.convention}, {len(self.per_example)} images, {self.samples} samples each)"
        )


@torch.no_grad()
def log_likelihood(
    model: LatentVariableModel,
    images: Images | Tensor,
    generator: torch.Generator,
    *,
    samples: int = 5000,
    chunk_size: int = 1000,
) -> LogLikelihood:
    """Log p(x) by importance sampling: log (1/S) Σ_s p(x, z_s) / q(z_s given x), z_s ~ q.

    Burda et al. 2015, section 5 (there S = 5,000). Each image is encoded once; the sum is streamed
    as logsumexp over chunks, so memory grows with the chunk and not with S, and S may be any
    number. The chunk does not change the noise: results agree to rounding.

    Arguments:
        model: any `LatentVariableModel`.
        images: dynamic pixels are drawn once, before anything else; or a tensor (N, …).
        generator: draws the pixels where they are dynamic, and ε.
        samples: S.
        chunk_size: at most so many z (over samples and images) are decoded at once; a thousand
            784-pixel images take some 15 MB.

    Returns:
        `LogLikelihood`, one estimate an image, in nats.

    Raises:
        ValueError: when samples or chunk_size is below 1, there are no images, an image has the
            weight NaN, or a Bernoulli meets grey pixels; one told to read grey pixels gets a
            `convention` that says so.

    Example:
        >>> from vaelib import VAE
        >>> from vaelib.data import load_dataset
        >>> generator = torch.Generator().manual_seed(0)
        >>> images = load_dataset("digits", "test").binarise("static", generator)
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16])
        >>> result = log_likelihood(vae, images[:10], generator, samples=100)
        >>> result.per_example.shape, result.convention
        (torch.Size([10]), 'static binarisation')
    """
    check_at_least(1, samples=samples, chunk_size=chunk_size)
    _check_images(images)
    like = model.prior.mean
    pixels = images.floats(generator) if isinstance(images, Images) else images
    # Only where all samples of an image fit in one block do images share a chunk: so the noise is
    # always drawn image by image, and in the same order.
    group = max(1, chunk_size // samples) if samples <= _NOISE_BLOCK else 1
    sums = []
    for part in pixels.split(group):
        x = part.to(like)
        q = model.encoder(x)
        log_sum = log_square_sum = torch.full(
            (len(x),), -torch.inf, dtype=torch.float64, device=like.device
        )
        for start in range(0, samples, _NOISE_BLOCK):
            n = min(_NOISE_BLOCK, samples - start)
            noise = [_noise((n, *like.shape), generator, like) for _ in x]
            chunks = torch.stack(noise, dim=1).split(max(1, chunk_size // len(x)))
            for chunk, eps in enumerate(chunks):
                # x is the same in all chunks, and to read every logit takes a fifth of the time.
                with value_checks(start == chunk == 0):
                    log_w = log_weights(model, x, eps, q).double()
                log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
                log_square_sum = torch.logaddexp(log_square_sum, (2 * log_w).logsumexp(0))
        sums.append(torch.stack([log_sum, log_square_sum]))
    log_sum, log_square_sum = torch.cat(sums, dim=1)
    if log_sum.isnan().any():
        raise ValueError("model gives an image the weight NaN: a parameter or a pixel is no number")
    return LogLikelihood(
        per_example=(log_sum - math.log(samples)).to(like.dtype),
        effective_sample_size=torch.exp(2 * log_sum - log_square_sum).to(like.dtype),
        samples=samples,
        convention=_convention(model, images),
    )


class Estimate(NamedTuple):
    """A Monte-Carlo estimate and its standard error.

    Example:
        >>> print(Estimate(1.5, 0.02))
        1.500 ± 0.020
    """

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.standard_error:.3f}"


def active_units(q: Distribution, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions carry something: Var_x[E_q[z_k given x]] > threshold.

    Burda et al. 2015, section 5.2. An unused dimension has the prior's mean for every x.

    Arguments:
        q: `model.encoder(x)` of N ≥ 2 examples, events (K,).
        threshold: 0.01 in the paper.

    Returns:
        (K,) booleans; their sum is the number of active units.

    Raises:
        ValueError: when q is not of two examples or more, or threshold is negative or no number.

    Example:
        >>> mu = torch.tensor([[-1.0, 0.01], [1.0, -0.01]])
        >>> active_units(DiagonalGaussian(mu, torch.zeros(2, 2)))
        tensor([ True, False])
    """
    _examples(q, at_least=2)
    check_not_negative(threshold=threshold)
    return q.mean.detach().var(0) > threshold


@torch.no_grad()
def log_aggregate_posterior(q: DiagonalGaussian | FullGaussian, z: Tensor) -> Tensor:
    """Log density of q(z) = (1/N) Σ_n q(z given x_n), the codes of all examples together.

    Where it differs from the prior, prior samples decode to junk or codes go unused (Makhzani et
    al. 2015; Hoffman & Johnson 2016).

    Arguments:
        q: `model.encoder(x)` of N examples.
        z: (…, K) points.

    Returns:
        (…), in nats; exact for the N examples, in bounded memory.

    Raises:
        ValueError: when q is not of examples (N,) and events (K,), or z not (…, K) and finite.

    Example:
        >>> q = DiagonalGaussian(torch.tensor([[-9.0], [9.0]]), torch.zeros(2, 1))
        >>> log_aggregate_posterior(q, torch.tensor([[9.0]]))  # log ½ − ½·log 2π
        tensor([-1.6121])
    """
    n, k = _examples(q, at_least=1), q.event_shape[0]
    check_floating(z=z)
    if z.shape[-1:] != q.event_shape:
        raise ValueError(f"z must be (…, {k}) to fit q, but is {tuple(z.shape)}")
    check_finite(z=z)
    rows = max(1, 2**22 // (n * k))
    parts = z.reshape(-1, 1, k).split(rows)
    density = torch.cat([q.log_prob(part).logsumexp(1) for part in parts])
    return density.view(z.shape[:-1]) - math.log(n)


@torch.no_grad()
def mutual_information(
    q: DiagonalGaussian | FullGaussian, generator: torch.Generator, *, samples: int = 2
) -> Estimate:
    """I_q(x; z) = E_n E_{q(z given x_n)}[log q(z given x_n) − log q(z)], x one of N examples.

    How many nats a code says about which example it came from: at most log N. It splits the KL
    term of the ELBO: E_n KL(q(z given x_n) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)) (Hoffman & Johnson
    2016), so the mean KL less this estimate is how far the aggregate posterior is from the prior.

    Arguments:
        q: `model.encoder(x)` of N examples.
        generator: draws ε.
        samples: S ≥ 2 codes for each example; the cost grows with S·N².

    Returns:
        `Estimate` in nats. The standard error is that of the draws for these N examples.

    Raises:
        ValueError: when samples is below 2, or q is not of examples (N,) and events (K,).

    Example:
        >>> q = DiagonalGaussian(torch.tensor([[-99.0], [99.0]]), torch.zeros(2, 1))
        >>> mutual_information(q, torch.Generator().manual_seed(0)).value  # log 2: never mistaken
        0.693147...
    """
    check_at_least(2, samples=samples)
    n = _examples(q, at_least=1)
    z = q.reparameterize(_noise((samples, n, *q.event_shape), generator, q.mean))
    terms = (q.log_prob(z) - log_aggregate_posterior(q, z)).double()
    # Each example has its own mean: only the spread around it is Monte-Carlo error.
    error = (terms.var(0).mean() / (samples * n)).sqrt()
    return Estimate(terms.mean().item(), error.item())


def linear_probe(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> float:
    """Test error of a logistic regression on fixed features: what a code makes *easy* to read off.

    scikit-learn's L2-regularised multinomial regression (C = 1). Features are centred and divided
    by one number, the root of their mean variance, so that no unit of measure enters; dimensions
    keep their scales relative to each other, and unused latent dimensions stay small.

    Arguments:
        train_features, test_features: (N, …), flattened: codes (`encoder(x).mean`), PCA codes,
            pixels.
        train_labels, test_labels: (N,) integers.

    Returns:
        Fraction of test examples classified wrongly.

    Raises:
        ValueError: when features and labels differ in number, features are no finite floats,
            labels no integers, or the training labels are of fewer than two classes.

    Example:
        >>> codes, labels = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
        >>> linear_probe(codes, labels, torch.tensor([[-3.0], [3.0]]), torch.tensor([0, 0]))
        0.5
    """
    from sklearn.linear_model import LogisticRegression

    pairs = {"train": (train_features, train_labels), "test": (test_features, test_labels)}
    for name, (features, labels) in pairs.items():
        check_floating(**{f"{name}_features": features})
        check_finite(**{f"{name}_features": features})
        check_tensor(**{f"{name}_labels": labels})
        if labels.is_floating_point():
            raise ValueError(f"{name}_labels must be integers, but are {labels.dtype}")
        one_width = features.dim() and features.shape[1:] == train_features.shape[1:]
        if not one_width or not features.numel():
            raise ValueError(
                "train_features and test_features must be (N, …), of one width and not empty, "
                f"but are {tuple(train_features.shape)} and {tuple(features.shape)}"
            )
        if labels.shape != features.shape[:1]:
            raise ValueError(
                f"{name}_labels must be ({len(features)},), one a row of {name}_features, "
                f"but is {tuple(labels.shape)}"
            )
    if len(train_labels.unique()) < 2:
        raise ValueError("train_labels must be of two classes or more")
    train, test = (f.detach().flatten(1).cpu().double() for f in (train_features, test_features))
    centre = train.mean(0)
    scale = (train - centre).square().mean().sqrt().item() or 1.0
    probe = LogisticRegression(max_iter=1000)
    probe.fit(((train - centre) / scale).numpy(), train_labels.cpu().numpy())
    predicted = torch.from_numpy(probe.predict(((test - centre) / scale).numpy()))
    return (predicted != test_labels.cpu()).double().mean().item()


def sharpness(images: Tensor) -> Tensor:
    """Variance of the Laplacian of each image: high where edges are steep, low where blurred.

    The filter is [[0, 1, 0], [1, −4, 1], [0, 1, 0]], inside the image only (Pech-Pacheco et al.
    2000; used on samples of VAEs and GANs by Tolstikhin et al. 2017). It measures edges and noise
    alike, not whether a picture shows anything. Compare only images of one size and pixel range:
    binary images are sharper than grey ones whatever they show.

    Arguments:
        images: (N, C, H, W) with H, W ≥ 3; channels are averaged first.

    Returns:
        (N,), in squared pixel units.

    Raises:
        ValueError: when images are not (N, C, H, W) of finite floats with H, W ≥ 3.

    Example:
        >>> flat, edge = torch.zeros(1, 1, 4, 4), torch.tensor([0.0, 0, 1, 1]).expand(1, 1, 4, 4)
        >>> sharpness(torch.cat([flat, edge]))
        tensor([0., 1.])
    """
    check_floating(images=images)
    if images.dim() != 4 or not images.numel() or min(images.shape[2:]) < 3:
        raise ValueError(
            "images must be (N, C, H, W), not empty, with H and W at least 3, "
            f"but are {tuple(images.shape)}"
        )
    check_finite(images=images)
    laplacian = images.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    edges = F.conv2d(images.mean(1, keepdim=True), laplacian.view(1, 1, 3, 3))
    return edges.flatten(1).var(1, correction=0)


def _batches(
    images: Images | Tensor, batch_size: int, generator: torch.Generator
) -> Iterable[Tensor]:
    _check_images(images)
    if isinstance(images, Tensor):
        batches: Iterable[Tensor] = images.split(batch_size)
        return batches
    return images.batches(batch_size, generator, shuffle=False)


def _noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    # Drawn where the generator lives: a CPU generator gives the same noise for every device.
    noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device)
    return noise.to(like.device)


def _convention(model: LatentVariableModel, images: Images | Tensor) -> str:
    if isinstance(images, Images):
        name = {"grey": "grey pixels"}.get(images.convention, f"{images.convention} binarisation")
    else:
        name = "binary pixels" if ((images == 0) | (images == 1)).all() else "grey pixels"
    if name == "grey pixels" and isinstance(model.decoder(model.prior.mean[None]), Bernoulli):
        name += ": not a log-likelihood"
    return name


def _examples(q: Distribution, at_least: int) -> int:
    if len(q.batch_shape) != 1 or len(q.event_shape) != 1 or q.batch_shape[0] < at_least:
        raise ValueError(
            f"q must be of N ≥ {at_least} examples, batch shape (N,) and events (K,), but has "
            f"{tuple(q.batch_shape)} and {tuple(q.event_shape)}"
        )
    return q.batch_shape[0]


def _check_images(images: Images | Tensor) -> None:
    if not isinstance(images, Images):
        check_floating(images=images)
        check_finite(images=images)
        if images.dim() < 2:
            raise ValueError(f"images must be (N, …), but are {tuple(images.shape)}")
    if not len(images):
        raise ValueError("images must hold at least one image, but are empty")
