"""How good is a model, in nats where there are nats: bounds, likelihoods, codes and pictures."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vaelib.data import Images
from vaelib.elbo import ELBO, LatentVariableModel, evidence_lower_bound

__all__ = ["evaluate_elbo"]


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

    Its mean over examples is the same estimate whatever the batch size: a ragged last batch weighs
    what it holds. Nothing is taken for z = μ, in `eval()` neither: that would be no bound.

    Arguments:
        model: any `LatentVariableModel`.
        images: read in the order they have, dynamic pixels drawn once; or a tensor (N, …).
        generator: draws the pixels where they are dynamic, and ε.
        samples: S, draws of z for each image.
        batch_size: images at a time: memory, not the result.

    Returns:
        `ELBO` with terms for all N images, in nats.

    Raises:
        ValueError: when samples or batch_size is below 1, or there are no images.

    Example:
        >>> from vaelib import VAE
        >>> from vaelib.data import load_dataset
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16])
        >>> images = load_dataset("digits", "test").binarise("dynamic")
        >>> bound = evaluate_elbo(vae, images, torch.Generator().manual_seed(0))
        >>> len(bound.per_example) == len(images), bound.kl.shape[1]
        (True, 2)
    """
    _check_positive(samples=samples, batch_size=batch_size)
    like = model.prior.mean
    parts = []
    for x in _batches(images, batch_size, generator):
        eps = _noise((samples, len(x), *like.shape), generator, like)
        parts.append(evidence_lower_bound(model, x.to(like), eps))
    return ELBO(
        torch.cat([part.reconstruction for part in parts]), torch.cat([part.kl for part in parts])
    )


def _batches(
    images: Images | Tensor, batch_size: int, generator: torch.Generator
) -> Iterable[Tensor]:
    if not len(images):
        raise ValueError("images must hold at least one image, but is empty")
    if isinstance(images, Tensor):
        batches: Iterable[Tensor] = images.split(batch_size)
        return batches
    return images.batches(batch_size, generator, shuffle=False)


def _noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    # Drawn where the generator lives: a CPU generator gives the same noise for every device.
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(
        like.device
    )


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, not {value!r}")
