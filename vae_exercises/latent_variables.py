"""1b-latent-variables: what is checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.facts import Near, Rough
from vae_exercises.observe import (
    Function,
    Observed,
    finite,
    form,
    gradients,
    moments,
    tensor,
    unpacked,
)

_assignment = Assignment("1b-latent-variables", ("latent-variables", "Latent variable models"))

__all__ = [
    "ancestral_sample",
    "log_marginal_quadrature",
    "marginal_monte_carlo",
    "posterior_on_grid",
]


def _pair(value: Any, wanted: str) -> tuple[Tensor, Tensor]:
    """The two tensors that came back."""
    first, second = unpacked(value, 2, f"the pair {wanted}")
    return tensor(first), tensor(second)


# --- ancestral_sample ----------------------------------------------------------------------------


@_assignment.task(
    "A cause that nobody sees",
    hint="Draw z by torch.randn(n, latent_dim, generator=generator) and decode it. Then draw noise "
    "of the decoded shape from the same generator, and add sigma times that noise.",
)
def ancestral_sample(
    decode: Function, sigma: float, n: int, latent_dim: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    z = torch.randn(n, latent_dim, generator=generator)
    mean = decode(z)
    noise = torch.randn(mean.shape, generator=generator)
    return z, mean + sigma * noise


CODES = 2_000


def _curved(draw: Draw, k: int, d: int) -> tuple[Function, list[Tensor]]:
    """A decoder, curved and not symmetrical, and a list of all that it is given."""
    weight, shift, asked = draw.mean(k, d), draw.mean(d), []

    def decode(z: Tensor) -> Tensor:
        asked.append(z.detach().reshape(-1, z.shape[-1]))
        return 3 * torch.sigmoid(z @ weight.to(z.dtype) + shift.to(z.dtype))

    return decode, asked


def _sampled(
    function: Function, decode: Function, sigma: float, n: int, k: int, seed: int | Generator
) -> tuple[Tensor, Tensor]:
    generator = seed if isinstance(seed, Generator) else Generator().manual_seed(seed)
    return _pair(function(decode, sigma, n, k, generator), "(z, x)")


def _kind(rows: Tensor) -> str:
    if not rows.any():
        return "all 0"
    return "all the same" if (rows == rows[0]).all() else "different ones"


def _moments(rows: Tensor) -> Observed:
    """Whether rows are draws of N(0, I): their mean, second and fourth moments, and extremes."""
    yield "how large their numbers get", "beyond ±2.5" if rows.abs().max() > 2.5 else "within ±2.5"
    yield "the numbers of a row", _kind(rows.mT)
    mean, products, kurtosis = moments(rows, len(rows))
    yield "their mean", mean
    yield "the mean of their products", products
    yield "the mean of their 4th powers over that of squares, squared", kurtosis


@ancestral_sample.aspect("prior", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for k, d, sigma in ((3, 2, 0.25), (1, 4, 8.0)):
        decode, asked = _curved(draw, k, d)
        z, _ = _sampled(function, decode, sigma, CODES, k, draw.seed())
        given = torch.cat(asked).to(z.dtype) if asked else z[:0]
        back = given.shape == z.shape and torch.equal(given, z)
        if not back:  # it may be called twice, or for its shape alone
            rows = {tuple(row) for row in given.tolist()}
            back = rows.issuperset(map(tuple, z.reshape(len(z), -1).tolist()))
        yield (
            f"the {k}-dimensional z that decode was given",
            ("those that came back" if back else "others than those that came back"),
        )
        z = z.double().reshape(len(z), -1)
        yield f"how many {k}-dimensional z came back, of how many numbers", tuple(z.shape)
        yield f"the {k}-dimensional z", _kind(z)
        if _kind(z) == "different ones" and z.shape == (CODES, k):
            yield from ((f"{name}, for {k}-dimensional z", fact) for name, fact in _moments(z))


@ancestral_sample.aspect("conditional", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for k, d, sigma in ((2, 2, 0.25), (1, 2, 8.0)):
        decode, _ = _curved(draw, k, d)
        z, x = _sampled(function, decode, sigma, CODES, k, draw.seed())
        what = f"where σ = {sigma}"
        if z.shape != (CODES, k) or x.shape != (CODES, d):
            yield f"the shapes of z and x, {what}", (tuple(z.shape), tuple(x.shape))
            continue
        noise = (x.double() - decode(z.double())).detach() / sigma
        if noise.abs().max() < 1e-4:
            noise = 0 * noise  # the rounding of float32
        yield f"x less its mean, {what}", _kind(noise.round(decimals=4))
        if noise.any():
            for name, fact in _moments(noise):
                yield f"x less its mean, over σ: {name}, {what}", fact
            beside = ((z - z.mean(0)) / z.std(0).clamp(min=1e-3)).double().mT @ noise / CODES
            tolerance = torch.tensor(6.5 / CODES**0.5)
            yield f"its mean product with z, {what}", Near(beside, 0 * beside, tolerance)
    z, x = _sampled(function, lambda z: z, 0.5, 9, 2, draw.seed())
    if z.shape == x.shape == (9, 2):
        yield "x less z, where decode returns its input", _kind((x - z).round(decimals=4))


@ancestral_sample.aspect("generator", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    decode, _ = _curved(draw, 3, 2)
    seed = draw.seed()
    generator = Generator().manual_seed(seed)
    first = _sampled(function, decode, 0.5, 6, 3, generator)
    following = _sampled(function, decode, 0.5, 6, 3, generator)
    third = _sampled(function, decode, 0.5, 6, 3, generator)
    again = _sampled(function, decode, 0.5, 6, 3, seed)
    other = _sampled(function, decode, 0.5, 6, 3, seed + 1)

    def noise(z: Tensor, x: Tensor) -> Tensor:  # x differs wherever z does
        return x - decode(z) if z.shape == (6, 3) and x.shape == (6, 2) else x

    for name, of in (("z", lambda z, x: z), ("the noise", noise)):
        before = of(*first)
        yield f"{name} for a seed, made twice", _compared(before, of(*again))
        yield f"{name} for two seeds", _compared(before, of(*other))
        yield f"{name} of two calls with one generator", _compared(before, of(*following))
        yield f"{name} of the next two calls", _compared(of(*following), of(*third))


def _compared(a: Tensor, b: Tensor) -> str:
    same = a.shape == b.shape and torch.allclose(a, b, 0, 1e-5)
    return "the same" if same else "different"


@ancestral_sample.aspect("shape", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for n, k, d in ((5, 3, 4), (1, 2, 3), (4, 1, 1), (3, 1, 2)):
        decode, _ = _curved(draw, k, d)
        z, x = _sampled(function, decode, 0.5, n, k, draw.seed())
        sizes = f"{n} samples with {k} latent and {d} data dimensions"
        yield f"the shapes of z and x for {sizes}", (tuple(z.shape), tuple(x.shape))
        yield f"the dtypes of z and x for {sizes}", (str(z.dtype), str(x.dtype))
        yield f"the numbers in z and x for {sizes}", (finite(z), finite(x))


# --- log_marginal_quadrature ---------------------------------------------------------------------


@_assignment.task(
    "The objective: the marginal likelihood",
    hint="Add log_prior and the logarithm of the widths, as a column (`[:, None]`), to the "
    "log-likelihoods. Then torch.logsumexp over the grid, dimension 0.",
)
def log_marginal_quadrature(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    log_weight = log_prior + width.log()
    return torch.logsumexp(log_likelihood + log_weight[:, None], 0)


GRIDS = [(7, 4), (5, 1), (1, 3), (4, 4), (1, 1)]  # (G, N)


def _grid(draw: Draw, g: int, n: int) -> dict[str, Tensor]:
    """Inputs of which no two points of the grid are alike, and no two columns."""
    return {
        "log_likelihood": 2 * draw.normal(g, n) + 3 * draw.mean(n),
        "log_prior": draw.mean(g),
        "width": draw.uniform(0.2, 1.8, g),
    }


def _far(draw: Draw) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Grids on which every exponential is 0 or ∞, and what they are like."""
    for at, height, name in (
        (2, 2000, "one point far above the others"),
        (0, 2000, "the first point far above the others"),
        (3, -2500, "one point far below the others"),
    ):
        inputs = _grid(draw, 60, 3)
        inputs["log_likelihood"][at] += height
        # The first column near −1000, the second near +1500, the third near −3000.
        inputs["log_likelihood"] += torch.tensor([-1000, 1500, -3000]).to(draw.dtype)
        yield name, inputs


@log_marginal_quadrature.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size in GRIDS:
        result = tensor(function(*_grid(draw, *size).values())).reshape(-1)
        yield f"log p(x) of each example, log-likelihoods {size}", result
    inputs = _grid(draw, 6, 2)
    inputs["log_likelihood"] = 30 * inputs["log_likelihood"]
    yield "log p(x) far from 0", tensor(function(*inputs.values())).reshape(-1)
    inputs = _grid(draw, 6, 2)
    inputs["width"] = inputs["width"] / 2000
    yield "log p(x) on a fine grid", tensor(function(*inputs.values())).reshape(-1)
    inputs = _grid(draw, 60, 2)
    inputs["log_likelihood"] = 0.1 * inputs["log_likelihood"]
    what = "log p(x), many points of the grid about alike"
    yield what, tensor(function(*inputs.values())).reshape(-1)


@log_marginal_quadrature.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_grid(draw, *size) for size in GRIDS))


@log_marginal_quadrature.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    inputs = _grid(draw, 6, 3)
    width = inputs.pop("width")
    yield from gradients(lambda *two: function(*two, width), draw.uniform(0.5, 1.5, 3), **inputs)


@log_marginal_quadrature.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for name, inputs in _far(draw):
        result = tensor(function(*inputs.values())).reshape(-1)
        yield f"log p(x), {name}", Rough(result, 1.3)


# --- posterior_on_grid ---------------------------------------------------------------------------


@_assignment.task(
    "The posterior: which $z$ was it?",
    hint="log p(z|x) = log p(x|z) + log p(z) − log p(x), where log p(x) is your "
    "log_marginal_quadrature. Take the exponential last.",
)
def posterior_on_grid(log_likelihood: Tensor, log_prior: Tensor, width: Tensor) -> Tensor:
    log_joint = log_likelihood + log_prior[:, None]
    log_marginal = torch.logsumexp(log_joint + width.log()[:, None], 0)
    return (log_joint - log_marginal).exp()


@posterior_on_grid.aspect("value", points=3)
def _(function: Function, draw: Draw) -> Observed:
    for size in GRIDS:
        result = tensor(function(*_grid(draw, *size).values()))
        yield f"the posterior density, log-likelihoods {size}", result.reshape(-1)
    inputs = _grid(draw, 5, 2)
    inputs["width"] = inputs["width"] / 2000
    result = tensor(function(*inputs.values()))
    yield "the posterior density on a fine grid", result.reshape(-1)


@posterior_on_grid.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for name, inputs in _far(draw):
        result = tensor(function(*inputs.values()))
        yield f"the sum of the posterior densities, {name}", Rough(result.sum(0))


@posterior_on_grid.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_grid(draw, *size) for size in GRIDS))


# --- marginal_monte_carlo ------------------------------------------------------------------------


@_assignment.task(
    "Monte Carlo: an average from samples",
    hint="The estimate is likelihood.mean(0). Its standard error is likelihood.std(0), which "
    "divides by S − 1, over the root of S.",
    chapter=("probability", "The probability you need"),
)
def marginal_monte_carlo(likelihood: Tensor) -> tuple[Tensor, Tensor]:
    n_samples = likelihood.shape[0]
    error = likelihood.std(0) / n_samples**0.5
    return likelihood.mean(0), error


SAMPLES = [(6, 4), (9, 2), (2, 3), (4, 4)]  # (S, N)
TINY_AND_HUGE = {"tiny": 1e-12, "huge": 2000.0}


def _likelihood(draw: Draw, s: int, n: int) -> Tensor:
    """Densities, many small and few large, in columns that differ in scale."""
    return 5 * (draw.normal(s, n) + draw.mean(n)).exp()


@marginal_monte_carlo.aspect("estimate", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for size in SAMPLES:
        estimate, _ = _pair(function(_likelihood(draw, *size)), "(estimate, standard error)")
        yield f"the estimate of p(x), likelihoods {size}", estimate.reshape(-1)
    for name, scale in TINY_AND_HUGE.items():
        estimate, _ = _pair(function(scale * _likelihood(draw, 3, 2)), "(estimate, standard error)")
        what = f"the estimate of p(x), {name} likelihoods, in units of their size"
        yield what, estimate.reshape(-1) / scale


@marginal_monte_carlo.aspect("error", points=3)
def _(function: Function, draw: Draw) -> Observed:
    for size in SAMPLES:
        _, error = _pair(function(_likelihood(draw, *size)), "(estimate, standard error)")
        yield f"the standard error, likelihoods {size}", error.reshape(-1)
    for s in (3, 7):  # where E[p²] − E[p]² falls below 0 in float64, and in float32
        equal = torch.full((s, 2), 0.1, dtype=draw.dtype)
        _, error = _pair(function(equal), "(estimate, standard error)")
        yield f"the standard error, {s} likelihoods that are equal", error.reshape(-1)
    for name, scale in TINY_AND_HUGE.items():
        _, error = _pair(function(scale * _likelihood(draw, 3, 2)), "(estimate, standard error)")
        yield (
            f"the standard error, {name} likelihoods, in units of their size",
            error.reshape(-1) / scale,
        )


@marginal_monte_carlo.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    def part(i: int) -> Function:
        return lambda likelihood: _pair(function(likelihood), "(estimate, standard error)")[i]

    cases = [{"likelihood": _likelihood(draw, *size)} for size in [*SAMPLES, (5, 1)]]
    for i, name in enumerate(("estimate", "standard error")):
        yield from ((f"the {name}: {what}", fact) for what, fact in form(part(i), *cases))
