"""Right solutions of the exercise on evaluation, each written another way."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.vae_exercises.way import way


@way("evaluation.linear_probe")
def _(codes: Tensor, labels: Tensor, n_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    n, k = codes.shape
    ones = torch.cat([codes, codes.new_ones(n, 1)], 1)
    penalty = ridge * torch.eye(k + 1, dtype=codes.dtype)
    penalty[-1, -1] = 0
    targets = torch.eye(n_classes, dtype=codes.dtype)[labels]
    both = torch.linalg.solve(ones.T @ ones + penalty, ones.T @ targets)
    return both[:-1], both[-1]


@way("evaluation.linear_probe")
def _(codes: Tensor, labels: Tensor, n_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    centre = codes.mean(0, keepdim=True)
    classes = torch.arange(n_classes)
    targets = (labels[:, None] == classes).type_as(codes)
    u, s, vh = torch.linalg.svd(codes - centre, full_matrices=False)
    shrunk = s / (s**2 + ridge)
    weight = vh.T @ (shrunk[:, None] * (u.T @ (targets - targets.mean(0))))
    return weight, targets.mean(0) - (centre @ weight)[0]


@way("evaluation.linear_probe")
def _(codes: Tensor, labels: Tensor, n_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    # The penalty as further examples, of least squares without one.
    k = codes.shape[1]
    targets = torch.zeros(len(labels), n_classes, dtype=codes.dtype)
    targets[torch.arange(len(labels)), labels] = 1
    x, y = codes - codes.mean(0), targets - targets.mean(0)
    more = math.sqrt(ridge) * torch.eye(k, dtype=codes.dtype)
    rows = torch.cat([x, more])
    answers = torch.cat([y, torch.zeros(k, n_classes, dtype=codes.dtype)])
    weight = torch.linalg.lstsq(rows, answers).solution
    return weight, (targets - codes @ weight).mean(0)


@way("evaluation.linear_probe")
def _(codes: Tensor, labels: Tensor, n_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    x = codes - codes.mean(0)
    gram = x.mT @ x + torch.diag(codes.new_full(codes.shape[1:], ridge))
    inverse = torch.linalg.inv(gram)
    weights, biases = [], []
    for c in range(n_classes):
        target = (labels == c).to(codes.dtype)
        weights.append(inverse @ (x.mT @ target))
        biases.append(target.mean() - codes.mean(0) @ weights[-1])
    return torch.stack(weights, 1), torch.stack(biases)


@way("evaluation.linear_probe")
def _(codes: Tensor, labels: Tensor, n_classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    # The dual: as many unknowns as examples.
    targets = torch.eye(n_classes).to(codes)[labels]
    x = codes - codes.mean(0)
    shares = torch.linalg.solve(x @ x.T + ridge * torch.eye(len(x)).to(codes), targets)
    weight = x.T @ shares
    return weight, (targets - codes @ weight).mean(0)


@way("evaluation.log_likelihood_estimate")
def _(log_w: Tensor) -> tuple[Tensor, Tensor]:
    # The jackknife's error of a mean is the standard error.
    each, n = torch.logsumexp(log_w, 0) - math.log(len(log_w)), log_w.shape[1]
    others = (each.sum() - each) / (n - 1)
    return each.mean(), ((n - 1) / n * (others - others.mean()).square().sum()).sqrt()


@way("evaluation.log_likelihood_estimate")
def _(log_w: Tensor) -> tuple[Tensor, Tensor]:
    highest = log_w.max(0).values
    each = highest + (log_w - highest).exp().mean(0).log()
    variance, mean = torch.var_mean(each)
    return mean, (variance / len(each)).sqrt()


@way("evaluation.log_likelihood_estimate")
def _(log_w: Tensor) -> tuple[Tensor, Tensor]:
    s, n = log_w.shape
    each = torch.stack([column.logsumexp(0) for column in log_w.T])
    each = each - torch.log(torch.tensor(s, dtype=log_w.dtype))
    mean = each.sum() / n
    return mean, ((each - mean).square().sum() / (n * (n - 1))).sqrt()


@way("evaluation.log_likelihood_estimate")
def _(log_w: Tensor) -> tuple[Tensor, Tensor]:
    each = torch.logsumexp(log_w - math.log(log_w.size(0)), dim=0)
    return torch.mean(each), torch.std(each) / math.sqrt(each.numel())


@way("evaluation.log_likelihood_estimate")
def _(log_w: Tensor) -> tuple[Tensor, Tensor]:
    each = log_w[0]
    for row in log_w[1:]:
        each = torch.logaddexp(each, row)
    mean = each.mean() - math.log(len(log_w))
    return mean, each.var().div(len(each)).pow(0.5)


@way("evaluation.paired_difference")
def _(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(a - b, dim=0)
    return mean, torch.sqrt(variance / a.numel())


@way("evaluation.paired_difference")
def _(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    n = len(a)
    apart = (a - b) - (a.mean() - b.mean())
    return a.mean() - b.mean(), (apart @ apart / (n * (n - 1))) ** 0.5


@way("evaluation.paired_difference")
def _(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    table = torch.cov(torch.stack([a, b]))
    variance = table[0, 0] + table[1, 1] - 2 * table[0, 1]
    return (a - b).sum() / len(a), (variance.clamp(min=0) / len(a)).sqrt()


@way("evaluation.paired_difference")
def _(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    d = a.sub(b)
    d = [x - y for x, y in zip(a, b, strict=True)] if len(d) < 4 else list(d)
    values = torch.stack(d)
    return torch.mean(values), torch.std(values, unbiased=True) / math.sqrt(len(values))


@way("evaluation.paired_difference")
def _(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    d, n = a - b, len(a)
    return d.mean(), d.std(correction=0) / math.sqrt(n - 1)


@way("evaluation.select_and_report")
def _(validation: Tensor, test: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    means = validation.mean(1)
    best = (means == means.max()).nonzero()[0, 0].to(torch.int32)
    chosen = torch.nn.functional.one_hot(best.long(), len(test)).to(test.dtype) @ test
    return best, chosen.mean(), chosen.std() / len(chosen) ** 0.5


@way("evaluation.select_and_report")
def _(validation: Tensor, test: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best = torch.argmax(torch.mean(validation, dim=-1))
    chosen = test[best]
    variance, mean = torch.var_mean(chosen)
    return best, mean, (variance / chosen.numel()).sqrt()


@way("evaluation.select_and_report")
def _(validation: Tensor, test: Tensor) -> tuple[int, Tensor, Tensor]:
    means = [row.mean().item() for row in validation]
    best = means.index(max(means))
    n = test.shape[1]
    mean = test[best].sum() / n
    return best, mean, ((test[best] - mean).square().sum() / (n - 1) / n).sqrt()


@way("evaluation.select_and_report")
def _(validation: Tensor, test: Tensor) -> tuple[int, Tensor, Tensor]:
    best = max(range(len(validation)), key=lambda i: float(validation[i].sum()))
    errors = test.std(dim=1) / math.sqrt(test.size(1))
    return best, test.mean(dim=1)[best], errors[best]


@way("evaluation.select_and_report")
def _(validation: Tensor, test: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    order = validation.mean(1).argsort(descending=True)
    scores = test.index_select(0, order[:1]).squeeze(0)
    return order[0], scores.mean(), scores.std() / scores.shape[0] ** 0.5
