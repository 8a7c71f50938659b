"""2-elbo: what is checked, and which mistakes are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

import vaelib.elbo as library
import vaelib.likelihood as likelihood
from vaelib.exercises.observe import form, gradients, tensor
from vaelib.exercises.task import Clue, Draw, Rough, Task

__all__ = [
    "bernoulli_log_likelihood",
    "gaussian_log_likelihood",
    "log_marginal_monte_carlo",
    "negative_elbo",
]

Facts = Iterator[tuple[str, Any]]
Function = Callable[..., Any]

# --- bernoulli_log_likelihood --------------------------------------------------------------------

bernoulli_log_likelihood = Task(
    "bernoulli_log_likelihood",
    likelihood.bernoulli_log_likelihood,
    read=("Training", "Log loss or regression loss"),
)


def _pixels(draw: Draw, *shape: int) -> dict[str, Tensor]:
    """Logits, and pixels that are 0 or 1 (torch's own Bernoulli takes no others)."""
    x = torch.bernoulli(draw.uniform(0.3, 0.7, *shape), generator=draw.generator)
    return {"logits": 1.5 * draw.mean(*shape), "x": x}


@bernoulli_log_likelihood.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    result = tensor(function(*_pixels(draw, 5, 7).values()))
    yield "the log-likelihood of each example", result.reshape(-1)


@bernoulli_log_likelihood.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, **_pixels(draw, 5, 7))
    images = tensor(function(*_pixels(draw, 5, 2, 3, 4).values()))
    yield "the shape for five images, (5, 2, 3, 4)", tuple(images.shape)


@bernoulli_log_likelihood.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    # Beside the function's own results: so that a wrong factor loses the value alone.
    weights = draw.uniform(0.5, 1.5, 5)
    logits, x = _pixels(draw, 5, 7).values()
    results = []

    def result(logits: Tensor) -> Tensor:
        results.append(tensor(function(logits, x)))
        return results[0]

    ((_, gradient),) = gradients(result, weights, logits=logits)
    if results[0].numel() != 5:
        raise ValueError(f"one number per example should come back, 5, not {results[0].numel()}")
    own = weights * results[0].detach().reshape(5)
    yield "the gradient in logits, divided by the log-likelihood", gradient / own.unsqueeze(1)


@bernoulli_log_likelihood.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    # The pixels are what the logits deny: each costs as many nats as the logit is far from 0.
    logits = draw.uniform(45, 50, 2, 3).float()
    for sign, name in ((1, "0 where the logits are near 100"), (-1, "1 where they are near −100")):
        x = torch.full_like(logits, float(sign < 0))
        size = [
            tensor(function(sign * factor * logits, x.clone())).sum().double() for factor in (1, 2)
        ]
        cost = size[0].abs() / x.numel()
        yield f"what a wrong pixel costs, x = {name}", Clue("much" if cost > 8 else "little")
        yield (
            f"the log-likelihood of x = {name}, beside that at half of them",
            Rough(size[1] / size[0], 1.3),
        )


def _bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Log-likelihood of each pixel, (N, everything else)."""
    return (x * logits - F.softplus(logits)).flatten(1)


@bernoulli_log_likelihood.mistake(
    "the sign is wrong",
    breaks="value",
    hint="This is −log p, the cross-entropy: a loss. Asked for is the log-likelihood, which for "
    "pixels of 0 and 1 is never positive.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return -_bernoulli(logits, x).sum(1)


@bernoulli_log_likelihood.mistake(
    "a mean over the pixels",
    breaks="value",
    hint="Independent pixels multiply their probabilities, so that logarithms add up. A mean makes "
    "the reconstruction D times too weak against the KL.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).mean(1)


@bernoulli_log_likelihood.mistake(
    "a sum over the batch too",
    breaks="value shape gradient",
    hint="One value per example is asked for: (N, D) in, (N,) out.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).sum()


@bernoulli_log_likelihood.mistake(
    "a mean over the batch",
    breaks="value shape gradient",
    hint="Summed over the pixels, but then averaged over the examples. Averaging belongs to the "
    "loss; here one value per example is asked for.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).sum(1).mean()


@bernoulli_log_likelihood.mistake(
    "a mean over everything",
    breaks="value shape gradient",
    hint="This is what reduction='mean', the default of PyTorch's losses, does (here with the "
    "right sign). Pixels are summed, and examples are kept apart.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).mean()


@bernoulli_log_likelihood.mistake(
    "a loss of PyTorch, as it comes",
    breaks="value shape gradient",
    hint="PyTorch's cross-entropy is −log p, averaged over everything. Asked for is +log p, "
    "summed over the pixels of each example.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return -_bernoulli(logits, x).mean()


@bernoulli_log_likelihood.mistake(
    "a loss of PyTorch, summed over everything",
    breaks="value shape gradient",
    hint="PyTorch's cross-entropy is −log p, and reduction='sum' adds up the examples as well. "
    "Asked for is +log p, one value per example.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return -_bernoulli(logits, x).sum()


@bernoulli_log_likelihood.mistake(
    "summed over the wrong dimension",
    breaks="value shape gradient",
    hint="The sum runs over the examples, dimension 0. It belongs over all others.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).sum(0)


@bernoulli_log_likelihood.mistake(
    "not summed at all",
    breaks="value shape gradient",
    hint="These are the log-likelihoods of single pixels. An example's is their sum.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).view_as(logits)


@bernoulli_log_likelihood.mistake(
    "summed over the last dimension only",
    breaks="shape",
    hint="Right for vectors. An image has channels, rows and columns: all dimensions but the first "
    "are summed.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).view_as(logits).sum(-1)


@bernoulli_log_likelihood.mistake(
    "summed over dimension 1 only",
    breaks="shape",
    hint="Right for vectors. In an image, dimension 1 is the channels: rows and columns are left.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).view_as(logits).sum(1)


@bernoulli_log_likelihood.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right and stand in a column (N, 1), where a vector (N,) is asked for. "
    "Added to another (N,) it would silently make an (N, N).",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).sum(1, keepdim=True)


@bernoulli_log_likelihood.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).sum(1).float()


@bernoulli_log_likelihood.mistake(
    "an input is changed",
    breaks="shape",
    hint="x is overwritten in place: in the next epoch these are other images. Make a new tensor.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return (x.mul_(logits) - F.softplus(logits)).flatten(1).sum(1)


@bernoulli_log_likelihood.mistake(
    "double sigmoid",
    breaks="value gradient numerics",
    hint="The logits went through a sigmoid before a function that applies one itself: all "
    "probabilities lie between ½ and ¾.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits.sigmoid(), x).sum(1)


@bernoulli_log_likelihood.mistake(
    "no sigmoid",
    breaks="value gradient numerics",
    hint="Logits are taken for probabilities. They may be negative or above 1, and then the "
    "logarithm is NaN.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return (x * logits.log() + (1 - x) * (1 - logits).log()).flatten(1).sum(1)


@bernoulli_log_likelihood.mistake(
    "swapped arguments",
    breaks="value gradient numerics",
    hint="x stands where the logits belong, and the logits where x does. In PyTorch's losses the "
    "target comes second.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(x, logits).sum(1)


@bernoulli_log_likelihood.mistake(
    "black pixels do not count",
    breaks="value gradient numerics",
    hint="Only pixels with x = 1 are looked at. A decoder that answers white everywhere would be "
    "the best.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return (x * F.logsigmoid(logits)).flatten(1).sum(1)


@bernoulli_log_likelihood.mistake(
    "black and white are exchanged",
    breaks="value gradient numerics",
    hint="The logit is that of x = 1. Here it is taken for that of x = 0: a minus too many in the "
    "sigmoid, or x and 1 − x in each other's place.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, 1 - x).sum(1)


@bernoulli_log_likelihood.mistake(
    "the squared error",
    breaks="value gradient numerics",
    hint="This is a squared distance between pixels and probabilities: the likelihood of a "
    "Gaussian, without its constants, and of no coin.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return -((x - logits.sigmoid()) ** 2).flatten(1).sum(1)


@bernoulli_log_likelihood.mistake(
    "in bits",
    breaks="value",
    hint="These are logarithms to the base 2. The KL is in nats, and both are added.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).sum(1) / math.log(2)


@bernoulli_log_likelihood.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, .data, no_grad, numpy or "
    "item() on the way. The decoder would learn nothing.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits, x).sum(1).detach()


@bernoulli_log_likelihood.mistake(
    "the logarithm of a sigmoid",
    breaks="numerics",
    hint="Where the sigmoid rounds to 1 the logarithm of the rest is −∞, and 0 times that is NaN: "
    "training ends there. Work with the logits themselves; PyTorch can.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    p = logits.sigmoid()
    return (x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)


@bernoulli_log_likelihood.mistake(
    "the exponential overflows",
    breaks="numerics",
    hint="log(1 + e^l) is l for large l, but e^l is ∞ before. PyTorch has it without overflow.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return (x * logits - logits.exp().log1p()).flatten(1).sum(1)


@bernoulli_log_likelihood.mistake(
    "the log-likelihood stops falling",
    breaks="numerics",
    hint="Beyond some logit a wrong pixel costs no more, and its gradient is 0: a clamp, or a "
    "small number added inside the logarithm. With the logits at hand neither is needed.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return _bernoulli(logits.clamp(-16, 16), x).sum(1)


@bernoulli_log_likelihood.mistake(
    "the cross-entropy of probabilities",
    breaks="numerics",
    hint="A sigmoid that rounds to 1 leaves no trace of the logit, and PyTorch then answers −100 "
    "for all of them, with no gradient. It has the same loss for logits.",
)
def _(logits: Tensor, x: Tensor) -> Tensor:
    return -F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").flatten(1).sum(1)


# --- gaussian_log_likelihood ---------------------------------------------------------------------

gaussian_log_likelihood = Task(
    "gaussian_log_likelihood",
    likelihood.gaussian_log_likelihood,
    read=("Training", "Log loss or regression loss"),
)


def _greys(draw: Draw, *shape: int) -> tuple[Tensor, Tensor, float]:
    """Means, pixels near them, and one standard deviation."""
    mean, sigma = draw.mean(*shape), draw.uniform(0.4, 0.7).item()
    return mean, mean + 1.5 * sigma * draw.mean(*shape), sigma


@gaussian_log_likelihood.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    yield "the log-likelihood of each example", tensor(function(*_greys(draw, 5, 7))).reshape(-1)


@gaussian_log_likelihood.aspect("sigma")
def _(function: Function, draw: Draw) -> Facts:
    # Beside the function's own results for numbers: so that a wrong factor loses the value alone.
    mean, x, sigma = _greys(draw, 5, 4)
    alone = tensor(function(mean, x, sigma)).reshape(-1)
    other = tensor(function(mean, x, 1.7 * sigma)).reshape(-1)
    yield "whether σ makes a difference", not torch.allclose(alone, other)
    result = tensor(function(mean, x, torch.tensor(sigma, dtype=mean.dtype))).reshape(-1)
    yield "the result for σ as a tensor, divided by that for the number", result / alone
    sigmas = draw.uniform(0.4, 1.2, 4)
    each = [
        tensor(function(mean[:, [d]], x[:, [d]], sigmas[d].item())).reshape(-1) for d in range(4)
    ]
    result = tensor(function(mean, x, sigmas)).reshape(-1)
    yield (
        "the result for a σ of each pixel, divided by the sum over single pixels",
        (result / torch.stack(each).sum(0)),
    )


@gaussian_log_likelihood.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    mean, x, sigma = _greys(draw, 5, 7)
    yield from form(lambda mean, x: function(mean, x, sigma), mean=mean, x=x)
    images = tensor(function(*_greys(draw, 5, 2, 3, 4)))
    yield "the shape for five images, (5, 2, 3, 4)", tuple(images.shape)


@gaussian_log_likelihood.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    mean, x, sigma = _greys(draw, 5, 7)
    yield from gradients(
        lambda mean, sigma: function(mean, x, sigma),
        draw.uniform(0.5, 1.5, 5),
        mean=mean,
        sigma=torch.tensor(sigma, dtype=mean.dtype),
    )


@gaussian_log_likelihood.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    # The density is 0 in float32 from some 14 σ on, its logarithm is a plain number.
    mean, _, sigma = _greys(draw, 2, 3)
    far = sigma * draw.uniform(20, 25, 2, 3) * draw.sign(2, 3)
    size = [
        tensor(function(mean.float(), (mean + factor * far).float(), sigma)).sum().double()
        for factor in (1, 2)
    ]
    yield (
        "the log-likelihood at more than 40 σ, beside that at half of the distance",
        Rough(size[1] / size[0], 1.3),
    )


LOG_2_PI = math.log(2 * math.pi)


def _gaussian(mean: Tensor, x: Tensor, sigma: Tensor | float, *, half: float = 0.5) -> Tensor:
    """Log-density of each pixel, (N, everything else)."""
    sigma = torch.as_tensor(sigma, dtype=mean.dtype)
    terms = -half * ((x - mean) / sigma) ** 2 - sigma.log() - 0.5 * LOG_2_PI
    return terms.flatten(1)


@gaussian_log_likelihood.mistake(
    "the sign is wrong",
    breaks="value gradient",
    hint="This is −log p: a loss. Asked for is the log-likelihood, which falls as x moves away "
    "from the mean.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return -_gaussian(mean, x, sigma).sum(1)


@gaussian_log_likelihood.mistake(
    "the ½ is missing",
    breaks="value gradient",
    hint="The squared distance counts twice what it should: the exponent of a Gaussian has a ½.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma, half=1).sum(1)


@gaussian_log_likelihood.mistake(
    "2π is missing",
    breaks="value",
    hint="Each pixel is ½ log 2π too large. No gradient shows it, but it is no density any more, "
    "and cannot be compared with another.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return (_gaussian(mean, x, sigma) + 0.5 * LOG_2_PI).sum(1)


@gaussian_log_likelihood.mistake(
    "the constant counts once",
    breaks="value sigma",
    hint="½ log 2π is there once an example. Every pixel has a density of its own, with its own "
    "constant.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return (_gaussian(mean, x, sigma) + 0.5 * LOG_2_PI).sum(1) - 0.5 * LOG_2_PI


@gaussian_log_likelihood.mistake(
    "the constant counts too often",
    breaks="value sigma",
    hint="D/2 · log 2π is already the constant of a whole example. Added to each pixel and then "
    "summed it is D times too large.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    terms = _gaussian(mean, x, sigma)
    return (terms - 0.5 * (terms.shape[1] - 1) * LOG_2_PI).sum(1)


@gaussian_log_likelihood.mistake(
    "log σ is missing",
    breaks="value gradient",
    hint="Without it a larger σ is always better: errors would cost ever less, for nothing.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=mean.dtype)
    return (_gaussian(mean, x, sigma) + sigma.log().expand_as(mean).flatten(1)).sum(1)


@gaussian_log_likelihood.mistake(
    "log σ has the wrong sign",
    breaks="value gradient",
    hint="A wide Gaussian is a low one: log σ lowers the log-density. Here it raises it.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=mean.dtype)
    return (_gaussian(mean, x, sigma) + 2 * sigma.log().expand_as(mean).flatten(1)).sum(1)


@gaussian_log_likelihood.mistake(
    "log σ is halved",
    breaks="value gradient",
    hint="½ goes with log σ², or none with log σ. Here log σ is halved.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=mean.dtype)
    return (_gaussian(mean, x, sigma) + 0.5 * sigma.log().expand_as(mean).flatten(1)).sum(1)


@gaussian_log_likelihood.mistake(
    "σ taken for the variance",
    breaks="value gradient",
    hint="The distance is divided by σ, and the constant has ½ log σ. σ is the standard deviation.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, torch.as_tensor(sigma, dtype=mean.dtype).sqrt()).sum(1)


@gaussian_log_likelihood.mistake(
    "the distance is divided by σ once",
    breaks="value gradient",
    hint="The squared distance is measured in units of σ², the constants are right.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=mean.dtype)
    terms = -0.5 * (x - mean) ** 2 / sigma - sigma.log() - 0.5 * LOG_2_PI
    return terms.flatten(1).sum(1)


@gaussian_log_likelihood.mistake(
    "the squared error",
    breaks="value sigma gradient",
    hint="This is minus the squared error alone. Up to a constant that is the log-likelihood for "
    "σ² = ½, and for no other.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return -((x - mean) ** 2).flatten(1).sum(1)


@gaussian_log_likelihood.mistake(
    "σ is not used",
    breaks="value sigma gradient",
    hint="This is the log-likelihood for σ = 1, whatever σ comes in.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, 1.0).sum(1)


@gaussian_log_likelihood.mistake(
    "a mean over the pixels",
    breaks="value sigma gradient",
    hint="Independent pixels multiply their densities, so that logarithms add up. A mean makes the "
    "reconstruction D times too weak against the KL.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).mean(1)


@gaussian_log_likelihood.mistake(
    "a sum over the batch too",
    breaks="value sigma shape gradient",
    hint="One value per example is asked for: (N, D) in, (N,) out.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).sum()


@gaussian_log_likelihood.mistake(
    "a mean over the batch",
    breaks="value sigma shape gradient",
    hint="Summed over the pixels, but then averaged over the examples. Averaging belongs to the "
    "loss; here one value per example is asked for.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).sum(1).mean()


@gaussian_log_likelihood.mistake(
    "not summed at all",
    breaks="value sigma shape gradient",
    hint="These are the log-densities of single pixels. An example's is their sum.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).view_as(mean)


@gaussian_log_likelihood.mistake(
    "σ taken for one number",
    breaks="sigma",
    hint="With a σ for each pixel there are D different logarithms of σ: D times one of them is "
    "not their sum.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=mean.dtype)
    n_pixels = mean[0].numel()
    squares = (((x - mean) / sigma) ** 2).flatten(1).sum(1)
    return -0.5 * squares - n_pixels * (sigma.log() + 0.5 * LOG_2_PI)


@gaussian_log_likelihood.mistake(
    "the logarithm of a Python number",
    breaks="sigma gradient",
    hint="math.log or numpy takes one number, and lets no gradient through: a σ for each pixel is "
    "refused, and a σ that is learnt would feel only half of its effect.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    squares = (((x - mean) / sigma) ** 2).flatten(1).sum(1)
    log_sigma = math.log(sigma.detach() if isinstance(sigma, Tensor) else sigma)
    return -0.5 * squares - mean[0].numel() * (log_sigma + 0.5 * LOG_2_PI)


@gaussian_log_likelihood.mistake(
    "summed over the last dimension only",
    breaks="shape",
    hint="Right for vectors. An image has channels, rows and columns: all dimensions but the first "
    "are summed.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).view_as(mean).sum(-1)


@gaussian_log_likelihood.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right and stand in a column (N, 1), where a vector (N,) is asked for.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).sum(1, keepdim=True)


@gaussian_log_likelihood.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).sum(1).float()


@gaussian_log_likelihood.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, .data, no_grad, numpy or "
    "item() on the way. The decoder would learn nothing.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, sigma).sum(1).detach()


@gaussian_log_likelihood.mistake(
    "σ is detached",
    breaks="gradient",
    hint="The values are right, and σ gets no gradient: float(), item(), or torch.tensor(sigma). "
    "A σ that is learnt needs it.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    return _gaussian(mean, x, torch.as_tensor(sigma, dtype=mean.dtype).detach()).sum(1)


@gaussian_log_likelihood.mistake(
    "the logarithm of the density",
    breaks="numerics",
    hint="Far from the mean the density rounds to 0, and its logarithm is −∞. The logarithm of the "
    "exponential is known: it is the exponent.",
)
def _(mean: Tensor, x: Tensor, sigma: Tensor | float) -> Tensor:
    density: Tensor = Normal(mean, torch.as_tensor(sigma, dtype=mean.dtype)).log_prob(x).exp()
    return density.log().flatten(1).sum(1)


# --- log_marginal_monte_carlo --------------------------------------------------------------------

log_marginal_monte_carlo = Task(
    "log_marginal_monte_carlo",
    library.log_marginal_monte_carlo,
    read=("Latent variable models", "The integral"),
)


@log_marginal_monte_carlo.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    result = tensor(function(draw.uniform(-6, -2, 7, 4)))
    yield "the estimate of each example", result.reshape(-1)


@log_marginal_monte_carlo.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, log_likelihood=draw.uniform(-6, -2, 7, 4))


@log_marginal_monte_carlo.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    log_likelihood = draw.uniform(-6, -2, 7, 4)
    yield from gradients(function, draw.uniform(0.5, 1.5, 4), log_likelihood=log_likelihood)


@log_marginal_monte_carlo.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    # Examples that lie far apart, so that no shift fits all of them.
    log_likelihood = draw.uniform(-6, -2, 7, 4)
    level = torch.tensor([400.0, 900.0, 1400.0, 2000.0], dtype=torch.float64)
    for sign, name in ((-1, "far below"), (1, "far above")):
        near, far = (
            tensor(function(log_likelihood + sign * factor * level)).reshape(-1)
            for factor in (1, 2)
        )
        yield f"the estimates {name} 0, beside those at half of that", Rough(far / near, 1.3)


def _log_mean(log_likelihood: Tensor, dim: int = 0) -> Tensor:
    return torch.logsumexp(log_likelihood, dim) - math.log(log_likelihood.shape[dim])


@log_marginal_monte_carlo.mistake(
    "−log S is missing",
    breaks="value",
    hint="This is the logarithm of the sum. It grows with the number of samples: twice as many of "
    "the same ones raise it by log 2. No gradient shows it.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return torch.logsumexp(log_likelihood, 0)


@log_marginal_monte_carlo.mistake(
    "log S has the wrong sign",
    breaks="value",
    hint="log S is added. A mean is a sum divided by S.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return torch.logsumexp(log_likelihood, 0) + math.log(len(log_likelihood))


@log_marginal_monte_carlo.mistake(
    "divided by S after the logarithm",
    breaks="value gradient",
    hint="The logarithm of the sum is divided by S. The sum is, before the logarithm is taken.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return torch.logsumexp(log_likelihood, 0) / len(log_likelihood)


@log_marginal_monte_carlo.mistake(
    "the number of examples for that of samples",
    breaks="value",
    hint="The sum is divided by N. The samples are counted by dimension 0.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return torch.logsumexp(log_likelihood, 0) - math.log(log_likelihood.shape[1])


@log_marginal_monte_carlo.mistake(
    "the mean of the logarithms",
    breaks="value gradient",
    hint="P(X) is the mean of the likelihoods; its logarithm is taken afterwards. The mean of the "
    "logarithms is smaller (Jensen): it is the bound for Q = P(z).",
)
def _(log_likelihood: Tensor) -> Tensor:
    return log_likelihood.mean(0)


@log_marginal_monte_carlo.mistake(
    "the sum of the logarithms",
    breaks="value gradient",
    hint="A sum of logarithms is the logarithm of a product: the samples are no further data.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return log_likelihood.sum(0)


@log_marginal_monte_carlo.mistake(
    "a mean weighted by the likelihood",
    breaks="value gradient",
    hint="These are logarithms averaged with weights from a softmax. What is asked for is the "
    "logarithm of a plain mean.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return (log_likelihood.softmax(0) * log_likelihood).sum(0)


@log_marginal_monte_carlo.mistake(
    "the best sample alone",
    breaks="value gradient",
    hint="This is the largest of the log-likelihoods. All samples count, also the poor ones.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return log_likelihood.amax(0)


@log_marginal_monte_carlo.mistake(
    "the logarithm is missing",
    breaks="value gradient numerics",
    hint="This estimates P(X). For images it rounds to 0; asked for is its logarithm.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return log_likelihood.exp().mean(0)


@log_marginal_monte_carlo.mistake(
    "the sign is wrong",
    breaks="value gradient",
    hint="This is −log P(X), a loss. Asked for is the log-likelihood.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return -_log_mean(log_likelihood)


@log_marginal_monte_carlo.mistake(
    "averaged over the examples",
    breaks="value shape gradient numerics",
    hint="(S, N) came in, and S numbers go out. The samples are in dimension 0.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return _log_mean(log_likelihood, 1)


@log_marginal_monte_carlo.mistake(
    "averaged over everything",
    breaks="value shape gradient numerics",
    hint="One number comes out. Each example has a P(X) of its own.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return _log_mean(log_likelihood.flatten())


@log_marginal_monte_carlo.mistake(
    "a mean over the examples afterwards",
    breaks="value shape gradient numerics",
    hint="The estimates are right, and then they are averaged over the batch. Keep them apart.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return _log_mean(log_likelihood).mean()


@log_marginal_monte_carlo.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The numbers are right; the dimension of the samples is left in front of them.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return _log_mean(log_likelihood).unsqueeze(0)


@log_marginal_monte_carlo.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return _log_mean(log_likelihood).float()


@log_marginal_monte_carlo.mistake(
    "an input is changed",
    breaks="shape",
    hint="The log-likelihoods are shifted in place. Whoever reads them next finds other numbers.",
)
def _(log_likelihood: Tensor) -> Tensor:
    highest = log_likelihood.detach().amax(0)
    return _log_mean(log_likelihood.sub_(highest)) + highest


@log_marginal_monte_carlo.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, no_grad, numpy or item().",
)
def _(log_likelihood: Tensor) -> Tensor:
    return _log_mean(log_likelihood).detach()


@log_marginal_monte_carlo.mistake(
    "the exponential underflows",
    breaks="numerics",
    hint="e^−1000 is 0, and its logarithm −∞. An image has hundreds of pixels, so that this is the "
    "rule. log Σ exp can be had without it.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return log_likelihood.exp().mean(0).log()


@log_marginal_monte_carlo.mistake(
    "a small number is added in the logarithm",
    breaks="numerics",
    hint="Then every improbable image gets the logarithm of that number, and no gradient. "
    "log Σ exp can be had exactly.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return (log_likelihood.exp().mean(0) + 1e-12).log()


@log_marginal_monte_carlo.mistake(
    "one shift for all examples",
    breaks="numerics",
    hint="The largest log-likelihood of the whole batch is taken out. An example that lies far "
    "below it still underflows: each needs its own.",
)
def _(log_likelihood: Tensor) -> Tensor:
    highest = log_likelihood.detach().max()
    return (log_likelihood - highest).exp().mean(0).log() + highest


@log_marginal_monte_carlo.mistake(
    "the shift is not put back",
    breaks="value numerics",
    hint="The largest log-likelihood is taken out before the exponential, and never added again.",
)
def _(log_likelihood: Tensor) -> Tensor:
    return _log_mean(log_likelihood - log_likelihood.detach().amax(0))


# --- negative_elbo -------------------------------------------------------------------------------


def _reference(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return -library.ELBO(log_likelihood, kl.unsqueeze(-1)).mean()


negative_elbo = Task(
    "negative_elbo", _reference, read=("The evidence lower bound", "Maximise the bound")
)


def _terms(draw: Draw, smallest: float) -> dict[str, Tensor]:
    """Log-likelihoods of both signs (densities may exceed 1), and KLs from `smallest` on."""
    log_likelihood = draw.uniform(2, 6, 5)
    log_likelihood[:3] *= -1
    kl = draw.uniform(1, 3, 5)
    kl[1] = smallest
    return {"log_likelihood": log_likelihood, "kl": kl}


@negative_elbo.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    # Three batches: one number alone might be right by accident.
    numbers: list[float] = []
    for _ in range(3):
        loss = function(*_terms(draw, 0.05).values())
        numbers += [loss] if isinstance(loss, float) else tensor(loss).flatten().tolist()
    yield "the losses of three batches", torch.tensor(numbers, dtype=torch.float64)


@negative_elbo.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, **_terms(draw, 1.0))


@negative_elbo.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    yield from gradients(function, **_terms(draw, 1.0))


@negative_elbo.mistake(
    "the sign is wrong",
    breaks="value gradient",
    hint="This is the bound itself. Whoever minimises it makes the model worse with every step.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (log_likelihood - kl).mean()


@negative_elbo.mistake(
    "the KL has the wrong sign",
    breaks="value gradient",
    hint="The KL is rewarded here: the codes would run away from the prior. In the bound it is "
    "subtracted.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (-log_likelihood - kl).mean()


@negative_elbo.mistake(
    "the log-likelihood has the wrong sign",
    breaks="value gradient",
    hint="The log-likelihood is minimised here: the worse the reconstruction, the lower the loss.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (log_likelihood + kl).mean()


@negative_elbo.mistake(
    "absolute values",
    breaks="value gradient",
    hint="The sign of the log-likelihood is thrown away. It is mostly negative, but a density may "
    "exceed 1, and then its logarithm is positive.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (log_likelihood.abs() + kl).mean()


@negative_elbo.mistake(
    "a sum over the batch",
    breaks="value gradient",
    hint="The loss grows with the batch, and the learning rate would have to shrink with it. "
    "Asked for is the mean over the examples.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (kl - log_likelihood).sum()


@negative_elbo.mistake(
    "the log-likelihood summed, the KL averaged",
    breaks="value gradient",
    hint="One term is summed over the batch, the other averaged: then the KL is N times too weak.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return kl.mean() - log_likelihood.sum()


@negative_elbo.mistake(
    "the KL summed, the log-likelihood averaged",
    breaks="value gradient",
    hint="One term is summed over the batch, the other averaged: the KL is N times too strong.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return kl.sum() - log_likelihood.mean()


@negative_elbo.mistake(
    "a mean over the two terms too",
    breaks="value gradient",
    hint="This is half of the loss. The two terms are added, only examples are averaged.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return torch.stack([-log_likelihood, kl]).mean()


@negative_elbo.mistake(
    "not averaged",
    breaks="value shape gradient",
    hint="These are the losses of single examples. An optimizer minimises one number.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return kl - log_likelihood


@negative_elbo.mistake(
    "the KL is missing",
    breaks="value gradient",
    hint="Without the KL this is a noisy autoencoder: nothing holds the codes near the prior.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return -log_likelihood.mean()


@negative_elbo.mistake(
    "the log-likelihood is missing",
    breaks="value gradient",
    hint="The KL alone is 0 when the encoder ignores x, and it asks nothing of the decoder.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return kl.mean()


@negative_elbo.mistake(
    "free bits",
    breaks="value",
    hint="A small KL is raised to a least value. That is a known trick against collapse, but then "
    "the result is no bound.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (kl.clamp(min=0.5) - log_likelihood).mean()


@negative_elbo.mistake(
    "a dimension is kept",
    breaks="shape",
    hint="The number is right and stands in a vector of one. A scalar has the shape ().",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (kl - log_likelihood).mean(0, keepdim=True)


@negative_elbo.mistake(
    "a Python number",
    breaks="shape gradient",
    hint="item() or float() makes a plain number, which has no gradient: backward is not possible.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> float:
    return _reference(log_likelihood, kl).item()


@negative_elbo.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return _reference(log_likelihood, kl).float()


@negative_elbo.mistake(
    "an input is changed",
    breaks="shape",
    hint="kl is changed in place. Whoever wants to print both terms afterwards finds another one.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return kl.sub_(log_likelihood).mean()


@negative_elbo.mistake(
    "the gradient is cut",
    breaks="gradient",
    hint="The value is right, and no gradient comes back: nothing would be trained.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return _reference(log_likelihood, kl).detach()


@negative_elbo.mistake(
    "the KL is detached",
    breaks="gradient",
    hint="The value is right, but no gradient goes through the KL: the encoder is not held.",
)
def _(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    return (kl.detach() - log_likelihood).mean()
