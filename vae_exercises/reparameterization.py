"""4-reparameterization: what is checked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.errors import WrongResult, described
from vae_exercises.facts import Clue, Near
from vae_exercises.observe import Function, Observed, form, gradients, tensor

_assignment = Assignment("4-reparameterization", ("reparameterization", "Reparameterization"))

__all__ = [
    "pathwise_gradient",
    "reparameterize",
    "sample_gaussian",
    "score_function_gradient",
]

SIZES = [(5, 3), (4, 1), (1, 3)]  # (N, K)


def _called(function: Function, inputs: tuple[Any, ...], seed: int = 1) -> Any:
    """What comes back for copies of the inputs, with torch's random numbers from a seed."""
    torch.default_generator.manual_seed(seed)
    return function(*(x.clone() if isinstance(x, Tensor) else x for x in inputs))


def _far(draw: Draw, *shape: int) -> Tensor:
    """Numbers that show a clamp: in ±[5.5, 9]."""
    return draw.uniform(5.5, 9, *shape) * draw.sign(*shape)


def _noise(function: Function, *inputs: Any) -> str:
    """Where the noise in a result comes from; eps is the last of the inputs."""

    def same(seed: int, eps: Tensor = inputs[-1]) -> bool:
        other = _numbers(_called(function, (*inputs[:-1], eps), seed))
        return first.shape == other.shape and torch.allclose(first, other, equal_nan=True)

    first = _numbers(_called(function, inputs))
    if same(2):
        return "eps"
    if not same(1):
        return "another in each call"
    return "drawn anew by your function" + ("" if same(1, -inputs[-1]) else ", besides eps")


def _numbers(result: Any) -> Tensor:
    """All numbers of a result, in whatever form they come."""
    parts = []
    for part in result if isinstance(result, tuple | list) else [result]:
        if part is None and part is not result:
            raise WrongResult("None stands in what came back: no gradient arrived there")
        if not isinstance(part, Tensor | float | int | np.ndarray | np.generic):
            raise WrongResult(described(part))
        parts.append(torch.as_tensor(part).detach().reshape(-1))
    return torch.cat(parts)


def _size(samples: Any, exact: float) -> str:
    """How large samples are, beside what is right."""
    size, right = float(tensor(samples).abs().mean()), f"{exact:.2g}"
    if not math.isfinite(size) or size == 0:
        return "NaN" if math.isnan(size) else "∞" if size else "0"
    if exact / 10 < size < exact * 10:
        return f"about {right}"
    return f"far {'more' if size > exact else 'less'} than {right}"


# --- reparameterize ------------------------------------------------------------------------------


@_assignment.task(
    "Move the noise out",
    hint="Make σ out of logvar: the exponential of half of it. Then stretch eps by σ, and add mu.",
)
def reparameterize(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    sigma = (0.5 * logvar).exp()
    return mu + sigma * eps


def _encoded(draw: Draw, n: int, k: int) -> dict[str, Tensor]:
    return {"mu": draw.mean(n, k), "logvar": draw.logvar(n, k), "eps": draw.normal(n, k)}


@reparameterize.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    inputs = tuple(_encoded(draw, 5, 3).values())
    noise = _noise(function, *inputs)
    yield "the noise in your samples", noise
    if noise != "eps":
        mu, sigma = inputs[0], (0.5 * inputs[1]).exp()
        u = torch.stack([(tensor(_called(function, inputs, s)) - mu) / sigma for s in range(20)])
        inside = bool(((u >= 0) & (u <= 1)).all())
        yield "the samples lie", "between μ and μ + σ" if inside else "elsewhere, too"
        return
    for n, k in SIZES:
        z = tensor(function(*_encoded(draw, n, k).values()))
        yield f"your samples, inputs {n, k}", z.reshape(-1)
    logvar = draw.uniform(3.4, 4.6, 3, 2) * draw.logvar(3, 2).sign()
    far = 30 * draw.mean(3, 2), logvar, _far(draw, 3, 2)
    yield "your samples, far from 0", tensor(_called(function, far)).reshape(-1)
    z = tensor(_called(function, (1e5 * far[0], *far[1:])))
    yield "your samples, farther still", z.reshape(-1) / 1e5


@reparameterize.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_encoded(draw, n, k) for n, k in SIZES))


@reparameterize.aspect("gradient", points=2)
def _(function: Function, draw: Draw) -> Observed:
    # Beside the sample's own distance from μ: so that wrong noise loses the value alone.
    for n, k in SIZES:
        weights = draw.uniform(0.5, 1.5, n * k)
        mu, logvar, eps = _encoded(draw, n, k).values()
        samples: list[Tensor] = []

        def sample(
            mu: Tensor, logvar: Tensor, eps: Tensor = eps, samples: list[Tensor] = samples
        ) -> Tensor:
            samples.append(tensor(function(mu, logvar, eps.clone())))
            return samples[0]

        found = dict(gradients(sample, weights, mu=mu, logvar=logvar))
        if len(found) == 1:  # of another size
            yield f"how many numbers come back for {n, k}", samples[0].numel()
            return
        yield f"the gradient in mu, inputs {n, k}", found["the gradient in mu"]
        moved = weights.view_as(mu) * (samples[0].detach().reshape(mu.shape) - mu)
        name = f"the gradient in logvar, divided by z − μ, inputs {n, k}"
        yield name, found["the gradient in logvar"] / moved


@reparameterize.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # exp(96) is ∞ in float32 and exp(−112) is 0; neither holds for the standard deviation.
    eps = draw.normal(8, 5).float()
    for value in (-112, 96):
        logvar = torch.full_like(eps, value)
        size = _size(_called(function, (0 * eps, logvar, eps)), 0.8 * math.exp(value / 2))
        yield f"the size of your samples at logvar {value}".replace("-", "−"), size
        yield f"the gradient at {value}", Clue(_arrival(function, eps, logvar))


def _arrival(function: Function, eps: Tensor, logvar: Tensor) -> str:
    with contextlib.suppress(Exception):
        leaf = logvar.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(0 * eps, leaf * 1, eps.clone()).sum(), leaf)
        return "arrives" if gradient.any() else "does not arrive"
    return "does not arrive"


# --- sample_gaussian -----------------------------------------------------------------------------


@_assignment.task(
    "A full covariance",
    hint="torch.linalg.cholesky gives L, of one matrix or of many. Multiply it by each row of eps "
    "as a column, (N, K, 1), and take that last dimension away again: squeeze(-1). Then add mu.",
)
def sample_gaussian(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    factor: Tensor = torch.linalg.cholesky(covariance)
    return mu + (factor @ eps.unsqueeze(-1)).squeeze(-1)


def _root(draw: Draw, *shape: int) -> Tensor:
    """A square matrix R, such that RRᵀ has entries of both signs."""
    root = draw.normal(*shape)
    if shape[-1] > 1:
        first = (root[..., 0, :] * root[..., 1, :]).sum(-1, keepdim=True)
        root[..., 0, :] *= -first.sign()
    return root


def _covariance(root: Tensor) -> Tensor:
    """RRᵀ + 0.3 I."""
    return root @ root.mT + 0.3 * torch.eye(root.shape[-1], dtype=root.dtype)


def _correlated(draw: Draw, n: int, k: int, *batch: int) -> dict[str, Tensor]:
    """Inputs. Where N = K no covariance is negative, so that roots of entries are numbers."""
    shape = (*batch, k, k)
    root = draw.uniform(0.2, 0.9, *shape) if n == k else _root(draw, *shape)
    covariance = _covariance(root)
    return {"mu": draw.mean(n, k), "covariance": covariance, "eps": draw.normal(n, k)}


@sample_gaussian.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    inputs = _correlated(draw, 5, 3)
    noise = _noise(function, *inputs.values())
    yield "the noise in your samples", noise
    if noise != "eps":
        return
    root = _root_of(function, inputs["covariance"])
    yield "the matrix that moves ε", root
    if root == "another root of Σ":
        return
    for n, k in [(5, 3), (4, 2), (1, 3), (3, 3), (4, 1)]:
        inputs = _correlated(draw, n, k)
        yield f"your samples, N, K = {n, k}", tensor(function(*inputs.values())).reshape(-1)
    inputs = _correlated(draw, 4, 3)
    scales = draw.uniform(0.5, 1, 3) * torch.tensor([1, 8, 60], dtype=draw.dtype)
    covariance = scales[:, None] * inputs["covariance"] * scales
    far = 30 * inputs["mu"], covariance, _far(draw, 4, 3)
    yield "your samples, with variances of many sizes", tensor(function(*far)).reshape(-1)


def _root_of(function: Function, covariance: Tensor) -> str:
    """What kind of a matrix the noise is multiplied by: where it takes unit vectors."""
    k = covariance.shape[-1]
    eps = torch.eye(k + 1, k, dtype=covariance.dtype)
    moved = tensor(_called(function, (0 * eps, covariance, eps))).detach().to(eps.dtype)
    if moved.numel() != eps.numel():
        return "no root of Σ"
    root = moved.reshape(eps.shape)[:k].mT
    if not torch.allclose(root @ root.mT, covariance, 1e-3, 1e-3):
        return "no root of Σ"
    right = torch.allclose(root, torch.linalg.cholesky(covariance), 1e-3, 1e-3)
    return "the lower triangular root of Σ" if right else "another root of Σ"


@sample_gaussian.aspect("batch", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # Beside the function's own samples of single rows: so that another root loses the value alone.
    noise = _noise(function, *_correlated(draw, 4, 3, 4).values())
    yield "the noise in your samples", noise
    if noise != "eps":
        return
    for n, k in [(4, 3), (3, 3), (1, 3), (4, 1)]:
        mu, covariance, eps = _correlated(draw, n, k, n).values()
        if n == k:
            mu, covariance, eps = 30 * mu, 400 * covariance, _far(draw, n, k)
        together = tensor(_called(function, (mu, covariance, eps)))
        case = f"with a covariance for each row, N, K = {n, k}"
        yield f"the shape {case}", tuple(together.shape)
        if together.shape != mu.shape:
            continue
        rows = [
            tensor(_called(function, (mu[i : i + 1], covariance[i], eps[i : i + 1]))).reshape(1, -1)
            for i in range(n)
        ]
        each = torch.cat(rows)
        yield (
            f"your samples {case}, less those of the rows one by one",
            (together - each) / (each - mu).abs().max(),
        )


@sample_gaussian.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_correlated(draw, n, k) for n, k in SIZES))
    inputs = _correlated(draw, 4, 3, 4).values()
    for dtype in (torch.float32, torch.float64):
        seen = dtype
        with contextlib.suppress(Exception):  # what is wrong with a batch is told by "batch"
            seen = function(*(x.to(dtype) for x in inputs)).dtype
        name = str(dtype).removeprefix("torch.")
        yield f"the dtype for {name}, with a covariance for each row", str(seen)


@sample_gaussian.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    weights = draw.uniform(0.5, 1.5, 12)
    found = _gradients(function, draw, weights)
    yield from found.items()
    verdict = "right"
    with contextlib.suppress(Exception):  # what is wrong with a batch is told by "batch"
        found = _gradients(function, draw, weights, 4)
        if len(found) > 1:
            in_mu, _, slope = found.values()
            verdict = "right" if torch.allclose(in_mu.reshape(-1), weights) else "wrong in mu"
            if not bool((slope.value.abs() <= slope.tolerance).all()):
                verdict = "wrong in the covariance"
    yield "the gradient with a covariance for each row", verdict


def _gradients(function: Function, draw: Draw, weights: Tensor, *batch: int) -> dict[str, Any]:
    """The gradient of weighted samples, (4, 3), in μ and in the covariance.

    The latter beside the function's own slope, measured: so that another root loses the value
    alone. In a root R of the covariance, as the gradient in a symmetric matrix can be written in
    many ways.
    """
    mu, root, eps = draw.mean(4, 3), _root(draw, *batch, 3, 3), draw.normal(4, 3)

    def sample(mu: Tensor, root: Tensor) -> Tensor:
        return tensor(_called(lambda: function(mu, _covariance(root), eps.clone()), ()))

    found = dict(gradients(sample, weights, mu=mu, root=root))
    if len(found) == 1:  # of another size
        return found
    in_root = found.pop("the gradient in root")
    along, measured = [], []
    for _ in range(3):
        direction = draw.normal(*batch, 3, 3)
        ahead, back = (
            (sample(mu.clone(), root + step * direction).reshape(-1) * weights).sum()
            for step in (1e-3, -1e-3)
        )
        along.append((in_root * direction).sum())
        measured.append((ahead - back).detach() / 2e-3)
    slopes = torch.stack(measured)
    apart = (torch.stack(along) - slopes) / slopes.norm()
    return {
        **found,
        "the gradient in the covariance": "arrives" if in_root.any() else "does not arrive",
        "the gradient in the covariance, relative to the measured slope, minus 1": Near(
            apart, torch.zeros_like(apart), torch.full_like(apart, 0.02)
        ),
    }


@sample_gaussian.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # Positive correlations, so that even the root of each entry is a number.
    covariance = _covariance(draw.uniform(0.2, 0.6, 3, 3))
    eps = draw.normal(20, 3)
    eps = 3**0.5 * eps / eps.norm(dim=1, keepdim=True)  # one row has the size of all, too
    for name, scale in {"near 1": 1.0, "that are tiny": 1e-20}.items():
        size = _size(_called(function, (0 * eps, scale * covariance, eps)), 0.7 * scale**0.5)
        yield f"the size of your samples for variances {name}", size


# --- the two gradients of an expectation ---------------------------------------------------------

# Number of samples, the range of σ, and which of the inputs lies far from 0.
CASES = [
    (7, 0.5, 0.8, ""),
    (4, 0.5, 0.8, ""),
    (1, 0.5, 0.8, ""),
    (9, 0.5, 0.8, "mu"),
    (2, 1.4, 2.5, ""),
    (12, 1.4, 2.5, "eps"),
    (5, 6.0, 9.0, "sigma"),
]


def _wave(draw: Draw) -> Function:
    """A function with a slope and a curvature that differ from draw to draw."""
    height, pitch, bend, offset = (
        low * draw.uniform(1, 2).item() * draw.sign().item() for low in (0.7, 0.7, 0.7, 1.5)
    )
    return lambda z: height * (pitch * z).sin() + bend * z * z + offset


def _scalars(draw: Draw, s: int = 7) -> dict[str, Tensor]:
    return {"mu": draw.mean(), "sigma": draw.uniform(0.5, 0.8), "eps": draw.normal(s)}


def _estimates(
    function: Function, draw: Draw, number: int, make: Callable[[Draw], Function]
) -> Observed:
    """One of the two estimates, in all cases: a number alone might be right by accident."""
    for s, low, high, far in CASES:
        mu = _far(draw) if far == "mu" else draw.mean()
        eps = _far(draw, s) if far == "eps" else draw.normal(s)
        inputs = make(draw), mu, draw.uniform(low, high), eps
        if s == CASES[0][0]:
            noise = _noise(function, *inputs)
            yield "the noise in your samples", noise
            if noise != "eps":
                return
        numbers = _numbers(_called(function, inputs))
        if s == CASES[0][0]:
            yield "how many numbers come back", len(numbers)
            if len(numbers) != 2:
                return
        estimate = numbers[number] if len(numbers) == 2 else numbers
        yield f"your estimate of ∂/∂{'μσ'[number]} from {s} sample{'s' * (s > 1)}", estimate


def _form_of_two(function: Function, draw: Draw) -> Observed:
    f = _wave(draw)
    yield from form(
        lambda *inputs: function(f, *inputs), _scalars(draw), _scalars(draw, 1), _scalars(draw, 2)
    )
    inputs = _scalars(draw).values()
    first, second = (_numbers(_called(lambda: function(f, *inputs), ())).clone() for _ in range(2))
    if first.shape == second.shape:
        yield "the estimates of a second call, less those of the first", second - first
    found = any(x.grad is not None for x in inputs)
    yield "a gradient in .grad of your inputs", "left there" if found else "none"


@_assignment.task(
    "Move the noise out",
    hint="Take copies of mu and sigma that require gradients, and let autograd differentiate the "
    "mean of f(mu + sigma * eps). Or take the slope of f at each sample: its mean is ∂/∂μ, and "
    "the mean of slope times eps is ∂/∂σ.",
)
def pathwise_gradient(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = (mu + sigma * eps).detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), z)
    return torch.stack([slope.mean(), (slope * eps).mean()])


class _Slope(torch.autograd.Function):
    """The first of two numbers, with the slope of the second."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, other: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(above[0]), above[0]

    @staticmethod
    def jvp(ctx: Any, *moves: Tensor) -> Tensor:
        return moves[1].clone()


def _steep(draw: Draw) -> Function:
    """A wave that has, for autograd, the slope of another: differences of values are told apart."""
    f, other = _wave(draw), _wave(draw)
    return lambda z: _Slope.apply(f(z), other(z))  # type: ignore[no-untyped-call]


@pathwise_gradient.aspect("mu", points=2)
def _(function: Function, draw: Draw) -> Observed:
    yield from _estimates(function, draw, 0, _steep)


@pathwise_gradient.aspect("sigma", points=2)
def _(function: Function, draw: Draw) -> Observed:
    yield from _estimates(function, draw, 1, _steep)


@pathwise_gradient.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from _form_of_two(function, draw)


@_assignment.task(
    "The other way: differentiate the density",
    hint="Evaluate f at z = mu + sigma * eps. Multiply each height by the score, which is ε/σ for "
    "μ and (ε² − 1)/σ for σ. Then average over the samples, and stack the two numbers.",
)
def score_function_gradient(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    height = f((mu + sigma * eps).detach()).detach()
    in_mu = eps / sigma
    in_sigma = (eps**2 - 1) / sigma
    return torch.stack([(height * in_mu).mean(), (height * in_sigma).mean()])


def _leaves(*inputs: Tensor) -> list[Tensor]:
    """Copies that require gradients, for edits."""
    return [x.clone().requires_grad_() for x in inputs]


def _flat(f: Function) -> Function:
    """f with the slope 0 everywhere, for autograd."""
    return lambda z: f(z.detach()) + 0 * z


def _flat_wave(draw: Draw) -> Function:
    return _flat(_wave(draw))


@score_function_gradient.aspect("mu", points=2)
def _(function: Function, draw: Draw) -> Observed:
    yield from _estimates(function, draw, 0, _flat_wave)


@score_function_gradient.aspect("sigma", points=2)
def _(function: Function, draw: Draw) -> Observed:
    yield from _estimates(function, draw, 1, _flat_wave)


@score_function_gradient.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from _form_of_two(function, draw)


@score_function_gradient.aspect("black-box", points=1)
def _(function: Function, draw: Draw) -> Observed:
    given: set[str] = set()

    def simulator(z: Tensor) -> Tensor:
        given.add("a z that carries a gradient" if z.requires_grad else "plain numbers")
        result = np.cos(z.detach().numpy()) + 2
        return torch.as_tensor(result) + 0 * z

    def cosine(z: Tensor) -> Tensor:
        return z.cos() + 2

    for s in (7, 4, 2):
        inputs = tuple(_scalars(draw, s).values())
        f = _wave(draw)
        seen = [_numbers(_called(function, (g, *inputs))) for g in (f, _flat(f), cosine, simulator)]
        if s == 7:
            yield "how many numbers come back", len(seen[0])
        if any(len(numbers) != 2 for numbers in seen):
            return
        for name, one, other in (
            ("an f with a slope, less that for one without", seen[0], seen[1]),
            ("an f in torch, less that for the same in NumPy", seen[2], seen[3]),
        ):
            size = torch.stack([one, other]).abs().max()
            what = f"the estimate for {name}, from {s} samples"
            yield what, (one - other) / size
    yield "what f is given", " or ".join(sorted(given))
