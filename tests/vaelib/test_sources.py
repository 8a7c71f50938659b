"""File formats are read as published, damage is named, and what is parsed once is kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaelib import sources
from vaelib.data import load_dataset
from vaelib.download import DownloadError

IMAGES = np.random.default_rng(0).integers(0, 256, (36, 28, 28), dtype=np.uint8)
LABELS = np.arange(36, dtype=np.uint8) % 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the user's data, named in VAELIB_DATA; the cache is empty."""
    data = tmp_path / "data"
    for name in ("mnist", "fashion-mnist", "cifar10", "lfw"):
        (data / name).mkdir(parents=True)
    monkeypatch.setenv("VAELIB_DATA", str(data))
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    return data


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_mnist(folder: Path) -> None:
    """36 training images, compressed, and 12 test images, not compressed."""
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:12]))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:12]))


# IDX


def test_a_file_without_images_is_damaged(folder: Path) -> None:
    write_mnist(folder / "mnist")
    (folder / "mnist" / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:0]))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte should hold 28 × 28 images"):
        load_dataset("mnist", "test")


def test_a_failed_download_tells_of_the_users_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mnist").rmdir()
    nowhere = ((folder / "absent").as_uri(), "0" * 64)
    monkeypatch.setitem(sources._REMOTE["mnist"], "t10k-images-idx3-ubyte.gz", nowhere)
    with pytest.raises(DownloadError, match=rf"a folder mnist with it \({folder} does not\)$"):
        load_dataset("mnist", "test")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_files_are_read_and_split(folder: Path, name: str) -> None:
    write_mnist(folder / name)
    test = load_dataset(name, "test")
    np.testing.assert_array_equal(test.pixels[:, 0], IMAGES[:12])
    np.testing.assert_array_equal(test.labels, LABELS[:12])
    train, validation = load_dataset(name, "train"), load_dataset(name, "validation")
    assert validation.labels.bincount().tolist() == [1, 1, 1]  # one in twelve of each class
    together = np.concatenate([train.pixels[:, 0], validation.pixels[:, 0]])
    assert sorted(x.tobytes() for x in together) == sorted(x.tobytes() for x in IMAGES)


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("images-idx3", b"", "not an IDX file"),
        ("images-idx3", b"\x89PNG" + idx(IMAGES)[4:], "not an IDX file"),
        ("images-idx3", idx(IMAGES)[:10], "not an IDX file"),
        ("images-idx3", idx(IMAGES)[:-1], "should hold"),
        ("images-idx3", idx(IMAGES) + b"x", "should hold"),
        ("images-idx3", idx(LABELS), "28 × 28"),
        ("images-idx3", idx(IMAGES[:, :20]), "28 × 28"),
        ("labels-idx1", idx(LABELS[1:]), "36 labels"),
        ("labels-idx1", idx(LABELS + 8), "36 labels"),
        ("labels-idx1", idx(IMAGES), "36 labels"),
    ],
    ids=["empty", "magic", "header", "short", "long", "rank", "size", "few", "range", "images"],
)
def test_damaged_idx_file_is_named(folder: Path, file: str, content: bytes, what: str) -> None:
    write_mnist(folder / "mnist")
    path = folder / "mnist" / f"train-{file}-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=rf"{path} .*{what}.*get the file again"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-9], lambda data: data[:2_000], lambda data: b"x" + data[1:]],
    ids=["no end", "half", "no gzip"],
)
def test_damaged_gzip_file_is_named(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    write_mnist(folder / "mnist")
    path = folder / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path} is not a complete gzip file"):
        load_dataset("mnist")


def test_missing_files_and_folders_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"mnist does not hold train-images-idx3-ubyte.gz or t"
    ):
        load_dataset("mnist")
    with pytest.raises(
        FileNotFoundError, match=r"cifar10 does not hold cifar-10-b.*_1.bin or data_b"
    ):
        load_dataset("cifar10")
    with pytest.raises(FileNotFoundError, match=r"lfw does not hold lfw-funneled.tgz: put"):
        load_dataset("lfw")
    monkeypatch.setenv("VAELIB_DATA", str(folder / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere, which is not a folder.*or unset it"):
        load_dataset("mnist")


# CIFAR-10


def cifar10_batch(size: int, seed: int) -> tuple[bytes, np.ndarray]:
    """The bytes of a batch, and its images as (N, 3, 32, 32)."""
    images = np.random.default_rng(seed).integers(0, 256, (size, 3, 32, 32), dtype=np.uint8)
    records = [bytes([i % 2]) + image.tobytes() for i, image in enumerate(images)]
    return b"".join(records), images


def test_cifar10_takes_the_batches_that_are_there(folder: Path) -> None:
    first, first_images = cifar10_batch(12, seed=1)
    third, third_images = cifar10_batch(8, seed=3)
    test, test_images = cifar10_batch(4, seed=6)
    (folder / "cifar10" / "data_batch_1.bin").write_bytes(first)
    (folder / "cifar10" / "data_batch_1.bin.gz").write_bytes(gzip.compress(first))  # read once
    (folder / "cifar10" / "data_batch_3.bin.gz").write_bytes(gzip.compress(third))
    (folder / "cifar10" / "test_batch.bin").write_bytes(test)
    np.testing.assert_array_equal(load_dataset("cifar10", "test").pixels, test_images)
    train, validation = load_dataset("cifar10"), load_dataset("cifar10", "validation")
    assert validation.labels.tolist() == [0, 1]  # one in ten of each class
    together = np.concatenate([train.pixels, validation.pixels])
    expected = np.concatenate([first_images, third_images])
    assert sorted(x.tobytes() for x in together) == sorted(x.tobytes() for x in expected)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda data: data[:-1], "records of 3,073 bytes"),
        (lambda data: b"", "records of 3,073 bytes"),
        (lambda data: b"\x0a" + data[1:], "a label 10"),
    ],
    ids=["short", "empty", "label"],
)
def test_damaged_cifar10_batch_is_named(
    folder: Path, damage: Callable[[bytes], bytes], what: str
) -> None:
    path = folder / "cifar10" / "data_batch_1.bin"
    path.write_bytes(damage(cifar10_batch(10, seed=1)[0]))
    with pytest.raises(ValueError, match=f"{path} .*{what}"):
        load_dataset("cifar10")


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


CIFAR10 = {
    f"cifar-10-batches-bin/{name}.bin": cifar10_batch(10, seed)[0]
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"])
}


@pytest.mark.parametrize(
    "content",
    [b"no archive", tar_gz({"readme.html": b""}), tar_gz(CIFAR10)[:-2000]],
    ids=["no archive", "no batches", "half"],
)
def test_cifar10s_archive_may_lie_in_the_users_folder(folder: Path, content: bytes) -> None:
    path = folder / "cifar10" / "cifar-10-binary.tar.gz"
    path.write_bytes(tar_gz(CIFAR10))
    assert len(load_dataset("cifar10")) == 45
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is not a complete archive"):
        load_dataset("cifar10")


def test_downloaded_files_are_read_like_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # file:// stands for the network, which test_download.py tries.
    files = {
        ("cifar10", "cifar-10-binary.tar.gz"): tar_gz(CIFAR10),
        ("lfw", "lfw-funneled.tgz"): tar_gz({"lfw_funneled/A/A_0001.jpg": jpeg((9, 9, 9))}),
        ("mnist", "t10k-images-idx3-ubyte.gz"): gzip.compress(idx(IMAGES)),
        ("mnist", "t10k-labels-idx1-ubyte.gz"): gzip.compress(idx(LABELS)),
    }
    for (dataset, name), content in files.items():
        (tmp_path / name).write_bytes(content)
        remote = ((tmp_path / name).as_uri(), hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(sources._REMOTE[dataset], name, remote)
    monkeypatch.delenv("VAELIB_DATA", raising=False)
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    assert len(load_dataset("cifar10")) == 45
    np.testing.assert_array_equal(load_dataset("cifar10", "test").pixels, cifar10_batch(10, 5)[1])
    assert len(load_dataset("lfw")) == 1
    # A folder of the user without this data set does not stand in the way.
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    monkeypatch.setenv("VAELIB_DATA", str(tmp_path / "data"))
    np.testing.assert_array_equal(load_dataset("mnist", "test").pixels[:, 0], IMAGES)
    assert (tmp_path / "cache" / "mnist" / "t10k-images-idx3-ubyte.gz").is_file()


# LFW


def jpeg(colour: tuple[int, int, int], size: int = 250) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (size, size), (0, 0, 0))
    image.paste(colour, (size // 4, size // 4, 3 * size // 4, 3 * size // 4))
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_lfw_is_cropped_reduced_and_labelled_by_person(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = {"Bo_Li": (200, 40, 40), "Ann_Ray": (40, 200, 40)}
    faces = {
        f"lfw_funneled/{person}/{person}_{i:04}.jpg": jpeg(colour)
        for person, colour in colours.items()
        for i in range(5)
    }
    path = folder / "lfw" / "lfw-funneled.tgz"
    path.write_bytes(tar_gz({"lfw_funneled/pairs.txt": b"", **faces}))
    train = load_dataset("lfw")
    assert train.shape == (3, 32, 32)
    assert train.labels.bincount().tolist() == [5, 3]  # Ann, then Bo
    inside = train.pixels[:, :, 2:-2, 2:-2].to(int).float().mean((2, 3))
    expected = np.array([colours["Ann_Ray"]] * 5 + [colours["Bo_Li"]] * 3)
    np.testing.assert_allclose(inside, expected, atol=3)
    # What took long is kept: the splits are not decoded a second time.
    monkeypatch.setattr(sources, "_parse_lfw", None)
    assert len(load_dataset("lfw", "validation")) == len(load_dataset("lfw", "test")) == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"no archive", "not a complete archive"),
        (tar_gz({"lfw_funneled/A/A_0001.jpg": jpeg((1, 2, 3))})[:-500], "not a complete archive"),
        (tar_gz({"lfw_funneled/A/A_0001.jpg": b"no image"}), "not a complete archive"),
        (tar_gz({"lfw_funneled/A/A_0001.jpg": jpeg((1, 2, 3), size=64)}), "250 × 250"),
        (tar_gz({"lfw_funneled/A/A_0001.txt": b""}), "not hold a JPEG image"),
    ],
    ids=["no archive", "truncated", "no image", "another size", "empty"],
)
def test_damaged_lfw_archive_is_named(folder: Path, content: bytes, what: str) -> None:
    path = folder / "lfw" / "lfw-funneled.tgz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} .*{what}"):
        load_dataset("lfw")


# The cache of parsed arrays


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Parse:
    """A parser that counts its calls."""

    pixels = np.arange(200, dtype=np.uint8).reshape(10, 1, 4, 5)
    labels = np.arange(10)
    calls = 0

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        return self.pixels, self.labels


def assert_cached(parse: Parse, calls: int) -> None:
    pixels, labels = sources._cached("toy-1", parse)
    np.testing.assert_array_equal(pixels, Parse.pixels)
    np.testing.assert_array_equal(labels, Parse.labels)
    assert parse.calls == calls


def test_parses_once(cache: Path) -> None:
    parse = Parse()
    assert_cached(parse, calls=1)
    assert_cached(parse, calls=1)
    assert [path.name for path in cache.iterdir()] == ["toy-1.npz"]


def test_truncated_cache_file_is_made_again(cache: Path) -> None:
    parse = Parse()
    assert_cached(parse, calls=1)
    whole = (cache / "toy-1.npz").read_bytes()
    for calls, length in enumerate(range(0, len(whole), 97), start=2):
        (cache / "toy-1.npz").write_bytes(whole[:length])
        assert_cached(parse, calls)
        assert (cache / "toy-1.npz").read_bytes() == whole


def test_altered_cache_file_never_gives_other_arrays(cache: Path) -> None:
    parse = Parse()
    assert_cached(parse, calls=1)
    whole = (cache / "toy-1.npz").read_bytes()
    remade = 0
    for position in range(0, len(whole), 7):
        altered = bytearray(whole)
        altered[position] ^= 0xFF
        (cache / "toy-1.npz").write_bytes(altered)
        pixels, labels = sources._cached("toy-1", parse)
        np.testing.assert_array_equal(pixels, Parse.pixels)
        np.testing.assert_array_equal(labels, Parse.labels)
        assert pixels.shape == Parse.pixels.shape
        remade += (cache / "toy-1.npz").read_bytes() == whole
    assert remade > 50


def test_cache_file_is_never_unpickled(cache: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("the cache file was unpickled",)

    cache.mkdir()
    np.savez(cache / "toy-1.npz", pixels=np.array([Bomb()]), labels=Parse.labels)
    assert_cached(Parse(), calls=1)


def test_a_cache_that_cannot_be_written_costs_only_time(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    parse = Parse()
    assert_cached(parse, calls=1)
    assert_cached(parse, calls=2)
