"""The precision that is chosen is the faster one, and the same one wherever it can be known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vaelib import VAE, noise
from vaelib.objective import Objective
from vaelib.precision import faster_precision


def chosen(vae: VAE, x: Tensor) -> str:
    eps = noise((1, len(x), vae.latent_dim), 0, like=x)
    return faster_precision(Objective(vae), x, eps, None)


@pytest.fixture
def has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelib.precision._has_bfloat16", lambda device: True)


@pytest.mark.usefixtures("has_bfloat16")
@pytest.mark.parametrize(("width", "precision"), [(512, "bfloat16"), (200, "float32")])
def test_the_largest_layer_decides_without_a_measurement(
    width: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelib.precision._seconds", lambda *_: pytest.fail("it was measured"))
    assert chosen(VAE((784,), 2, [width]), torch.ones(5, 784)) == precision


@pytest.mark.usefixtures("has_bfloat16")
@pytest.mark.parametrize(("ratio", "precision"), [(0.5, "bfloat16"), (0.95, "float32")])
def test_convolutions_are_measured_once(
    ratio: float, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([1.0, ratio])
    monkeypatch.setattr("vaelib.precision._seconds", lambda *_: next(seconds))
    monkeypatch.setattr("vaelib.precision._measured", {})
    torch.manual_seed(0)
    vae = VAE((1, 8, 8), 2, [4], network="convolutional")
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    assert chosen(vae, torch.ones(5, 1, 8, 8)) == precision
    assert chosen(vae, torch.ones(5, 1, 8, 8)) == precision  # remembered
    assert vae.training
    for name, value in vae.state_dict().items():
        assert torch.equal(value, before[name])
        assert all(p.grad is None for p in vae.parameters())


def test_a_processor_without_bfloat16_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelib.precision._has_bfloat16", lambda device: False)
    assert chosen(VAE((784,), 2, [512]), torch.ones(5, 784)) == "float32"


@pytest.mark.usefixtures("has_bfloat16")
def test_doubles_stay_doubles() -> None:
    vae: Any = VAE((784,), 2, [512]).double()
    assert chosen(vae, torch.ones(5, 784).double()) == "float32"
