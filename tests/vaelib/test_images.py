"""Images keep to their convention, are indexed as numpy does, and are split without overlap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from statistical import assert_mean_equals
from torch import Tensor

from vaelib.images import Images, binarise, check_images, check_labels


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
def test_binarise_refuses_what_is_not_a_probability(wrong: float) -> None:
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


INDICES = [
    slice(3, 6),
    slice(254, None),
    slice(0, 0),
    slice(None, None, -50),
    slice(-3, None, 2),
    [7, 7, -1],
    [],
    range(250, 260 - 4),
    np.array([1, -256]),
    np.array([3, 200], dtype=np.uint8),
    np.arange(256) % 50 == 3,
    [i % 50 == 3 for i in range(256)],
    torch.tensor([7, 7, -1]),
    torch.tensor([7], dtype=torch.int32),
    torch.arange(256) % 50 == 3,
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_rows_are_chosen_as_numpy_does(images: Images, index: object) -> None:
    expected = np.arange(256)[np.asarray(index) if isinstance(index, Tensor) else index]
    if isinstance(index, list) and not index:
        expected = np.arange(0)
    part = images.binarise("dynamic")[index]
    assert part.labels.tolist() == part.pixels[:, 0, 0, 0].tolist() == expected.tolist()
    assert len(part) == len(expected)
    assert part.shape == (1, 2, 3)
    assert (part.name, part.split, part.convention) == ("levels", "train", "dynamic")


@pytest.mark.parametrize(
    "index", [3, -253, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)], ids=repr
)
def test_an_integer_gives_one_picture(images: Images, index: int) -> None:
    for convention in (images, images.binarise("dynamic")):
        picture = convention[index]
        assert picture.dtype == torch.float32
        assert torch.equal(picture, images.floats()[3])


def test_iteration_gives_single_pictures(images: Images) -> None:
    pictures = list(images)
    assert torch.equal(torch.stack(pictures), images.floats())
    loader = torch.utils.data.DataLoader(images, batch_size=100)  # type: ignore[arg-type]
    assert torch.equal(torch.cat(list(loader)), images.floats())


@pytest.mark.parametrize(
    "index",
    [
        256,
        -257,
        [0, 256],
        [-257],
        torch.tensor([300]),
        np.ones(255, dtype=bool),
        [True],
        range(257),
    ],
    ids=repr,
)
def test_a_row_out_of_range_is_an_index_error(images: Images, index: object) -> None:
    with pytest.raises(IndexError, match="256 images"):
        images[index]  # type: ignore[index]


@pytest.mark.parametrize(
    "index",
    [
        "a",
        True,
        None,
        1.5,
        (slice(3), 0),
        torch.tensor([1.0]),
        torch.tensor(True),
        [[1]],
        ["a"],
        {1},
    ],
    ids=repr,
)
def test_other_indices_are_refused(images: Images, index: object) -> None:
    with pytest.raises(TypeError, match="images are indexed by"):
        images[index]  # type: ignore[index]


def test_a_slice_shares_memory(images: Images) -> None:
    assert images[10:].pixels.data_ptr() == images.pixels.data_ptr() + 60


def test_read_gives_the_rows_of_labels(images: Images, generator: torch.Generator) -> None:
    index = torch.tensor([200, 3, 3], device=images.pixels.device)
    assert torch.equal(images.read(index), images.floats()[index])
    draws = torch.cat(
        [images.binarise("dynamic").read(index, generator) for _ in range(2_000)], dim=2
    )
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert_mean_equals(draws.flatten(1).T, images.labels[index] / 255)


# Labels


def test_images_need_no_labels(images: Images, generator: torch.Generator) -> None:
    bare = Images(images.pixels)
    assert repr(bare).startswith("Images(images all: 256 × (1, 2, 3), grey, ")
    assert bare[3:5].labels is bare.to("cpu").labels is None
    assert bare.binarise("static", generator).labels is None
    assert sum(len(part) for part in bare.random_split()) == 256
    assert len(list(bare.batches(100, generator))) == 3
    with pytest.raises(ValueError, match=r"train must have labels, but Images\(images all"):
        check_labels("train", bare)
    assert check_labels("train", images) is images.labels


# Splits


def test_parts_share_nothing_and_hold_everything(images: Images) -> None:
    parts = images.random_split(1, train=0.7, validation=0.2, test=0.1)
    assert [len(part) for part in parts] == [179, 51, 26]
    assert [part.split for part in parts] == ["train", "validation", "test"]
    levels = torch.cat([part.labels for part in parts])
    assert torch.equal(levels.sort().values, images.labels)
    assert all(torch.equal(part.pixels[:, 0, 0, 0].long(), part.labels) for part in parts)


def test_every_class_is_shared_out_in_proportion() -> None:
    sizes = torch.tensor([500, 3, 40, 0, 77, 10])
    labels = torch.repeat_interleave(sizes)
    images = Images(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)
    for seed in range(20):
        parts = images.random_split(seed)
        for part, share in zip(parts, (0.8, 0.1, 0.1), strict=True):
            assert len(part) == len(labels) * share
            assert ((part.labels.bincount(minlength=6) - share * sizes).abs() <= 2).all()


def test_a_split_is_random_and_replays(images: Images) -> None:
    one, again, other = (images.random_split(seed)[0].labels for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert torch.equal(one, images.random_split(seeded(0))[0].labels)
    assert not torch.equal(one, other)
    # Each image is as likely to be in each part, whatever its place and class.
    some = images[:30]
    classes = Images(some.pixels, torch.arange(30).to(some.pixels.device) % 3, "three", "all")
    generator, ids = seeded(), some.pixels[:, 0, 0, 0].long()
    seen = []
    for _ in range(4_000):
        _, _, test = classes.random_split(generator, train=0.7, validation=0.2, test=0.1)
        seen.append(torch.isin(ids, test.pixels[:, 0, 0, 0].long()).float())
    assert_mean_equals(torch.stack(seen), torch.tensor(0.1))


def test_parts_may_be_empty(images: Images) -> None:
    train, validation, test = images.random_split(0, train=0.5, validation=0.5, test=0)
    assert (len(train), len(validation), len(test)) == (128, 128, 0)
    assert [len(part) for part in images[:0].random_split()] == [0, 0, 0]


@pytest.mark.parametrize("wrong", [-0.1, 1.5, "all", None, True, float("nan")])
def test_a_share_is_named(images: Images, wrong: float) -> None:
    with pytest.raises(ValueError, match="validation must be a share from 0 to 1, not"):
        images.random_split(validation=wrong)
    with pytest.raises(ValueError, match=r"must add up to 1, not 0\.9"):
        images.random_split(train=0.7)


# Seeds


def test_an_integer_is_a_seed(images: Images) -> None:
    dynamic = images.binarise("dynamic")
    assert torch.equal(dynamic.floats(3), dynamic.floats(seeded(3)))
    assert torch.equal(
        images.binarise("static", 3).pixels, images.binarise("static", seeded(3)).pixels
    )
    one, other = torch.cat(list(dynamic.batches(100, 3))), dynamic.batches(100, seeded(3))
    assert torch.equal(one, torch.cat(list(other)))
    p = torch.full((1_000,), 0.5)
    assert torch.equal(binarise(p, 3), binarise(p, seeded(3)))
    for wrong in (1.5, -1, "0", True):
        with pytest.raises(ValueError, match=r"generator must be a torch\.Generator or a seed"):
            dynamic.floats(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"generator must be a torch\.Generator or a seed"):
            binarise(p, wrong)  # type: ignore[arg-type]


# Dynamic pixels


def test_a_pixel_is_drawn_with_its_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all values of the sixteen bits, so exactly."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    monkeypatch.setattr(
        Tensor, "random_", lambda self, *_, **__: self.copy_(every.view(torch.int64))
    )
    worst = 0.0
    for level in (0, 1, 2, 64, 127, 128, 200, 253, 254, 255):
        pixels = torch.full((2**16, 1, 1, 1), level, dtype=torch.uint8)
        drawn = Images(pixels).binarise("dynamic").floats(0)
        assert ((drawn == 0) | (drawn == 1)).all()
        error = drawn.double().mean().item() - level / 255
        assert error == 0 or level not in (0, 255)
        worst = max(worst, abs(error))
    assert worst < 1.6e-5


def test_pixels_are_drawn_independently(generator: torch.Generator) -> None:
    # Four neighbours share one draw of 64 bits.
    pixels = torch.full((20_000, 1, 1, 8), 77, dtype=torch.uint8, device=generator.device)
    x = Images(pixels).binarise("dynamic").floats(generator).flatten(1) - 77 / 255
    products = torch.stack([x[:, i] * x[:, j] for i in range(8) for j in range(i)], dim=1)
    assert_mean_equals(products, 77 / 255 * 1.6e-5)
    assert_mean_equals(x[1:] * x[:-1], 77 / 255 * 1.6e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_any_number_of_pixels_is_drawn(n: int) -> None:
    white = Images(torch.full((n, 1, 1, 1), 255, dtype=torch.uint8)).binarise("dynamic")
    assert white.floats(0).flatten().tolist() == [1.0] * n


def test_a_cpu_generator_draws_the_same_pixels_for_every_device(
    images: Images, device: torch.device
) -> None:
    drawn = images.binarise("dynamic").floats(seeded(1)).cpu()
    assert torch.equal(drawn, images.to("cpu").binarise("dynamic").floats(seeded(1)))


def test_strides_do_not_change_what_is_drawn() -> None:
    last = torch.randint(0, 256, (10, 4, 5, 3), generator=seeded()).to(torch.uint8)
    view = Images(last.permute(0, 3, 1, 2)).binarise("dynamic")
    plain = Images(view.pixels.contiguous()).binarise("dynamic")
    assert torch.equal(view.floats(0), plain.floats(0))


# Memory maps


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    path = tmp_path / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8))
    return path


def test_a_memory_map_is_shared_and_never_written_to(
    mapped: Path, generator: torch.Generator
) -> None:
    # A warning would be an error here, and writing to the map end the process.
    before = mapped.read_bytes()
    array = np.load(mapped, mmap_mode="r")
    images = Images.from_array(array, name="map")
    assert images.pixels.data_ptr() == array.ctypes.data
    plain = Images.from_array(np.array(array))
    assert torch.equal(images.floats(), plain.floats())
    assert torch.equal(images[3], plain[3])
    dynamic = images.binarise("dynamic")
    assert dynamic.floats(0).shape == (50, 3, 8, 8)
    assert torch.equal(
        torch.cat(list(dynamic.batches(7, 0))),
        torch.cat(list(plain.binarise("dynamic").batches(7, 0))),
    )
    static = images.binarise("static", 0)
    assert torch.equal(static.pixels, plain.binarise("static", 0).pixels)
    train, _, _ = images.random_split(0)
    train.pixels.zero_()  # a copy
    del array, images  # the map lives as long as somebody reads from it
    assert dynamic[:2].floats(0).unique().tolist() == [0.0, 1.0]
    assert mapped.read_bytes() == before


def test_binary_pixels_of_a_memory_map_are_checked_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelib.images._BLOCK", 64)
    path = tmp_path / "binary.npy"
    pixels = np.zeros((50, 4, 4), dtype=np.uint8)
    pixels[::2] = 255
    for spoilt in (False, True):
        pixels[49, 3, 3] = 254 if spoilt else 255
        np.save(path, pixels)
        array = Images.from_array(np.load(path, mmap_mode="r")).pixels
        if not spoilt:
            assert len(Images(array, convention="static")) == 50
        else:
            with pytest.raises(ValueError, match="pixels that are 0 or 255"):
                Images(array, convention="static")


@pytest.mark.slow
def test_memory_follows_the_minibatch(tmp_path: Path) -> None:
    """Of a map of 200 MB no more than some minibatches are in memory of the process's own."""
    program = """
import sys
import numpy as np
from pathlib import Path
from vaelib import Images

def own_memory():  # MB that belong to the process, not to the file
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024

pixels = np.lib.format.open_memmap(sys.argv[1], "w+", np.uint8, (2_000, 3, 180, 185))
pixels[:, :, 90] = 255
del pixels
warm = Images.from_array(np.zeros((20, 3, 180, 185), dtype=np.uint8)).binarise("dynamic")
list(warm.batches(10, 0))
before = own_memory()
images = Images.from_array(np.load(sys.argv[1], mmap_mode="r")).binarise("dynamic")
most = 0.0
for x in images.batches(10, 0):
    most = max(most, own_memory())
Images(images.pixels, convention="static")
for x in images[:1000].batches(10, shuffle=False, generator=0):
    most = max(most, own_memory())
print(most - before)
Path(sys.argv[1]).unlink()
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("counts memory as Linux does")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "large.npy")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
    )
    # A minibatch of 10 is 4 MB as floats; the check of binary pixels takes 16 MB at a time.
    assert float(done.stdout) < 50


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
        with pytest.raises(ValueError, match="start again from the grey"):
            static.binarise(convention, seeded())
    with pytest.raises(ValueError, match=r"\"dynamic\" or \"static\", not 'grey'"):
        images.binarise("grey")  # type: ignore[arg-type]
    Images(images.pixels[[0, 255]], images.labels[:2], "levels", "train", "static")
    for grey in range(1, 255):
        with pytest.raises(ValueError, match="needs pixels that are 0 or 255"):
            Images(images.pixels[[0, grey]], images.labels[:2], "levels", "train", "static")
    with pytest.raises(ValueError, match=r"one of \('grey', 'dynamic', 'static'\)"):
        Images(images.pixels, images.labels, "levels", "train", "gray")  # type: ignore[arg-type]


def test_tensors_that_are_not_images_are_refused(images: Images) -> None:
    pixels, labels = images.pixels, images.labels
    with pytest.raises(ValueError, match=r"pixels must be uint8, .*float32: .*from_array"):
        Images(pixels / 255, labels, "levels", "train")
    with pytest.raises(ValueError, match=r"labels must be \(256,\) int64, .* \(256,\) torch.int32"):
        Images(pixels, labels.int(), "levels", "train")
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), but are \(256, 2, 3\)"):
        Images(pixels[:, 0], labels, "levels", "train")
    with pytest.raises(ValueError, match=r"labels must be \(256,\) .* are \(255,\)"):
        Images(pixels, labels[:-1], "levels", "train")
    with pytest.raises(ValueError, match=r"labels must be on .* not meta"):
        Images(pixels, labels.to("meta"), "levels", "train")
    with pytest.raises(ValueError, match="labels must be a tensor, but is list"):
        Images(pixels, labels.tolist(), "levels", "train")  # type: ignore[arg-type]


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


def test_images_that_a_model_cannot_take_are_named() -> None:
    images = Images(torch.zeros(5, 1, 4, 3, dtype=torch.uint8))
    check_images((1, 4, 3), train=images, test=images)
    with pytest.raises(ValueError, match=r"^train must hold at least one image, but is empty"):
        check_images(train=images[:0])
    with pytest.raises(ValueError, match=r"^test must have .* \(1, 3, 4\), but has \(1, 4, 3\)"):
        check_images([1, 3, 4], test=images)
