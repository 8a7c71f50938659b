"""Minibatches of everything that `fit` and evaluations accept: images, tensors, data sets, loaders.

Data in memory are read by index, in an order drawn here, so that a run can be resumed. A
`DataLoader` keeps its own batches and its own order.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from vaelib._checks import check_finite, check_floating
from vaelib.data import Images

__all__ = [
    "Data",
    "InMemory",
    "Minibatch",
    "Minibatches",
    "first_minibatch",
    "minibatch_sizes",
    "minibatches",
    "named",
    "to_device",
]

Data = Images | Tensor | Dataset[Any] | DataLoader[Any]

Minibatch = tuple[Tensor, Tensor | None]
"""x (N, …) in floating point, and its labels y (N, …) or None."""

HASHED_ROWS = 1000


class Minibatches(Protocol):
    """The data interface of the training loop and of evaluations.

    Example:
        >>> data: Minibatches = minibatches("train", torch.rand(5, 3))
        >>> [len(x) for x, _ in data.ordered(2, torch.Generator())]
        [2, 2, 1]
    """

    name: str
    is_labelled: bool
    is_in_memory: bool  # every epoch has the same values
    is_vouched_for: bool  # values are known to be valid pixels

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def steps(self, batch_size: int) -> int:
        """The number of minibatches in an epoch."""
        ...

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """Every example once, in random order; the generator also draws dynamic pixels."""
        ...

    def ordered(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """Every example once, from first to last."""
        ...

    def some(self, n: int, generator: torch.Generator) -> Minibatch:
        """About n examples spread over the data, or the first minibatch of a loader."""
        ...

    def fingerprint(self) -> str:
        """A text that tells these data from others of the same size."""
        ...


def minibatches(name: str, data: Data) -> Minibatches:
    """Wrap `data` as `Minibatches`.

    Arguments:
        name: of the argument, for errors.
        data: `Images`, read by their convention; a floating-point tensor (N, …); or a `Dataset` or
            `DataLoader` of tensors, or of pairs of a tensor and a label.

    Raises:
        ValueError: when the data are of another type, or empty.

    Example:
        >>> pairs = torch.utils.data.TensorDataset(torch.rand(5, 3), torch.arange(5))
        >>> x, y = next(minibatches("train", pairs).ordered(2, torch.Generator()))
        >>> x.shape, y
        (torch.Size([2, 3]), tensor([0, 1]))
    """
    result: Minibatches
    if isinstance(data, Images):
        result = InMemory(name, data, data.labels)
    elif isinstance(data, TensorDataset) and len(data.tensors) <= 2:
        result = InMemory(name, *data.tensors)
    elif isinstance(data, DataLoader):
        result = _Loader(name, data)
    elif isinstance(data, Dataset):
        result = _FromDataset(name, data)
    elif isinstance(data, Tensor):
        result = InMemory(name, data)
    else:
        raise ValueError(
            f"{name} must be Images, a tensor, a Dataset or a DataLoader, but is "
            f"{type(data).__name__}: `Images.from_array` and `torch.as_tensor` convert arrays"
        )
    if not len(result):
        raise ValueError(f"{name} must hold at least one example, but is empty")
    return result


def minibatch_sizes(n: int, batch_size: int) -> list[int]:
    """The sizes of the minibatches of n ≥ 1 examples.

    A single last example joins the minibatch before it, because batch normalisation needs two.

    Example:
        >>> minibatch_sizes(8, 3), minibatch_sizes(7, 3)
        ([3, 3, 2], [3, 4])
    """
    full, rest = divmod(n, batch_size)
    if rest == 1 and full:
        return [batch_size] * (full - 1) + [batch_size + 1]
    return [batch_size] * full + [rest] * (rest > 0)


def to_device(data: Minibatches, device: torch.device) -> Minibatches:
    """Move data in memory to a device, if they take at most half of its free memory."""
    if not isinstance(data, InMemory) or data.device == device:
        return data
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if data.nbytes > free / 2:
            return data
    return data.to(device)


def first_minibatch(data: Minibatches, batch_size: int, like: Tensor) -> Minibatch:
    """The first minibatch in order, in the dtype and on the device of a parameter."""
    x, y = next(iter(data.ordered(batch_size, torch.Generator(like.device).manual_seed(0))))
    return x.to(like), None if y is None else y.to(like.device)


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Say in an error about x, a minibatch, which argument it comes from.

    Example:
        >>> from vaelib import VAE
        >>> with named("validation"):
        ...     VAE((6,)).encoder(torch.zeros(4, 5))
        Traceback (most recent call last):
        ValueError: validation: x must be (N, 6), but is (4, 5)
    """
    try:
        yield
    except ValueError as error:
        if str(error).startswith("x "):
            error.args = (f"{name}: {error}",)
        raise


class InMemory:
    """Images or a tensor, with or without labels, read by index on their device.

    Example:
        >>> data = InMemory("train", torch.arange(6.0).view(3, 2))
        >>> data.read(torch.tensor([2, 0]), torch.Generator())[0]
        tensor([[4., 5.],
                [0., 1.]])
    """

    def __init__(self, name: str, x: Images | Tensor, y: Tensor | None = None) -> None:
        if isinstance(x, Tensor):
            check_floating(**{name: x})
            if x.layout != torch.strided:
                raise ValueError(f"{name} must be dense, but is {x.layout}: call `.to_dense()`")
            if x.dim() < 2:
                raise ValueError(
                    f"{name} must be (N, …), one row per example, but is {tuple(x.shape)}"
                )
            x = x.detach()  # data are not trained
        self.name, self.x, self.y = name, x, y
        self.is_labelled, self.is_in_memory = y is not None, True
        self.is_vouched_for = isinstance(x, Images)

    @property
    def device(self) -> torch.device:
        """The device of the data."""
        return (self.x.pixels if isinstance(self.x, Images) else self.x).device

    @property
    def nbytes(self) -> int:
        """The memory that x takes, in bytes."""
        return (self.x.pixels if isinstance(self.x, Images) else self.x).nbytes

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> InMemory:
        """The same data on a device."""
        return InMemory(self.name, self.x.to(device), None if self.y is None else self.y.to(device))

    def steps(self, batch_size: int) -> int:
        """As `Minibatches`."""
        return len(minibatch_sizes(len(self), batch_size))

    def order(self, generator: torch.Generator) -> Tensor:
        """A random order of all examples, (N,)."""
        order = torch.randperm(len(self), generator=generator, device=generator.device)
        return order.to(self.device)

    def read(self, index: Tensor, generator: torch.Generator) -> Minibatch:
        """The examples of an index (B,); the generator draws dynamic pixels."""
        if isinstance(self.x, Images):
            x = self.x.read(index, generator)
        else:
            x = self.x.index_select(0, index)
        return x, None if self.y is None else self.y.index_select(0, index)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """As `Minibatches`."""
        for index in self.order(generator).split(minibatch_sizes(len(self), batch_size)):
            yield self.read(index, generator)

    def ordered(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """As `Minibatches`."""
        for index in torch.arange(len(self), device=self.device).split(batch_size):
            yield self.read(index, generator)

    def some(self, n: int, generator: torch.Generator) -> Minibatch:
        """As `Minibatches`."""
        step = len(self) // n + 1
        return self.read(torch.arange(0, len(self), step, device=self.device), generator)

    def fingerprint(self) -> str:
        """A digest of the shape, of all labels and of a thousand rows spread over the data."""
        content = self.x.pixels if isinstance(self.x, Images) else self.x
        rows = content[:: -(-len(content) // HASHED_ROWS)]
        convention = self.x.convention if isinstance(self.x, Images) else ""
        digest = hashlib.sha256(f"{tuple(content.shape)} {content.dtype} {convention}".encode())
        for values in (rows,) if self.y is None else (rows, self.y):
            digest.update(values.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class _FromDataset:
    """A map-style data set, read in an order drawn here."""

    def __init__(self, name: str, data: Dataset[Any]) -> None:
        if isinstance(data, IterableDataset):
            raise ValueError(f"{name} is an IterableDataset: put it into a DataLoader")
        self.name, self.data = name, data
        example = data[0] if len(self) else None
        self.is_labelled = isinstance(example, Sequence) and len(example) > 1
        self.is_in_memory = self.is_vouched_for = False

    def steps(self, batch_size: int) -> int:
        return len(minibatch_sizes(len(self), batch_size))

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        order = torch.randperm(len(self), generator=generator, device=generator.device)
        return self._batches(order.cpu(), minibatch_sizes(len(self), batch_size))

    def ordered(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        return self._batches(torch.arange(len(self)), batch_size)

    def _batches(self, order: Tensor, sizes: int | list[int]) -> Iterator[Minibatch]:
        batches = [index.tolist() for index in order.split(sizes)]
        # Without a generator, the loader would draw a seed from the global one.
        loader = DataLoader(self.data, batch_sampler=batches, generator=torch.Generator())
        return _pairs(self.name, loader)

    def some(self, n: int, generator: torch.Generator) -> Minibatch:
        return next(self._batches(torch.arange(0, len(self), len(self) // n + 1), n))

    def fingerprint(self) -> str:
        some = torch.linspace(0, len(self) - 1, min(len(self), 10)).long()
        (x, y), (again, _) = (next(self._batches(some, len(some))) for _ in range(2))
        if torch.equal(x, again):
            return f"{len(self)} {InMemory(self.name, x, y).fingerprint()}"
        return f"{_kind(self, x)} of random values"


class _Loader:
    """A `DataLoader`, with its own batches in its own order."""

    def __init__(self, name: str, loader: DataLoader[Any]) -> None:
        try:
            self.length = len(loader.dataset)  # type: ignore[arg-type]
        except TypeError:
            raise ValueError(
                f"{name} must know how many examples it holds: give its data set a __len__"
            ) from None
        if loader.batch_size is None and loader.batch_sampler is None:
            raise ValueError(f"{name} must give minibatches: set its batch_size")
        self.name, self.loader = name, loader
        self.is_labelled = self.length > 0 and self._first()[1] is not None
        self.is_in_memory = self.is_vouched_for = False

    def steps(self, batch_size: int) -> int:
        return len(self.loader)

    def __len__(self) -> int:
        return self.length

    def _first(self) -> Minibatch:
        return next(_pairs(self.name, self.loader))

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        return _pairs(self.name, self.loader)

    def ordered(self, batch_size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        return _pairs(self.name, self.loader)

    def some(self, n: int, generator: torch.Generator) -> Minibatch:
        return self._first()

    def fingerprint(self) -> str:
        # The order may be random, so only the kind of data is certain.
        x, _ = self._first()
        return f"{_kind(self, x)} by DataLoader"


def _pairs(name: str, batches: DataLoader[Any]) -> Iterator[Minibatch]:
    gives_none = True
    try:
        for batch in batches:
            x, *rest = batch if isinstance(batch, Sequence) else [batch]
            if not isinstance(x, Tensor):
                raise TypeError(f"it gives {type(x).__name__}")
            if len(rest) > 1:
                raise TypeError(f"it gives {len(batch)} values for each example")
            check_floating(**{name: x})
            check_finite(**{name: x})
            if len(x):
                gives_none = False
                yield x.detach(), _labels(rest[0]) if rest else None
    except TypeError as error:
        # A loader's own errors name neither the argument nor what is needed.
        raise ValueError(
            f"{name} must give tensors, or pairs of a tensor and a label that is a number: {error}"
        ) from error
    if gives_none:
        raise ValueError(f"{name} must give at least one minibatch, but gives none")


def _labels(values: Any) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (RuntimeError, ValueError) as error:
        raise TypeError(f"the labels of a minibatch are {values!r}") from error


def _kind(data: Minibatches, x: Tensor) -> str:
    return f"{len(data)} × {tuple(x.shape[1:])} {x.dtype}"
