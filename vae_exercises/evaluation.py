"""7-evaluation: what is checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.facts import Rough
from vae_exercises.observe import Function, Observed, finite, tensor, unpacked

_assignment = Assignment("7-evaluation", ("conclusion", "Conclusion"))

__all__ = [
    "linear_probe",
    "log_likelihood_estimate",
    "paired_difference",
    "select_and_report",
]

ESTIMATE = "(mean, standard error)"


def _number(value: Any, draw: Draw) -> Tensor:
    """A number as a tensor (1,), also if it is Python's or NumPy's: its type is another aspect."""
    if isinstance(value, float | int | np.generic | np.ndarray):
        value = torch.tensor(value, dtype=draw.dtype)
    number = tensor(value)
    return number.reshape(1) if number.numel() == 1 else number


def _dtypes(tensors: tuple[Tensor, ...]) -> Iterator[tuple[str, list[Tensor]]]:
    """Inputs in float32 and in float64."""
    for dtype in (torch.float32, torch.float64):
        yield str(dtype).removeprefix("torch."), [x.to(dtype) for x in tensors]


def _form_of_numbers(what: str, *values: Any) -> Observed:
    """Whether they are tensors, and the shape and dtype of each."""
    for name, value in zip(("mean", "standard error"), values, strict=True):
        seen = (tuple(value.shape), str(value.dtype)) if isinstance(value, Tensor) else "no tensor"
        yield f"shape and dtype of the {name}, {what}", seen


# --- linear_probe --------------------------------------------------------------------------------


@_assignment.task(
    "Its codes are features",
    hint="Subtract the mean of the codes: x. Solve (xᵀx + ridge · I) W = xᵀ · targets by "
    "torch.linalg.solve. The bias is the mean of the targets less the mean of the codes times W.",
)
def linear_probe(
    codes: Tensor, labels: Tensor, n_classes: int, ridge: float
) -> tuple[Tensor, Tensor]:
    targets = F.one_hot(labels, n_classes).to(codes.dtype)
    centre, share = codes.mean(0), targets.mean(0)
    x = codes - centre
    gram = x.T @ x + ridge * torch.eye(codes.shape[1], dtype=codes.dtype)
    weight = torch.linalg.solve(gram, x.T @ targets)
    return weight, share - centre @ weight


# N, K, C, the ridge, and the scale of the codes.
PROBES = [(12, 3, 4, 0.7, 1), (9, 1, 2, 3.0, 1), (8, 4, 3, 0.3, 1), (9, 3, 5, 200.0, 9)]


def _coded(draw: Draw, n: int, k: int, c: int, scale: float = 1) -> tuple[Tensor, Tensor]:
    """Codes away from 0, of dimensions that differ in scale; labels, of which one never occurs.

    That is the first class of three, the second of four, and else the last.
    """
    codes = scale * (draw.normal(n, k) * draw.uniform(0.4, 2, k) + 2 * draw.mean(k))
    occurring = [i for i in range(c) if i != {3: 0, 4: 1}.get(c, c - 1)]
    found = torch.randperm(n, generator=draw.generator) % len(occurring)
    return codes, torch.tensor(occurring)[found]


@linear_probe.aspect("weights", points=3)
def _(function: Function, draw: Draw) -> Observed:
    for n, k, c, ridge, scale in PROBES:
        weight, _ = unpacked(function(*_coded(draw, n, k, c, scale), c, ridge), 2, "(weight, bias)")
        yield f"the weights for {n} codes of {k}, {c} classes, ridge {ridge}", tensor(weight)


@linear_probe.aspect("bias", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # With wrong weights, too, the bias may be right: then the means of the codes are given the
    # means of the targets.
    for n, k, c, ridge, scale in PROBES:
        codes, labels = _coded(draw, n, k, c, scale)
        centre = codes.mean(0)
        parts = unpacked(function(codes, labels, c, ridge), 2, "(weight, bias)")
        weight, bias = (tensor(part).to(draw.dtype) for part in parts)
        if weight.shape == (c, k):
            weight = weight.T
        fits = weight.shape == (k, c) and bias.numel() == c
        score = centre @ weight + bias.reshape(-1) if fits else bias
        yield f"the scores at the mean of {n} codes of {k}, {c} classes, ridge {ridge}", score


@linear_probe.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for n, k, c in ((7, 3, 4), (6, 1, 2), (5, 2, 3)):
        codes, labels = _coded(draw, n, k, c)
        for dtype, (given,) in _dtypes((codes,)):
            parts = unpacked(function(given, labels, c, 0.5), 2, "(weight, bias)")
            for name, part in zip(("weight", "bias"), map(tensor, parts), strict=True):
                what = f"the {name} for {n} {dtype} codes of {k}, {c} classes"
                yield what, (tuple(part.shape), str(part.dtype))


# --- log_likelihood_estimate ---------------------------------------------------------------------


@_assignment.task(
    "More samples, a tighter bound",
    hint="torch.logsumexp over dimension 0, less log S, is one number per example. Their mean is "
    "the estimate; their .std() over the root of N is its standard error.",
    chapter=("elbo", "The evidence lower bound"),
)
def log_likelihood_estimate(log_w: Tensor) -> tuple[Tensor, Tensor]:
    n_samples, n = log_w.shape
    per_example = torch.logsumexp(log_w, 0) - math.log(n_samples)
    return per_example.mean(), per_example.std() / n**0.5


WEIGHTS = [(7, 5), (1, 4), (4, 2), (3, 3)]  # (S, N)


def _log_weights(draw: Draw, s: int, n: int) -> Tensor:
    """Log-weights that differ by some nats for one example, and by more among examples."""
    return 2 * draw.normal(s, n) + 4 * draw.normal(n) - 3


@log_likelihood_estimate.aspect("mean", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size in [*WEIGHTS, (9, 6), (2, 7)]:
        mean, _ = unpacked(function(_log_weights(draw, *size)), 2, ESTIMATE)
        yield f"the mean, log-weights {size}", _number(mean, draw)
    for sign in (-1, 1):
        mean, _ = unpacked(function(20 + 5 * sign * _log_weights(draw, 5, 3)), 2, ESTIMATE)
        yield f"the mean, larger log-weights ({sign})", _number(mean, draw)


@log_likelihood_estimate.aspect("error", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size in [(7, 5), (4, 2), (3, 3), (9, 6), (2, 7)]:
        _, error = unpacked(function(_log_weights(draw, *size)), 2, ESTIMATE)
        yield f"the standard error, log-weights {size}", _number(error, draw)
    _, error = unpacked(function(20 * _log_weights(draw, 5, 4)), 2, ESTIMATE)
    yield "the standard error, larger log-weights", _number(error, draw)


@log_likelihood_estimate.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for at, height, name in (
        (2, 2000, "one sample far above the others"),
        (0, 2000, "the first sample far above the others"),
        (3, -2500, "one sample far below the others"),
    ):
        log_w = _log_weights(draw, 60, 2)
        log_w[at] += height
        log_w += torch.tensor([-1000, -6000]).to(draw.dtype)
        mean, error = unpacked(function(log_w), 2, ESTIMATE)
        # A sum over both examples is told by the mean's own aspect.
        yield f"the mean, {name}", Rough(_number(mean, draw), 2.2)
        yield f"the standard error, {name}", finite(_number(error, draw))
    mean, _ = unpacked(function(2000 - _log_weights(draw, 4, 2)), 2, ESTIMATE)
    yield "the mean of log-weights near 2000", Rough(_number(mean, draw), 2.2)


@log_likelihood_estimate.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for size in WEIGHTS:
        for dtype, (log_w,) in _dtypes((_log_weights(draw, *size),)):
            parts = unpacked(function(log_w), 2, ESTIMATE)
            yield from _form_of_numbers(f"{dtype} log-weights {size}", *parts)


# --- paired_difference ---------------------------------------------------------------------------


@_assignment.task(
    "It scores worse than a PixelCNN",
    hint="Take a − b first, example by example. The mean of these differences is the first "
    "number; their .std() over the root of N is the second.",
)
def paired_difference(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    difference = a - b
    return difference.mean(), difference.std() / len(difference) ** 0.5


def _pairs(draw: Draw) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Scores of two models on the same examples, some of which are hard for both."""
    for n, level, scale in (
        (6, -90, 1),
        (2, 3, -20),
        (9, 0, 1),
        (5, 40, -25),
        (4, -5, 25),
        (3, 1, -1),
    ):
        both = level + 6 * scale * draw.normal(n)
        a, b = (both + scale * draw.normal(n) for _ in range(2))
        apart = scale * draw.uniform(0.3, 0.9)  # on average; single examples are of either sign
        yield f"{n} examples near {level}", (a - a.mean() + b.mean() + apart, b)


@paired_difference.aspect("difference", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for name, pair in _pairs(draw):
        mean, _ = unpacked(function(*pair), 2, "(difference, standard error)")
        yield f"the mean difference, {name}", _number(mean, draw)


@paired_difference.aspect("error", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for name, pair in _pairs(draw):
        _, error = unpacked(function(*pair), 2, "(difference, standard error)")
        yield f"the standard error, {name}", _number(error, draw)
    same = draw.normal(4)
    _, error = unpacked(function(same, same + 2), 2, "(difference, standard error)")
    yield "the standard error where all differ by the same", _number(error, draw)


@paired_difference.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for name, pair in _pairs(draw):
        for dtype, given in _dtypes(pair):
            parts = unpacked(function(*given), 2, "(difference, standard error)")
            yield from _form_of_numbers(f"{dtype}, {name}", *parts)


# --- select_and_report ---------------------------------------------------------------------------


@_assignment.task(
    "Choose on one set, report on another",
    hint="best = validation.mean(1).argmax(). From then on only test[best] counts: its mean, and "
    "its .std() over the root of the number of test examples.",
)
def select_and_report(validation: Tensor, test: Tensor) -> tuple[int, Tensor, Tensor]:
    best = int(validation.mean(1).argmax())
    chosen = test[best]
    return best, chosen.mean(), chosen.std() / len(chosen) ** 0.5


REPORT = "(best, mean, standard error)"


def _scores(
    draw: Draw, m: int, n: int, n_test: int, level: float, scale: float
) -> tuple[Tensor, Tensor]:
    """Scores of m ≥ 4 models, another of which is best in each respect.

    On validation model 0 is best on average (before they are shuffled), 1 has the highest single
    score and 2 the highest median. On the test examples 3 is best.
    """
    validation = draw.uniform(-1, 1, m, n)
    validation[1, 0] += 9
    validation[2] += 1.5
    validation[2, 0] -= 12 * n / 4
    test = 2 * draw.uniform(-1, 1, m, n_test)
    validation -= validation.mean(1, keepdim=True)
    test -= test.mean(1, keepdim=True)
    height = torch.arange(m).to(draw.dtype)
    validation -= 0.5 * height[:, None]
    test -= 0.8 * (height - 3).abs()[:, None] + draw.uniform(0, 0.05, m, 1)
    order = torch.randperm(m, generator=draw.generator)
    if m > 8:  # the last one is chosen
        order = order[order.argsort(descending=True)]
    return scale * validation[order] + level, scale * test[order] + 1.1 * level


# A model for each way to choose: by the mean, the highest score, the median, the most examples won
# (or the test examples), the lowest score, the mean less its error, the mean less the deviation,
# the mean plus the deviation.
TABLE = [
    [-2.0, 2.9, 2.9, 2.9, 3.5],
    [-5.0, -5.0, 9.0, -5.0, -5.0],
    [-20.0, -20.0, 3.0, 3.0, 3.0],
    [4.0, 4.0, -9.0, -9.0, -9.0],
    [1.4, 1.4, 1.4, 1.4, 1.4],
    [1.3, 2.2, 2.2, 2.2, 1.3],
    [1.75, 1.75, 1.75, 1.75, 1.25],
    [-4.0, -4.0, 8.5, 8.5, -4.0],
]
TESTED = [-2.4, -3.0, -4.0, 2.0, 1.2, -1.0, 0.3, -0.4]


def _table(draw: Draw) -> tuple[Tensor, Tensor]:
    """The table's scores, its models and examples in another order, near 60."""
    noise = 0.04
    validation = torch.tensor(TABLE, dtype=draw.dtype) + draw.uniform(-noise, noise, 8, 5)
    test = torch.tensor(TESTED, dtype=draw.dtype)[:, None] + draw.uniform(-noise, noise, 8, 7)
    models, examples = (torch.randperm(n, generator=draw.generator) for n in (8, 5))
    return 60 + validation[models][:, examples], 60 + test[models]


def _rivals(draw: Draw) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    for m, n, n_test, level, scale in (
        (5, 8, 6, -90, 1),
        (4, 7, 9, 3, 20),
        (6, 12, 2, -1, 0.02),
        (4, 6, 6, 0.5, 1),
        (9, 5, 4, 0, 1),
    ):
        scores = _scores(draw, m, n, n_test, level, scale)
        yield f"{m} models, {n} and {n_test} examples, near {level}", scores
    yield "8 models, 5 and 7 examples, near 60", _table(draw)


def _chosen(value: Any) -> Any:
    """Which model was chosen: an integer, or a tensor of one."""
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
        value = value.item()
    return int(value) if isinstance(value, int | float) and value == int(value) else str(value)


@select_and_report.aspect("choice", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for name, scores in _rivals(draw):
        best, _, _ = unpacked(function(*scores), 3, REPORT)
        yield f"the model that is chosen of {name}", _chosen(best)


@select_and_report.aspect("report", points=2)
def _(function: Function, draw: Draw) -> Observed:
    one = draw.normal(1, 3), draw.normal(1, 4)
    for name, scores in [*_rivals(draw), ("one model", one)]:
        _, mean, error = unpacked(function(*scores), 3, REPORT)
        yield f"the mean that is reported, {name}", _number(mean, draw)
        yield f"its standard error, {name}", _number(error, draw)


def _name(best: Any) -> str:
    """The kind of thing that names a model."""
    if isinstance(best, Tensor) and best.dim() > 0:
        return f"a tensor of shape {tuple(best.shape)}"
    if isinstance(best, Tensor) and (best.is_floating_point() or best.dtype == torch.bool):
        return f"a number of dtype {str(best.dtype).removeprefix('torch.')}"
    one = isinstance(best, Tensor | np.integer) or type(best) is int
    return "one integer" if one else type(best).__name__


@select_and_report.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    one = draw.normal(1, 3), draw.normal(1, 4)
    for name, scores in [*_rivals(draw), ("one model", one)]:
        for dtype, given in _dtypes(scores):
            best, *numbers = unpacked(function(*given), 3, REPORT)
            yield f"what names the model, {dtype}, {name}", _name(best)
            yield from _form_of_numbers(f"{dtype}, {name}", *numbers)
