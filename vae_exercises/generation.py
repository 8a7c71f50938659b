"""6-generation: what is checked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Normal

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.errors import WrongResult, described
from vae_exercises.facts import Near, Rough
from vae_exercises.observe import Function, Observed, finite, form, gradients, moments, tensor

Decode = Callable[[Tensor], Tensor]

_assignment = Assignment("6-generation", ("generation", "Generation"))

__all__ = [
    "importance_weighted_bound",
    "interpolate",
    "latent_grid",
    "sample_prior",
]

# --- sample_prior --------------------------------------------------------------------------------


@_assignment.task(
    "Drop the encoder",
    hint="Draw z with `torch.randn`, one row for each image, and hand it the generator by name. "
    "Then decode z, and turn each logit into a probability with the sigmoid.",
)
def sample_prior(decode: Decode, n: int, latent_dim: int, generator: Generator) -> Tensor:
    z = torch.randn(n, latent_dim, generator=generator)
    return torch.sigmoid(decode(z))


IMAGES = [(6, 3, 8), (4, 1, 5), (1, 3, 4), (3, 2, 1)]  # (n, latent_dim, D)


class _Decoder(nn.Module):
    """Answers latents with one row of `logits` after the other, whatever the latents are.

    Arguments:
        logits: (rows, D).
        slope: by how much the latents move the logits, each pixel in another direction.
    """

    def __init__(self, logits: Tensor, slope: float = 0.0) -> None:
        super().__init__()
        self.logits: Tensor
        self.register_buffer("logits", logits)
        self.given = 0
        self.slope = nn.Parameter(logits.new_tensor(slope))
        self.latents: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        asked = z.detach().clone().reshape(-1, z.shape[-1])
        self.latents.append(asked)
        rows = torch.arange(self.given, self.given + len(asked)) % len(self.logits)
        self.given += len(asked)
        phase = 50 * z.sum(-1, keepdim=True) + torch.arange(self.logits.shape[1])
        moved = self.slope * phase.sin().to(self.slope.dtype)
        return self.logits[rows].reshape(*z.shape[:-1], -1) + moved

    def asked(self) -> Tensor:
        """All latents so far, be it that they came at once or row by row."""
        return torch.cat(self.latents) if self.latents else torch.zeros(0, 0)


def _generator(draw: Draw) -> Generator:
    return Generator().manual_seed(draw.seed())


@sample_prior.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for (n, k, d), scale in zip([*IMAGES, IMAGES[0]], (1, 1, 1, 1, 10), strict=True):
        logits = scale * draw.mean(n, d)
        pixels = tensor(function(_Decoder(logits), n, k, _generator(draw))).reshape(-1)
        if (n, k, d) == IMAGES[0] and scale == 1:
            kind = _kind(pixels, logits)
            yield "what the pixels are", kind
            if kind != "more than zeros and ones":
                return
        size = "far from 0, " * (scale > 1) + f"{n} images of {d} pixels"
        yield f"the probabilities for given logits, {size}", pixels


def _kind(pixels: Tensor, logits: Tensor) -> str:
    if not ((pixels == 0) | (pixels == 1)).all():
        return "more than zeros and ones"
    by_sign = torch.equal(pixels, (logits.ravel() > 0).to(pixels.dtype))
    return "zeros and ones" + ", by the sign of the logits" * by_sign


@sample_prior.aspect("prior", points=2)
def _(function: Function, draw: Draw) -> Observed:
    n, k = 5_000, 3
    decoder = _Decoder(draw.mean(1, 2))
    function(decoder, n, k, _generator(draw))
    z = decoder.asked().double()
    yield "the shape of all latents that decode was given", tuple(z.shape)
    if z.shape[-1] != k:
        return
    different = len(z.unique(dim=0))
    yield "how many of them are different", different
    if different == 1:
        yield "each of them", "0" if not z.any() else "the same"
        return
    mean, products, kurtosis = moments(z, n)
    yield "their mean", mean
    yield "the mean of z zᵀ", products
    following = (z[1:] * z[:-1]).mean(0)
    yield "the mean of a latent times the next", Near(following, mean.exact, mean.tolerance)
    yield "the mean of z⁴ over that of z², squared", kurtosis
    low, high = z.aminmax()
    middle = (z - (low + high) / 2).abs() < (high - low) / 4  # 50 % if uniform, 94 % if normal
    even = abs(middle.double().mean() - 0.5) < 0.06
    yield "how they fill the range from the least to the greatest", "evenly" if even else "unevenly"
    # The least two numbers of 15,000 normal ones are equal by chance, three are not.
    often = max(int((z == low).sum()), int((z == high).sum()))
    yield "how often the least or the greatest number occurs", "often" if often > 2 else "rarely"
    length = z.norm(dim=1)
    yield "the lengths of the latents", "equal" if length.std() < 1e-3 * length.mean() else "differ"


@sample_prior.aspect("generator", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for n, k in ((8, 3), (1, 1)):
        logits, seed = draw.uniform(0.2, 0.8, 1, 20), draw.seed()

        def sample(generator: Generator, n: int = n, k: int = k, logits: Tensor = logits) -> Tensor:
            pixels = function(_Decoder(logits, slope=1.0), n, k, generator)
            return tensor(pixels).detach().clone()

        generator = Generator().manual_seed(seed)
        first, following, third = (sample(generator) for _ in range(3))
        again = sample(Generator().manual_seed(seed))
        other = sample(Generator().manual_seed(seed + 1))
        yield f"the images for a seed, made twice, n = {n}", _compared(first, again)
        if n > 1:  # two numbers may be the same where they are rounded
            yield "the images for two seeds", _compared(first, other)
            yield "the images of two calls with one generator", _compared(first, following)
            yield "the images of the next two calls", _compared(following, third)


def _compared(a: Tensor, b: Tensor) -> str:
    return "the same" if torch.equal(a, b) else "different"


@sample_prior.aspect("shape", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for dtype in (torch.float32, torch.float64):
        for n, k, d in IMAGES:
            decoder = _Decoder(draw.mean(n, d).to(dtype))
            pixels = tensor(function(decoder, n, k, _generator(draw)))
            name = str(dtype).removeprefix("torch.")
            size = f"{n} images of {d} pixels, {name} logits"
            yield f"the shape of the result, {size}", tuple(pixels.shape)
            yield f"its dtype, {size}", str(pixels.dtype).removeprefix("torch.")
            yield f"the shape of z, {k} latent dimensions, {size}", tuple(decoder.asked().shape)
            yield f"the dtype of the decoder afterwards, {size}", str(decoder.slope.dtype)


# --- latent_grid ---------------------------------------------------------------------------------


@_assignment.task(
    "The manifold",
    hint="Three steps: n equally spaced probabilities from tail to 1 − tail; their quantiles by "
    "`Normal(0, 1).icdf`; and `torch.meshgrid` of these and of these in reverse order.",
)
def latent_grid(n: int, tail: float = 0.05) -> Tensor:
    p = torch.linspace(tail, 1 - tail, n)
    x = Normal(0.0, 1.0).icdf(p)
    y = x.flip(0)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _sizes(draw: Draw) -> list[int]:
    """Points per side: the fewest, even and odd numbers, and some at which rounding adds a step."""
    half = draw.integer(2, 5)
    return sorted({2, 6, 7, 2 * half, 2 * half + 1, 21})


def _grid(grid: Any, n: int) -> Tensor:
    """A grid of n by n points, also where it came as a list."""
    if tensor(grid).numel() != 2 * n * n:
        raise WrongResult(described(grid, f"{(n, n, 2)}"))
    return tensor(grid).double().reshape(n, n, 2)


@latent_grid.aspect("quantiles", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for n in _sizes(draw):
        yield f"the numbers in a grid, n = {n}, sorted", _grid(function(n), n).ravel().sort().values


@latent_grid.aspect("layout", points=2)
def _(function: Function, draw: Draw) -> Observed:
    # Ranks, 0 for the least: what the numbers are is not judged here.
    for n in _sizes(draw):
        grid = (_grid(function(n), n) * 1e4).round()
        for i, name in enumerate("xy"):
            ranks = grid[..., i].unique(return_inverse=True)[1]
            yield f"the order of {name}, from the least, n = {n}", ranks


@latent_grid.aspect("tail", points=1)
def _(function: Function, draw: Draw) -> Observed:
    tail = draw.uniform(0.08, 0.3).item()
    for name, size in (("a large tail", tail), ("a small tail", tail / 200)):
        for n in (2, 4, 5):
            extremes = torch.stack(tensor(function(n, size)).double().aminmax())
            yield f"the least and the greatest number for {name}, n = {n}", extremes


@latent_grid.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for n in _sizes(draw):
        grid = tensor(function(n, 0.1))
        yield f"the shape of a grid, n = {n}", tuple(grid.shape)
        kind = "floating point" if grid.is_floating_point() else str(grid.dtype)
        yield f"the dtype of a grid, n = {n}", kind


# --- interpolate ---------------------------------------------------------------------------------


@_assignment.task(
    "Interpolation",
    hint="Make t as a column, (steps, 1), from 0 to 1 in the dtype of z_start. Then write the "
    "formula as it stands: broadcasting makes (steps, K) of it.",
)
def interpolate(z_start: Tensor, z_end: Tensor, steps: int) -> Tensor:
    t = torch.linspace(0, 1, steps, dtype=z_start.dtype)[:, None]
    return (1 - t) * z_start + t * z_end


WALKS = [(3, 7, 1.0), (4, 2, 1.0), (2, 5, 10.0), (4, 3, 0.1)]  # K, steps, scale


def _rows(points: Any, k: int) -> Tensor:
    """The points as rows; columns (K, steps) are judged by their shape alone."""
    rows = tensor(points)
    if rows.numel() < k or rows.numel() % k:
        raise WrongResult(described(rows, f"(steps, K) with K = {k}"))
    across = rows.dim() == 2 and len(rows) == k != rows.shape[1]
    return rows.mT if across else rows.reshape(-1, k)


def _two(draw: Draw, k: int, scale: float = 1.0) -> dict[str, Tensor]:
    """Start and end, which differ in every coordinate; no coordinate is the other's multiple."""
    start = draw.mean(k)
    end = start + draw.uniform(0.7, 2.2, k) * draw.sign(k)
    return {"z_start": scale * start, "z_end": scale * end}


@interpolate.aspect("ends", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for k, steps, scale in WALKS:
        points = _rows(function(*_two(draw, k, scale).values(), steps), k)
        yield f"the first of {steps} points", points[0]
        yield f"the last of {steps} points", points[-1]


@interpolate.aspect("line", points=2)
def _(function: Function, draw: Draw) -> Observed:
    # Relative to the way that the points themselves go: where they start is not judged here.
    for k, steps, scale in WALKS:
        points = _rows(function(*_two(draw, k, scale).values(), steps), k)
        way = (points[1:] - points[:-1]) / (points[-1] - points[0]) * (len(points) - 1)
        yield f"the distances between {steps} points, divided by their mean", way[: steps - 1]


@interpolate.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # The gradient of the points that come back, be they right or not: a step of an end moves
    # them by as much as it says.
    for k, steps in ((3, 5), (1, 4)):
        ends, move = _two(draw, k), draw.uniform(0.5, 1.5, k)

        def walk(z_start: Tensor, z_end: Tensor, steps: int = steps) -> Any:
            return function(z_start, z_end, steps)

        def total(ends: dict[str, Tensor], walk: Function = walk) -> Tensor:
            points = tensor(walk(*(end.clone() for end in ends.values()))).ravel()
            return points @ torch.arange(1, len(points) + 1, dtype=points.dtype)

        before = total(ends)
        for (name, gradient), end in zip(gradients(walk, **ends), ends, strict=True):
            moved = total(ends | {end: ends[end] + move}) - before
            arrived = (gradient * move).sum()
            fits = torch.isclose(arrived, moved.to(arrived.dtype), 1e-3, 1e-3)
            kind = "that of the points" if fits else "another than that of the points"
            yield f"{name}, K = {k}", kind if gradient.any() else "none"


@interpolate.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for k, steps in ((3, 7), (3, 2), (1, 4), (2, 10), (2, 12), (2, 200)):

        def walk(z_start: Tensor, z_end: Tensor, steps: int = steps) -> Any:
            return function(z_start, z_end, steps)

        for name, value in form(walk, _two(draw, k)):
            yield f"{name}, {steps} steps", value


# --- importance_weighted_bound -------------------------------------------------------------------


@_assignment.task(
    "More samples, a tighter bound",
    hint="Dividing the sum by S takes log S away from its logarithm. For the logarithm of the sum "
    "use `torch.logsumexp` over dimension 0, or take the largest log-weight of each example out.",
    chapter=("elbo", "The evidence lower bound"),
)
def importance_weighted_bound(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


# S, N, what is added, scale: bounds of both signs; of 12 samples, the log of a sum above 0 and
# that of its mean below.
WEIGHTS = [(4, 3, -5, 1.0), (1, 3, 4, 1), (12, 1, -1.35, 0.2), (2, 6, 3, 1), (3, 4, 0, 3)]


def _log_weights(draw: Draw, s: int, n: int, add: float = -5, scale: float = 1) -> Tensor:
    """(S, N), rows and columns that differ."""
    return add + scale * draw.mean(s, n) + draw.uniform(-1, 1, n)


@importance_weighted_bound.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size in WEIGHTS:
        bound = tensor(function(_log_weights(draw, *size))).reshape(-1)
        yield f"the bound of each example, (S, N) = {size[:2]}", bound


@importance_weighted_bound.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    sizes = [*(size[:2] for size in WEIGHTS), (1, 1)]
    yield from form(function, *({"log_w": _log_weights(draw, *size)} for size in sizes))


@importance_weighted_bound.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for size in WEIGHTS:
        weights = draw.uniform(0.5, 1.5, size[1])
        for name, value in gradients(function, weights, log_w=_log_weights(draw, *size)):
            yield f"{name}, (S, N) = {size[:2]}", value


@importance_weighted_bound.aspect("numerics", points=2)
def _(function: Function, draw: Draw) -> Observed:
    # e^−800 is 0 and e^800 is ∞ in float64 too; two examples may be as far apart, or the samples
    # of one. Where one sample is lower than the three others by 1000, their mean is by 250.
    high, low = [500.0, 500.0], [-500.0, -500.0]
    far = {
        "near −800": 4 * [[-820.0, -780.0]],
        "near 800": 4 * [[780.0, 820.0]],
        "near −1200 and near 800": 4 * [[-1200.0, 800.0]],
        "of one sample, near −1200 and near 800,": [[-1200.0, 800.0]],
        "with the first sample far above the others": [high, low, low, low],
        "with the last sample far above the others": [low, low, low, high],
        "with the first sample far below the others": [low, high, high, high],
        "of two samples far apart": [[-500.0, -500.0], [700.0, 700.0]],
    }
    for name, rows in far.items():
        where = torch.tensor(rows, dtype=draw.dtype)
        log_w = draw.mean(*where.shape)
        size = [(tensor(function(log_w + f * where)) / 1000).sum() for f in (1, 2)]
        growth = Rough(size[1] / size[0], 1.3)
        yield f"the growth of the bound when log-weights {name} are doubled", growth
        if name in ("near −800", "near 800"):
            found: Any = None  # that no gradient can be taken is told by "gradient"
            with contextlib.suppress(RuntimeError):
                found = dict(gradients(function, log_w=log_w + where)).get("the gradient in log_w")
            kind = finite(found) if isinstance(found, Tensor) else "finite"
            yield f"the gradient for log-weights {name}", kind
