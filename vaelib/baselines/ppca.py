"""Probabilistic PCA: the linear model in closed form, which a VAE should beat."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaelib._checks import check_at_least, check_floats
from vaelib.images import Images, check_not_dynamic
from vaelib.linear_gaussian import LinearGaussian
from vaelib.networks import BernoulliDecoder, DiscretisedLogisticDecoder
from vaelib.reparameterization import noise
from vaelib.residual import ResidualDecoder, ResidualEncoder
from vaelib.vae import VAE

__all__ = ["PPCA"]


class PPCA:
    """Probabilistic PCA of images: x = Wz + μ + σε, z ~ N(0, I), ε ~ N(0, I).

    It is the VAE with linear encoder and decoder, fitted in closed form (Tipping & Bishop 1999,
    section 3.2). Use `PPCA.fit` to make one.

    Arguments:
        model: the `LinearGaussian` of flattened images.
        shape: of one image, (C, H, W) or (D,).

    Attributes:
        model, shape: as given; W, μ and σ are `model.weight`, `model.mean` and `model.sigma`.

    Raises:
        ValueError: when the model's D is not the number of pixels, or a method receives x that is
            not finite and (N, *shape).

    Example:
        >>> from vaelib import load_dataset
        >>> train, test = load_dataset("digits"), load_dataset("digits", "test")
        >>> ppca = PPCA.fit(train, 10)
        >>> x = test.floats()
        >>> error = (ppca.reconstruct(x) - x).square().mean().sqrt()
        >>> round(error.item(), 2), round(ppca.log_prob(x).mean().item(), 1)
        (0.14, 17.4)
    """

    def __init__(self, model: LinearGaussian, shape: tuple[int, ...]) -> None:
        if math.prod(shape) != len(model.mean):
            raise ValueError(f"shape must hold the model's {len(model.mean)} pixels, not {shape}")
        self.model = model
        self.shape = tuple(shape)

    @classmethod
    def fit(cls, images: Images | Tensor, k: int) -> PPCA:
        """Maximise the likelihood of the images, with K = k latent dimensions.

        Arguments:
            images: grey or static `Images`, or floating-point numbers (N, …) with N ≥ 2.
            k: at least 1 and below D.

        Raises:
            ValueError: when k is out of range, or the images are dynamic, not finite or too few, or
                do not vary in more than k dimensions.
        """
        if isinstance(images, Images):
            check_not_dynamic(images=images)
            images = images.floats()
        check_floats("images", images, "N ≥ 2", "D", ...)
        check_at_least(1, k=k)
        # Double precision: log-likelihoods of thousands of pixels are sums of large numbers.
        x = images.flatten(1).double()
        if k >= x.shape[1]:
            raise ValueError(f"k must be below {x.shape[1]}, the numbers in an image, not {k}")
        try:
            model = LinearGaussian.maximum_likelihood(x, k)
        except ValueError as error:
            # All else has been checked.
            raise ValueError(
                f"images must vary in more than k = {k} dimensions: their likelihood grows without "
                "bound as sigma goes to 0"
            ) from error
        return cls(model, tuple(images.shape[1:]))

    def log_prob(self, x: Tensor) -> Tensor:
        """The exact log *density* log N(x; μ, WWᵀ + σ²I): (N, *shape) → (N,), in nats."""
        return self.model.log_marginal(self._rows(x)).to(x.dtype)

    def log_prob_8bit(self, x: Tensor) -> Tensor:
        """A lower bound on the log-probability of 8-bit pixels x = k/255: (N, *shape) → (N,), nats.

        The probability of a pixel value is the integral of the density over its step of 1/255. By
        Jensen's inequality, log P(x) ≥ E_u[log p(x + u)] − D·log 255, with u uniform on the step
        (Theis et al. 2016, section 3.1). For a Gaussian the expectation is log p(x) −
        tr(Σ⁻¹)/(24·255²), without sampling. The bound is tight if σ is large compared with 1/255.
        It can be compared with the `ELBO` of a `DiscretisedLogistic` VAE, which bounds the
        log-probability of the same pixels.

        Example:
            >>> from vaelib import bits_per_dim, load_dataset
            >>> ppca = PPCA.fit(load_dataset("digits"), 10)
            >>> nats = ppca.log_prob_8bit(load_dataset("digits", "test").floats())
            >>> round(bits_per_dim(nats, ppca.shape).mean().item(), 2)
            7.6
        """
        variance = self.model.sigma.square()
        weight = self.model.weight
        n_dims, k = weight.shape
        precision = torch.eye(k).to(weight) + weight.mT @ weight / variance
        # tr(Σ⁻¹), by Woodbury's identity.
        trace = (n_dims - k + torch.linalg.inv(precision).trace()) / variance
        lost = trace / (24 * 255**2) + n_dims * math.log(255)
        bound: Tensor = self.model.log_marginal(self._rows(x)) - lost
        return bound.to(x.dtype)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The decoder's mean at the posterior's mean: (N, *shape) → (N, *shape)."""
        z = self.model.posterior(self._rows(x)).mean
        mean: Tensor = self.model.decoder(z).mean
        return mean.view(-1, *self.shape).to(x.dtype)

    def sample(self, n: int, generator: torch.Generator | int) -> Tensor:
        """The decoder's mean at n latents z ~ N(0, I): (n, *shape).

        Arguments:
            n: number of images, at least 1.
            generator: draws z; or an integer seed.
        """
        check_at_least(1, n=n)
        weight = self.model.weight
        z = noise((n, weight.shape[1]), generator, like=weight)
        return self.model.decoder(z).mean.view(n, *self.shape).float()

    @torch.no_grad()
    def initialise(self, vae: VAE) -> None:
        """Set a VAE of residual networks to this model, so that training starts where PCA ends.

        The linear parts get W, μ and the posterior mean, and the blocks start at zero. With a
        Gaussian likelihood, the VAE's ELBO then equals `log_prob`, because the posterior is
        diagonal. With a discretised logistic, the standard deviation of a pixel is σ.

        Arguments:
            vae: with `network="residual"`, this model's shape and latent dimensions, and a Gaussian
                or discretised logistic likelihood.

        Raises:
            ValueError: when vae is anything else.

        Example:
            >>> from vaelib import load_dataset
            >>> digits = load_dataset("digits", "test")
            >>> x, ppca = digits.floats(), PPCA.fit(digits, 3)
            >>> vae = VAE((1, 8, 8), 3, [4], network="residual", likelihood="gaussian")
            >>> ppca.initialise(vae)
            >>> bound = vae(x, torch.randn(500, len(x), 3)).mean()
            >>> bool((bound - ppca.log_prob(x).mean()).abs() < 0.1)
            True
        """
        if not isinstance(vae, VAE):
            raise ValueError(f"vae must be a VAE, but is {type(vae).__name__}")
        encoder, decoder = vae.encoder.body, vae.decoder.body
        if isinstance(vae.decoder, BernoulliDecoder):
            raise ValueError("vae must have a Gaussian or a discretised logistic likelihood")
        if not isinstance(encoder, ResidualEncoder) or not isinstance(decoder, ResidualDecoder):
            raise ValueError('vae must have linear parts to initialise: network="residual"')
        if vae.encoder.shape != self.shape or vae.latent_dim != self.model.weight.shape[1]:
            raise ValueError(
                f"vae must have the shape {self.shape} and {self.model.weight.shape[1]} latent "
                f"dimensions, but has {vae.encoder.shape} and {vae.latent_dim}"
            )
        weight, mean, sigma = self.model.weight, self.model.mean, self.model.sigma
        # The best diagonal q has the variances 1/Λ_kk; W from `fit` makes Λ diagonal.
        precision = torch.eye(vae.latent_dim).to(weight) + weight.mT @ weight / sigma.square()
        to_latent = torch.linalg.solve(precision, weight.mT / sigma.square())
        encoding, decoding = _silenced(encoder.blocks[-1]), _silenced(decoder.blocks[-1])
        if isinstance(vae.decoder, DiscretisedLogisticDecoder):
            # The decoder reads its outputs as 2m − 1 and log 10s.
            weight, mean = 2 * weight, 2 * mean - 1
            decoding[self.shape[0] :] = (10 * sigma * math.sqrt(3) / math.pi).log()
        else:
            vae.decoder.scaled_log_sigma.copy_(sigma.log() / vae.decoder.RATE)
        encoder.linear.weight.copy_(to_latent)
        encoder.linear.bias.copy_(-to_latent @ self.model.mean)
        encoding[vae.latent_dim :] = -precision.diagonal().log()
        decoder.linear.weight.copy_(weight)
        decoder.linear.bias.copy_(mean)

    def _rows(self, x: Tensor) -> Tensor:
        check_floats("x", x, "N", *self.shape)
        return x.flatten(1).to(self.model.weight)


def _silenced(layer: nn.Module) -> Tensor:
    """Set a layer's weights and bias to zero, and return the bias."""
    weight, bias = (layer.get_parameter(name) for name in ("weight", "bias"))
    nn.init.zeros_(weight)
    return nn.init.zeros_(bias)
