"""Several processes that train one model: `fit` under `torchrun`."""

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
        """Whether this process writes files and shows the progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, wrapped to average gradients if there are several processes."""
        return model if self.count == 1 else DistributedDataParallel(model)

    def part(self, minibatch: Tensor, dim: int = 0) -> Tensor:
        """This process's part of a minibatch; if parts are unequal, the first are larger by 1."""
        return minibatch if self.count == 1 else minibatch.tensor_split(self.count, dim)[self.rank]

    def total(self, value: Tensor) -> Tensor:
        """The sum of `value` over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return value


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, if any, and leave them at the end.

    A process group that the caller has initialised is used, and not closed.
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
