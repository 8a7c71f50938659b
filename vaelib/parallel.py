"""Several processes, one training: what `fit` does under `torchrun`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Processes", "processes"]


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Example:
        >>> alone = Processes()
        >>> alone.part(torch.arange(3)), alone.is_first
        (tensor([0, 1, 2]), True)
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and draws the progress bar."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself, or one whose gradients are averaged over the processes."""
        return model if self.count == 1 else DistributedDataParallel(model)

    def part(self, minibatch: Tensor, dim: int = 0) -> Tensor:
        """This process's share of what all processes hold: equal parts, the first ones larger."""
        return minibatch if self.count == 1 else minibatch.tensor_split(self.count, dim)[self.rank]

    def total(self, value: Tensor) -> Tensor:
        """The sum of `value` over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return value


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, or be alone; leave them at the end.

    A group that the caller has initialised is used and left as it is.
    """
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Processes(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()
    else:
        yield Processes()
