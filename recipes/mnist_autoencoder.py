"""A plain autoencoder of `mnist-vae`'s size, to show what a code without a prior can and cannot do.

784-200-200-50 and back, ReLU, grey pixels, squared error. Adam's rate falls from 3e-3 to 0 along a
cosine. The error is compared with that of the training images' first 50 principal components.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from recipes.run import SEED, Run, measurement
from vaelib import (
    Autoencoder,
    Images,
    linear_autoencoder_weights,
    load_dataset,
    reconstruction_error,
)
from vaelib.pretrained import Measurement

EPOCHS = 15


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("mnist-autoencoder", "plain autoencoder of mnist-vae's size", arguments)
    train, test = run.mnist("train"), run.mnist("test")
    ships = load_dataset("mnist5k", "test", device=run.device)
    torch.manual_seed(SEED)
    built: dict[str, Any] = {"shape": list(train.shape), "code_dim": 50, "hidden": [200, 200]}
    autoencoder = Autoencoder(**built).to(run.device)
    adam = torch.optim.Adam(autoencoder.parameters(), lr=3e-3, fused=True)
    epochs = 2 if run.quick else EPOCHS
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)

    def epoch(number: int, generator: torch.Generator) -> dict[str, float]:
        total = torch.zeros((), device=run.device)
        for x in train.batches(200, generator):
            error = reconstruction_error(x, autoencoder(x))
            adam.zero_grad()
            error.mean().backward()
            adam.step()
            total += error.detach().sum()
        rate.step()
        return {"squared error": total.item() / len(train)}

    @torch.no_grad()
    def errors(model: Autoencoder, images: Images) -> torch.Tensor:
        return torch.cat(
            [reconstruction_error(x, model(x)) for x in images.batches(1000, shuffle=False)]
        )

    def measure(model: Autoencoder) -> list[Measurement]:
        mean, w = linear_autoencoder_weights(train.floats().flatten(1), 50)
        x = test.floats().flatten(1)
        pca = reconstruction_error(x, (x - mean) @ w @ w.T + mean).mean().item()
        what, unit = "squared error", "per image, pixels in [0, 1]"
        return [
            measurement(
                what, errors(model, test), test, unit=unit, beside=f"{pca:.2f} by PCA with 50 codes"
            ),
            measurement(what, errors(model, ships), ships, unit=unit),
        ]

    run.train(epochs, {"model": autoencoder, "adam": adam, "rate": rate}, epoch)
    run.export(
        autoencoder,
        built,
        measure,
        train=train,
        convention="grey",
        compare=lambda model: errors(model, test).mean().item(),
    )


if __name__ == "__main__":
    main()
