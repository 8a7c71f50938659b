"""Images, kept as uint8 and read in minibatches: a named data set, or your own pictures.

Three conventions say what a pixel is. Results under one cannot be compared with results under
another. *Grey* is the intensity pixel/255. *Dynamic* is a new draw from Bernoulli(pixel/255) each
time the pixel is read (Burda et al. 2015, section 5). *Static* is one such draw, made once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaelib._checks import check_at_least, check_generator, check_tensor
from vaelib.folders import read_folder
from vaelib.indexing import Index, rows_of, shared_out
from vaelib.scaling import Scaling, as_tensor, pixels_from_array

__all__ = [
    "Convention",
    "Images",
    "binarise",
    "check_images",
    "check_labels",
    "check_not_dynamic",
]

Convention = Literal["grey", "dynamic", "static"]

# Bytes of pixels that are checked or drawn at a time.
_BLOCK = 2**20

_WHITE = torch.tensor(255.0)  # a tensor, so that uint8 / _WHITE is float32 whatever the default is


def binarise(probabilities: Tensor, generator: torch.Generator | int) -> Tensor:
    """Draw x ~ Bernoulli(p) for each p of `probabilities`, independently.

    The noise is drawn on the generator's device, so a CPU generator gives the same draws for images
    on any device.

    Arguments:
        probabilities: any shape, in [0, 1].
        generator: draws the noise; or an integer seed.

    Returns:
        Zeros and ones with the shape, dtype and device of `probabilities`.

    Raises:
        ValueError: when `probabilities` are not floating-point numbers, or one is outside [0, 1] or
            NaN.

    Example:
        >>> binarise(torch.tensor([0.0, 0.5, 0.5, 1.0]), 0)
        tensor([0., 1., 0., 1.])
    """
    if not probabilities.is_floating_point():
        raise ValueError(
            f"probabilities must be floats in [0, 1], but are {probabilities.dtype}: divide "
            f"pixels by 255 first"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must be in [0, 1], but one is outside or NaN")
    generator = check_generator(generator)
    # At least float32: the coarse grid of half-precision noise would shift the mean.
    noise = torch.rand(
        probabilities.shape,
        generator=generator,
        dtype=torch.promote_types(probabilities.dtype, torch.float32),
        device=generator.device,
    )
    return (noise.to(probabilities.device) < probabilities).to(probabilities.dtype)


def _draw(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """x ~ Bernoulli(pixel/255) for uint8 pixels: zeros and ones, float32.

    Sixteen random bits u decide: x = 1 where 255·u < 65,536·pixel. The probability of this is
    pixel/255, rounded up to a multiple of 2⁻¹⁶. So 0 and 255 are certain, and in between the error
    is below 1.6e-5, too small to be seen in fewer than a thousand million draws of a pixel. With a
    float for each pixel, drawing takes four times as long. All numbers are integers below 2²⁴ (over
    2¹⁶), hence exact, so that every device draws the same from the same bits.
    """
    bits = torch.empty(-(-pixels.numel() // 4), dtype=torch.int64, device=generator.device)
    bits.random_(-(2**63), None, generator=generator)
    # Signed: u − 32,768.
    signed = bits.view(torch.int16)[: pixels.numel()].view(pixels.shape).to(pixels.device)
    grey = pixels.to(torch.float32)
    return grey.sub_(127.5).sub_(signed, alpha=255 / 65536).clamp_(0, 1).ceil_()


@dataclass(frozen=True, eq=False)
class Images:
    """Images, with or without labels, and the convention under which their pixels are read.

    Indexing works as in NumPy. An integer gives one picture, (C, H, W) float32 in [0, 1], as it is
    stored: pixel/255 under every convention. A slice, a mask, or a list, array or tensor of
    integers gives `Images`; a slice shares memory. Iterating gives single pictures, so a torch
    `DataLoader` takes `Images` too.

    Pixels are never written to, and only those of a minibatch become floats. So the pixels may be a
    memory-mapped file that is larger than memory: see `from_array`.

    Arguments:
        pixels: (N, C, H, W) uint8, on the device where they will be used.
        labels: (N,) int64, on the same device; `None` without labels.
        name: of the data set, such as "mnist5k".
        split: "train", "validation", "test" or "all".
        convention: "grey", "dynamic" or "static" (all pixels 0 or 255).
        classes: the name of each label, if labels have names.
        scaling: how the pixels were made from numbers in other units, if they were:
            `images.scaling.undo(x)` is x in these units.

    Raises:
        ValueError: when a tensor has another type, shape or device, or the convention is "static"
            but pixels are grey.

    Example:
        >>> from vaelib import load_dataset
        >>> images = load_dataset("digits")
        >>> images
        Images(digits train: 1439 × (1, 8, 8), grey, cpu)
        >>> images[images.labels == 3].binarise("dynamic")
        Images(digits train: 145 × (1, 8, 8), dynamic, cpu)
        >>> images[0].shape, len(images[[5, 3, -1]])
        (torch.Size([1, 8, 8]), 3)
    """

    pixels: Tensor
    labels: Tensor | None = None
    name: str = "images"
    split: str = "all"
    convention: Convention = "grey"
    classes: tuple[str, ...] = ()
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        check_tensor(pixels=self.pixels)
        if self.pixels.dtype != torch.uint8:
            raise ValueError(
                f"pixels must be uint8, but are {self.pixels.dtype}: Images.from_array converts"
            )
        if self.pixels.ndim != 4:
            raise ValueError(f"pixels must be (N, C, H, W), but are {tuple(self.pixels.shape)}")
        if self.labels is not None:
            _check_labels(self.labels, self.pixels)
        if self.convention not in get_args(Convention):
            raise ValueError(
                f"convention must be one of {get_args(Convention)}, not {self.convention!r}"
            )
        # In uint8, 255 + 1 is 0: only 0 and 255 give at most 1.
        if self.convention == "static" and not all(
            (part + 1 <= 1).all() for part in self.pixels.split(self._block())
        ):
            raise ValueError(
                'convention "static" needs pixels that are 0 or 255, but some are grey: '
                'call binarise("static", generator) on the grey images'
            )

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        *,
        size: int | tuple[int, int] | None = None,
        colour: bool | None = None,
        labels: bool | None = None,
        name: str | None = None,
    ) -> Images:
        """Read the pictures in a folder and its sub-folders, or in a zip file of one.

        Pictures are read in the order of their paths and kept in memory, one byte per value. Hidden
        files are ignored, and links to folders are not followed. A picture that the camera marks as
        turned is turned back.

        Arguments:
            path: of the folder or zip file.
            size: (H, W), or one number for both. The middle of each picture is cropped to this
                aspect ratio and resized. With `None`, all pictures must have the same size.
            colour: three channels (`True`) or one (`False`); `None` takes one if all pictures are
                grey.
            labels: whether the first folder in which paths differ is the label. Labels are numbered
                in alphabetical order, and `images.classes` holds their names. `True` requires such
                folders; `None` uses them if every picture is in one and one holds several.
            name: of the data set; by default that of the folder.

        Raises:
            FileNotFoundError: when there is no such folder.
            ValueError: when there is no picture, or a file cannot be read, or pictures differ in
                size and `size` is not given. The message names the first such file.

        Example:
            >>> import tempfile
            >>> from PIL import Image
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     for i in range(3):
            ...         Image.new("RGB", (64, 48), (80 * i, 0, 0)).save(f"{folder}/{i}.png")
            ...     images = Images.from_folder(folder, size=32, name="reds")
            >>> images
            Images(reds all: 3 × (3, 32, 32), grey, cpu)
        """
        if size is not None:
            pair = size if isinstance(size, tuple) else (size, size)
            if len(pair) != 2:
                raise ValueError(f"size must be a number or (height, width), not {size!r}")
            check_at_least(1, **{"size": pair[0], "size (width)": pair[1]})
            size = pair
        for argument, value in (("colour", colour), ("labels", labels)):
            if value not in (None, True, False):
                raise ValueError(f"{argument} must be True, False or None, not {value!r}")
        pixels, targets, classes = read_folder(path, size, colour, labels)
        return cls(
            torch.from_numpy(pixels),
            None if targets is None else torch.from_numpy(targets),
            name or Path(path).resolve().name.removesuffix(".zip"),
            classes=classes,
        )

    @classmethod
    def from_array(
        cls,
        array: npt.NDArray[Any] | Tensor,
        labels: npt.NDArray[Any] | Tensor | Sequence[int] | None = None,
        *,
        channels: Literal["first", "last"] | None = None,
        scale: tuple[float, float] | None = None,
        name: str = "images",
    ) -> Images:
        """Make images from a NumPy array or a tensor.

        uint8 arrays are shared, not copied, even read-only ones. So `np.load(path, mmap_mode="r")`
        works for a file larger than memory: a minibatch reads only its own pixels from the disk.
        (Slices share memory too. Any other index copies, and so does `random_split`.) Booleans
        become black and white, with the convention "static". Other numbers are rounded to 256
        levels; to train on the exact numbers, give `fit` a float tensor.

        Arguments:
            array: (N, H, W), (N, C, H, W) or (N, H, W, C).
            labels: (N,) integers.
            channels: the place of the channels. `None` finds it by its size, 1 or 3.
            scale: (black, white), the numbers that become 0 and 255; `images.scaling` undoes it.
                `None` takes floats in [0, 1].
            name: of the data set.

        Raises:
            ValueError: when the array has another shape or type or holds numbers outside the scale,
                the place of the channels is not clear, or labels do not fit. For a table (N, D) see
                `standardise`.

        Example:
            >>> radar = np.linspace(-30.0, 60.0, 5 * 64).reshape(5, 8, 8)  # decibels
            >>> images = Images.from_array(radar, scale=(-30, 60), name="radar")
            >>> images
            Images(radar all: 5 × (1, 8, 8), grey, cpu)
            >>> images.scaling.undo(images[4]).max()
            tensor(60.)
        """
        values = as_tensor("array", array)
        pixels, scaling = pixels_from_array(values, channels, scale)
        targets = None
        if labels is not None:
            targets = as_tensor("labels", labels)
            if targets.is_floating_point():
                raise ValueError(f"labels must be integers, but are {targets.dtype}")
            targets = targets.to(pixels.device, torch.int64)
        convention: Convention = "static" if values.dtype == torch.bool else "grey"
        return cls(pixels, targets, name, convention=convention, scaling=scaling)

    def __repr__(self) -> str:
        return (
            f"Images({self.name} {self.split}: {len(self)} × {self.shape}, {self.convention}, "
            f"{self.pixels.device})"
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Tensor: ...

    @overload
    def __getitem__(self, index: Index) -> Images: ...

    def __getitem__(self, index: Any) -> Tensor | Images:
        """One picture (C, H, W) for an integer, otherwise `Images`; see the class."""
        rows = rows_of(index, len(self))
        if isinstance(rows, int):
            return self.pixels[rows].to(torch.float32).div_(255)
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, pixels=self.pixels[rows], labels=labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> Images:
        """The same images on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=labels)

    def random_split(
        self,
        generator: torch.Generator | int = 0,
        *,
        train: float = 0.8,
        validation: float = 0.1,
        test: float = 0.1,
    ) -> tuple[Images, Images, Images]:
        """Split all images at random into three disjoint parts.

        If there are labels, each class is in each part in proportion, to ±2 images. The same seed
        gives the same parts. Within a part, images are in random order.

        Arguments:
            generator: draws the parts; or an integer seed.
            train, validation, test: shares of at least 0 that add up to 1.

        Returns:
            The training, validation and test images, with their `split` set.

        Raises:
            ValueError: when a share is not from 0 to 1, or they do not add up to 1.

        Example:
            >>> images = Images.from_array(torch.zeros(50, 8, 8))
            >>> train, validation, test = images.random_split(0)
            >>> train, len(validation), len(test)
            (Images(images train: 40 × (1, 8, 8), grey, cpu), 5, 5)
        """
        shares = {"train": train, "validation": validation, "test": test}
        for name, share in shares.items():
            if not isinstance(share, Real) or isinstance(share, bool) or not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share from 0 to 1, not {share!r}")
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(
                f"train, validation and test must add up to 1, not {sum(shares.values()):g}"
            )
        generator = check_generator(generator)
        order = torch.randperm(len(self), generator=generator, device=generator.device).cpu()
        by_class = order
        if self.labels is not None:
            by_class = order[self.labels.cpu()[order].argsort(stable=True)]
        # In the order of classes, every stretch is shared out in proportion.
        part = torch.empty_like(order)
        part[by_class] = shared_out(len(self), list(shares.values()))
        first, second, third = (
            replace(self[order[part[order] == number]], split=split)
            for number, split in enumerate(shares)
        )
        return first, second, third

    def binarise(
        self,
        convention: Literal["dynamic", "static"],
        generator: torch.Generator | int | None = None,
    ) -> Images:
        """The images under a convention of binary pixels.

        Arguments:
            convention: "dynamic" keeps the grey pixels and draws anew at each reading; "static"
                draws new pixels once, now.
            generator: or an integer seed; needed for "static" and not used for "dynamic", for which
                `floats` and `batches` take one.

        Raises:
            ValueError: when the images are static already, or "static" has no generator.

        Example:
            >>> from vaelib import load_dataset
            >>> grey = load_dataset("digits")
            >>> static = grey.binarise("static", generator=0)
            >>> static.floats().unique()
            tensor([0., 1.])
        """
        if convention not in ("dynamic", "static"):
            raise ValueError(f'convention must be "dynamic" or "static", not {convention!r}')
        if self.convention == "static":
            raise ValueError(
                "these images are already binarised (static): start again from the grey ones"
            )
        if convention == "dynamic":
            return replace(self, convention="dynamic")
        generator = _required(generator, 'binarise("static")')
        drawn = torch.empty(self.pixels.shape, dtype=torch.uint8, device=self.pixels.device)
        block = self._block()
        for pixels, out in zip(self.pixels.split(block), drawn.split(block), strict=True):
            out.copy_(_draw(pixels, generator)).mul_(255)
        return replace(self, pixels=drawn, convention="static")

    def floats(self, generator: torch.Generator | int | None = None) -> Tensor:
        """All images as (N, C, H, W) float32 in [0, 1], read as the convention says.

        Arguments:
            generator: or an integer seed; needed and used only for the convention "dynamic".

        Raises:
            ValueError: when the convention is "dynamic" and there is no generator.

        Example:
            >>> from vaelib import load_dataset
            >>> load_dataset("digits", "test").binarise("dynamic").floats(0).shape
            torch.Size([179, 1, 8, 8])
        """
        return self._read(self.pixels, self._noise(generator, "floats"))

    def read(self, index: Tensor, generator: torch.Generator | int | None = None) -> Tensor:
        """The images of `index` as (B, C, H, W) float32 in [0, 1], read as the convention says.

        Use it for a loop that needs labels as well.

        Arguments:
            index: (B,) integers from 0 to N − 1, on the device of the pixels.
            generator: as for `floats`.

        Raises:
            ValueError: when the convention is "dynamic" and there is no generator.

        Example:
            >>> from vaelib import load_dataset
            >>> images = load_dataset("digits").binarise("dynamic")
            >>> generator = torch.Generator().manual_seed(0)
            >>> for index in torch.randperm(len(images), generator=generator).split(128):
            ...     x, y = images.read(index, generator), images.labels[index]
            >>> x.shape, y.shape
            (torch.Size([31, 1, 8, 8]), torch.Size([31]))
        """
        noise = self._noise(generator, "read")
        return self._read(self.pixels.index_select(0, index), noise)

    def batches(
        self, batch_size: int, generator: torch.Generator | int | None = None, shuffle: bool = True
    ) -> Iterator[Tensor]:
        """Minibatches (B, C, H, W), float32 in [0, 1], that visit every image once.

        The last batch is smaller if `batch_size` does not divide N. Pixels stay uint8 on their
        device until their batch is read.

        Arguments:
            batch_size: B, at least 1.
            generator: draws the order, at the call, and dynamic pixels, batch by batch; or an
                integer seed. The same state gives the same batches, and so does the same seed.
            shuffle: whether the order is random rather than from first to last.

        Raises:
            ValueError: when `batch_size` is not a positive integer, or the generator is missing
                although it is needed (to shuffle, or for "dynamic").

        Example:
            >>> from vaelib import load_dataset
            >>> images = load_dataset("digits")
            >>> [len(x) for x in images.batches(600, generator=0)]
            [600, 600, 239]
        """
        check_at_least(1, batch_size=batch_size)
        if generator is not None:
            generator = check_generator(generator)
        noise = self._noise(generator, "batches")
        order = None
        if shuffle:
            source = _required(generator, "batches with shuffle=True")
            order = torch.randperm(len(self), generator=source, device=source.device)
            order = order.to(self.pixels.device)
        return self._batches(batch_size, order, noise)

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

    def _noise(self, generator: torch.Generator | int | None, where: str) -> torch.Generator | None:
        if self.convention != "dynamic":
            return None
        return _required(generator, f'{where} of "dynamic" images')

    @staticmethod
    def _read(pixels: Tensor, noise: torch.Generator | None) -> Tensor:
        if noise is None:
            # On a GPU in one kernel, which on a CPU takes longer.
            return pixels / _WHITE if pixels.is_cuda else pixels.to(torch.float32).div_(255)
        return _draw(pixels, noise)

    def _block(self) -> int:
        channels, height, width = self.shape
        return max(1, _BLOCK // max(1, channels * height * width))


def check_images(shape: Sequence[int] | None = None, /, **images: Images) -> None:
    """Refuse anything but `Images` that hold at least one image, of this shape if it is given.

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
            raise ValueError(f"{name} must hold at least one image, but is empty")
        if shape is not None and value.shape != tuple(shape):
            raise ValueError(
                f"{name} must have the model's shape {tuple(shape)}, but has {value.shape}"
            )


def check_not_dynamic(**images: Images) -> None:
    """Refuse images whose pixels are drawn anew each time that they are read.

    Example:
        >>> images = Images(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), convention="dynamic")
        >>> check_not_dynamic(train=images)
        Traceback (most recent call last):
            ...
        ValueError: train must be grey or static, not dynamic
    """
    for name, value in images.items():
        if value.convention == "dynamic":
            raise ValueError(f"{name} must be grey or static, not dynamic")


def check_labels(name: str, images: Images) -> Tensor:
    """Return the labels (N,) of the images, and refuse images without labels.

    Example:
        >>> check_labels("train", Images(torch.zeros(5, 1, 8, 8, dtype=torch.uint8)))
        Traceback (most recent call last):
            ...
        ValueError: train must have labels, but Images(images all: 5 × (1, 8, 8), grey, cpu) ...
    """
    if images.labels is None:
        raise ValueError(f"{name} must have labels, but {images} has none")
    return images.labels


def _check_labels(labels: Tensor, pixels: Tensor) -> None:
    check_tensor(labels=labels)
    if labels.dtype != torch.int64 or labels.shape != pixels.shape[:1]:
        raise ValueError(
            f"labels must be ({len(pixels)},) int64, one for each image, but are "
            f"{tuple(labels.shape)} {labels.dtype}"
        )
    if labels.device != pixels.device:
        raise ValueError(f"labels must be on {pixels.device}, as pixels are, not {labels.device}")


def _required(generator: torch.Generator | int | None, where: str) -> torch.Generator:
    if generator is None:
        raise ValueError(
            f"{where} draws random numbers and needs a generator: "
            f"generator=torch.Generator().manual_seed(0), or a seed"
        )
    return check_generator(generator)
