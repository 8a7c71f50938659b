"""1-autoencoders: what is checked, and which mistakes are known.

Networks are judged by what they do, whatever their layers are called and however they start.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vaelib.autoencoder as library
from vaelib.exercises.observe import form, gradients, tensor
from vaelib.exercises.task import Draw, Near, Task

__all__ = [
    "Autoencoder",
    "both",
    "initialise_classifier",
    "linear_autoencoder_weights",
    "reconstruction_error",
]

CHAPTER = "Autoencoders"
Facts = Iterator[tuple[str, Any]]
Function = Callable[..., Any]

# --- linear_autoencoder_weights ------------------------------------------------------------------

linear_autoencoder_weights = Task(
    "linear_autoencoder_weights",
    library.linear_autoencoder_weights,
    read=(CHAPTER, "The best linear autoencoder is PCA"),
)

N, D, K = 11, 6, 2


def _cloud(draw: Draw) -> Tensor:
    """(N, D): K directions of large variance, its centre far off in another one."""
    sizes = torch.tensor([8.0, 6.0, 0.4, 0.3, 0.25, 0.2], dtype=torch.float64)
    noise = draw.normal(N, D)
    scores = torch.linalg.qr(noise - noise.mean(0)).Q * sizes  # uncorrelated
    axes = torch.linalg.qr(draw.normal(D, D)).Q
    cloud: Tensor = scores @ axes.mT + 3 * axes[:, -1] + draw.mean(D)
    return cloud


def _mean_and_columns(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """What came back, directions as columns; rows (k, D) are judged by their shape alone."""
    mean, w = function(x, K)
    w = tensor(w)
    return tensor(mean), w.mT if w.shape == (K, D) else w


def _projection(w: Tensor) -> Tensor:
    """On the columns' span: the same for each of its bases."""
    q: Tensor = torch.linalg.qr(w.double()).Q
    return q @ q.mT


@linear_autoencoder_weights.aspect("mean")
def _(function: Function, draw: Draw) -> Facts:
    mean, _ = _mean_and_columns(function, _cloud(draw))
    yield "the mean", mean.reshape(-1)


@linear_autoencoder_weights.aspect("subspace")
def _(function: Function, draw: Draw) -> Facts:
    x = _cloud(draw)
    _, w = _mean_and_columns(function, x)
    exact = _projection(torch.linalg.eigh(torch.cov(x.mT)).eigenvectors[:, -K:])
    # Wide enough for randomised algorithms such as torch.pca_lowrank.
    seen = Near(_projection(w), exact, torch.full((), 0.01, dtype=torch.float64))
    yield "the projection on the span of W's columns", seen


@linear_autoencoder_weights.aspect("orthonormal")
def _(function: Function, draw: Draw) -> Facts:
    _, w = _mean_and_columns(function, _cloud(draw))
    yield "Wᵀ W", (w.mT @ w)[:K, :K]


@linear_autoencoder_weights.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    cloud = _cloud(draw)
    for dtype, name in ((torch.float64, "float64"), (torch.float32, "float32")):
        x = cloud.to(dtype)
        before = x.clone()
        mean, w = (tensor(value) for value in function(x, K))
        yield f"the shapes of mean and W, {name} in", (tuple(mean.shape), tuple(w.shape))
        yield f"the dtypes, {name} in", {str(value.dtype) for value in (mean, w)}
        yield f"x afterwards, {name}", "unchanged" if torch.equal(x, before) else "changed"


def _directions(x: Tensor) -> Tensor:
    """(D, D): the right singular vectors, as columns."""
    v: Tensor = torch.linalg.svd(x, full_matrices=False).Vh.mT
    return v


@linear_autoencoder_weights.mistake(
    "the data are not centred",
    breaks="subspace",
    hint="The first direction points from the origin to the mean. "
    "Variance is about the mean: take it away first.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return x.mean(0), _directions(x)[:, :k]


@linear_autoencoder_weights.mistake(
    "the directions of least variance",
    breaks="subspace",
    hint="These are the k directions that vary least: the worst code. "
    "Mind the order in which the eigenvalues come.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, torch.linalg.eigh(torch.cov(x.mT)).eigenvectors[:, :k]


@linear_autoencoder_weights.mistake(
    "rows and columns of V are confused",
    breaks="subspace",
    hint="torch.linalg.svd gives V transposed: a direction is a row there, not a column.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, _directions(x - mean).mT[:, :k]


@linear_autoencoder_weights.mistake(
    "the data are standardised",
    breaks="subspace",
    hint="Each dimension was divided by its standard deviation. That changes which directions "
    "vary most, and the squared error counts in the units of the data.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, _directions((x - mean) / x.std(0))[:, :k]


@linear_autoencoder_weights.mistake(
    "the left singular vectors",
    breaks="subspace shape",
    hint="U has one row an example. Directions in the space of the data have D numbers: they are "
    "the right singular vectors.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, torch.linalg.svd(x - mean, full_matrices=False).U[:, :k]


@linear_autoencoder_weights.mistake(
    "all directions",
    breaks="subspace shape",
    hint="With D numbers in the code nothing is lost and nothing learnt. Keep k of them.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, _directions(x - mean)


@linear_autoencoder_weights.mistake(
    "scaled by the singular values",
    breaks="orthonormal",
    hint="The directions are right, their lengths are not 1: W Wᵀ x would blow x up.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, (_directions(x - mean) * torch.linalg.svdvals(x - mean))[:, :k]


@linear_autoencoder_weights.mistake(
    "divided by the singular values",
    breaks="orthonormal",
    hint="The directions are right, their lengths are not 1: this is what makes *white* codes, "
    "and W no longer takes them back to x.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, (_directions(x - mean) / torch.linalg.svdvals(x - mean))[:, :k]


@linear_autoencoder_weights.mistake(
    "the directions are rows",
    breaks="shape",
    hint="The directions are right and stand in rows, (k, D). Asked for are columns, (D, k).",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, _directions(x - mean)[:, :k].mT


@linear_autoencoder_weights.mistake(
    "one mean for all dimensions",
    breaks="mean subspace shape",
    hint="The mean of everything is a single grey level. Each dimension has a mean of its own: "
    "average over the examples, dimension 0.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean()
    return mean, _directions(x - mean)[:, :k]


@linear_autoencoder_weights.mistake(
    "the mean of each example",
    breaks="mean subspace shape",
    hint="The average runs over the dimensions of an example. It belongs over the examples, "
    "dimension 0.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(1)
    return mean, _directions(x - mean[:, None])[:, :k]


@linear_autoencoder_weights.mistake(
    "the mean of the centred data",
    breaks="mean",
    hint="The mean that came back is 0: it was taken after the centring. Without the right one "
    "nobody can decode.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    centred = x - x.mean(0)
    return centred.mean(0), _directions(centred)[:, :k]


@linear_autoencoder_weights.mistake(
    "the mean keeps a dimension",
    breaks="shape",
    hint="The mean is right and stands in a row (1, D), where a vector (D,) is asked for.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0, keepdim=True)
    return mean, _directions(x - mean)[:, :k]


@linear_autoencoder_weights.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean.float(), _directions(x - mean)[:, :k].float()


@linear_autoencoder_weights.mistake(
    "the data are changed",
    breaks="shape",
    hint="x is centred in place: whoever gave it to you has lost the mean. Make a new tensor.",
)
def _(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    x -= mean
    return mean, _directions(x)[:, :k]


# --- reconstruction_error ------------------------------------------------------------------------

reconstruction_error = Task(
    "reconstruction_error",
    library.reconstruction_error,
    read=(CHAPTER, "The loss between input and reconstruction"),
)


def _pictures(draw: Draw, *shape: int) -> dict[str, Tensor]:
    """x and x_hat in (0, 1), no pixel of them equal; x_hat is too dark on the whole."""
    x = draw.uniform(0.4, 0.9, *shape)
    return {"x": x, "x_hat": (x - 0.15 + draw.uniform(0.2, 0.24, *shape) * draw.sign(*shape))}


@reconstruction_error.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    for name, shape in (("vectors (N, D)", (5, 7)), ("images (N, C, H, W)", (4, 2, 3, 5))):
        error = tensor(function(*_pictures(draw, *shape).values()))
        yield f"the error of each example, for {name}", error.reshape(-1)


@reconstruction_error.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, **_pictures(draw, 5, 7))


@reconstruction_error.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    yield from gradients(function, draw.uniform(0.5, 1.5, 5), **_pictures(draw, 5, 7))


@reconstruction_error.mistake(
    "a mean over the dimensions",
    breaks="value gradient",
    hint="The squares are averaged where they should be summed: D times too small. "
    "Then the error of a large image counts no more than that of a pixel.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().flatten(1).mean(1)


@reconstruction_error.mistake(
    "half of the squared error",
    breaks="value gradient",
    hint="This is ½‖x − x̂‖², as in the log-likelihood of a Gaussian. Here there is no ½.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return 0.5 * (x - x_hat).square().flatten(1).sum(1)


@reconstruction_error.mistake(
    "the error is not squared",
    breaks="value gradient",
    hint="These are sums of |x − x̂|. Squares punish one large error more than many small ones.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).abs().flatten(1).sum(1)


@reconstruction_error.mistake(
    "the root of the squared error",
    breaks="value gradient",
    hint="This is the distance ‖x − x̂‖. Asked for is its square.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().flatten(1).sum(1).sqrt()


@reconstruction_error.mistake(
    "summed first, squared then",
    breaks="value gradient",
    hint="A pixel that is too bright makes good for one that is too dark. Square each first.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).flatten(1).sum(1).square()


@reconstruction_error.mistake(
    "the difference of the squares",
    breaks="value gradient",
    hint="x² − x̂² is not (x − x̂)²: it may be negative.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x.square() - x_hat.square()).flatten(1).sum(1)


@reconstruction_error.mistake(
    "binary cross-entropy",
    breaks="value gradient",
    hint="That is the loss for coins. It does not vanish where x̂ = x, unless x is 0 or 1.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return F.binary_cross_entropy(x_hat, x, reduction="none").flatten(1).sum(1)


@reconstruction_error.mistake(
    "a sum over the batch too",
    breaks="value shape gradient",
    hint="One value per example is asked for: sum over all dimensions but the first.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().sum() * torch.ones((), dtype=x.dtype)


@reconstruction_error.mistake(
    "a mean over the batch",
    breaks="value shape gradient",
    hint="Summed over the dimensions, but then averaged over the examples. Averaging belongs to "
    "the loss; here one value per example is asked for.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().flatten(1).sum(1).mean()


@reconstruction_error.mistake(
    "a mean over everything",
    breaks="value shape gradient",
    hint="This is what nn.MSELoss gives as it comes: one number, an average over pixels *and* "
    "examples. Sum over the pixels, and keep the examples apart.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return F.mse_loss(x_hat, x)


@reconstruction_error.mistake(
    "not summed at all",
    breaks="value shape gradient",
    hint="These are the squares of each pixel. Sum over all dimensions but the first.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square()


@reconstruction_error.mistake(
    "summed over the examples",
    breaks="value shape gradient",
    hint="The sum runs over dimension 0, the examples. It belongs over all the others.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().sum(0)


@reconstruction_error.mistake(
    "summed over the last dimension only",
    breaks="value",
    hint="Right for vectors (N, D). An image (N, C, H, W) has more dimensions to sum over.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().sum(-1)


@reconstruction_error.mistake(
    "summed over dimension 1 only",
    breaks="value",
    hint="Right for vectors (N, D). In an image (N, C, H, W) dimension 1 holds the colours only.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().sum(1)


@reconstruction_error.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right and stand in a column (N, 1), where a vector (N,) is asked for. "
    "Added to another (N,) it would silently make an (N, N).",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().flatten(1).sum(1, keepdim=True)


@reconstruction_error.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().flatten(1).sum(1).float()


@reconstruction_error.mistake(
    "an input is changed",
    breaks="shape",
    hint="The difference is taken in place: what was a picture is one no longer. "
    "Make a new tensor.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return x.sub_(x_hat).square().flatten(1).sum(1)


@reconstruction_error.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, .data, no_grad, numpy or "
    "item() on the way. Nothing would be learnt from this loss.",
)
def _(x: Tensor, x_hat: Tensor) -> Tensor:
    return (x - x_hat).square().flatten(1).sum(1).detach()


# --- Autoencoder ---------------------------------------------------------------------------------


def _autoencoder(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return library.Autoencoder((data_dim,), code_dim, [hidden_dim])


Autoencoder = Task("Autoencoder", _autoencoder, read=(CHAPTER, "From linear to convolutional"))


def _fill(parameters: Sequence[Tensor], draw: Draw, sign: int | None = None) -> None:
    """Give parameters values of one sign, or of both, so that a network shows what it can do.

    Weights are larger than biases: the kink of a ReLU lies near 0.
    """
    if not parameters:
        raise ValueError("parameters() is empty: layers must be attributes of the module")
    with torch.no_grad():
        for parameter in parameters:
            shape = tuple(parameter.shape)
            size = draw.uniform(0.4, 0.8, *shape) / (shape[-1] if len(shape) > 1 else 8)
            signs = draw.sign(*shape) if sign is None else sign
            parameter.copy_((size * signs).to(parameter.dtype))


def _inputs(draw: Draw, *shape: int) -> Tensor:
    """float32, as parameters are; positive."""
    return draw.uniform(0.2, 0.9, *shape).float()


@Autoencoder.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    model = function(7, 5, 3)
    yield "what Autoencoder makes", "a Module" if isinstance(model, nn.Module) else "no Module"
    for n, name in ((4, "four examples"), (1, "one example")):
        yield f"the shape of encode, {name}", tuple(tensor(model.encode(_inputs(draw, n, 7))).shape)
        yield f"the shape of decode, {name}", tuple(tensor(model.decode(_inputs(draw, n, 3))).shape)


@Autoencoder.aspect("layers")
def _(function: Function, draw: Draw) -> Facts:
    # With one hidden unit a side is a line with a kink: flat where the ReLU is off.
    model = function(4, 1, 3)
    parameters = list(model.parameters())
    flat: dict[str, list[int]] = {"encode": [], "decode": []}
    for sign in (-1, None, None, -1, None, None):
        _fill(parameters, draw, sign)
        flat["encode"].append(_flat_sides(model.encode, 4))
        flat["decode"].append(_flat_sides(model.decode, 3))
    for name, sides in flat.items():
        where = "on no side" if 0 in sides else "on both sides" if 2 in sides else "on one side"
        yield f"where the kink of {name} is flat, with one hidden unit", where
    low, middle, high = model.encode(torch.tensor([[-6.0], [0], [6]]) * torch.eye(4)[0]).detach()
    straight = torch.allclose(low + high, 2 * middle, atol=1e-4)
    yield "the way of the code, with one hidden unit", "straight" if straight else "bent"
    codes = tensor(model.encode((40 * draw.mean(64, 4)).float())).detach()
    size = torch.linalg.svdvals(codes - codes.mean(0))
    on_a_line = bool(size[1] <= 1e-4 * size[0])
    yield "the codes, with one hidden unit", "on a line" if on_a_line else "anywhere"


def _flat_sides(function: Function, width: int) -> int:
    """How many ends of a way along the first axis leave the result as it is."""
    t = torch.linspace(2, 6, 9)[:, None] * torch.eye(width)[0]
    ends = [tensor(function(way)).detach() for way in (t, -t)]
    return sum(int((end - end[0]).abs().max() < 1e-5) for end in ends)


@Autoencoder.aspect("range")
def _(function: Function, draw: Draw) -> Facts:
    # So many numbers that some are high and some are low, wherever parameters have both signs.
    model = function(40, 5, 30)
    _fill(list(model.parameters()), draw)
    codes = tensor(model.encode(_inputs(draw, 4, 40))).detach()
    signs = [name for name, some in (("below", codes < 0), ("above", codes > 0)) if some.any()]
    yield "the codes", f"{' and '.join(signs)} 0"
    pixels = tensor(model.decode(_inputs(draw, 4, 30))).detach()
    low, high = pixels.min().item(), pixels.max().item()
    least = "below 0" if low < 0 else "0" if low == 0 else "dark" if low < 0.5 else "½"
    greatest = "above 1" if high > 1 else "1" if high == 1 else "bright" if high > 0.5 else "½"
    yield "the range of decode", f"{least} to {greatest}"


@Autoencoder.aspect("forward")
def _(function: Function, draw: Draw) -> Facts:
    model = function(7, 5, 3)
    _fill(list(model.parameters()), draw)
    x = _inputs(draw, 4, 7)
    whole, parts = model(x), model.decode(model.encode(x))
    yield "what forward gives", "a tensor" if isinstance(whole, Tensor) else "something else"
    if not isinstance(whole, Tensor):
        return
    if whole.shape != parts.shape:
        relation = "of another shape"
    elif torch.allclose(whole, parts, 1e-4, 1e-5):
        relation = "the same"
    else:
        relation = "greyer" if whole.std() < parts.std() else "more contrast"
    yield "forward, beside decode of encode", relation


@Autoencoder.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    model = function(7, 5, 3)
    parameters = list(model.parameters())
    _fill(parameters, draw, 1)  # no ReLU is off
    x, h, weights = _inputs(draw, 4, 7), _inputs(draw, 4, 3), _inputs(draw, 4, 7)
    arrived = _reached(tensor(model(x)) * weights, parameters)
    for name, result in (("encode", model.encode(x)), ("decode", model.decode(h))):
        own = _reached(tensor(result) * weights[:, : result.shape[1]], parameters)
        amount = "all" if own and own <= arrived else "some" if own & arrived else "none"
        yield f"parameters of {name} that get a gradient from forward", amount


def _reached(result: Tensor, parameters: Sequence[Tensor]) -> set[int]:
    """Which parameters a gradient of the result arrives at."""
    if not result.requires_grad:
        return set()
    arrived = torch.autograd.grad(result.sum(), list(parameters), allow_unused=True)
    return {i for i, gradient in enumerate(arrived) if gradient is not None and gradient.any()}


class _Parts(nn.Module):
    """An autoencoder of two networks."""

    encoder: Any
    decoder: Any

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Any:
        return self.encoder(x)

    def decode(self, h: Tensor) -> Any:
        return self.decoder(h)

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x))


def _side(n_in: int, n_hidden: int, n_out: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out), *last)


def _usual(data_dim: int, hidden_dim: int, code_dim: int, base: type[_Parts] = _Parts) -> _Parts:
    return base(
        _side(data_dim, hidden_dim, code_dim), _side(code_dim, hidden_dim, data_dim, nn.Sigmoid())
    )


@Autoencoder.mistake(
    "nothing between the layers",
    breaks="layers",
    hint="Two linear layers with no ReLU between them are one linear layer: this is PCA.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _Parts(
        nn.Sequential(nn.Linear(data_dim, hidden_dim), nn.Linear(hidden_dim, code_dim)),
        nn.Sequential(
            nn.Linear(code_dim, hidden_dim), nn.Linear(hidden_dim, data_dim), nn.Sigmoid()
        ),
    )


@Autoencoder.mistake(
    "no hidden layer",
    breaks="layers",
    hint="Data and code are joined by one linear layer. One hidden layer of hidden_dim units is "
    "asked for on each side.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    decoder = nn.Sequential(nn.Linear(code_dim, data_dim), nn.Sigmoid())
    return _Parts(nn.Linear(data_dim, code_dim), decoder)


@Autoencoder.mistake(
    "the decoder has no hidden layer",
    breaks="layers",
    hint="The encoder is right. The decoder mirrors it, with a hidden ReLU layer of its own.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    decoder = nn.Sequential(nn.Linear(code_dim, data_dim), nn.Sigmoid())
    return _Parts(_side(data_dim, hidden_dim, code_dim), decoder)


@Autoencoder.mistake(
    "another activation than ReLU",
    breaks="layers",
    hint="The hidden units bend, but are never off: a sigmoid, tanh, leaky ReLU or the like. "
    "ReLU is max(0, a).",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    model = _usual(data_dim, hidden_dim, code_dim)
    model.encoder[1] = model.decoder[1] = nn.Tanh()
    return model


@Autoencoder.mistake(
    "two hidden layers",
    breaks="layers",
    hint="Each side has more than one hidden layer.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    def deeper() -> list[nn.Module]:
        return [nn.Linear(hidden_dim, hidden_dim), nn.ReLU()]

    model = _usual(data_dim, hidden_dim, code_dim)
    return _Parts(
        nn.Sequential(*model.encoder[:2], *deeper(), *model.encoder[2:]),
        nn.Sequential(*model.decoder[:2], *deeper(), *model.decoder[2:]),
    )


@Autoencoder.mistake(
    "hidden_dim is not used",
    breaks="layers",
    hint="With one hidden unit the codes would have to lie on a line: there are more units than "
    "asked for. A number written into the class?",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, 64, code_dim)


@Autoencoder.mistake(
    "a ReLU after the code",
    breaks="layers range",
    hint="Codes are never negative, and a code number that is off gets no gradient. "
    "The code is the plain output of a linear layer.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    model = _usual(data_dim, hidden_dim, code_dim)
    return _Parts(nn.Sequential(model.encoder, nn.ReLU()), model.decoder)


@Autoencoder.mistake(
    "a sigmoid after the code",
    breaks="layers range",
    hint="Codes are squeezed between 0 and 1, as in the autoencoders of the 1980s. "
    "The code is the plain output of a linear layer.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    model = _usual(data_dim, hidden_dim, code_dim)
    return _Parts(nn.Sequential(model.encoder, nn.Sigmoid()), model.decoder)


@Autoencoder.mistake(
    "a ReLU before the sigmoid",
    breaks="layers range",
    hint="No pixel can become darker than ½: ReLU leaves nothing below 0 for the sigmoid.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    decoder = _side(code_dim, hidden_dim, data_dim, nn.ReLU(), nn.Sigmoid())
    return _Parts(_side(data_dim, hidden_dim, code_dim), decoder)


@Autoencoder.mistake(
    "no sigmoid at the end",
    breaks="range",
    hint="The reconstruction may be any number. Pixels lie between 0 and 1.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _Parts(_side(data_dim, hidden_dim, code_dim), _side(code_dim, hidden_dim, data_dim))


class _Shrink(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1)


@Autoencoder.mistake(
    "clamped to [0, 1]",
    breaks="layers range",
    hint="Where it is cut off the gradient is 0, and such a pixel never learns. The range asked "
    "for is open: 0 and 1 are not reached.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    decoder = _side(code_dim, hidden_dim, data_dim, _Shrink())
    return _Parts(_side(data_dim, hidden_dim, code_dim), decoder)


@Autoencoder.mistake(
    "a softmax over the pixels",
    breaks="range",
    hint="The pixels of a picture sum to 1: one bright pixel makes all others dark. "
    "Each pixel needs a sigmoid of its own.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    decoder = _side(code_dim, hidden_dim, data_dim, nn.Softmax(-1))
    return _Parts(_side(data_dim, hidden_dim, code_dim), decoder)


class _Again(_Parts):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.decode(self.encode(x)))


@Autoencoder.mistake(
    "the sigmoid twice",
    breaks="forward",
    hint="decode ends in a sigmoid, and forward applies another: all pixels are grey.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Again)


class _Logits(_Parts):
    def forward(self, x: Tensor) -> Any:
        return self.decoder[:3](self.encode(x))


@Autoencoder.mistake(
    "forward leaves the sigmoid out",
    breaks="forward",
    hint="decode is right, but forward does not call it to the end: the range is another.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Logits)


class _Pair(_Parts):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), self.encode(x)


@Autoencoder.mistake(
    "forward returns more than the reconstruction",
    breaks="forward gradient",
    hint="A tuple, or nothing, came back. The code is to be had from encode; forward gives x̂.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Pair)


class _Half(_Parts):
    def forward(self, x: Tensor) -> Any:
        return self.encode(x)


@Autoencoder.mistake(
    "forward encodes only",
    breaks="forward gradient",
    hint="The code came back. Decode it.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Half)


class _Cut(_Parts):
    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x).detach())


@Autoencoder.mistake(
    "the encoder gets no gradient",
    breaks="gradient",
    hint="The values are right, but nothing flows back through the code: a detach, no_grad or "
    "numpy between the two. Only the decoder would learn.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Cut)


class _Unseen(_Parts):
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter(())


@Autoencoder.mistake(
    "the layers are not registered",
    breaks="layers range forward gradient",
    hint="parameters() is empty: an optimizer would find nothing to train. Layers in a Python "
    "list, or made anew in every call, are not seen; assign them to attributes in __init__.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Unseen)


class _Squeezed(_Parts):
    def encode(self, x: Tensor) -> Any:
        return self.encoder(x).squeeze()


@Autoencoder.mistake(
    "a single example loses its dimension",
    breaks="shape",
    hint="For N = 1 a squeeze removes the dimension of the examples. (1, code_dim) is asked for.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Squeezed)


class _Stacked(_Parts):
    def decode(self, h: Tensor) -> Any:
        return self.decoder(h)[:, None]


@Autoencoder.mistake(
    "a dimension too many",
    breaks="shape",
    hint="(N, 1, data_dim) came back from decode, as if for a channel. (N, data_dim) is asked for.",
)
def _(data_dim: int, hidden_dim: int, code_dim: int) -> nn.Module:
    return _usual(data_dim, hidden_dim, code_dim, _Stacked)


# --- initialise_classifier -----------------------------------------------------------------------

Build = Callable[[int, int, int, int], tuple[Any, Any]]


def both(autoencoder: Callable[..., Any], initialise: Callable[..., Any]) -> Build:
    """What `initialise_classifier` is judged by: an autoencoder of the class, and its classifier.

    Only the class's author knows where the encoder's parameters are.

    Returns:
        A function of data_dim, hidden_dim, code_dim and n_classes.

    Raises:
        RuntimeError: in that function, while the autoencoder is not written yet.
    """

    def build(data_dim: int, hidden_dim: int, code_dim: int, n_classes: int) -> tuple[Any, Any]:
        try:
            model = autoencoder(data_dim, hidden_dim, code_dim)
            model(torch.zeros(2, data_dim))
        except NotImplementedError:
            raise RuntimeError("Autoencoder is not written yet") from None
        return model, initialise(model, code_dim, n_classes)

    return build


initialise_classifier = Task(
    "initialise_classifier",
    both(_autoencoder, library.initialise_classifier),
    read=(CHAPTER, "Few labels, many pictures"),
)


def _encoder_parameters(autoencoder: nn.Module, x: Tensor) -> list[nn.Parameter]:
    """Those that the codes depend on, be they frozen or not."""
    found = []
    with torch.no_grad():
        before = autoencoder.encode(x)  # type: ignore[operator]
        for parameter in autoencoder.parameters():
            kept = parameter.clone()
            parameter.mul_(2)
            if not torch.equal(autoencoder.encode(x), before):  # type: ignore[operator]
                found.append(parameter)
            parameter.copy_(kept)
    return found


@initialise_classifier.aspect("sharing")
def _(function: Function, draw: Draw) -> Facts:
    autoencoder, classifier = function(6, 5, 3, 4)
    x = _inputs(draw, 8, 6)
    own = list(classifier.parameters())
    encoder = list(autoencoder.parameters())
    copied = sum(any(p.shape == q.shape and torch.equal(p, q) for q in own) for p in encoder)
    _fill(encoder, draw, 1)  # no ReLU is off
    encoder = _encoder_parameters(autoencoder, x)
    listed = sum(any(p is q for q in own) for p in encoder)
    among = "all" if listed == len(encoder) else "some" if listed else "copies" if copied else "no"
    yield "the encoder's parameters among the classifier's", among
    asking = all(p.requires_grad for p in encoder)
    yield "the encoder's parameters", "to be trained" if asking else "frozen"

    _fill([p for p in own if not any(p is q for q in encoder)] or own, draw, 1)
    before = tensor(classifier(x)).detach().clone()
    with torch.no_grad():
        for parameter in encoder:
            parameter.mul_(1.5)
    same = torch.allclose(tensor(classifier(x)).detach(), before)
    yield "the logits when the encoder changes", "stay" if same else "change"

    codes = autoencoder.encode(x).detach().clone()
    _step(classifier, x, draw)
    same = torch.equal(autoencoder.encode(x).detach(), codes)
    yield "the codes after a gradient step on the classifier", "unchanged" if same else "changed"


def _step(classifier: nn.Module, x: Tensor, draw: Draw) -> None:
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.5)
    logits = tensor(classifier(x))
    weights = _inputs(draw, *logits.shape) * torch.arange(1.0, 1 + logits.shape[-1])
    optimizer.zero_grad()
    (logits * weights).sum().backward()
    optimizer.step()


@initialise_classifier.aspect("logits")
def _(function: Function, draw: Draw) -> Facts:
    autoencoder, classifier = function(6, 5, 3, 30)
    x = _inputs(draw, 8, 6)
    _fill(list(autoencoder.parameters()), draw, 1)
    encoder = _encoder_parameters(autoencoder, x)
    of_autoencoder = list(autoencoder.parameters())
    own = [p for p in classifier.parameters() if not any(p is q for q in of_autoencoder)]
    if own:
        _fill(own, draw)
    logits = tensor(classifier(x)).detach().clone()
    yield "what the classifier gives", _kind(logits)
    with torch.no_grad():
        for parameter in of_autoencoder:
            if not any(parameter is p for p in encoder):
                parameter.mul_(2)
    same = torch.allclose(tensor(classifier(x)).detach(), logits)
    yield "what the decoder has to do with it", "nothing" if same else "something"
    start = [p.detach().clone() for p in own]
    if own:
        _step(classifier, x, draw)
    moved = any(not torch.equal(a, b) for a, b in zip(start, own, strict=True))
    yield "the layer on top", "trained by a gradient step" if moved else "not trained"


def _kind(logits: Tensor) -> str:
    ones = torch.ones(len(logits))
    if torch.allclose(logits.sum(-1), ones) and bool((logits > 0).all()):
        return "probabilities"
    if torch.allclose(logits.exp().sum(-1), ones):
        return "logarithms of probabilities"
    least = logits.min()
    return "both signs" if least < 0 else "above 0" if least > 0 else "0 and above"


@initialise_classifier.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    _, classifier = function(6, 5, 3, 4)
    made = "a Module" if isinstance(classifier, nn.Module) else "no Module"
    yield "what initialise_classifier makes", made
    for n, name in ((7, "seven examples"), (1, "one example")):
        yield (
            f"the shape of the logits, {name}",
            tuple(tensor(classifier(_inputs(draw, n, 6))).shape),
        )


class _Classifier(nn.Module):
    """A layer on top of codes."""

    def __init__(self, autoencoder: Any, head: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.head = head

    def forward(self, x: Tensor) -> Any:
        return self.head(self.autoencoder.encode(x))


Initialise = Callable[[_Parts, int, int], Any]


def _wrong(name: str, breaks: str, hint: str) -> Callable[[Initialise], Initialise]:
    """Register a wrong `initialise_classifier`, of a right autoencoder."""

    def register(initialise: Initialise) -> Initialise:
        initialise_classifier.mistake(name, breaks, hint)(both(_usual, initialise))
        return initialise

    return register


@_wrong(
    "the encoder is copied",
    breaks="sharing",
    hint="Training the classifier leaves the autoencoder's encoder as it is, and the other way "
    "round. Shared means: the very same parameters, not others with the same values.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(copy.deepcopy(autoencoder.encoder), nn.Linear(code_dim, n_classes))


@_wrong(
    "a new encoder",
    breaks="sharing",
    hint="The classifier has an encoder of its own that has learnt nothing: what the autoencoder "
    "was trained for is not used at all.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    hidden_dim, data_dim = autoencoder.encoder[0].weight.shape
    fresh = _side(data_dim, hidden_dim, code_dim)
    return nn.Sequential(fresh, nn.Linear(code_dim, n_classes))


@_wrong(
    "the encoder is frozen",
    breaks="sharing",
    hint="requires_grad is off, so that only the layer on top learns. Fine-tuning trains both "
    "jointly.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    autoencoder.encoder.requires_grad_(False)
    return nn.Sequential(autoencoder.encoder, nn.Linear(code_dim, n_classes))


class _Detached(_Classifier):
    def forward(self, x: Tensor) -> Any:
        return self.head(self.autoencoder.encode(x).detach())


@_wrong(
    "the codes are detached",
    breaks="sharing",
    hint="No gradient gets from the logits to the encoder: a detach or no_grad at the codes. "
    "Only the layer on top would learn.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return _Detached(autoencoder, nn.Linear(code_dim, n_classes))


class _Called(nn.Module):
    def __init__(self, encode: Callable[[Tensor], Tensor], head: nn.Module) -> None:
        super().__init__()
        self.encode = encode
        self.head = head

    def forward(self, x: Tensor) -> Any:
        return self.head(self.encode(x))


@_wrong(
    "the encoder is not registered",
    breaks="sharing",
    hint="The classifier calls the encoder, but its parameters() do not list the encoder's, and "
    "the optimizer does not see them. A method or a list is not registered, a Module is.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return _Called(autoencoder.encode, nn.Linear(code_dim, n_classes))


@_wrong(
    "upon the reconstruction",
    breaks="logits",
    hint="The decoder has a part in the logits. It is left behind: the classifier works with the "
    "codes.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    data_dim = autoencoder.encoder[0].in_features
    return nn.Sequential(autoencoder, nn.Linear(data_dim, n_classes))


@_wrong(
    "probabilities instead of logits",
    breaks="logits",
    hint="Each row sums to 1: a softmax. cross_entropy takes logits, and applies its own.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encoder, nn.Linear(code_dim, n_classes), nn.Softmax(-1))


@_wrong(
    "log-probabilities instead of logits",
    breaks="logits",
    hint="The exponentials of each row sum to 1: a log-softmax. Logits are not normalised.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encoder, nn.Linear(code_dim, n_classes), nn.LogSoftmax(-1))


@_wrong(
    "a sigmoid after the logits",
    breaks="logits",
    hint="All outputs lie between 0 and 1. Logits are the plain output of a linear layer.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encoder, nn.Linear(code_dim, n_classes), nn.Sigmoid())


@_wrong(
    "a ReLU after the logits",
    breaks="logits",
    hint="No logit is ever negative, and a class that is off gets no gradient. "
    "Logits are the plain output of a linear layer.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encoder, nn.Linear(code_dim, n_classes), nn.ReLU())


class _Fixed(nn.Module):
    def __init__(self, code_dim: int, n_classes: int) -> None:
        super().__init__()
        self.weight = torch.randn(code_dim, n_classes)

    def forward(self, h: Tensor) -> Tensor:
        return h @ self.weight


@_wrong(
    "the layer on top is not trained",
    breaks="logits",
    hint="Its weights are no parameters of the classifier: a plain tensor, or a layer that is not "
    "registered.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encoder, _Fixed(code_dim, n_classes))


@_wrong(
    "no layer on top",
    breaks="logits shape",
    hint="The codes came back. A linear layer makes n_classes logits of them.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encoder)


class _Single(_Classifier):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).squeeze()


@_wrong(
    "a single example loses its dimension",
    breaks="shape",
    hint="For N = 1 a squeeze removes the dimension of the examples. (1, n_classes) is asked for.",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return _Single(autoencoder, nn.Linear(code_dim, n_classes))


@_wrong(
    "n_classes is not used",
    breaks="shape",
    hint="There are ten logits however many classes there are: a number written into the function?",
)
def _(autoencoder: _Parts, code_dim: int, n_classes: int) -> nn.Module:
    return nn.Sequential(autoencoder.encoder, nn.Linear(code_dim, 10))
