"""The page's data: 8 × 8 digits under dynamic binarisation. What reads them counts for nobody."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vaelib import load_dataset

__all__ = ["known", "labels", "labelled_minibatches", "minibatches", "validation", "validation_y"]

_train = load_dataset("digits", "train").binarise("dynamic")
_validation = load_dataset("digits", "validation").binarise("dynamic")
_generator = torch.Generator().manual_seed(0)

validation = _validation.floats(0).flatten(1)
labels, validation_y = (
    torch.nn.functional.one_hot(images.labels, 10).float() for images in (_train, _validation)
)
known = torch.rand(len(_train), generator=torch.Generator().manual_seed(0)) < 0.03


def labelled_minibatches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pixels (N, 64), labels (N, 10) and which of them are known (N,), 128 at a time."""
    for index in torch.randperm(len(_train), generator=_generator).split(128):
        yield _train.read(index, _generator).flatten(1), labels[index], known[index]


def minibatches() -> Iterator[Tensor]:
    """Pixels (N, 64), 128 at a time."""
    for x, _, _ in labelled_minibatches():
        yield x
