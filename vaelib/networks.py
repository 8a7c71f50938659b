"""Encoders and decoders: networks whose output is a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log, prod
from typing import Literal

import torch
from torch import Tensor, nn

from vaelib._checks import (
    check_at_least,
    check_finite,
    check_fits,
    check_floating,
    check_integers,
    check_positive,
    check_shape,
)
from vaelib.likelihood import Bernoulli, DiscretisedLogistic, Gaussian
from vaelib.reparameterization import DiagonalGaussian

__all__ = [
    "BernoulliDecoder",
    "GaussianDecoder",
    "DiscretisedLogisticDecoder",
    "GaussianEncoder",
    "convolutional_decoder",
    "convolutional_encoder",
    "fully_connected",
]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def fully_connected(
    sizes: Sequence[int], activation: Literal["relu", "tanh", "sigmoid"] = "relu"
) -> nn.Sequential:
    """Linear layers of these sizes with activations between them, none after the last.

    Maps (N, sizes[0]) to (N, sizes[-1]).

    Raises:
        ValueError: when sizes are not two or more positive integers, or the activation is unknown.

    Example:
        >>> fully_connected([784, 512, 2])(torch.zeros(3, 784)).shape
        torch.Size([3, 2])
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    check_integers(1, sizes=sizes)
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold two or more numbers, not {list(sizes)}")
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def convolutional_encoder(shape: Sequence[int], width: int, n_features: int) -> nn.Sequential:
    """ReLU convolutions that halve the image twice, then one linear layer: (N, *shape) → (N, F).

    Arguments:
        shape: (C, H, W), H and W at least 4.
        width: channels after the first convolution; the second has twice as many.
        n_features: F.

    Raises:
        ValueError: when a size is out of range.

    Example:
        >>> encoder = convolutional_encoder((1, 28, 28), width=8, n_features=5)
        >>> encoder(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 5])
    """
    channels, height, width_in = image_shape(shape, width)
    check_at_least(1, n_features=n_features)
    small = halved(halved(height)), halved(halved(width_in))
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * small[0] * small[1], n_features),
    )


def convolutional_decoder(n_features: int, width: int, shape: Sequence[int]) -> nn.Sequential:
    """One linear layer, then up-convolutions that double the image twice: (N, F) → (N, *shape).

    It mirrors `convolutional_encoder`, with the same arguments and errors.

    Example:
        >>> convolutional_decoder(5, width=8, shape=(3, 25, 25))(torch.zeros(2, 5)).shape
        torch.Size([2, 3, 25, 25])
    """
    channels, height, width_out = image_shape(shape, width)
    check_at_least(1, n_features=n_features)
    middle = halved(height), halved(width_out)
    small = halved(middle[0]), halved(middle[1])
    return nn.Sequential(
        nn.Linear(n_features, 2 * width * small[0] * small[1]),
        nn.ReLU(),
        nn.Unflatten(1, (int(2 * width), *small)),
        _doubling(2 * width, width, small, middle),
        nn.ReLU(),
        _doubling(width, channels, middle, (height, width_out)),
    )


class GaussianEncoder(nn.Module):
    """x → q(z|x) = N(μ(x), diag σ²(x)).

    Arguments:
        body: maps x (N, *shape) to features (N, 2K): K means, then K log variances.
        shape: of one observation, (C, H, W) or (D,).

    Raises:
        ValueError: when x has another shape or dtype or is not finite, or body does not return 2K
            numbers per row.

    Example:
        >>> encoder = GaussianEncoder(nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), (1, 2, 3))
        >>> encoder(torch.zeros(5, 1, 2, 3)).mean.shape
        torch.Size([5, 2])
    """

    def __init__(self, body: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        _check_network(body, shape)
        self.body = body
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> DiagonalGaussian:
        """(N, *shape) → a distribution with batch shape (N,) and events (K,)."""
        check_floating(x=x)
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"x must be (N, {', '.join(map(str, self.shape))}), but is {tuple(x.shape)}"
            )
        check_finite(x=x)
        features = _full_precision(_outputs("x", x, self.body))
        if features.dim() != 2 or features.shape[1] % 2:
            raise ValueError(
                "body must give 2K numbers per row, K means and K log variances, "
                f"but gives {tuple(features.shape[1:])}"
            )
        mu, logvar = features.chunk(2, dim=-1)
        return DiagonalGaussian(mu, logvar)


class BernoulliDecoder(nn.Module):
    """z → p(x|z) = Π_d Bernoulli(x_d; σ(l_d(z))).

    Arguments:
        body: maps z (M, K) to logits, D = Π shape numbers per row.
        shape: of one observation, (C, H, W) or (D,).
        pixels: `"binary"` or `"grey"`, as for `Bernoulli`.

    Raises:
        ValueError: when an argument is not as described, z has another dtype than the parameters,
            or body returns another number of logits.

    Example:
        >>> decoder = BernoulliDecoder(nn.Linear(2, 6), shape=(1, 2, 3))
        >>> decoder(torch.zeros(7, 5, 2)).mean.shape  # 7 samples, 5 examples
        torch.Size([7, 5, 1, 2, 3])
    """

    def __init__(
        self, body: nn.Module, shape: Sequence[int], pixels: Literal["binary", "grey"] = "binary"
    ) -> None:
        super().__init__()
        _check_network(body, shape)
        if pixels not in ("binary", "grey"):
            raise ValueError(f'pixels must be "binary" or "grey", not {pixels!r}')
        self.body = body
        self.shape = tuple(shape)
        self.pixels: Literal["binary", "grey"] = pixels

    def forward(self, z: Tensor) -> Bernoulli:
        """(*batch, K) → distribution with batch shape (*batch), events (*shape)."""
        return Bernoulli(_decode(self.body, z, self.shape), len(self.shape), self.pixels)


class GaussianDecoder(nn.Module):
    """z → p(x|z) = N(m(z), σ² I), one σ for all pixels.

    The best σ is the root mean square of the residuals (Rybkin et al. 2021). It falls by a large
    factor during training, and with Adam's small steps a parameter log σ would follow too slowly.
    So the parameter is log σ / 10, and log σ moves ten times as fast as the weights. σ is a
    parameter, not a statistic of the minibatch: evaluation uses the σ that training found, and the
    bound of an example does not depend on the others.

    Arguments:
        body: maps z (M, K) to means, D = Π shape numbers per row.
        shape: of one observation.
        sigma: > 0; fixed, or the initial value if σ is learnt.
        learn_sigma: whether σ is learnt.

    Raises:
        ValueError: when an argument is not as described, z has another dtype than the parameters,
            or body returns another number of means.

    Example:
        >>> decoder = GaussianDecoder(nn.Linear(2, 6), shape=(6,), sigma=0.5)
        >>> decoder(torch.zeros(5, 2)).stddev[0, 0]
        tensor(0.5000)
    """

    RATE = 10

    def __init__(
        self,
        body: nn.Module,
        shape: Sequence[int],
        sigma: float = 1.0,
        learn_sigma: bool = False,
    ) -> None:
        super().__init__()
        _check_network(body, shape)
        check_positive(sigma=sigma)
        self.body = body
        self.shape = tuple(shape)
        scaled = torch.tensor(float(sigma)).log() / self.RATE
        if learn_sigma:
            self.scaled_log_sigma = nn.Parameter(scaled)
        else:
            self.register_buffer("scaled_log_sigma", scaled)

    @property
    def log_sigma(self) -> Tensor:
        """log σ, a scalar."""
        log_sigma: Tensor = self.RATE * self.scaled_log_sigma
        return log_sigma

    def forward(self, z: Tensor) -> Gaussian:
        """(*batch, K) → distribution with batch shape (*batch), events (*shape)."""
        return Gaussian(_decode(self.body, z, self.shape), self.log_sigma.exp(), len(self.shape))


class DiscretisedLogisticDecoder(nn.Module):
    """z → p(x|z), a `DiscretisedLogistic` with a mean and a scale for each pixel.

    Arguments:
        body: maps z (M, K) to 2D numbers a, b per row, D = Π shape each. The means are ½ + a/2 and
            the log scales b − log 10, so zeros give m = ½ and s = 0.1.
        shape: of one observation.

    Raises:
        ValueError: when an argument is not as described, z has another dtype than the parameters,
            or body returns another number of outputs.

    Example:
        >>> decoder = DiscretisedLogisticDecoder(nn.Linear(2, 12), shape=(1, 2, 3))
        >>> decoder(torch.zeros(7, 5, 2)).mean.shape  # 7 samples, 5 examples
        torch.Size([7, 5, 1, 2, 3])
    """

    # A tenth of a grey level: almost all mass is on one value, and the gradient is still finite.
    MIN_LOG_SCALE = -log(2550)

    def __init__(self, body: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        _check_network(body, shape)
        self.body = body
        self.shape = tuple(shape)

    def forward(self, z: Tensor) -> DiscretisedLogistic:
        """(*batch, K) → distribution with batch shape (*batch), events (*shape)."""
        outputs = _decode(self.body, z, (2, *self.shape))
        location, scale = outputs.unbind(-len(self.shape) - 1)
        return DiscretisedLogistic(
            0.5 + 0.5 * location,
            (scale - log(10)).clamp(min=self.MIN_LOG_SCALE),
            len(self.shape),
        )


def _decode(body: nn.Module, z: Tensor, shape: tuple[int, ...]) -> Tensor:
    # Convolutions take one batch dimension, so samples and examples are folded into one.
    check_floating(z=z)
    if z.dim() == 0:
        raise ValueError("z must have a latent dimension, (…, K), but is a scalar")
    check_finite(z=z)
    rows = _outputs("z", z.reshape(-1, z.shape[-1]), body)
    if rows.shape[1:].numel() != prod(shape):
        raise ValueError(
            f"body must give {prod(shape)} numbers per row to fill the shape {shape}, "
            f"but gives {tuple(rows.shape[1:])}"
        )
    return _full_precision(rows).reshape(*z.shape[:-1], *shape)


def _outputs(name: str, rows: Tensor, body: nn.Module) -> Tensor:
    try:
        outputs: Tensor = body(rows)
    except RuntimeError:
        # Checked only now, since looking at the parameters takes longer than a small product.
        check_fits(name, rows, body)
        # The layer that takes z first, however deeply nested.
        first = next(module for module in body.modules() if next(module.children(), None) is None)
        takes_rows = isinstance(first, nn.Linear) and rows.dim() == 2
        if takes_rows and rows.shape[-1] != first.in_features:
            raise ValueError(
                f"{name} must end in the {first.in_features} numbers that body takes, "
                f"but ends in {rows.shape[-1]}"
            ) from None
        raise
    return outputs


def _full_precision(outputs: Tensor) -> Tensor:
    # bfloat16 is enough for the products under autocast, but not for sums of hundreds of nats.
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def _check_network(body: nn.Module, shape: Sequence[int]) -> None:
    if not isinstance(body, nn.Module):
        raise ValueError(f"body must be a network (nn.Module), but is {type(body).__name__}")
    check_shape(shape)


def image_shape(shape: Sequence[int], width: int) -> tuple[int, int, int]:
    """Return (C, H, W), and refuse a shape or width that is too small for the convolutions."""
    check_at_least(1, width=width)
    check_shape(shape)
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise ValueError(f"shape must be (C, H, W) with H and W at least 4, not {tuple(shape)}")
    return int(shape[0]), int(shape[1]), int(shape[2])


def halved(size: int) -> int:
    """The size after a convolution of stride 2, rounded up so that no border is lost."""
    return (size + 1) // 2


def _doubling(
    n_in: int, n_out: int, small: tuple[int, int], large: tuple[int, int]
) -> nn.ConvTranspose2d:
    # Stride 2 gives 2·small − 1; the output padding adds the last row or column of an even size.
    padding = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
    return nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=padding)
