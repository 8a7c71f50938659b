"""What the parts of gpu.py share: their time, their images, and how they tell what they find."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vaelib.data import load_dataset
from vaelib.images import Images

__all__ = ["Lines", "OutOfTime", "Setting", "sync"]

ROOT = Path(__file__).parents[1]


class OutOfTime(BaseException):
    """Raised in a part when its time is over; no `except Exception` stops it."""


@dataclass(frozen=True)
class Lines:
    """A `Report` from another process: one line of JSON per call, in a file."""

    path: Path

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._write("table", title, columns, rows)

    def text(self, paragraph: str) -> None:
        self._write("text", paragraph)

    def in_short(self, measured: str, result: str, to_reach: str = "–") -> None:
        # A bar would end a column of the table.
        self._write("in_short", measured, " ".join(result.replace("|", "/").split()), to_reach)

    def _write(self, *entry: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


@dataclass(frozen=True)
class Setting:
    """Where a part runs, how long, and on what."""

    device: str
    quick: bool
    end: float  # by time.monotonic

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def images(self, n: int, split: str = "train") -> Images:
        """So many grey images of MNIST's size, repeated where there are fewer."""
        images = _digits(split)
        return images[torch.arange(n) % len(images)]


def sync(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _digits(split: str) -> Images:
    for folder in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data"):
        if (folder / "mnist").is_dir():
            os.environ.setdefault("VAELIB_DATA", str(folder))
    if Path(os.environ.get("VAELIB_DATA", ""), "mnist").is_dir():
        return load_dataset("mnist", split)
    try:
        return load_dataset("mnist5k", split)
    except Exception as error:
        print(f"no digits here ({error}): noise in their place")
        noise = torch.rand(1000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        pixels = (255 * noise.pow(4)).to(torch.uint8)
        return Images(pixels, torch.arange(1000) % 10, "noise", split)
