"""Whether what gpu.py measures is right: captured runs against eager ones, replay, resumption."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.gpu_parts import Lines, Setting
from vaelib import ELBO, VAE, fit
from vaelib.baselines import GAN, PixelCNN
from vaelib.baselines.gan import fit_gan
from vaelib.baselines.pixelcnn import fit_pixelcnn
from vaelib.captured import CapturedStep
from vaelib.history import History
from vaelib.images import Images

__all__ = ["agreement", "baselines", "refusals"]

SHAPE, K = (1, 28, 28), 8
DROPOUT, NOT_KEPT = "dropout", "–"  # its generator is torch's global one, which no checkpoint holds


def agreement(lines: Lines, setting: Setting) -> None:
    """`fit` with graphs against `fit` without, against itself, and against itself in two halves."""
    smaller = 24 if setting.quick else 120
    cases: dict[str, tuple[Callable[[], VAE], dict[str, Any]]] = {
        "MLP": (mlp, {"precision": "float32"}),
        "MLP, bfloat16": (mlp, {"precision": "bfloat16"}),
        "MLP, as it comes": (mlp, {}),
        "MLP, its last minibatch smaller": (mlp, {"precision": "float32", "batch_size": smaller}),
        "MLP, a schedule per epoch": (mlp, {"precision": "float32", "scheduled": True}),
        "batch normalisation": (with_modes, {"precision": "float32"}),
        DROPOUT: (partial(with_modes, 0.5), {"precision": "float32"}),
        "convolutional": (convolutional, {"precision": "float32"}),
        "residual": (residual, {"precision": "float32"}),
    }
    images = setting.images(60 if setting.quick else 1_000).binarise("dynamic")
    rows = []
    for name, (build, chosen) in cases.items():
        rows.append([name, *answered(lambda b=build, c=chosen: compare(b, images, setting, c))])
        if name == DROPOUT:
            rows[-1][-1] = NOT_KEPT
        lines.text(" · ".join(rows[-1]))  # so that a later error does not take it away
    columns = ["", "steps replayed", "captured − eager", "replayed by its seed", "resumed"]
    lines.table("Agreement: largest differences of parameters", columns, rows)
    if setting.is_cuda:
        used = sum(row[1].startswith("all but") for row in rows)
        exact = sum(set(row[3:]) <= {"0", NOT_KEPT} for row in rows)
        lines.in_short("models whose steps are replayed as a graph", f"{used} of {len(rows)}",
                       f"{len(rows)}")  # fmt: skip
        lines.in_short("models replayed and resumed bit for bit", f"{exact} of {len(rows)}",
                       f"{len(rows)}")  # fmt: skip


def compare(
    build: Callable[[], VAE], images: Images, setting: Setting, chosen: dict[str, Any]
) -> list[str]:
    whole, used = trained(build, images, setting, epochs=4, **chosen)
    again, _ = trained(build, images, setting, epochs=4, **chosen)
    with eager():
        without, _ = trained(build, images, setting, epochs=4, **chosen)
    with tempfile.TemporaryDirectory() as folder:
        kept = {"checkpoint": Path(folder, "run.pt"), "resume": True, **chosen}
        trained(build, images, setting, epochs=2, **kept)
        resumed, _ = trained(build, images, setting, epochs=4, **kept)
    apart = [f"{(whole - other).abs().max().item():.2g}" for other in (without, again, resumed)]
    return [used, *apart]


def refusals(lines: Lines, setting: Setting) -> None:
    """Models that a graph cannot hold must train as without one, and say why; so must changes."""
    images = setting.images(60 if setting.quick else 1_000).binarise("dynamic")
    cases: dict[str, tuple[Callable[[], VAE], dict[str, Any]]] = {
        "counts in Python": (Counting, {}),
        "assigns a buffer anew": (Averaging, {}),
        "draws in Python": (Drawing, {}),
        "its rate is set in on_epoch": (mlp, {"on_epoch": slower}),
        "a part is frozen in on_epoch": (mlp, {"on_epoch": frozen}),
        "SGD": (mlp, {"optimizer": torch.optim.SGD}),
        "reads a value": (Reading, {}),
        "reads a value, precision by measurement": (Reading, {"precision": "auto"}),
        "draws from a generator of its own": (OwnNoise, {}),
        "a plain model after all of these": (mlp, {}),
    }
    rows, right = [], 0
    for name, (build, chosen) in cases.items():

        def check(build: Callable[[], VAE] = build, chosen: dict[str, Any] = chosen) -> list[str]:
            chosen = {"precision": "float32", **chosen}
            found, used = trained(build, images, setting, epochs=3, **chosen)
            with eager():
                without, _ = trained(build, images, setting, epochs=3, **chosen)
            torch.randn(1, device=setting.device)
            return [used, f"{(found - without).abs().max().item():.2g}"]

        rows.append([name, *answered(check)])
        lines.text(" · ".join(rows[-1]))
        right += rows[-1][-1] == "0"
    lines.table("Refusals and changes", ["", "steps replayed", "− eager, parameters"], rows)
    lines.in_short(
        "models that no graph holds, and changes between epochs: trained as without graphs",
        f"{right} of {len(rows)}",
        f"{len(rows)}",
    )


def baselines(lines: Lines, setting: Setting) -> None:
    """PixelCNN and GAN, twice by one seed."""
    images = setting.images(60 if setting.quick else 600).to(setting.device)

    def pixelcnn() -> Tensor:
        torch.manual_seed(0)
        model = PixelCNN(SHAPE, channels=4 if setting.quick else 32, layers=2).to(setting.device)
        fit_pixelcnn(model, images.binarise("dynamic"), 0, epochs=2)
        return parameters(model)

    def gan() -> Tensor:
        torch.manual_seed(0)
        model = GAN(SHAPE, latent_dim=8, width=2 if setting.quick else 16).to(setting.device)
        fit_gan(model, images, 0, epochs=2)
        return parameters(model)

    for name, run in {"PixelCNN": pixelcnn, "GAN": gan}.items():
        found = answered(lambda run=run: [f"{(run() - run()).abs().max().item():.2g}"])
        lines.in_short(f"{name}: two runs by one seed, largest difference", found[0], "0")


def trained(
    build: Callable[[], VAE], images: Images, setting: Setting, **chosen: Any
) -> tuple[Tensor, str]:
    """The parameters and buffers after `fit`, and how many of its steps were replayed."""
    torch.manual_seed(0)
    random.seed(0)
    model = build()
    if chosen.pop("scheduled", False):
        adam = torch.optim.Adam(model.parameters(), lr=2e-3)
        chosen |= {"optimizer": adam, "scheduler": torch.optim.lr_scheduler.StepLR(adam, 1, 0.5)}
    elif "optimizer" in chosen:
        chosen["optimizer"] = chosen["optimizer"](model.parameters(), lr=1e-4)
    elif on_epoch := chosen.get("on_epoch"):
        adam = torch.optim.Adam(model.parameters())
        chosen["optimizer"] = adam
        chosen["on_epoch"] = lambda history, model: on_epoch(history, model, adam)
    chosen = {"batch_size": 20 if setting.quick else 100, **chosen}
    with recorded() as steps:
        fit(model, images, device=setting.device, progress=False, **chosen)
    return parameters(model), " ".join(map(told, steps)) or "none: there is no captured step"


def told(step: Any) -> str:
    """What a captured step did."""
    if step.graph is None:
        return "none: " + ("; ".join(step.said) or "nothing was said")
    return f"all but {step.WARM_UP} of {step.made}"


@contextlib.contextmanager
def recorded() -> Iterator[list[Any]]:
    """The captured steps that `fit` makes inside the `with`."""
    made: list[Any] = []

    class Recorded(CapturedStep):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.said: list[str] = []
            self.say = self.said.append
            made.append(self)

    with patch("vaelib.steps.CapturedStep", Recorded):
        yield made


def eager() -> contextlib.AbstractContextManager[object]:
    """No step is captured inside the `with`."""
    return patch.object(CapturedStep, "WARM_UP", 10**9)


def parameters(model: nn.Module) -> Tensor:
    """All of its state as one vector, on the CPU."""
    values = [value.detach().double().flatten().cpu() for value in model.state_dict().values()]
    return torch.cat(values)


def answered(work: Callable[[], list[str]]) -> list[str]:
    """What it says, or its error."""
    try:
        return work()
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        return [f"{type(error).__name__}: {reason[0][:200]}"]


def mlp() -> VAE:
    return VAE(SHAPE, K, [64])


def convolutional() -> VAE:
    return VAE(SHAPE, K, [8], network="convolutional")


def residual() -> VAE:
    return VAE(SHAPE, K, [8], network="residual")


def with_modes(dropout: float = 0.0) -> VAE:
    body = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(),
                         nn.Dropout(dropout), nn.Linear(32, 2 * K))  # fmt: skip
    return VAE(SHAPE, K, [32], encoder=body)


class Reading(VAE):
    """Decides by a value."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [64])

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        return super().forward(x, eps if x.mean() < 2 else 0 * eps)


class Counting(VAE):
    """Adds less noise from step to step."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [64])
        self._steps = 0

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        self._steps += self.training
        return super().forward(x, eps / self._steps if self.training else eps)


class Averaging(VAE):
    """Follows a mean by a buffer that it assigns."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [64])
        self.register_buffer("mean", torch.zeros(SHAPE))

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return super().forward(x, eps)


class Drawing(VAE):
    """Leaves its noise out now and then, as Python's generator says."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [64])

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        return super().forward(x, 0 * eps if self.training and random.random() < 0.5 else eps)


class OwnNoise(VAE):
    """Adds noise from a generator that nobody registered."""

    def __init__(self) -> None:
        super().__init__(SHAPE, K, [64])
        self.source: torch.Generator | None = None

    def forward(self, x: Tensor, eps: Tensor) -> ELBO:
        if self.source is None:
            self.source = torch.Generator(x.device).manual_seed(0)
        own = torch.randn(eps.shape, generator=self.source, device=x.device)
        return super().forward(x, eps + 0.1 * own)


def slower(history: History, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 / (10 * len(history))


def frozen(history: History, model: Any, optimizer: torch.optim.Optimizer) -> None:
    model.encoder.requires_grad_(False)
