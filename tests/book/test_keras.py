"""The appendix's Keras program is the model of its PyTorch one; run where Keras is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vaelib import VAE, evidence_lower_bound, load_dataset

PROGRAM = Path(__file__).parents[2] / "benchmarks/in_keras/vae.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    pytest.importorskip("keras")
    spec = importlib.util.spec_from_file_location("keras_vae", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def to_keras(layer: nn.Linear) -> list[Any]:
    return [layer.weight.detach().numpy().T, layer.bias.detach().numpy()]


def test_the_loss_is_the_same_on_the_same_weights_and_noise(program: ModuleType) -> None:
    torch.manual_seed(0)
    vae = VAE((784,), latent_dim=2, hidden=[512], likelihood="grey bernoulli")
    linear = [layer for layer in vae.modules() if isinstance(layer, nn.Linear)]
    first, heads, hidden, out = linear
    x = load_dataset("mnist5k", "test").floats().flatten(1)[:30]
    eps = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    keras_vae = program.VAE()
    keras_vae(x.numpy())  # builds its weights
    (weight, bias) = to_keras(heads)
    for theirs, ours in (
        (keras_vae.h_q, to_keras(first)),
        (keras_vae.mu, [weight[:, :2], bias[:2]]),
        (keras_vae.logvar, [weight[:, 2:], bias[2:]]),
        (keras_vae.hidden, to_keras(hidden)),
        (keras_vae.out, to_keras(out)),
    ):
        theirs.set_weights(ours)
    theirs = keras_vae(x.numpy(), eps=eps.numpy())
    ours = -evidence_lower_bound(vae, x, eps.unsqueeze(0)).per_example
    theirs = theirs.detach().cpu().numpy() if hasattr(theirs, "detach") else np.asarray(theirs)
    np.testing.assert_allclose(theirs, ours.detach().numpy(), rtol=1e-4)


def test_it_trains(program: ModuleType) -> None:
    x = load_dataset("mnist5k").floats().flatten(1)[:500].numpy()
    history = program.train(program.VAE(), x, epochs=3)
    losses = history.history["loss"]
    assert losses[-1] < losses[0] - 50
