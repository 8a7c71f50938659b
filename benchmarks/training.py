"""How fast `fit` trains, against its peers and against the matrix products alone.

Measured: examples a second of 784-512-2-512-784 on the 4,000 grey training digits of mnist5k, at
batch sizes 50, 128 and 512, for vaelib's `fit` (in fp32, and in bf16 where the processor has it; as
it comes, and with `compile=True`, once the graph is made) and for a loop in the style of PyTorch's
VAE example, pythae and Keras on torch (contenders.py). Beside them the matrix products of the same
epochs, forward and backward, and nothing else.

Fair: the same data, parameters at the start, Adam, batches and number of epochs; peers in fp32, as
their users have them; each round runs five epochs of everybody, in rotating order, and ratios are
taken within a round. And as good: after ten epochs from five starts the validation ELBO is compared
too, by one evaluator (vaelib's `evaluate_elbo`, fp32, one set of draws). Grey pixels with
cross-entropy, so that number is no bound on a log-likelihood.

    python -m benchmarks.training           # some minutes; keeps a results file
    python -m benchmarks.training --quick   # does it run? Seconds, no peers, keeps nothing

Install the peers first (README.md); without one its rows are missing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from benchmarks.contenders import (
    PEERS,
    Contender,
    Layers,
    Vaelib,
    layers_of,
    vae_of,
)
from benchmarks.report import Report, interleave, ratios, spread, timed
from vaelib import VAE
from vaelib.data import Images, load_dataset
from vaelib.evaluation import evaluate_elbo
from vaelib.training import _choose_precision

LOOP = "PyTorch loop"
TO_REACH = {"fp32": "≥ 1.4", "bf16": "≥ 2.5"}

Entry = Callable[[Layers, Images, int, int], Contender]
"""Makes a contender of the start, the images, the batch size and the seed."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs: no peers, no file")
    quick = parser.parse_args(arguments).quick
    report = Report("training", "\n\n".join(__doc__.split("\n\n")[1:3]))
    train, validation = load_dataset("mnist5k"), load_dataset("mnist5k", "validation")
    batch_sizes, rounds, starts, epochs = [50, 128, 512], 10, 5, 10
    peers = PEERS
    if quick:
        train, batch_sizes, rounds, starts, epochs = train[:256], [128], 1, 2, 1
        peers = {LOOP: PEERS[LOOP]}
    for name, peer in peers.items():
        if peer is None:
            report.text(f"{name} is not installed: pip install -r benchmarks/requirements.txt")
    precisions: dict[str, Literal["float32", "bfloat16"]] = {"fp32": "float32"}
    if _choose_precision("auto", torch.device("cpu")) == "bfloat16":
        precisions["bf16"] = "bfloat16"
    contenders: dict[str, Entry] = {
        f"vaelib {short}{' compiled' if compile else ''}": partial(
            Vaelib, precision=precision, compile=compile
        )
        for compile in ([False] if quick else [False, True])
        for short, precision in precisions.items()
    }
    contenders |= {name: peer for name, peer in peers.items() if peer is not None}
    for batch_size in batch_sizes:
        measure_speed(report, contenders, train, batch_size, rounds)
    measure_quality(report, contenders, train, validation, starts, epochs)
    report.close(save=not quick)


def measure_speed(
    report: Report,
    contenders: dict[str, Entry],
    images: Images,
    batch_size: int,
    rounds: int,
    epochs: int = 5,
) -> None:
    """A table for this batch size; at 128 also the ratios that were to be reached."""
    runs: dict[str, Callable[[], object]] = {
        name: partial(contender(initial_layers(0), images, batch_size, 0).train, epochs)
        for name, contender in contenders.items()
    }
    ours = [name for name in runs if is_ours(name)]
    sizes = batches(len(images), batch_size) * epochs
    for precision in {name.split()[1]: None for name in ours}:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        runs[f"products {precision}"] = matrix_products(sizes, dtype)
    runs |= {"one thread": small_work(1), "all threads": small_work(torch.get_num_threads())}
    seconds = interleave({name: timed(run) for name, run in runs.items()}, rounds)
    alone, together = seconds.pop("one thread"), seconds.pop("all threads")
    rows = []
    for name, theirs in seconds.items():
        rate = spread([epochs * len(images) / time for time in theirs], digits=0)
        rows.append([name, rate, *(spread(ratios(theirs, by=seconds[our])) for our in ours)])
    title = f"Batch {batch_size}: examples a second, median (smallest–largest) of {rounds} rounds"
    report.table(
        title, ["", "examples a second", *(f"speed of {our} ÷ this" for our in ours)], rows
    )
    report.text(
        f"Small work, e^x of 70,000 numbers: all threads ÷ one, {spread(ratios(alone, together))}. "
        "Where this is near 1, the cores lie far apart, as they do at times on a shared machine."
    )
    if batch_size != 128:
        return
    peers = [name for name in seconds if name in PEERS]
    fastest = min(peers, key=lambda name: statistics.median(seconds[name]))
    for our in ours:
        precision = our.split()[1]
        report.in_short(
            f"training speed, batch 128: {our} ÷ {fastest}, the fastest of {len(peers)} peers",
            spread(ratios(seconds[fastest], by=seconds[our])),
            TO_REACH[precision],
        )
        report.in_short(
            f"training speed, batch 128: {our} ÷ its matrix products alone",
            spread(ratios(seconds[f"products {precision}"], by=seconds[our])),
        )


def small_work(threads: int) -> Callable[[], None]:
    """Work that is over so soon that it matters how quickly threads meet, many times."""
    x = torch.linspace(-1, 1, 70_000)

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for _ in range(2_000):
            torch.exp(x)
        torch.set_num_threads(before)

    return run


def measure_quality(
    report: Report,
    contenders: dict[str, Entry],
    train: Images,
    validation: Images,
    starts: int,
    epochs: int,
) -> None:
    """Validation ELBO of all after the same epochs from the same starts."""
    elbo: dict[str, list[float]] = {name: [] for name in contenders}
    for seed in range(starts):
        for name, contender in contenders.items():
            trained = contender(initial_layers(seed), train, 128, seed)
            trained.train(epochs)
            noise = torch.Generator().manual_seed(0)
            bound = evaluate_elbo(vae_of(trained.layers()), validation, noise, samples=10)
            elbo[name].append(bound.mean().item())
    rows = []
    for name, values in elbo.items():
        shown = "–"
        if name != LOOP:
            # Same starts, so start by start: what a start is worth cancels.
            pairs = zip(values, elbo[LOOP], strict=True)
            difference, error = mean_and_error([ours - theirs for ours, theirs in pairs])
            shown = f"{difference:+.2f} ± {error:.2f} ({difference / error:+.1f} standard errors)"
        mean, error = mean_and_error(values)
        rows.append([name, f"{mean:.2f} ± {error:.2f}", shown])
        if is_ours(name):
            measured = f"validation ELBO in nats: {name} − {LOOP}, {epochs} epochs, {starts} starts"
            report.in_short(measured, shown, "within 2 standard errors")
    title = f"Validation ELBO after {epochs} epochs at batch 128, mean of {starts} ± standard error"
    report.table(title, ["", "nats an image (grey pixels)", f"− {LOOP}"], rows)


def is_ours(name: str) -> bool:
    """Whether a contender is vaelib's."""
    return name.startswith("vaelib")


def initial_layers(seed: int) -> Layers:
    """The parameters all start from: as PyTorch initialises linear layers."""
    torch.manual_seed(seed)
    return layers_of(VAE((1, 28, 28), 2, [512]))


def batches(n: int, batch_size: int) -> list[int]:
    """The sizes of an epoch's minibatches."""
    return [min(batch_size, n - start) for start in range(0, n, batch_size)]


def matrix_products(sizes: list[int], dtype: torch.dtype) -> Callable[[], None]:
    """What makes those of these steps: x Wᵀ forward, dyᵀ x and (but for pixels) dy W back."""
    matrices = [p.detach() for p in vae_of(initial_layers(0)).parameters() if p.dim() == 2]
    weights = [matrix.to(dtype) for matrix in matrices]
    inputs = [torch.rand(max(sizes), weight.shape[1]).to(dtype) for weight in weights]
    slopes = [torch.rand(max(sizes), weight.shape[0]).to(dtype) for weight in weights]

    def multiply() -> None:
        for size in sizes:
            step = [(x[:size], dy[:size]) for x, dy in zip(inputs, slopes, strict=True)]
            for (x, _), weight in zip(step, weights, strict=True):
                F.linear(x, weight)
            for layer, ((x, dy), weight) in enumerate(zip(step, weights, strict=True)):
                dy.T @ x
                if layer:
                    dy @ weight

    return multiply


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


if __name__ == "__main__":
    main()
