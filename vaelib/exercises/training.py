"""5-training: what is checked, and which mistakes are known."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.optim import SGD, Adam, Optimizer

from vaelib.exercises.observe import form, gradients, tensor
from vaelib.exercises.task import Clue, Draw, Rough, Task
from vaelib.kl import kl_to_standard_normal
from vaelib.likelihood import bernoulli_log_likelihood

__all__ = ["evaluate", "train_epoch", "training_step", "vae_loss"]

CHAPTER = "Training"
Facts = Iterator[tuple[str, Any]]
Function = Callable[..., Any]
Loss = tuple[Tensor, Tensor, Tensor]

# --- vae_loss ------------------------------------------------------------------------------------


def _right_loss(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    reconstruction = -bernoulli_log_likelihood(logits, x).mean()
    kl = kl_to_standard_normal(mu, logvar).mean()
    return reconstruction + kl, reconstruction, kl


vae_loss = Task("vae_loss", _right_loss, read=(CHAPTER, "One minibatch, forwards and backwards"))


def _terms(result: Any) -> tuple[Any, Any, Any]:
    if not (isinstance(result, tuple | list) and len(result) == 3):
        raise TypeError(
            f"(loss, reconstruction, kl) should come back, not: {type(result).__name__}"
        )
    return result[0], result[1], result[2]


def _loss(result: Any) -> Tensor:
    """The loss, also where it came without its terms."""
    return tensor(result if isinstance(result, Tensor) else _terms(result)[0])


def _number(result: Any) -> Tensor:
    """What came back as a number, a tensor or not."""
    if not isinstance(result, Tensor | float | int):
        raise TypeError(f"a number should come back, not: {type(result).__name__}")
    return torch.as_tensor(result).detach().double().reshape(-1)


def _drawn(draw: Draw) -> dict[str, Tensor]:
    return {
        "logits": draw.mean(4, 5),
        "x": (draw.uniform(0, 1, 4, 5) > 0.5).double(),
        "mu": draw.mean(4, 3),
        "logvar": draw.logvar(4, 3),
    }


@vae_loss.aspect("reconstruction")
def _(function: Function, draw: Draw) -> Facts:
    inputs = _drawn(draw)
    yield "the reconstruction term", _number(_terms(function(*inputs.values()))[1])
    inputs["x"] = draw.uniform(0.1, 0.9, 4, 5)
    yield "the reconstruction term of grey pixels", _number(_terms(function(*inputs.values()))[1])


@vae_loss.aspect("kl")
def _(function: Function, draw: Draw) -> Facts:
    yield "the KL", _number(_terms(function(*_drawn(draw).values()))[2])


@vae_loss.aspect("loss")
def _(function: Function, draw: Draw) -> Facts:
    inputs = _drawn(draw)
    yield "the loss", _loss(function(*inputs.values())).reshape(-1)
    x = inputs.pop("x")

    def loss(logits: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return _loss(function(logits, x, mu, logvar))

    yield from gradients(loss, **inputs)


@vae_loss.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    inputs = _drawn(draw)
    for i, name in enumerate(("loss", "reconstruction", "kl")):

        def term(*arguments: Tensor, i: int = i) -> Any:
            return _terms(function(*arguments))[i]

        for what, fact in form(term, **inputs):
            yield f"{name}: {what}", fact


@vae_loss.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    inputs = {name: value.float() for name, value in _drawn(draw).items()}
    sign = draw.sign(4, 5).float()
    sign[:, 0], sign[:, 1] = -1, 1
    inputs["x"] = (sign < 0).float()  # the logits are certain, and wrong
    losses = []
    for size in (60, 120):
        inputs["logits"] = size * sign
        losses.append(_loss(function(*inputs.values())).sum())
    yield "the loss for logits of ±120, beside that of ±60", Rough(losses[1] / losses[0], 1.3)


def _cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def _kl_terms(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def _with_reconstruction(term: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """`vae_loss` with another reconstruction term."""

    def function(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
        reconstruction, kl = term(logits, x), _kl_terms(mu, logvar).sum(-1).mean()
        return reconstruction + kl, reconstruction, kl

    return function


def _with_kl(term: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """`vae_loss` with another KL."""

    def function(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
        reconstruction, kl = _cross_entropy(logits, x).sum(-1).mean(), term(mu, logvar)
        return reconstruction + kl, reconstruction, kl

    return function


vae_loss.mistake(
    "a mean over the pixels",
    breaks="reconstruction loss",
    hint="log p(x given z) is a sum over the pixels. Averaged over them it is D times too small "
    "beside the KL, and the posterior collapses. The default of PyTorch's losses is this mean.",
)(_with_reconstruction(lambda logits, x: _cross_entropy(logits, x).mean()))

vae_loss.mistake(
    "the reconstruction is summed over the batch",
    breaks="reconstruction loss",
    hint="Pixels are summed, examples are averaged. This term is N times too large beside the KL.",
)(_with_reconstruction(lambda logits, x: _cross_entropy(logits, x).sum()))

vae_loss.mistake(
    "two sigmoids",
    breaks="reconstruction loss numerics",
    hint="The loss with logits applies the sigmoid itself. After another one all probabilities lie "
    "between ½ and ¾: the loss falls a little and then stays.",
)(_with_reconstruction(lambda logits, x: _cross_entropy(logits.sigmoid(), x).sum(-1).mean()))

vae_loss.mistake(
    "the cross-entropy of rounded probabilities",
    breaks="numerics",
    hint="In float32 the sigmoid of 20 is 1, and how wrong a certain answer is cannot be told any "
    "more: the loss stops growing and its gradient vanishes. Start from the logits.",
)(
    _with_reconstruction(
        lambda logits, x: F.binary_cross_entropy(logits.sigmoid(), x, reduction="sum") / len(x)
    )
)


def _by_logarithms(logits: Tensor, x: Tensor) -> Tensor:
    p = logits.sigmoid()
    return -(x * p.log() + (1 - x) * (1 - p).log()).sum(-1).mean()


vae_loss.mistake(
    "the logarithm of 0",
    breaks="numerics",
    hint="In float32 the sigmoid of 20 is 1, so that log(1 − p) is −∞, and the loss ∞ or NaN. "
    "Start from the logits, not from the probabilities.",
)(_with_reconstruction(_by_logarithms))


@vae_loss.mistake(
    "the logits are taken for probabilities",
    breaks="reconstruction kl loss shape numerics",
    hint="This cross-entropy wants probabilities and gets logits, which are any real numbers.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    reconstruction = F.binary_cross_entropy(logits, x, reduction="sum") / len(x)
    kl = _kl_terms(mu, logvar).sum(-1).mean()
    return reconstruction + kl, reconstruction, kl


vae_loss.mistake(
    "x and the logits are swapped",
    breaks="reconstruction loss",
    hint="PyTorch's losses take the prediction first and the target second.",
)(_with_reconstruction(lambda logits, x: _cross_entropy(x, logits).sum(-1).mean()))

vae_loss.mistake(
    "squared error for the cross-entropy",
    breaks="reconstruction loss numerics",
    hint="The logits are those of coins, so the term is −log p(x given z) of coins. "
    "A squared error belongs to Gaussian pixels.",
)(_with_reconstruction(lambda logits, x: ((logits.sigmoid() - x) ** 2).sum(-1).mean()))

vae_loss.mistake(
    "only the pixels that are 1 count",
    breaks="reconstruction loss",
    hint="A pixel that is 0 has a probability too, 1 − p. Without it the decoder may paint "
    "everything white.",
)(_with_reconstruction(lambda logits, x: -(x * F.logsigmoid(logits)).sum(-1).mean()))

vae_loss.mistake(
    "the reconstruction has the wrong sign",
    breaks="reconstruction loss",
    hint="This is log p(x given z), which training should raise. In a loss it is taken with a "
    "minus: it falls when the pixels become more probable.",
)(_with_reconstruction(lambda logits, x: -_cross_entropy(logits, x).sum(-1).mean()))


@vae_loss.mistake(
    "the log-likelihood is returned as the reconstruction",
    breaks="reconstruction",
    hint="The loss is right. Its first term is −log p(x given z), and so loss = reconstruction + "
    "kl; here the sign is the other one.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    loss, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return loss, -reconstruction, kl


def _strict_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    log_likelihood: Tensor = Bernoulli(logits=logits, validate_args=True).log_prob(x)
    return -log_likelihood.sum(-1).mean()


vae_loss.mistake(
    "grey pixels are refused",
    breaks="reconstruction",
    hint="Bernoulli takes 0 and 1 only, unless it is told not to validate its arguments. x may "
    "hold grey levels: for them the cross-entropy is meant.",
)(_with_reconstruction(_strict_bernoulli))

vae_loss.mistake(
    "a mean over the latent dimensions",
    breaks="kl loss",
    hint="The KL is a sum over the latent dimensions. A mean makes it K times too weak beside the "
    "reconstruction.",
)(_with_kl(lambda mu, logvar: _kl_terms(mu, logvar).mean()))

vae_loss.mistake(
    "the KL is summed over the batch",
    breaks="kl loss",
    hint="Latent dimensions are summed, examples are averaged. This KL is N times too strong "
    "beside the reconstruction.",
)(_with_kl(lambda mu, logvar: _kl_terms(mu, logvar).sum()))

vae_loss.mistake(
    "the KL has the wrong sign",
    breaks="kl loss",
    hint="This is −KL, as it stands in the bound. A divergence is never negative; this loss would "
    "push the codes away from the prior.",
)(_with_kl(lambda mu, logvar: -_kl_terms(mu, logvar).sum(-1).mean()))


@vae_loss.mistake(
    "minus the KL is returned",
    breaks="kl",
    hint="The loss is right. The KL is returned as it stands in the bound, −KL; a divergence is "
    "never negative, and here loss = reconstruction + kl.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    loss, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return loss, reconstruction, -kl


vae_loss.mistake(
    "the ½ is missing",
    breaks="kl loss",
    hint="This is exactly twice the KL.",
)(_with_kl(lambda mu, logvar: 2 * _kl_terms(mu, logvar).sum(-1).mean()))

vae_loss.mistake(
    "log-variance taken for log σ",
    breaks="kl loss",
    hint="logvar is log σ². Its exponential is the variance already and is not squared again.",
)(_with_kl(lambda mu, logvar: _kl_terms(mu, 2 * logvar).sum(-1).mean()))

vae_loss.mistake(
    "the exponential of the log-variance is missing",
    breaks="kl loss",
    hint="Where σ² is meant there is log σ², and the two cancel: nothing keeps the variance in "
    "place.",
)(_with_kl(lambda mu, logvar: 0.5 * (mu**2 - 1).sum(-1).mean()))

vae_loss.mistake(
    "the KL in the other direction",
    breaks="kl loss",
    hint="This is KL(prior ‖ q). The bound holds KL(q ‖ prior): the average is over q.",
)(_with_kl(lambda mu, logvar: 0.5 * ((1 + mu**2) * (-logvar).exp() - 1 + logvar).sum(-1).mean()))


@vae_loss.mistake(
    "the KL is subtracted",
    breaks="loss",
    hint="Both terms are right. The loss is −ELBO: what is subtracted in the bound is added here.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    _, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return reconstruction - kl, reconstruction, kl


@vae_loss.mistake(
    "the loss is the ELBO",
    breaks="loss",
    hint="Both terms are right. An optimizer goes downhill: the loss is −ELBO, their sum.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    loss, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return -loss, reconstruction, kl


@vae_loss.mistake(
    "no gradient passes through the KL",
    breaks="loss",
    hint="All numbers are right, but the KL enters the loss as a constant, so that the encoder "
    "learns to ignore the prior.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    _, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return reconstruction + kl.detach(), reconstruction, kl


@vae_loss.mistake(
    "no gradient passes through the loss",
    breaks="loss",
    hint="All numbers are right, but the loss is cut off from its inputs: nothing can be learnt "
    "from it.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    loss, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return loss.detach(), reconstruction, kl


@vae_loss.mistake(
    "reconstruction and KL are swapped",
    breaks="reconstruction kl",
    hint="All three numbers are right; they are asked for in the order loss, reconstruction, kl.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    loss, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return loss, kl, reconstruction


@vae_loss.mistake(
    "only the loss is returned",
    breaks="reconstruction kl shape",
    hint="The loss is right. Its two terms are asked for as well: only apart do they show a "
    "collapsed posterior.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return _right_loss(logits, x, mu, logvar)[0]


@vae_loss.mistake(
    "one value per example",
    breaks="reconstruction kl loss shape",
    hint="The sums over dimensions are right; the mean over the batch is missing.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Loss:
    reconstruction, kl = _cross_entropy(logits, x).sum(-1), _kl_terms(mu, logvar).sum(-1)
    return reconstruction + kl, reconstruction, kl


@vae_loss.mistake(
    "the terms are no tensors",
    breaks="shape",
    hint="The numbers are right. The terms are asked for as tensors, like the loss.",
)
def _(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    loss, reconstruction, kl = _right_loss(logits, x, mu, logvar)
    return loss, reconstruction.item(), kl.item()


# --- a model that remembers ----------------------------------------------------------------------


class _Visit(NamedTuple):
    """A call of the model."""

    x: Tensor
    result: Loss
    training: bool
    gradients: bool


class _Visits(list[_Visit]):
    """Those of a model and of its copies: who evaluates a copy is right as well."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Visits:
        return self


class _Model(nn.Module):
    """A VAE of (N, 7) pixels in three matrices, with the same noise at each call."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.eps = draw.normal(2)
        self.encoder = nn.Parameter(draw.uniform(-0.7, 0.7, 7, 4))
        self.decoder = nn.Parameter(draw.uniform(-0.7, 0.7, 2, 7))
        self.bias = nn.Parameter(draw.uniform(-0.7, 0.7, 7))
        self.visits = _Visits()

    def forward(self, x: Tensor) -> Loss:
        mu, logvar = (x @ self.encoder).chunk(2, -1)
        z = mu + (0.5 * logvar).exp() * self.eps
        logits = z @ self.decoder + self.bias
        result = (logits.detach(), mu.detach(), logvar.detach())
        self.visits.append(_Visit(x.detach().clone(), result, self.training, logits.requires_grad))
        return logits, mu, logvar

    def flat(self) -> Tensor:
        """A copy of all parameters."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters()])


def _twin(model: _Model) -> _Model:
    """The same parameters, and a memory of its own."""
    twin = copy.deepcopy(model)
    twin.visits = _Visits()
    return twin


def _pixels(draw: Draw, n: int) -> Tensor:
    """(n, 7) zeros and ones, n ≤ 16: no two rows are the same."""
    numbers = torch.arange(n)
    code = torch.stack([(numbers >> bit) & 1 for bit in range(4)], -1)
    return torch.cat([code, (draw.uniform(0, 1, n, 3) > 0.5).long()], -1).double()


def _indices(seen: Tensor, x: Tensor) -> list[int]:
    """Which rows of x these are; −1 for none."""
    same = (seen.reshape(-1, 1, x.shape[1]) == x).all(-1)
    return [int(row.nonzero()[0]) if row.any() else -1 for row in same]


def _name(result: Any) -> str:
    return "a float" if isinstance(result, float) else f"a {type(result).__name__}"


# --- training_step -------------------------------------------------------------------------------


def _right_step(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss_of(model, x)
        loss.backward()
        return loss

    return float(optimizer.step(closure).detach())


def _loss_of(model: nn.Module, x: Tensor) -> Tensor:
    logits, mu, logvar = model(x)
    return _cross_entropy(logits, x).sum(-1).mean() + _kl_terms(mu, logvar).sum(-1).mean()


training_step = Task(
    "training_step", _right_step, read=(CHAPTER, "One minibatch, forwards and backwards")
)


@training_step.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    for n in (5, 3):
        model = _Model(draw)
        result = function(model, SGD(model.parameters(), lr=0.1), _pixels(draw, n))
        yield f"the loss of {n} examples before the step", _number(result)


@training_step.aspect("step")
def _(function: Function, draw: Draw) -> Facts:
    for make in (
        lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
        lambda parameters: Adam(parameters, lr=0.05),
    ):
        model = _Model(draw)
        optimizer: Optimizer = make(model.parameters())
        before = model.flat()
        for count in ("one", "another"):
            function(model, optimizer, _pixels(draw, 5))
            name = f"the parameters after {count} step of {type(optimizer).__name__}"
            yield name, model.flat()
            still = torch.equal(before, model.flat())
            left = any(p.grad is not None for p in model.parameters())
            yield f"{name}: gradients", Clue("there, not used" if still and left else "")
            optimizer.zero_grad()


@training_step.aspect("stale")
def _(function: Function, draw: Draw) -> Facts:
    # Against the function's own steps: that those are right is another aspect.
    model = _Model(draw)
    fresh = _twin(model)
    start = model.flat()
    x = [_pixels(draw, 5), _pixels(draw, 4)]
    stale, clean = (SGD(m.parameters(), lr=0.1) for m in (model, fresh))
    for parameter in model.parameters():
        parameter.grad = draw.uniform(0.5, 1.0, *parameter.shape)
    for count, minibatch in zip(("first", "second"), x, strict=True):
        function(model, stale, minibatch)
        function(fresh, clean, minibatch)
        clean.zero_grad()
        ratio = (model.flat() - start).norm() / (fresh.flat() - start).norm()
        yield f"how far the {count} step goes, beside one without stale gradients", ratio
        angle = torch.cosine_similarity(model.flat() - start, fresh.flat() - start, 0, 0.0)
        yield f"whether the {count} step goes in the same direction", angle


@training_step.aspect("float")
def _(function: Function, draw: Draw) -> Facts:
    model = _Model(draw)
    optimizer = SGD(model.parameters(), lr=0.1)
    yield "what comes back", _name(function(model, optimizer, _pixels(draw, 5)))


@training_step.mistake(
    "stale gradients are not cleared",
    breaks="stale",
    hint="backward adds to the gradients that are there. Without clearing them each step goes "
    "along the sum of all minibatches so far.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x)
    loss.backward()
    optimizer.step()
    return loss.item()


@training_step.mistake(
    "gradients are cleared after the step only",
    breaks="stale",
    hint="What was left there before the call takes part in the first step. "
    "Clear before, and nothing depends on who was here earlier.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@training_step.mistake(
    "at the step there is no gradient",
    breaks="step stale",
    hint="The parameters never change. Either nothing computed the gradients, or they were "
    "cleared again before the step could use them.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@training_step.mistake(
    "no step uses the gradients",
    breaks="step stale",
    hint="The parameters never change, and yet gradients are there after the call: the step is "
    "missing, or was made before they were computed.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x)
    optimizer.zero_grad()
    optimizer.step()
    loss.backward()
    return loss.item()


@training_step.mistake(
    "each step uses the gradient of the call before",
    breaks="step stale",
    hint="The step comes first, and the gradients of this minibatch are computed after it.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@training_step.mistake(
    "two steps",
    breaks="step",
    hint="The optimizer makes a second step with the same gradient. Exactly one is asked for.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    value = _right_step(model, optimizer, x)
    optimizer.step()
    return value


@training_step.mistake(
    "the optimizer is not used",
    breaks="step",
    hint="The parameters move along the gradient by hand. Momentum, and all that makes Adam, is "
    "lost; the optimizer knows what to do with a gradient.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x)
    optimizer.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(optimizer.param_groups[0]["lr"] * parameter.grad)
    return loss.item()


@training_step.mistake(
    "a new optimizer at each step",
    breaks="step",
    hint="The step is not that of the optimizer that was handed in. One made anew has forgotten "
    "its running averages, and may have another learning rate.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    again = type(optimizer)(model.parameters(), lr=optimizer.param_groups[0]["lr"])
    return _right_step(model, again, x)


@training_step.mistake(
    "the loss is that after the step",
    breaks="value",
    hint="The model was asked again once its parameters had changed. Asked for is the loss that "
    "the step was made on.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    _right_step(model, optimizer, x)
    return _loss_of(model, x).item()


@training_step.mistake(
    "only the reconstruction is returned",
    breaks="value",
    hint="The step is right. What comes back is the first term of the loss without the KL.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    logits, mu, logvar = model(x)
    loss, reconstruction, _ = _right_loss(logits, x, mu, logvar)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return reconstruction.item()


@training_step.mistake(
    "only the reconstruction is trained",
    breaks="value step",
    hint="The KL has no part in the loss: this is an autoencoder with noise, and its codes lie "
    "anywhere but near the prior.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    logits, mu, logvar = model(x)
    loss = _right_loss(logits, x, mu, logvar)[1]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@training_step.mistake(
    "a mean over the pixels",
    breaks="value step",
    hint="This loss averages over the pixels. Use vae_loss, and let its checks pass first.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    logits, mu, logvar = model(x)
    loss = _cross_entropy(logits, x).mean() + _kl_terms(mu, logvar).sum(-1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@training_step.mistake(
    "a sum over the batch",
    breaks="value step",
    hint="The loss and the step grow with the size of the minibatch. The loss is a mean over "
    "examples.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x) * len(x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@training_step.mistake(
    "the step goes uphill",
    breaks="step",
    hint="The loss grows: the gradient has the wrong sign. The loss is −ELBO already and needs no "
    "minus of its own.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss = _loss_of(model, x)
    optimizer.zero_grad()
    (-loss).backward()
    optimizer.step()
    return loss.item()


@training_step.mistake(
    "the loss comes back as a tensor",
    breaks="float",
    hint="A tensor keeps the whole graph of its step in memory for as long as somebody holds it. "
    "A Python float is asked for.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> Tensor:
    loss = _loss_of(model, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@training_step.mistake(
    "nothing comes back",
    breaks="value float",
    hint="The step is right; the loss before it should be returned.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> None:
    _right_step(model, optimizer, x)


@training_step.mistake(
    "the loss is a number before it is differentiated",
    breaks="value step stale float",
    hint="A Python number has no backward. Turn the loss into one only once its gradients are "
    "computed.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    loss: Any = _loss_of(model, x).item()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss)


@training_step.mistake(
    "the forward pass records no gradients",
    breaks="value step stale float",
    hint="The loss was computed with gradients switched off, or detached, so there is nothing to "
    "go back through.",
)
def _(model: nn.Module, optimizer: Any, x: Tensor) -> float:
    with torch.no_grad():
        loss = _loss_of(model, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


# --- train_epoch ---------------------------------------------------------------------------------


def _right_epoch(
    model: nn.Module, optimizer: Any, x: Tensor, batch_size: int, generator: torch.Generator
) -> float:
    order = torch.randperm(len(x), generator=generator)
    return _epoch(model, optimizer, x, order.split(batch_size))[0]


def _epoch(model: nn.Module, optimizer: Any, x: Tensor, batches: Any) -> tuple[float, list[float]]:
    """A step on each batch of indices: the mean loss over examples, and all losses."""
    losses = [_right_step(model, optimizer, x[batch]) for batch in batches]
    sizes = [len(batch) for batch in batches]
    total = sum(loss * size for loss, size in zip(losses, sizes, strict=True))
    return total / sum(sizes), losses


train_epoch = Task("train_epoch", _right_epoch, read=(CHAPTER, "The whole run"))


def _minibatches(model: _Model, x: Tensor) -> list[tuple[list[int], _Visit]]:
    """Those the model was trained on: asked twice in a row for the same is once."""
    batches: list[tuple[list[int], _Visit]] = []
    for visit in model.visits:
        rows = _indices(visit.x, x)
        if visit.gradients and not (batches and batches[-1][0] == rows):
            batches.append((rows, visit))
    return batches


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@train_epoch.aspect("coverage")
def _(function: Function, draw: Draw) -> Facts:
    for n, batch_size in ((9, 4), (8, 4)):
        model, x = _Model(draw), _pixels(draw, n)
        optimizer = SGD(model.parameters(), lr=0.05)
        function(model, optimizer, x, batch_size, _generator(draw.seed()))
        batches = [rows for rows, _ in _minibatches(model, x)]
        seen = [row for rows in batches for row in rows]
        counts = {seen.count(i) for i in range(n)}
        said = ["some never"] * (0 in counts) + ["some more than once"] * (max(counts) > 1)
        case = f"{n} examples, batch_size {batch_size}"
        yield f"how often each example is seen, {case}", " and ".join(said) or "once"
        sizes = tuple(sorted(map(len, batches), reverse=True))
        yield f"the sizes of the minibatches, {case}", sizes


@train_epoch.aspect("order")
def _(function: Function, draw: Draw) -> Facts:
    # With 13 examples two orders agree by chance once in 6 · 10⁹.
    x, model, seed = _pixels(draw, 13), _Model(draw), draw.seed()
    given = x.clone()

    def order(generator: torch.Generator) -> list[list[int]]:
        model.visits.clear()
        function(model, SGD(model.parameters(), lr=0.05), x, 7, generator)
        return [rows for rows, _ in _minibatches(model, given)]

    def compare(other: list[list[int]]) -> str:
        return "the same" if other == first else "another"

    generator = _generator(seed)
    first = order(generator)
    flat = [row for rows in first for row in rows]
    yield "the order, beside that of x", "the same" if flat == sorted(flat) else "another"
    several = [rows for rows in first if 1 < len(rows) < len(x)]
    pieces = several and all(max(rows) - min(rows) == len(rows) - 1 for rows in several)
    yield "what a minibatch holds", "neighbours of x" if pieces else "examples from everywhere"
    yield "the order in a second epoch", compare(order(generator))
    yield "the order for the same seed", compare(order(_generator(seed)))
    yield "the order for another seed", compare(order(_generator(seed + 1)))
    yield "x afterwards", "unchanged" if torch.equal(x, given) else "changed"


@train_epoch.aspect("steps")
def _(function: Function, draw: Draw) -> Facts:
    # Against right steps on the minibatches that were seen, whichever they are.
    x, model = _pixels(draw, 11), _Model(draw)
    twin = _twin(model)
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.5)
    again = SGD(twin.parameters(), lr=0.05, momentum=0.5)
    start = model.flat()
    function(model, optimizer, x, 4, _generator(draw.seed()))
    for _, visit in _minibatches(model, x):
        _right_step(twin, again, visit.x)
    seen, wanted = model.flat() - start, twin.flat() - start
    yield (
        "how far the parameters move, beside one step on each minibatch",
        (seen.norm() / wanted.norm()),
    )
    yield "whether they move in the same direction", torch.cosine_similarity(seen, wanted, 0, 0.0)


@train_epoch.aspect("mean")
def _(function: Function, draw: Draw) -> Facts:
    for n, batch_size in ((9, 8), (11, 5)):
        x, model = _pixels(draw, n), _Model(draw)
        optimizer = SGD(model.parameters(), lr=0.05)
        result = _number(function(model, optimizer, x, batch_size, _generator(draw.seed())))
        total, count = torch.zeros((), dtype=torch.float64), 0
        for rows, visit in _minibatches(model, x):
            logits, mu, logvar = visit.result
            total += _right_loss(logits, visit.x, mu, logvar)[0] * len(rows)
            count += len(rows)
        name = f"what comes back, beside the mean loss of {n} examples each before its step"
        yield f"{name}, batch_size {batch_size}", result / (total / count)


def _shuffled(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(x), generator=generator)


@train_epoch.mistake(
    "the last minibatch is dropped",
    breaks="coverage",
    hint="What is left over after the whole minibatches makes a smaller one. Without it some "
    "examples are not seen in this epoch.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    order = _shuffled(x, generator)[: len(x) // batch_size * batch_size]
    return _epoch(model, optimizer, x, order.split(batch_size))[0]


@train_epoch.mistake(
    "examples are drawn with replacement",
    breaks="coverage",
    hint="Each minibatch is drawn from all examples again, so some come twice and some never. An "
    "epoch visits every example once.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    sizes = [min(batch_size, len(x) - i) for i in range(0, len(x), batch_size)]
    batches = [torch.randint(len(x), (size,), generator=generator) for size in sizes]
    return _epoch(model, optimizer, x, batches)[0]


@train_epoch.mistake(
    "an empty minibatch comes last",
    breaks="coverage",
    hint="Where batch_size divides the number of examples there is one minibatch too many. It is "
    "empty, its mean loss is NaN, and after its step so are the parameters.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    order = _shuffled(x, generator)
    batches = [order[i : i + batch_size] for i in range(0, len(x) + 1, batch_size)]
    return _epoch(model, optimizer, x, batches)[0]


@train_epoch.mistake(
    "all examples in one minibatch",
    breaks="coverage",
    hint="batch_size has no effect: the epoch is one single step.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    return _epoch(model, optimizer, x, [_shuffled(x, generator)])[0]


@train_epoch.mistake(
    "one example at a time",
    breaks="coverage",
    hint="batch_size has no effect: each example has a step of its own.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    return _epoch(model, optimizer, x, _shuffled(x, generator).split(1))[0]


@train_epoch.mistake(
    "minibatches of equal size",
    breaks="coverage",
    hint="The examples are dealt out evenly. All minibatches but the last one should hold "
    "batch_size examples.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    order = _shuffled(x, generator)
    return _epoch(model, optimizer, x, order.tensor_split(-(-len(x) // batch_size)))[0]


@train_epoch.mistake(
    "the examples are not shuffled",
    breaks="order",
    hint="They come in the order of x in every epoch. Where x is sorted in any way a minibatch "
    "then knows one kind only, and each step forgets the one before.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    return _epoch(model, optimizer, x, torch.arange(len(x)).split(batch_size))[0]


@train_epoch.mistake(
    "the generator has no part in the order",
    breaks="order",
    hint="The order is drawn from somewhere else: two generators with the same seed give two "
    "orders, and no run can be repeated.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    return _epoch(model, optimizer, x, torch.randperm(len(x)).split(batch_size))[0]


@train_epoch.mistake(
    "one fixed order",
    breaks="order",
    hint="The examples are shuffled, but in the same way in every epoch and for every seed. Draw "
    "from the generator that was handed in, and set no seed.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    order = _shuffled(x, torch.Generator().manual_seed(0))
    return _epoch(model, optimizer, x, order.split(batch_size))[0]


@train_epoch.mistake(
    "each epoch in the same order",
    breaks="order",
    hint="Seeds differ, but the generator starts anew in every epoch. Leave it where the last "
    "epoch left it.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    order = _shuffled(x, torch.Generator().manual_seed(generator.initial_seed()))
    return _epoch(model, optimizer, x, order.split(batch_size))[0]


@train_epoch.mistake(
    "only whole minibatches are shuffled",
    breaks="order",
    hint="The minibatches come in a new order, but what is in them never changes: each holds "
    "neighbours of x. Shuffle the examples.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    batches = torch.arange(len(x)).split(batch_size)
    order = torch.randperm(len(batches), generator=generator).tolist()
    return _epoch(model, optimizer, x, [batches[i] for i in order])[0]


@train_epoch.mistake(
    "x itself is shuffled",
    breaks="order",
    hint="The rows of x have changed places after the call: whoever holds x, or its labels in "
    "another tensor, is left with a mess. Shuffle indices.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    x[:] = x[_shuffled(x, generator)]
    return _epoch(model, optimizer, x, torch.arange(len(x)).split(batch_size))[0]


@train_epoch.mistake(
    "one step an epoch",
    breaks="steps",
    hint="The gradients of all minibatches add up to one single step at the end. Each minibatch "
    "has a step of its own.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    total = 0.0
    optimizer.zero_grad()
    for batch in _shuffled(x, generator).split(batch_size):
        loss = _loss_of(model, x[batch])
        loss.backward()
        total += loss.item() * len(batch)
    optimizer.step()
    return total / len(x)


@train_epoch.mistake(
    "stale gradients pile up",
    breaks="steps",
    hint="The gradients are cleared at the start of the epoch only, so that each step goes along "
    "the sum of all minibatches so far.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    total = 0.0
    optimizer.zero_grad()
    for batch in _shuffled(x, generator).split(batch_size):
        loss = _loss_of(model, x[batch])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(x)


@train_epoch.mistake(
    "nothing is learnt",
    breaks="steps",
    hint="The parameters are after the epoch what they were before. Is there a step for each "
    "minibatch, and does training_step pass its own checks?",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    batches = _shuffled(x, generator).split(batch_size)
    return sum(_loss_of(model, x[batch]).item() * len(batch) for batch in batches) / len(x)


@train_epoch.mistake(
    "two steps for each minibatch",
    breaks="steps",
    hint="Each minibatch is used for two steps in a row. One is asked for; for more of them there "
    "are more epochs.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    total = 0.0
    for batch in _shuffled(x, generator).split(batch_size):
        total += _right_step(model, optimizer, x[batch]) * len(batch)
        _right_step(model, optimizer, x[batch])
    return total / len(x)


@train_epoch.mistake(
    "the mean of the minibatches' means",
    breaks="mean",
    hint="The last minibatch is smaller, and each of its examples weighs more than any other. The "
    "mean over examples weighs a minibatch by what it holds.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    batches = _shuffled(x, generator).split(batch_size)
    return sum(_epoch(model, optimizer, x, batches)[1]) / len(batches)


@train_epoch.mistake(
    "the last minibatch weighs as if it were full",
    breaks="mean",
    hint="Each loss is weighed by batch_size, and the last minibatch holds fewer examples.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    batches = _shuffled(x, generator).split(batch_size)
    return sum(_epoch(model, optimizer, x, batches)[1]) * batch_size / len(x)


@train_epoch.mistake(
    "the sum over the minibatches",
    breaks="mean",
    hint="The losses of the minibatches are added and not divided: the number depends on how many "
    "there are.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    return sum(_epoch(model, optimizer, x, _shuffled(x, generator).split(batch_size))[1])


@train_epoch.mistake(
    "the sum over the examples",
    breaks="mean",
    hint="Each minibatch weighs what it holds, but the sum is not divided by the number of "
    "examples.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    return _right_epoch(model, optimizer, x, batch_size, generator) * len(x)


@train_epoch.mistake(
    "the minibatches' losses are divided by the number of examples",
    breaks="mean",
    hint="Each loss is a mean over its minibatch already. Before it is divided by the number of "
    "examples it must weigh as many as it holds.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    batches = _shuffled(x, generator).split(batch_size)
    return sum(_epoch(model, optimizer, x, batches)[1]) / len(x)


@train_epoch.mistake(
    "the loss of the last minibatch",
    breaks="mean",
    hint="It is overwritten by each minibatch. All examples count.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    return _epoch(model, optimizer, x, _shuffled(x, generator).split(batch_size))[1][-1]


@train_epoch.mistake(
    "the losses are those after each step",
    breaks="mean",
    hint="Each minibatch is asked again once the parameters have changed. Asked for is its loss "
    "before its step.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    total = 0.0
    for batch in _shuffled(x, generator).split(batch_size):
        _right_step(model, optimizer, x[batch])
        with torch.no_grad():
            total += _loss_of(model, x[batch]).item() * len(batch)
    return total / len(x)


@train_epoch.mistake(
    "the loss is that after the epoch",
    breaks="mean",
    hint="All examples are asked again at the end. Asked for is the loss of each before its step, "
    "which costs nothing more.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> float:
    _right_epoch(model, optimizer, x, batch_size, generator)
    with torch.no_grad():
        return _loss_of(model, x).item()


@train_epoch.mistake(
    "nothing comes back",
    breaks="mean",
    hint="The epoch itself may be right; the mean loss over its examples should be returned.",
)
def _(model: Any, optimizer: Any, x: Tensor, batch_size: int, generator: Any) -> None:
    _right_epoch(model, optimizer, x, batch_size, generator)


# --- evaluate ------------------------------------------------------------------------------------


def _right_evaluation(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return _evaluation(model, x, batch_size)[0] / len(x)


def _evaluation(model: nn.Module, x: Tensor, batch_size: int) -> tuple[float, list[float]]:
    """The sum over examples, and the losses of the minibatches."""
    with _evaluating(model):
        batches = x.split(batch_size)
        losses = [_loss_of(model, batch).item() for batch in batches]
    total = sum(loss * len(batch) for loss, batch in zip(losses, batches, strict=True))
    return total, losses


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    mode = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(mode)


evaluate = Task("evaluate", _right_evaluation, read=(CHAPTER, "The whole run"))


@evaluate.aspect("mean")
def _(function: Function, draw: Draw) -> Facts:
    for n, batch_size in ((9, 8), (11, 4), (8, 4)):
        result = _number(function(_Model(draw), _pixels(draw, n), batch_size))
        yield f"the mean loss of {n} examples, batch_size {batch_size}", result


@evaluate.aspect("mode")
def _(function: Function, draw: Draw) -> Facts:
    for mode in (True, False):
        model = _Model(draw).train(mode)
        function(model, _pixels(draw, 5), 3)
        found = f"for a model found in {_mode(mode)}"
        modes = {visit.training for visit in model.visits}
        yield f"the mode it is evaluated in, {found}", " and ".join(map(_mode, sorted(modes)))
        yield f"the mode it is left in, {found}", _mode(model.training)


@evaluate.aspect("memory")
def _(function: Function, draw: Draw) -> Facts:
    model = _Model(draw)
    function(model, _pixels(draw, 11), 4)
    recorded = any(visit.gradients for visit in model.visits)
    yield "whether gradients are recorded", "yes" if recorded else "no"
    largest = max((visit.x.numel() // 7 for visit in model.visits), default=0)
    yield "the largest minibatch for batch_size 4", largest


@evaluate.aspect("float")
def _(function: Function, draw: Draw) -> Facts:
    yield "what comes back", _name(function(_Model(draw), _pixels(draw, 5), 3))


def _mode(training: bool) -> str:
    return "training mode" if training else "evaluation mode"


@evaluate.mistake(
    "the mean of the minibatches' means",
    breaks="mean",
    hint="The last minibatch is smaller, and each of its examples weighs more than any other. The "
    "number then depends on batch_size, which has no say in how good a model is.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    losses = _evaluation(model, x, batch_size)[1]
    return sum(losses) / len(losses)


@evaluate.mistake(
    "the last minibatch weighs as if it were full",
    breaks="mean",
    hint="Each loss is weighed by batch_size, and the last minibatch holds fewer examples.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return sum(_evaluation(model, x, batch_size)[1]) * batch_size / len(x)


@evaluate.mistake(
    "the sum over the minibatches",
    breaks="mean",
    hint="The losses of the minibatches are added and not divided: the number depends on how many "
    "there are.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return sum(_evaluation(model, x, batch_size)[1])


@evaluate.mistake(
    "the sum over the examples",
    breaks="mean",
    hint="Each minibatch weighs what it holds, but the sum is not divided by the number of "
    "examples.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return _evaluation(model, x, batch_size)[0]


@evaluate.mistake(
    "the minibatches' losses are divided by the number of examples",
    breaks="mean",
    hint="Each loss is a mean over its minibatch already. Before it is divided by the number of "
    "examples it must weigh as many as it holds.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return sum(_evaluation(model, x, batch_size)[1]) / len(x)


@evaluate.mistake(
    "the last minibatch is dropped",
    breaks="mean",
    hint="What is left over after the whole minibatches is not looked at. All examples count.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return _right_evaluation(model, x[: len(x) // batch_size * batch_size], batch_size)


@evaluate.mistake(
    "the last minibatch is dropped, but its examples are counted",
    breaks="mean",
    hint="The sum leaves out what is left over after the whole minibatches, and is divided by the "
    "number of all examples.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    whole = len(x) // batch_size * batch_size
    return _evaluation(model, x[:whole], batch_size)[0] / len(x)


@evaluate.mistake(
    "the loss of the last minibatch",
    breaks="mean",
    hint="It is overwritten by each minibatch. All examples count.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return _evaluation(model, x, batch_size)[1][-1]


@evaluate.mistake(
    "the loss of the first minibatch",
    breaks="mean",
    hint="The function returns before it has seen all examples.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return _evaluation(model, x, batch_size)[1][0]


@evaluate.mistake(
    "only the reconstruction counts",
    breaks="mean",
    hint="The KL is missing. Without it the number is no bound, and an autoencoder that ignores "
    "the prior looks best.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    total = torch.zeros(())
    with _evaluating(model):
        for batch in x.split(batch_size):
            logits, mu, logvar = model(batch)
            total = total + _right_loss(logits, batch, mu, logvar)[1] * len(batch)
    return total.item() / len(x)


@evaluate.mistake(
    "the model is not set to evaluation mode",
    breaks="mode",
    hint="Dropout stays on and batch normalisation goes on learning, now from held-out data: the "
    "number is another at each call.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    with torch.no_grad():
        losses = [_loss_of(model, batch).item() * len(batch) for batch in x.split(batch_size)]
    return sum(losses) / len(x)


@evaluate.mistake(
    "the model is left in evaluation mode",
    breaks="mode",
    hint="It was being trained, and after the call its dropout and batch normalisation are off "
    "for the rest of the run. Nobody notices.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    value = _right_evaluation(model, x, batch_size)
    model.eval()
    return value


@evaluate.mistake(
    "the model is always left in training mode",
    breaks="mode",
    hint="A model that was found in evaluation mode should be left in it. Remember the mode before "
    "you change it.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    value = _right_evaluation(model, x, batch_size)
    model.train()
    return value


@evaluate.mistake(
    "the model is evaluated in training mode",
    breaks="mode",
    hint="It is set to training mode for the evaluation. Dropout then is on, and the number is "
    "another at each call.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    mode = model.training
    model.train()
    with torch.no_grad():
        losses = [_loss_of(model, batch).item() * len(batch) for batch in x.split(batch_size)]
    model.train(mode)
    return sum(losses) / len(x)


@evaluate.mistake(
    "gradients are recorded",
    breaks="memory",
    hint="The number is right, but the forward pass keeps all that a backward pass would need. "
    "Evaluation mode does not switch this off: it is another thing.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    mode = model.training
    model.eval()
    losses = [_loss_of(model, batch).item() * len(batch) for batch in x.split(batch_size)]
    model.train(mode)
    return sum(losses) / len(x)


@evaluate.mistake(
    "all examples at once",
    breaks="memory",
    hint="The number is right, but batch_size has no effect: ten thousand images need not fit into "
    "memory together.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return _right_evaluation(model, x, len(x))


@evaluate.mistake(
    "one example at a time",
    breaks="memory",
    hint="The number is right, but batch_size has no effect, and a batch of one is slow.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> float:
    return _right_evaluation(model, x, 1)


@evaluate.mistake(
    "the loss comes back as a tensor",
    breaks="float",
    hint="The number is right. A Python float is asked for, which can be stored and drawn.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    return torch.tensor(_right_evaluation(model, x, batch_size))


@evaluate.mistake(
    "nothing comes back",
    breaks="mean float",
    hint="The mean loss over the examples should be returned.",
)
def _(model: nn.Module, x: Tensor, batch_size: int) -> None:
    _right_evaluation(model, x, batch_size)
