"""Small runs of training, and what it means that one was resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaelib import VAE, fit
from vaelib.checkpoint import load_vae
from vaelib.images import Images

__all__ = ["check_resumption", "make_vae", "parameters"]


def make_vae(**changes: Any) -> VAE:
    torch.manual_seed(0)
    return VAE(**{"shape": (1, 8, 8), "latent_dim": 3, "hidden": [16], **changes})


def parameters(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().cpu() for p in model.parameters()])


def check_resumption(
    digits: Images, validation: Images, tmp_path: Path, device: torch.device, **chosen: Any
) -> None:
    settings: dict[str, Any] = {
        "batch_size": 32, "device": device,
        "beta": lambda epoch: min(1.0, epoch / 2.5), "samples": 2, "progress": False, **chosen,
    }  # fmt: skip
    whole = make_vae()
    history = fit(whole, digits, validation, epochs=4, **settings)
    path = tmp_path / "run.pt"
    fit(make_vae(), digits, validation, epochs=2, checkpoint=path, **settings)
    # Another start and another global random state: the checkpoint alone must decide.
    torch.manual_seed(99)
    resumed = VAE(shape=(1, 8, 8), latent_dim=3, hidden=[16])
    rest = fit(resumed, digits, validation, epochs=4, checkpoint=path, resume=True, **settings)
    assert torch.equal(parameters(whole), parameters(resumed))
    for name in ("reconstruction", "kl", "beta", "active_units", "validation_elbo"):
        assert torch.equal(getattr(history, name), getattr(rest, name)), name
    assert torch.equal(parameters(load_vae(path)), parameters(whole))
