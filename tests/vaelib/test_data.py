"""Data sets with a name: their splits are fixed, disjoint and in proportion."""

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

from vaelib.data import Images, available_datasets, load_dataset

OFFLINE = [info.name for info in available_datasets() if info.offline]
SPLITS = ["train", "validation", "test"]


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
