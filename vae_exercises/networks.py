"""What is observed of a network, whatever its layers are called and however they start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vae_exercises.draw import Draw
from vae_exercises.errors import WrongResult, described
from vae_exercises.observe import Function, tensor

__all__ = [
    "CURVE",
    "OTHER",
    "REGISTER",
    "RELU",
    "alike",
    "before_sigmoid",
    "bends_along",
    "between_layers",
    "dtype_of",
    "fill_parameters",
    "how_many",
    "numbers_in",
    "parameters_of_halves",
    "positive",
    "reached_by",
    "still",
    "trainable",
    "used_by",
]

RELU, OTHER, CURVE = "a ReLU", "another function than ReLU", 1000
REGISTER = (
    "an optimizer would not find them. Layers are found when they are attributes of the module, "
    "made in __init__ (a Python list hides them)"
)


def trainable(model: Any) -> Any:
    """A module that has something to train, in evaluation mode."""
    if not isinstance(model, nn.Module):
        raise WrongResult(described(model, "an nn.Module"))
    if not list(model.parameters()):
        raise WrongResult(f"parameters() is empty: {REGISTER}")
    return model.eval()


def still(call: Function, x: Tensor) -> Tensor:
    """What a call gives, with the same random numbers each time, should it draw any."""
    torch.default_generator.manual_seed(1)
    with torch.no_grad():
        return tensor(call(x)).clone()


def fill_parameters(
    parameters: Iterable[nn.Parameter], draw: Draw, sign: int | None = None
) -> None:
    """Give parameters values of one sign, or of both, so that a network shows what it can do.

    Weights are larger than biases: the bend of a ReLU lies near 0.
    """
    with torch.no_grad():
        for parameter in parameters:
            shape = tuple(parameter.shape)
            inputs = max(2, parameter.numel() // shape[0]) if len(shape) > 1 else 8
            size = draw.uniform(0.4, 0.8, *shape) / inputs
            signs = draw.sign(*shape) if sign is None else sign
            parameter.copy_((size * signs).to(parameter.dtype))


def used_by(model: nn.Module, call: Function, x: Tensor) -> list[nn.Parameter]:
    """The parameters that the result of a call depends on, be they frozen or not."""
    return [p for p in model.parameters() if _matters(p, call, x, 1.5 * p) or _turns(p, call, x)]


def numbers_in(parameters: Iterable[nn.Parameter], call: Function, x: Tensor) -> int:
    """How many numbers parameters hold; of weights that are normalised, how many directions."""
    parts = ((p, _matters(p, call, x, 1.5 * p)) for p in parameters)
    return sum(p.numel() - (0 if scales else len(p)) for p, scales in parts)


def _turns(parameter: nn.Parameter, call: Function, x: Tensor) -> bool:
    return parameter.dim() > 1 and _matters(parameter, call, x, parameter.flip(-1))


def _matters(parameter: nn.Parameter, call: Function, x: Tensor, other: Tensor) -> bool:
    """Whether the result of a call is another one with other values of a parameter."""
    before, kept, other = still(call, x), parameter.detach().clone(), other.detach().clone()
    with torch.no_grad():
        parameter.copy_(other)
    after = still(call, x)
    with torch.no_grad():
        parameter.copy_(kept)
    return after.shape != before.shape or not torch.allclose(after, before, 1e-5, 1e-6, True)


def how_many(some: Sequence[nn.Parameter], others: Sequence[nn.Parameter]) -> str:
    """How many of some parameters are among others."""
    here = [any(p is q for q in others) for p in some]
    return "all" if here and all(here) else "some" if any(here) else "none"


def positive(draw: Draw, *shape: int) -> Tensor:
    """Positive, and float32 as parameters are."""
    return draw.uniform(0.2, 0.9, *shape).float()


def parameters_of_halves(model: Any, draw: Draw) -> dict[str, tuple[list[nn.Parameter], int]]:
    """The parameters of encoder and decoder, which may be called as they like; their numbers."""
    fill_parameters(model.parameters(), draw, 1)  # no ReLU is off
    halves = {"encoder": (model.encode, 4), "decoder": (model.decode, 2)}
    found = {}
    for half, (call, width) in halves.items():
        x = positive(draw, 5, width)
        if not (used := used_by(model, call, x)):
            raise WrongResult(f"parameters() does not list the layers of the {half}: {REGISTER}")
        found[half] = used, numbers_in(used, call, x)
    return found


def dtype_of(model: Any, d: int, k: int) -> torch.dtype:
    """float64, after the network is made so; float32 where it is not at home in it."""
    model.double()
    try:
        results = [
            model.encode(torch.zeros(2, d, dtype=torch.float64)),
            model.decode(torch.zeros(2, k, dtype=torch.float64)),
        ]
    except (RuntimeError, TypeError):
        results = []
    if results and all(tensor(result).dtype == torch.float64 for result in results):
        return torch.float64
    model.float()
    return torch.float32


def before_sigmoid(result: Any) -> Tensor:
    """Pixels before the sigmoid, or before the softmax, or as they are without either."""
    pixels = tensor(result).reshape(len(result), -1)
    if pixels.min() <= 0 or pixels.max() >= 1:
        return pixels
    if (pixels.sum(1) - 1).abs().max() < 1e-5:
        pixels = pixels / (pixels + pixels[:, :1])
    return torch.logit(pixels)


def between_layers(call: Function, draw: Draw, width: int, dtype: torch.dtype) -> str:
    """What stands between the layers of a half with one hidden unit."""
    far = 20 if dtype == torch.float64 else 4
    x = torch.cat([size * draw.normal(40, width) for size in (1, far)]).to(dtype)
    y = still(call, x).reshape(len(x), -1).double()
    near = (1e-7 if dtype == torch.float64 else 3e-4) * (1 + y.abs().max())
    ones = torch.cat([x, torch.ones_like(x[:, :1])], 1).double()

    def line(rows: Tensor) -> Tensor:
        solution: Tensor = torch.linalg.lstsq(ones[rows], y[rows]).solution
        return ones @ solution

    if bool(((y - y[0]).abs() < near).all()):
        return "what lets nothing through"
    if bool(((line(torch.ones(len(x), dtype=torch.bool)) - y).abs() < near).all()):
        return "nothing"
    alike = ((y[:, None] - y).abs().amax(-1) < near).sum(1)
    resting = y[alike.argmax()]
    off = (y - resting).abs().amax(1) < near
    if not 10 <= off.sum() <= 70:
        return OTHER
    straight = line(~off)
    on_a_line = bool(((straight - y).abs() < near)[~off].all())
    direction = (y - resting)[~off].sum(0)
    beyond = bool(((straight - resting)[off] @ direction < 3 * near * direction.norm()).all())
    return RELU if on_a_line and beyond else OTHER


def bends_along(call: Function, way: Tensor, dtype: torch.dtype) -> int:
    """At how many places along a straight line the slope of a half changes."""
    y = still(call, torch.linspace(-8, 8, 4001, dtype=dtype)[:, None] * way.to(dtype))
    y = y.reshape(4001, -1)
    change = (y[2:] - 2 * y[1:-1] + y[:-2]).abs().amax(1)
    bent = change > (1e-9 if dtype == torch.float64 else 3e-6) * (1 + y.abs().max())
    return int((bent[1:] & ~bent[:-1]).sum()) if bent.double().mean() < 0.1 else CURVE


def alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, 1e-4, 1e-5, equal_nan=True)


def reached_by(result: Tensor, leaves: Sequence[Tensor]) -> list[Any]:
    """Where a gradient of the result arrives."""
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    if not result.requires_grad or not wanted:
        return []
    weights = torch.arange(1.0, 1 + result.numel()).reshape(result.shape)
    arrived = torch.autograd.grad((result * weights).sum(), wanted, allow_unused=True)
    return [leaf for leaf, g in zip(wanted, arrived, strict=True) if g is not None and g.any()]
