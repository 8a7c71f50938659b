"""What codes hold: the dimensions in use, how much they tell, and what is easily read off them.

Information and densities are in nats.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib._checks import check_at_least, check_classes, check_floats, check_not_negative
from vaelib.reparameterization import DiagonalGaussian, FullGaussian, noise

__all__ = [
    "Estimate",
    "active_units",
    "linear_probe",
    "log_aggregate_posterior",
    "mutual_information",
]


class Estimate(NamedTuple):
    """A Monte-Carlo estimate and its standard error.

    Example:
        >>> print(Estimate(1.5, 0.02))
        1.500 ± 0.020
    """

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.standard_error:.3f}"


def active_units(q: Distribution, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions carry information: Var_x[E_q[z_k|x]] > threshold.

    Burda et al. 2015, section 5.2. An unused dimension has the prior's mean for every x.

    Arguments:
        q: `model.encoder(x)` of N ≥ 2 examples, events (K,).
        threshold: 0.01 in the paper.

    Returns:
        (K,) booleans; their sum is the number of active units.

    Raises:
        ValueError: when q has fewer than two examples, or threshold is not a number of at least 0.

    Example:
        >>> mu = torch.tensor([[-1.0, 0.01], [1.0, -0.01]])
        >>> active_units(DiagonalGaussian(mu, torch.zeros(2, 2)))
        tensor([ True, False])
    """
    _examples(q, at_least=2)
    check_not_negative(threshold=threshold)
    return q.mean.detach().var(0) > threshold


@torch.no_grad()
def log_aggregate_posterior(q: DiagonalGaussian | FullGaussian, z: Tensor) -> Tensor:
    """Log density of q(z) = (1/N) Σ_n q(z|x_n), the codes of all examples together.

    Where it differs from the prior, samples of the prior may decode to junk, or codes are never
    drawn (Makhzani et al. 2015; Hoffman & Johnson 2016).

    Arguments:
        q: `model.encoder(x)` of N examples.
        z: (…, K) points.

    Returns:
        (…), in nats; exact for the N examples, in bounded memory.

    Raises:
        ValueError: when q does not have batch shape (N,) and events (K,), or z is not a finite
            tensor (…, K).

    Example:
        >>> q = DiagonalGaussian(torch.tensor([[-9.0], [9.0]]), torch.zeros(2, 1))
        >>> log_aggregate_posterior(q, torch.tensor([[9.0]]))  # log ½ − ½·log 2π
        tensor([-1.6121])
    """
    n, k = _examples(q, at_least=1), q.event_shape[0]
    check_floats("z", z, ..., k)
    rows = max(1, 2**22 // (n * k))
    parts = z.reshape(-1, 1, k).split(rows)
    density = torch.cat([q.log_prob(part).logsumexp(1) for part in parts])
    return density.view(z.shape[:-1]) - math.log(n)


@torch.no_grad()
def mutual_information(
    q: DiagonalGaussian | FullGaussian, generator: torch.Generator | int, *, samples: int = 2
) -> Estimate:
    """I_q(x; z) = E_n E_{q(z|x_n)}[log q(z|x_n) − log q(z)], for x one of N examples.

    It is the number of nats that a code tells about which example it came from, at most log N. It
    is a part of the ELBO's KL term: E_n KL(q(z|x_n) ‖ p(z)) = I_q(x; z) + KL(q(z) ‖ p(z)) (Hoffman
    & Johnson 2016). So the mean KL minus this estimate is the KL of the aggregate posterior to the
    prior.

    Arguments:
        q: `model.encoder(x)` of N examples.
        generator: draws ε; or an integer seed.
        samples: S ≥ 2 codes for each example; the cost grows with S·N².

    Returns:
        `Estimate` in nats. Its standard error covers the draws, for these N examples.

    Raises:
        ValueError: when samples is below 2, or q does not have batch shape (N,) and events (K,).

    Example:
        >>> q = DiagonalGaussian(torch.tensor([[-99.0], [99.0]]), torch.zeros(2, 1))
        >>> mutual_information(q, torch.Generator().manual_seed(0)).value  # log 2: never confused
        0.693147...
    """
    check_at_least(2, samples=samples)
    n = _examples(q, at_least=1)
    z = q.reparameterize(noise((samples, n, *q.event_shape), generator, q.mean))
    terms = (q.log_prob(z) - log_aggregate_posterior(q, z)).cpu().double()
    # Each example has its own mean: only the spread around it is Monte-Carlo error.
    error = (terms.var(0).mean() / (samples * n)).sqrt()
    return Estimate(terms.mean().item(), error.item())


def linear_probe(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> float:
    """Test error of a logistic regression on fixed features: what is *easy* to read off a code.

    The classifier is scikit-learn's L2-regularised multinomial regression (C = 1). Features are
    centred and divided by one number, the root of their mean variance, so that their unit does not
    matter. Dimensions keep their relative scales, so unused latent dimensions stay small.

    Arguments:
        train_features, test_features: (N, …), flattened: codes (`encoder(x).mean`), PCA codes,
            pixels.
        train_labels, test_labels: (N,) integers.

    Returns:
        Fraction of test examples classified wrongly.

    Raises:
        ValueError: when features and labels differ in number, features are not finite floats,
            labels are not integers, or the training labels are of fewer than two classes.

    Example:
        >>> codes, labels = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
        >>> linear_probe(codes, labels, torch.tensor([[-3.0], [3.0]]), torch.tensor([0, 0]))
        0.5
    """
    from sklearn.linear_model import LogisticRegression

    pairs = {"train": (train_features, train_labels), "test": (test_features, test_labels)}
    for name, (features, labels) in pairs.items():
        width = train_features.shape[1:] if isinstance(train_features, Tensor) else [...]
        check_floats(f"{name}_features", features, "N ≥ 1", *width)
        check_classes(f"{name}_labels", labels, len(features))
    if len(train_labels.unique()) < 2:
        raise ValueError("train_labels must be of two classes or more")
    train, test = (f.detach().flatten(1).cpu().double() for f in (train_features, test_features))
    centre = train.mean(0)
    scale = (train - centre).square().mean().sqrt().item() or 1.0
    probe = LogisticRegression(max_iter=1000)
    probe.fit(((train - centre) / scale).numpy(), train_labels.cpu().numpy())
    predicted = torch.from_numpy(probe.predict(((test - centre) / scale).numpy()))
    return (predicted != test_labels.cpu()).double().mean().item()


def _examples(q: Distribution, at_least: int) -> int:
    if len(q.batch_shape) != 1 or len(q.event_shape) != 1 or q.batch_shape[0] < at_least:
        raise ValueError(
            f"q must have N ≥ {at_least} examples, batch shape (N,) and events (K,), but has "
            f"{tuple(q.batch_shape)} and {tuple(q.event_shape)}"
        )
    return q.batch_shape[0]
