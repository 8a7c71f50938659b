"""A VAE with two latent dimensions, for pictures of the plane and for the explorer.

784-384-256-2 and back, ReLU: about the largest decoder that the explorer can draw. All 60,000
training images are used, dynamically binarised. Adam's rate falls from 2e-3 to 0 along a cosine.
There is no published number for this model; its record says what it reaches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recipes.bounds import bound, measure_bounds
from recipes.run import SEED, Run
from vaelib import VAE

EPOCHS = 36


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("mnist-plane", "VAE with two latent dimensions", arguments)
    train = run.mnist("train").binarise("dynamic")
    torch.manual_seed(SEED)
    vae = VAE(train.shape, latent_dim=2, hidden=[384, 256])
    adam = torch.optim.Adam(vae.parameters(), lr=2e-3, fused=True)
    epochs = 4 if run.quick else EPOCHS
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    run.fit(vae, train, epochs=epochs, batch_size=100, optimizer=adam, scheduler=rate)
    run.export(
        vae,
        vae.arguments,
        measure_bounds(run, "", samples=1000),
        train=train,
        convention="dynamic",
        compare=bound(run.mnist("test").binarise("dynamic")),
    )


if __name__ == "__main__":
    main()
