"""How fast `log_likelihood` is, against the straightforward loop over images, and in what memory.

Measured: log p(x) of the 500 test digits of mnist5k (static binarisation) by 5,000 importance
samples each, under a VAE 784-200-200-50 (tanh) that has seen five epochs of dynamically binarised
training digits: vaelib's `log_likelihood` against a loop that takes one image after the other,
all its samples at once, written in plain torch. And the peak memory of a process that does either
for two images with 500, 5,000 and 50,000 samples.

Fair: the same model, images and number of samples; ten rounds of 50 images for each in turn, ratios
within a round; both in fp32 on the CPU. The two estimates have noise of their own and must agree
within it. Peak memory is that of a whole fresh process, torch included.

    python -m benchmarks.log_likelihood           # some minutes; keeps a results file
    python -m benchmarks.log_likelihood --quick   # does it run? Seconds, keeps nothing
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from benchmarks.report import Report, interleave, ratios, spread, timed
from vaelib import VAE
from vaelib.data import load_dataset
from vaelib.evaluation import log_likelihood
from vaelib.training import fit

LOOP, VAELIB = "loop over images", "vaelib"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak:
        print(peak_memory(options.peak[0], int(options.peak[1])))
        return
    quick = options.quick
    report = Report("log_likelihood", "\n\n".join(__doc__.split("\n\n")[1:3]))
    samples, rounds, at_once, epochs = (100, 2, 5, 1) if quick else (5000, 10, 50, 5)
    measure_speed(report, trained_vae(epochs), samples, rounds, at_once)
    measure_memory(report, [500] if quick else [500, 5_000, 50_000])
    report.close(save=not quick)


def measure_speed(report: Report, vae: VAE, samples: int, rounds: int, at_once: int) -> None:
    """A table of times, and whether both say the same."""
    images = load_dataset("mnist5k", "test")[: rounds * at_once]
    parts = images.binarise("static", torch.Generator().manual_seed(0)).floats().split(at_once)
    estimates: dict[str, list[Tensor]] = {name: [] for name in METHODS}
    noise = {name: torch.Generator().manual_seed(seed) for seed, name in enumerate(METHODS)}

    def estimate(name: str, order: Iterator[Tensor]) -> None:
        estimates[name].append(METHODS[name](vae, next(order), noise[name], samples))

    # The round that does not count takes the first images, too.
    runs = {name: timed(partial(estimate, name, iter([parts[0], *parts]))) for name in METHODS}
    seconds = interleave(runs, rounds)
    rows = [
        [name, spread(times), spread(ratios(seconds[LOOP], by=times))]
        for name, times in seconds.items()
    ]
    title = f"Seconds for {at_once} images, median (smallest–largest) of {rounds} rounds"
    report.table(title, ["", "seconds", f"speed ÷ {LOOP}"], rows)
    what = f"{samples:,}-sample log-likelihood of {len(images)} images"
    ratio = ratios(seconds[LOOP], by=seconds[VAELIB])
    report.in_short(f"{what}: speed of vaelib ÷ {LOOP}", spread(ratio))
    ours, loop = (torch.cat(estimates[name][1:]) for name in (VAELIB, LOOP))
    difference, error = (ours - loop).mean(), (ours - loop).std() / len(ours) ** 0.5
    report.text(
        f"log p(x) = {ours.mean():.2f} nats by vaelib and {loop.mean():.2f} by the loop "
        "(static binarisation)."
    )
    report.in_short(
        f"{what}: vaelib − {LOOP}, nats, ± standard error",
        f"{difference:+.3f} ± {error:.3f}",
        "0 within 2 standard errors",
    )


def measure_memory(report: Report, sample_counts: Sequence[int]) -> None:
    """A table of peaks, each of a process of its own."""
    if not Path("/proc/self/status").is_file():
        report.text("Peak memory is read from /proc, which this system does not have.")
        return
    peaks = {
        name: [peak_in_a_process(name, samples) for samples in sample_counts] for name in METHODS
    }
    rows = [[name, *(f"{peak:,.0f}" for peak in row)] for name, row in peaks.items()]
    columns = ["", *(f"{samples:,} samples" for samples in sample_counts)]
    report.table("Peak memory of the process, MB", columns, rows)
    ours = peaks[VAELIB]
    report.in_short(
        f"peak memory of vaelib: {sample_counts[-1]:,} samples ÷ {sample_counts[0]:,} samples",
        f"{ours[-1] / ours[0]:.2f}",
        "1: it does not grow",
    )


def peak_in_a_process(name: str, samples: int) -> float:
    command = [sys.executable, "-m", "benchmarks.log_likelihood", "--peak", name, str(samples)]
    root = Path(__file__).parents[1]
    return float(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)


def peak_memory(name: str, samples: int) -> float:
    """The most memory, in MB, that this process held until it had estimated two images."""
    images = load_dataset("mnist5k", "test")[:2]
    x = images.binarise("static", torch.Generator().manual_seed(0)).floats()
    METHODS[name](new_vae(), x, torch.Generator(), samples)
    # Not getrusage: its number is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def by_vaelib(vae: VAE, x: Tensor, generator: torch.Generator, samples: int) -> Tensor:
    """(N,) estimates."""
    return log_likelihood(vae, x, generator, samples=samples).per_example


@torch.no_grad()
def by_loop(vae: VAE, x: Tensor, generator: torch.Generator, samples: int) -> Tensor:
    """(N,) estimates: an image at a time, all its samples at once."""
    estimates = []
    for image in x:
        mu, logvar = vae.encoder.body(image.unsqueeze(0)).chunk(2, dim=1)
        q, prior = Normal(mu, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)
        z = mu + q.stddev * torch.randn(samples, mu.shape[1], generator=generator)
        logits = vae.decoder.body(z)
        target = image.flatten().expand(samples, -1)
        log_p_x = -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
        log_w = log_p_x + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1)
        estimates.append(torch.logsumexp(log_w, 0) - math.log(samples))
    return torch.stack(estimates)


METHODS: dict[str, Callable[[VAE, Tensor, torch.Generator, int], Tensor]] = {
    VAELIB: by_vaelib,
    LOOP: by_loop,
}


def new_vae() -> VAE:
    torch.manual_seed(0)
    return VAE((1, 28, 28), 50, [200, 200], activation="tanh")


def trained_vae(epochs: int) -> VAE:
    vae = new_vae()
    train = load_dataset("mnist5k").binarise("dynamic")
    fit(vae, train, epochs=epochs, device="cpu", precision="float32", progress=False)
    return vae


if __name__ == "__main__":
    main()
