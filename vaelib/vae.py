"""The variational autoencoder: an encoder, a decoder and a standard normal prior."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vaelib._checks import check_at_least, check_integers, check_shape
from vaelib.elbo import ELBO, evidence_lower_bound
from vaelib.networks import (
    BernoulliDecoder,
    GaussianDecoder,
    GaussianEncoder,
    convolutional_decoder,
    convolutional_encoder,
    fully_connected,
)
from vaelib.reparameterization import DiagonalGaussian

__all__ = ["VAE"]


class VAE(nn.Module):
    """Kingma & Welling 2013: p(z) = N(0, I), q(z given x) diagonal Gaussian, both by networks.

    Built from plain values, so that a checkpoint can hold them and rebuild the model.

    Arguments:
        shape: of one observation, (C, H, W) or (D,).
        latent_dim: K.
        hidden: sizes of the hidden layers, mirrored in the decoder; for a convolutional network
            one number, its width in channels.
        network: `"fully connected"` or `"convolutional"`.
        activation: of the hidden layers of a fully connected network.
        likelihood: `"bernoulli"` (binary pixels), `"grey bernoulli"` (grey pixels by
            cross-entropy, not a likelihood) or `"gaussian"`.
        sigma: of a Gaussian likelihood; `None` learns it, starting at 0.2.

    Parameters start as PyTorch draws them, from the global generator: `torch.manual_seed` before.

    Raises:
        ValueError: when an argument is none of the above.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[16])
        >>> x = torch.zeros(5, 1, 8, 8)
        >>> bound = vae(x, torch.zeros(1, 5, 2))
        >>> bound.reconstruction.shape, bound.kl.shape
        (torch.Size([5]), torch.Size([5, 2]))
        >>> vae.decoder(vae.encoder(x).mean).mean.shape
        torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int = 2,
        hidden: Sequence[int] = (512,),
        *,
        network: Literal["fully connected", "convolutional"] = "fully connected",
        activation: Literal["relu", "tanh", "sigmoid"] = "relu",
        likelihood: Literal["bernoulli", "grey bernoulli", "gaussian"] = "bernoulli",
        sigma: float | None = 1.0,
    ) -> None:
        super().__init__()
        check_shape(shape)
        check_integers(1, hidden=hidden)
        check_at_least(1, latent_dim=latent_dim)
        self.arguments: dict[str, Any] = {
            "shape": [int(size) for size in shape],
            "latent_dim": int(latent_dim),
            "hidden": [int(size) for size in hidden],
            "network": network,
            "activation": activation,
            "likelihood": likelihood,
            "sigma": sigma,
        }
        encoder_body, decoder_body = _bodies(shape, latent_dim, hidden, network, activation)
        self.encoder = GaussianEncoder(encoder_body, shape)
        self.decoder = _decoder(decoder_body, shape, likelihood, sigma)
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
        return cls(**arguments)

    @property
    def prior(self) -> DiagonalGaussian:
        """P(z) = N(0, I), events (K,)."""
        zeros: Tensor = self._zeros  # type: ignore[assignment]
        return DiagonalGaussian(zeros, zeros, validate_args=False)

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        """The ELBO of x (N, *shape) under the noise eps (S, N, K): `evidence_lower_bound`."""
        return evidence_lower_bound(self, x, eps)


def _bodies(
    shape: Sequence[int],
    latent_dim: int,
    hidden: Sequence[int],
    network: str,
    activation: Any,
) -> tuple[nn.Module, nn.Module]:
    if network == "fully connected":
        size = prod(shape)
        encoder = fully_connected([size, *hidden, 2 * latent_dim], activation)
        decoder = fully_connected([latent_dim, *reversed(hidden), size], activation)
        return nn.Sequential(nn.Flatten(), encoder), decoder
    if network == "convolutional":
        if len(hidden) != 1:
            raise ValueError(
                f"hidden must be one number, the width, for a convolutional network, not {hidden}"
            )
        return (
            convolutional_encoder(shape, hidden[0], 2 * latent_dim),
            convolutional_decoder(latent_dim, hidden[0], shape),
        )
    raise ValueError(f'network must be "fully connected" or "convolutional", not {network!r}')


def _decoder(
    body: nn.Module, shape: Sequence[int], likelihood: str, sigma: float | None
) -> BernoulliDecoder | GaussianDecoder:
    if likelihood == "bernoulli":
        return BernoulliDecoder(body, shape)
    if likelihood == "grey bernoulli":
        return BernoulliDecoder(body, shape, pixels="grey")
    if likelihood == "gaussian":
        # Near where it ends for pixels in [0, 1]: Adam takes small steps in log σ.
        return GaussianDecoder(body, shape, 0.2 if sigma is None else sigma, sigma is None)
    raise ValueError(
        f'likelihood must be "bernoulli", "grey bernoulli" or "gaussian", not {likelihood!r}'
    )
