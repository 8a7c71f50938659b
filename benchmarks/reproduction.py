"""How near the one-layer VAE of Burda et al. 2015 comes in short time: its curve and its NLL.

Measured: the ELBO on validation and test set after each epoch and, at the end, −log p(x) of test
images by 5,000 importance samples each, on full MNIST with dynamic binarisation; beside it what
the paper's table 1 has for k = 1 after 3,280 epochs, 86.76 nats (independent reproductions: 86.35
to 87.78).

The recipe: 784-200-200-50, tanh, mirrored decoder; batch 20; Adam, β₁ 0.9, β₂ 0.999, ε 1e-4; 3^i
epochs at learning rate 1e-3·10^(−i/7), i = 0…7; Glorot initialisation, the output bias from the
mean image. Fair, and where it differs: one sample, the whole bound with the closed-form KL; 55,000
training images, since 5,000 are kept for validation; fp32.

Only a part of the schedule fits into half an hour. As published it breaks off at a high learning
rate; `--compress EPOCHS` goes through all eight learning rates in about so many epochs, in the same
proportions (and at least one epoch each), and is another experiment, reported as such.

    python -m benchmarks.reproduction --minutes 30                  # the schedule, broken off
    python -m benchmarks.reproduction --minutes 30 --compress 300   # all of it, in 300 epochs
    python -m benchmarks.reproduction --checkpoint run.pt …         # again: goes on from run.pt
    python -m benchmarks.reproduction --quick                       # does it run? Keeps nothing

The output says how many epochs a minute fit; the NLL of all 10,000 test images takes minutes more
(`--images` for fewer, drawn at random). Without MNIST (a folder `mnist` in `VAELIB_DATA`, or a
download) there is nothing to measure, and it says so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from benchmarks.report import Report, write_beside
from vaelib import VAE
from vaelib.checkpoint import read_checkpoint, write_checkpoint
from vaelib.data import Images, load_dataset
from vaelib.evaluation import evaluate_elbo, log_likelihood
from vaelib.plots import style
from vaelib.training import fit

PUBLISHED = 86.76
STAGES = [(1e-3 * 10 ** (-i / 7), 3**i) for i in range(8)]
"""Learning rate and epochs."""

TRAIN, VALIDATION, TEST = range(3)  # columns of the curve


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="of training, in this call")
    parser.add_argument("--compress", type=int, metavar="EPOCHS", help="all eight rates in so many")
    parser.add_argument("--checkpoint", type=Path, help="keep the run here, and go on from it")
    parser.add_argument("--images", type=int, help="test images for the NLL (default: all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="see that it runs: no file")
    options = parser.parse_args(arguments)
    dataset = "mnist5k" if options.quick else "mnist"
    try:
        train, validation, test = (
            load_dataset(dataset, split, device=options.device).binarise("dynamic")
            for split in ("train", "validation", "test")
        )
    except OSError as error:
        print(f"Skipped: there is no MNIST in VAELIB_DATA, and no download. {error}")
        return
    if options.quick:
        options.compress, options.images, train = 8, 5, train[:100]
    kind = "reproduction-compressed" if options.compress else "reproduction"
    report = Report(kind, "\n\n".join(__doc__.split("\n\n")[1:4]), options.device)
    run = Run(train, stages(options.compress), options.checkpoint)
    run.advance(train, validation, test, options.minutes)
    describe(report, run, options.compress)
    log_p = measure_nll(report, run, test, options.images, samples=50 if options.quick else 5000)
    if not options.quick:
        picture = report.path.with_suffix(".png")
        write_beside(picture, lambda path: draw(run.curve, log_p, path))
        report.text(f"![The ELBO by epoch]({picture.name})")
    report.close(save=not options.quick)


def stages(epochs: int | None) -> list[tuple[float, int]]:
    """Learning rates and how long each holds: as published, or in about so many epochs."""
    if epochs is None:
        return STAGES
    scale = epochs / sum(count for _, count in STAGES)
    return [(rate, max(1, round(scale * count))) for rate, count in STAGES]


class Run:
    """The model, its Adam and its curve: all that a checkpoint holds.

    Arguments:
        train: for the output bias.
        plan: `stages`.
        checkpoint: continued where it is there, and written after every epoch.
    """

    def __init__(self, train: Images, plan: list[tuple[float, int]], checkpoint: Path | None):
        self.rates = [rate for rate, epochs in plan for _ in range(epochs)]
        self.checkpoint = checkpoint
        torch.manual_seed(0)
        self.vae = VAE((1, 28, 28), 50, [200, 200], activation="tanh")
        initialise(self.vae, train)
        self.vae.to(train.pixels.device)
        self.adam = torch.optim.Adam(self.vae.parameters(), eps=1e-4, fused=True)
        self.curve = torch.zeros(0, 3, dtype=torch.float64)
        self.seconds = 0.0
        if checkpoint is not None and checkpoint.exists():
            self._restore(read_checkpoint(checkpoint))

    def advance(self, train: Images, validation: Images, test: Images, minutes: float) -> None:
        """One epoch, and more until the schedule is through or the next would not fit in."""
        start, longest = time.perf_counter(), 0.0
        while len(self.curve) < len(self.rates):
            begun = time.perf_counter()
            if longest and begun - start + longest > 60 * minutes:
                break
            self._train_epoch(train, validation, test)
            seconds = time.perf_counter() - begun
            self.seconds, longest = self.seconds + seconds, max(longest, seconds)
            self._save()
            print(
                f"epoch {len(self.curve)} of {len(self.rates)}: validation ELBO "
                f"{self.curve[-1, VALIDATION]:.2f} nats, {60 / seconds:.1f} epochs a minute",
                flush=True,
            )

    def _train_epoch(self, train: Images, validation: Images, test: Images) -> None:
        epoch = len(self.curve)
        for group in self.adam.param_groups:
            group["lr"] = self.rates[epoch]
        # The epoch is the seed: each has noise of its own, and a resumed run that of a whole one.
        history = fit(
            self.vae,
            train,
            epochs=1,
            batch_size=20,
            seed=epoch,
            device=train.pixels.device,
            precision="float32",
            optimizer=self.adam,
            progress=False,
        )
        # The same draws after each epoch: the curve shows the parameters' change alone.
        noise = torch.Generator(train.pixels.device).manual_seed(0)
        held_out = [evaluate_elbo(self.vae, x, noise).mean().item() for x in (validation, test)]
        row = torch.tensor([[history.elbo[0].item(), *held_out]], dtype=torch.float64)
        self.curve = torch.cat([self.curve, row])

    def _save(self) -> None:
        if self.checkpoint is not None:
            state = {
                "model": self.vae.state_dict(),
                "optimizer": self.adam.state_dict(),
                "rates": self.rates,
                "curve": self.curve,
                "seconds": self.seconds,
            }
            write_checkpoint(self.checkpoint, state)

    def _restore(self, state: dict[str, Any]) -> None:
        if state["rates"] != self.rates:
            raise SystemExit(
                f"{self.checkpoint} holds a run with another schedule: give the same --compress, "
                "or name another file"
            )
        self.vae.load_state_dict(state["model"])
        self.adam.load_state_dict(state["optimizer"])
        self.curve, self.seconds = state["curve"], state["seconds"]


def initialise(vae: VAE, train: Images) -> None:
    """Glorot's uniform weights, zero biases, and an output bias that gives the mean image."""
    layers = [layer for layer in vae.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    # Bounded: a pixel that is never on would want −∞.
    mean = (train.pixels.double().mean(0) / 255).clamp(0.001, 0.999)
    with torch.no_grad():
        layers[-1].bias.copy_(mean.logit().flatten())


def describe(report: Report, run: Run, compress: int | None) -> None:
    """What was run, and how far it came."""
    done, planned = len(run.curve), len(run.rates)
    published = sum(count for _, count in STAGES)
    what = (
        f"All eight learning rates, compressed from {published:,} to {planned} epochs"
        if compress
        else f"The published schedule of {published:,} epochs"
    )
    report.text(
        f"{what}; {done} of {planned:,} done ({done / planned:.1%}), the last at learning rate "
        f"{run.rates[done - 1]:.1e}, in {run.seconds / 60:.1f} minutes."
    )
    rows = [[f"{epoch}", *(f"{v:.2f}" for v in run.curve[epoch - 1])] for epoch in milestones(done)]
    report.table(
        "ELBO, nats (dynamic binarisation)", ["epoch", "training", "validation", "test"], rows
    )


def milestones(epochs: int) -> list[int]:
    """1, 2, 4, … and the last."""
    return [2**i for i in range(epochs.bit_length()) if 2**i < epochs] + [epochs]


def measure_nll(report: Report, run: Run, test: Images, n_images: int | None, samples: int) -> None:
    """Beside the published number."""
    generator = torch.Generator(test.pixels.device).manual_seed(0)
    n_images = min(n_images or len(test), len(test))
    # Drawn, not the first ones: MNIST's first 5,000 test images are the easier ones.
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:n_images]
    result = log_likelihood(
        run.vae, test[chosen.to(test.pixels.device)], generator, samples=samples
    )
    error = result.per_example.std() / n_images**0.5
    report.text(f"{result}; as a sample of all images, ± {error:.2f}.")
    published = sum(count for _, count in STAGES)
    report.in_short(
        f"−log p(x), {n_images:,} test images, after {len(run.curve)} epochs "
        f"(published after {published:,}); nats, dynamic binarisation",
        f"{-result.mean():.2f} ± {result.mean_standard_error():.2f}",
        f"{PUBLISHED} published",
    )
    return result.mean().item()


def draw(curve: Tensor, log_p: float, path: Path) -> None:
    """The curve and where it ends, with the published end as a line."""
    epochs = range(1, len(curve) + 1)
    with style():
        figure, axes = plt.subplots(figsize=(7, 4))
        axes.set_xscale("log")
        for column, name in ((VALIDATION, "validation ELBO"), (TEST, "test ELBO")):
            axes.plot(epochs, curve[:, column], label=name)
        axes.plot(len(curve), log_p, "o", color="black", label="test log p(x) at the end")
        axes.axhline(-PUBLISHED, color="grey", label="published log p(x), after 3,280 epochs")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("epoch")
        axes.set_ylabel("nats an image (dynamic binarisation)")
        axes.set_ylim(bottom=curve[len(curve) // 20, VALIDATION].item() - 5)
        axes.legend()
        figure.savefig(path, dpi=120)
        plt.close(figure)


if __name__ == "__main__":
    main()
