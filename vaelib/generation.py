"""Generating data: drop the encoder, sample z from the prior, decode; and walk through z.

Functions that call a model do so in evaluation mode and record no gradients. Functions of z alone
are differentiable.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor

from vaelib._checks import check_alike, check_at_least, check_device, check_floats
from vaelib._modes import evaluating
from vaelib.elbo import LatentVariableModel, noise_dim, noise_like
from vaelib.reparameterization import noise

__all__ = [
    "interpolate",
    "interpolate_spherical",
    "latent_grid",
    "manifold",
    "reconstruct",
    "sample_prior",
]


@torch.no_grad()
def sample_prior(model: LatentVariableModel, n: int, generator: torch.Generator | int) -> Any:
    """p(x|z) for n latents z ~ p(z): new data from the model (ancestral sampling).

    The result is a distribution, not pixels, because it can be used in two ways. Its `.mean` is the
    picture that is usually shown. Only `.draw(generator)`, which adds the decoder's noise, is a
    sample of p(x).

    Arguments:
        model: with a decoder, and a prior that moves noise (`reparameterize`).
        n: number of latents, at least 1.
        generator: draws z; or an integer seed. A generator on the CPU draws the same z for every
            device.

    Returns:
        The decoder's distribution, batch shape (n,), in the model's dtype and on its device.

    Raises:
        ValueError: when n is below 1, or the prior cannot move noise (K,).

    Example:
        >>> from vaelib import VAE
        >>> generator = torch.Generator().manual_seed(0)
        >>> p = sample_prior(VAE(shape=(1, 8, 8), latent_dim=3, hidden=[16]), 5, generator)
        >>> p.mean.shape
        torch.Size([5, 1, 8, 8])
        >>> p.draw(generator).unique()
        tensor([0., 1.])
    """
    check_at_least(1, n=n)
    prior: Any = model.prior
    if not hasattr(prior, "reparameterize"):
        raise ValueError(
            "model.prior must have the method reparameterize(eps), as DiagonalGaussian has, but is "
            f"{type(prior).__name__}: draw z from it, and call model.decoder(z)"
        )
    eps = noise((n, noise_dim(model)), generator, like=noise_like(model))
    with evaluating(model):
        return model.decoder(prior.reparameterize(eps))


@torch.no_grad()
def reconstruct(model: LatentVariableModel, x: Tensor, eps: Tensor) -> Tensor:
    """The mean picture of p(x|z) at z ~ q(z|x), with z computed from eps.

    The picture is that of a sample, as in training. With eps = 0 it is the picture at q's mean,
    which hides how uncertain q is.

    Arguments:
        model: with an encoder and a decoder.
        x: (N, …) observations.
        eps: (S, N, K) standard normal noise, or (N, K) for one sample.

    Returns:
        (S, N, …), or (N, …) for one sample.

    Raises:
        ValueError: when eps does not end in (N, K), or x or eps is not finite or has another dtype.

    Example:
        >>> from vaelib import VAE
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=3, hidden=[16])
        >>> x, eps = torch.zeros(5, 1, 8, 8), torch.zeros(2, 5, 3)
        >>> reconstruct(vae, x, eps).shape
        torch.Size([2, 5, 1, 8, 8])
    """
    with evaluating(model):
        picture: Tensor = model.decoder(model.encoder(x).reparameterize(eps)).mean
    return picture


def latent_grid(
    n: int,
    tail: float = 0.05,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Where to decode for a picture of a 2-d latent space: (n, n, 2), laid out like a plot.

    grid[i, j] = (x_j, y_i), where x and y are equally spaced *quantiles* of N(0, 1) from tail to
    1 − tail, so that each cell stands for the same prior mass. x grows with the column j, and y
    falls with the row i (Kingma & Welling 2013, appendix A).

    Arguments:
        n: points per side, at least 2.
        tail: prior mass left out at each end, strictly between 0 and ½.
        dtype, device: of the result; by default torch's.

    Raises:
        ValueError: when n or tail is out of range, or the device cannot be used.

    Example:
        >>> grid = latent_grid(3, tail=0.1)
        >>> grid[0, 0], grid[2, 1]  # the top left corner; the middle of the bottom row
        (tensor([-1.2816,  1.2816]), tensor([ 0.0000, -1.2816]))
    """
    check_at_least(2, n=n)
    if not (isinstance(tail, Real) and 0 < tail < 0.5):
        raise ValueError(f"tail must lie strictly between 0 and 0.5, not {tail!r}")
    device = None if device is None else check_device(device)
    quantiles = torch.special.ndtri(torch.linspace(tail, 1 - tail, n, dtype=torch.float64))
    y, x = torch.meshgrid(quantiles.flip(0), quantiles, indexing="ij")
    # The dtype first, since not every device has float64.
    return torch.stack([x, y], dim=-1).to(dtype or torch.get_default_dtype()).to(device)


@torch.no_grad()
def manifold(model: LatentVariableModel, n: int, tail: float = 0.05) -> Tensor:
    """The learnt data manifold for a 2-d z: the mean picture at each point of `latent_grid`.

    Kingma & Welling 2013, appendix A.

    Arguments:
        model: with two latent dimensions and the prior N(0, I).
        n, tail: as for `latent_grid`.

    Returns:
        (n, n, *shape), in the model's dtype and on its device.

    Raises:
        ValueError: when the model does not have two latent dimensions, or n or tail is out of
            range.

    Example:
        >>> from vaelib import VAE
        >>> manifold(VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16]), 4).shape
        torch.Size([4, 4, 1, 8, 8])
    """
    if noise_dim(model) != 2:
        raise ValueError(
            "model must have 2 latent dimensions to be laid out in a plane, but has "
            f"{noise_dim(model)}"
        )
    like = noise_like(model)
    grid = latent_grid(n, tail, dtype=like.dtype, device=like.device)
    with evaluating(model):
        pictures: Tensor = model.decoder(grid).mean
    return pictures


def interpolate(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    """The straight line (1 − t)·z_start + t·z_end, t from 0 to 1: (K,) and (K,) → (steps, K).

    Both ends are included exactly. In many dimensions the middle of the line is nearer to the
    origin than samples of the prior: see `interpolate_spherical`.

    Raises:
        ValueError: when an end is not (K,), the ends differ in shape or dtype, a number is not
            finite, or steps is below 2.

    Example:
        >>> interpolate(torch.tensor([0.0, 4.0]), torch.tensor([2.0, 0.0]), steps=3)
        tensor([[0., 4.],
                [1., 2.],
                [2., 0.]])
    """
    _check_ends(z_start, z_end, steps)
    return torch.lerp(z_start, z_end, _times(steps, z_start))


def interpolate_spherical(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    """Points along the great arc: direction and length change evenly.

    With u and v the directions of the ends and Ω the angle between them, the direction at t is
    (sin((1 − t)Ω)·u + sin(tΩ)·v) / sin Ω (Shoemake 1985, section 3.3), and the length is
    (1 − t)·‖z_start‖ + t·‖z_end‖. So the points stay in the shell around ‖z‖ = √K, where a prior
    of many dimensions has its mass.

    Arguments:
        z_start, z_end: (K,), not zero and not opposite.
        steps: number of points, with both ends.

    Returns:
        (steps, K).

    Raises:
        ValueError: as `interpolate`; or when an end is zero, or the ends are opposite, so that
            there is no unique shortest arc.

    Example:
        >>> z = interpolate_spherical(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]), steps=3)
        >>> z[1], z.norm(dim=-1)
        (tensor([1.4142, 1.4142]), tensor([1., 2., 3.]))
    """
    _check_ends(z_start, z_end, steps)
    start, end = z_start.norm(), z_end.norm()
    for name, norm in (("z_start", start), ("z_end", end)):
        if not norm > 0:
            raise ValueError(f"{name} must not be zero: a zero vector has no direction")
    u, v = z_start / start, z_end / end
    along, across = (u + v).norm(), (u - v).norm()
    if along < torch.finfo(u.dtype).eps ** 0.5:
        raise ValueError(
            "z_start and z_end must not be opposite: all half circles between them are equally "
            "short (go through a third point, or use `interpolate`)"
        )
    angle = 2 * torch.atan2(across, along)  # arccos of u·v would lose small angles to rounding
    t = _times(steps, z_start)
    direction: Tensor = _arc(1 - t, angle) * u + _arc(t, angle) * v
    return direction * torch.lerp(start, end, t)


def _arc(t: Tensor, angle: Tensor) -> Tensor:
    """sin(tΩ) / sin Ω, and its limit t at Ω = 0."""
    ratio: Tensor = t * torch.sinc(t * angle / torch.pi) / torch.sinc(angle / torch.pi)
    return ratio


def _times(steps: int, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=like.dtype, device=like.device).unsqueeze(-1)


def _check_ends(z_start: Tensor, z_end: Tensor, steps: int) -> None:
    check_floats("z_start", z_start, "K")
    check_alike(z_start=z_start, z_end=z_end)
    check_at_least(2, steps=steps)  # both ends are included
