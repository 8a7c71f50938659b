"""A convolutional VAE of faces: residual blocks around probabilistic PCA, an 8-bit likelihood.

The data are Labeled Faces in the Wild at 32 × 32 (Huang et al. 2007). The model has 128 latent
dimensions. Goal: recognisable faces, and better than PPCA with as many dimensions. If the folder in
`VAELIB_DATA` holds `lfw/faces-32x32.zip`, tightly cropped faces with a folder for each person, that
file is read, and no person is in both training and test images. Otherwise `load_dataset("lfw")` is
used, whose crop is wider.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recipes.photographs import train_residual
from recipes.run import Run
from vaelib import Images, load_dataset


def main(arguments: Sequence[str] | None = None) -> None:
    run = Run("faces-vae", "residual VAE of Labeled Faces in the Wild, 8-bit pixels", arguments)
    cropped = Path(os.environ.get("VAELIB_DATA", "")) / "lfw" / "faces-32x32.zip"
    if run.quick:
        # Patches need no download.
        train, test = (load_dataset("patches", split) for split in ("train", "test"))
    elif cropped.is_file():
        train, test = _by_person(Images.from_folder(cropped, labels=True, name="lfw, cropped"))
    else:
        train, test = (load_dataset("lfw", split) for split in ("train", "test"))
    train, test = train.to(run.device), test.to(run.device)
    train_residual(run, train, test, latent_dim=128, width=24, epochs=6)


def _by_person(images: Images) -> tuple[Images, Images]:
    """Training and test images; every tenth person in alphabetical order is held out."""
    assert images.labels is not None
    held_out = images.labels % 10 == 9
    return (
        replace(images[~held_out], split="train"),
        replace(images[held_out], split="test"),
    )


if __name__ == "__main__":
    main()
