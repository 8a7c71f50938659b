"""Shared code of all recipes: command line, clock, resumption, record and export."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vaelib
from vaelib import History, Images, load_dataset
from vaelib.checkpoint import read_checkpoint, write_checkpoint
from vaelib.images import check_labels
from vaelib.pretrained import Measurement, Record, write_pretrained

ROOT = Path(__file__).parents[1]
SEED = 0


class Run:
    """One training run, which can be interrupted and continued, and the export of its model.

    Arguments:
        name: of the model.
        about: the model in one line.
        arguments: of the command line; by default those of the process.

    Attributes:
        device: on which to train.
        quick: whether to use few images and epochs, only to check that the recipe runs.
        checkpoint: the run's file. `NAME.clock` beside it keeps the time.
        epochs: completed so far.
    """

    def __init__(self, name: str, about: str, arguments: Sequence[str] | None = None) -> None:
        module = name.replace("-", "_")
        parser = argparse.ArgumentParser(prog=f"python -m recipes.{module}", description=about)
        parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        parser.add_argument("--checkpoint", type=Path, help=f"default: runs/{name}.pt")
        parser.add_argument("--export", type=Path, help="folder (default: vaelib's own)")
        parser.add_argument(
            "--as-it-is", action="store_true", help="measure and export without more training"
        )
        parser.add_argument(
            "--quick", action="store_true", help="check that it runs; export nothing"
        )
        options = parser.parse_args(arguments)
        self.name, self.about = name, about
        self.recipe = parser.prog
        self.device = torch.device(options.device)
        self.quick, self.as_it_is = options.quick, options.as_it_is
        self.checkpoint: Path = options.checkpoint or ROOT / "runs" / f"{name}.pt"
        self.folder: Path = options.export or ROOT / "vaelib" / "weights"
        if self.quick:
            elsewhere = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, elsewhere)
            self.checkpoint = options.checkpoint or elsewhere / f"{name}.pt"
            self.folder = options.export or elsewhere
        if self.as_it_is and not self.checkpoint.exists():
            parser.error(f"there is no run in {self.checkpoint} to export as it is")
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        self.clock = self.checkpoint.with_suffix(".clock")
        self.epochs, self.seconds = 0, 0.0
        # Of a run that was continued: those of all its parts.
        self.commits, self.devices = [_commit()], [_device_name(self.device)]
        if self.checkpoint.exists() and self.clock.exists():
            kept = json.loads(self.clock.read_text())
            self.epochs, self.seconds = kept["epochs"], kept["seconds"]
            now = [[], []] if self.as_it_is else [self.commits, self.devices]
            self.commits = list(dict.fromkeys(kept["commits"] + now[0]))
            self.devices = list(dict.fromkeys(kept["devices"] + now[1]))
        self._began = time.perf_counter()

    def mnist(self, split: str) -> Images:
        """MNIST's 60,000 "train" images, or "test"; for a quick run, a few of mnist5k."""
        if self.quick:
            return load_dataset("mnist5k", split, device=self.device)[:200]
        if split == "test":
            return load_dataset("mnist", "test", device=self.device)
        kept, held_out = (
            load_dataset("mnist", part, device=self.device) for part in ("train", "validation")
        )
        labels = torch.cat([check_labels("train", part) for part in (kept, held_out)])
        return Images(torch.cat([kept.pixels, held_out.pixels]), labels, "mnist", "train")

    def tick(self, epochs: int, **values: float) -> None:
        """Write the clock after this many epochs, and print the progress."""
        now = time.perf_counter()
        self.seconds, self._began = self.seconds + now - self._began, now
        self.epochs = epochs
        kept = {
            "epochs": self.epochs,
            "seconds": self.seconds,
            "commits": self.commits,
            "devices": self.devices,
        }
        # Renamed, so that a crash leaves the old file or the new one.
        beside = self.clock.with_suffix(".part")
        beside.write_text(json.dumps(kept))
        beside.replace(self.clock)
        said = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        print(f"{self.name}: epoch {self.epochs}, {self.seconds / 60:.1f} min: {said}", flush=True)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C stop the training, so that the same command continues it."""
        self._began = time.perf_counter()
        try:
            yield
        except KeyboardInterrupt:
            raise SystemExit(
                f"\nStopped after {self.epochs} epochs, which are kept in {self.checkpoint}: the "
                "same command continues, and --as-it-is exports the model as it is"
            ) from None

    def fit(self, model: nn.Module, train: Images, **options: Any) -> None:
        """Call `vaelib.fit` with these options, and continue a stopped run."""
        if self.as_it_is:
            model.load_state_dict(read_checkpoint(self.checkpoint)["model"])
            model.to(self.device)
            return

        def tick(history: History, _: nn.Module) -> None:
            self.tick(len(history), ELBO=history.elbo[-1].item())

        with self.interruptible():
            vaelib.fit(
                model,
                train,
                seed=SEED,
                device=self.device,
                compile=not self.quick and shutil.which("c++") is not None,
                checkpoint=self.checkpoint,
                resume=True,
                on_epoch=tick,
                progress=False,
                **options,
            )

    def train(
        self,
        epochs: int,
        parts: Mapping[str, Any],
        epoch: Callable[[int, torch.Generator], Mapping[str, float]],
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Call `epoch` until all epochs are done, and save the state of all `parts` after each.

        Arguments:
            epochs: of the whole run.
            parts: everything with a `state_dict`, such as optimizers; the model is "model".
            epoch: takes its number, from 0, and a generator; the values that it returns are
                printed.
            enough: whether to stop early; called before each epoch.
        """
        if self.checkpoint.exists():
            state = read_checkpoint(self.checkpoint)
            for name, part in parts.items():
                part.load_state_dict(state[name])
            # Not the clock's, which is written after the checkpoint.
            self.epochs = state["epochs"]
        with self.interruptible():
            while self.epochs < epochs and not enough() and not self.as_it_is:
                # Seeded by the epoch, so that a resumed run draws the same numbers.
                generator = torch.Generator(self.device).manual_seed(1000 * SEED + self.epochs)
                values = epoch(self.epochs, generator)
                state = {name: part.state_dict() for name, part in parts.items()}
                write_checkpoint(self.checkpoint, state | {"epochs": self.epochs + 1})
                self.tick(self.epochs + 1, **values)

    def export(
        self,
        model: nn.Module,
        arguments: Mapping[str, Any],
        measure: Callable[[Any], list[Measurement]],
        *,
        train: Images,
        convention: str,
        compare: Callable[[Any], float],
        note: str = "",
    ) -> None:
        """Measure the model, and write it and its record.

        It is stored in bfloat16 if that changes `compare(model)` by less than 0.02.

        Arguments:
            model: trained.
            arguments: of its class.
            measure: returns the measurements of a model.
            train, convention: the training images, and how their pixels were read.
            compare: returns how good a model is, such as its bound in nats, without randomness.
            note: as in `Record`.
        """
        rounded = deepcopy(model).bfloat16().float()
        lost = compare(model) - compare(rounded)
        dtype = "bfloat16" if abs(lost) < 0.02 else "float32"
        print(
            f"{self.name}: bfloat16 would change it by {-lost:+.4f}: stored as {dtype}", flush=True
        )
        stored = rounded if dtype == "bfloat16" else model
        if self.as_it_is:
            note = f"exported as it was after {self.epochs} epochs{'; ' if note else ''}{note}"
        record = Record(
            name=self.name,
            about=self.about,
            model=type(model).__name__,
            arguments=dict(arguments),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            dtype=dtype,
            recipe=self.recipe,
            commit=", ".join(self.commits),
            seed=SEED,
            device="; ".join(self.devices),
            hours=round(self.seconds / 3600, 5),
            epochs=self.epochs,
            data=f"{train.name} {train.split} ({len(train):,})",
            convention=convention,
            versions={name: version(name) for name in ("torch", "numpy")}
            | {"vaelib": vaelib.__version__, "python": platform.python_version()},
            measurements=tuple(measure(stored)),
            note=note,
        )
        write_pretrained(self.folder, record, stored.state_dict())
        print(record, flush=True)


class Best:
    """The parameters that a model had when a number was lowest; a part of a run.

    Arguments:
        model: whose parameters are kept.

    Attributes:
        value: the lowest number so far.
        age: how many numbers have been seen since then.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.value, self.age = float("inf"), 0
        self.parameters = deepcopy(model.state_dict())

    def see(self, value: float) -> None:
        """Keep the model as it is now if the number is lower than before."""
        self.age += 1
        if value < self.value:
            self.value, self.age = value, 0
            self.parameters = deepcopy(self.model.state_dict())

    def restore(self) -> None:
        """Give the model its best parameters again."""
        self.model.load_state_dict(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "age": self.age, "parameters": self.parameters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value, self.age, self.parameters = state["value"], state["age"], state["parameters"]


def measurement(quantity: str, values: Tensor, images: Images, **fields: Any) -> Measurement:
    """The mean of one value per image, with its standard error.

    >>> from vaelib import load_dataset
    >>> images = load_dataset("digits", "test")[:4]
    >>> print(measurement("error", torch.tensor([1.0, 2.0, 3.0, 4.0]), images, unit="a unit"))
    error = 2.50 ± 0.65 a unit (digits test, grey, 4 images)
    """
    values = values.detach().double()
    return Measurement(
        quantity=quantity,
        value=round(values.mean().item(), 4),
        standard_error=round(values.std().item() / len(values) ** 0.5, 4),
        data=f"{images.name} {images.split}",
        convention=images.convention,
        images=len(values),
        **fields,
    )


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                threads = torch.get_num_threads()
                name = line.partition(":")[2].strip()
                return f"{name}, {threads} thread{'s' * (threads > 1)}"
    return platform.processor() or platform.machine()
