"""A folder of pictures is read whole, in order and upright, and a bad file is named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaelib import folders
from vaelib.images import Images

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(colour: object = RED, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two red pictures and a blue one in sub-folders, with what does not belong beside them."""
    root = tmp_path / "colours"
    for name, colour in (("red/b.png", RED), ("red/deep/a.PNG", RED), ("blue/a.png", BLUE)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(colour).save(root / name)
    (root / "notes.txt").write_text("a text\n")
    (root / "red" / "._b.png").write_bytes(b"a copy that macOS makes")
    (root / ".cache").mkdir()
    picture(GREEN).save(root / ".cache" / "a.png")
    return root


def test_pictures_come_in_the_order_of_their_paths_with_their_folder_as_label(
    folder: Path,
) -> None:
    images = Images.from_folder(folder)
    assert repr(images) == "Images(colours all: 3 × (3, 4, 6), grey, cpu)"
    assert images.floats()[:, :, 0, 0].tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert images.labels.tolist() == [0, 1, 1]
    assert images.classes == ("blue", "red")
    assert images[1:].classes == ("blue", "red")
    assert images.pixels.is_contiguous()
    bare = Images.from_folder(str(folder), labels=False, name="mine")
    assert bare.labels is None
    assert bare.name == "mine"


def test_a_zip_file_is_read_like_the_folder(folder: Path, tmp_path: Path) -> None:
    # Once with the pictures at the top, once with the folder itself in the archive.
    for root, base in ((folder, None), (tmp_path, "colours")):
        archive = shutil.make_archive(str(tmp_path / "packed"), "zip", root, base)
        images = Images.from_folder(archive)
        assert images.name == "packed"
        assert torch.equal(images.pixels, Images.from_folder(folder).pixels)
        assert images.labels.tolist() == [0, 1, 1]
        Path(archive).unlink()


def test_links_to_pictures_are_read_and_links_to_folders_are_not(
    folder: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "blue.png").symlink_to(folder / "blue" / "a.png")
    (linked / "red").symlink_to(folder / "red")
    (linked / "circle").symlink_to(linked)
    assert len(Images.from_folder(linked)) == 1


@pytest.mark.parametrize(
    ("names", "labelled"),
    [
        (["a.png", "b.png"], False),
        (["one/a.png", "one/b.png"], False),  # one class is none
        (["one/a.png", "two/b.png"], False),  # a folder for each picture
        (["one/a.png", "one/b.png", "c.png"], False),
        (["one/a.png", "one/b.png", "two/c.png"], True),
        (["all/one/a.png", "all/one/b.png", "all/two/c.png"], True),
    ],
)
def test_labels_are_given_where_folders_are_classes(
    tmp_path: Path, names: list[str], labelled: bool
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(tmp_path / name)
    images = Images.from_folder(tmp_path)
    assert (images.labels is not None) == labelled
    if labelled:
        assert images.labels.tolist() == [0, 0, 1]
        assert images.classes == ("one", "two")
    elif names == ["one/a.png", "two/b.png"]:
        assert Images.from_folder(tmp_path, labels=True).labels.tolist() == [0, 1]
    else:
        with pytest.raises(ValueError, match="labels need at least two sub-folders"):
            Images.from_folder(tmp_path, labels=True)


def test_grey_pictures_have_one_channel_unless_asked(tmp_path: Path) -> None:
    picture(77, mode="L").save(tmp_path / "a.png")
    picture(255, mode="1").save(tmp_path / "b.png")
    assert Images.from_folder(tmp_path).pixels[:, 0, 0, 0].tolist() == [77, 255]
    assert Images.from_folder(tmp_path, colour=True).shape == (3, 4, 6)
    picture(GREEN).save(tmp_path / "c.png")
    assert Images.from_folder(tmp_path).shape == (3, 4, 6)
    assert Images.from_folder(tmp_path, colour=False).shape == (1, 4, 6)
    picture((0, 0, 255, 9), mode="RGBA").save(tmp_path / "d.png")
    picture().convert("P").save(tmp_path / "e.gif")
    assert Images.from_folder(tmp_path)[3:].floats()[:, :, 0, 0].tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("suffix", ["bmp", "jpg", "png", "ppm", "tiff", "webp"])
def test_a_decoded_picture_is_what_pillow_shows(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    shown = np.asarray(Image.open(tmp_path / f"a.{suffix}").convert("RGB"))
    np.testing.assert_array_equal(Images.from_folder(tmp_path).pixels[0].permute(1, 2, 0), shown)


def test_the_middle_is_cut_out_and_resized(tmp_path: Path) -> None:
    # Blue, a red square in the middle, blue.
    wide = picture(BLUE, (300, 100))
    wide.paste(RED, (100, 0, 200, 100))
    wide.save(tmp_path / "a.png")
    wide.rotate(90, expand=True).save(tmp_path / "b.jpg", quality=95, subsampling=0)
    images = Images.from_folder(tmp_path, size=16)
    assert images.shape == (3, 16, 16)
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    # But for the edge, where what was next to it shines in.
    assert (images.floats() - red)[:, :, 1:-1, 1:-1].abs().max() < 0.03
    whole = Images.from_folder(tmp_path, size=(5, 15))[0]
    torch.testing.assert_close(whole[:, 2, 7], red.flatten(), atol=0.03, rtol=0)
    torch.testing.assert_close(whole[:, 2, 0], red.flatten().flip(0), atol=0.03, rtol=0)


def test_a_reduction_averages(tmp_path: Path) -> None:
    # A chequerboard is grey from afar, by whichever way a JPEG is made smaller.
    board = np.indices((512, 512)).sum(0) % 2 * 255
    for suffix in ("png", "jpg"):
        Image.fromarray(board.astype(np.uint8)).save(tmp_path / f"a.{suffix}", quality=100)
    x = Images.from_folder(tmp_path, size=8).floats()
    assert (x - 0.5).abs().max() < 0.02


def test_a_picture_on_its_side_is_turned(tmp_path: Path) -> None:
    lying = picture(BLUE, (40, 20))
    lying.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    lying.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    image = Images.from_folder(tmp_path)[0]
    assert image.shape == (3, 40, 20)
    assert image[0, 5, 10] > 0.9  # red at the top
    assert image[2, 35, 10] > 0.9
    assert Images.from_folder(tmp_path, size=(40, 20))[0][0, 5, 10] > 0.9


# Mistakes


def test_the_first_picture_of_another_size_is_named(folder: Path) -> None:
    picture(size=(7, 4)).save(folder / "red" / "c.png")
    message = rf"{folder}/blue/a\.png has 4 × 6 pixels and {folder}/red/c\.png has 4 × 7: give a"
    with pytest.raises(ValueError, match=message):
        Images.from_folder(folder)
    assert len(Images.from_folder(folder, size=4)) == 4


def _truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("size", [None, 4])
@pytest.mark.parametrize("name", ["half.png", "half.jpg", "half.gif", "half.tif", "half.webp"])
def test_half_a_file_is_named(folder: Path, name: str, size: int | None) -> None:
    _truncated(folder / name)
    if size is None:
        for other in folder.rglob("*.[pP][nN][gG]"):
            if other.name != name:
                other.unlink()
    with pytest.raises(
        ValueError, match=rf"{folder}/{re.escape(name)} cannot be read as a picture"
    ):
        Images.from_folder(folder, size=size)


def test_a_text_is_not_a_picture(folder: Path) -> None:
    (folder / "notes.txt").rename(folder / "notes.jpg")
    with pytest.raises(ValueError, match=rf"{folder}/notes\.jpg cannot be read as a picture"):
        Images.from_folder(folder)


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 999, dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has more than 8 bits .* Images.from_array"):
        Images.from_folder(tmp_path)


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/absent"):
        Images.from_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match=rf"{tmp_path} holds no picture \(\.bmp, "):
        Images.from_folder(tmp_path)
    (tmp_path / "file").write_text("a text\n")
    with pytest.raises(
        ValueError, match=r"path must be a folder or a zip file, but .*file is neither"
    ):
        Images.from_folder(tmp_path / "file")


@pytest.mark.parametrize("size", [0, -3, 1.5, "32", (3,), (3, 0), True])
def test_a_size_is_checked(folder: Path, size: object) -> None:
    with pytest.raises(ValueError, match="size"):
        Images.from_folder(folder, size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("argument", ["colour", "labels"])
def test_a_choice_is_checked(folder: Path, argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be True, False or None, not 'no'"):
        Images.from_folder(folder, **{argument: "no"})


def test_nothing_is_printed_where_nobody_watches(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Images.from_folder(folder)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    bar = folders.watched("abc", "reading")
    assert not bar.disable
