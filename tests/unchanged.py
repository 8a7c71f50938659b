"""What a library changes for the whole process, put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch.distributions import Distribution

__all__ = ["distribution_checks"]


@contextlib.contextmanager
def distribution_checks() -> Iterator[None]:
    """To import zuko, or to compile, turns off the checks of all of torch's distributions."""
    before = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
