"""The slopes of the loss against the loss itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaelib import ELBO, VAE, evidence_lower_bound, fit, training_step
from vaelib.objective import Objective, slopes
from vaelib.reparameterization import DiagonalGaussian


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_slopes_give_the_gradient_of_the_loss(device: torch.device, beta: float) -> None:
    torch.manual_seed(0)
    vae = VAE((6,), 2, [4]).to(device).double()
    x = torch.rand(5, 6, device=device, dtype=torch.float64).round()
    eps = torch.randn(3, 5, 2, device=device, dtype=torch.float64)
    parameters = list(vae.parameters())
    loss = -(vae(x, eps).reconstruction - beta * vae(x, eps).kl.sum(1)).sum() / 7
    expected = torch.autograd.grad(loss, parameters)
    terms, by = slopes(vae(x, eps), -1 / 7, beta / 7)
    torch.testing.assert_close(torch.autograd.grad(terms, parameters, by), expected)


class FixedCode(nn.Module):
    """A model whose q is not trained, so that its KL has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(6))
        self.prior = DiagonalGaussian.standard(2, torch.zeros(1))

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        return ELBO(-(x - self.offset).square().sum(1), torch.ones(len(x), 2))


def test_a_kl_may_lack_parameters() -> None:
    model, x = FixedCode(), torch.ones(8, 6)
    history = fit(model, x, epochs=20, batch_size=4, learning_rate=0.1, device="cpu",
                  progress=False)  # fmt: skip
    assert history.elbo[-1] > history.elbo[0] + 1


def test_a_bound_without_parameters_is_an_error() -> None:
    model = FixedCode().requires_grad_(False)
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(RuntimeError, match="does not require grad"):
        training_step(model, sgd, torch.ones(8, 6), torch.zeros(1, 8, 2))


def scaled(model: Any, x: Tensor, eps: Tensor, *, by: float) -> ELBO:
    bound = evidence_lower_bound(model, x, eps)
    return ELBO(by * bound.reconstruction, by * bound.kl)


class Scaled:
    def __call__(self, model: Any, x: Tensor, eps: Tensor) -> ELBO:
        return scaled(model, x, eps, by=0.5)


@pytest.mark.parametrize("objective", [lambda: partial(scaled, by=0.5), Scaled])
def test_an_objective_may_be_any_callable_when_a_run_is_resumed(
    objective: Any, tmp_path: Path
) -> None:
    for epochs in (1, 2):
        history = fit(VAE((6,), 1, [4]), torch.ones(5, 6), epochs=epochs, objective=objective(),
                      checkpoint=tmp_path / "run.pt", resume=True, device="cpu",
                      progress=False)  # fmt: skip
    assert len(history) == 2


def test_the_name_of_an_objective_holds_its_settings() -> None:
    names = [Objective(VAE((6,)), partial(scaled, by=by)).name for by in (0.5, 0.5, 2.0)]
    assert names == ["scaled(by=0.5)", "scaled(by=0.5)", "scaled(by=2.0)"]
    assert Objective(VAE((6,))).name == "None"
