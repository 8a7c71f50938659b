"""Arrays become pixels and come back; a table is standardised and comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vaelib.images import Images
from vaelib.scaling import Scaling, standardise

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)


def test_floats_come_back_as_the_same_images() -> None:
    images = Images.from_array(PIXELS)
    for floats in (images.floats(), images.floats().double(), images.floats().numpy()):
        again = Images.from_array(floats)
        assert torch.equal(again.pixels, images.pixels)
        assert again.scaling is None


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_channels_are_found(kind: Any) -> None:
    expected = torch.from_numpy(PIXELS)
    assert torch.equal(Images.from_array(kind(PIXELS)).pixels, expected)
    assert torch.equal(Images.from_array(kind(PIXELS.transpose(0, 2, 3, 1))).pixels, expected)
    assert torch.equal(Images.from_array(kind(PIXELS[:, 0])).pixels, expected[:, :1])
    two = kind(PIXELS[:, :2])
    assert Images.from_array(two, channels="first").shape == (2, 4, 5)
    assert Images.from_array(two, channels="last").shape == (5, 2, 4)
    for unclear in (two, kind(PIXELS[..., :3])):  # neither place, or both
        with pytest.raises(ValueError, match=r"channels must be .* array of \(6, "):
            Images.from_array(unclear)
    with pytest.raises(ValueError, match='channels must be "first" or "last", not \'middle\''):
        Images.from_array(two, channels="middle")


def test_uint8_is_shared_and_other_numbers_are_not() -> None:
    assert Images.from_array(PIXELS).pixels.data_ptr() == PIXELS.ctypes.data
    floats = torch.rand(6, 4, 5)
    before = floats.clone()
    assert Images.from_array(floats).pixels.dtype == torch.uint8
    assert torch.equal(floats, before)


def test_large_integers_keep_their_digits() -> None:
    values = 10**9 + np.arange(256, dtype=np.int64).reshape(1, 16, 16)
    images = Images.from_array(values, scale=(10**9, 10**9 + 255))
    assert images.pixels.flatten().tolist() == list(range(256))


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble, np.int32, np.uint16, ">u2"]
)
def test_a_scale_is_undone_to_half_a_level(dtype: Any) -> None:
    values = RANDOM.integers(-100 if np.dtype(dtype).kind != "u" else 0, 900, (5, 7, 6))
    images = Images.from_array(values.astype(dtype), scale=(-100, 900))
    back = images.scaling.undo(images.floats())
    np.testing.assert_allclose(back[:, 0], values, atol=0.5 * 1000 / 255 + 1e-3)
    assert images[:3].scaling is images.scaling
    ends = Images.from_array(np.array([[[-1.0, 1.0]]]), scale=(-1, 1))
    assert ends.pixels.flatten().tolist() == [0, 255]


def test_numbers_are_converted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = RANDOM.random((50, 4, 5))
    whole = Images.from_array(values).pixels
    monkeypatch.setattr("vaelib.scaling._BLOCK", 33)
    assert torch.equal(Images.from_array(values).pixels, whole)


def test_booleans_are_binary_pixels() -> None:
    for array in (PIXELS > 99, torch.from_numpy(PIXELS > 99)):
        images = Images.from_array(array)
        assert images.convention == "static"
        assert torch.equal(images.floats(), torch.from_numpy(PIXELS > 99).float())


def test_unusual_memory_is_read() -> None:
    backwards = Images.from_array(PIXELS[::-1, :, ::-1]).pixels
    assert torch.equal(backwards, torch.from_numpy(PIXELS).flip(0, 2))
    frozen = PIXELS.copy()
    frozen.flags.writeable = False
    shared = Images.from_array(frozen)
    assert shared.pixels.data_ptr() == frozen.ctypes.data
    empty = PIXELS[:0]
    empty.flags.writeable = False
    assert len(Images.from_array(empty)) == 0
    # The memory lives as long as the images.
    del frozen
    assert torch.equal(shared.pixels, torch.from_numpy(PIXELS))


@pytest.mark.parametrize("labels", [range(6), [5, 4, 3, 2, 1, 0], np.arange(6, dtype=np.uint8)])
def test_labels_are_integers(labels: Any) -> None:
    images = Images.from_array(PIXELS, labels, name="mine")
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == list(labels)
    assert images.name == "mine"


@pytest.mark.parametrize(
    ("array", "arguments", "message"),
    [
        (PIXELS / 2, {}, r"array must hold numbers from 0 to 1, but one is outside or NaN"),
        (np.full((2, 3, 3), np.nan), {}, "array must hold numbers from 0 to 1"),
        (np.full((2, 3, 3), np.inf), {"scale": (0, 9)}, "array must hold numbers from 0 to 9"),
        (PIXELS.astype(int), {}, r"scale must say .* since array is torch\.int64"),
        (PIXELS, {"scale": (0, 255)}, "scale must be left out for uint8"),
        (PIXELS > 9, {"scale": (0, 1)}, "scale must be left out .* booleans"),
        (np.ma.masked_less(PIXELS, 9), {}, "array must have no masked values"),
        (PIXELS / 255, {"scale": (1, 0)}, r"scale must be \(black, white\)"),
        (PIXELS / 255, {"scale": 255}, r"scale must be \(black, white\).*not 255"),
        (PIXELS / 255, {"scale": (0, float("nan"))}, r"scale must be \(black, white\)"),
        (PIXELS.reshape(6, -1), {}, r"array must hold images.*\(6, 60\): a table .*standardise"),
        (PIXELS.astype(complex), {}, "array must hold real numbers, but is an array of complex128"),
        (torch.zeros(2, 3, 3, dtype=torch.complex64), {}, "array must hold real numbers"),
        (np.array(["a"]), {}, "array must hold real numbers, but is an array of <U1"),
        ([[1], [2, 3]], {}, "array must be an array or a tensor"),
        (PIXELS, {"labels": [1]}, r"labels must be \(6,\) int64"),
        (PIXELS, {"labels": [0.5] * 6}, r"labels must be integers, but are torch\.float64"),
        (PIXELS, {"labels": list("abcdef")}, "labels must hold real numbers"),
    ],
)
def test_what_does_not_fit_is_named(array: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Images.from_array(array, **arguments)


# Tables

TABLE = np.stack(
    [RANDOM.normal(1e9, 5.0, 200), RANDOM.exponential(1e-6, 200), np.full(200, 7.0)], axis=1
)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_a_table_is_standardised_and_comes_back(kind: Any) -> None:
    x, scaling = standardise(kind(TABLE))
    assert x.dtype == torch.float32
    assert x.mean(0).abs().max() < 1e-6
    torch.testing.assert_close(x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))
    # Each column to the precision of float32, with respect to its own spread.
    back = scaling.undo(x.double()).numpy()
    assert (np.abs(back - TABLE) <= 1e-6 * np.array([5.0, 1e-6, 7.0])).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e9 + 0.1, -7e-5, 0.0])
@pytest.mark.parametrize("rows", [2, 3, 1000])
def test_a_constant_column_becomes_exactly_0(value: float, rows: int) -> None:
    x, scaling = standardise(np.full((rows, 2), value))
    assert torch.equal(x, torch.zeros(rows, 2))
    assert scaling.shift.tolist() == [value] * 2
    assert scaling.scale.tolist() == [1.0, 1.0]


def test_other_rows_are_scaled_by_the_same_numbers() -> None:
    x, scaling = standardise(TABLE)
    assert torch.equal(scaling.apply(TABLE[:50]), x[:50])
    assert torch.equal(scaling.apply(torch.from_numpy(TABLE[3])), x[3])
    with pytest.raises(ValueError, match=r"x must have 3 columns.* \(50, 2\)"):
        scaling.apply(TABLE[:50, :2])
    with pytest.raises(ValueError, match=r"x must have 3 columns"):
        scaling.undo(x[:, :1])


@pytest.mark.parametrize("deviation", [[0.2, 9.0], 9.0], ids=["columns", "one for all"])
def test_a_density_in_the_units_of_the_table(deviation: Any) -> None:
    mean, deviation = torch.tensor([3.0, -40.0]), torch.tensor(deviation)
    scaling = Scaling(mean.double(), deviation.double())
    rows = mean + deviation * torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(scaling.apply(rows)).sum(-1)
    own = torch.distributions.Normal(mean, deviation).log_prob(rows).sum(-1)
    torch.testing.assert_close(standard - scaling.scale.log().expand(2).sum().float(), own)


def test_a_read_only_table_is_read(tmp_path: Any) -> None:
    np.save(tmp_path / "table.npy", TABLE.astype(np.float32))
    x, _ = standardise(np.load(tmp_path / "table.npy", mmap_mode="r"))
    assert x.shape == (200, 3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE[:1], r"table must be \(N, D\) with at least two rows, but is \(1, 3\)"),
        (TABLE[:, 0], r"but is \(200,\)"),
        (TABLE[:, :0], r"but is \(200, 0\)"),
        (np.where(np.arange(3) == 1, np.nan, TABLE), r"column 1 \(from 0\) holds NaN"),
        ([["a", 1], ["b", 2]], "table must hold real numbers"),
    ],
)
def test_a_table_that_cannot_be_standardised_is_named(table: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        standardise(table)
