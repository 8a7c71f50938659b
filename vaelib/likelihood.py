"""The decoder's distributions p(x|z) over images.

A likelihood checks its data. A Bernoulli gives probability only to pixels that are 0 or 1, so it
refuses grey pixels unless the caller names the convention under which they are read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaelib._checks import (
    check_at_least,
    check_finite,
    check_floating,
    check_generator,
    check_observed,
    check_positive,
    check_same_shape,
    check_shape,
    validates,
)
from vaelib.reparameterization import noise

__all__ = [
    "Bernoulli",
    "DiscretisedLogistic",
    "Gaussian",
    "bernoulli_log_likelihood",
    "bits_per_dim",
    "gaussian_log_likelihood",
]

HALF_BIN = 0.5 / 255
"""Half the distance between two grey levels, for pixels in [0, 1]."""


class Bernoulli(Distribution):
    """Independent Bernoulli pixels, parameterised by logits.

    log p(x|z) = Σ_d x_d·log σ(l_d) + (1 − x_d)·log(1 − σ(l_d)), summed over the event
    (Kingma & Welling 2013, appendix C.1).

    Arguments:
        logits: (*batch, *event), finite; results are as exact for ±100 as for 0.
        event_dims: number of trailing dimensions that make one observation.
        pixels: `"binary"` (the default) accepts only 0 and 1. `"grey"` accepts all of [0, 1]. The
            value is then the negative cross-entropy of the pixels, not a log-likelihood: no
            constant turns exp(value) into a distribution over grey images.

    Raises:
        ValueError: when a logit is NaN or infinite, or `log_prob` receives an image of another
            shape or a pixel that the convention excludes.

    Example:
        >>> p = Bernoulli(torch.tensor([[0.0, 0.0, 0.0]]), event_dims=1)
        >>> p.log_prob(torch.tensor([[0.0, 1.0, 1.0]]))  # 3 fair coins: 3·log ½ nats
        tensor([-2.0794])
        >>> p.log_prob(torch.tensor([[0.0, 0.5, 1.0]]))
        Traceback (most recent call last):
            ...
        ValueError: x holds grey pixels (0.5 for one), which a Bernoulli gives no probability: \
binarise them (`images.binarise("dynamic")` or `"static"`), or say pixels="grey" (to a VAE, \
likelihood="grey bernoulli") and do not call the result a log-likelihood
    """

    arg_constraints: ClassVar = {"logits": constraints.real}
    has_rsample = False

    def __init__(
        self,
        logits: Tensor,
        event_dims: int,
        pixels: Literal["binary", "grey"] = "binary",
        validate_args: bool | None = None,
    ) -> None:
        if pixels not in ("binary", "grey"):
            raise ValueError(f'pixels must be "binary" or "grey", not {pixels!r}')
        check_floating(logits=logits)
        self.logits = logits
        self.pixels = pixels
        batch_dims = _batch_dims(logits, event_dims)
        # The base class's check accepts infinity, and its message names no remedy.
        super().__init__(logits.shape[:batch_dims], logits.shape[batch_dims:], validate_args=False)
        self._validate_args = validates(validate_args)
        check_finite(self._validate_args, logits=logits)

    @property
    def support(self) -> Any:
        """The pixels that the convention allows."""
        domain = constraints.boolean if self.pixels == "binary" else constraints.unit_interval
        return constraints.independent(domain, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """The pixel probabilities σ(logits): (*batch, *event)."""
        return torch.sigmoid(self.logits)

    @property
    def variance(self) -> Tensor:
        """p(1 − p) for each pixel: (*batch, *event)."""
        return self.mean * torch.sigmoid(-self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-likelihood of `value` (*batch, *event) in nats: (*batch)."""
        check_observed("x", value, self)
        if self._validate_args:
            self._check_pixels(value)
        logits, x = self.logits, value.to(self.logits.dtype)
        if logits.requires_grad or logits.dtype.itemsize < 4:  # which autocast computes in float32
            if x.shape != logits.shape:
                # Expand only x, which needs no gradient, if that is enough.
                logits, x = _spread(logits, x)
            terms = -F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        else:  # the same arithmetic, with fewer passes over memory
            terms = torch.addcmul(F.logsigmoid(logits), x - 1, logits)
        return _sum_event(terms, len(self.event_shape))

    def draw(self, generator: torch.Generator | int) -> Tensor:
        """One image of 0s and 1s per batch entry: (*batch, *event).

        Arguments:
            generator: or an integer seed; one on the CPU draws the same for every device.
        """
        mean = self.mean.detach()
        return (_uniform(mean, generator) < mean).to(mean.dtype)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Samples from torch's global generator, as all `torch.distributions` draw them."""
        shape = self._extended_shape(sample_shape)
        return torch.bernoulli(self.mean.detach().expand(shape))

    def _check_pixels(self, x: Tensor) -> None:
        if self.pixels == "grey":
            outside = ~((x >= 0) & (x <= 1))
            if outside.any():
                raise ValueError(
                    f"x must lie in [0, 1], but holds {x[outside][0].item():g}: "
                    "scale the pixels (`images.floats()` does)"
                )
            return
        other = (x != 0) & (x != 1)
        if other.any():
            seen = x[other][0].item()
            if 0 < seen < 1:
                raise ValueError(
                    f"x holds grey pixels ({seen:g} for one), which a Bernoulli gives no "
                    'probability: binarise them (`images.binarise("dynamic")` or `"static"`), or '
                    'say pixels="grey" (to a VAE, likelihood="grey bernoulli") and do not call the '
                    "result a log-likelihood"
                )
            raise ValueError(f"x must hold 0 and 1 alone, but holds {seen:g}")


class Gaussian(Distribution):
    """Independent Gaussian pixels N(mean, σ²), with all constants.

    log p(x|z) = −Σ_d ½·((x_d − mean_d)/σ_d)² + log σ_d + ½·log 2π is the logarithm of a *density*.
    With a small σ it is above 0, and with a learnt σ it grows without bound on constant pixels.

    Arguments:
        mean: (*batch, *event).
        sigma: standard deviation > 0: a number, or a tensor that broadcasts to `mean`'s shape.
        event_dims: number of trailing dimensions that make one observation.

    Raises:
        ValueError: when σ is not positive and finite, a mean is not finite, or `log_prob` receives
            an image of another shape or a NaN or infinite pixel.

    Example:
        >>> p = Gaussian(torch.zeros(1, 2), sigma=1.0, event_dims=1)
        >>> p.log_prob(torch.zeros(1, 2))  # −log 2π nats
        tensor([-1.8379])
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "sigma": constraints.positive}
    has_rsample = False

    def __init__(
        self,
        mean: Tensor,
        sigma: float | Tensor,
        event_dims: int,
        validate_args: bool | None = None,
    ) -> None:
        check_floating(mean=mean)
        if not isinstance(sigma, Tensor):
            check_positive(sigma=sigma)
        self.loc = mean
        self.sigma = torch.as_tensor(sigma, dtype=mean.dtype, device=mean.device)
        _check_broadcasts("sigma", self.sigma, "mean", mean)
        batch_dims = _batch_dims(mean, event_dims)
        super().__init__(mean.shape[:batch_dims], mean.shape[batch_dims:], validate_args=False)
        self._validate_args = validates(validate_args)
        check_finite(self._validate_args, mean=mean, sigma=self.sigma)
        if self._validate_args:
            _check_positive("sigma", self.sigma)

    @property
    def support(self) -> Any:
        """Every real image."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """(*batch, *event)."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """σ² for each pixel: (*batch, *event)."""
        return self.sigma.square().expand_as(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` (*batch, *event) in nats: (*batch)."""
        check_observed("x", value, self)
        check_floating(x=value)
        check_finite(self._validate_args, x=value)
        scaled = (value - self.loc) / self.sigma
        terms = 0.5 * scaled.square() + (self.sigma.log() + 0.5 * math.log(2 * math.pi))
        return -_sum_event(terms, len(self.event_shape))

    def draw(self, generator: torch.Generator | int) -> Tensor:
        """One image per batch entry, mean + σ·noise: (*batch, *event).

        Arguments:
            generator: or an integer seed; one on the CPU draws the same for every device.
        """
        mean = self.loc.detach()
        return mean + self.sigma.detach() * noise(mean.shape, generator, like=mean)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Samples from torch's global generator, as all `torch.distributions` draw them."""
        mean = self.loc.detach().expand(self._extended_shape(sample_shape))
        return mean + self.sigma.detach() * torch.randn_like(mean)


class DiscretisedLogistic(Distribution):
    """Independent 8-bit pixels x = k/255: a logistic distribution in 256 bins.

    P(k) is the logistic's mass between (k − ½)/255 and (k + ½)/255. The bins of 0 and 255 include
    the tails, so the 256 probabilities sum to one (Salimans et al. 2017, section 2.1; Kingma et al.
    2016). Its logarithm is a log-*probability*, at most 0. It can be compared with that of any
    other model of the same 8-bit pixels, in nats or in `bits_per_dim`.

    Arguments:
        mean: (*batch, *event), the logistics' locations, on the scale of pixels in [0, 1].
        log_scale: log s, a tensor that broadcasts to `mean`'s shape. The logistic's standard
            deviation is s·π/√3.
        event_dims: number of trailing dimensions that make one observation.

    Raises:
        ValueError: when a shape does not fit, a parameter is NaN or infinite, or `log_prob`
            receives an image of another shape or a pixel that is not k/255.

    Example:
        >>> p = DiscretisedLogistic(torch.tensor([[0.5]]), torch.tensor(-3.0), event_dims=1)
        >>> p.log_prob(torch.tensor([[128 / 255]]))
        tensor([-3.9281])
        >>> grey_levels = torch.arange(256).unsqueeze(1) / 255
        >>> p.log_prob(grey_levels).exp().sum()
        tensor(1.0000)
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "log_scale": constraints.real}
    has_rsample = False

    def __init__(
        self,
        mean: Tensor,
        log_scale: Tensor,
        event_dims: int,
        validate_args: bool | None = None,
    ) -> None:
        check_floating(mean=mean, log_scale=log_scale)
        self.loc = mean
        self.log_scale = log_scale
        _check_broadcasts("log_scale", log_scale, "mean", mean)
        batch_dims = _batch_dims(mean, event_dims)
        super().__init__(mean.shape[:batch_dims], mean.shape[batch_dims:], validate_args=False)
        self._validate_args = validates(validate_args)
        check_finite(self._validate_args, mean=mean, log_scale=log_scale)

    @property
    def support(self) -> Any:
        """Pixels in [0, 1]; `log_prob` accepts the 256 multiples of 1/255."""
        return constraints.independent(constraints.unit_interval, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """(*batch, *event): the mean of the logistic clipped to [0, 1].

        It is ∫₀¹ σ((m − t)/s) dt = s·(softplus(m/s) − softplus((m − 1)/s)), which differs from
        Σ_k P(k)·k/255 by less than half a grey level.
        """
        scale = self.log_scale.exp()
        above, below = F.softplus(self.loc / scale), F.softplus((self.loc - 1) / scale)
        return scale * (above - below)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of `value` (*batch, *event) in nats: (*batch)."""
        check_observed("x", value, self)
        check_floating(x=value)
        if self._validate_args:
            _check_grey_levels(value)
        # σ(b) − σ(a) = σ(b)·σ(−a)·(1 − e^{a−b}). The logarithm of each factor is exact, however far
        # the pixel is from the mean. The first and the last bin are one tail each.
        rate = torch.exp(-self.log_scale)
        centred = value - self.loc
        upper, lower = (centred + HALF_BIN) * rate, (HALF_BIN - centred) * rate
        log_width = torch.log(-torch.expm1(-2 * HALF_BIN * rate))
        first, last = value < HALF_BIN, value > 1 - HALF_BIN
        terms = (
            F.logsigmoid(upper).masked_fill(last, 0.0)
            + F.logsigmoid(lower).masked_fill(first, 0.0)
            + log_width.masked_fill(first | last, 0.0)
        )
        return _sum_event(terms, len(self.event_shape))

    def draw(self, generator: torch.Generator | int) -> Tensor:
        """One image of values k/255 per batch entry: (*batch, *event).

        Arguments:
            generator: or an integer seed; one on the CPU draws the same for every device.
        """
        return self._at(_uniform(self.loc, generator))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Samples from torch's global generator, as all `torch.distributions` draw them."""
        shape = self._extended_shape(sample_shape)
        return self._at(torch.rand_like(self.loc.detach().expand(shape)))

    def _at(self, uniform: Tensor) -> Tensor:
        x = self.loc.detach() + self.log_scale.detach().exp() * torch.logit(uniform, eps=1e-7)
        return (255 * x).round().clamp(0, 255) / 255


def bits_per_dim(log_probability: float | Tensor, shape: Sequence[int]) -> Any:
    """−log₂ P(x) / D: bits for each of the D = Π shape numbers of an 8-bit image.

    256 equally likely values cost 8 bits. Only a log-*probability* in nats, such as that of
    `DiscretisedLogistic`, can be turned into bits: the log-density of pixels in [0, 1] is too high
    by D·log 255.

    Raises:
        ValueError: when shape is not made of positive integers.

    Example:
        >>> bits_per_dim(-3072 * math.log(256), (3, 32, 32))
        8.0
    """
    check_shape(shape)
    return -log_probability / (math.prod(shape) * math.log(2))


def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """log p(x|z) of Bernoulli pixels from logits, (N, …) and (N, …) → (N,), in nats.

    Grey x in [0, 1] is accepted, and gives the negative cross-entropy. Use `Bernoulli` to check the
    convention of the data. Source: Kingma & Welling 2013, appendix C.1.

    Raises:
        ValueError: when the shapes differ, a logit is NaN or infinite, or a pixel is not in [0, 1].

    Example:
        >>> bernoulli_log_likelihood(torch.tensor([[100.0, -100.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([0.])
    """
    check_floating(logits=logits, x=x)
    check_same_shape(logits=logits, x=x)
    _check_batched("logits", logits)
    return Bernoulli(logits, event_dims=logits.dim() - 1, pixels="grey").log_prob(x)


def gaussian_log_likelihood(mean: Tensor, x: Tensor, sigma: float | Tensor) -> Tensor:
    """log p(x|z) of Gaussian pixels, (N, …) and (N, …) → (N,), in nats, with all constants.

    σ > 0 is a number, or a tensor that broadcasts to the mean's shape. Source: Kingma & Welling
    2013, appendix C.2.

    Raises:
        ValueError: when the shapes differ, σ is not positive, or a number is NaN or infinite.

    Example:
        >>> gaussian_log_likelihood(torch.zeros(1, 1), torch.zeros(1, 1), sigma=2.0)
        tensor([-1.6121])
    """
    check_floating(mean=mean, x=x)
    check_same_shape(mean=mean, x=x)
    _check_batched("mean", mean)
    return Gaussian(mean, sigma, event_dims=mean.dim() - 1).log_prob(x)


def _uniform(like: Tensor, generator: torch.Generator | int) -> Tensor:
    # Drawn on the generator's device and then moved, as in `noise`.
    generator = check_generator(generator)
    drawn = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)


def _batch_dims(parameter: Tensor, event_dims: int) -> int:
    check_at_least(0, event_dims=event_dims)
    if event_dims > parameter.dim():
        raise ValueError(
            f"event_dims must lie in 0…{parameter.dim()}, the parameter's dimensions, "
            f"not {event_dims}"
        )
    return parameter.dim() - event_dims


def _spread(parameter: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    if x.dim() <= parameter.dim() and all(
        a in (1, b) for a, b in zip(reversed(x.shape), reversed(parameter.shape), strict=False)
    ):
        return parameter, x.expand_as(parameter)
    both: tuple[Tensor, Tensor] = torch.broadcast_tensors(parameter, x)
    return both


def _sum_event(terms: Tensor, event_dims: int) -> Tensor:
    # Over all dimensions at once, since flattening takes longer, above all in the backward pass.
    return terms.sum(tuple(range(-event_dims, 0))) if event_dims else terms


def _check_batched(name: str, value: Tensor) -> None:
    if value.dim() == 0:
        raise ValueError(f"{name} must have a batch dimension, (N, …), but is a scalar")


def _check_broadcasts(name: str, value: Tensor, other: str, to: Tensor) -> None:
    fits = value.dim() <= to.dim() and all(
        a in (1, b) for a, b in zip(reversed(value.shape), reversed(to.shape), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name} must broadcast to {other}'s shape {tuple(to.shape)}, "
            f"but is {tuple(value.shape)}"
        )


def _check_grey_levels(x: Tensor) -> None:
    levels = 255 * x
    # NaN is refused too.
    other = ~((levels - levels.round()).abs() < 0.01) | (x < -1e-3) | (x > 1 + 1e-3)
    if other.any():
        raise ValueError(
            f"x must hold 8-bit pixels k/255, but holds {x[other][0].item():g}: divide grey levels "
            "0…255 by 255 (`images.floats()` does), or use a Gaussian for other pixels"
        )


def _check_positive(name: str, value: Tensor) -> None:
    if not (value > 0).all():
        raise ValueError(f"{name} must be positive, but holds {value.min().item():g}")
