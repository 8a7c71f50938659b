"""Images keep to their convention, minibatches visit each once, splits are fixed and disjoint."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from statistical import assert_mean_equals
from torch import Tensor

from vaelib.data import Images, available_datasets, binarise, load_dataset

OFFLINE = [info.name for info in available_datasets() if info.offline]
SPLITS = ["train", "validation", "test"]


def seeded(seed: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


@pytest.fixture
def images(device: torch.device) -> Images:
    """256 images of 2 × 3 pixels: image i is grey level i, and its label is i."""
    levels = torch.arange(256, device=device)
    pixels = levels.to(torch.uint8)[:, None, None, None].repeat(1, 1, 2, 3)
    return Images(pixels, levels, "levels", "train")


def visited(batches: list[Tensor]) -> Tensor:
    """The levels that grey `batches` of `images` show, in order."""
    return torch.cat(batches)[:, 0, 0, 0].mul(255).round().long()


# binarise


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_binarise_draws_with_the_given_mean(
    dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> None:
    p = torch.tensor([0.0, 1 / 255, 0.3, 0.5, 0.997, 1.0], device=device, dtype=dtype)
    draws = binarise(p.expand(40_000, 6), generator)
    assert draws.dtype == dtype
    assert draws.device == p.device
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert not draws[:, 0].any()
    assert draws[:, -1].all()
    assert_mean_equals(draws.double(), p.double())


def test_no_noise_lights_a_pixel_of_probability_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch.rand is 0 once in 2²⁴ draws.
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    assert binarise(torch.tensor([0.0, 0.1, 1.0]), seeded()).tolist() == [0, 1, 1]


def test_binarise_draws_pixels_independently(generator: torch.Generator) -> None:
    p = torch.full((40_000, 4), 0.3)
    x = binarise(p.to(generator.device), generator) - 0.3
    products = torch.stack([x[:, i] * x[:, j] for i in range(4) for j in range(i)], dim=1)
    assert_mean_equals(products, 0.0)
    assert_mean_equals(x[1:] * x[:-1], 0.0)


def test_a_cpu_generator_draws_the_same_for_every_device(device: torch.device) -> None:
    p = torch.rand(1_000, generator=seeded())
    assert torch.equal(binarise(p.to(device), seeded(1)).cpu(), binarise(p, seeded(1)))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_binarise_refuses_what_is_no_probability(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        binarise(torch.tensor([0.5, wrong]), seeded())
    with pytest.raises(ValueError, match=r"uint8.*divide pixels by 255"):
        binarise(torch.tensor([0, 255], dtype=torch.uint8), seeded())


# Images


def test_grey_floats_are_pixels_over_255(images: Images) -> None:
    x = images.floats()
    assert x.dtype == torch.float32
    assert x.shape == (256, 1, 2, 3)
    np.testing.assert_allclose(x[:, 0, 1, 2].cpu(), np.arange(256) / 255, rtol=2e-7)
    assert x.min() == 0  # the ends exactly, so that they are binary under every convention
    assert x.max() == 1


def test_dynamic_floats_are_bernoulli_draws_that_change_with_each_reading(
    images: Images, generator: torch.Generator
) -> None:
    dynamic = images.binarise("dynamic")
    assert torch.equal(dynamic.pixels, images.pixels)
    draws = torch.cat([dynamic.floats(generator) for _ in range(400)], dim=2)  # 256, 1, 800, 3
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert_mean_equals(draws.flatten(1).T, images.labels / 255)
    first, second, again = (
        dynamic.floats(noise) for noise in (generator, generator, seeded(0, generator.device))
    )
    assert not torch.equal(first, second)
    generator.manual_seed(0)
    assert torch.equal(again, dynamic.floats(generator))


def test_static_draws_once(images: Images, generator: torch.Generator) -> None:
    many = images[torch.arange(256).repeat(300)]
    static = many.binarise("static", generator)
    assert static.convention == "static"
    assert torch.equal(static.floats(), static.floats())
    assert set(static.floats().unique().tolist()) == {0.0, 1.0}
    assert set(static.pixels.unique().tolist()) == {0, 255}
    draws = static.floats().reshape(300, 256, 6).transpose(1, 2).reshape(1_800, 256)
    assert_mean_equals(draws, images.labels / 255)
    assert torch.equal(static.pixels, many.binarise("static", seeded(0, generator.device)).pixels)


def test_index_takes_images_with_their_labels(images: Images) -> None:
    mask = images.labels % 50 == 3
    chosen: list[tuple[slice | Tensor, list[int]]] = [
        (slice(3, 6), [3, 4, 5]),
        (slice(254, None), [254, 255]),
        (torch.tensor([7, 7, -1]), [7, 7, 255]),
        (mask, [3, 53, 103, 153, 203, 253]),
        (slice(0, 0), []),
    ]
    for index, expected in chosen:
        part = images.binarise("dynamic")[index]
        assert part.labels.tolist() == expected
        assert part.pixels[:, 0, 0, 0].tolist() == expected
        assert len(part) == len(expected)
        assert part.shape == (1, 2, 3)
        assert (part.name, part.split, part.convention) == ("levels", "train", "dynamic")


@pytest.mark.parametrize("index", [3, "a", (slice(3), 0), torch.tensor([1.0]), torch.tensor(1)])
def test_other_indices_are_refused(images: Images, index: object) -> None:
    with pytest.raises(TypeError, match=r"slice or a tensor|1-d of bool"):
        images[index]  # type: ignore[index]


def test_to_moves_pixels_and_labels(images: Images, device: torch.device) -> None:
    there_and_back = images.to("cpu").to(device)
    assert there_and_back.pixels.device == there_and_back.labels.device == images.pixels.device
    assert torch.equal(there_and_back.pixels, images.pixels)


def test_repr_is_one_line(images: Images) -> None:
    assert repr(images).startswith("Images(levels train: 256 × (1, 2, 3), grey, ")


def test_misused_conventions_say_what_to_do(images: Images) -> None:
    dynamic = images.binarise("dynamic")
    static = images.binarise("static", seeded())
    with pytest.raises(ValueError, match=r"floats of \"dynamic\" images .*Generator\(\)"):
        dynamic.floats()
    with pytest.raises(ValueError, match=r"batches of \"dynamic\" images .*Generator\(\)"):
        dynamic.batches(8, shuffle=False)
    with pytest.raises(ValueError, match=r"binarise\(\"static\"\) .* needs a generator"):
        images.binarise("static")
    for convention in ("dynamic", "static"):
        with pytest.raises(ValueError, match=r"start again .* load_dataset\('levels', 'train'\)"):
            static.binarise(convention, seeded())
    with pytest.raises(ValueError, match=r"\"dynamic\" or \"static\", got 'grey'"):
        images.binarise("grey")  # type: ignore[arg-type]
    Images(images.pixels[[0, 255]], images.labels[:2], "levels", "train", "static")
    for grey in range(1, 255):
        with pytest.raises(ValueError, match="needs pixels that are 0 or 255"):
            Images(images.pixels[[0, grey]], images.labels[:2], "levels", "train", "static")
    with pytest.raises(ValueError, match=r"one of \('grey', 'dynamic', 'static'\)"):
        Images(images.pixels, images.labels, "levels", "train", "gray")  # type: ignore[arg-type]


def test_tensors_that_are_no_images_are_refused(images: Images) -> None:
    pixels, labels = images.pixels, images.labels
    with pytest.raises(ValueError, match="pixels must be uint8"):
        Images(pixels / 255, labels, "levels", "train")
    with pytest.raises(ValueError, match=r"labels int64, got torch.uint8 and"):
        Images(pixels, labels.int(), "levels", "train")
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        Images(pixels[:, 0], labels, "levels", "train")
    with pytest.raises(ValueError, match=r"labels \(N,\)"):
        Images(pixels, labels[:-1], "levels", "train")
    with pytest.raises(ValueError, match="on meta"):
        Images(pixels, labels.to("meta"), "levels", "train")


# Minibatches


@pytest.mark.parametrize("batch_size", [1, 64, 100, 256, 1_000])
def test_batches_visit_each_image_once(
    images: Images, generator: torch.Generator, batch_size: int
) -> None:
    batches = list(images.batches(batch_size, generator))
    sizes = [len(x) for x in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= batch_size
    assert all(x.dtype == torch.float32 and x.shape[1:] == (1, 2, 3) for x in batches)
    assert torch.equal(visited(batches).sort().values, images.labels)
    assert not torch.equal(visited(batches), images.labels)


def test_batches_in_order(images: Images) -> None:
    batches = list(images.batches(100, shuffle=False))
    assert torch.equal(torch.cat(batches), images.floats())


def test_every_order_is_as_likely() -> None:
    images = Images(
        torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1), torch.arange(3), "three", "train"
    )
    generator = seeded()
    orders = [visited(list(images.batches(3, generator))) for _ in range(6_000)]
    code = torch.stack(orders) @ torch.tensor([9, 3, 1])
    counts = torch.nn.functional.one_hot(code).float()
    assert_mean_equals(counts[:, counts.any(0)], torch.full((6,), 1 / 6))


@pytest.mark.parametrize("convention", ["grey", "dynamic"])
def test_batches_replay(images: Images, generator: torch.Generator, convention: str) -> None:
    if convention == "dynamic":
        images = images.binarise("dynamic")
    first, second = list(images.batches(100, generator)), list(images.batches(100, generator))
    generator.manual_seed(0)
    again = list(images.batches(100, generator))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(torch.cat(first), torch.cat(second))


def test_dynamic_batches_are_bernoulli_draws(images: Images, generator: torch.Generator) -> None:
    epochs = [
        torch.cat(list(images.binarise("dynamic").batches(100, generator, shuffle=False)))
        for _ in range(400)
    ]
    assert_mean_equals(torch.cat(epochs, dim=2).flatten(1).T, images.labels / 255)


def test_no_images_no_batches(images: Images) -> None:
    assert list(images[:0].batches(8, seeded())) == []


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "8"])
def test_bad_batch_size_is_refused_at_the_call(images: Images, batch_size: int) -> None:
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1, not"):
        images.batches(batch_size, seeded())


def test_shuffling_needs_a_generator(images: Images) -> None:
    with pytest.raises(ValueError, match=r"shuffle=True .* needs a generator"):
        images.batches(8)


# Data sets


def fingerprint(images: Images) -> str:
    return hashlib.sha256(images.pixels.numpy().tobytes() + bytes(images.labels)).hexdigest()


@pytest.mark.parametrize("info", available_datasets()[:4], ids=lambda info: info.name)
def test_offline_data_sets_are_as_announced(info) -> None:
    for split, size in info.sizes.items():
        images = load_dataset(info.name, split)
        assert len(images) == size
        assert images.shape == info.shape
        assert (images.name, images.split, images.convention) == (info.name, split, "grey")
        assert images.pixels.is_contiguous()
        assert images.pixels.min() < 20
        assert images.pixels.max() > 235


@pytest.mark.parametrize("name", ["mnist5k", "digits", "faces"])
def test_splits_are_disjoint_and_stratified(name: str) -> None:
    splits = [load_dataset(name, split) for split in SPLITS]
    rows = torch.cat([images.pixels.flatten(1) for images in splits])
    assert len(rows.unique(dim=0)) == len(rows)  # no image twice
    total = torch.cat([images.labels for images in splits]).bincount()
    # One in ten, counted through the classes, is off by less than one; training has the rest.
    for images, share, off in zip(splits, (0.8, 0.1, 0.1), (2, 1, 1), strict=True):
        assert ((images.labels.bincount() - share * total).abs() < off).all()


def test_mnist5k_mixes_its_classes() -> None:
    train = load_dataset()
    assert train.labels[:20].tolist() == [*range(10), *range(10)]
    assert train.labels.bincount().tolist() == [400] * 10


def test_patches_of_two_splits_share_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    # Photographs in which every pixel is unlike all others: its three bytes are its number.
    import skimage.data

    names = {"astronaut": (512, 512), "chelsea": (300, 451), "coffee": (400, 600)}
    for i, (name, (height, width)) in enumerate({**names, "rocket": (427, 640)}.items()):
        number = np.arange(height * width).reshape(height, width) + (i << 22)
        image = np.stack([number >> 16, number >> 8, number], axis=-1).astype(np.uint8)
        monkeypatch.setattr(skimage.data, name, lambda image=image: image)
    seen = {}
    for split in SPLITS:
        red, green, blue = load_dataset("patches", split).pixels.long().unbind(1)
        number = (red << 16) + (green << 8) + blue
        assert (number[:, :, 1:] - number[:, :, :-1] == 1).all()  # neighbours stay neighbours
        seen[split] = number.unique()
        if split != "train":
            assert seen[split].numel() == number.numel()  # and do not overlap
    everything = torch.cat(list(seen.values()))
    assert everything.numel() == everything.unique().numel()


def test_offline_data_is_the_same_in_every_process_and_imported_late() -> None:
    here = {name: [fingerprint(load_dataset(name, s)) for s in SPLITS] for name in OFFLINE}
    program = f"""
import json, sys, hashlib, torch
from vaelib.data import load_dataset
late = "mlxtend sklearn skimage PIL pandas scipy filelock".split()
loaded = [name for name in late if name in sys.modules]
torch.manual_seed(12345)
load_dataset()
loaded += [name for name in late if name in sys.modules]  # the cached default needs none either
{fingerprint_source()}
print(json.dumps([loaded, {{
    name: [fingerprint(load_dataset(name, split)) for split in {SPLITS}] for name in {OFFLINE}
}}]))
"""
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert json.loads(done.stdout) == [[], here]


def fingerprint_source() -> str:
    import inspect

    return inspect.getsource(fingerprint).replace("Images", "object")


def test_unknown_names_and_splits_list_the_known() -> None:
    with pytest.raises(ValueError, match=r"mnist5k, digits, .*got 'MNIST' \(did you mean 'mnist'"):
        load_dataset("MNIST")
    with pytest.raises(ValueError, match="did you mean 'fashion-mnist'"):
        load_dataset("fashion_mnist")
    with pytest.raises(ValueError, match=r"name must be one of .*; got 'xyz'$"):
        load_dataset("xyz")
    with pytest.raises(ValueError, match=r"train, validation, test; got 'val' .* 'validation'"):
        load_dataset("mnist5k", "val")


def test_images_are_put_on_the_device(device: torch.device) -> None:
    images = load_dataset("digits", "test", device=device)
    assert images.pixels.device.type == images.labels.device.type == device.type


def test_full_mnist_from_the_users_folder() -> None:
    folder = os.environ.get("VAELIB_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("VAELIB_DATA names no folder with mnist/")
    train, validation, test = (load_dataset("mnist", split) for split in SPLITS)
    assert (len(train), len(validation), len(test)) == (55_000, 5_000, 10_000)
    official = torch.cat([train.floats(), validation.floats()]).double()
    assert official.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert official.std().item() == pytest.approx(0.3081, abs=5e-5)
    total = torch.cat([train.labels, validation.labels]).bincount()
    assert ((validation.labels.bincount() - total / 12).abs() <= 1).all()
    # The default data set is a part of the training set, so that MNIST's test set stays unseen.
    known = {x.tobytes() for x in torch.cat([train.pixels, validation.pixels]).numpy()}
    assert all(
        x.tobytes() in known
        for split in SPLITS
        for x in load_dataset("mnist5k", split).pixels.numpy()
    )
