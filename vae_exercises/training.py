"""5-training: what is checked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.errors import WrongResult, described
from vae_exercises.facts import Clue, Rough
from vae_exercises.observe import Function, Observed, form, gradients, seeds, tensor, unpacked

Loss = tuple[Tensor, Tensor, Tensor]

_assignment = Assignment("5-training", ("training", "Training"))

__all__ = ["evaluate", "train_epoch", "training_step", "vae_loss"]

# --- vae_loss ------------------------------------------------------------------------------------


@_assignment.task(
    "One minibatch, forwards and backwards",
    hint="F.binary_cross_entropy_with_logits(logits, x, reduction='none') gives −log p of each "
    "pixel. Sum it over the last dimension, then take the mean. Do the same with the bracket of "
    "the KL, and halve it.",
)
def vae_loss(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    terms = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    reconstruction = terms.sum(-1).mean()
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1).mean()
    return reconstruction + kl, reconstruction, kl


SIZES = [(4, 5, 3), (1, 4, 2), (3, 1, 2), (5, 3, 1)]  # (N, D, K)


def _three(result: Any) -> tuple[Any, ...]:
    return unpacked(result, 3, "a tuple of three: (loss, reconstruction, kl)")


def _loss_in(result: Any) -> Tensor:
    """The loss, also where it came without its terms."""
    return tensor(result if isinstance(result, Tensor) else _three(result)[0])


def _number(result: Any) -> Tensor:
    """What came back as numbers, a tensor or not."""
    if not isinstance(result, Tensor | float | int | np.ndarray | np.number):
        raise WrongResult(described(result, "one number"))
    return torch.as_tensor(result).detach().double().reshape(-1)


def _inputs(
    draw: Draw, size: tuple[int, int, int], scale: float = 1, grey: bool = False
) -> dict[str, Tensor]:
    n, d, k = size
    logits, u = scale * draw.mean(n, d), draw.uniform(0.05, 0.95, n, d)
    return {
        "logits": logits,
        "x": u if grey else (u > 0.5).to(u.dtype),
        "mu": scale * draw.mean(n, k),
        "logvar": scale * draw.logvar(n, k),
    }


@vae_loss.aspect("reconstruction", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size, scale in [*((size, 1) for size in SIZES), (SIZES[0], 5), (SIZES[1], 5)]:
        for grey in (False, True):
            result = _three(function(*_inputs(draw, size, scale, grey).values()))
            kind = f"{'grey' if grey else 'binary'} pixels{', logits of ±8' * (scale > 1)}"
            yield f"the reconstruction term, (N, D) = {size[:2]}, {kind}", _number(result[1])


@vae_loss.aspect("kl", points=2)
def _(function: Function, draw: Draw) -> Observed:
    cases = [("", size, 1.0) for size in SIZES]
    cases += [(", far", SIZES[0], 5), (", far", SIZES[3], 5)]
    cases += [(", near 0", SIZES[0], 0.1), (", near 0", SIZES[1], 0.1)]
    for where, size, scale in cases:
        result = _three(function(*_inputs(draw, size, scale).values()))
        yield f"the KL, (N, K) = {size[0], size[2]}{where}", _number(result[2])
    for sign in (-1, 1):
        inputs = _inputs(draw, SIZES[0])
        inputs["logvar"] = sign * draw.uniform(31, 36, 4, 3)
        result = _three(function(*inputs.values()))
        yield f"the KL for log-variances near {sign * 33}", _number(result[2])


@vae_loss.aspect("loss", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for size, scale in [*((size, 1) for size in SIZES), (SIZES[0], 5)]:
        inputs = _inputs(draw, size, scale)
        case = f"(N, D, K) = {size}{', far' * (scale > 1)}"
        result = function(*(value.clone() for value in inputs.values()))
        yield f"the loss, {case}", _loss_in(result).reshape(-1)
        x = inputs.pop("x")

        def loss(logits: Tensor, mu: Tensor, logvar: Tensor, x: Tensor = x) -> Tensor:
            return _loss_in(function(logits, x, mu, logvar))

        for name, fact in gradients(loss, **inputs):
            yield f"{name} of the loss, {case}", fact


@vae_loss.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    cases = [_inputs(draw, size) for size in SIZES]
    for i, name in enumerate(("loss", "reconstruction", "kl")):

        def term(*arguments: Tensor, i: int = i) -> Any:
            return _three(function(*arguments))[i]

        for what, fact in form(term, *cases):
            yield f"{name}: {what}", fact


@vae_loss.aspect("numerics", points=1)
def _(function: Function, draw: Draw) -> Observed:
    inputs = {name: value.float() for name, value in _inputs(draw, SIZES[0]).items()}
    inputs["mu"], inputs["logvar"] = torch.zeros(4, 3), torch.ones(4, 3)
    for pixel in (0.0, 1.0):  # the logits are certain, and wrong
        inputs["x"] = torch.full((4, 5), pixel)
        losses = []
        for size in (60, 150):
            inputs["logits"] = size * (1 - 2 * inputs["x"])
            losses.append(_loss_in(function(*inputs.values())).sum())
        name = f"the growth of the loss from logits of ±60 to ±150, where x is {pixel:g}"
        yield name, Rough(losses[1] / losses[0], 1.05)


# --- a model that remembers ----------------------------------------------------------------------


class _Visit(NamedTuple):
    """A call of the model: its examples, its mean loss, and how it was called."""

    x: Tensor
    loss: float
    mode: str
    gradients: bool


class _Visits(list[_Visit]):
    """Those of a model and of its copies: who evaluates a copy is right as well."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Visits:
        return self


class _Dropout(nn.Module):
    """Dropout without chance: in training the same units are always weakened."""

    calls: Tensor

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.mask = draw.uniform(0.3, 0.7, 4)
        self.register_buffer("calls", torch.zeros((), dtype=draw.dtype))

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            return h
        self.calls = self.calls + 1
        return h * self.mask


class _Model(nn.Module):
    """A VAE of (N, 11) pixels with the same noise at each call.

    The last pixel tells examples apart, and does nothing else: it enters no weight, and its logit
    is 0, at which the cross-entropy is the same for any pixel.
    """

    def __init__(self, draw: Draw, scale: float = 1) -> None:
        super().__init__()
        self.eps = draw.normal(2)
        self.encoder = nn.Parameter(scale * draw.uniform(-0.7, 0.7, 10, 4))
        self.decoder = nn.Parameter(scale * draw.uniform(-0.7, 0.7, 2, 10))
        self.bias = nn.Parameter(scale * draw.uniform(-0.7, 0.7, 10))
        self.body = nn.Sequential(_Dropout(draw))
        self.visits = _Visits()

    def forward(self, x: Tensor) -> Loss:
        if x.dim() != 2:  # as batch normalisation would say
            raise ValueError(f"the model was given x of shape {tuple(x.shape)}, expected (N, D)")
        mu, logvar = self.body(x[..., :-1] @ self.encoder).chunk(2, -1)
        z = mu + (0.5 * logvar).exp() * self.eps
        logits = torch.cat([z @ self.decoder + self.bias, 0 * x[..., -1:]], -1)
        modes = {_mode(module.training) for module in self.modules()}
        with torch.no_grad():
            loss = _vae_loss(logits, x, mu, logvar)[0].item()
        mode = " and ".join(sorted(modes))
        self.visits.append(_Visit(x.detach().clone(), loss, mode, logits.requires_grad))
        return logits, mu, logvar

    def flat(self) -> Tensor:
        """A copy of all parameters."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters()])


# The solutions of the tasks below call those above, as a student's do.
_vae_loss: Callable[..., Loss] = vae_loss._reference


def _loss_of(model: nn.Module, x: Tensor) -> Tensor:
    logits, mu, logvar = model(x)
    return _vae_loss(logits, x, mu, logvar)[0]


def _twin(model: _Model) -> _Model:
    """The same parameters, and a memory of its own."""
    twin = copy.deepcopy(model)
    twin.visits = _Visits()
    return twin


def _pixels(draw: Draw, n: int, alike: bool = False) -> Tensor:
    """(n, 11) binary and grey pixels; no two rows are the same, if only by the last pixel.

    With examples that are `alike` all else is the same whatever the order they come in.
    """
    u = draw.uniform(0.05, 0.95, 1 if alike else n, 10)
    pixels = torch.cat([(u[:, :6] > 0.5).to(u.dtype), u[:, 6:]], -1).expand(n, -1)
    return torch.cat([pixels, torch.arange(1, n + 1, dtype=u.dtype)[:, None] / (n + 1)], -1)


def _mode(training: bool) -> str:
    return "training mode" if training else "evaluation mode"


def _kind(result: Any) -> str:
    if result is None:
        raise WrongResult(described(result))
    return "a float" if isinstance(result, float) else f"a {type(result).__name__}"


# --- training_step -------------------------------------------------------------------------------


@_assignment.task(
    "One minibatch, forwards and backwards",
    hint="Five steps: call the model, unpack the three values of vae_loss, optimizer.zero_grad(), "
    "loss.backward(), optimizer.step(). Return loss.item().",
    draws=True,
)
def training_step(model: nn.Module, optimizer: Optimizer, x: Tensor) -> float:
    logits, mu, logvar = model(x)
    loss, _, _ = _vae_loss(logits, x, mu, logvar)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


_step: Callable[..., float] = training_step._reference


def _optimizers(draw: Draw, scale: float = 1) -> Iterator[tuple[str, _Model, Optimizer]]:
    """A model for each of several optimizers."""
    model = _Model(draw, scale)
    groups = [
        {"params": [model.encoder], "lr": 0.05},
        {"params": [model.decoder, model.bias], "lr": 0.2},
    ]
    yield "SGD with momentum", model, SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
    model = _Model(draw, scale)
    yield "Adam", model, Adam(model.parameters(), lr=0.05)


@training_step.aspect("value", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for n, scale in ((5, 1), (3, 1), (1, 1), (4, 3), (2, 3), (1, 3)):
        model = _Model(draw, scale)
        result = function(model, SGD(model.parameters(), lr=0.1), _pixels(draw, n))
        name = f"the loss of {n} examples before the step{', far' * (scale > 1)}"
        yield name, _number(result)


@training_step.aspect("step", points=2, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for name, model, optimizer in _optimizers(draw):
        before = model.flat()
        for count, n in (("one step", 5), ("two steps", 3), ("three steps", 1)):
            function(model, optimizer, _pixels(draw, n))
            after = f"the parameters after {count} of {name}"
            yield after, model.flat()
            still = torch.equal(before, model.flat())
            left = any(p.grad is not None for p in model.parameters())
            yield f"{after}: gradients", Clue("there, not used" if still and left else "")
            optimizer.zero_grad()
        modes = {visit.mode for visit in model.visits if visit.gradients}
        yield f"the mode of the model in steps of {name}", ", ".join(sorted(modes))
    model = _Model(draw, 3)
    with torch.no_grad():  # long codes: so large a gradient shows it when gradients are clipped
        model.encoder[:, :2].mul_(300)
        model.decoder.div_(300)
    function(model, SGD(model.parameters(), lr=0.1), _pixels(draw, 4))
    yield "the parameters after a step, far", model.flat()
    yield seeds(lambda: function(model, SGD(model.parameters(), lr=0.001), _pixels(draw, 4)))


@training_step.aspect("stale", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # Against the function's own steps: that those are right is another aspect.
    model = _Model(draw)
    fresh = _twin(model)
    start = model.flat()
    x = [_pixels(draw, 5), _pixels(draw, 4)]
    stale, clean = (
        SGD([{"params": [m.encoder]}, {"params": [m.decoder, m.bias]}], lr=0.1)
        for m in (model, fresh)
    )
    for parameter in model.parameters():
        parameter.grad = draw.uniform(0.5, 1.0, *parameter.shape)
    for count, minibatch in zip(("first", "second"), x, strict=True):
        function(model, stale, minibatch)
        function(fresh, clean, minibatch)
        clean.zero_grad()
        ratio = (model.flat() - start).norm() / (fresh.flat() - start).norm()
        yield f"how far the {count} step goes, divided by that without stale gradients", ratio
        angle = torch.cosine_similarity(model.flat() - start, fresh.flat() - start, 0, 0.0)
        yield f"the cosine between the {count} step and that without stale gradients", angle


@training_step.aspect("float", points=1)
def _(function: Function, draw: Draw) -> Observed:
    draw.dtype = torch.float32  # as networks come, whatever the other aspects are checked in
    model = _Model(draw)
    optimizer = SGD(model.parameters(), lr=0.1)
    yield "what comes back", _kind(function(model, optimizer, _pixels(draw, 5)))
    yield "the dtype of the parameters afterwards", str(model.bias.dtype)


# --- train_epoch ---------------------------------------------------------------------------------


@_assignment.task(
    "The whole run",
    hint="torch.randperm(len(x), generator=generator).split(batch_size) gives the indices of each "
    "minibatch. Add up training_step(…) times the number of its examples, and divide by len(x).",
    draws=True,
)
def train_epoch(
    model: nn.Module, optimizer: Optimizer, x: Tensor, batch_size: int, generator: torch.Generator
) -> float:
    total = 0.0
    order = torch.randperm(len(x), generator=generator)
    for batch in order.split(batch_size):
        total += _step(model, optimizer, x[batch]) * len(batch)
    return total / len(x)


def _minibatches(model: _Model, x: Tensor) -> list[tuple[list[int], _Visit]]:
    """Those the model was trained on: asked twice in a row for the same is once."""
    batches: list[tuple[list[int], _Visit]] = []
    for visit in model.visits:
        rows = _rows(visit.x, x)
        if visit.gradients and not (batches and batches[-1][0] == rows):
            batches.append((rows, visit))
    return batches


def _rows(seen: Tensor, x: Tensor) -> list[int]:
    """Which rows of x these are; −1 for none."""
    same = (seen.reshape(-1, 1, x.shape[1]) == x).all(-1)
    return [int(row.nonzero()[0]) if row.any() else -1 for row in same]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@train_epoch.aspect("coverage", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for n, batch_size in ((9, 4), (8, 4), (3, 5), (3, 1), (1, 3)):
        model, x = _Model(draw), _pixels(draw, n)
        optimizer = SGD(model.parameters(), lr=0.05)
        function(model, optimizer, x, batch_size, _generator(draw.seed()))
        batches = [rows for rows, _ in _minibatches(model, x)]
        seen = [row for rows in batches for row in rows]
        counts = {seen.count(i) for i in range(n)}
        said = ["some never"] * (0 in counts) + ["some more than once"] * (max(counts) > 1)
        said += ["some that are not in x"] * (-1 in seen)
        case = f"{n} examples, batch_size {batch_size}"
        yield f"how often each example is seen, {case}", " and ".join(said) or "once"
        sizes = tuple(sorted(map(len, batches), reverse=True))
        yield f"the sizes of the minibatches, {case}", sizes


@train_epoch.aspect("order", points=2)
def _(function: Function, draw: Draw) -> Observed:
    # With 13 examples two orders agree by chance once in 6 · 10⁹. In one epoch in 2,800 each
    # minibatch holds neighbours by chance, the last and the first being such, too, and so in all
    # three once in 2 · 10¹⁰.
    x, model, seed = _pixels(draw, 13), _Model(draw), draw.seed()

    def order(generator: torch.Generator) -> list[list[int]]:
        model.visits.clear()
        own = x.clone()
        function(model, SGD(model.parameters(), lr=0.05), own, 5, generator)
        return [rows for rows, _ in _minibatches(model, x)]

    generator = _generator(seed)
    first, second, third = (order(generator) for _ in range(3))
    again, other = order(_generator(seed)), order(_generator(seed + 1))
    flat = [[row for rows in epoch for row in rows] for epoch in (first, second, other)]
    unshuffled = all(rows == sorted(rows) for rows in flat)
    yield "the order, beside that of x", "the same" if unshuffled else "another"
    parts = [rows for rows in first + second + other if 1 < len(rows) < len(x)]
    ends = [sum((row + 1) % len(x) not in rows for row in rows) for rows in parts]
    pieces = parts and all(number == 1 for number in ends)
    yield "what a minibatch holds", "neighbours of x" if pieces else "examples from everywhere"
    if pieces:  # three minibatches may come in the same order twice
        return
    for name, epoch in {
        "in a second epoch": second,
        "for the same seed": again,
        "for another seed": other,
    }.items():
        yield f"the order {name}", "the same" if epoch == first else "another"
    yield "the order in a third epoch", "that of the second" if third == second else "another"
    # By chance once in 9 · 10¹¹.
    epochs = [[row for rows in order(generator) for row in rows] for _ in range(12)]
    fixed = any(len({epoch[i] if epoch else -1 for epoch in epochs}) == 1 for i in (0, -1))
    yield "the first or the last example of twelve epochs", "always the same" if fixed else "others"


@train_epoch.aspect("steps", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    # Against right steps on the minibatches that were seen, whichever they are.
    modes: set[str] = set()
    for alike, n, batch_size in ((True, 11, 4), (True, 8, 5), (False, 11, 4)):
        x, model = _pixels(draw, n, alike), _Model(draw)
        twin = _twin(model)
        optimizer, again = (SGD(m.parameters(), lr=0.05, momentum=0.5) for m in (model, twin))
        given = x.clone()
        for _ in range(2):  # what an optimizer remembers, it keeps for the next epoch
            model.visits.clear()
            result = function(model, optimizer, x, batch_size, _generator(draw.seed()))
            for _, visit in _minibatches(model, given):
                _step(twin, again, visit.x)
        apart = model.flat() - twin.flat()
        if alike:
            name = f"the parameters, beside those after one step on each minibatch, {n} examples"
            yield name, apart
        else:
            right = bool((apart.abs() < 1e-4).all())
            yield "whether each minibatch has a step of its own", "yes" if right else "no"
        modes |= {visit.mode for visit in model.visits if visit.gradients}
    yield "the mode of the model in the steps", ", ".join(sorted(modes))
    kind = "nothing" if result is None else _kind(result)  # "mean" tells that nothing comes back
    yield "what comes back", kind
    yield seeds(lambda: function(model, optimizer, x, batch_size, _generator(1)))


@train_epoch.aspect("mean", points=2)
def _(function: Function, draw: Draw) -> Observed:
    cases = ((True, 9, 8), (True, 11, 5), (True, 13, 4), (True, 1, 3), (False, 11, 5))
    for alike, n, batch_size in cases:
        x, model = _pixels(draw, n, alike), _Model(draw)
        optimizer = SGD(model.parameters(), lr=0.2)
        given = x.clone()
        result = _number(function(model, optimizer, x, batch_size, _generator(draw.seed())))
        batches = _minibatches(model, given)
        total = sum(visit.loss * len(rows) for rows, visit in batches)
        ratio = result / (total / max(1, sum(len(rows) for rows, _ in batches)))
        if not batches:  # that the only example is left out is another aspect
            ratio = torch.ones(1)
        if alike:
            examples = f"{n} example{'s' * (n > 1)}"
            name = f"the mean of {examples}, each before its step, batch_size {batch_size}"
            yield f"what comes back, divided by {name}", ratio
        else:
            right = len(ratio) == 1 and bool((ratio - 1).abs() < 1e-4)
            yield "whether it is the mean where examples differ", "yes" if right else "no"


# --- evaluate ------------------------------------------------------------------------------------


@_assignment.task(
    "The whole run",
    hint="Keep model.training, call model.eval(), and go through x.split(batch_size) inside "
    "`with torch.no_grad():`. Weigh each loss by len(batch), divide by len(x), and call "
    "model.train(…) with what you kept.",
    draws=True,
)
def evaluate(model: nn.Module, x: Tensor, batch_size: int) -> float:
    was_training = model.training
    model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in x.split(batch_size):
            logits, mu, logvar = model(batch)
            total += _vae_loss(logits, batch, mu, logvar)[0].item() * len(batch)
    model.train(was_training)
    return total / len(x)


@evaluate.aspect("mean", points=2)
def _(function: Function, draw: Draw) -> Observed:
    # A model that is found in evaluation mode: setting it is another aspect.
    sizes = ((9, 8, 1), (11, 4, 1), (8, 4, 1), (3, 5, 1), (1, 1, 1), (5, 2, 3), (23, 2, 1))
    for n, batch_size, scale in sizes:
        result = function(_Model(draw, scale).eval(), _pixels(draw, n), batch_size)
        name = f"the mean loss of {n} examples, batch_size {batch_size}{', far' * (scale > 1)}"
        yield name, _number(result)


@evaluate.aspect("mode", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for mode in (True, False):
        model = _Model(draw).train(mode)
        model.bias.requires_grad_(False)  # frozen, and so it stays
        model.encoder.grad = torch.ones_like(model.encoder)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        function(model, _pixels(draw, 5), 3)
        found = f"for a model found in {_mode(mode)}"
        seen = ", ".join(sorted({visit.mode for visit in model.visits}))
        yield f"the mode it is evaluated in, {found}", seen
        left = {_mode(module.training) for module in model.modules()}
        yield f"the mode it is left in, {found}", " and ".join(sorted(left))
        needs = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        yield (
            f"parameters that require gradients afterwards, {found}",
            " and ".join(needs) or "none",
        )
        kept = all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        yield f"parameters and buffers afterwards, {found}", "the same" if kept else "others"
        slopes = model.encoder.grad, model.decoder.grad
        kept = slopes[0] is not None and bool((slopes[0] == 1).all()) and slopes[1] is None
        yield f"gradients that were there, {found}", "the same" if kept else "others"
    yield seeds(lambda: function(model, _pixels(draw, 5), 3))


@evaluate.aspect("memory", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for n, batch_size in ((11, 3), (12, 5)):
        model = _Model(draw)
        function(model, _pixels(draw, n), batch_size)
        recorded = any(visit.gradients for visit in model.visits)
        case = f"{n} examples, batch_size {batch_size}"
        yield f"whether gradients are recorded, {case}", "yes" if recorded else "no"
        largest = max((visit.x.numel() // 11 for visit in model.visits), default=0)
        allowed = 1 < largest <= batch_size
        yield f"the largest minibatch, {case}", "at most batch_size" if allowed else str(largest)


@evaluate.aspect("float", points=1)
def _(function: Function, draw: Draw) -> Observed:
    draw.dtype = torch.float32  # as networks come, whatever the other aspects are checked in
    model = _Model(draw)
    yield "what comes back", _kind(function(model, _pixels(draw, 5), 3))
    yield "the dtype of the parameters afterwards", str(model.bias.dtype)
