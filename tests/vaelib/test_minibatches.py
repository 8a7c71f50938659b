"""Minibatches give every example once, whatever they are made of, and in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import Conditional
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from training_runs import make_vae, parameters

from vaelib import ELBO, VAE, fit
from vaelib.minibatches import Data, minibatches

N = 23
ROWS = torch.arange(N * 6.0).view(N, 6)
LABELS = torch.arange(N) % 3


class Pairs(Dataset[Any]):
    """Examples one by one, as most data sets of one's own are written."""

    def __init__(self, labelled: bool = True) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return (ROWS[index], int(LABELS[index])) if self.labelled else ROWS[index]


SOURCES: dict[str, Any] = {
    "tensor": lambda: ROWS,
    "tensors": lambda: TensorDataset(ROWS, LABELS),
    "data set": Pairs,
    "unlabelled data set": lambda: Pairs(labelled=False),
    "loader": lambda: DataLoader(Pairs(), batch_size=5),
    "shuffling loader": lambda: DataLoader(Pairs(), batch_size=5, shuffle=True),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_example_comes_once_with_its_label(source: str, shuffled: bool) -> None:
    data = minibatches("train", SOURCES[source]())
    assert len(data) == N
    batches = data.shuffled if shuffled else data.ordered
    parts = list(batches(5, torch.Generator().manual_seed(0)))
    assert len(parts) == data.steps(5) == 5
    x = torch.cat([x for x, _ in parts])
    assert torch.equal(x.sort(0).values, ROWS)
    assert data.is_labelled == all(y is not None for _, y in parts)
    for rows, y in parts:
        if y is not None:
            assert torch.equal(y, LABELS[(rows[:, 0] / 6).long()])


@pytest.mark.parametrize(
    "kind", [TensorDataset, lambda *pair: Listed(list(zip(*pair, strict=True)))]
)
def test_data_are_told_apart_by_labels_too(kind: Any) -> None:
    def fingerprint(labels: Tensor) -> str:
        return minibatches("train", kind(ROWS, labels)).fingerprint()

    assert fingerprint(LABELS) == fingerprint(LABELS.clone())
    assert fingerprint(LABELS) != fingerprint(LABELS.flip(0))


@pytest.mark.parametrize("source", ["tensor", "tensors", "data set"])
def test_the_order_is_the_generators(source: str) -> None:
    data = minibatches("train", SOURCES[source]())
    orders = [
        torch.cat([x for x, _ in data.shuffled(5, torch.Generator().manual_seed(seed))])
        for seed in (0, 0, 1)
    ]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_trains_and_validates(source: str) -> None:
    vae = VAE((6,), 2, [8], likelihood="gaussian")
    data = SOURCES[source]()
    before = torch.get_rng_state()
    history = fit(vae, data, data, epochs=2, batch_size=5, device="cpu", progress=False)
    assert history.elbo.isfinite().all()
    assert history.validation_elbo.isfinite().all()
    if "loader" not in source:  # which has draws of its own
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("source", ["tensor", "data set"])
def test_a_run_on_each_is_resumed_bit_for_bit(source: str, tmp_path: Path) -> None:
    def run(epochs: int, **where: Any) -> Tensor:
        torch.manual_seed(0)
        vae = VAE((6,), 2, [8], likelihood="gaussian")
        fit(vae, SOURCES[source](), epochs=epochs, batch_size=5, device="cpu", progress=False,
            **where)  # fmt: skip
        return parameters(vae)

    path = tmp_path / "run.pt"
    whole = run(4)
    run(2, checkpoint=path)
    assert torch.equal(run(4, checkpoint=path, resume=True), whole)


class Augmented(Pairs):
    """Examples that are drawn anew each time, as by random crops."""

    def __getitem__(self, index: int) -> Any:
        return ROWS[index] + torch.rand(6)


@pytest.mark.parametrize("source", [SOURCES["shuffling loader"], Augmented])
def test_a_run_on_random_data_is_resumed(source: Any, tmp_path: Path) -> None:
    for epochs in (1, 2):
        history = fit(VAE((6,), 2, [8], likelihood="gaussian"), source(), epochs=epochs,
                      batch_size=5, checkpoint=tmp_path / "run.pt", resume=True, device="cpu",
                      progress=False)  # fmt: skip
        assert len(history) == epochs


def test_labels_of_a_loader_reach_the_model() -> None:
    x = torch.zeros(N, 64)
    loader = DataLoader(TensorDataset(x, LABELS), batch_size=5)
    model = Conditional()
    fit(model, loader, epochs=1, device="cpu", progress=False)
    assert torch.equal(torch.cat(model.seen[:5]), LABELS)


def test_a_tuple_of_one_has_no_label() -> None:
    data = minibatches("train", Subset(TensorDataset(ROWS), range(7)))
    assert not data.is_labelled
    assert next(data.ordered(5, torch.Generator()))[1] is None
    with pytest.raises(ValueError, match="train must have labels, because the model takes them"):
        fit(Conditional(), Subset(TensorDataset(torch.zeros(N, 64)), range(7)), device="cpu",
            progress=False)  # fmt: skip


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        yield from ROWS


class Overstated(Stream):
    def __len__(self) -> int:
        return 10 * N


class Listed(Dataset[Any]):
    def __init__(self, examples: list[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Pairs(), batch_size=5, drop_last=True),
        DataLoader(Pairs(), batch_size=5, sampler=WeightedRandomSampler([1.0] * N, 7)),
        DataLoader(Pairs(), batch_size=5, sampler=WeightedRandomSampler([1.0] * N, 3 * N)),
        DataLoader(Overstated(), batch_size=5),
    ],
    ids=["last dropped", "few drawn", "many drawn", "length overstated"],
)
def test_means_are_over_the_examples_that_a_loader_gives(loader: DataLoader[Any]) -> None:
    class Constant(VAE):
        def forward(self, x: Tensor, eps: Tensor) -> ELBO:
            moved = 0 * super().forward(x, eps).per_example
            return ELBO(moved - 3.0, (moved + 0.5).unsqueeze(1))

    model = Constant((6,), 2, [8], likelihood="gaussian")
    history = fit(model, loader, loader, epochs=2, device="cpu", progress=False)
    assert history.reconstruction.tolist() == [-3.0, -3.0]
    assert history.kl.tolist() == [[0.5], [0.5]]
    assert history.validation_elbo.tolist() == [-3.5, -3.5]


@pytest.mark.parametrize("source", ["tensor", "data set"])
def test_no_minibatch_is_a_single_example(source: str) -> None:
    data = minibatches("train", SOURCES[source]())
    sizes = [len(x) for x, _ in data.shuffled(11, torch.Generator())]
    assert sizes == [11, 12]
    assert data.steps(11) == 2


def test_a_loader_that_gives_its_examples_once_is_named() -> None:
    class Ending(Overstated):
        readings = 0

        def __iter__(self) -> Iterator[Tensor]:
            self.readings += 1
            return iter(ROWS if self.readings < 6 else [])

    with pytest.raises(ValueError, match="train must give at least one minibatch, but gives none"):
        fit(VAE((6,), 1, [3], likelihood="gaussian"), DataLoader(Ending(), 5), epochs=9,
            device="cpu", progress=False)  # fmt: skip


def test_data_are_not_trained() -> None:
    weight = torch.ones(6, requires_grad=True)
    leaf = torch.rand(N, 6).requires_grad_()
    for x in (weight * torch.rand(N, 6), leaf):
        fit(VAE((6,), 1, [3], likelihood="gaussian"), x, epochs=2, device="cpu", progress=False)
    assert leaf.grad is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1.0, 2.0], "train must be Images, a tensor, a Dataset or a DataLoader, but is list"),
        (np.zeros((3, 2)), "but is ndarray"),
        (torch.zeros(3), r"train must be \(N, …\), one row per example, but is \(3,\)"),
        (torch.zeros(0, 2), "train must hold at least one example, but is empty"),
        (torch.zeros(3, 2, dtype=torch.int64), "train must be floating point"),
        (TensorDataset(torch.zeros(3, 2).long()), "train must be floating point"),
        (Stream(), "train is an IterableDataset: put it into a DataLoader"),
        (DataLoader(Stream(), batch_size=5), "train must know how many examples it holds"),
        (DataLoader(Pairs(), batch_size=None), "train must give minibatches: set its batch_size"),
        (DataLoader(Pairs(), 2 * N, drop_last=True), "train must give at least one minibatch"),
        (torch.zeros(3, 2, dtype=torch.uint8), r"`\.float\(\) / 255` for pixels"),
        (torch.zeros(3, 2).to_sparse(), "train must be dense, but is torch.sparse_coo"),
        (Listed([{"x": torch.zeros(2)}]), "train must give tensors, or pairs .*: it gives dict"),
        (Listed([(torch.zeros(2), "seven")]), "train must give .*: the labels .*'seven'"),
        (Listed([(torch.zeros(2), {"digit": 7})]), "train must give .*: the labels .*'digit'"),
        (Listed([(torch.zeros(2), None)]), "train must give .*: default_collate: "),
        (TensorDataset(*[torch.zeros(3, 2)] * 3), "train must give .*: it gives 3 values for each"),
    ],
)
def test_what_cannot_be_read_is_named(data: Data, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(VAE((2,), 1, [3], likelihood="gaussian"), data, device="cpu", progress=False)


def test_a_bad_example_of_a_loader_is_found_in_every_epoch() -> None:
    class Spoilt(Pairs):
        reads = 0

        def __getitem__(self, index: int) -> Any:
            Spoilt.reads += 1
            return torch.full((6,), torch.nan if Spoilt.reads > 3 * N else 1.0), 0

    with pytest.raises(ValueError, match="must be finite, but holds NaN"):
        fit(VAE((6,), 2, [8], likelihood="gaussian"), DataLoader(Spoilt(), batch_size=5), epochs=9,
            device="cpu", progress=False)  # fmt: skip


MEMORY = """
import resource, sys
import numpy as np
import torch
from vaelib import VAE, fit
from vaelib.images import Images

kind, path = sys.argv[1:]
vae = VAE((1, 28, 28), 2, [4], likelihood="gaussian", sigma=1.0)
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
some = torch.rand(256, 1, 28, 28)
fit(vae, some, some, epochs=1, device="cpu", precision="float32", progress=False)
before = used()
if kind == "float":
    data = torch.from_numpy(np.load(path, mmap_mode="c"))
    fit(vae, data, data, epochs=1, batch_size=1000, device="cpu", precision="float32",
        progress=False)
else:
    data = Images.from_array(np.load(path, mmap_mode="r"), name="mapped")
    fit(vae, some, data, epochs=1, device="cpu", precision="float32", progress=False)
print(used() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux counts it")
@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_memory_follows_the_minibatch(tmp_path: Path, kind: str) -> None:
    """125 MB of mapped floats, and 31 MB of pixels that are 125 MB as floats, cost less than that.

    Pages of the map that were read count as used until the system wants them back, so what is told
    apart is one reading of the file from a copy of it in memory.
    """
    path = tmp_path / "data.npy"
    shape = (40_000, 1, 28, 28)
    array = np.zeros(shape, np.float32 if kind == "float" else np.uint8)
    np.save(path, array)
    command = [sys.executable, "-c", MEMORY, kind, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown = float(done.stdout)
    on_disk = path.stat().st_size / 2**20
    assert grown < on_disk + 60, f"{grown:.0f} MB for a file of {on_disk:.0f} MB"


def test_the_model_is_told_apart_from_a_module_without_a_prior() -> None:
    with pytest.raises(ValueError, match="model must have a prior"):
        fit(nn.Linear(2, 2), torch.zeros(3, 2), progress=False)
    with pytest.raises(ValueError, match=r"model must be a module \(nn\.Module\), but is function"):
        fit(make_vae, torch.zeros(3, 2), progress=False)  # type: ignore[arg-type]
