"""4-reparameterization: what is checked, and which mistakes are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

import vaelib.reparameterization as library
from vaelib.exercises.observe import form, gradients, tensor
from vaelib.exercises.task import Draw, Rough, Task

__all__ = [
    "pathwise_gradient",
    "reparameterize",
    "sample_gaussian",
    "score_function_gradient",
]

CHAPTER = "Reparameterization"
Facts = Iterator[tuple[str, Any]]
Function = Callable[..., Any]

# --- reparameterize ------------------------------------------------------------------------------

reparameterize = Task(
    "reparameterize", library.reparameterize, read=(CHAPTER, "Move the noise out")
)


def _encoded(draw: Draw) -> dict[str, Tensor]:
    return {"mu": draw.mean(5, 3), "logvar": draw.logvar(5, 3), "eps": draw.normal(5, 3)}


@reparameterize.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    yield "the samples", tensor(function(*_encoded(draw).values())).reshape(-1)


@reparameterize.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    yield from form(function, **_encoded(draw))


@reparameterize.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    # Beside the sample's own distance from μ: so that wrong noise loses the value alone.
    weights = draw.uniform(0.5, 1.5, 15)
    mu, logvar, eps = _encoded(draw).values()
    samples = []

    def sample(mu: Tensor, logvar: Tensor) -> Tensor:
        samples.append(tensor(function(mu, logvar, eps.clone())))
        return samples[0]

    (name, in_mu), (_, in_logvar) = gradients(sample, weights, mu=mu, logvar=logvar)
    yield name, in_mu
    if samples[0].numel() != mu.numel():
        raise ValueError(f"{mu.numel()} numbers should come back, not {samples[0].numel()}")
    moved = weights.view_as(mu) * (samples[0].detach().reshape(mu.shape) - mu)
    yield "the gradient in logvar, divided by z − μ", in_logvar / moved


@reparameterize.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    # exp(96) is ∞ in float32 and exp(−112) is 0; neither holds for the standard deviation.
    eps = draw.normal(8, 5).float()
    for logvar in (-112, 96):
        near, far = (torch.full_like(eps, value) for value in (logvar // 4, logvar))
        size = [tensor(function(0 * eps, part, eps.clone())).abs().mean() for part in (near, far)]
        name = f"the size of samples for log-variances of {logvar}, beside those of {logvar // 4}"
        yield name, Rough((size[1] / size[0]).double())


def _sigma(logvar: Tensor) -> Tensor:
    return (0.5 * logvar).exp()


@reparameterize.mistake(
    "log-variance taken for log σ",
    breaks="value gradient numerics",
    hint="The noise is scaled by e^logvar. That is σ², the variance; a sample is μ plus ε times "
    "the standard deviation. All samples lie too far out, or too near.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + logvar.exp() * eps


@reparameterize.mistake(
    "log-variance taken for the variance",
    breaks="value gradient numerics",
    hint="logvar may be negative, and then its root is NaN. A network answers with any real "
    "number: it is the logarithm of σ².",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + logvar.sqrt() * eps


@reparameterize.mistake(
    "log-variance taken for σ",
    breaks="value gradient numerics",
    hint="The noise is multiplied by logvar itself. It is log σ², and may well be negative.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + logvar * eps


@reparameterize.mistake(
    "half of the variance in place of its root",
    breaks="value gradient numerics",
    hint="The ½ stands outside of the exponential and halves the variance. The root of a power "
    "halves the exponent.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + 0.5 * logvar.exp() * eps


@reparameterize.mistake(
    "divided by σ",
    breaks="value gradient numerics",
    hint="Where the encoder is sure (σ small) these samples lie far out. The sign in the exponent "
    "is wrong, or a factor stands in the denominator.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + eps / _sigma(logvar)


@reparameterize.mistake(
    "the noise is not scaled",
    breaks="value gradient numerics",
    hint="Nothing depends on logvar: every sample lies about 1 from its mean, however sure the "
    "encoder is.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + eps


@reparameterize.mistake(
    "no noise",
    breaks="value gradient numerics",
    hint="z is μ, whatever ε is. That is an autoencoder: nothing makes neighbouring codes alike.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu.clone()


@reparameterize.mistake(
    "the mean is missing",
    breaks="value gradient",
    hint="Nothing depends on mu: all examples are drawn around 0, and the decoder cannot tell "
    "them apart.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return _sigma(logvar) * eps


@reparameterize.mistake(
    "the mean is scaled too",
    breaks="value gradient",
    hint="σ stretches the noise. Here it stretches the mean as well: brackets in the wrong place.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return (mu + eps) * _sigma(logvar)


@reparameterize.mistake(
    "the noise is subtracted",
    breaks="value",
    hint="This is μ − σε. It has the same distribution, but the ε that comes in is given, and "
    "the task is to move just that one.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu - _sigma(logvar) * eps


@reparameterize.mistake(
    "new noise is drawn",
    breaks="value",
    hint="eps is not used. The noise is an argument: so a run can be repeated, and so the sample "
    "is an ordinary function of its inputs.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + _sigma(logvar) * torch.randn_like(mu)


@reparameterize.mistake(
    "uniform noise",
    breaks="value",
    hint="eps is not used, and torch.rand draws from (0, 1): all z lie above μ. A Gaussian needs "
    "normal noise, and it comes in as eps.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + _sigma(logvar) * torch.rand_like(mu)


@reparameterize.mistake(
    "one ε for all rows",
    breaks="value",
    hint="Every example gets the noise of the first. Each z alone looks right, but the errors of "
    "a batch no longer average out.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + _sigma(logvar) * eps[0]


@reparameterize.mistake(
    "one ε for all dimensions",
    breaks="value",
    hint="Every latent dimension gets the noise of the first: the samples lie on a line.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + _sigma(logvar) * eps[:, :1]


@reparameterize.mistake(
    "the sample is detached",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, no_grad, numpy, or sample() "
    "where rsample() was meant. The encoder would learn from the KL alone.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return (mu + _sigma(logvar) * eps).detach()


@reparameterize.mistake(
    "σ is detached",
    breaks="gradient",
    hint="The values are right, and μ gets its gradient, logvar none: only the KL would move it.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + _sigma(logvar).detach() * eps


@reparameterize.mistake(
    "μ is detached",
    breaks="gradient",
    hint="The values are right, and logvar gets its gradient, mu none: the codes never move apart.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu.detach() + _sigma(logvar) * eps


@reparameterize.mistake(
    "a dimension is added",
    breaks="shape",
    hint="The numbers are right and have a dimension of samples in front, (1, N, K). Asked for is "
    "mu's shape.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return (mu + _sigma(logvar) * eps).unsqueeze(0)


@reparameterize.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return (mu + _sigma(logvar) * eps).float()


@reparameterize.mistake(
    "an input is changed",
    breaks="shape",
    hint="eps is overwritten in place. Used a second time it is no longer "
    "noise: make a new tensor.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return eps.mul_(_sigma(logvar)).add_(mu)


@reparameterize.mistake(
    "the exponential before the root",
    breaks="numerics",
    hint="e^logvar is ∞ or 0 in float32 long before its root is. Where a logarithm is at hand, "
    "calculate with it as long as you can.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + logvar.exp().sqrt() * eps


@reparameterize.mistake(
    "log-variances are clamped",
    breaks="numerics",
    hint="Beyond the clamp σ no longer changes, and the gradient in logvar is 0: what got there "
    "never comes back.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + _sigma(logvar.clamp(-20, 20)) * eps


@reparameterize.mistake(
    "a small number is added to σ",
    breaks="numerics",
    hint="Small standard deviations all become that number. e to any power is positive already.",
)
def _(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    return mu + (_sigma(logvar) + 1e-8) * eps


# --- sample_gaussian -----------------------------------------------------------------------------

sample_gaussian = Task(
    "sample_gaussian", library.sample_gaussian, read=(CHAPTER, "A full covariance")
)


def _root(draw: Draw, *shape: int) -> Tensor:
    """A square matrix R, such that RRᵀ has entries of both signs."""
    root = draw.normal(*shape)
    first = (root[..., 0, :] * root[..., 1, :]).sum(-1, keepdim=True)
    root[..., 0, :] *= -first.sign()
    return root


def _covariance(root: Tensor) -> Tensor:
    """RRᵀ + 0.3 I."""
    return root @ root.mT + 0.3 * torch.eye(root.shape[-1], dtype=root.dtype)


@sample_gaussian.aspect("value")
def _(function: Function, draw: Draw) -> Facts:
    mu, covariance, eps = draw.mean(5, 3), _covariance(_root(draw, 3, 3)), draw.normal(5, 3)
    yield "the samples", tensor(function(mu, covariance, eps)).reshape(-1)


@sample_gaussian.aspect("batch")
def _(function: Function, draw: Draw) -> Facts:
    # Beside the function's own samples of single rows: so that another root loses the value alone.
    mu, covariance, eps = draw.mean(4, 3), _covariance(_root(draw, 4, 3, 3)), draw.normal(4, 3)
    together = tensor(function(mu.clone(), covariance, eps))
    yield "the shape, with a covariance for each row", tuple(together.shape)
    rows = [
        tensor(function(mu[n : n + 1].clone(), covariance[n], eps[n : n + 1])).reshape(1, -1)
        for n in range(4)
    ]
    yield (
        "z − μ with a covariance for each row, divided by that of the rows one by one",
        (together - mu) / (torch.cat(rows) - mu),
    )


@sample_gaussian.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    mu, covariance, eps = draw.mean(5, 3), _covariance(_root(draw, 3, 3)), draw.normal(5, 3)
    yield from form(function, mu=mu, covariance=covariance, eps=eps)


@sample_gaussian.aspect("gradient")
def _(function: Function, draw: Draw) -> Facts:
    # Beside the function's own slope, measured: so that another root loses the value alone. In a
    # root R of the covariance, as the gradient in a symmetric matrix can be written in many ways.
    weights, eps = draw.uniform(0.5, 1.5, 15), draw.normal(5, 3)
    mu, root, direction = draw.mean(5, 3), _root(draw, 3, 3), draw.normal(3, 3)

    def sample(mu: Tensor, root: Tensor) -> Tensor:
        return tensor(function(mu, _covariance(root), eps))

    (name, in_mu), (_, in_root) = gradients(sample, weights, mu=mu, root=root)
    yield name, in_mu
    ahead, back = (
        (sample(mu.clone(), root + step * direction).reshape(-1) * weights).sum()
        for step in (1e-3, -1e-3)
    )
    slope = (ahead - back) / 2e-3
    yield (
        "the gradient in the covariance, divided by the slope that is measured",
        Rough((in_root * direction).sum() / slope, 1.02),
    )


@sample_gaussian.aspect("numerics")
def _(function: Function, draw: Draw) -> Facts:
    # Positive correlations, so that even the root of each entry is a number.
    covariance = _covariance(draw.uniform(0.2, 0.6, 3, 3))
    eps = draw.normal(20, 3)
    size = [tensor(function(0 * eps, scale * covariance, eps)).abs().mean() for scale in (1, 1e-14)]
    yield (
        "the size of samples for a tiny covariance, beside those for a large one",
        Rough(size[1] / size[0]),
    )


def _move(root: Tensor, eps: Tensor) -> Tensor:
    return (root @ eps.unsqueeze(-1)).squeeze(-1)


def _cholesky(covariance: Tensor) -> Tensor:
    factor: Tensor = torch.linalg.cholesky(covariance)
    return factor


@sample_gaussian.mistake(
    "the root of each entry",
    breaks="value batch gradient",
    hint="Σ^{1/2} is a matrix whose product with its own transpose is Σ. The roots of the entries "
    "are none, and for a negative covariance they are NaN.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + _move(covariance.sqrt(), eps)


@sample_gaussian.mistake(
    "no root is taken",
    breaks="value numerics",
    hint="The noise is multiplied by Σ itself. Then its covariance is ΣΣᵀ; what is needed is a "
    "factor of Σ.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + _move(covariance, eps)


@sample_gaussian.mistake(
    "the factor is transposed",
    breaks="value",
    hint="This is Lᵀε, with the covariance LᵀL, which is not LLᵀ = Σ.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + _move(_cholesky(covariance).mT, eps)


@sample_gaussian.mistake(
    "the factor stands on the wrong side",
    breaks="value batch",
    hint="eps holds a noise vector in each row, and L acts on columns. ε times L is Lᵀε in a row: "
    "another covariance; and with a covariance for each row it does not fit at all.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + eps @ _cholesky(covariance)


@sample_gaussian.mistake(
    "another root",
    breaks="value",
    hint="This is the symmetric root of Σ. It gives the same distribution, but moves the same ε "
    "elsewhere. Asked for is the lower triangular one.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return mu + _move((vectors * values.sqrt().unsqueeze(-2)) @ vectors.mT, eps)


@sample_gaussian.mistake(
    "the diagonal only",
    breaks="value",
    hint="Only the variances are used: the dimensions of these samples are not correlated.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + covariance.diagonal(dim1=-2, dim2=-1).sqrt() * eps


@sample_gaussian.mistake(
    "the diagonal of the factor only",
    breaks="value",
    hint="Each dimension gets its own noise and none of the others': * where a product of matrix "
    "and vector belongs, or only the diagonal of L.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + _cholesky(covariance).diagonal(dim1=-2, dim2=-1) * eps


@sample_gaussian.mistake(
    "the mean is missing",
    breaks="value gradient",
    hint="Nothing depends on mu: all rows are drawn around 0.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return _move(_cholesky(covariance), eps)


@sample_gaussian.mistake(
    "no noise",
    breaks="value batch gradient numerics",
    hint="The result is mu, whatever ε is.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu.clone()


@sample_gaussian.mistake(
    "new noise is drawn",
    breaks="value batch gradient",
    hint="eps is not used, as with rsample(), which draws by itself. The noise is an argument.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + _move(_cholesky(covariance), torch.randn_like(mu))


@sample_gaussian.mistake(
    "one ε for all rows",
    breaks="value batch",
    hint="Every row gets the noise of the first.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + _move(_cholesky(covariance), eps[0])


@sample_gaussian.mistake(
    "one covariance for all rows",
    breaks="batch",
    hint="With a covariance for each row, (N, K, K), all rows get the first.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    factor = _cholesky(covariance)
    return mu + _move(factor if factor.dim() == 2 else factor[0], eps)


@sample_gaussian.mistake(
    "every covariance with every row",
    breaks="batch",
    hint="With a covariance for each row, (N, K, K), the product of matrices pairs each of them "
    "with all N rows: (N, N, K) comes out. Each row is a vector with a matrix of its own.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + eps @ _cholesky(covariance).mT


@sample_gaussian.mistake(
    "the sample is detached",
    breaks="gradient",
    hint="The values are right, and no gradient comes back: a detach, no_grad, numpy, or sample() "
    "where rsample() was meant.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return (mu + _move(_cholesky(covariance), eps)).detach()


@sample_gaussian.mistake(
    "the factor is detached",
    breaks="gradient",
    hint="The values are right, and mu gets its gradient, the covariance none.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu + _move(_cholesky(covariance).detach(), eps)


@sample_gaussian.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: a .float(), or a tensor made with another dtype.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    samples = mu + _move(_cholesky(covariance), eps)
    return samples.float() if covariance.dim() == 2 else samples


@sample_gaussian.mistake(
    "an input is changed",
    breaks="shape",
    hint="mu is added to in place: it is no longer the mean when somebody else reads it.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu.add_(_move(_cholesky(covariance), eps))


@sample_gaussian.mistake(
    "a dimension is kept",
    breaks="shape batch",
    hint="The samples are columns, (N, K, 1), as the product with column vectors leaves them. "
    "Asked for is (N, K).",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    return mu.unsqueeze(-1) + _cholesky(covariance) @ eps.unsqueeze(-1)


@sample_gaussian.mistake(
    "a small number on the diagonal",
    breaks="numerics",
    hint="It swamps a small covariance: the samples come out far too wide. Σ is positive definite "
    "and needs no help.",
)
def _(mu: Tensor, covariance: Tensor, eps: Tensor) -> Tensor:
    jitter = 1e-8 * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    return mu + _move(_cholesky(covariance + jitter), eps)


# --- the two gradients of an expectation ---------------------------------------------------------


def _wave(draw: Draw) -> Function:
    """A function with a slope and a curvature that differ from draw to draw."""
    height, pitch, bend = (draw.uniform(0.7, 1.3).item() for _ in range(3))

    def f(z: Tensor) -> Tensor:
        return height * (pitch * z).sin() + bend * z * z + 2

    return f


def _scalars(draw: Draw) -> dict[str, Tensor]:
    return {"mu": draw.mean(), "sigma": draw.uniform(0.6, 0.8), "eps": draw.normal(7)}


def _two(result: Any) -> Tensor:
    """Both estimates, in whatever form they come."""
    parts = result if isinstance(result, tuple | list) else [result]
    numbers = torch.cat([tensor(part).reshape(-1) for part in parts])
    if len(numbers) != 2:
        raise ValueError(f"two numbers should come back, ∂/∂μ and ∂/∂σ, not {len(numbers)}")
    return numbers


def _estimates(function: Function, draw: Draw, make: Callable[[Draw], Function]) -> Tensor:
    """(3, 2), on three draws: one number alone might be right by accident."""
    return torch.stack([_two(function(make(draw), *_scalars(draw).values())) for _ in range(3)])


def _both(
    function: Function, fs: tuple[Function, Function], inputs: dict[str, Tensor], seed: int
) -> list[Tensor]:
    """The estimates for two functions, on the same tensors and with the same luck."""
    results = []
    for f in fs:
        torch.manual_seed(seed)
        results.append(_two(function(f, *inputs.values())).detach().clone())
    return results


pathwise_gradient = Task(
    "pathwise_gradient", library.pathwise_gradient, read=(CHAPTER, "Move the noise out")
)


@pathwise_gradient.aspect("mu")
def _(function: Function, draw: Draw) -> Facts:
    yield "the estimates of ∂/∂μ, in three cases", _estimates(function, draw, _wave)[:, 0]


@pathwise_gradient.aspect("sigma")
def _(function: Function, draw: Draw) -> Facts:
    yield "the estimates of ∂/∂σ, in three cases", _estimates(function, draw, _wave)[:, 1]


@pathwise_gradient.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    f, inputs, seed = _wave(draw), _scalars(draw), draw.seed()
    yield from form(lambda mu, sigma, eps: function(f, mu, sigma, eps), **inputs)
    first, second = _both(function, (f, f), inputs, seed)
    yield "the estimates of a second call, less those of the first", second - first


def _slope(f: Function, z: Tensor) -> Tensor:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(f(z).sum(), z)
    return slope


def _pathwise(slope: Tensor, eps: Tensor) -> Tensor:
    return torch.stack([slope.mean(), (slope * eps).mean()])


@pathwise_gradient.mistake(
    "the ε of the chain rule is missing",
    breaks="sigma",
    hint="∂/∂σ is the mean slope, like ∂/∂μ. But a sample with a large ε moves far when σ grows, "
    "one with ε = 0 not at all.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    slope = _slope(f, mu + sigma * eps)
    return torch.stack([slope.mean(), slope.mean()])


@pathwise_gradient.mistake(
    "averages are multiplied",
    breaks="sigma",
    hint="∂/∂σ is the mean slope times the mean ε. The mean of a product is not the product of "
    "the means: multiply for each sample, then average.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    slope = _slope(f, mu + sigma * eps)
    return torch.stack([slope.mean(), slope.mean() * eps.mean()])


@pathwise_gradient.mistake(
    "the derivative by log σ",
    breaks="sigma",
    hint="∂/∂σ is too small by a factor of σ: that is the derivative by log σ.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    slope = _slope(f, mu + sigma * eps)
    return torch.stack([slope.mean(), sigma * (slope * eps).mean()])


@pathwise_gradient.mistake(
    "no gradient in σ",
    breaks="sigma",
    hint="∂/∂σ is 0: σ is detached, or its gradient is never asked for.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    slope = _slope(f, mu + sigma * eps)
    return torch.stack([slope.mean(), 0 * slope.mean()])


@pathwise_gradient.mistake(
    "no gradient in μ",
    breaks="mu",
    hint="∂/∂μ is 0: μ is detached, or its gradient is never asked for.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    slope = _slope(f, mu + sigma * eps)
    return torch.stack([0 * slope.mean(), (slope * eps).mean()])


@pathwise_gradient.mistake(
    "the slope at the mean",
    breaks="mu sigma",
    hint="f is differentiated at μ. Each sample has a slope of its own, at z = μ + σε.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _pathwise(_slope(f, mu.expand(len(eps))), eps)


@pathwise_gradient.mistake(
    "σ taken for the variance",
    breaks="mu sigma",
    hint="The samples are spread by the root of σ. σ is the standard deviation already.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    root = sigma.sqrt()
    return _pathwise(_slope(f, mu + root * eps), eps / (2 * root))


@pathwise_gradient.mistake(
    "σ taken for log σ",
    breaks="mu sigma",
    hint="The samples are spread by e^σ. Here σ is the standard deviation itself.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _pathwise(_slope(f, mu + sigma.exp() * eps), eps * sigma.exp())


@pathwise_gradient.mistake(
    "σ taken for log σ²",
    breaks="mu sigma",
    hint="The samples are spread by e^{σ/2}. Here σ is the standard deviation itself, no logvar.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    deviation = _sigma(sigma)
    return _pathwise(_slope(f, mu + deviation * eps), 0.5 * deviation * eps)


@pathwise_gradient.mistake(
    "a sum over the samples",
    breaks="mu sigma",
    hint="It grows with the number of samples. An expectation is estimated by the mean.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _pathwise(_slope(f, mu + sigma * eps), eps) * len(eps)


@pathwise_gradient.mistake(
    "the order is wrong",
    breaks="mu sigma",
    hint="Both numbers are right and stand in the other's place: ∂/∂μ comes first.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _pathwise(_slope(f, mu + sigma * eps), eps).flip(0)


@pathwise_gradient.mistake(
    "the sign is wrong",
    breaks="mu sigma",
    hint="This is the gradient of −E[f]. A minus belongs into a loss, not in here.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return -_pathwise(_slope(f, mu + sigma * eps), eps)


@pathwise_gradient.mistake(
    "the score function",
    breaks="mu sigma",
    hint="This is the other estimator: the heights of f, weighted by the score. Here f is "
    "differentiated at each sample.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(f(mu + sigma * eps), sigma, eps)


@pathwise_gradient.mistake(
    "the sample is detached",
    breaks="mu sigma shape",
    hint="Autograd finds no way from f back to μ and σ: a detach, no_grad, or sample() between "
    "them. The path has to lead through z = μ + σε.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    leaves = [value.detach().requires_grad_() for value in (mu, sigma)]
    z = (leaves[0] + leaves[1] * eps).detach()
    return torch.stack(torch.autograd.grad(f(z).mean(), leaves))


@pathwise_gradient.mistake(
    "new noise is drawn",
    breaks="mu sigma",
    hint="eps is not used. The noise is an argument: estimators can be compared on the same draws.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    eps = torch.randn_like(eps)
    return _pathwise(_slope(f, mu + sigma * eps), eps)


@pathwise_gradient.mistake(
    "not averaged",
    breaks="mu sigma shape",
    hint="These are the estimates of single samples. Their mean is asked for: two numbers.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    slope = _slope(f, mu + sigma * eps)
    return torch.stack([slope, slope * eps], -1)


@pathwise_gradient.mistake(
    "a tuple",
    breaks="shape",
    hint="The numbers are right and stand in a tuple or list. Asked for is one tensor of shape "
    "(2,); torch.stack makes it.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Any:
    return tuple(_pathwise(_slope(f, mu + sigma * eps), eps))


@pathwise_gradient.mistake(
    "the inputs collect gradients",
    breaks="shape",
    hint="mu and sigma themselves are made to require gradients, and backward() adds to their "
    ".grad: a second call returns the sum of both. Work on copies of them.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = mu.requires_grad_() + sigma.requires_grad_() * eps
    f(z).mean().backward()
    return torch.stack([value.grad for value in (mu, sigma) if value.grad is not None])


@pathwise_gradient.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: torch.tensor([...]) of Python numbers does that.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _pathwise(_slope(f, mu + sigma * eps), eps).float()


score_function_gradient = Task(
    "score_function_gradient",
    library.score_function_gradient,
    read=(CHAPTER, "The other way: differentiate the density"),
)


def _opaque(f: Function) -> Function:
    """f, with nothing in it that could be differentiated."""
    return lambda z: f(z.detach())


def _opaque_wave(draw: Draw) -> Function:
    return _opaque(_wave(draw))


@score_function_gradient.aspect("mu")
def _(function: Function, draw: Draw) -> Facts:
    yield "the estimates of ∂/∂μ, in three cases", _estimates(function, draw, _opaque_wave)[:, 0]


@score_function_gradient.aspect("sigma")
def _(function: Function, draw: Draw) -> Facts:
    yield "the estimates of ∂/∂σ, in three cases", _estimates(function, draw, _opaque_wave)[:, 1]


@score_function_gradient.aspect("shape")
def _(function: Function, draw: Draw) -> Facts:
    f, inputs, seed = _wave(draw), _scalars(draw), draw.seed()
    yield from form(lambda mu, sigma, eps: function(f, mu, sigma, eps), **inputs)
    first, second = _both(function, (f, f), inputs, seed)
    yield "the estimates of a second call, less those of the first", second - first


@score_function_gradient.aspect("black-box")
def _(function: Function, draw: Draw) -> Facts:
    f, inputs, seed = _wave(draw), _scalars(draw), draw.seed()

    def on_copies(f: Function, *inputs: Tensor) -> Any:
        return function(f, *(value.clone() for value in inputs))

    with_slope, without = _both(on_copies, (f, _opaque(f)), inputs, seed)
    yield (
        "the estimate for an f with a slope, divided by that for one without",
        with_slope / without,
    )


def _score(height: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return torch.stack([(height * eps).mean(), (height * (eps**2 - 1)).mean()]) / sigma


@score_function_gradient.mistake(
    "the score in μ has no σ",
    breaks="mu",
    hint="∂/∂μ is too small by a factor of σ. log q depends on (z − μ)/σ: its derivative by μ has "
    "a σ below.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    both = _score(f(mu + sigma * eps), sigma, eps)
    return torch.stack([sigma * both[0], both[1]])


@score_function_gradient.mistake(
    "the −1 is missing",
    breaks="sigma",
    hint="The score in σ is that of the exponent alone. The density has σ in its normalisation "
    "as well, and log σ has a derivative.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    height = f(mu + sigma * eps)
    return torch.stack([(height * eps).mean(), (height * eps**2).mean()]) / sigma


@score_function_gradient.mistake(
    "the derivative by log σ",
    breaks="sigma",
    hint="∂/∂σ is too small by a factor of σ: that is the derivative by log σ.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    both = _score(f(mu + sigma * eps), sigma, eps)
    return torch.stack([both[0], sigma * both[1]])


@score_function_gradient.mistake(
    "the derivative by the variance",
    breaks="sigma",
    hint="∂/∂σ is too small by a factor of 1/(2σ) or so: that is the derivative by σ².",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    both = _score(f(mu + sigma * eps), sigma, eps)
    return torch.stack([both[0], both[1] / (2 * sigma)])


@score_function_gradient.mistake(
    "no score has its σ",
    breaks="mu sigma",
    hint="Both numbers are too small by a factor of σ. log q depends on (z − μ)/σ: each of its "
    "derivatives has a σ below.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(f(mu + sigma * eps), sigma, eps) * sigma


@score_function_gradient.mistake(
    "ε taken for z − μ",
    breaks="mu sigma",
    hint="The score is written with (z − μ)/σ²; ε is (z − μ)/σ already, and here it is divided "
    "as if it were not.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    height = f(mu + sigma * eps)
    scores = eps / sigma**2, eps**2 / sigma**3 - 1 / sigma
    return torch.stack([(height * score).mean() for score in scores])


@score_function_gradient.mistake(
    "the sign is wrong",
    breaks="mu sigma",
    hint="This is the gradient of −E[f]. Mind the two minus signs in the derivative of log q.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return -_score(f(mu + sigma * eps), sigma, eps)


@score_function_gradient.mistake(
    "the order is wrong",
    breaks="mu sigma",
    hint="Both numbers are right and stand in the other's place: ∂/∂μ comes first.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(f(mu + sigma * eps), sigma, eps).flip(0)


@score_function_gradient.mistake(
    "a sum over the samples",
    breaks="mu sigma",
    hint="It grows with the number of samples. An expectation is estimated by the mean.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(f(mu + sigma * eps), sigma, eps) * len(eps)


@score_function_gradient.mistake(
    "averages are multiplied",
    breaks="mu sigma",
    hint="The mean of f times the mean of the score: the mean score is about 0, and so is this. "
    "Multiply for each sample, then average.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(f(mu + sigma * eps).mean().expand(len(eps)), sigma, eps)


@score_function_gradient.mistake(
    "f is left out",
    breaks="mu sigma",
    hint="This is the mean of the score alone: about 0 for every f. Each score is weighted by "
    "the height of f.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(torch.ones_like(eps), sigma, eps)


@score_function_gradient.mistake(
    "the samples are not moved",
    breaks="mu sigma",
    hint="f is evaluated at ε, a draw from N(0, 1). The samples are z = μ + σε.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(f(eps), sigma, eps)


@score_function_gradient.mistake(
    "the density in place of its logarithm",
    breaks="mu sigma",
    hint="q itself is differentiated. Under an average over q the derivative of log q belongs: "
    "that is what the log-derivative trick is for.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = mu + sigma * eps
    return _score(f(z) * Normal(mu, sigma).log_prob(z).exp(), sigma, eps)


@score_function_gradient.mistake(
    "a baseline is subtracted",
    breaks="mu sigma",
    hint="The mean of f is subtracted from its heights. That lowers the variance, but taken from "
    "the same draws it biases the estimate, and it is not asked for here.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    height = f(mu + sigma * eps)
    return _score(height - height.mean(), sigma, eps)


def _by_autograd(
    f: Function, mu: Tensor, sigma: Tensor, eps: Tensor, height: Function, density: Function
) -> Tensor:
    """The mean of f·log q differentiated; `height` and `density` say what their z is."""
    mu, sigma = (value.detach().requires_grad_() for value in (mu, sigma))
    z = mu + sigma * eps
    log_q = Normal(mu, sigma).log_prob(density(z))
    return torch.stack(torch.autograd.grad((f(height(z)) * log_q).mean(), (mu, sigma)))


@score_function_gradient.mistake(
    "z moves with the parameters",
    breaks="mu sigma black-box",
    hint="log q(z) is differentiated with z = μ + σε inside it: z moves along with μ, so that the "
    "density there never changes. For the score, z is a plain number.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _by_autograd(f, mu, sigma, eps, torch.detach, torch.clone)


@score_function_gradient.mistake(
    "nothing is detached",
    breaks="mu sigma black-box",
    hint="z = μ + σε carries gradients into f and into log q. Here z is a plain number; only the "
    "parameters of the density are differentiated.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _by_autograd(f, mu, sigma, eps, torch.clone, torch.clone)


@score_function_gradient.mistake(
    "f is differentiated too",
    breaks="black-box",
    hint="With an f that has no slope the estimate is right; with one that has, its slope joins "
    "in, and the result is neither estimator. f is evaluated, nothing else.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _by_autograd(f, mu, sigma, eps, torch.clone, torch.detach)


@score_function_gradient.mistake(
    "the pathwise estimator",
    breaks="mu sigma black-box",
    hint="f is differentiated. The f of this check has no derivative that autograd could find, "
    "as that of a game or a simulator: all you get is its height.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _pathwise(_slope(f, mu + sigma * eps), eps)


@score_function_gradient.mistake(
    "new noise is drawn",
    breaks="mu sigma",
    hint="eps is not used. The noise is an argument: estimators can be compared on the same draws.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    eps = torch.randn_like(eps)
    return _score(f(mu + sigma * eps), sigma, eps)


@score_function_gradient.mistake(
    "not averaged",
    breaks="mu sigma shape black-box",
    hint="These are the estimates of single samples. Their mean is asked for: two numbers.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    height = f(mu + sigma * eps)
    return torch.stack([height * eps, height * (eps**2 - 1)], -1) / sigma


@score_function_gradient.mistake(
    "a tuple",
    breaks="shape",
    hint="The numbers are right and stand in a tuple or list. Asked for is one tensor of shape "
    "(2,); torch.stack makes it.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Any:
    return tuple(_score(f(mu + sigma * eps), sigma, eps))


@score_function_gradient.mistake(
    "the inputs collect gradients",
    breaks="shape",
    hint="mu and sigma themselves are made to require gradients, and backward() adds to their "
    ".grad: a second call returns the sum of both. Give the density copies of them.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    z = (mu + sigma * eps).detach()
    q = Normal(mu.requires_grad_(), sigma.requires_grad_())
    (f(z).detach() * q.log_prob(z)).mean().backward()
    return torch.stack([value.grad for value in (mu, sigma) if value.grad is not None])


@score_function_gradient.mistake(
    "the dtype is not kept",
    breaks="shape",
    hint="float64 comes in and float32 goes out: torch.tensor([...]) of Python numbers does that.",
)
def _(f: Function, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return _score(f(mu + sigma * eps), sigma, eps).float()
