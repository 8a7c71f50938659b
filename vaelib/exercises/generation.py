"""6-generation: what is checked, and which mistakes are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli

import vaelib.elbo
import vaelib.generation as library
from vaelib.exercises.observe import form, gradients, tensor
from vaelib.exercises.task import Draw, Near, Rough, Task

__all__ = ["importance_weighted_bound", "interpolate", "latent_grid", "sample_prior"]

CHAPTER = "Generation"
Facts = Iterator[tuple[str, Any]]
Function = Callable[..., Any]
Decode = Callable[[Tensor], Tensor]

# --- sample_prior --------------------------------------------------------------------------------


def _sample_prior(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    prior = torch.zeros(n, latent_dim), torch.ones(n, latent_dim)
    return Bernoulli(logits=decode(torch.normal(*prior, generator=generator))).mean


sample_prior = Task("sample_prior", _sample_prior, read=(CHAPTER, "Drop the encoder"))

PIXELS = 6


def _generator(draw: Draw) -> torch.Generator:
    return torch.Generator().manual_seed(draw.seed())


def _asked(latents: list[Tensor]) -> Tensor:
    """All that a decoder was given, be it at once or row by row."""
    return torch.cat([z.detach().reshape(-1, z.shape[-1]) for z in latents])


@sample_prior.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    # Answers that do not depend on z: what is done with them shows whatever z is.
    n, given = 5, 0
    logits = draw.mean(n, PIXELS)

    def decode(z: Tensor) -> Tensor:
        nonlocal given
        rows = torch.arange(given, given + z.reshape(-1, z.shape[-1]).shape[0]) % n
        given += len(rows)
        return logits[rows].reshape(*z.shape[:-1], PIXELS)

    pixels = tensor(function(decode, n, 3, _generator(draw))).reshape(-1)
    coins = bool(((pixels == 0) | (pixels == 1)).all())
    yield "what the pixels are", "zeros and ones" if coins else "numbers between"
    if not coins:
        yield "the probabilities, for the logits that decode gave", pixels


@sample_prior.aspect("prior")
def _(function: Function, draw: Draw) -> Facts:
    n, k = 4_000, 3
    latents: list[Tensor] = []

    def decode(z: Tensor) -> Tensor:
        latents.append(z)
        return z.new_zeros(*z.shape[:-1], PIXELS)

    function(decode, n, k, _generator(draw))
    z = _asked(latents).double()
    kinds = "all 0" if not z.any() else "all the same" if (z == z[0]).all() else "different ones"
    yield "the latents that decode was given", kinds
    if kinds != "different ones":
        return
    error = 6.5 / n**0.5
    zero, one = torch.zeros(z.shape[-1], dtype=z.dtype)[:k], torch.eye(k, dtype=z.dtype)
    yield "their mean", Near(z.mean(0), zero, error * torch.ones(()))
    products = z.mT @ z / len(z) if z.shape[-1] == k else z
    yield "the mean of z zᵀ", Near(products, one, error * (1 + one).sqrt())
    # 3 for a normal of any variance, 1.8 for a uniform one.
    kurtosis = (z.pow(4).mean() / z.square().mean() ** 2).reshape(1)
    tolerance = torch.tensor([error * (24 / k) ** 0.5])
    yield "the mean of z⁴ over that of z², squared", Near(kurtosis, 3 * one[:1, 0], tolerance)


@sample_prior.aspect("generator")
def _(function: Function, draw: Draw) -> Facts:
    weight = draw.mean(16, PIXELS)
    seed = draw.seed()

    def decode(z: Tensor) -> Tensor:
        return z @ weight[: z.shape[-1]].to(z.dtype)

    def sample(generator: torch.Generator) -> Tensor:
        return tensor(function(decode, 8, 3, generator)).detach().clone()

    generator = torch.Generator().manual_seed(seed)
    first, next_one = sample(generator), sample(generator)
    again = sample(torch.Generator().manual_seed(seed))
    other = sample(torch.Generator().manual_seed(seed + 1))
    yield "the samples for a seed, made twice", _compare(first, again)
    yield "the samples for two seeds", _compare(first, other)
    yield "two calls with one generator", _compare(first, next_one)


def _compare(a: Tensor, b: Tensor) -> str:
    return "the same" if torch.equal(a, b) else "different"


@sample_prior.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    for n, k in ((5, 3), (1, 2)):
        latents: list[Tensor] = []

        def decode(z: Tensor, latents: list[Tensor] = latents) -> Tensor:
            latents.append(z)
            return z.new_zeros(*z.shape[:-1], PIXELS)

        pixels = tensor(function(decode, n, k, _generator(draw)))
        yield f"the shape of {n} samples with {PIXELS} pixels", tuple(pixels.shape)
        yield f"the shape of z for {n} samples, {k} latents", tuple(_asked(latents).shape)


@sample_prior.mistake(
    "rand for randn",
    breaks="prior",
    hint="torch.rand is uniform on [0, 1]: all codes come from one corner of the latent space. "
    "The prior is N(0, I).",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.rand(n, latent_dim, generator=generator)))


@sample_prior.mistake(
    "uniform from −1 to 1",
    breaks="prior",
    hint="The codes fill a box, with a variance of ⅓. The prior is N(0, I), with a variance of 1.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(2 * torch.rand(n, latent_dim, generator=generator) - 1))


@sample_prior.mistake(
    "uniform with the right variance",
    breaks="prior",
    hint="Mean and variance are the prior's, but the codes fill a box: nothing lies beyond √3. "
    "The prior is normal.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    z = (2 * torch.rand(n, latent_dim, generator=generator) - 1) * 3**0.5
    return torch.sigmoid(decode(z))


@sample_prior.mistake(
    "the prior is narrowed",
    breaks="prior",
    hint="The standard deviation of z is ½. Samples near the mean look cleaner, and are no samples "
    "of P(X).",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(0.5 * torch.randn(n, latent_dim, generator=generator)))


@sample_prior.mistake(
    "one z for all",
    breaks="prior",
    hint="Every image is decoded from the same z, so that all of them are alike.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.randn(1, latent_dim, generator=generator).expand(n, -1)))


@sample_prior.mistake(
    "one number for all latent dimensions",
    breaks="prior",
    hint="The dimensions of z equal each other: all codes lie on one diagonal. They are "
    "independent in N(0, I).",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.randn(n, 1, generator=generator).expand(n, latent_dim)))


@sample_prior.mistake(
    "the mean of the prior",
    breaks="prior generator",
    hint="z is 0 every time: that is one image, the decoder's idea of an average. Draw z.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.zeros(n, latent_dim)))


@sample_prior.mistake(
    "no sigmoid",
    breaks="value",
    hint="These are logits, of any sign and size. Pixel probabilities lie between 0 and 1.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return decode(torch.randn(n, latent_dim, generator=generator))


@sample_prior.mistake(
    "the sigmoid twice",
    breaks="value",
    hint="All pixels lie between ½ and ¾: the images are grey. One sigmoid makes a probability of "
    "a logit; another makes nothing of a probability.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    logits = decode(torch.randn(n, latent_dim, generator=generator))
    return torch.sigmoid(torch.sigmoid(logits))


@sample_prior.mistake(
    "the logits are clamped",
    breaks="value",
    hint="Cut off at 0 and 1, a logit is still no probability.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return decode(torch.randn(n, latent_dim, generator=generator)).clamp(0, 1)


@sample_prior.mistake(
    "a softmax over the pixels",
    breaks="value",
    hint="The pixels of an image sum to 1. Each is a coin of its own: the inverse of the logit is "
    "the sigmoid.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return decode(torch.randn(n, latent_dim, generator=generator)).softmax(-1)


@sample_prior.mistake(
    "coins instead of probabilities",
    breaks="value",
    hint="Every pixel is 0 or 1: a draw from P(x|z). Asked for are its probabilities.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    logits = decode(torch.randn(n, latent_dim, generator=generator))
    return torch.bernoulli(torch.sigmoid(logits), generator=generator)


@sample_prior.mistake(
    "the generator is not used",
    breaks="generator",
    hint="The noise comes from PyTorch's global generator, so that nobody can have the same "
    "samples again. randn takes the generator as an argument.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.randn(n, latent_dim)))


@sample_prior.mistake(
    "the generator is seeded anew",
    breaks="generator",
    hint="A seed inside of the function gives the same samples in every call. "
    "Seeding is up to those who call it.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    own = torch.Generator().manual_seed(0)
    return torch.sigmoid(decode(torch.randn(n, latent_dim, generator=own)))


@sample_prior.mistake(
    "n and latent_dim are swapped",
    breaks="value prior shape",
    hint="decode is given (latent_dim, n). A row is an example, as everywhere.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.randn(latent_dim, n, generator=generator)))


@sample_prior.mistake(
    "one image only",
    breaks="value prior shape",
    hint="n images are asked for, each from a z of its own.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.randn(1, latent_dim, generator=generator)))


@sample_prior.mistake(
    "a single sample loses its dimension",
    breaks="shape",
    hint="For n = 1 a squeeze removes the dimension of the examples. (1, D) is asked for.",
)
def _(decode: Decode, n: int, latent_dim: int, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(decode(torch.randn(n, latent_dim, generator=generator))).squeeze()


# --- latent_grid ---------------------------------------------------------------------------------

latent_grid = Task("latent_grid", library.latent_grid, read=(CHAPTER, "The manifold"))


@latent_grid.aspect("quantiles")
def _(function: Function, draw: Draw) -> Facts:
    n = draw.integer(4, 9)
    numbers = tensor(function(n)).double().reshape(-1).sort().values
    yield "the numbers in a grid, sorted", numbers


@latent_grid.aspect("layout")
def _(function: Function, draw: Draw) -> Facts:
    # Ranks, 0 for the least: what the numbers are is not judged here.
    n = draw.integer(4, 9)
    grid = tensor(function(n)).double().reshape(n, n, 2)
    for i, name in enumerate("xy"):
        ranks = (grid[..., i] * 1e4).round().unique(return_inverse=True)[1]
        yield f"the order of {name}, from the least", ranks


@latent_grid.aspect("tail")
def _(function: Function, draw: Draw) -> Facts:
    tail = draw.uniform(0.08, 0.3).item()
    for name, size in (("a large tail", tail), ("a small tail", tail / 10)):
        grid = tensor(function(5, size)).double()
        yield f"the least and the greatest number for {name}", torch.stack(grid.aminmax())


@latent_grid.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    for name, n in (("small", draw.integer(3, 6)), ("larger", draw.integer(6, 9))):
        grid = tensor(function(n))
        yield f"the shape of a {name} grid", tuple(grid.shape)
        yield f"the dtype of a {name} grid", "float" if grid.is_floating_point() else "no float"


def _quantiles(n: int, tail: float) -> Tensor:
    quantiles: Tensor = torch.special.ndtri(torch.linspace(tail, 1 - tail, n))
    return quantiles


def _grid(x: Tensor, y: Tensor) -> Tensor:
    """grid[i, j] = (x[j], y[i])."""
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


@latent_grid.mistake(
    "equal steps instead of quantiles",
    breaks="quantiles",
    hint="The ends are right, and between them z is equally spaced: the rare codes at the rim "
    "get as many places as the common ones. Space the probabilities equally, not z.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = torch.linspace(-1, 1, n) * _quantiles(2, tail)[1]
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "from −3 to 3",
    breaks="quantiles tail",
    hint="The plane is cut into equal pieces of z, whatever tail says. Cut it into pieces of "
    "equal prior mass: quantiles.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = torch.linspace(-3, 3, n)
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "probabilities instead of their quantiles",
    breaks="quantiles tail",
    hint="All numbers lie between 0 and 1: they are probabilities. A quantile is the z below which "
    "so much of N(0, 1) lies.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    p = torch.linspace(tail, 1 - tail, n)
    return _grid(p, p.flip(0))


@latent_grid.mistake(
    "the outermost quantiles are infinite",
    breaks="quantiles tail",
    hint="The quantiles of 0 and 1 are −∞ and ∞. Start at tail, and end at 1 − tail.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, 0.0)
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "the middles of n equal parts",
    breaks="quantiles tail",
    hint="The quantiles of ½/n, 3/2n, …: equally spaced, but tail has no part in it. "
    "The first is that of tail, the last that of 1 − tail.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, 0.5 / n)
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "half of the tail at either end",
    breaks="quantiles tail",
    hint="tail is left out at *each* end, not tail/2.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail / 2)
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "erfinv without √2",
    breaks="quantiles tail",
    hint="All quantiles are too small by a factor of √2: the error function belongs to a normal "
    "with the variance ½.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = torch.erfinv(2 * torch.linspace(tail, 1 - tail, n) - 1)
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "the logit instead of the normal quantile",
    breaks="quantiles tail",
    hint="log p/(1 − p) is the quantile of the logistic distribution. The prior is N(0, 1).",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = torch.linspace(tail, 1 - tail, n).logit()
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "tail is not used",
    breaks="tail",
    hint="The grid is the same for every tail: the number in the signature is only its default.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, 0.05)
    return _grid(z, z.flip(0))


@latent_grid.mistake(
    "y grows downwards",
    breaks="layout",
    hint="Row 0 is drawn at the top, and there y is to be greatest: the picture is upside down "
    "against a plot of the codes.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail)
    return _grid(z, z)


@latent_grid.mistake(
    "x falls instead of y",
    breaks="layout",
    hint="x has to grow from left to right, and y has to fall from the top down.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail)
    return _grid(z.flip(0), z)


@latent_grid.mistake(
    "rows and columns are exchanged",
    breaks="layout",
    hint="x changes from row to row. In grid[i, j] the row i goes with y and the column j with x.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail)
    return _grid(z, z.flip(0)).transpose(0, 1)


@latent_grid.mistake(
    "rows and columns are exchanged, and y grows",
    breaks="layout",
    hint="This is meshgrid with indexing='ij' as it comes: x changes from row to row, and y grows. "
    "Rows go with y, which falls; columns with x.",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail)
    return _grid(z, z).transpose(0, 1)


@latent_grid.mistake(
    "(y, x) instead of (x, y)",
    breaks="layout",
    hint="The points are where they belong, but their coordinates come in the order (y, x).",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail)
    return _grid(z, z.flip(0)).flip(-1)


@latent_grid.mistake(
    "a list of points",
    breaks="shape",
    hint="The points are right, but in one list (n², 2). Keep rows and columns: (n, n, 2).",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail)
    return _grid(z, z.flip(0)).reshape(-1, 2)


@latent_grid.mistake(
    "the coordinates come first",
    breaks="layout shape",
    hint="This is (2, n, n). A point is to be one row of two numbers: (n, n, 2).",
)
def _(n: int, tail: float = 0.05) -> Tensor:
    z = _quantiles(n, tail)
    return _grid(z, z.flip(0)).permute(2, 0, 1)


# --- interpolate ---------------------------------------------------------------------------------

interpolate = Task("interpolate", library.interpolate, read=(CHAPTER, "Interpolation"))

LATENTS = 3


def _rows(points: Any) -> Tensor:
    """The points as rows; columns (K, steps) are judged by their shape alone."""
    rows = tensor(points)
    across = rows.dim() == 2 and len(rows) == LATENTS != rows.shape[1]
    return rows.mT if across else rows.reshape(-1, LATENTS)


def _two(draw: Draw) -> dict[str, Tensor]:
    """Start and end, which differ in every coordinate; no coordinate is the other's multiple."""
    start = draw.mean(LATENTS)
    return {
        "z_start": start,
        "z_end": start + draw.uniform(0.7, 2.2, LATENTS) * draw.sign(LATENTS),
    }


@interpolate.aspect("ends")
def _(function: Function, draw: Draw) -> Facts:
    points = _rows(function(*_two(draw).values(), draw.integer(5, 9)))
    yield "the first point", points[0]
    yield "the last point", points[-1]


@interpolate.aspect("line")
def _(function: Function, draw: Draw) -> Facts:
    # Relative to the way that the points themselves go: where they start is not judged here.
    points = _rows(function(*_two(draw).values(), draw.integer(5, 9)))
    way = (points[1:] - points[:-1]) / (points[-1] - points[0])
    yield "the steps, in units of the mean one", (way * (len(points) - 1))[:4]


@interpolate.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    # The two shares of a point, 1 − t and t, sum to 1 wherever it lies.
    arrived = gradients(lambda *ends: _rows(function(*ends, 5)).mean(0), **_two(draw))
    (_, first), (_, second) = arrived
    yield "the gradients in z_start and z_end, added up", first + second


@interpolate.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    for count, steps in (("two", 2), ("more", draw.integer(5, 9))):
        for name, value in form(_with_steps(function, steps), **_two(draw)):
            yield f"{name}, {count} steps", value


def _with_steps(function: Function, steps: int) -> Function:
    return lambda z_start, z_end: function(z_start, z_end, steps)


def _between(z_start: Tensor, z_end: Tensor, t: Tensor) -> Tensor:
    return z_start + t.to(z_start.dtype)[:, None] * (z_end - z_start)


@interpolate.mistake(
    "the end is missing",
    breaks="ends",
    hint="The last point falls one step short of z_end: t goes up to 1 − 1/steps. "
    "Between n points lie n − 1 steps.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.arange(steps) / steps)


@interpolate.mistake(
    "the start is missing",
    breaks="ends",
    hint="The first point is one step after z_start. Both ends belong to the line.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.arange(1, steps + 1) / steps)


@interpolate.mistake(
    "both ends are missing",
    breaks="ends",
    hint="Only points between the two come back. z_start and z_end are among the steps.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.arange(1, steps + 1) / (steps + 1))


@interpolate.mistake(
    "from the end to the start",
    breaks="ends",
    hint="The line is walked backwards: the first row is z_end.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_end, z_start, torch.linspace(0, 1, steps))


@interpolate.mistake(
    "z_end is taken for the direction",
    breaks="ends gradient",
    hint="z_start + t z_end ends at z_start + z_end. The way to go is what the two differ by.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_start + z_end, torch.linspace(0, 1, steps))


@interpolate.mistake(
    "the direction has the wrong sign",
    breaks="ends",
    hint="This walks away from z_end: it ends at 2 z_start − z_end.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, 2 * z_start - z_end, torch.linspace(0, 1, steps))


@interpolate.mistake(
    "only the end is weighted",
    breaks="ends gradient",
    hint="t z_end starts at the origin. The start's share is 1 − t.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(0 * z_start, z_end, torch.linspace(0, 1, steps))


@interpolate.mistake(
    "the steps are not equal",
    breaks="line",
    hint="The points lie on the line and crowd at one end: t has to grow evenly.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.linspace(0, 1, steps) ** 2)


@interpolate.mistake(
    "slow at both ends",
    breaks="line",
    hint="The points lie on the line and crowd at both ends, as on half a circle or with a smooth "
    "step. t has to grow evenly.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps)
    return _between(z_start, z_end, t * t * (3 - 2 * t))


@interpolate.mistake(
    "an arc",
    breaks="line gradient",
    hint="This turns on a great arc, as interpolate_spherical does. Asked for is a straight line.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps).to(z_start.dtype)[:, None]
    angle = torch.arccos((z_start * z_end).sum() / (z_start.norm() * z_end.norm()))
    shares = torch.sin((1 - t) * angle) * z_start + torch.sin(t * angle) * z_end
    return shares / torch.sin(angle)


@interpolate.mistake(
    "one point too many",
    breaks="shape",
    hint="steps counts the points, both ends among them; here it counts what lies between them.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.linspace(0, 1, steps + 1))


@interpolate.mistake(
    "both ends come on top",
    breaks="shape",
    hint="There are steps points between the two ends. The ends are to be among the steps.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.linspace(0, 1, steps + 2))


@interpolate.mistake(
    "the points are columns",
    breaks="shape",
    hint="This is (K, steps). A row is a point, so that decode can take them: (steps, K).",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.linspace(0, 1, steps)).mT


@interpolate.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.linspace(0, 1, steps)).float()


@interpolate.mistake(
    "an input is changed",
    breaks="shape",
    hint="z_end is turned into the direction in place, and is lost to those who gave it.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps).to(z_start.dtype)[:, None]
    return z_start + t * z_end.sub_(z_start)


@interpolate.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The points are right, and no gradient comes back to the ends: a detach, numpy, tolist "
    "or item() on the way.",
)
def _(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    return _between(z_start, z_end, torch.linspace(0, 1, steps)).detach()


# --- importance_weighted_bound -------------------------------------------------------------------

importance_weighted_bound = Task(
    "importance_weighted_bound",
    vaelib.elbo.importance_weighted_bound,
    read=("The evidence lower bound", "More samples, a tighter bound"),
)


def _log_weights(draw: Draw) -> Tensor:
    """(S, N) = (4, 3), negative, rows and columns that differ."""
    return -5 + draw.mean(4, 3) + draw.uniform(-1, 1, 3)


@importance_weighted_bound.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    yield "the bound of each example", tensor(function(_log_weights(draw))).reshape(-1)


@importance_weighted_bound.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, log_w=_log_weights(draw))


@importance_weighted_bound.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    yield from gradients(function, draw.uniform(0.5, 1.5, 3), log_w=_log_weights(draw))


@importance_weighted_bound.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    # e^−800 is 0 and e^800 is ∞ in float64 too; two examples may be as far apart.
    log_w = draw.mean(4, 2)
    for name, low, high in (
        ("near −800", -820.0, -780.0),
        ("near 800", 780.0, 820.0),
        ("near −1200 and near 800", -1200.0, 800.0),
    ):
        far = torch.tensor([low, high], dtype=log_w.dtype)
        size = [tensor(function(log_w + factor * far)).sum() for factor in (1, 2)]
        yield f"the bound for log-weights {name}, and doubled", Rough(size[1] / size[0], 1.3)


@importance_weighted_bound.mistake(
    "− log S is missing",
    breaks="value",
    hint="This is the log of the *sum* of the weights, too large by log S. No gradient shows it, "
    "but it is no lower bound, and it grows with S for ever.",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0)


@importance_weighted_bound.mistake(
    "+ log S",
    breaks="value",
    hint="The number of samples is added. Dividing the sum by S takes log S away.",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0) + math.log(len(log_w))


@importance_weighted_bound.mistake(
    "− S instead of − log S",
    breaks="value",
    hint="Dividing by S inside of the logarithm takes away log S outside of it, not S.",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0) - len(log_w)


@importance_weighted_bound.mistake(
    "− log N instead of − log S",
    breaks="value",
    hint="The number of examples is divided by. The mean is over the samples: log_w is (S, N).",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[1])


@importance_weighted_bound.mistake(
    "divided by S after the logarithm",
    breaks="value gradient",
    hint="The log of the sum is divided by S. The mean is taken before the logarithm.",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0) / len(log_w)


@importance_weighted_bound.mistake(
    "the mean of the logarithms",
    breaks="value gradient",
    hint="This is an ELBO with S samples: no tighter than with one. Average the weights first, "
    "and take the logarithm then.",
)
def _(log_w: Tensor) -> Tensor:
    return log_w.mean(0)


@importance_weighted_bound.mistake(
    "the largest weight only",
    breaks="value gradient",
    hint="The maximum is a part of the way that avoids overflow, not the whole of it.",
)
def _(log_w: Tensor) -> Tensor:
    return log_w.amax(0)


@importance_weighted_bound.mistake(
    "log-weights averaged with their own weights",
    breaks="value gradient",
    hint="Σ softmax(log w) log w is an average of logarithms. Asked for is the log of an average.",
)
def _(log_w: Tensor) -> Tensor:
    return (log_w.softmax(0) * log_w).sum(0)


@importance_weighted_bound.mistake(
    "a softmax over losses",
    breaks="value gradient",
    hint="With the weights of −log w the worst samples count most.",
)
def _(log_w: Tensor) -> Tensor:
    return ((-log_w).softmax(0) * log_w).sum(0)


@importance_weighted_bound.mistake(
    "the sign is wrong",
    breaks="value gradient",
    hint="This is minus the bound, a loss. Asked for is the bound.",
)
def _(log_w: Tensor) -> Tensor:
    return math.log(len(log_w)) - torch.logsumexp(log_w, 0)


@importance_weighted_bound.mistake(
    "the mean over the examples",
    breaks="value shape gradient",
    hint="The weights of different examples are averaged. Samples are dimension 0 of (S, N).",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


@importance_weighted_bound.mistake(
    "the mean over everything",
    breaks="value shape gradient",
    hint="One number came back. Each example has a bound of its own: (S, N) in, (N,) out.",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w.flatten(), 0) - math.log(log_w.numel())


@importance_weighted_bound.mistake(
    "the bounds are averaged over the batch",
    breaks="value shape gradient",
    hint="Each bound is right, and then their mean is taken. One value per example is asked for.",
)
def _(log_w: Tensor) -> Tensor:
    return (torch.logsumexp(log_w, 0) - math.log(len(log_w))).mean()


@importance_weighted_bound.mistake(
    "the mean weight without the logarithm",
    breaks="value gradient numerics",
    hint="This estimates P(X) itself, which is 0 to the computer for any image. Its log is asked "
    "for.",
)
def _(log_w: Tensor) -> Tensor:
    return log_w.exp().mean(0)


@importance_weighted_bound.mistake(
    "underflow",
    breaks="numerics",
    hint="Right for small log-weights. Those of an image are about −100, and of larger images "
    "−1000: exp makes 0 of them, and the logarithm −∞. Keep the logarithms.",
)
def _(log_w: Tensor) -> Tensor:
    return log_w.exp().mean(0).log()


@importance_weighted_bound.mistake(
    "a small number is added in the logarithm",
    breaks="value gradient numerics",
    hint="It hides −∞, and gives the same bound to all that underflows. Keep the logarithms.",
)
def _(log_w: Tensor) -> Tensor:
    return (log_w.exp().mean(0) + 1e-4).log()


@importance_weighted_bound.mistake(
    "the largest of all examples is taken out",
    breaks="numerics",
    hint="One maximum for the whole batch: an example that is far below it underflows. "
    "Each example needs its own.",
)
def _(log_w: Tensor) -> Tensor:
    largest = log_w.max()
    return (log_w - largest).exp().mean(0).log() + largest


@importance_weighted_bound.mistake(
    "the maximum is not put back",
    breaks="value gradient numerics",
    hint="The largest log-weight was subtracted to avoid overflow, and never added again.",
)
def _(log_w: Tensor) -> Tensor:
    return (log_w - log_w.amax(0)).exp().mean(0).log()


@importance_weighted_bound.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right and stand in a row (1, N), where a vector (N,) is asked for.",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0, keepdim=True) - math.log(len(log_w))


@importance_weighted_bound.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(log_w: Tensor) -> Tensor:
    return (torch.logsumexp(log_w, 0) - math.log(len(log_w))).float()


@importance_weighted_bound.mistake(
    "an input is changed",
    breaks="shape",
    hint="log_w is shifted in place: the next one to use it gets other weights.",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w.sub_(math.log(len(log_w))), 0)


@importance_weighted_bound.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, .data, no_grad, numpy or "
    "item() on the way. No model could be trained on this bound.",
)
def _(log_w: Tensor) -> Tensor:
    return (torch.logsumexp(log_w, 0) - math.log(len(log_w))).detach()
