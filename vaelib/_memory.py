"""Memory that is freed and wanted again at once, as in every loop over chunks or minibatches."""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["keep_freed_memory"]


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed, up to some 60 MB, rather than give it back.

    glibc returns free memory to the system whenever it exceeds twice the largest block freed so
    far, and every page of it must be mapped anew a moment later: up to half the time of a loop over
    chunks of 3 MB. One freed block just below the largest that counts, 32 MiB, ends that for the
    process. It is never written to, so it takes no memory itself.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
