"""What every test shares: the device, a seeded generator, and a home of their own for files."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device to run the tests on (default: cpu)")


def pytest_configure(config: pytest.Config) -> None:
    # Set here rather than in a fixture, so that it also holds for doctests, for modules that read
    # the environment when imported, and for subprocesses.
    cache = tempfile.TemporaryDirectory(prefix="vaelib-cache-")
    config.add_cleanup(cache.cleanup)
    os.environ["VAELIB_CACHE"] = cache.name
    os.environ["MPLBACKEND"] = "agg"
    # A shell starts what runs in the background deaf to Ctrl-C, and children inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    # A test's models begin with the same parameters, whatever ran before it in its process.
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    """The device chosen by ``--device``."""
    return torch.device(pytestconfig.getoption("device"))


@pytest.fixture
def generator(device: torch.device) -> torch.Generator:
    """A generator on the device, seeded alike for every test."""
    return torch.Generator(device).manual_seed(0)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium: one for all tests, since Playwright runs once in a process."""
    # Not above: the tests of vaelib also run where there is no browser, as on a GPU's machine.
    from book import whole

    if not whole.executable():
        pytest.fail("there is no Chromium: `make system` finds or installs it")
    with whole.chromium() as browser:
        yield browser
