"""How fast `log_likelihood` is, against its first edition and a loop over images; in what memory.

Measured: log p(x) of test digits of mnist5k (static binarisation) by 5,000 importance samples each,
under a VAE 784-200-200-50 (tanh) that has seen five epochs of dynamically binarised training
digits: vaelib's `log_likelihood`; vaelib's first edition (commit 96782ae); and a loop that takes
one image after the other, all its samples at once, written in plain torch. On one core and on two.
And the peak memory of a process that does it for two images with 500, 5,000 and 50,000 samples.

Fair: the same model, images and number of samples; each in a process of its own, as one uses it,
since the memory that one method has freed speeds up the next; ten rounds of 20 images for each in
turn, ratios within a round; all in fp32 on the CPU. The two editions must agree to rounding, which
also says that the noise is the same; the loop has noise of its own, and must agree within it.
Peak memory is that of a whole fresh process, torch included.

    python -m benchmarks.log_likelihood           # some minutes; keeps a results file
    python -m benchmarks.log_likelihood --device cuda
    python -m benchmarks.log_likelihood --quick   # does it run? Seconds, keeps nothing
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from benchmarks.report import Report, interleave, ratios, spread
from vaelib import VAE
from vaelib.data import load_dataset
from vaelib.evaluation import log_likelihood
from vaelib.training import fit

LOOP, VAELIB, FIRST = "loop over images", "vaelib", "first edition"
FIRST_EDITION = "96782ae"
ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak:
        print(peak_memory(options.peak[0], int(options.peak[1])))
        return
    if options.work:
        name, path, samples, at_once, device = options.work
        work(name, Path(path), int(samples), int(at_once), device)
        return
    quick, device = options.quick, options.device
    report = Report("log_likelihood", "\n\n".join(__doc__.split("\n\n")[1:3]), device)
    samples, rounds, at_once, epochs = (100, 2, 5, 1) if quick else (5000, 10, 20, 5)
    vae = trained_vae(epochs)
    if device != "cpu":
        measure_speed(report, vae, samples, 2 if quick else 5, 100, 1, device)
        report.close(save=not quick)
        return
    for threads in (1, 2):
        measure_speed(report, vae, samples, rounds, at_once, threads)
    measure_memory(report, [500] if quick else [500, 5_000, 50_000])
    report.close(save=not quick)


def measure_speed(
    report: Report,
    vae: VAE,
    samples: int,
    rounds: int,
    at_once: int,
    threads: int,
    device: str = "cpu",
) -> None:
    """A table of times, and whether all say the same."""
    estimates: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = load_dataset("mnist5k", "test")
        x = images.binarise("static", torch.Generator().manual_seed(0)).floats()
        torch.save({"vae": vae.state_dict(), "x": x}, folder / "given.pt")
        folders = {VAELIB: ROOT, LOOP: ROOT}
        if unpack_first_edition(folder / "first"):
            folders[FIRST] = folder / "first"
        else:
            report.text(f"The first edition is left out: this clone has no commit {FIRST_EDITION}.")
        arguments = [str(folder / "given.pt"), str(samples), str(at_once), device]
        workers = {
            name: stack.enter_context(worker(name, where, arguments, threads))
            for name, where in folders.items()
        }

        def seconds(name: str) -> float:
            taken, values = workers[name]()
            estimates.setdefault(name, []).extend(values)
            return taken

        taken = interleave({name: partial(seconds, name) for name in workers}, rounds)
    ours = taken[VAELIB]
    rows = [[name, spread(times), spread(ratios(times, by=ours))] for name, times in taken.items()]
    cores = f"{threads} thread{'s' * (threads > 1)}" if device == "cpu" else device
    title = f"{cores}: seconds for {at_once} images, median (smallest–largest) of {rounds} rounds"
    report.table(title, ["", "seconds", "÷ vaelib"], rows)
    what = f"{samples:,}-sample log-likelihood of {len(estimates[VAELIB])} images, {cores}"
    for name, least in ((FIRST, "≥ 1.3" if device == "cpu" else "≥ 25"), (LOOP, "–")):
        if name not in taken:
            continue
        report.in_short(
            f"{what}: speed of vaelib ÷ {name}", spread(ratios(taken[name], by=ours)), least
        )
        difference = torch.tensor(estimates[VAELIB]) - torch.tensor(estimates[name])
        if name == FIRST:
            report.in_short(
                f"{what}: largest difference to the {name}, nats",
                f"{difference.abs().max():.5f}",
                "0, to rounding",
            )
            continue
        error = difference.std() / len(difference) ** 0.5
        report.in_short(
            f"{what}: vaelib − {name}, nats, ± standard error",
            f"{difference.mean():+.3f} ± {error:.3f}",
            "0 within 2 standard errors",
        )


def unpack_first_edition(folder: Path) -> bool:
    """Whether git knows it."""
    command = ["git", "archive", "--format=zip", FIRST_EDITION, "vaelib"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True)
    if archive.returncode:
        return False
    with ZipFile(io.BytesIO(archive.stdout)) as files:
        files.extractall(folder)
    return True


@contextlib.contextmanager
def worker(
    name: str, folder: Path, arguments: list[str], threads: int
) -> Iterator[Callable[[], tuple[float, list[float]]]]:
    """A process that imports `folder`'s vaelib, and estimates the next images at each call."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.log_likelihood", "--work", name, *arguments],
        cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    calls, answers = process.stdin, process.stdout

    def estimate() -> tuple[float, list[float]]:
        calls.write("\n")
        calls.flush()
        seconds, values = json.loads(answers.readline())
        return seconds, values

    try:
        yield estimate
    finally:
        calls.close()
        answers.close()
        process.wait()


def work(name: str, path: Path, samples: int, at_once: int, device: str) -> None:
    """Estimate the next images for each line of the input."""
    given = torch.load(path)
    vae, parts = new_vae().to(device), given["x"].to(device).split(at_once)
    vae.load_state_dict(given["vae"])
    generator = torch.Generator(device).manual_seed(int(name == LOOP))
    for turn, _ in enumerate(sys.stdin):
        start = time.perf_counter()
        values = METHODS[name](vae, parts[turn % len(parts)], generator, samples).tolist()
        print(json.dumps([time.perf_counter() - start, values]), flush=True)


def measure_memory(report: Report, sample_counts: Sequence[int]) -> None:
    """A table of peaks, each of a process of its own."""
    if not Path("/proc/self/status").is_file():
        report.text("Peak memory is read from /proc, which this system does not have.")
        return
    peaks = {
        name: [peak_in_a_process(name, samples) for samples in sample_counts]
        for name in (VAELIB, LOOP)
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
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


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
        eps = torch.randn(samples, mu.shape[1], generator=generator, device=mu.device)
        z = mu + q.stddev * eps
        logits = vae.decoder.body(z)
        target = image.flatten().expand(samples, -1)
        log_p_x = -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
        log_w = log_p_x + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1)
        estimates.append(torch.logsumexp(log_w, 0) - math.log(samples))
    return torch.stack(estimates)


METHODS: dict[str, Callable[[VAE, Tensor, torch.Generator, int], Tensor]] = {
    VAELIB: by_vaelib,
    FIRST: by_vaelib,
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
