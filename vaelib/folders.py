"""Reading a folder or a zip file of pictures into an array of pixels."""

from __future__ import annotations

import os
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["SUFFIXES", "read_folder", "watched"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

T = TypeVar("T")

# The modes with 8 bits per channel; others lose their range when they are converted.
_GREY = {"1", "L", "LA"}
_COLOUR = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def read_folder(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None,
    colour: bool | None,
    labels: bool | None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """The pictures under `path`, in the order of their paths, as `Images.from_folder` describes.

    Returns:
        pixels (N, C, H, W), labels (N,) and the name of each label.
    """
    with _opened(Path(path)) as (names, open_file):
        names = sorted(name for name in names if _is_picture(name))
        if not names:
            raise ValueError(f"{path} holds no picture ({', '.join(SUFFIXES)})")

        def read(name: PurePosixPath, use: Callable[[Picture], Any]) -> Any:
            return _read(f"{path}/{name}", lambda: open_file(name), use)

        if size is None or colour is None:
            # Headers first, so that the array is made once and mistakes are found early.
            kinds = [read(name, _size_and_mode) for name in watched(names, "looking")]
            if size is None:
                size = _common_size(path, names, [found for found, _ in kinds])
            if colour is None:
                colour = any(mode not in _GREY for _, mode in kinds)
        mode, channels = ("RGB", 3) if colour else ("L", 1)
        pixels = np.empty((len(names), channels, *size), dtype=np.uint8)
        for name, out in zip(watched(names, "reading"), pixels, strict=True):
            picture = read(name, lambda picture: _decode(picture, mode, (size[1], size[0])))
            out[...] = np.asarray(picture).reshape(*size, channels).transpose(2, 0, 1)
    return pixels, *_labels(path, names, labels)


@contextmanager
def _opened(
    path: Path,
) -> Iterator[tuple[list[PurePosixPath], Callable[[PurePosixPath], IO[bytes]]]]:
    """The files under a folder or in a zip file, by their path in it, and how to open one."""
    if path.is_dir():
        files = [
            PurePosixPath(Path(folder, name).relative_to(path).as_posix())
            for folder, _, names in os.walk(path)
            for name in names
        ]
        yield files, lambda name: (path / name).open("rb")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield (
                [PurePosixPath(info.filename) for info in archive.infolist() if not info.is_dir()],
                lambda name: archive.open(str(name)),
            )
    elif path.exists():
        raise ValueError(f"path must be a folder or a zip file, but {path} is neither")
    else:
        raise FileNotFoundError(f"there is no folder {path}")


def _is_picture(name: PurePosixPath) -> bool:
    # A name that begins with a dot is hidden; macOS adds such a file for each one in an archive.
    hidden = any(part.startswith(".") for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden


def _read(where: str, open_file: Callable[[], IO[bytes]], use: Callable[[Picture], Any]) -> Any:
    from PIL import Image

    try:
        with open_file() as file, Image.open(file) as picture:
            if picture.mode in _GREY | _COLOUR:
                return use(picture)
            mode = picture.mode
    # Everything that Pillow raises for a damaged file, and zipfile for a damaged archive.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zipfile.BadZipFile,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"{where} cannot be read as a picture: {error}") from error
    raise ValueError(
        f"{where} has more than 8 bits per channel (mode {mode}): read it into an array, and use "
        "Images.from_array with its scale"
    )


def _size_and_mode(picture: Picture) -> tuple[tuple[int, int], str]:
    """(H, W) of the upright picture, and Pillow's name for the kind of pixel."""
    width, height = picture.size
    orientation = 0x0112
    lies = picture.getexif().get(orientation, 1) in (5, 6, 7, 8)
    return ((width, height) if lies else (height, width)), picture.mode


def _decode(picture: Picture, mode: str, size: tuple[int, int]) -> Picture:
    from PIL import Image, ImageOps

    # Let the JPEG decoder shrink the picture, which takes a fraction of the time; twice the size
    # asked for is enough for a good reduction. The decoder does not turn the picture.
    picture.draft(mode, (2 * max(size), 2 * max(size)))
    upright = ImageOps.exif_transpose(picture).convert(mode)
    if upright.size == size:
        return upright
    return ImageOps.fit(upright, size, Image.Resampling.BICUBIC)


def _common_size(
    path: str | os.PathLike[str], names: list[PurePosixPath], sizes: list[tuple[int, int]]
) -> tuple[int, int]:
    for name, size in zip(names, sizes, strict=True):
        if size != sizes[0]:
            raise ValueError(
                f"pictures must have one size, but {path}/{names[0]} has {sizes[0][0]} × "
                f"{sizes[0][1]} pixels and {path}/{name} has {size[0]} × {size[1]}: give a "
                "size, to which all are cropped and resized"
            )
    return sizes[0]


def _labels(
    path: str | os.PathLike[str], names: list[PurePosixPath], wanted: bool | None
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels by the first folder in which the paths differ, and their names."""
    if wanted is False:
        return None, ()
    levels = zip(*(name.parts[:-1] for name in names), strict=False)
    folders = next((level for level in levels if len(set(level)) > 1), None)
    if folders is None:
        if wanted:
            shallowest = min(names, key=lambda name: len(name.parts))
            raise ValueError(
                "labels need at least two sub-folders and every picture in one of them, but "
                f"{path}/{shallowest} lies beside them or in the only one"
            )
        return None, ()
    if wanted is None and max(Counter(folders).values()) < 2:
        return None, ()
    classes, targets = np.unique(folders, return_inverse=True)
    return targets.astype(np.int64), tuple(classes.tolist())


def watched(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """The items, with a progress bar in a terminal or notebook after one second.

    Example:
        >>> list(watched("abc", "reading"))
        ['a', 'b', 'c']
    """
    from tqdm import tqdm

    # To standard output, since a notebook shows standard error as an error.
    is_watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    bar: Iterable[T] = tqdm(
        items, desc=what, total=total, delay=1, disable=not is_watched, file=sys.stdout
    )
    return bar
