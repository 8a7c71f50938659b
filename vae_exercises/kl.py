"""3-kl: what is checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    Uniform,
)

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.facts import Near, Rough
from vae_exercises.observe import Function, Observed, finite, form, gradients, seeds, tensor

_assignment = Assignment("3-kl", ("kl", "KL divergence"))

__all__ = [
    "kl_between_gaussians",
    "kl_monte_carlo",
    "kl_to_standard_normal",
]

# --- kl_to_standard_normal -----------------------------------------------------------------------


@_assignment.task(
    "The closed form, line by line",
    hint="Write the bracket of the formula term by term, with σ² = exp(logvar); sum over the last "
    "dimension; then halve.",
)
def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)


SIZES = [(5, 3), (4, 1), (1, 4)]  # (N, K)


@kl_to_standard_normal.aspect("value", points=3)
def _(function: Function, draw: Draw) -> Observed:
    for n, k in SIZES:
        mu, logvar = draw.mean(n, k), draw.logvar(n, k)
        yield f"the KL of each example, inputs {n, k}", tensor(function(mu, logvar)).reshape(-1)
    for name, far, wide in (("far from", 30, 5), ("near", 0.1, 0.1)):
        mu, logvar = far * draw.mean(3, 2), wide * draw.logvar(3, 2)
        yield f"the KL of each example, {name} the prior", tensor(function(mu, logvar)).reshape(-1)


@kl_to_standard_normal.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(
        function, *({"mu": draw.mean(n, k), "logvar": draw.logvar(n, k)} for n, k in SIZES)
    )


@kl_to_standard_normal.aspect("gradient", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for scale in (1, 5):
        weights = draw.uniform(0.5, 1.5, 5)
        inputs = {"mu": scale * draw.mean(5, 3), "logvar": scale * draw.logvar(5, 3)}
        for name, gradient in gradients(function, weights, **inputs):
            yield f"{name}{', far from the prior' * (scale > 1)}", gradient


@kl_to_standard_normal.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    mu, logvar = draw.mean(2, 3).float(), draw.uniform(19, 20, 2, 3).float()
    for sign in (-1, 1):
        size = [tensor(function(mu, sign * factor * logvar)).sum() for factor in (1, 4)]
        name = f"the KL for log-variances near {sign * 78}, divided by that near {sign * 19}"
        yield name, Rough(size[1] / size[0], 1.3)
    yield "the KL for a variance that is ∞ in float32", finite(function(mu, 0 * mu + 200))


# --- kl_between_gaussians ------------------------------------------------------------------------


@_assignment.task(
    "The closed form, line by line",
    hint="Four terms in each dimension: the ratio σ_q²/σ_p² as exp(logvar_q − logvar_p), the "
    "squared distance of the means over exp(logvar_p), −1, and minus the logarithm of the ratio.",
)
def kl_between_gaussians(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    ratio = logvar_q - logvar_p
    distance = (mu_q - mu_p) ** 2 / logvar_p.exp()
    return 0.5 * (ratio.exp() + distance - 1 - ratio).sum(-1)


def _pair(draw: Draw, n: int, k: int, scale: float = 1) -> dict[str, Tensor]:
    """Parameters of q and p, (n, k), with variances that differ in every dimension."""
    logvar_q = scale * draw.logvar(n, k)
    return {
        "mu_q": scale * draw.mean(n, k),
        "logvar_q": logvar_q,
        "mu_p": scale * draw.mean(n, k),
        "logvar_p": logvar_q + scale * draw.uniform(0.3, 0.9, n, k) * draw.sign(n, k),
    }


@kl_between_gaussians.aspect("value", points=3)
def _(function: Function, draw: Draw) -> Observed:
    for (n, k), scale in zip([*SIZES, (3, 2)], (1, 1, 1, 12), strict=True):
        divergence = tensor(function(*_pair(draw, n, k, scale).values())).reshape(-1)
        yield f"the KL of each example, inputs {n, k}", divergence
    pair = _pair(draw, 3, 2)
    pair["mu_p"] = pair["mu_q"] + 0.05 * draw.mean(3, 2)
    pair["logvar_p"] = pair["logvar_q"] + 0.05 * draw.sign(3, 2)
    divergence = tensor(function(*pair.values())).reshape(-1)
    yield "the KL of each example, q near p", divergence
    pair = _pair(draw, 6, 1)
    pair["mu_p"] = pair["mu_q"]
    pair["logvar_p"] = pair["logvar_q"] + 12 * draw.uniform(0.5, 0.9, 6, 1) * draw.sign(6, 1)
    divergence = tensor(function(*pair.values())).reshape(-1)
    yield "the KL of each example, of equal means and variances that are far apart", divergence


@kl_between_gaussians.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_pair(draw, *size) for size in SIZES))


@kl_between_gaussians.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    yield from gradients(function, draw.uniform(0.5, 1.5, 5), **_pair(draw, 5, 3, 1.5))


@kl_between_gaussians.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # exp(95) is ∞ in float32, but the two variances are near each other.
    pair = {name: value.float() for name, value in _pair(draw, 2, 3).items()}
    pair["mu_p"] = pair["mu_q"]
    near_zero = tensor(function(*pair.values())).sum()
    for name in ("logvar_q", "logvar_p"):
        pair[name] = pair[name] + 95
    both = tensor(function(*pair.values())).sum()
    what = "the KL for log-variances near 95, divided by that for their ratio alone"
    yield what, Rough(both / near_zero)
    pair["logvar_q"] = pair["logvar_p"] + 200
    yield "the KL for a ratio of variances that is ∞ in float32", finite(function(*pair.values()))
    pair = {name: value.float() for name, value in _pair(draw, 2, 3).items()}
    size = []
    for _ in range(2):
        for name in ("logvar_q", "logvar_p"):
            pair[name] = pair[name] - 20
        size.append(tensor(function(*pair.values())).sum())
    what = "the KL for log-variances near −40, divided by that near −20"
    yield what, Rough(size[1] / size[0], 1.3)


# --- kl_monte_carlo ------------------------------------------------------------------------------


@_assignment.task(
    "Evidence, on average",
    hint="Draw n_samples from q (`rsample` where q.has_rsample, else `sample`), take "
    "log q − log p at each, and average over dimension 0.",
    draws=True,
)
def kl_monte_carlo(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = q.rsample((n_samples,)) if q.has_rsample else q.sample((n_samples,))
    log_ratio: Tensor = q.log_prob(z) - p.log_prob(z)
    return log_ratio.mean(0)


SAMPLES = 4_000
BATCHES: list[tuple[int, ...]] = [(4, 3), (1,), ()]


def _normal(draw: Draw, n: int) -> Normal:
    return Normal(draw.mean(n), draw.uniform(0.6, 0.9, n))


class _Mixture(MixtureSameFamily):
    def log_prob(self, value: Tensor) -> Any:  # torch calls it x in this distribution alone
        return super().log_prob(value)  # type: ignore[no-untyped-call]


def _mixture(draw: Draw, q: Normal) -> MixtureSameFamily:
    """Two wide modes around q's: no closed form, and log q/p is tame under either."""
    n = len(q.loc)
    apart = draw.uniform(0.8, 1.2, n)
    means = torch.stack([q.loc - apart, q.loc + 1.3 * apart], -1)
    weights = draw.uniform(0.3, 0.7, n)
    return _Mixture(
        Categorical(torch.stack([weights, 1 - weights], -1)),
        Normal(means, draw.uniform(1.0, 1.4, n, 2)),
    )


def _moments(q: Normal, p: Distribution) -> tuple[Tensor, Tensor]:
    """Mean and variance of log q − log p under q, by quadrature: (n,) each."""
    z = q.loc + q.scale * torch.linspace(-9, 9, 401, dtype=q.loc.dtype)[:, None]
    log_q = q.log_prob(z)
    ratio = log_q - p.log_prob(z)
    mean = torch.trapezoid(log_q.exp() * ratio, z, dim=0)
    return mean, torch.trapezoid(log_q.exp() * ratio**2, z, dim=0) - mean**2


@kl_monte_carlo.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for n in (4, 1):
        q = _normal(draw, n)
        p = _mixture(draw, q)
        exact, variance = _moments(q, p)
        estimate = tensor(function(q, p, SAMPLES)).reshape(-1)
        yield f"the estimate, batch {n}", Near(estimate, exact, 7 * (variance / SAMPLES).sqrt())
    for name, loc, scale in (("far from 0", 9, 1), ("of narrow Gaussians", 1, 1e-4)):
        q = Normal(loc * draw.sign(3), scale * draw.uniform(0.6, 0.9, 3))
        other = Normal(q.loc - 100 * scale, 2 * q.scale)  # its density at q's samples is 0
        exact, variance = _moments(q, other)
        estimate = tensor(function(q, other, SAMPLES)).reshape(-1)
        yield f"the estimate {name}", Near(estimate, exact, 7 * (variance / SAMPLES).sqrt())
    for name, scale in (("narrow", 1e-4), ("wide", 1e4)):  # densities of any size, a tame ratio
        q = Normal(scale * draw.mean(3), scale * draw.uniform(0.6, 0.9, 3))
        other = Normal(q.loc + 0.7 * q.scale, 1.5 * q.scale)
        exact, variance = _moments(q, other)
        estimate = tensor(function(q, other, SAMPLES)).reshape(-1)
        near = Near(estimate, exact, 7 * (variance / SAMPLES).sqrt())
        yield f"the estimate of two {name} Gaussians that overlap", near
    # The logarithm of a ratio that is the same everywhere does not vary.
    low, width, apart = draw.mean(3), draw.uniform(0.5, 1.5, 3), draw.uniform(0.2, 0.8, 3)
    flat = Uniform(low, low + width, validate_args=False)
    wider = Uniform(low - apart, low + width + 2 * apart, validate_args=False)
    yield "the estimate for uniform q and p", tensor(function(flat, wider, 100)).reshape(-1)
    q = _normal(draw, 1)
    exact, variance = _moments(q, other := Normal(q.loc + 0.7, 1.5 * q.scale))
    single = tensor(function(q.expand((SAMPLES,)), other.expand((SAMPLES,)), 1))
    near = Near(single.mean().reshape(1), exact, 7 * (variance / SAMPLES).sqrt())
    yield "the mean of many estimates by one sample", near
    # No gradient passes through the samples of these; the estimate is as good.
    for n in (4, 1):
        weights = draw.uniform(0.5, 1.0, n, 5)
        few = Categorical(weights * torch.tensor([0.02, 1, 1, 1, 1]))
        many = Categorical(weights)
        ratio = many.probs.log() - few.probs.log()
        exact = (many.probs * ratio).sum(-1)
        deviation = ((many.probs * ratio**2).sum(-1) - exact**2).sqrt()
        estimate = tensor(function(many, few, SAMPLES)).reshape(-1)
        near = Near(estimate, exact, 7 * deviation / SAMPLES**0.5)
        yield f"the estimate for Categorical, batch {n}", near


@kl_monte_carlo.aspect("spread", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    # The same pair 3,000 times: what differs among the estimates is chance alone. The estimates
    # of two Gaussians must vary, too, though a closed form is known.
    q = _normal(draw, 1)
    others = {"a mixture": _mixture(draw, q), "a Gaussian": Normal(q.loc + 0.7, 1.5 * q.scale)}
    for name, p in others.items():
        _, variance = _moments(q, p)
        for n_samples in (5, 1):
            estimates = tensor(function(q.expand((3000,)), p.expand((3000,)), n_samples))
            spread = estimates.reshape(-1).var(correction=0).reshape(1) / (variance / n_samples)
            what = f"the variance of estimates by {n_samples} samples, where p is {name}"
            near = Near(spread.log(), 0 * spread, torch.full_like(spread, 0.4))
            yield f"{what}, as the logarithm of its ratio to what it must be", near
    pair = [Categorical(draw.uniform(0.5, 1.0, 50, 5)) for _ in range(2)]
    first, second = (tensor(function(*pair, 3)) for _ in range(2))
    again = "the same" if torch.equal(first, second) else "others"
    yield "the estimates of 50 pairs of Categorical by 3 samples, made twice", again
    yield seeds(lambda: function(q, others["a mixture"], 3))


@kl_monte_carlo.aspect("shape", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for dtype in (torch.float32, torch.float64):
        for shape in BATCHES:
            q, p = (
                Normal(draw.mean(*shape).to(dtype), draw.uniform(0.6, 0.9, *shape).to(dtype))
                for _ in range(2)
            )
            for n_samples in (7, 1):
                result = tensor(function(q, p, n_samples))
                what = f"a batch of shape {shape}, {dtype}, {n_samples} samples"
                yield f"the shape for {what}", tuple(result.shape)
                yield f"the dtype for {what}", str(result.dtype)
    for n in (4, 1):
        few, many = (Categorical(draw.uniform(0.5, 1.0, n, 5)) for _ in range(2))
        for n_samples in (7, 1):
            result = tensor(function(few, many, n_samples))
            yield f"the shape for Categorical, batch {n}, {n_samples} samples", tuple(result.shape)
    q, p = (Normal(draw.mean(4, 3), draw.uniform(0.6, 0.9, 4, 3)) for _ in range(2))
    events = tensor(function(Independent(q, 1), Independent(p, 1), 7))
    yield "the shape for a batch of shape (4,) of vectors", tuple(events.shape)


@kl_monte_carlo.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    values = [draw.mean(3), draw.uniform(0.7, 0.9, 3), draw.mean(3), draw.uniform(1.1, 1.4, 3)]
    names = ("loc of q", "scale of q", "loc of p", "scale of p")
    mu, sigma, m, s = values
    apart = mu - m
    exact = (
        apart / s**2,
        sigma / s**2 - 1 / sigma,
        -apart / s**2,
        1 / s - (sigma**2 + apart**2) / s**3,
    )
    # Standard deviations for one sample z = μ + σε.
    deviations = (
        sigma / s**2,
        (apart**2 + 2 * sigma**2).sqrt() / s**2,
        sigma / s**2,
        (4 * apart**2 * sigma**2 + 2 * sigma**4).sqrt() / s**3,
    )
    samples = 3 * SAMPLES

    def estimate(mu: Tensor, sigma: Tensor, m: Tensor, s: Tensor) -> Any:
        return function(Normal(mu, sigma), Normal(m, s), samples)

    inputs = dict(zip(names, values, strict=True))
    seen = dict(gradients(estimate, torch.ones(3, dtype=draw.dtype), **inputs))
    if len(seen) != len(inputs):  # of another shape
        yield from seen.items()
        return
    for (name, gradient), right, deviation in zip(seen.items(), exact, deviations, strict=True):
        yield name, Near(gradient, right, 7 * deviation / samples**0.5)
    # Not of Gaussians only: of a Laplace q in its scale b, z = μ + b e.
    b = draw.uniform(0.7, 0.9, 3).requires_grad_()
    total = tensor(function(Laplace(mu, b), Normal(m, s), samples)).sum()
    (gradient,) = torch.autograd.grad(total, b)
    right, variance = 2 * b / s**2 - 1 / b, (2 * apart**2 + 20 * b**2) / s**4
    near = Near(gradient, right.detach(), 7 * (variance.detach() / samples).sqrt())
    yield "the gradient in the scale of a Laplace q", near
