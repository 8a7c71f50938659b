"""2-elbo: what is checked."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.facts import Clue, Rough
from vae_exercises.observe import Function, Observed, finite, form, gradients, tensor

_assignment = Assignment("2-elbo", ("elbo", "The evidence lower bound"), written={"derivation": 6})

__all__ = [
    "bernoulli_log_likelihood",
    "gaussian_log_likelihood",
    "log_marginal_monte_carlo",
    "negative_elbo",
]

SIZES = [(5, 7), (4, 1), (1, 3)]  # (N, D)
IMAGES = [(3, 2, 4, 5), (2, 1, 4), (2, 3, 1, 4)]  # (N, C, H, W), and as general as (N, …)


def _alike(images: Any, rows: Any) -> str:
    """A fact: whether images count as the same pixels in rows do."""
    images, rows = tensor(images), tensor(rows)
    same = images.shape == rows.shape and torch.allclose(images, rows, 1e-4, 1e-4, equal_nan=True)
    return "the same" if same else "another"


def _ratio(result: Tensor, other: Tensor) -> Tensor:
    """One result beside another, as it is where it has not as many numbers."""
    return result / other if result.shape == other.shape else result


def _slopes(function: Function, weights: Tensor | None = None, **inputs: Tensor) -> Observed:
    """The gradients of `gradients`, how many numbers came back, and whether they depend on it."""
    seen: list[Tensor] = []

    def recorded(*leaves: Tensor) -> Tensor:
        seen.append(tensor(function(*leaves)))
        return seen[0]

    found = dict(gradients(recorded, weights, **inputs))
    yield "how many numbers come back", seen[0].numel()
    yield "whether a gradient can come back", Clue("yes" if seen[0].requires_grad else "no")
    yield from ((name, fact) for name, fact in found.items() if isinstance(fact, Tensor))


# --- bernoulli_log_likelihood --------------------------------------------------------------------


@_assignment.task(
    "Both networks are probabilistic",
    hint="PyTorch has the cross-entropy for logits, F.binary_cross_entropy_with_logits: take it "
    "with reduction='none', turn its sign, and sum over every dimension but the first.",
)
def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    terms = x * logits - F.softplus(logits)
    return terms.flatten(1).sum(1)


def _pixels(draw: Draw, *shape: int, scale: float = 1.5) -> dict[str, Tensor]:
    """Logits, and pixels that are 0 or 1."""
    logits = scale * draw.mean(*shape)
    x = torch.bernoulli(draw.uniform(0.3, 0.7, *shape), generator=draw.generator)
    return {"logits": logits, "x": x}


def _of_grey(function: Function, logits: Tensor, x: Tensor, grey: float) -> Tensor:
    """The result where one pixel of each row is grey.

    torch's Bernoulli refuses grey pixels, rightly. Then it is what lies between 0 and 1.
    """
    black, mixed, white = x.clone(), x.clone(), x.clone()
    black[:, 0], mixed[:, 0], white[:, 0] = 0, grey, 1
    try:
        return tensor(function(logits, mixed))
    except ValueError:
        return torch.lerp(tensor(function(logits, black)), tensor(function(logits, white)), grey)


@bernoulli_log_likelihood.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size in SIZES:
        result = tensor(function(*_pixels(draw, *size).values()))
        yield f"the log-likelihood of each example, inputs {size}", result.reshape(-1)
    result = tensor(function(*_pixels(draw, 4, 6, scale=5).values()))
    yield "the log-likelihood of each example, logits up to ±8", result.reshape(-1)
    for low, scale in ((0.15, 1.5), (0.6, 5)):
        grey = draw.uniform(low, low + 0.25).item()
        result = _of_grey(function, **_pixels(draw, 4, 3, scale=scale), grey=grey)
        yield f"the log-likelihood where the first pixel is {grey:.2f}", result.reshape(-1)


@bernoulli_log_likelihood.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_pixels(draw, *size) for size in (*SIZES, *IMAGES)))
    for size in IMAGES:
        images = _pixels(draw, *size)
        rows = function(*(value.flatten(1) for value in images.values()))
        yield (
            f"the result for images {size}, beside that for their pixels in rows",
            _alike(function(*images.values()), rows),
        )


@bernoulli_log_likelihood.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for n, d in SIZES:
        weights = draw.uniform(0.5, 1.5, n)
        logits, x = _pixels(draw, n, d).values()
        # Beside the function's own results: so that a wrong factor loses the value alone.
        own = tensor(function(logits.clone(), x.clone())).detach().reshape(-1)
        usable = len(own) == n and bool(own.all())
        beside = (weights * own).unsqueeze(1) if usable else 1
        for name, fact in _slopes(
            lambda some, x=x: function(some, x.clone()), weights, logits=logits
        ):
            ratio = isinstance(fact, Tensor)
            name += ", divided by the log-likelihood" * ratio
            yield f"{name}, inputs {n, d}", fact / beside if ratio else fact


@bernoulli_log_likelihood.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # The pixels are what the logits deny: each costs as many nats as the logit is far from 0.
    half = draw.uniform(50, 60, 2, 40).float()
    for sign in (1, -1):
        x = torch.full_like(half, float(sign < 0))
        near, far = (
            tensor(function(sign * factor * half, x.clone())).sum().double() for factor in (1, 2)
        )
        at = f"x = {int(sign < 0)} at logits near {110 * sign}"
        yield (
            f"the log-likelihood of {at}, divided by that near {55 * sign}",
            Rough(far / near, 1.02),
        )
        for pixels in (x, 1 - x):
            result = tensor(function(2 * sign * half, pixels.clone())).sum()
            at = f"x = {pixels[0, 0]:.0f} at logits near {110 * sign}"
            yield f"the log-likelihood of {at}", finite(result)
            slopes = gradients(
                lambda some, pixels=pixels: tensor(function(some, pixels)).sum(),
                logits=2 * sign * half,
            )
            yield from ((f"{name}, {at}", finite(slope)) for name, slope in slopes)


# --- gaussian_log_likelihood ---------------------------------------------------------------------


@_assignment.task(
    "The Gaussian density",
    hint="Each pixel has three terms: −½ ((x − mean)/σ)², −log σ and −½ log 2π. Let all three "
    "have the shape of x, then sum over every dimension but the first. "
    "torch.as_tensor(sigma, dtype=mean.dtype) makes a tensor of a number.",
    chapter=("probability", "The probability you need"),
)
def gaussian_log_likelihood(mean: Tensor, x: Tensor, sigma: float | Tensor) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=mean.dtype)
    terms = -0.5 * ((x - mean) / sigma) ** 2 - sigma.log() - 0.5 * LOG_2PI
    return terms.flatten(1).sum(1)


LOG_2PI = math.log(2 * math.pi)


def _greys(
    draw: Draw, *shape: int, low: float = 0.4, high: float = 0.7, scale: float = 1
) -> tuple[Tensor, Tensor, float]:
    """Means, pixels near them, and one standard deviation from `low` to `high`."""
    mean, sigma = scale * draw.mean(*shape), draw.uniform(low, high).item()
    return mean, mean + 1.5 * sigma * draw.mean(*shape), sigma


@gaussian_log_likelihood.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size in SIZES:
        result = tensor(function(*_greys(draw, *size)))
        yield f"the log-likelihood of each example, inputs {size}", result.reshape(-1)
    # Densities above 1, and far below: results of both signs.
    for low, high, scale in ((0.02, 0.05, 1), (3e-4, 6e-4, 1e-3), (7, 9, 30)):
        result = tensor(function(*_greys(draw, 4, 3, low=low, high=high, scale=scale)))
        yield f"the log-likelihood of each example, σ from {low} to {high}", result.reshape(-1)
    mean, x, sigma = _greys(draw, 3, 2)
    result = tensor(function(mean, x + 6 * draw.sign(3, 2), sigma))
    yield "the log-likelihood of each example, 10 σ from the mean", result.reshape(-1)


@gaussian_log_likelihood.aspect("sigma", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # Beside the function's own results for numbers: so that a wrong factor loses the value alone.
    mean, x, sigma = _greys(draw, 5, 4)

    def of(sigma: Any, columns: Any = slice(None)) -> Tensor:
        inputs = (value[:, columns].clone() for value in (mean, x))
        return tensor(function(*inputs, sigma)).reshape(-1)

    alone = of(sigma)
    yield "whether σ makes a difference", not torch.allclose(alone, of(1.7 * sigma))
    yield "the result where σ is an int, divided by that for the same float", _ratio(of(2), of(2.0))
    one = torch.tensor(sigma, dtype=draw.dtype)
    for some in (one, one.reshape(1)):
        name = f"the result for a tensor σ of shape {tuple(some.shape)}, divided by the number's"
        yield name, _ratio(of(some), alone)
    each = draw.uniform(0.4, 1.2, 4)
    single = [of(each[d].item(), slice(d, d + 1)) for d in range(4)]
    name = "the result for a σ of each pixel, (4,), divided by the sum over single pixels"
    yield name, _ratio(of(each), torch.stack(single).sum(0))
    for size in IMAGES:
        mean, x, _ = _greys(draw, *size)
        each = draw.uniform(0.4, 1.2, *size[1:])
        images = tensor(function(mean, x.clone(), each))
        rows = tensor(function(mean.flatten(1), x.flatten(1), each.flatten()))
        name = f"the results for images with a σ of each pixel, {size[1:]}, divided by their rows'"
        yield name, (images.sum() / rows.sum()).reshape(1)


@gaussian_log_likelihood.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for size in (*SIZES, *IMAGES):
        mean, x, sigma = _greys(draw, *size)
        yield from form(lambda mean, x, s=sigma: function(mean, x, s), {"mean": mean, "x": x})
        rows = function(mean.flatten(1), x.flatten(1), sigma)
        name = f"the result for inputs {size}, beside that for their pixels in rows"
        yield name, _alike(function(mean, x, sigma), rows)
    mean, x, _ = _greys(draw, 5, 7)
    yield from form(function, {"mean": mean, "x": x, "sigma": draw.uniform(0.4, 1.2, 1)})


@gaussian_log_likelihood.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for (n, d), scale in (((5, 7), 1), ((4, 1), 10)):
        mean, x, sigma = _greys(draw, n, d, scale=scale)
        for s in (torch.tensor(sigma, dtype=draw.dtype), draw.uniform(0.4, 1.2, d)):
            slopes = _slopes(
                lambda mean, s, x: function(mean, x, s),
                draw.uniform(0.5, 1.5, n),
                mean=mean,
                sigma=s,
                x=x,
            )
            yield from (
                (f"{name}, for mean {n, d} and σ {tuple(s.shape)}", slope) for name, slope in slopes
            )


@gaussian_log_likelihood.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # The density is 0 in float32 from some 14 σ on, its logarithm is a plain number.
    mean, _, sigma = _greys(draw, 2, 3)
    mean, far = mean.float(), sigma * draw.uniform(20, 25, 2, 3).float() * draw.sign(1).float()
    near, twice = (
        tensor(function(mean.clone(), mean + factor * far, sigma)).sum().double()
        for factor in (1, 2)
    )
    name = "the log-likelihood 45 σ from the mean, divided by that at half of the distance"
    yield name, Rough(twice / near, 1.3)


# --- log_marginal_monte_carlo --------------------------------------------------------------------


@_assignment.task(
    "Log-sum-exp: sums of tiny numbers",
    hint="The mean is a sum divided by S, so its logarithm is torch.logsumexp over the samples, "
    "dimension 0, less log S.",
    chapter=("probability", "The probability you need"),
)
def log_marginal_monte_carlo(log_likelihood: Tensor) -> Tensor:
    return torch.logsumexp(log_likelihood, dim=0) - math.log(len(log_likelihood))


SAMPLES = [(7, 4), (5, 1), (1, 3), (1, 1)]  # (S, N)


@log_marginal_monte_carlo.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for s, n in SAMPLES:
        result = tensor(function(draw.uniform(-6, -2, s, n)))
        yield f"the estimate of each example, {s} samples of {n}", result.reshape(-1)
    level = draw.sign(4) * draw.uniform(4, 7, 4)
    result = tensor(function(draw.uniform(-4, 4, 6, 4) + torch.cat([level, -level])[2:6]))
    yield "the estimates of examples on either side of 0", result.reshape(-1)


@log_marginal_monte_carlo.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *({"log_likelihood": draw.uniform(-6, -2, *s)} for s in SAMPLES))


@log_marginal_monte_carlo.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for s, n in SAMPLES:
        log_likelihood = draw.uniform(-3, 3, s, n)
        weights = draw.uniform(0.5, 1.5, n)
        for name, fact in _slopes(function, weights, log_likelihood=log_likelihood):
            yield f"{name}, {s} samples of {n}", fact
        # Several wrong ones share a gradient.
        total = tensor(function(log_likelihood)).sum()
        yield f"the sum of the estimates, {s} samples of {n}", Clue(f"{total:.4g}")


@log_marginal_monte_carlo.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    def grows(where: Tensor) -> Rough:
        """How many times as large the estimates are if all is twice as far from 0."""
        inputs = (some[: len(where)] + factor * where for factor in (1, 2))
        near, far = (tensor(function(each)).sum().double() for each in inputs)
        return Rough(far / near, 1.3)

    some = draw.uniform(-3, -1, 7, 4).float()
    # Examples that lie far apart, so that no shift fits all of them.
    level = torch.tensor([400.0, 900.0, 1400.0, 2000.0])
    for sign, name in ((-1, "below"), (1, "above")):
        for s in (7, 1):
            what = f"the estimates far {name} 0 by {s} samples, divided by those half as far"
            yield what, grows(sign * level.expand(s, 4))
    # Samples that lie far apart: which are far above the rest is another row in each column.
    first, last = torch.zeros(7, 4), torch.zeros(7, 4)
    first[0] = last[[3, 1, 6, 4], range(4)] = 200
    for name, where in (
        ("the first sample is far above the others", first),
        ("the first sample is far below the others", -2 * first),
        ("one sample is far above the others", last),
        (
            "three samples are far above the others",
            0.3 * (last + last.roll(1, 0) + last.roll(2, 0)),
        ),
    ):
        yield f"the estimates where {name}, divided by those half as far", grows(600 + where)
    impossible = torch.full((2, 1), -math.inf)
    yield "the estimate of an example that no sample can make", finite(function(impossible))


# --- negative_elbo -------------------------------------------------------------------------------


@_assignment.task(
    "Maximise the bound",
    hint="The bound of each example is log_likelihood − kl. Take its mean over the batch, and "
    "minus that.",
)
def negative_elbo(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (kl - log_likelihood).mean()


BATCHES = [(5, 1.0), (5, 10.0), (3, 100.0), (1, 1.0), (1, 10.0), (4, 0.2), (2, 3.0), (6, 30.0)]


def _terms(draw: Draw, n: int, scale: float) -> dict[str, Tensor]:
    """Log-likelihoods of both signs (a density may exceed 1), and KLs, some of them small."""
    log_likelihood = scale * draw.uniform(2, 6, n)
    log_likelihood[: (n + 1) // 2] *= -1
    kl = scale * draw.uniform(1, 3, n)
    kl[1:2] = 0.05
    return {"log_likelihood": log_likelihood, "kl": kl}


def _number(loss: Any) -> Tensor:
    """The loss, be it a tensor or a Python number."""
    return torch.tensor([loss]) if isinstance(loss, float) else tensor(loss).reshape(-1)


@negative_elbo.aspect("value", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # One number alone might be right by accident.
    for name, sign in (("mostly negative", 1), ("mostly positive", -1)):
        losses = []
        for n, scale in BATCHES:
            terms = _terms(draw, n, scale)
            losses.append(_number(function(sign * terms["log_likelihood"], terms["kl"])))
        what = f"the losses of {len(BATCHES)} batches, log-likelihoods {name}"
        yield what, torch.cat([loss.to(draw.dtype) for loss in losses])
    kl = draw.uniform(1, 3, 4)
    yield "a negative loss", _number(function(kl + draw.uniform(1, 2, 4), kl)).to(draw.dtype)
    terms = _terms(draw, 3, 1)
    terms["kl"][2] = math.inf
    yield "the loss where one KL is infinite", finite(_number(function(*terms.values())))
    terms = _terms(draw, 3, 1)
    terms["kl"][2] = math.nan
    yield "the loss where one KL is not a number", finite(_number(function(*terms.values())))
    terms = _terms(draw, 3, 1)
    terms["kl"][2] = -0.3  # as an estimate by samples may be
    yield "the loss where one KL is negative", _number(function(*terms.values())).to(draw.dtype)


@negative_elbo.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_terms(draw, n, 1) for n in (5, 1)))


@negative_elbo.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for n, scale in ((5, 1), (3, 10), (1, 1)):
        terms = _terms(draw, n, scale)
        for sign in (1, -1):
            inputs = {"log_likelihood": sign * terms["log_likelihood"], "kl": terms["kl"]}
            for name, slope in _slopes(function, **inputs):
                yield f"{name}, batch {n}, log-likelihoods times {sign}", slope
    kl = draw.uniform(1, 3, 4)
    for name, slope in _slopes(function, log_likelihood=kl + draw.uniform(1, 2, 4), kl=kl):
        yield f"{name} where the loss is negative", slope
