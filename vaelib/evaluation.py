"""How good a model is: its bound, its log-likelihood, and how sharp its images are.

Log-likelihoods are in nats, and a log-likelihood names the convention of its data.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaelib._checks import (
    check_at_least,
    check_finite,
    check_floats,
    check_generator,
    value_checks,
)
from vaelib._memory import keep_freed_memory
from vaelib._modes import evaluating
from vaelib.data import Images
from vaelib.elbo import (
    ELBO,
    LatentVariableModel,
    has_own_weights,
    log_weights,
    model_bound,
    needs_labels,
    noise_dim,
    noise_like,
    takes_labels,
)
from vaelib.likelihood import Bernoulli
from vaelib.minibatches import Data, Minibatches, minibatches, named
from vaelib.networks import BernoulliDecoder
from vaelib.reparameterization import noise

__all__ = [
    "LogLikelihood",
    "convention_of",
    "evaluate_elbo",
    "log_likelihood",
    "sharpness",
]

# Noise is always drawn in blocks of this many samples, so that the chunk size does not change the
# estimate: torch.randn(2n) is not always torch.randn(n) twice. Images are read in blocks of the
# same size, for the same reason. A GPU draws more at once, since starting to draw takes it longer
# than drawing.
_BLOCK, _BLOCK_ON_GPU = 1000, 10_000

# Numbers decoded at once: a thousand images of 784 pixels on a CPU, whose caches hold no more, and
# a hundred thousand on a GPU.
_NUMBERS_ON_CPU, _NUMBERS_ON_GPU = 784_000, 78_400_000


@torch.no_grad()
def evaluate_elbo(
    model: LatentVariableModel,
    images: Data,
    generator: torch.Generator | int,
    *,
    samples: int = 1,
    batch_size: int = 1000,
) -> ELBO:
    """The ELBO of every image, in evaluation mode, on the model's device, without gradients.

    The bound is that of the model's own `forward`, or `evidence_lower_bound` for a model without
    one. There is one value per image, so `mean()` weights a smaller last batch by its size. z is
    drawn even in evaluation mode: with z = μ the result would not be a bound.

    Arguments:
        model: any `LatentVariableModel`. If its `forward` takes `y`, it receives the labels,
            which it may do without if `y` has a default.
        images: `Images`, read in order, with dynamic pixels drawn once; a tensor (N, …); or a
            `Dataset` or `DataLoader` of x or of (x, y).
        generator: draws dynamic pixels and ε; or an integer seed.
        samples: S, draws of z for each image.
        batch_size: images at a time; a `DataLoader` has its own.

    Returns:
        `ELBO` with terms for all N images, in nats.

    Raises:
        ValueError: when samples or batch_size is below 1, there are no images or no labels that
            the model needs, the prior's events are not vectors, or the encoder or the likelihood
            does not accept the images.

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
    generator = check_generator(generator)
    data, like = minibatches("images", images), noise_like(model)
    conditional = _reads_labels(model, data)
    parts = []
    with evaluating(model), named("images"):
        for x, y in data.ordered(int(batch_size), generator):
            if not data.is_vouched_for:
                check_finite(images=x)
            eps = noise((samples, len(x), noise_dim(model)), generator, like)
            labels = y.to(like.device) if conditional and y is not None else None
            parts.append(model_bound(model, x.to(like), eps, labels))
    return ELBO(
        torch.cat([part.reconstruction for part in parts]), torch.cat([part.kl for part in parts])
    )


@dataclass(frozen=True)
class LogLikelihood:
    """Importance-sampling estimates of log p(x), higher is better: the NLL is minus `mean()`.

    Attributes:
        per_example: (N,) estimates in nats; each is below log p(x) in expectation.
        effective_sample_size: (N,), between 1 and `samples`. If it is near 1, one weight decides,
            and neither the estimate nor its standard error can be trusted.
        samples: S, importance samples for each image.
        convention: of the pixels, such as "static binarisation". Do not compare numbers of
            different conventions.

    Example:
        >>> result = LogLikelihood(torch.tensor([-80.0, -90.0]), torch.tensor([50.0, 20.0]), 100,
        ...                        "static binarisation")
        >>> print(result)
        log p(x) = -85.00 ± 0.11 nats (static binarisation, 2 images, 100 samples each; effective \
sample size: median 20.0, minimum 20.0)
    """

    per_example: Tensor
    effective_sample_size: Tensor
    samples: int
    convention: str

    @property
    def standard_error(self) -> Tensor:
        """The standard error of each estimate: (N,), in nats; NaN for a single sample.

        By the delta method it is sd(w) / (mean(w)·√S) = √((S / ESS − 1) / (S − 1)).
        """
        excess = self.samples / self.effective_sample_size - 1
        return (excess.clamp(min=0) / (self.samples - 1)).sqrt()

    def mean(self) -> Tensor:
        """log p(x) averaged over examples: a scalar, in nats per example."""
        return self.per_example.mean()

    def mean_standard_error(self) -> Tensor:
        """The standard error of `mean()` due to importance sampling: a scalar, in nats.

        It says how much the mean of *these* images would vary with other noise. How much it would
        vary with other images is `per_example.std() / N**0.5`, mostly a larger number.
        """
        return self.standard_error.square().sum().sqrt() / len(self.per_example)

    def __str__(self) -> str:
        size = self.effective_sample_size
        what = "examples" if self.convention == "real numbers" else "images"
        return (
            f"log p(x) = {self.mean():.2f} ± {self.mean_standard_error():.2f} nats "
            f"({self.convention}, {len(self.per_example)} {what}, {self.samples} samples each; "
            f"effective sample size: median {size.median():.1f}, minimum {size.min():.1f})"
        )


@torch.no_grad()
def log_likelihood(
    model: LatentVariableModel,
    images: Data,
    generator: torch.Generator | int,
    *,
    samples: int = 5000,
    chunk_size: int | None = None,
) -> LogLikelihood:
    """log p(x) by importance sampling: log (1/S) Σ_s p(x, z_s) / q(z_s|x), z_s ~ q.

    Burda et al. 2015, section 5, with S = 5,000. The model is in evaluation mode, and each image is
    encoded once. The sum is streamed as a logsumexp over chunks, so memory grows with the chunk
    size, but not with S or the number of images. The chunk size does not change the noise, so
    results agree to rounding.

    Arguments:
        model: any `LatentVariableModel`, or a model with its own method `log_weights`.
        images: as for `evaluate_elbo`; dynamic pixels are drawn once, before any other noise.
        generator: draws dynamic pixels and ε; or an integer seed, for a generator on
            the model's device. A generator on the CPU draws the same noise for every device, but a
            GPU then spends most of the time waiting for it.
        samples: S.
        chunk_size: the most z (over samples and images) that are decoded at once. The default for
            images of 784 pixels is 1,000 on a CPU and 100,000 on a GPU (some 15 MB and 1.5 GB); it
            is inversely proportional to the number of pixels.

    Returns:
        `LogLikelihood`, one estimate per image, in nats.

    Raises:
        ValueError: when samples or chunk_size is below 1, there are no images, the model takes
            labels but has no `log_weights`, the weight of an image is NaN, or a Bernoulli meets
            grey pixels. For a grey Bernoulli, `convention` says that the result is not a
            log-likelihood.

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
    check_at_least(1, samples=samples)
    if chunk_size is not None:
        check_at_least(1, chunk_size=chunk_size)
    keep_freed_memory()
    like = noise_like(model)
    generator = check_generator(generator, like.device)
    pixels = generator
    if isinstance(images, Images) and images.convention == "dynamic":
        # The pixels come first in the stream of noise. Holding them all would take memory, so they
        # are drawn again when they are needed.
        pixels = generator.clone_state()
        for _ in images.batches(_BLOCK, generator, shuffle=False):
            pass
    data, sums, convention = minibatches("images", images), [], ""
    labels_matter = needs_labels(model) or (takes_labels(model) and data.is_labelled)
    if labels_matter and not has_own_weights(model):
        raise ValueError(
            "model must have a method log_weights(x, eps, y), as its forward takes labels: only it "
            "knows its importance weights"
        )
    conditional = _reads_labels(getattr(model, "log_weights", None), data)
    with evaluating(model), named("images"):
        for block, labels in data.ordered(_BLOCK, pixels):
            if not data.is_vouched_for:
                check_finite(images=block)
            convention = convention or convention_of(
                images if isinstance(images, Images) else block, model
            )
            rows = int(chunk_size or 0) or _rows_at_once(like.device, block[0].numel())
            # As many images as fit with a block of their samples, if all their noise fits too.
            noises = rows * block[0].numel() // (samples * noise_dim(model))
            together = max(1, min(rows // min(samples, _BLOCK), noises))
            for start in range(0, len(block), together):
                some = slice(start, start + together)
                y = labels[some].to(like.device) if conditional and labels is not None else None
                x = block[some].to(like)
                sums.append(_log_sums(model, x, y, generator, samples, rows))
    log_sum, log_square_sum = torch.cat(sums, dim=1)
    if log_sum.isnan().any():
        raise ValueError("model gives an image the weight NaN: a parameter or a pixel is NaN")
    return LogLikelihood(
        per_example=(log_sum - math.log(samples)).to(like.dtype),
        effective_sample_size=torch.exp(2 * log_sum - log_square_sum).to(like.dtype),
        samples=samples,
        convention=convention,
    )


def _reads_labels(function: Any, data: Minibatches) -> bool:
    """Whether a model, or its method, is given labels; refuse data that lack those it needs."""
    if needs_labels(function) and not data.is_labelled:
        raise ValueError("images must have labels, because the model takes them as y")
    return takes_labels(function) and data.is_labelled


def _log_sums(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None,
    generator: torch.Generator,
    samples: int,
    rows: int,
) -> Tensor:
    """log Σ w and log Σ w² of each image: (2, N)."""
    q = None if has_own_weights(model) else model.encoder(x)
    sums = torch.full((2, len(x)), -torch.inf, dtype=_wide(x.device), device=x.device)
    first = True
    for block in _noise_blocks(len(x), samples, noise_dim(model), generator, x):
        for eps in block.split(max(1, rows // len(x))):
            # Once for these images, since checking every logit takes time, and makes a GPU wait.
            with value_checks(first):
                log_w = log_weights(model, x, eps, q, y).to(sums.dtype)
            both = torch.stack([log_w.logsumexp(0), (2 * log_w).logsumexp(0)])
            sums, first = torch.logaddexp(sums, both), False
    return sums


def _noise_blocks(
    n: int, samples: int, latent_dim: int, generator: torch.Generator, like: Tensor
) -> Iterator[Tensor]:
    """Noise for n images, (S', n, K) at a time, drawn image by image for any n."""
    at_once = _BLOCK if generator.device.type == "cpu" else _BLOCK_ON_GPU
    if n == 1:
        for start in range(0, samples, at_once):
            yield noise((min(at_once, samples - start), 1, latent_dim), generator, like)
        return
    # Drawn on the generator's device, then moved block by block.
    drawn = like.new_empty((n, samples, latent_dim), device=generator.device)
    for of_one_image in drawn:
        for block in of_one_image.split(at_once):
            block.normal_(generator=generator)
    for block in drawn.split(_BLOCK, dim=1):
        yield block.to(like.device).transpose(0, 1).contiguous()


def _rows_at_once(device: torch.device, numbers: int) -> int:
    budget = _NUMBERS_ON_CPU if device.type == "cpu" else _NUMBERS_ON_GPU
    return max(1, budget // numbers)


def convention_of(data: Images | Tensor, model: Any) -> str:
    """How the pixels of `data` are read, for example "static binarisation".

    Numbers outside [0, 1], as in a standardised table, are no pixels but "real numbers". If a
    Bernoulli reads grey pixels, the text says that this is not a log-likelihood.

    Arguments:
        data: `Images`, which know their convention; or a tensor (N, …), of which at most some 1,000
            examples from all over it are looked at, so that a memory map is not read as a whole.
        model: asked for its decoder's distribution if necessary. A decoder that is not a
            `BernoulliDecoder` and needs more than z is assumed not to give a Bernoulli.

    Example:
        >>> from vaelib import VAE
        >>> convention_of(torch.zeros(3, 6), VAE(shape=(6,), latent_dim=2, hidden=[4]))
        'binary pixels'
    """
    if isinstance(data, Images):
        binarised = data.convention in ("dynamic", "static")
        name = f"{data.convention} {'binarisation' if binarised else 'pixels'}"
    else:
        some = data[:: len(data) // 1000 + 1]
        if ((some == 0) | (some == 1)).all():
            name = "binary pixels"
        else:
            name = "grey pixels" if ((some >= 0) & (some <= 1)).all() else "real numbers"
    if name == "grey pixels" and _is_bernoulli(model):
        name += ": not a log-likelihood"
    return name


def _is_bernoulli(model: Any) -> bool:
    if isinstance(model, nn.Module):
        for part in model.modules():
            if isinstance(part, BernoulliDecoder):
                return True
    # Other decoders are called. Those that need more than z, such as a label, fail.
    with contextlib.suppress(Exception), torch.no_grad(), evaluating(model), value_checks(False):
        p = model.decoder(model.prior.mean.unsqueeze(0))
        return isinstance(getattr(p, "base_dist", p), Bernoulli | torch.distributions.Bernoulli)
    return False


def sharpness(images: Tensor) -> Tensor:
    """Variance of the Laplacian of each image: high where edges are steep, low where blurred.

    The filter is [[0, 1, 0], [1, −4, 1], [0, 1, 0]], inside the image only (Pech-Pacheco et al.
    2000; used on samples of VAEs and GANs by Tolstikhin et al. 2017). It measures edges and noise
    alike, and does not tell whether a picture shows anything. Compare only images of the same size
    and pixel range: binary images are sharper than grey ones, whatever they show.

    Arguments:
        images: (N, C, H, W) with H, W ≥ 3; channels are averaged first.

    Returns:
        (N,), in squared pixel units.

    Raises:
        ValueError: when images are not finite floats (N, C, H, W) with H, W ≥ 3.

    Example:
        >>> flat, edge = torch.zeros(1, 1, 4, 4), torch.tensor([0.0, 0, 1, 1]).expand(1, 1, 4, 4)
        >>> sharpness(torch.cat([flat, edge]))
        tensor([0., 1.])
    """
    check_floats("images", images, "N ≥ 1", "C ≥ 1", "H ≥ 3", "W ≥ 3")
    laplacian = images.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    edges = F.conv2d(images.mean(1, keepdim=True), laplacian.view(1, 1, 3, 3))
    return edges.flatten(1).var(1, correction=0)


def _wide(device: torch.device) -> torch.dtype:
    # For sums of many terms. Apple's GPUs have no float64.
    return torch.float32 if device.type == "mps" else torch.float64
