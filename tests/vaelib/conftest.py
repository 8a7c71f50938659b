"""Data that many tests of training share."""

from __future__ import annotations

import pytest

from vaelib.data import load_dataset
from vaelib.images import Images


@pytest.fixture(scope="module")
def digits() -> Images:
    return load_dataset("digits").binarise("dynamic")[:300]


@pytest.fixture(scope="module")
def validation() -> Images:
    return load_dataset("digits", "validation").binarise("dynamic")
