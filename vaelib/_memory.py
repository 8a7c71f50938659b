"""Reuse of memory that is freed and needed again at once, as in a loop over minibatches."""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["keep_freed_memory"]


@cache
def keep_freed_memory() -> None:
    """Make the C library keep freed memory, up to some 60 MB, instead of returning it.

    glibc returns free memory to the system when it exceeds twice the largest block freed so far.
    Every page must then be mapped again a moment later, which can take half the time of a loop over
    chunks of 3 MB. Freeing one block just below 32 MiB, the largest size that counts, prevents this
    for the rest of the process. The block is never written to, so it takes no memory itself.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
