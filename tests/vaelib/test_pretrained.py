"""The models that ship: what their records say is found again, and the package holds them."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from statistical import z_threshold
from torch import Tensor, nn

import vaelib
from vaelib import (
    Images,
    LatentExplorer,
    evaluate_elbo,
    load_dataset,
    log_likelihood,
    reconstruction_error,
)
from vaelib.baselines import PixelCNN, frechet_distance
from vaelib.pretrained import Measurement, Pretrained, Record, pretrained, write_pretrained

RECORDS = pretrained.available()
MEGABYTE = 1_000_000


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def elbo(model: Any, images: Images, seed: int, samples: int) -> Tensor:
    return evaluate_elbo(model, images, seeded(seed), samples=samples).per_example


@torch.no_grad()
def log_p(model: Any, images: Images, seed: int, samples: int) -> Tensor:
    if isinstance(model, PixelCNN):
        batches = images.batches(250, seeded(seed), shuffle=False)
        return torch.cat([model.log_prob(x) for x in batches])
    return log_likelihood(model, images, seeded(seed), samples=samples).per_example


@torch.no_grad()
def squared_error(model: Any, images: Images, seed: int, samples: int) -> Tensor:
    x = images.floats()
    return reconstruction_error(x, model(x))


def accuracy(model: Any, images: Images, seed: int, samples: int) -> Tensor:
    return model.accuracy(images, seed).double()


MEASURED: dict[str, Callable[[Any, Images, int, int], Tensor]] = {
    "ELBO": elbo,
    "log p(x)": log_p,
    "squared error": squared_error,
    "accuracy": accuracy,
}


def measurements(of_data: str) -> list[Any]:
    """Those that are means of one value per image, each a test; slow ones are marked."""
    return [
        pytest.param(
            name,
            measured,
            marks=[pytest.mark.slow] if measured.samples > 1 or record.model == "PixelCNN" else [],
            id=f"{name}: {measured.quantity}, {measured.convention}",
        )
        for name, record in RECORDS.items()
        for measured in record.measurements
        if measured.data.startswith(of_data) and measured.quantity in MEASURED
    ]


def images_of(measured: Measurement) -> Images:
    name, _, split = measured.data.rpartition(" ")
    images = load_dataset(name, split)
    return images if measured.convention == "grey" else images.binarise(measured.convention)


def has_mnist() -> bool:
    folder = os.environ.get("VAELIB_DATA")
    return folder is not None and (Path(folder) / "mnist").is_dir()


def test_parameters_are_float32_whatever_torch_gives_new_ones() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        model = pretrained("mnist-plane")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in (*model.parameters(), *model.buffers())} == {torch.float32}


@pytest.mark.parametrize(("name", "measured"), measurements("mnist5k"))
def test_finds_its_numbers_again_on_data_that_ships(name: str, measured: Measurement) -> None:
    # The same images with other draws, of pixels and of z: how far apart two of them lie for each
    # image says how far their means may lie from the record's. False alarms: FALSE_ALARM a model.
    again = MEASURED[measured.quantity]
    model, images = pretrained(name), images_of(measured)
    assert len(images) == measured.images
    first, second = (again(model, images, seed, measured.samples).double() for seed in (101, 102))
    mean = (first + second).mean() / 2
    noise = (first - second).square().mean().div(2 * len(images)).sqrt()  # of one mean
    allowed = z_threshold() * noise * math.sqrt(1 + 1 / 2)
    # Another processor adds in another order, and the record is rounded to four digits.
    assert abs(mean - measured.value) <= allowed + 1e-3


@pytest.mark.skipif(not has_mnist(), reason="needs the whole of MNIST in VAELIB_DATA")
@pytest.mark.parametrize(("name", "measured"), measurements("mnist "))
def test_finds_its_numbers_again_on_the_test_images(name: str, measured: Measurement) -> None:
    # Of some images, drawn at random: their mean may lie as far from that of all as a sample's
    # does. False alarms: FALSE_ALARM a model.
    n = 100 if measured.samples > 1 else 1000
    images = images_of(measured)
    assert len(images) == measured.images
    chosen = torch.randperm(len(images), generator=seeded(101))[:n]
    values = MEASURED[measured.quantity](
        pretrained(name), images[chosen], 102, measured.samples
    ).double()
    # The record knows the spread of all images better than a few of them do.
    spread = measured.standard_error * math.sqrt(measured.images)
    assert abs(values.mean() - measured.value) <= z_threshold() * spread / math.sqrt(n) + 1e-3


@pytest.mark.slow
@pytest.mark.skipif("mnist-gan" not in RECORDS, reason="is not trained yet")
def test_the_generator_draws_what_the_classifier_takes_for_digits() -> None:
    gan, judge = pretrained("mnist-gan"), pretrained("mnist-classifier")
    real = load_dataset("mnist5k").floats()[:2000]
    samples = gan.sample(2000, seeded(0))
    noise = torch.rand(2000, 1, 28, 28, generator=seeded(0))
    with torch.no_grad():
        distances = [
            frechet_distance(judge.features(x), judge.features(real))
            for x in (samples, noise, real.roll(8, dims=3))
        ]
        likeliest = judge(samples).softmax(1)
    assert distances[0] < 0.2 * min(distances[1:])
    assert likeliest.amax(1).mean() > 0.8
    # All ten digits are drawn, none of them more than twice as often as it should be.
    counts = likeliest.argmax(1).bincount(minlength=10) / len(samples)
    assert counts.min() > 0.02
    assert counts.max() < 0.2


@pytest.mark.skipif("mnist-plane" not in RECORDS, reason="is not trained yet")
def test_the_plane_can_be_explored() -> None:
    model, images = pretrained("mnist-plane"), load_dataset("mnist5k", "test")
    codes = model.encoder(images.binarise("dynamic").floats(seeded(0))).mean.detach()
    assert "500 codes" in repr(LatentExplorer(model, codes, images.labels))


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_tells_what_the_model_is(name: str) -> None:
    record, model = RECORDS[name], pretrained(name)
    assert record.name == name
    assert type(model).__name__ == record.model
    assert sum(parameter.numel() for parameter in model.parameters()) == record.parameters
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(module.training for module in model.modules())
    assert record.recipe == f"python -m recipes.{name.replace('-', '_')}"
    assert record.hours > 0
    assert record.epochs > 0
    assert record.measurements
    assert all(measured.standard_error >= 0 for measured in record.measurements)
    for text in (str(record), str(record.measurements[0])):
        assert record.measurements[0].quantity in text


def test_the_files_are_small() -> None:
    sizes = [path.stat().st_size for path in pretrained.folder.glob("*.safetensors")]
    assert len(sizes) == len(RECORDS)
    assert max(sizes) <= 4 * MEGABYTE
    assert sum(sizes) <= 20 * MEGABYTE


def test_loading_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    pretrained("mnist-classifier")
    assert torch.equal(torch.rand(1), expected)


def test_two_models_share_nothing() -> None:
    one, other = pretrained("mnist-classifier"), pretrained("mnist-classifier")
    with torch.no_grad():
        next(one.parameters()).zero_()
    assert next(other.parameters()).abs().sum() > 0


def test_names_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"^name must be one of .*mnist-classifier.*, not 'mnits'"):
        pretrained("mnits")
    with pytest.raises(ValueError, match=r"^name must be one of .*, not '\.\./weights/mnist"):
        pretrained("../weights/mnist-classifier")
    with pytest.raises(ValueError, match=r"^device"):
        pretrained("mnist-classifier", device="abacus")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_written_is_read(dtype: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vaelib.VAE((1, 4, 4), latent_dim=2, hidden=[3])
    measured = Measurement("ELBO", -1.5, 0.1, "nats per image", "digits test", "dynamic", 9)
    record = replace(
        RECORDS["mnist-classifier"],
        name="a-model",
        model="VAE",
        arguments=model.arguments,
        dtype=dtype,
        measurements=(measured,),
    )
    write_pretrained(tmp_path, record, model.state_dict())
    shelf = Pretrained(tmp_path)
    assert shelf.available() == {"a-model": record}
    read: nn.Module = shelf("a-model")
    for name, value in model.state_dict().items():
        stored = value.to(getattr(torch, dtype)).float()
        assert torch.equal(read.state_dict()[name], stored)


def test_a_measurement_says_what_it_is_beside() -> None:
    measured = Measurement(
        "ELBO", -90.0, 0.1, "nats per image", "mnist test", "dynamic", 10, 1, "PPCA: −100"
    )
    assert str(measured) == (
        "ELBO = -90.00 ± 0.10 nats per image (mnist test, dynamic, 10 images); "
        "for comparison: PPCA: −100"
    )


def test_a_record_is_plain_values() -> None:
    for path in pretrained.folder.glob("*.json"):
        assert Record.read(path) == RECORDS[path.stem]


@pytest.mark.slow
def test_the_wheel_holds_the_models(tmp_path: Path) -> None:
    root, copy = Path(__file__).parents[2], tmp_path / "copy"  # building leaves files behind
    shutil.copytree(root / "vaelib", copy / "vaelib")
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / file, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(copy)], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("vaelib-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in RECORDS:
        assert f"vaelib/weights/{name}.safetensors" in names
        assert f"vaelib/weights/{name}.json" in names
