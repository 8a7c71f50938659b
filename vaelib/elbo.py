"""The evidence lower bound and its kin, all from one primitive: `log_weights`.

log w = log p(x, z) − log q(z|x), z ~ q. Its mean over samples is the ELBO, the logarithm of
the mean weight is the importance-weighted bound and, with many samples, the log-likelihood
(Kingma & Welling 2013, eq. 2; Burda et al. 2015, eq. 8).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib._checks import (
    check_floating,
    validates,
)
from vaelib.kl import kl_terms

__all__ = [
    "ELBO",
    "LatentVariableModel",
    "check_bound",
    "effective_sample_size",
    "evidence_lower_bound",
    "has_own_weights",
    "importance_weighted_bound",
    "importance_weighted_elbo",
    "log_marginal_monte_carlo",
    "log_weights",
    "model_bound",
    "needs_labels",
    "noise_dim",
    "noise_like",
    "takes_labels",
]


class LatentVariableModel(Protocol):
    """What the bounds ask of a model: three distributions.

    That of the encoder has the methods `reparameterize(eps)` and `log_prob_at(eps)`, as
    `DiagonalGaussian` and `FullGaussian` do.

    Example:
        >>> from vaelib import LinearGaussian
        >>> model: LatentVariableModel = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> model.prior.event_shape
        torch.Size([1])
    """

    @property
    def prior(self) -> Distribution:
        """p(z), events (K,)."""
        ...

    @property
    def encoder(self) -> Callable[..., Any]:
        """x (N, …) → q(z|x)."""
        ...

    @property
    def decoder(self) -> Callable[..., Any]:
        """z (…, K) → p(x|z)."""
        ...


@final
@dataclass(frozen=True)
class ELBO:
    """One bound per example, its terms kept apart; averaging happens at the edge.

    Attributes:
        reconstruction: (N,) estimates of E_q[log p(x|z)], in nats.
        kl: (N, K) KL to the prior for each latent dimension, in nats; (N, 1) where it does not
            split.

    Example:
        >>> bound = ELBO(torch.tensor([-3.0, -5.0]), torch.tensor([[0.5, 0.0], [1.0, 0.5]]))
        >>> bound.per_example
        tensor([-3.5000, -6.5000])
        >>> bound.mean()
        tensor(-5.)
    """

    reconstruction: Tensor
    kl: Tensor

    @property
    def per_example(self) -> Tensor:
        """Reconstruction − KL: (N,), each at most log p(x) in expectation over the noise."""
        return self.weighted(1.0)

    def weighted(self, beta: float | Tensor) -> Tensor:
        """Reconstruction − β·KL: (N,). Only β = 1 is the ELBO (Higgins et al. 2017)."""
        kl = self.kl.sum(-1)
        # Without a product, which on small minibatches costs as much as a layer.
        return self.reconstruction - (kl if isinstance(beta, float) and beta == 1 else beta * kl)

    def mean(self) -> Tensor:
        """The ELBO averaged over examples: a scalar, in nats per example."""
        return self.per_example.mean()


def log_weights(
    model: LatentVariableModel,
    x: Tensor,
    eps: Tensor,
    q: Any | None = None,
    y: Tensor | None = None,
) -> Tensor:
    """log p(x, z) − log q(z|x) at z moved from eps: one value per sample and example.

    Burda et al. 2015, eq. 8. A model of another structure, such as one of two layers or one that
    reads labels, has a method `log_weights(x, eps)` or `log_weights(x, eps, y)` of its own, which
    gives them.

    Arguments:
        model: gives the prior, the decoder and, without `q`, the encoder.
        x: (N, …) observations.
        eps: (S, N, K) standard normal noise.
        q: the distribution to sample from, `model.encoder(x)` by default.
        y: (N,) labels, for a model's own `log_weights` that takes them.

    Returns:
        (S, N), in nats.

    Raises:
        ValueError: when eps is not (S, N, K), finite and of q's dtype, x is not what the encoder
            and the likelihood accept, q has other events than the prior, a distribution of the
            model cannot be moved from noise or does not give one value for each sample and example,
            a model's own weights are not (S, N), or labels are given to a model whose weights do
            not depend on them.

    Example:
        >>> from vaelib import LinearGaussian
        >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> log_w = log_weights(model, x, torch.tensor([[[-1.0]], [[2.0]]]))
        >>> bool(torch.allclose(log_w, model.log_marginal(x)))  # q is exact: every weight is p(x)
        True
    """
    own: Any = getattr(model, "log_weights", None)
    if y is not None and not takes_labels(own):
        raise ValueError(
            "y must be left out: model has no method log_weights(x, eps, y) to read it"
        )
    if q is None and has_own_weights(model):
        log_w: Tensor = own(x, eps) if y is None else own(x, eps, y)
        shape = tuple(getattr(log_w, "shape", ()))
        if shape != (len(eps), len(x)):
            raise ValueError(
                f"model.log_weights must give {(len(eps), len(x))}, one value for each sample and "
                f"example, but gave {shape}"
            )
        return log_w
    q, z = _sample(model, x, eps, q)
    log_joint = _log_likelihood(model, x, z) + _log_prior(model, z)
    log_q: Tensor = q.log_prob_at(eps)
    return log_joint - log_q


def evidence_lower_bound(
    model: LatentVariableModel, x: Tensor, eps: Tensor, q: Any | None = None
) -> ELBO:
    """The ELBO with its two terms: E_q[log p(x|z)] over eps, and KL(q ‖ prior).

    Kingma & Welling 2013, eq. 7 (their second estimator). The mean of `log_weights` over samples
    estimates the same bound without the closed form. Which of the two varies less depends on q:
    `log_weights` do not vary at all where q is the posterior (Roeder et al. 2017), this estimate
    where the decoder ignores z.

    The KL is the closed form where there is one. Otherwise, as with a flow or a mixture, it is the
    mean of log q(z|x) − log p(z) over the same samples, which no longer splits into dimensions.

    Arguments:
        model, x, eps, q: as for `log_weights`.

    Returns:
        `ELBO` with terms for each example and latent dimension.

    Raises:
        ValueError: as `log_weights`.

    Example:
        >>> from vaelib import LinearGaussian
        >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> evidence_lower_bound(model, x, torch.zeros(1, 1, 1)).kl.shape
        torch.Size([1, 1])
    """
    q, z = _sample(model, x, eps, q)
    log_p = _log_likelihood(model, x, z)
    reconstruction = log_p.squeeze(0) if len(log_p) == 1 else log_p.mean(0)
    try:
        # One q for all examples has one KL for all: still a row for each.
        kl = kl_terms(q, model.prior).expand(len(x), -1)
    except NotImplementedError:
        kl = (q.log_prob_at(eps) - _log_prior(model, z)).mean(0).unsqueeze(-1)
    return ELBO(reconstruction, kl)


def importance_weighted_elbo(
    model: LatentVariableModel, x: Tensor, eps: Tensor, y: Tensor | None = None
) -> ELBO:
    """The importance-weighted bound of eps's S samples, in the form that `fit` maximises.

    Burda et al. 2015, eq. 8: `per_example` is `importance_weighted_bound(log_weights(…))`, with the
    gradient of that bound. The KL is reported as for the ELBO, and the reconstruction is what has
    to be added to it; so with β ≠ 1 this is not a bound.

    Arguments:
        model, x, eps, y: as for `log_weights`.

    Returns:
        `ELBO` whose value per example is the bound of S samples.

    Raises:
        ValueError: as `log_weights`.

    Example:
        >>> from vaelib import LinearGaussian
        >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> bound = importance_weighted_elbo(model, x, torch.randn(5, 1, 1))
        >>> bool(torch.allclose(bound.per_example, model.log_marginal(x)))
        True
    """
    check_floating(x=x)
    q = None if has_own_weights(model) else model.encoder(x)
    bound = importance_weighted_bound(log_weights(model, x, eps, q, y))
    with torch.no_grad():
        whole = model_bound(model, x, eps, y) if q is None else None
        kl = (whole or evidence_lower_bound(model, x, eps, q)).kl
    return ELBO(bound + kl.sum(-1), kl)


def model_bound(model: Any, x: Tensor, eps: Tensor, y: Tensor | None = None) -> ELBO:
    """The bound that a model maximises: its own `forward`, or the ELBO of one that has none.

    Arguments:
        model: `model(x, eps)` or `model(x, eps, y)`, or a `LatentVariableModel` without `forward`.
        x: (N, …) observations.
        eps: (S, N, K) standard normal noise.
        y: (N,) labels; passed on where they are given.

    Raises:
        ValueError: when the model returns anything but one bound per example.

    Example:
        >>> from vaelib import LinearGaussian
        >>> model = LinearGaussian(torch.ones(3, 1), torch.zeros(3), sigma=1.0)
        >>> model_bound(model, torch.ones(2, 3), torch.zeros(1, 2, 1)).per_example.shape
        torch.Size([2])
    """
    if getattr(type(model), "forward", nn.Module.forward) is nn.Module.forward:
        return evidence_lower_bound(model, x, eps)
    return check_bound("model", model(x, eps) if y is None else model(x, eps, y), len(x))


def check_bound(name: str, bound: Any, n: int) -> ELBO:
    """Return the bound of n examples, and refuse anything else that `name` may have returned.

    Arguments:
        name: of what has returned it, for the message.
        bound: what was returned.
        n: the number of examples, N.

    Raises:
        ValueError: when it is not an `ELBO` with reconstruction (N,) and kl (N, K).

    Example:
        >>> check_bound("model", torch.zeros(3), 3)
        Traceback (most recent call last):
            ...
        ValueError: model must return an ELBO, but returns Tensor
    """
    if not isinstance(bound, ELBO):
        raise ValueError(f"{name} must return an ELBO, but returns {type(bound).__name__}")
    reconstruction, kl = bound.reconstruction.shape, bound.kl.shape
    if reconstruction != (n,) or len(kl) != 2 or kl[0] != n:
        raise ValueError(
            f"{name} must return an ELBO with reconstruction ({n},) and kl ({n}, K), a row for "
            f"each example, but they are {tuple(reconstruction)} and {tuple(kl)}"
        )
    return bound


def noise_dim(model: Any) -> int:
    """K, how many standard normal numbers make a sample: the event size of the model's prior.

    Raises:
        ValueError: when the prior's events are not vectors (K,).

    Example:
        >>> from vaelib import VAE
        >>> noise_dim(VAE(shape=(6,), latent_dim=3, hidden=[4]))
        3
    """
    event = model.prior.event_shape
    if len(event) != 1:
        remedy = "flatten z, and reshape it in the decoder" if event else "wrap it in Independent"
        raise ValueError(
            f"model.prior must have events (K,), but has events {tuple(event)}: {remedy}"
        )
    return int(event[0])


def noise_like(model: Any) -> Tensor:
    """A tensor in the model's dtype and on its device, as noise for it must be.

    It is a parameter, or the prior's mean for a model without parameters.

    Example:
        >>> from vaelib import VAE
        >>> noise_like(VAE(shape=(6,), hidden=[4]).double()).dtype
        torch.float64
    """
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    mean: Tensor = model.prior.mean if parameter is None else parameter
    return mean


def has_own_weights(model: Any) -> bool:
    """Whether a model computes its importance weights itself, by a method `log_weights`."""
    return callable(getattr(model, "log_weights", None))


def takes_labels(model: Any) -> bool:
    """Whether a model's `forward`, or a function, has a parameter `y` for labels."""
    return _parameter_for_labels(model) is not None


def needs_labels(model: Any) -> bool:
    """Whether a model's `forward`, or a function, cannot be called without labels `y`."""
    y = _parameter_for_labels(model)
    return y is not None and y.default is inspect.Parameter.empty


def _parameter_for_labels(model: Any) -> inspect.Parameter | None:
    function = model.forward if isinstance(model, nn.Module) else model
    return inspect.signature(function).parameters.get("y") if callable(function) else None


def importance_weighted_bound(log_w: Tensor) -> Tensor:
    """Log of the mean weight, log (1/S) Σ_s w_s: (S, N) → (N,), in nats.

    At S = 1 its expectation is the ELBO; it rises with S towards log p(x) (Burda et al. 2015,
    theorem 1).

    Raises:
        ValueError: when log_w is not (S, N) with S ≥ 1, or holds NaN or +∞.

    Example:
        >>> importance_weighted_bound(torch.tensor([[1.0], [3.0]]).log())
        tensor([0.6931])
    """
    _check_samples("log_w", log_w)
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


def log_marginal_monte_carlo(log_likelihood: Tensor) -> Tensor:
    """log (1/S) Σ_s p(x|z_s), z_s drawn from the *prior*: (S, N) → (N,), in nats.

    The naive estimate of log p(x): its variance explodes with the latent dimension.

    Raises:
        ValueError: when log_likelihood is not (S, N) with S ≥ 1, or holds NaN or +∞.

    Example:
        >>> log_marginal_monte_carlo(torch.full((4, 1), -1000.0))  # exp(−1000) underflows, this not
        tensor([-1000.])
    """
    _check_samples("log_likelihood", log_likelihood)
    return importance_weighted_bound(log_likelihood)


def effective_sample_size(log_w: Tensor) -> Tensor:
    """(Σ w)² / Σ w², between 1 and S: (S, N) → (N,). How many equal weights these are worth.

    Kong 1992. NaN if all weights are 0.

    Raises:
        ValueError: when log_w is not (S, N) with S ≥ 1, or holds NaN or +∞.

    Example:
        >>> effective_sample_size(torch.tensor([[0.0, 0.0], [0.0, -100.0]]))
        tensor([2., 1.])
    """
    _check_samples("log_w", log_w)
    # Only ratios of weights count; large logarithms would cost the digits that tell them apart.
    log_w = log_w - log_w.amax(0).nan_to_num(posinf=0.0, neginf=0.0)
    return torch.exp(2 * torch.logsumexp(log_w, 0) - torch.logsumexp(2 * log_w, 0))


def _sample(
    model: LatentVariableModel, x: Tensor, eps: Tensor, q: Any | None
) -> tuple[Any, Tensor]:
    check_floating(x=x, eps=eps)
    if x.dim() == 0:
        raise ValueError("x must be (N, …), but is a scalar")
    if q is None:
        q = model.encoder(x)
    if not (hasattr(q, "reparameterize") and hasattr(q, "log_prob_at")):
        raise ValueError(
            "model.encoder(x) must be a distribution with the methods reparameterize(eps) and "
            f"log_prob_at(eps), such as DiagonalGaussian, but is {type(q).__name__}"
        )
    event = tuple(model.prior.event_shape)
    if event and q.event_shape != event:
        raise ValueError(
            f"q(z|x) must have events {event}, as model.prior has, but has events "
            f"{tuple(q.event_shape)}: a diagonal Gaussian needs 2K = {2 * math.prod(event)} "
            "numbers from the encoder for each example"
        )
    expected = (len(x), *q.event_shape)
    if eps.dim() != 3 or eps.shape[1:] != expected or not len(eps):
        raise ValueError(
            f"eps must be (S, {', '.join(map(str, expected))}), S samples for each of the N "
            f"examples and K latent dimensions, but is {tuple(eps.shape)}"
        )
    return q, q.reparameterize(eps)


def _log_likelihood(model: LatentVariableModel, x: Tensor, z: Tensor) -> Tensor:
    return _per_example("model.decoder(z).log_prob(x)", model.decoder(z).log_prob(x), z)


def _log_prior(model: LatentVariableModel, z: Tensor) -> Tensor:
    return _per_example("model.prior.log_prob(z)", model.prior.log_prob(z), z)


def _per_example(name: str, log_p: Tensor, z: Tensor) -> Tensor:
    if log_p.shape != z.shape[:2]:
        raise ValueError(
            f"{name} must be {tuple(z.shape[:2])}, one value for each sample and example, but is "
            f"{tuple(log_p.shape)}: `torch.distributions.Independent` sums over the others"
        )
    return log_p


def _check_samples(name: str, value: Tensor) -> None:
    check_floating(**{name: value})
    if value.dim() != 2 or not len(value):
        raise ValueError(f"{name} must be (S, N) with S ≥ 1, but is {tuple(value.shape)}")
    # −∞ is a weight of 0.
    if validates(None) and not (value < math.inf).all():
        raise ValueError(f"{name} must be below infinity, but holds NaN or infinity")
