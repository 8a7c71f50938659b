"""The variational autoencoder: an encoder, a decoder and a standard normal prior."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vaelib._checks import check_at_least, check_integers, check_shape
from vaelib.elbo import ELBO, evidence_lower_bound
from vaelib.networks import (
    BernoulliDecoder,
    DiscretisedLogisticDecoder,
    GaussianDecoder,
    GaussianEncoder,
    convolutional_decoder,
    convolutional_encoder,
    fully_connected,
)
from vaelib.reparameterization import DiagonalGaussian
from vaelib.residual import ResidualDecoder, ResidualEncoder

__all__ = ["VAE"]

HIDDEN = {"fully connected": [512], "convolutional": [16], "residual": [32]}
"""What `hidden` is by default, for each network."""

LIKELIHOODS = ("bernoulli", "grey bernoulli", "gaussian", "discretised logistic")


class VAE(nn.Module):
    """Kingma & Welling 2013: p(z) = N(0, I), q(z|x) diagonal Gaussian, both by networks.

    Built from plain values, so that a checkpoint can hold them and rebuild the model, or around
    networks of one's own, which `load_vae(path, into=model)` fills again.

    Arguments:
        shape: of one observation, (C, H, W) or (D,).
        latent_dim: K.
        hidden: sizes of the hidden layers, mirrored in the decoder, 512 by default; for the two
            networks of convolutions one number, the width in channels: 16, and 32 for the residual
            one.
        network: `"fully connected"` (the default), `"convolutional"` (two strided convolutions) or
            `"residual"` (residual blocks, 1 to 2 million parameters: for photographs).
        activation: of the hidden layers of a fully connected network, `"relu"` (the default),
            `"tanh"` or `"sigmoid"`.
        likelihood: `"bernoulli"` (binary pixels), `"grey bernoulli"` (grey pixels by
            cross-entropy, not a likelihood), `"gaussian"` (any numbers) or `"discretised logistic"`
            (8-bit pixels k/255, each with a scale of its own).
        sigma: of a Gaussian likelihood: a number, or `None` to learn it.
        encoder: a network of one's own in place of `network`: x (N, *shape) → (N, 2K), K means and
            K log variances.
        decoder: likewise: z (M, K) → one number per pixel, or two for the discretised logistic
            (`DiscretisedLogisticDecoder`).

    Attributes:
        arguments: what the model was built from, as plain values; for a network of one's own, the
            name of its class.

    Parameters start as PyTorch draws them, from the global generator: `torch.manual_seed` before.

    Raises:
        ValueError: when an argument is none of the above, or would have no effect beside the
            others.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16])
        >>> x = torch.zeros(5, 1, 8, 8)
        >>> bound = vae(x, torch.zeros(1, 5, 2))
        >>> bound.reconstruction.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 2]))
        >>> vae.decoder(vae.encoder(x).mean).mean.shape
        torch.Size([5, 1, 8, 8])
        >>> own = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 4))
        >>> VAE((1, 8, 8), latent_dim=2, hidden=[16], encoder=own).arguments["encoder"]
        'torch.nn.modules.container.Sequential'
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int = 2,
        hidden: Sequence[int] | None = None,
        *,
        network: Literal["fully connected", "convolutional", "residual"] | None = None,
        activation: Literal["relu", "tanh", "sigmoid"] | None = None,
        likelihood: Literal[
            "bernoulli", "grey bernoulli", "gaussian", "discretised logistic"
        ] = "bernoulli",
        sigma: float | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_shape(shape)
        check_at_least(1, latent_dim=latent_dim)
        _check_used(network, hidden, activation, likelihood, sigma, encoder, decoder)
        if encoder is None or decoder is None:
            network = network or "fully connected"
            hidden = HIDDEN[network] if hidden is None else hidden
            check_integers(1, hidden=hidden)
            if network == "fully connected":
                activation = activation or "relu"
        self.arguments: dict[str, Any] = {
            "shape": [int(size) for size in shape],
            "latent_dim": int(latent_dim),
            "hidden": None if hidden is None else [int(size) for size in hidden],
            "network": network,
            "activation": activation,
            "likelihood": likelihood,
            "sigma": sigma,
            "encoder": _class_name(encoder),
            "decoder": _class_name(decoder),
        }
        per_pixel = 2 if likelihood == "discretised logistic" else 1
        built = _networks(shape, per_pixel, latent_dim, hidden or (), network, activation)
        body = built[0]() if encoder is None else encoder
        self.encoder = GaussianEncoder(body, shape)
        body = built[1]() if decoder is None else decoder
        self.decoder = _decoder(body, shape, likelihood, sigma)
        self.latent_dim = latent_dim
        # A buffer, so that the prior follows the model to its device and dtype.
        self.register_buffer("_zeros", torch.zeros(latent_dim), persistent=False)

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> VAE:
        """Rebuild an untrained model from `vae.arguments`.

        Example:
            >>> vae = VAE(shape=(6,), latent_dim=3, hidden=[4])
            >>> VAE.from_arguments(vae.arguments).arguments == vae.arguments
            True
        """
        known = set(inspect.signature(cls).parameters)
        if unknown := set(arguments) - known:
            raise ValueError(f"arguments hold {sorted(unknown)}, which VAE does not take")
        if own := {arguments.get("encoder"), arguments.get("decoder")} - {None}:
            raise ValueError(
                f"the model has networks of one's own ({', '.join(sorted(map(str, own)))}): build "
                "it again and load its parameters (`load_vae(path, into=model)`)"
            )
        return cls(**arguments)

    @property
    def prior(self) -> DiagonalGaussian:
        """p(z) = N(0, I), events (K,)."""
        zeros: Tensor = self._zeros  # type: ignore[assignment]
        return DiagonalGaussian.standard_from(zeros)

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        """The ELBO of x (N, *shape) under the noise eps (S, N, K): `evidence_lower_bound`."""
        return evidence_lower_bound(self, x, eps)


def _check_used(
    network: str | None,
    hidden: Sequence[int] | None,
    activation: str | None,
    likelihood: str,
    sigma: float | None,
    encoder: nn.Module | None,
    decoder: nn.Module | None,
) -> None:
    """Refuse what is unknown, and what would have no effect."""
    if network not in (None, *HIDDEN):
        raise ValueError(f"network must be one of {', '.join(HIDDEN)}, not {network!r}")
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, not {likelihood!r}")
    if sigma is not None and likelihood != "gaussian":
        raise ValueError(f"sigma is of a Gaussian likelihood; leave it out beside {likelihood!r}")
    if activation is not None and network not in (None, "fully connected"):
        raise ValueError(
            f"activation is of a fully connected network; leave it out beside {network!r}"
        )
    for name, module in (("encoder", encoder), ("decoder", decoder)):
        if module is not None and not isinstance(module, nn.Module):
            raise ValueError(
                f"{name} must be a network (nn.Module), but is {type(module).__name__}"
            )
    if encoder is not None and decoder is not None:
        given = {"network": network, "hidden": hidden, "activation": activation}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} has no effect beside encoder and decoder: leave it out")


def _class_name(module: nn.Module | None) -> str | None:
    return None if module is None else f"{type(module).__module__}.{type(module).__qualname__}"


def _networks(
    shape: Sequence[int],
    per_pixel: int,
    latent_dim: int,
    hidden: Sequence[int],
    network: str | None,
    activation: Any,
) -> tuple[Callable[[], nn.Module], Callable[[], nn.Module]]:
    """What builds the encoder, and what builds the decoder."""
    if network in (None, "fully connected"):
        size = prod(shape)
        return (
            lambda: nn.Sequential(
                nn.Flatten(), fully_connected([size, *hidden, 2 * latent_dim], activation)
            ),
            lambda: fully_connected([latent_dim, *reversed(hidden), per_pixel * size], activation),
        )
    if len(hidden) != 1:
        raise ValueError(
            f"hidden must be one number, the width, for a {network} network, not {hidden}"
        )
    (width,) = hidden
    if network == "residual":
        return (
            lambda: ResidualEncoder(shape, width, latent_dim),
            lambda: ResidualDecoder(latent_dim, width, shape, per_pixel),
        )
    return (
        lambda: convolutional_encoder(shape, width, 2 * latent_dim),
        lambda: convolutional_decoder(latent_dim, width, (per_pixel * shape[0], *shape[1:])),
    )


def _decoder(
    body: nn.Module, shape: Sequence[int], likelihood: str, sigma: float | None
) -> BernoulliDecoder | GaussianDecoder | DiscretisedLogisticDecoder:
    if likelihood == "bernoulli":
        return BernoulliDecoder(body, shape)
    if likelihood == "grey bernoulli":
        return BernoulliDecoder(body, shape, pixels="grey")
    if likelihood == "discretised logistic":
        return DiscretisedLogisticDecoder(body, shape)
    return GaussianDecoder(body, shape, 0.2 if sigma is None else sigma, sigma is None)
