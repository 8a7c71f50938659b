"""1-autoencoders: what is checked.

Networks are judged by what they do, whatever their layers are called and however they start.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vae_exercises.assignment import Assignment
from vae_exercises.draw import Draw
from vae_exercises.errors import WrongResult
from vae_exercises.facts import Near
from vae_exercises.networks import (
    CURVE,
    OTHER,
    RELU,
    alike,
    before_sigmoid,
    bends_along,
    between_layers,
    dtype_of,
    fill_parameters,
    how_many,
    numbers_in,
    parameters_of_halves,
    positive,
    reached_by,
    still,
    trainable,
    used_by,
)
from vae_exercises.observe import (
    Function,
    Observed,
    Watched,
    form,
    gradients,
    seeds,
    tensor,
    unpacked,
)

_assignment = Assignment("1-autoencoders", ("autoencoders", "Autoencoders"))

__all__ = [
    "Autoencoder",
    "both",
    "initialise_classifier",
    "linear_autoencoder_weights",
    "reconstruction_error",
]

# --- linear_autoencoder_weights ------------------------------------------------------------------


@_assignment.task(
    "The best linear autoencoder is PCA",
    hint="Take the mean over the examples away, then take the right singular vectors (the rows of "
    "Vh in torch.linalg.svd) that belong to the k largest singular values, as columns.",
    draws=True,  # as torch.pca_lowrank does
)
def linear_autoencoder_weights(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    v = torch.linalg.svd(x - mean, full_matrices=False).Vh.mT
    return mean, v[:, :k]


CLOUDS = {  # N, D, k, scale
    "a cloud": (11, 6, 2, 1.0),
    "a large cloud": (9, 5, 1, 50.0),
    "a small cloud": (8, 4, 2, 0.03),
}


def _cloud(draw: Draw, n: int, d: int, k: int, scale: float = 1) -> Tensor:
    """(n, d): k directions of large variance, its centre far off in another one."""
    sizes = torch.tensor([0.3 - 0.02 * i for i in range(d)], dtype=draw.dtype)
    sizes[:k] = torch.tensor([8.0, 6.0, 5.0][:k], dtype=draw.dtype)
    noise = draw.normal(n, d)
    scores = torch.linalg.qr(noise - noise.mean(0)).Q * sizes  # uncorrelated
    axes = torch.linalg.qr(draw.normal(d, d)).Q
    cloud: Tensor = scores @ axes.mT + 3 * axes[:, -1] + draw.mean(d)
    return scale * cloud


def _mean_and_columns(function: Function, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What came back, directions as columns; rows (k, D) are judged by their shape alone."""
    mean, w = _two(function(x, k))
    if w.dim() == 1:
        w = w[:, None]
    return mean, w.mT if w.shape == (k, x.shape[1]) else w


def _two(value: Any) -> tuple[Tensor, Tensor]:
    mean, w = unpacked(value, 2, "the mean and W, two tensors")
    return tensor(mean), tensor(w)


def _projection(w: Tensor) -> Tensor:
    """On the columns' span: the same for each of its bases."""
    q: Tensor = torch.linalg.qr(w).Q
    return q @ q.mT


@linear_autoencoder_weights.aspect("mean", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for name, (n, d, k, scale) in CLOUDS.items():
        mean, _ = _mean_and_columns(function, _cloud(draw, n, d, k, scale), k)
        yield f"the mean of {name}, {n, d}", mean.reshape(-1)


@linear_autoencoder_weights.aspect("subspace", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for name, (n, d, k, scale) in CLOUDS.items():
        x = _cloud(draw, n, d, k, scale)
        _, w = _mean_and_columns(function, x, k)
        exact = _projection(torch.linalg.eigh(torch.cov(x.mT)).eigenvectors[:, -k:])
        # Wide enough for randomised algorithms such as torch.pca_lowrank.
        tolerance = torch.full((), 0.003, dtype=draw.dtype)
        seen = Near(_projection(w), exact, tolerance)
        yield f"the projection on the span of W's columns, for {name} {n, d} and k = {k}", seen


@linear_autoencoder_weights.aspect("orthonormal", points=1)
def _(function: Function, draw: Draw) -> Observed:
    for name, (n, d, k, scale) in CLOUDS.items():
        _, w = _mean_and_columns(function, _cloud(draw, n, d, k, scale), k)
        yield f"Wᵀ W, for {name} {n, d} and k = {k}", (w.mT @ w)[:k, :k]


@linear_autoencoder_weights.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    for n, d, k in ((11, 6, 2), (9, 5, 1), (7, 4, 3)):
        cloud = _cloud(draw, 11, d, k)[:n]
        for dtype in (torch.float32, torch.float64):
            mean, w = _two(function(cloud.to(dtype), k))
            what = f"for {str(dtype).removeprefix('torch.')} inputs {n, d} and k = {k}"
            yield f"the shapes of mean and W {what}", (tuple(mean.shape), tuple(w.shape))
            dtypes = {str(value.dtype).removeprefix("torch.") for value in (mean, w)}
            yield f"the dtypes {what}", " and ".join(sorted(dtypes))
    yield seeds(lambda: function(cloud, 1))


# --- reconstruction_error ------------------------------------------------------------------------


@_assignment.task(
    "The loss between input and reconstruction",
    hint="Subtract, square each difference, flatten all dimensions but the first into one, and sum "
    "over that.",
)
def reconstruction_error(x: Tensor, x_hat: Tensor) -> Tensor:
    difference = x - x_hat
    return (difference**2).flatten(1).sum(1)


SHAPES = [(5, 7), (4, 2, 3, 5), (1, 3, 2), (4, 1)]


def _pictures(draw: Draw, *shape: int) -> dict[str, Tensor]:
    """x and x_hat in (0, 1), no pixel of them equal; x_hat is too dark on the whole."""
    x = draw.uniform(0.4, 0.9, *shape)
    return {"x": x, "x_hat": x - 0.15 + draw.uniform(0.2, 0.24, *shape) * draw.sign(*shape)}


@reconstruction_error.aspect("value", points=2)
def _(function: Function, draw: Draw) -> Observed:
    for shape in SHAPES:
        error = tensor(function(*_pictures(draw, *shape).values())).reshape(-1)
        yield f"the error of each example, inputs {shape}", error


@reconstruction_error.aspect("shape", points=1, conduct=True)
def _(function: Function, draw: Draw) -> Observed:
    yield from form(function, *(_pictures(draw, *shape) for shape in SHAPES))


@reconstruction_error.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    yield from gradients(function, draw.uniform(0.5, 1.5, 5), **_pictures(draw, 5, 7))
    # Of both signs and any size: some losses are not defined here.
    far = {name: 9 * draw.mean(5, 3) for name in ("x", "x_hat")}
    for name, gradient in gradients(function, draw.uniform(0.5, 1.5, 5), **far):
        yield f"{name}, for numbers that are not pixels", gradient


# --- Autoencoder ---------------------------------------------------------------------------------


@_assignment.task(
    "From linear to convolutional",
    hint="Four nn.Linear layers, made in __init__: data_dim to hidden_dim to code_dim, and back. A "
    "ReLU stands between the two of each side, and a sigmoid after the last.",
    draws=True,
)
class Autoencoder(nn.Module):
    def __init__(self, data_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        self.inwards = nn.Linear(data_dim, hidden_dim)
        self.to_code = nn.Linear(hidden_dim, code_dim)
        self.outwards = nn.Linear(code_dim, hidden_dim)
        self.to_data = nn.Linear(hidden_dim, data_dim)

    def encode(self, x: Tensor) -> Any:
        return self.to_code(self.inwards(x).relu())

    def decode(self, h: Tensor) -> Any:
        return self.to_data(self.outwards(h).relu()).sigmoid()

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x))


_autoencoders = _assignment.tasks["Autoencoder"]


MODES = ("", ", in training mode")


@_autoencoders.aspect("shape", points=1, conduct=True)
def _(function: Watched, draw: Draw) -> Observed:
    call = function.beside(lambda module, name, x: getattr(module, name)(x), draws=False)
    for d, hidden, k in ((7, 5, 3), (3, 1, 1), (1, 2, 4)):
        model = trainable(function(d, hidden, k))
        for n, training in ((4, False), (1, False), (4, True), (1, True)):
            model.train(training)
            inputs = {"encode": positive(draw, n, d), "decode": positive(draw, n, k)}
            for name, value in inputs.items():
                result = tensor(call(model, name, value))
                what = f"of {name}'s result, N = {n} and sizes {d, hidden, k}"
                yield f"the shape {what}{MODES[training]}", tuple(result.shape)
                yield f"the dtype {what}{MODES[training]}", f"{result.dtype}"[6:]
            if hidden == 5:
                call(model, "forward", inputs["encode"])
    yield seeds(lambda: function(3, 2, 1))


@_autoencoders.aspect("layers", points=2)
def _(function: Function, draw: Draw) -> Observed:
    # Doubles show bends best. A network that takes no doubles is looked at in singles.
    model = trainable(function(4, 1, 3))
    dtype = dtype_of(model, 4, 3)
    halves = {
        "encoder": (4, model.encode),
        "decoder": (3, lambda h: before_sigmoid(model.decode(h))),
    }
    seen: dict[str, set[str]] = {half: set() for half in halves}
    for sign in (None, None, 1, -1, None, None):
        fill_parameters(model.parameters(), draw, sign)
        for half, (width, call) in halves.items():
            seen[half].add(between_layers(call, draw, width, dtype))
    for half, found in seen.items():
        others = sorted(found - {RELU}) or [RELU]
        yield f"between the two layers of the {half}", others[0] if len(others) == 1 else OTHER

    model = trainable(function(4, 3, 2))
    dtype = dtype_of(model, 4, 2)
    halves = {
        "encoder": (4, model.encode),
        "decoder": (2, lambda h: before_sigmoid(model.decode(h))),
    }
    bends: dict[str, list[int]] = {half: [] for half in halves}
    for _ in range(4):
        fill_parameters(model.parameters(), draw)
        for half, (width, call) in halves.items():
            bends[half] += [bends_along(call, way, dtype) for way in torch.eye(width)]
    for half, counts in bends.items():
        most = "a curve all along" if max(counts) == CURVE else "more than 3"
        what = f"bends of the {half} along a straight line, with hidden_dim = 3"
        yield what, most if max(counts) > 3 else max(counts)

    used, more = (
        parameters_of_halves(trainable(function(4, hidden, 2)), draw) for hidden in (3, 5)
    )
    for half in halves:
        numbers = [found[half][1] for found in (used, more)]
        what = f"numbers in the weights and biases of the {half}, sizes (4, 3, 2)"
        yield what, "the same for every hidden_dim" if len(set(numbers)) == 1 else numbers[0]
    yield (
        "parameters of the encoder that the decoder uses",
        how_many(*(found for found, _ in used.values())),
    )

    # So many hidden units that some are not off, whatever their biases and however small weights.
    model = trainable(function(12, 40, 6))
    for name, call, width in (("encode", model.encode, 12), ("decode", model.decode, 6)):
        y = still(call, draw.normal(7, width).float()).reshape(7, -1)
        examples, places = ((y - y.mean(i, keepdim=True)).abs().max() > 1e-6 for i in (0, 1))
        spread = "numbers that differ" if places else "the same number in every place"
        what = f"what {name} gives of different examples, before training"
        yield what, spread if examples else "the same for all of them"


@_autoencoders.aspect("range", points=1)
def _(function: Function, draw: Draw) -> Observed:
    # So many numbers that some are high and some are low, wherever parameters have both signs, and
    # so many hidden units that some are not off.
    model = trainable(function(40, 20, 30))
    fill_parameters(model.parameters(), draw)
    x, h = positive(draw, 4, 40), positive(draw, 4, 30)
    codes, pixels = still(model.encode, x), still(model.decode, h)
    sizes = {"their sum": codes.sum(1), "their length": codes.norm(dim=1)}
    found = [name for name, size in sizes.items() if (size - 1).abs().max() < 1e-4]
    yield "what is 1 for all codes", " and ".join(found) or "nothing"
    signs = [name for name, some in (("below", codes < 0), ("above", codes > 0)) if some.any()]
    yield "the codes", f"{' and '.join(signs)} 0"
    low, high = pixels.min().item(), pixels.max().item()
    least = "below 0" if low < 0 else "0" if low == 0 else "dark" if low < 0.499 else "grey"
    yield "the range of decode", f"{least} to {'bright' if high > 0.501 else 'grey'}"
    ones = (pixels.reshape(4, -1).sum(1) - 1).abs().max() < 1e-4
    yield "the sum of a picture's pixels", "always 1" if ones else "any number"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e4)
    size = still(model.encode, x).abs().max()
    what = next((f"within ±{most}" for most in (1, 5, 100) if size <= most), "large")
    yield "the largest codes", what
    yield "the largest pixels", "above 1" if still(model.decode, h).max() > 1 else "1 at most"


@_autoencoders.aspect("forward", points=1)
def _(function: Function, draw: Draw) -> Observed:
    model = trainable(function(7, 5, 3))
    fill_parameters(model.parameters(), draw)
    x = torch.cat([positive(draw, 4, 7), 60 * draw.normal(20, 7).float()])
    code = still(model.encode, x)
    parts = still(model.decode, code)
    whole = still(model, x)
    others = {
        "decode(encode(x))": parts,
        "encode(x), not decoded": code,
        "x itself": x,
        "the sigmoid of decode(encode(x))": parts.sigmoid(),
        "decode(encode(x)) before its sigmoid": parts.logit(),
    }
    found = [name for name, other in others.items() if alike(whole, other)]
    shape = "something else" if whole.shape == parts.shape else "a result of another shape"
    yield "what forward(x) gives", found[0] if found else shape
    alone = [still(call, x[:1]).shape for call in (model, lambda x: model.decode(model.encode(x)))]
    what = "the shape of forward(x), beside decode(encode(x))'s, N = 1"
    yield what, "the same" if alone[0] == alone[1] else "another"
    model.train()
    torch.default_generator.manual_seed(2)
    with torch.no_grad():
        again = [alike(tensor(model(x)), tensor(model(x))) for _ in range(3)]
        apart = alike(torch.cat([model(x[:2]), model(x[2:])]), tensor(model(x)))
    yield "forward(x), called twice in training mode", "the same" if all(again) else "not the same"
    if all(again):
        what = "forward of two examples, alone and beside others, in training mode"
        yield what, "the same" if apart else "not the same"
        calls = {"encode": (model.encode, x), "decode": (model.decode, code), "forward": (model, x)}
        for name, (call, value) in calls.items():
            modes = [still(call, value) for _ in (model.train(), model.eval())]
            what = f"{name} in training mode, beside evaluation mode"
            yield what, "the same" if alike(*modes) else "not the same"


@_autoencoders.aspect("gradient", points=1)
def _(function: Function, draw: Draw) -> Observed:
    model = trainable(function(7, 5, 3))
    fill_parameters(model.parameters(), draw, 1)  # no ReLU is off
    x, h = positive(draw, 4, 7).requires_grad_(), positive(draw, 4, 3).requires_grad_()
    calls = {"encode": (model.encode, x), "decode": (model.decode, h)}
    for name, (call, value) in calls.items():
        own = used_by(model, call, value.detach())
        asking = [p for p in own if p.requires_grad]
        yield f"parameters of {name} with requires_grad", how_many(own, asking)
        for training in (False, True):
            arrived = reached_by(tensor(model.train(training)(x)), [*model.parameters()])
            what = f"parameters of {name} that get a gradient from forward(x){MODES[training]}"
            yield what, how_many(own, arrived)
    model.eval()
    for name, (call, value) in {**calls, "forward": (model, x)}.items():
        there = "there" if reached_by(tensor(call(value)), [value]) else "missing"
        yield f"the gradient of {name} in its input", there


# --- initialise_classifier -----------------------------------------------------------------------


@_assignment.task(
    "Few labels, many pictures",
    hint="Make a module that holds the autoencoder's own encoder and one new "
    "nn.Linear(code_dim, n_classes), and applies the one after the other.",
    draws=True,
)
def initialise_classifier(autoencoder: Any, code_dim: int, n_classes: int) -> nn.Module:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.autoencoder = autoencoder
            self.layer = nn.Linear(code_dim, n_classes)

        def forward(self, x: Tensor) -> Any:
            return self.layer(self.autoencoder.encode(x))

    return Classifier()


@dataclass(frozen=True)
class _Both:
    """A student's `initialise_classifier`, and the class that it was written for."""

    autoencoder: Any
    initialise: Function

    def __call__(self, *inputs: Any) -> Any:
        return self.initialise(*inputs)

    @property
    def __code__(self) -> Any:
        return getattr(self.initialise, "__code__", None)


def both(autoencoder: Any, initialise: Function) -> Function:
    """What `initialise_classifier` is judged by: a student's function, with a student's class.

    Only the class's author knows where the encoder is.
    """
    return _Both(autoencoder, initialise)


def _written_for(initialise: Function) -> Any:
    """The class of autoencoders of a function: that of its first argument's annotation."""
    if isinstance(initialise, _Both):
        return initialise.autoencoder
    names = getattr(initialise, "__globals__", {})
    annotation = next(iter(getattr(initialise, "__annotations__", {}).values()), None)
    own = names.get(getattr(annotation, "__name__", annotation), names.get("Autoencoder"))
    return own if isinstance(own, type) and issubclass(own, nn.Module) else None


@functools.cache
def _is_right(own: Any) -> bool:
    return not _autoencoders._fails(own)


def _autoencoder(initialise: Function, *sizes: int) -> Any:
    """A student's own autoencoder, or the course's where that is wrong and not needed.

    So a mistake in the class costs nothing here.
    """
    own, course = _written_for(initialise), _autoencoders._reference
    if own is None or own is course or _is_right(own):
        return (own or course)(*sizes)
    try:
        initialise(course(6, 5, 3), 3, 4)(torch.zeros(1, 6))
        return course(*sizes)
    except NotImplementedError:
        return course(*sizes)
    except Exception:
        try:
            own(6, 5, 3).encode(torch.zeros(1, 6))
        except NotImplementedError:
            raise WrongResult(
                "Autoencoder is not written yet: this function needs a part of it"
            ) from None
        return own(*sizes)


class _Made:
    """An autoencoder and the classifier that a function makes of it; what became of the first.

    Attributes:
        changed: what the call changes. A new layer may be kept in the autoencoder.
        kept: whether codes and reconstructions are the same after the call.
        own: the classifier's parameters that are not the autoencoder's.
        copies: those of them that begin as the autoencoder's, with these.
    """

    def __init__(self, function: Watched, *sizes: int) -> None:
        *_, code_dim, n_classes = sizes
        self.autoencoder = model = _autoencoder(function.function, *sizes[:-1])
        self.parameters = list(model.parameters())
        x = torch.linspace(-1, 1, 3 * sizes[0]).reshape(3, -1)
        before, outputs = self._state(), [still(model.encode, x), still(model, x)]
        made = function.beside(lambda: function.function(model, code_dim, n_classes), True)()
        changed = [name for name, value in self._state().items() if value != before[name]]
        self.changed = ", ".join(changed) or "nothing"
        self.classifier = trainable(made)
        self.kept = [
            alike(old, still(call, x))
            for old, call in zip(outputs, (model.encode, model), strict=True)
        ]
        self.own, self.copies = [], []
        for p in self.classifier.parameters():
            if not any(p is q for q in self.parameters):
                equal = [q for q in self.parameters if q.shape == p.shape and torch.equal(q, p)]
                self.copies += [(p, q) for q in equal[:1]]
                self.own += [] if equal else [p]

    def _state(self) -> dict[str, Any]:
        return {
            "requires_grad of a parameter is changed": [p.requires_grad for p in self.parameters],
            "the training mode of the autoencoder is changed": self.autoencoder.training,
        }


@initialise_classifier.aspect("sharing", points=3)
def _(function: Watched, draw: Draw) -> Observed:
    made = _Made(function, 6, 5, 3, 4)
    autoencoder, classifier = made.autoencoder, made.classifier
    for name, kept in zip(("codes", "reconstructions"), made.kept, strict=True):
        yield f"the autoencoder's {name} after the call", "unchanged" if kept else "changed"

    x = positive(draw, 8, 6)
    listed = list(classifier.parameters())
    fill_parameters(made.parameters, draw, 1)  # no ReLU is off
    encoder = used_by(autoencoder, autoencoder.encode, x)
    among = how_many(encoder, listed)
    if among == "none" and made.copies:
        among = "copies of them"
    yield "the encoder's parameters among the classifier's", among
    asking = all(p.requires_grad for p in encoder)
    yield "the encoder's parameters", "to be trained" if asking else "frozen"

    fill_parameters(made.own or listed, draw, 1)
    logits = still(classifier, x)
    with torch.no_grad():
        for parameter in encoder:
            parameter.mul_(1.5)
    same = torch.allclose(still(classifier, x), logits)
    yield "the logits when the encoder changes", "unchanged" if same else "changed"
    for training in (False, True):
        trained = reached_by(tensor(classifier.train(training)(x)), listed)
        what = "parameters of the encoder that a gradient step on the classifier changes"
        yield f"{what}{MODES[training]}", how_many(encoder, trained)


@initialise_classifier.aspect("logits", points=1)
def _(function: Watched, draw: Draw) -> Observed:
    made = _Made(function, 6, 5, 3, 4)
    autoencoder, classifier = made.autoencoder, made.classifier

    def fill(sign: int | None, size: float) -> None:
        fill_parameters([*made.parameters, *made.own], draw, sign)
        with torch.no_grad():
            for p in [*made.parameters, *made.own]:
                p.mul_(size)
            for p, q in made.copies:  # whether they are shared is another aspect
                p.copy_(q)

    x = 3 * draw.normal(60, 6).float()
    kinds = []
    for _ in range(4):
        fill(None, 8)  # codes and logits are large
        kinds.append(_kind(still(classifier, x), still(autoencoder.encode, x)))
    yield "the logits", next((kind for kind in kinds if kind != LINEAR), LINEAR)
    apart = alike(still(classifier, x[:2]), still(classifier, x)[:2])
    yield "the logits of two examples, alone and beside others", "the same" if apart else "others"
    classifier.train()
    with torch.no_grad():
        random = not alike(tensor(classifier(x)), tensor(classifier(x)))
    modes = [still(classifier, x) for _ in (classifier.train(), classifier.eval())]
    same = random or alike(*modes)  # that they are not to be random is another aspect
    yield "the logits in training mode, beside evaluation mode", "the same" if same else "others"

    fill(1, 1)  # no ReLU is off, and no sigmoid at its end
    x = positive(draw, 8, 6)
    encoder, used = used_by(autoencoder, autoencoder.encode, x), used_by(autoencoder, classifier, x)
    decoder = [p for p in used if any(p is q for q in made.parameters)]
    decoder = [p for p in decoder if not any(p is q for q in encoder)]
    yield "what the decoder has to do with the logits", "something" if decoder else "nothing"
    numbers = numbers_in(reached_by(tensor(classifier(x)), made.own), classifier, x)
    what = "numbers in the new layer that a gradient step changes, code_dim = 3 and n_classes = 4"
    yield what, numbers if numbers <= 16 else "more than in V and c"


LINEAR = "a linear function of the codes"


def _kind(logits: Tensor, codes: Tensor) -> str:
    ones = torch.ones(len(codes), 1)
    if len(logits) == len(codes) and logits.dim() == 2:
        for kind, some in ((LINEAR, codes), ("a linear function of the codes' ReLU", codes.relu())):
            inputs = torch.cat([some, ones], 1).double()
            line = inputs @ torch.linalg.lstsq(inputs, logits.double(), driver="gelsd").solution
            if (line - logits).abs().max() < 1e-4 * (1 + logits.abs().max()):
                return kind
    if alike(logits.sum(0), torch.ones(logits.shape[1:])) and bool((logits >= 0).all()):
        return "probabilities of the examples"
    if alike(logits.sum(-1, keepdim=True), ones) and bool((logits >= 0).all()):
        return "probabilities"
    if alike(logits.exp().sum(-1, keepdim=True), ones):
        return "logarithms of probabilities"
    if logits.min() >= 0:
        return "between 0 and 1" if logits.max() <= 1 else "never negative"
    return "another function of x"


@initialise_classifier.aspect("shape", points=1, conduct=True)
def _(function: Watched, draw: Draw) -> Observed:
    call = function.beside(lambda module, x: module(x), draws=False)
    for sizes in ((6, 5, 3, 4), (4, 3, 2, 7), (3, 2, 1, 2)):
        made = _Made(function, *sizes)
        for n, training in ((7, False), (1, False), (7, True), (1, True)):
            made.classifier.train(training)
            logits = tensor(call(made.classifier, positive(draw, n, sizes[0])))
            what = f"of the logits, N = {n} and sizes {sizes}{MODES[training]}"
            yield f"the shape {what}", tuple(logits.shape)
            yield f"the dtype {what}", f"{logits.dtype}"[6:]
        yield f"what making a classifier changes, sizes {sizes}", made.changed
    autoencoder = _autoencoder(function.function, 6, 5, 3)
    yield seeds(lambda: function.function(autoencoder, 3, 4))
