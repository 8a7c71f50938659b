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
"""The default of `hidden` for each network."""

LIKELIHOODS = ("bernoulli", "grey bernoulli", "gaussian", "discretised logistic")


class VAE(nn.Module):
    """A variational autoencoder with p(z) = N(0, I) and a diagonal Gaussian q(z|x).

    Kingma & Welling 2013. Networks give the parameters of q(z|x) and p(x|z). The model is built
    from plain values, with which a checkpoint can rebuild it, or around your own networks, for
    which `load_vae(path, into=model)` loads the parameters.

    Arguments:
        shape: of one observation, (C, H, W) or (D,).
        latent_dim: K.
        hidden: sizes of the hidden layers, mirrored in the decoder, by default [512]. The two
            networks with convolutions take one number, their width in channels: by default 16 for
            the convolutional and 32 for the residual network.
        network: `"fully connected"` (the default), `"convolutional"` (two strided convolutions) or
            `"residual"` (residual blocks with 1 to 2 million parameters, for photographs).
        activation: of the hidden layers of a fully connected network: `"relu"` (the default),
            `"tanh"` or `"sigmoid"`.
        likelihood: `"bernoulli"` (binary pixels), `"grey bernoulli"` (grey pixels by
            cross-entropy, not a likelihood), `"gaussian"` (any numbers) or `"discretised logistic"`
            (8-bit pixels k/255, with a scale for each pixel).
        sigma: of a Gaussian likelihood: a number, or `None` to learn it.
        encoder: your own network instead of `network`: x (N, *shape) → (N, 2K), K means and then K
            log variances.
        decoder: likewise, z (M, K) → one number per pixel, or two for the discretised logistic
            (`DiscretisedLogisticDecoder`).

    Attributes:
        arguments: the arguments as plain values; for your own network, the name of its class.

    PyTorch draws the initial parameters from its global generator: call `torch.manual_seed` first.

    Raises:
        ValueError: when an argument is not as described, or would have no effect.

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
        # A buffer, so that the prior moves with the model to another device or dtype.
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
                f"the model has its own networks ({', '.join(sorted(map(str, own)))}): build it "
                "again and load its parameters (`load_vae(path, into=model)`)"
            )
        return cls(**arguments)

    @property
    def prior(self) -> DiagonalGaussian:
        """p(z) = N(0, I), events (K,)."""
        zeros: Tensor = self._zeros  # type: ignore[assignment]
        return DiagonalGaussian.standard_from(zeros)

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        """The ELBO of x (N, *shape) with noise eps (S, N, K): `evidence_lower_bound`."""
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
    """Refuse arguments that are unknown or would have no effect."""
    if network not in (None, *HIDDEN):
        raise ValueError(f"network must be one of {', '.join(HIDDEN)}, not {network!r}")
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, not {likelihood!r}")
    if sigma is not None and likelihood != "gaussian":
        raise ValueError(f"sigma is for a Gaussian likelihood; leave it out with {likelihood!r}")
    if activation is not None and network not in (None, "fully connected"):
        raise ValueError(
            f"activation is for a fully connected network; leave it out with {network!r}"
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
                raise ValueError(
                    f"{name} has no effect with encoder and decoder given: leave it out"
                )


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
    """The functions that build the encoder and the decoder."""
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
