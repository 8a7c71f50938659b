"""3-kl: what is checked, and which mistakes are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)

import vaelib.kl as library
from vaelib.exercises.observe import form, gradients, tensor
from vaelib.exercises.task import Draw, Near, Rough, Task

__all__ = ["kl_between_gaussians", "kl_monte_carlo", "kl_to_standard_normal"]

CHAPTER = "KL divergence"
Facts = Iterator[tuple[str, Any]]
Function = Callable[..., Any]

# --- kl_to_standard_normal -----------------------------------------------------------------------

kl_to_standard_normal = Task(
    "kl_to_standard_normal",
    library.kl_to_standard_normal,
    read=(CHAPTER, "The closed form, line by line"),
)


@kl_to_standard_normal.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    mu, logvar = draw.mean(5, 3), draw.logvar(5, 3)
    yield "the KL of each example", tensor(function(mu, logvar)).reshape(-1)


@kl_to_standard_normal.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, mu=draw.mean(5, 3), logvar=draw.logvar(5, 3))


@kl_to_standard_normal.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    weights = draw.uniform(0.5, 1.5, 5)
    mu, logvar = draw.mean(5, 3), draw.logvar(5, 3)
    yield from gradients(function, weights, mu=mu, logvar=logvar)


@kl_to_standard_normal.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    mu, logvar = draw.mean(2, 3).float(), draw.uniform(14, 16, 2, 3).float()
    for sign in (-1, 1):
        size = [tensor(function(mu, sign * factor * logvar)).sum() for factor in (1, 2)]
        name = f"the KL for log-variances near {sign * 30}, beside that near {sign * 15}"
        yield name, Rough(size[1] / size[0], 1.3)


@kl_to_standard_normal.mistake(
    "the ½ is missing",
    breaks="value gradient",
    hint="This is exactly twice the KL. Every term of the Gaussian's log-density carries a ½.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return (mu**2 + logvar.exp() - 1 - logvar).sum(-1)


@kl_to_standard_normal.mistake(
    "the sign is wrong",
    breaks="value gradient",
    hint="This is −KL, as it stands in the bound. A divergence is never negative.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(-1)


@kl_to_standard_normal.mistake(
    "a mean over the latent dimensions",
    breaks="value gradient",
    hint="The terms of independent dimensions add up: log-densities of a product are summed. "
    "A mean makes the KL K times too weak against the reconstruction.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(-1)


@kl_to_standard_normal.mistake(
    "a sum over the batch too",
    breaks="value shape gradient",
    hint="One value per example is asked for: (N, K) in, (N,) out. Sum over one dimension only.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


@kl_to_standard_normal.mistake(
    "a mean over the batch",
    breaks="value shape gradient",
    hint="Summed over the dimensions, but then averaged over the examples. "
    "Averaging belongs to the loss; here one value per example is asked for.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return library.kl_to_standard_normal(mu, logvar).mean()


@kl_to_standard_normal.mistake(
    "a mean over everything",
    breaks="value shape gradient",
    hint="Latent dimensions are summed, and examples are kept apart: nothing is averaged here.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean()


@kl_to_standard_normal.mistake(
    "summed over the wrong dimension",
    breaks="value shape gradient",
    hint="The sum runs over the examples, dimension 0. It belongs over the latent dimensions, "
    "the last one.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(0)


@kl_to_standard_normal.mistake(
    "not summed at all",
    breaks="value shape gradient",
    hint="These are the terms of each latent dimension. Their sum over the last one is the KL.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


@kl_to_standard_normal.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right and stand in a column (N, 1), where a vector (N,) is asked for. "
    "Added to another (N,) it would silently make an (N, N).",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1, keepdim=True)


@kl_to_standard_normal.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return library.kl_to_standard_normal(mu, logvar).float()


@kl_to_standard_normal.mistake(
    "an input is changed",
    breaks="shape",
    hint="mu is squared in place: it still is when the decoder gets it. Make a new tensor.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu.pow_(2) + logvar.exp() - 1 - logvar).sum(-1)


@kl_to_standard_normal.mistake(
    "log-variance taken for log σ",
    breaks="value gradient numerics",
    hint="logvar is log σ², so that σ² = exp(logvar) and not exp(2 logvar).",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + (2 * logvar).exp() - 1 - 2 * logvar).sum(-1)


@kl_to_standard_normal.mistake(
    "log-variance taken for the variance",
    breaks="value gradient numerics",
    hint="logvar may be negative, and then its logarithm is NaN. σ² is exp(logvar).",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar - 1 - logvar.log()).sum(-1)


@kl_to_standard_normal.mistake(
    "log-variance taken for σ",
    breaks="value gradient numerics",
    hint="Squared like a standard deviation, but logvar is log σ²: σ² is exp(logvar).",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar**2 - 1 - (logvar**2).log()).sum(-1)


@kl_to_standard_normal.mistake(
    "the other direction",
    breaks="value gradient numerics",
    hint="This is KL(N(0, I) ‖ q). Asked for is KL(q ‖ N(0, I)): the average is over q.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * ((1 + mu**2) / logvar.exp() - 1 + logvar).sum(-1)


@kl_to_standard_normal.mistake(
    "the −1 is missing",
    breaks="value",
    hint="Each dimension is ½ too large: KL(N(0, 1) ‖ N(0, 1)) comes out as ½ and must be 0. "
    "No gradient shows it, the reported bound does.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - logvar).sum(-1)


@kl_to_standard_normal.mistake(
    "the logarithm is missing",
    breaks="value gradient numerics",
    hint="Without − log σ² nothing keeps the variance from shrinking to 0.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1).sum(-1)


@kl_to_standard_normal.mistake(
    "the mean is missing",
    breaks="value gradient",
    hint="Nothing depends on mu: without μ² the codes may lie anywhere at no cost.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (logvar.exp() - 1 - logvar).sum(-1)


@kl_to_standard_normal.mistake(
    "the mean is not squared",
    breaks="value gradient",
    hint="mu stands as |mu| or mu; the square comes from (z − μ)² in the exponent.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu + logvar.exp() - 1 - logvar).sum(-1)


@kl_to_standard_normal.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, .data, no_grad, numpy or "
    "item() on the way. The encoder would learn nothing from this term.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return library.kl_to_standard_normal(mu, logvar).detach()


@kl_to_standard_normal.mistake(
    "log-variances are clamped",
    breaks="numerics",
    hint="Beyond the clamp the KL no longer grows, and its gradient is 0: what got there never "
    "comes back. Nothing needs clamping, since log σ² is at hand.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    logvar = logvar.clamp(-10, 10)
    return library.kl_to_standard_normal(mu, logvar)


@kl_to_standard_normal.mistake(
    "a small number is added in the logarithm",
    breaks="numerics",
    hint="log(exp(logvar) + ε) is log ε for small variances. log σ² is at hand: it is logvar.",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    variance = logvar.exp()
    return 0.5 * (mu**2 + variance - 1 - (variance + 1e-8).log()).sum(-1)


# --- kl_between_gaussians ------------------------------------------------------------------------

kl_between_gaussians = Task(
    "kl_between_gaussians",
    library.kl_between_gaussians,
    read=(CHAPTER, "Two directions"),
)


def _pair(draw: Draw, n: int) -> dict[str, Tensor]:
    """Parameters of q and p, (n, 3), with variances that differ in every dimension."""
    logvar_q = draw.logvar(n, 3)
    return {
        "mu_q": draw.mean(n, 3),
        "logvar_q": logvar_q,
        "mu_p": draw.mean(n, 3),
        "logvar_p": logvar_q + draw.uniform(0.3, 0.9, n, 3) * draw.sign(n, 3),
    }


@kl_between_gaussians.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    yield "the KL of each example", tensor(function(*_pair(draw, 5).values())).reshape(-1)


@kl_between_gaussians.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, **_pair(draw, 5))


@kl_between_gaussians.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    yield from gradients(function, draw.uniform(0.5, 1.5, 5), **_pair(draw, 5))


@kl_between_gaussians.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    # exp(95) is ∞ in float32, but the two variances are near each other.
    pair = {name: value.float() for name, value in _pair(draw, 2).items()}
    pair["mu_p"] = pair["mu_q"]
    near_zero = tensor(function(*pair.values())).sum()
    for name in ("logvar_q", "logvar_p"):
        pair[name] = pair[name] + 95
    same = tensor(function(*pair.values())).sum()
    yield "the KL for log-variances near 95, beside that for their ratio", Rough(same / near_zero)


def _terms(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Twice the KL in each dimension."""
    ratio = (logvar_q - logvar_p).exp()
    return ratio + (mu_q - mu_p) ** 2 * (-logvar_p).exp() - 1 - (logvar_q - logvar_p)


@kl_between_gaussians.mistake(
    "the other direction",
    breaks="value gradient",
    hint="This is KL(p ‖ q). Asked for is KL(q ‖ p): the average is over q, the first argument.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * _terms(mu_p, logvar_p, mu_q, logvar_q).sum(-1)


@kl_between_gaussians.mistake(
    "the ½ is missing",
    breaks="value gradient",
    hint="This is exactly twice the KL.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return _terms(mu_q, logvar_q, mu_p, logvar_p).sum(-1)


@kl_between_gaussians.mistake(
    "p taken for the standard normal",
    breaks="value gradient numerics",
    hint="Nothing depends on the parameters of p.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * (mu_q**2 + logvar_q.exp() - 1 - logvar_q).sum(-1)


@kl_between_gaussians.mistake(
    "the distance of the means is divided by q's variance",
    breaks="value gradient",
    hint="(μ_q − μ_p)² is measured in units of p's variance: there p's density counts.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    ratio = logvar_q - logvar_p
    return 0.5 * (ratio.exp() + (mu_q - mu_p) ** 2 / logvar_q.exp() - 1 - ratio).sum(-1)


@kl_between_gaussians.mistake(
    "the distance of the means is divided by nothing",
    breaks="value gradient",
    hint="(μ_q − μ_p)² must be divided by the variance of p.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    ratio = logvar_q - logvar_p
    return 0.5 * (ratio.exp() + (mu_q - mu_p) ** 2 - 1 - ratio).sum(-1)


@kl_between_gaussians.mistake(
    "log-variance taken for log σ",
    breaks="value gradient",
    hint="logvar is log σ², so that σ² = exp(logvar) and not exp(2 logvar).",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * _terms(mu_q, 2 * logvar_q, mu_p, 2 * logvar_p).sum(-1)


@kl_between_gaussians.mistake(
    "the sign of the logarithm is wrong",
    breaks="value gradient",
    hint="It is − log(σ_q²/σ_p²): equal Gaussians give 0 either way, so that they do not show it.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * (_terms(mu_q, logvar_q, mu_p, logvar_p) + 2 * (logvar_q - logvar_p)).sum(-1)


@kl_between_gaussians.mistake(
    "the −1 is missing",
    breaks="value",
    hint="Each dimension is ½ too large: the KL of a Gaussian to itself must be 0.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * (_terms(mu_q, logvar_q, mu_p, logvar_p) + 1).sum(-1)


@kl_between_gaussians.mistake(
    "a mean over the latent dimensions",
    breaks="value gradient",
    hint="The terms of independent dimensions add up; a mean is K times too small.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * _terms(mu_q, logvar_q, mu_p, logvar_p).mean(-1)


@kl_between_gaussians.mistake(
    "a sum over the batch too",
    breaks="value shape gradient",
    hint="One value per example is asked for: (N, K) in, (N,) out.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * _terms(mu_q, logvar_q, mu_p, logvar_p).sum()


@kl_between_gaussians.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right and stand in a column (N, 1), where a vector (N,) is asked for.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * _terms(mu_q, logvar_q, mu_p, logvar_p).sum(-1, keepdim=True)


@kl_between_gaussians.mistake(
    "the parameters of p are detached",
    breaks="gradient",
    hint="The values are right, and p learns nothing. A learnt prior needs this gradient.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 0.5 * _terms(mu_q, logvar_q, mu_p.detach(), logvar_p.detach()).sum(-1)


@kl_between_gaussians.mistake(
    "the variances are divided after the exponential",
    breaks="numerics",
    hint="Both overflow to ∞, and ∞/∞ is NaN. exp(logvar_q − logvar_p) is the same ratio and safe.",
)
def _(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    ratio = logvar_q.exp() / logvar_p.exp()
    distance = (mu_q - mu_p) ** 2 / logvar_p.exp()
    return 0.5 * (ratio + distance - 1 - (logvar_q - logvar_p)).sum(-1)


# --- kl_monte_carlo ------------------------------------------------------------------------------

kl_monte_carlo = Task(
    "kl_monte_carlo", library.kl_monte_carlo, read=(CHAPTER, "Evidence, on average")
)

SAMPLES = 4_000


def _normal(draw: Draw, n: int, mean: Tensor | None = None) -> Normal:
    mean = draw.mean(n) if mean is None else mean
    return Normal(mean, draw.uniform(0.6, 0.9, n))


def _mixture(draw: Draw, q: Normal) -> MixtureSameFamily:
    """Two wide modes around q's: no closed form, and log q/p is tame under either."""
    n = len(q.loc)
    apart = draw.uniform(0.8, 1.2, n)
    means = torch.stack([q.loc - apart, q.loc + 1.3 * apart], -1)
    weights = draw.uniform(0.3, 0.7, n)
    return MixtureSameFamily(
        Categorical(torch.stack([weights, 1 - weights], -1)),
        Normal(means, draw.uniform(1.0, 1.4, n, 2)),
    )


def _integral(q: Normal, p: Distribution, f: Function) -> Tensor:
    """E_q[f(log q − log p)] by quadrature, (n,)."""
    z = q.loc + q.scale * torch.linspace(-9, 9, 401, dtype=torch.float64)[:, None]
    log_q = q.log_prob(z)
    return torch.trapezoid(log_q.exp() * f(log_q - p.log_prob(z)), z, dim=0)


@kl_monte_carlo.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    q = _normal(draw, 4)
    p = _mixture(draw, q)
    exact = _integral(q, p, lambda ratio: ratio)
    deviation = (_integral(q, p, lambda ratio: ratio**2) - exact**2).sqrt()
    estimate = tensor(function(q, p, SAMPLES)).reshape(-1)
    yield "the estimate", Near(estimate, exact, 7 * deviation / SAMPLES**0.5)
    # No gradient passes through the samples of these; the estimate is as good.
    weights = draw.uniform(0.5, 1.0, 4, 5)
    few = Categorical(weights * torch.tensor([0.02, 1, 1, 1, 1]))
    many = Categorical(weights)
    ratio = many.probs.log() - few.probs.log()
    exact = (many.probs * ratio).sum(-1)
    deviation = ((many.probs * ratio**2).sum(-1) - exact**2).sqrt()
    estimate = tensor(function(many, few, SAMPLES)).reshape(-1)
    yield "the estimate for Categorical", Near(estimate, exact, 7 * deviation / SAMPLES**0.5)


@kl_monte_carlo.aspect("spread")
def _(function: Function, draw: Draw) -> Facts:
    # The same pair 3,000 times: what differs among the estimates is chance alone.
    q = _normal(draw, 1).expand((3000,))
    one = _mixture(draw, _normal(draw, 1, q.loc[:1]))
    p = one.expand((3000,))
    first = Normal(q.loc[:1], q.scale[:1])
    mean = _integral(first, one, lambda ratio: ratio)
    variance = _integral(first, one, lambda ratio: ratio**2) - mean**2
    estimates = tensor(function(q, p, 5)).reshape(-1)
    exact = variance / 5
    spread = estimates.var(correction=0).reshape(1)
    yield "the variance of the estimates with 5 samples each", Near(spread, exact, 0.35 * exact)


@kl_monte_carlo.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    for dtype in (torch.float64, torch.float32):
        q, p = (
            Normal(draw.mean(4, 3).to(dtype), draw.uniform(0.6, 0.9, 4, 3).to(dtype))
            for _ in range(2)
        )
        result = tensor(function(q, p, 7))
        yield f"the shape for a batch of shape (4, 3), {dtype}", tuple(result.shape)
        yield f"the dtype, {dtype} in", str(result.dtype)
    events = tensor(function(Independent(q, 1), Independent(p, 1), 7))
    yield "the shape for a batch of shape (4,) of vectors", tuple(events.shape)


@kl_monte_carlo.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
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
    samples = 3 * SAMPLES

    def estimate(mu: Tensor, sigma: Tensor, m: Tensor, s: Tensor) -> Any:
        return function(Normal(mu, sigma), Normal(m, s), samples)

    inputs = dict(zip(names, values, strict=True))
    seen = gradients(estimate, torch.ones(3, dtype=torch.float64), **inputs)
    # Standard deviations for one sample z = μ + σε.
    deviations = (
        sigma / s**2,
        (apart**2 + 2 * sigma**2).sqrt() / s**2,
        sigma / s**2,
        (4 * apart**2 * sigma**2 + 2 * sigma**4).sqrt() / s**3,
    )
    for (name, gradient), right, deviation in zip(seen, exact, deviations, strict=True):
        yield name, Near(gradient, right, 7 * deviation / samples**0.5)


def _draws(q: Distribution, n_samples: int) -> Tensor:
    return q.rsample((n_samples,)) if q.has_rsample else q.sample((n_samples,))


@kl_monte_carlo.mistake(
    "the sign is wrong",
    breaks="value gradient",
    hint="This estimates −KL: the average of log p − log q. A divergence is never negative.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (p.log_prob(z) - q.log_prob(z)).mean(0)


@kl_monte_carlo.mistake(
    "the other direction",
    breaks="value spread gradient",
    hint="This estimates KL(p ‖ q). Asked for is KL(q ‖ p): draw from q, average log q − log p.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(p, n_samples)
    return (p.log_prob(z) - q.log_prob(z)).mean(0)


@kl_monte_carlo.mistake(
    "the samples come from p",
    breaks="value spread gradient",
    hint="log q − log p is averaged over p, which gives −KL(p ‖ q). The average is over q.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(p, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


@kl_monte_carlo.mistake(
    "a sum over the samples",
    breaks="value spread gradient",
    hint="It grows with n_samples. An expectation is estimated by the mean.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).sum(0)


@kl_monte_carlo.mistake(
    "a mean over the batch too",
    breaks="value shape spread",
    hint="Average over the samples, dimension 0, and over nothing else.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).mean()


@kl_monte_carlo.mistake(
    "the samples are averaged over the wrong dimension",
    breaks="value shape spread gradient",
    hint="sample((n,)) puts the samples in front, at dimension 0; the last one is the batch's.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).mean(-1)


@kl_monte_carlo.mistake(
    "summed over the batch's last dimension",
    breaks="value shape spread gradient",
    hint="log_prob is already one value an element of the batch; only samples are averaged.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).mean(0).sum(-1)


@kl_monte_carlo.mistake(
    "n_samples is not used",
    breaks="spread",
    hint="The mean is right, but its variance is not that of n_samples draws.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, max(n_samples, 100))
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


@kl_monte_carlo.mistake(
    "one sample only",
    breaks="value spread gradient",
    hint="q.sample() without a shape draws once. n_samples of them are asked for.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = q.rsample() if q.has_rsample else q.sample()
    return q.log_prob(z) - p.log_prob(z)


@kl_monte_carlo.mistake(
    "the logarithm of a mean",
    breaks="value spread gradient",
    hint="The mean of q/p is taken before the logarithm. KL is the mean of the logarithm.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).exp().mean(0).log()


@kl_monte_carlo.mistake(
    "absolute values",
    breaks="value spread gradient",
    hint="log q − log p may well be negative at a sample; only its mean cannot be.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).abs().mean(0)


@kl_monte_carlo.mistake(
    "the samples are detached",
    breaks="gradient",
    hint="The values are right, but sample() lets no gradient through to q. "
    "Where q.has_rsample, q.rsample does.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = q.sample((n_samples,))
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


@kl_monte_carlo.mistake(
    "rsample of every distribution",
    breaks="value",
    hint="Not every distribution has rsample; q.has_rsample says whether. "
    "The others are drawn from by sample.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = q.rsample((n_samples,))
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


@kl_monte_carlo.mistake(
    "the closed form",
    breaks="value spread",
    hint="kl_divergence knows a few pairs only, and this is none of them. Draw from q and average.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    return kl_divergence(q, p)


@kl_monte_carlo.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right; the dimension of the samples is left in front of them.",
)
def _(q: Distribution, p: Distribution, n_samples: int) -> Tensor:
    z = _draws(q, n_samples)
    return (q.log_prob(z) - p.log_prob(z)).mean(0, keepdim=True)
