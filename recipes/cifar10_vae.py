"""A convolutional VAE of CIFAR-10: residual blocks around probabilistic PCA, an 8-bit likelihood.

It has 256 latent dimensions. Goal: clearly better than PPCA with as many, in nats, bits per
dimension and reconstruction error on the test images. `VAELIB_DATA` may hold part of the data.
"""

from __future__ import annotations

from collections.abc import Sequence

from recipes.photographs import train_residual
from recipes.run import Run
from vaelib import load_dataset


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("cifar10-vae", "residual VAE of CIFAR-10, 8-bit pixels", arguments)
    # Patches need no download.
    name = "patches" if run.quick else "cifar10"
    train, test = (load_dataset(name, split, device=run.device) for split in ("train", "test"))
    train_residual(run, train, test, latent_dim=256, width=24, epochs=12)


if __name__ == "__main__":
    main()
