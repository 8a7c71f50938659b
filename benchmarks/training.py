"""How fast `fit` trains on a CPU: beside a plain loop for any size, beside its peers for an MLP.

Measured: examples per second of `fit`, in float32, in bfloat16 where the processor has instructions
for it, as it comes (`precision="auto"`) and compiled, against the loop that a good engineer writes
by hand (loops.py: data in memory, fused Adam, nothing read or checked, the faster layout for
convolutions) for four networks at batch 128: 64-8-2-8-64 on digits, 784-512-2-512-784,
convolutional and residual ones on mnist5k. For the MLP also against loops in the style of PyTorch's
VAE example, pythae and Keras on torch (contenders.py), at batch sizes 50, 128 and 512, and against
its matrix products alone.

Fair: the same data, parameters at the start, Adam, batches and number of epochs; peers in fp32, as
their users have them; a call of `fit` is timed whole. Each round runs everybody, in rotating order,
and ratios are taken within a round. And as good: after ten epochs from five starts the validation
ELBO of the MLP is compared too, by one evaluator (vaelib's `evaluate_elbo`, fp32, one set of
draws). Grey pixels with cross-entropy, so that number is no bound on a log-likelihood.

    python -m benchmarks.training                # a quarter of an hour; keeps a results file
    python -m benchmarks.training --only sizes   # or: peers, quality; keeps nothing
    python -m benchmarks.training --quick        # does it run? Seconds, no peers, keeps nothing

Install the peers first (README.md); without one its rows are missing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmarks.contenders import (
    PEERS,
    Contender,
    Layers,
    Precision,
    Vaelib,
    layers_of,
    vae_of,
)
from benchmarks.loops import PlainLoop, Products, is_quick_in_bfloat16
from benchmarks.report import Report, interleave, ratios, spread, timed
from vaelib import VAE
from vaelib.data import Images, load_dataset
from vaelib.evaluation import evaluate_elbo
from vaelib.training import fit

LOOP = "PyTorch loop"
TO_REACH = {"fp32": "≥ 1.4", "bf16": "≥ 2.5"}
SHORT: dict[Precision, str] = {"float32": "fp32", "bfloat16": "bf16", "auto": "auto"}
PARTS = ("sizes", "peers", "quality")

Entry = Callable[[Layers, Images, int, int], Contender]
"""Makes a contender of the start, the images, the batch size and the seed."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs: no peers, no file")
    parser.add_argument("--only", choices=PARTS, help="one part; keeps no file")
    options = parser.parse_args(arguments)
    quick, parts = options.quick, [options.only] if options.only else PARTS
    report = Report("training", "\n\n".join(__doc__.split("\n\n")[1:3]))
    train, validation = load_dataset("mnist5k"), load_dataset("mnist5k", "validation")
    batch_sizes, rounds, starts, epochs = [50, 128, 512], 10, 5, 10
    peers = PEERS
    if quick:
        train, batch_sizes, rounds, starts, epochs = train[:256], [128], 1, 2, 1
        peers = {LOOP: PEERS[LOOP]}
    precisions: list[Precision] = ["float32"]
    if is_quick_in_bfloat16():
        precisions.append("bfloat16")
    if "sizes" in parts:
        for name in SIZES:
            measure_size(report, name, precisions, rounds, quick)
    for name, peer in peers.items():
        if peer is None:
            report.text(f"{name} is not installed: pip install -r benchmarks/requirements.txt")
    contenders: dict[str, Entry] = {
        f"vaelib {SHORT[precision]}{' compiled' if compile else ''}": partial(
            Vaelib, precision=precision, compile=compile
        )
        for compile in ([False] if quick else [False, True])
        for precision in precisions
    }
    contenders |= {name: peer for name, peer in peers.items() if peer is not None}
    if "peers" in parts:
        for batch_size in batch_sizes:
            measure_speed(report, contenders, train, batch_size, rounds)
    if "quality" in parts:
        measure_quality(report, contenders, train, validation, starts, epochs)
    report.close(save=not quick and not options.only)


SIZES: dict[str, tuple[Callable[[], VAE], Callable[[], Images], int]] = {
    "64-8-2": (
        lambda: VAE((1, 8, 8), 2, [8], likelihood="grey bernoulli"),
        lambda: load_dataset("digits"),
        40,
    ),
    "784-512-2": (
        lambda: VAE((1, 28, 28), 2, [512], likelihood="grey bernoulli"),
        lambda: load_dataset("mnist5k"),
        3,
    ),
    "convolutional": (
        lambda: VAE((1, 28, 28), 16, network="convolutional", likelihood="grey bernoulli"),
        lambda: load_dataset("mnist5k")[:1280],
        2,
    ),
    "residual": (
        lambda: VAE((1, 28, 28), 16, [8], network="residual", likelihood="grey bernoulli"),
        lambda: load_dataset("mnist5k")[:256],
        2,
    ),
}
"""The networks from the smallest to the largest: how each is built, its data, epochs per round."""


def measure_size(
    report: Report, name: str, precisions: Sequence[Precision], rounds: int, quick: bool
) -> None:
    """A table of `fit` and the plain loop, in both precisions, for one network at batch 128."""
    build, load, epochs = SIZES[name]
    images = load()[:128] if quick else load()
    epochs = 1 if quick else epochs
    runs: dict[str, Callable[[], object]] = {}
    loops, fits = [], []
    for precision in precisions:
        in_bf16 = precision == "bfloat16"
        for layout in ["", ", channels last"] if convolves(build()) else [""]:
            loop = PlainLoop(
                seeded(build), images.floats(), 128, bfloat16=in_bf16, channels_last=bool(layout)
            )
            loops.append(f"loop {SHORT[precision]}{layout}")
            runs[loops[-1]] = partial(loop.train, epochs)
    chosen: list[Precision] = [*precisions, "auto"]
    for precision in chosen:
        fits.append(f"fit {SHORT[precision]}")
        runs[fits[-1]] = partial(
            fit, seeded(build), images, epochs=epochs, batch_size=128, device="cpu",
            precision=precision, progress=False,
        )  # fmt: skip
    seconds = interleave({run: timed(work) for run, work in runs.items()}, rounds)
    rows = [
        [
            run,
            spread([epochs * len(images) / time for time in times], digits=0),
            *(spread(ratios(times, by=seconds[our])) for our in fits),
        ]
        for run, times in seconds.items()
    ]
    report.table(
        f"{name}: examples per second, median (smallest–largest) of {rounds} rounds",
        ["", "examples per second", *(f"speed of {our} ÷ this" for our in fits)],
        rows,
    )
    for our in fits:
        short = our.split()[1]
        rivals = [loop for loop in loops if short in ("auto", loop.split()[1].strip(","))]
        fastest = min(rivals, key=lambda loop: statistics.median(seconds[loop]))
        report.in_short(
            f"training speed, {name}: {our} ÷ {fastest}, the fastest of {len(rivals)} by hand",
            spread(ratios(seconds[fastest], by=seconds[our])),
            "≥ 1.0",
        )


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
    for short in {name.split()[1]: None for name in ours}:
        steps = round(epochs * len(images) / batch_size)
        products = Products(
            vae_of(initial_layers(0)), steps, batch_size, torch.device("cpu"),
            bfloat16=short == "bf16",
        )  # fmt: skip
        runs[f"products {short}"] = partial(products.train, 1)
    runs |= {"one thread": small_work(1), "all threads": small_work(torch.get_num_threads())}
    seconds = interleave({name: timed(run) for name, run in runs.items()}, rounds)
    alone, together = seconds.pop("one thread"), seconds.pop("all threads")
    rows = []
    for name, theirs in seconds.items():
        rate = spread([epochs * len(images) / time for time in theirs], digits=0)
        rows.append([name, rate, *(spread(ratios(theirs, by=seconds[our])) for our in ours)])
    title = f"Batch {batch_size}: examples per second, median (smallest–largest) of {rounds} rounds"
    report.table(
        title, ["", "examples per second", *(f"speed of {our} ÷ this" for our in ours)], rows
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
    report.table(title, ["", "nats per image (grey pixels)", f"− {LOOP}"], rows)


def is_ours(name: str) -> bool:
    """Whether a contender is vaelib's."""
    return name.startswith("vaelib")


def initial_layers(seed: int) -> Layers:
    """The parameters all start from: as PyTorch initialises linear layers."""
    torch.manual_seed(seed)
    return layers_of(VAE((1, 28, 28), 2, [512]))


def seeded(build: Callable[[], VAE]) -> VAE:
    """A model that starts where all of its kind do."""
    torch.manual_seed(0)
    return build()


def convolves(vae: VAE) -> bool:
    """Whether it has convolutions, for which the layout of memory matters."""
    return any(isinstance(module, torch.nn.Conv2d) for module in vae.modules())


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


if __name__ == "__main__":
    main()
