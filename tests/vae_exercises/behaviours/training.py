"""What the functions of 5-training do."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from tests.vae_exercises.behaviour import (
    Function,
    Outcome,
    attempt,
    behaviour,
    plain,
)
from vae_exercises.draw import Draw


@behaviour("training.vae_loss")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for n, d, k in [(6, 4, 3), (3, 5, 1), (2, 2, 2), (1, 1, 1), (1, 3, 4), (4, 1, 2)]:
        for scale in (0.3, 9.0):
            for grey in (False, True):
                u = draw.uniform(0, 1, n, d)
                logits, x = 3 * scale * draw.normal(n, d), u if grey else u.round()
                mu, logvar = (scale * draw.normal(n, k) for _ in range(2))
                case = f"{n, d, k}, {scale}, {grey}"
                for dtype in (torch.float64, torch.float32):
                    inputs = [v.to(dtype, copy=True) for v in (logits, x, mu, logvar)]
                    result = attempt(lambda inputs=inputs: function(*inputs))
                    parts = result if isinstance(result, tuple | list) else [result]
                    for i, part in enumerate(parts):
                        yield f"{case}, {dtype}, {i}", plain(part)
                # Whether the two terms can be differentiated is not asked.
                leaves = [v.clone().requires_grad_() for v in (logits, mu, logvar)]

                def gradient(leaves: Any = leaves, x: Tensor = x) -> Any:
                    m, v = leaves[1] * 1, leaves[2] * 1
                    loss = function(leaves[0] * 1, x, m, v)[0]
                    if not loss.requires_grad:
                        return "no gradient"
                    found = torch.autograd.grad(loss, leaves, allow_unused=True)
                    pairs = zip(found, leaves, strict=True)
                    return torch.cat([(0 * w if g is None else g).flatten() for g, w in pairs])

                yield f"{case}, gradient", plain(attempt(gradient))
    for size in (50.0, 100.0):
        logits = torch.tensor([[size, -size], [-size, size]])
        for x in (torch.ones(2, 2), torch.zeros(2, 2)):
            result = attempt(lambda a=logits, x=x: function(a, x, 0 * a, 0 * a)[1])
            yield f"certain, {size}, {x[0, 0]}", plain(result)


class _Layer(nn.Module):
    """Does something else in training, as dropout and batch normalisation do."""

    def forward(self, h: Tensor) -> Tensor:
        return 1.3 * h - 0.2 if self.training else h


class _Model(nn.Module):
    """A small VAE of (N, 6) pixels that remembers what it was asked."""

    def __init__(self, draw: Draw, scale: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), _Layer(), nn.Linear(4, 6))
        self.decoder = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Sequential(_Layer()))
        self.head = nn.Linear(4, 5)
        for parameter in self.parameters():
            parameter.data = (scale * draw.normal(*parameter.shape)).float()
        self.eps = draw.normal(3).float()
        self.asked: list[Tensor] = []
        self.recorded: list[bool] = []
        self.modes: set[bool] = set()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last pixel tells examples apart, and has no other part in this."""
        if x.dim() != 2:
            raise ValueError
        mu, logvar = self.encoder(x[..., :-1]).chunk(2, -1)
        logits = self.head(self.decoder(mu + (0.5 * logvar).exp() * self.eps))
        self.asked.append(x.detach().clone())
        self.recorded.append(logits.requires_grad)
        if logits.requires_grad or not torch.is_grad_enabled():
            self.modes.update(module.training for module in self.modules())
        return torch.cat([logits, 0 * x[..., -1:]], -1), mu, logvar

    def __deepcopy__(self, memo: dict[int, Any]) -> _Model:
        twin = _Model(Draw("twin"), 1)
        twin.load_state_dict(self.state_dict())
        twin.eps, twin.asked, twin.recorded, twin.modes = (
            self.eps,
            self.asked,
            self.recorded,
            self.modes,
        )
        return twin.train(self.training)

    def flat(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters()])

    def flags(self) -> tuple[bool, ...]:
        return tuple(module.training for module in self.modules())


def _pixels(draw: Draw, n: int, alike: bool = False) -> Tensor:
    rows = draw.uniform(0, 1, 1 if alike else n, 5).float().expand(n, -1)
    return torch.cat([rows, torch.arange(1.0, n + 1)[:, None] / 64], -1)


MAKE = {
    "SGD": functools.partial(SGD, lr=0.05),
    "momentum": functools.partial(SGD, lr=0.02, momentum=0.8, nesterov=True, weight_decay=0.1),
    "Adam": functools.partial(Adam, lr=0.03),
    "RMSprop": functools.partial(RMSprop, lr=0.01),
}
# The first optimizer of a program imports a lot: not while a function's time is measured.
SGD([torch.zeros(1)])


def _value(call: Any) -> Any:
    """A number whatever its type; an error's name."""
    result = attempt(call)
    if isinstance(result, str):
        return result
    return attempt(lambda: torch.as_tensor(result).detach().double())


@behaviour("training.training_step")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for name, make in MAKE.items():
        for scale, stale in ((0.5, False), (1.5, True)):
            model = _Model(draw, scale)
            optimizer: Optimizer = make(model.parameters())
            case = f"{name}, {scale}, {stale}"
            for n in (6, 2, 1):
                for parameter in model.parameters():
                    if stale:
                        parameter.grad = draw.normal(*parameter.shape).float()
                x = _pixels(draw, n)
                result = attempt(lambda m=model, o=optimizer, x=x: function(m, o, x))
                yield f"{case}, {n}: value", _value(lambda r=result: r)
                yield f"{case}, {n}: a float", isinstance(result, float)
                yield f"{case}, {n}: parameters", model.flat()
            yield f"{case}: modes", model.modes
    yield "random", _random(lambda: function(model, optimizer, _pixels(draw, 3)))


@behaviour("training.train_epoch")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    # Nothing of this depends on the order, which is for the function to choose.
    for n, size in [(9, 4), (8, 2), (3, 8), (5, 2), (1, 1), (12, 5)]:
        for alike, name in ((True, "momentum"), (True, "Adam"), (False, "SGD")):
            model, x = _Model(draw, 0.5), _pixels(draw, n, alike)
            optimizer: Optimizer = MAKE[name](model.parameters())
            generator = torch.Generator().manual_seed(draw.seed())
            case = f"{n, size}, {name}, {alike}"
            arguments = (model, optimizer, x, size, generator)
            result = _value(lambda a=arguments: function(*a))
            taught = [a for a, r in zip(model.asked, model.recorded, strict=True) if r]
            batches = [b for i, b in enumerate(taught) if i == 0 or not _alike(b, taught[i - 1])]
            seen = torch.cat([b.reshape(-1, 6) for b in batches]) if batches else x[:0]
            yield f"{case}: examples", seen[seen[:, -1].argsort()]
            yield f"{case}: sizes", sorted(len(b) for b in batches)
            yield f"{case}: modes", model.modes
            if alike:
                yield f"{case}: value", result
                yield f"{case}: parameters", model.flat()
    x, model = _pixels(draw, 14), _Model(draw, 0.5)

    def order(generator: torch.Generator) -> Any:
        model.asked.clear()
        attempt(lambda: function(model, SGD(model.parameters(), lr=0.01), x, 5, generator))
        found = [row[:, -1].tolist() for row in model.asked if row.dim() == 2]
        return [row for i, row in enumerate(found) if i == 0 or row != found[i - 1]]

    generators = [torch.Generator().manual_seed(seed) for seed in (3, 3, 4)]
    orders = [order(generators[i]) for i in (0, 1, 2, 0)]
    yield "orders", [[a == b for a in orders] for b in orders]
    flat = [list(itertools.chain(*a)) for a in orders]
    yield "sorted", [a == sorted(a) for a in flat]
    yield "neighbours", [all(max(b) - min(b) < 5 / 64 for b in a) for a in orders]
    yield (
        "random",
        _random(lambda: function(model, SGD(model.parameters(), lr=0.01), x, 5, generators[0])),
    )


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


@behaviour("training.evaluate")
def _(function: Function, draw: Draw) -> Iterator[Outcome]:
    for n, size in [(9, 4), (8, 2), (3, 8), (5, 1), (1, 1), (12, 5)]:
        for scale in (0.5, 2.5):
            for mode in (True, False):
                model, x = _Model(draw, scale).train(mode), _pixels(draw, n)
                before = model.flat()
                result = attempt(lambda a=(model, x, size): function(*a))
                case = f"{n, size}, {scale}, {mode}"
                yield f"{case}: value", _value(lambda r=result: r)
                yield f"{case}: a float", isinstance(result, float)
                yield f"{case}: modes", [model.modes, set(model.flags())]
                yield f"{case}: recorded", any(model.recorded)
                largest = max((len(a.reshape(-1, 6)) for a in model.asked), default=0)
                yield f"{case}: largest", (largest > size, largest == 1)
                yield f"{case}: parameters", model.flat() - before
    yield "random", _random(lambda: function(model, x, 3))


def _random(call: Any) -> bool:
    """Whether a call sets the seed."""
    states = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        attempt(call)
        states.append(torch.get_rng_state())
    return torch.equal(*states)
