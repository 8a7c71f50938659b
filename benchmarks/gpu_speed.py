"""The speeds of gpu.py: training, compiled training, convolutions, log-likelihoods."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from benchmarks.contenders import PEERS, Contender, Precision, layers_of, vae_of
from benchmarks.gpu_parts import Lines, Setting, sync
from benchmarks.log_likelihood import new_vae
from benchmarks.loops import CapturedLoop, Launches, PlainLoop, Products
from benchmarks.report import ratios, spread
from vaelib import VAE, fit, log_likelihood
from vaelib._checks import value_checks
from vaelib.captured import StaticStep
from vaelib.cuda_graph import repeatable
from vaelib.images import Images
from vaelib.minibatches import InMemory
from vaelib.objective import Objective

__all__ = ["compiled", "convolutional", "likelihood", "training"]

Epochs = Callable[[int], list[float]]
"""Trains for so many epochs; the seconds that each took."""

EXAMPLE, BY_HAND = "PyTorch's example", "captured by hand"


def training(lines: Lines, setting: Setting) -> None:
    """784-512-2-512-784, at three batch sizes."""
    images = setting.images(512 if setting.quick else 60_000)
    count_operations(lines)
    for batch_size in [128] if setting.quick else [128, 1024, 8192]:
        whole = images[: len(images) // batch_size * batch_size]
        start = layers_of(mlp())
        runs: dict[str, Epochs] = {}
        for name, peer in PEERS.items():
            if name.startswith("Keras"):  # on torch it is far behind
                continue
            if peer is None:
                lines.text(f"{name} is not installed here.")
                continue
            name = EXAMPLE if name == "PyTorch loop" else name
            make = partial(peer, start, whole, batch_size, 0, setting.device)
            runs[name] = by_loop(make, setting)
        x = whole.floats().to(setting.device)
        for precision in ("float32", "bfloat16"):
            in_bf16 = precision == "bfloat16"
            plain = partial(PlainLoop, mlp(), x, batch_size, bfloat16=in_bf16)
            captured = partial(CapturedLoop, mlp(), x, batch_size, bfloat16=in_bf16)
            products = partial(Products, mlp(), len(x) // batch_size, batch_size, x.device,
                               bfloat16=in_bf16)  # fmt: skip
            runs[f"plain loop, {precision}"] = by_loop(plain, setting)
            runs[f"fit, {precision}"] = by_fit(mlp, whole, batch_size, setting, precision)
            runs[f"{BY_HAND}, {precision}"] = by_loop(captured, setting)
            runs[f"products, {precision}"] = by_loop(products, setting)
        runs["fit, as it comes"] = by_fit(mlp, whole, batch_size, setting, "auto")
        race(lines, setting, f"MLP, batch {batch_size}", runs, len(whole), batch_size == 128)


def compiled(lines: Lines, setting: Setting) -> None:
    """`fit(compile=True)` at batch 128, beside what it is without."""
    images = setting.images(512 if setting.quick else 60_000)
    images = images[: len(images) // 128 * 128]
    runs = {
        f"fit{', compiled' if on else ''}, {precision}": by_fit(
            mlp, images, 128, setting, precision, compile=on and not setting.quick
        )
        for precision in ("float32", "bfloat16")
        for on in (False, True)
    }
    race(lines, setting, "Compiled, batch 128", runs, len(images), in_short=False)


def convolutional(lines: Lines, setting: Setting) -> None:
    """Two networks of convolutions, on fewer images."""
    for network in ("convolutional", "residual"):
        build = partial(conv, network, [4] if setting.quick else None)
        n = 128 * (240 if network == "convolutional" else 80)
        images = setting.images(64 if setting.quick else n)
        batch_size = 32 if setting.quick else 128
        x = images.floats().to(setting.device)
        runs: dict[str, Epochs] = {}
        for precision in ("float32", "bfloat16"):
            in_bf16 = precision == "bfloat16"
            for last in (False, True):
                name = f"plain loop, {precision}{', channels last' if last else ''}"
                loop = partial(PlainLoop, build(), x, batch_size, bfloat16=in_bf16,
                               channels_last=last)  # fmt: skip
                runs[name] = by_loop(loop, setting)
            runs[f"fit, {precision}"] = by_fit(build, images, batch_size, setting, precision)
            captured = partial(CapturedLoop, build(), x, batch_size, bfloat16=in_bf16)
            runs[f"{BY_HAND}, {precision}"] = by_loop(captured, setting)
            # As `fit` has it, whose convolutions give the same numbers in every run.
            runs[f"{BY_HAND}, repeatable, {precision}"] = by_loop(
                partial(repeatably, captured), setting
            )
        title = f"{network.capitalize()}, batch {batch_size}"
        race(lines, setting, title, runs, len(images), in_short=True)


def likelihood(lines: Lines, setting: Setting) -> None:
    """10,000 images × 5,000 samples, against the way image by image on a few of them."""
    n, few, samples = (20, 5, 100) if setting.quick else (10_000, 100, 5_000)
    train = setting.images(1_000 if setting.quick else 20_000).binarise("dynamic")
    images = setting.images(n, "test").binarise("static", torch.Generator().manual_seed(0))
    vae = new_vae()
    fit(vae, train, epochs=1 if setting.quick else 5, device=setting.device, progress=False)
    images = images.to(setting.device)
    estimate = partial(log_likelihood, vae, samples=samples)
    estimate(images[:few], 0)
    seconds, whole = clocked(lambda: estimate(images, 0), setting)
    # A thousand z at a time is one image at a time, as it was before.
    one_by_one, before = clocked(lambda: estimate(images[:few], 0, chunk_size=1_000), setting)
    together = estimate(images[:few], 0)
    apart = (together.per_example - before.per_example).abs().max().item()
    speed = one_by_one / few / (seconds / n)
    lines.text(
        f"{n:,} images × {samples:,} samples: {seconds:.2f} s; {few} of them image by image "
        f"{one_by_one:.2f} s. {whole}"
    )
    lines.in_short(
        f"log-likelihood, {samples:,} samples: speed ÷ image by image", f"{speed:.1f}", "≥ 25"
    )
    lines.in_short(
        "log-likelihood: largest difference from image by image, nats", f"{apart:.1e}", "rounding"
    )


def count_operations(lines: Lines) -> None:
    """How many kernels a step is, about: at small batches that decides the speed of a graph."""
    images = Images((torch.rand(256, 1, 28, 28) * 255).to(torch.uint8))
    vae = mlp()
    static = StaticStep(
        Objective(vae), torch.optim.Adam(vae.parameters(), fused=True), InMemory("train", images),
        torch.Generator(), noise_shape=(1, 128, 2), like=next(vae.parameters()),
    )  # fmt: skip
    static.begin_epoch(torch.arange(256), [1.0, 1.0])
    by_hand = CapturedLoop(mlp(), images.floats(), 128)
    counts = []
    for step in (static, by_hand.static_step):
        step()
        with Launches() as launches, value_checks(False):
            step()
        counts.append(launches.count)
        by_hand.position.zero_()
    lines.in_short(
        f"operations per step: fit's step ÷ the one by hand ({counts[0]} ÷ {counts[1]})",
        f"{counts[0] / counts[1]:.2f}",
    )


def race(
    lines: Lines,
    setting: Setting,
    title: str,
    runs: Mapping[str, Epochs],
    n: int,
    in_short: bool,
) -> None:
    """A table of everybody's examples per second; the ratios that were to be reached."""
    rounds, epochs = (1, 1) if setting.quick else (2, 3)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    first: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            if setting.left() < 8 or name not in seconds:
                continue
            try:
                taken = run(1 + epochs)
            except Exception as error:
                del seconds[name]
                reason = str(error).strip().splitlines() or [""]
                lines.text(f"{title}: {name} failed: {type(error).__name__}: {reason[0][:300]}")
                continue
            first.setdefault(name, taken[0])
            seconds[name].append(median(taken[1:]))
    seconds = {name: times for name, times in seconds.items() if len(times) == rounds}
    ours = [name for name in seconds if name.startswith("fit")]
    rows = [
        [
            name,
            spread([n / time for time in times], digits=0),
            f"{first[name]:.2f}",
            *(spread(ratios(times, by=seconds[our])) for our in ours),
        ]
        for name, times in seconds.items()
    ]
    columns = ["", "examples per second", "first epoch, s", *(f"{our} ÷ this" for our in ours)]
    lines.table(f"{title}: median (smallest–largest) of {rounds} rounds", columns, rows)
    if in_short:
        for our in ours:
            precision = our.rpartition(", ")[2]
            targets = {EXAMPLE: "≥ 10", f"{BY_HAND}, {precision}": "≥ 0.8"}
            targets[f"{BY_HAND}, repeatable, {precision}"] = "–"
            targets[f"plain loop, {precision}"] = "≥ 1"
            for other, to_reach in targets.items():
                if other in seconds:
                    speed = spread(ratios(seconds[other], by=seconds[our]))
                    lines.in_short(f"{title}: {our} ÷ {other}", speed, to_reach)


def by_loop(make: Callable[[], Contender | PlainLoop | Products], setting: Setting) -> Epochs:
    """Epochs of something that has `train`, made at its first epoch."""
    made: list[Any] = []

    def run(epochs: int) -> list[float]:
        if not made:
            made.append(make())
        return [clocked(lambda: made[0].train(1), setting)[0] for _ in range(epochs)]

    return run


def by_fit(
    build: Callable[[], VAE],
    images: Images,
    batch_size: int,
    setting: Setting,
    precision: Precision,
    *,
    compile: bool = False,
) -> Epochs:
    """Epochs of one call of `fit`; what it does before the first one counts as the first one's."""

    def run(epochs: int) -> list[float]:
        clock = [time.perf_counter()]
        fit(
            build(), images, epochs=epochs, batch_size=batch_size, device=setting.device,
            precision=precision, compile=compile, progress=False,
            on_epoch=lambda *_: clock.append(time.perf_counter()),
        )  # fmt: skip
        return [b - a for a, b in pairwise(clock)]

    return run


def repeatably(make: Callable[[], CapturedLoop]) -> CapturedLoop:
    """A loop whose convolutions were captured so that they are the same in every run."""
    with repeatable():
        return make()


def clocked(work: Callable[[], Any], setting: Setting) -> tuple[float, Any]:
    """The seconds that it took, and what it gave."""
    sync(setting.device)
    start = time.perf_counter()
    result = work()
    sync(setting.device)
    return time.perf_counter() - start, result


def mlp() -> VAE:
    torch.manual_seed(0)
    return vae_of(layers_of(VAE((1, 28, 28), 2, [512])))


def conv(network: Any, hidden: list[int] | None) -> VAE:
    torch.manual_seed(0)
    return VAE((1, 28, 28), 16, hidden, network=network, likelihood="grey bernoulli")
