"""A run that can be stopped and resumed: its state, and a description to compare it with others."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._checks import value_checks
from vaelib._modes import evaluating
from vaelib._optimizers import load_optimizer, optimizer_state, plain
from vaelib.checkpoint import description, read_checkpoint, write_checkpoint
from vaelib.elbo import ELBO, noise_dim
from vaelib.history import History
from vaelib.minibatches import Minibatch, named
from vaelib.objective import Objective
from vaelib.parallel import Processes

__all__ = ["Run", "fingerprint"]


@dataclass
class Run:
    """Everything that the next epoch depends on, and so everything that a checkpoint holds.

    `settings` and `contents` describe the run, and a checkpoint with others is refused. They do not
    include what may change from one call to the next: learning rate, epochs and interval.
    """

    objective: Objective
    optimizer: torch.optim.Optimizer
    scheduler: Any
    generator: torch.Generator
    history: History
    settings: dict[str, Any]
    contents: dict[str, str | None]  # digests of the model and the data
    example: Minibatch  # whose bound tells models apart that have the same digest
    best_model: dict[str, Tensor] | None = None
    checkpoint: Path | None = None
    last_good: dict[str, Any] | None = None
    begun_at: int = 0  # epochs made before this process began
    whole_history: History = field(init=False)

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        return self.objective.model

    def begin(self, path: Path, resume: bool, group: Processes, any_precision: bool) -> None:
        """Continue the run at `path`, or save a new one, so that its first epoch can be resumed.

        With `any_precision` the run keeps its own precision, whatever is faster here.
        """
        self.checkpoint = path
        # Summed, so that every process has looked before the first one writes.
        found = group.total(torch.tensor(float(path.exists()), device=self.generator.device))
        if found > 0:
            if not resume:
                raise FileExistsError(
                    f"{path} already holds a run: continue it with resume=True, or use another file"
                )
            state = read_checkpoint(path)
            try:
                if any_precision:
                    self.settings["precision"] = dict(state["settings"])["precision"]
                self.restore(state)
            except (LookupError, TypeError, AttributeError, RuntimeError) as error:
                raise ValueError(
                    f"{path} holds no complete run to resume, or a run on another kind of device"
                ) from error
        elif group.is_first:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, if there is a file for it."""
        if self.checkpoint is not None:
            write_checkpoint(self.checkpoint, self.state())

    def state(self) -> dict[str, Any]:
        """The state of the run, as tensors and plain values."""
        return {
            **description(self.model),
            "settings": plain(self.settings),
            "contents": self.contents,
            # With the examples, because a `DataLoader` may begin with others the next time.
            "probe": {"example": list(self.example), "bound": self.bound_of(*self.example)},
            "best_model": self.best_model,
            **self._changing(),
            "history": {part.name: getattr(self.history, part.name) for part in fields(History)},
        }

    def _changing(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "scheduler": self.scheduler and plain(self.scheduler.state_dict()),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the run from `state`, and refuse the state of another run."""
        mine = {**(description(self.model)["arguments"] or {}), **self.settings}
        theirs = {**(state["arguments"] or {}), **state["settings"]}
        for name, value in mine.items():
            # A shorter run has fewer weights β.
            if theirs.get(name, value) != value:
                raise ValueError(
                    f"{self.checkpoint} holds a run with {name} = {theirs[name]}, not {value}: "
                    "resume with the same, or start a new run in another file"
                )
        for what, digest in self.contents.items():
            if state["contents"][what] != digest:
                raise ValueError(
                    f"{self.checkpoint} holds a run of another {what}: resume with the same, or "
                    "start a new run in another file"
                )
        history, best_model = History(**state["history"]), state["best_model"]
        self.generator.set_state(state["generator"])
        before = copy.deepcopy(self.model.state_dict())
        try:
            self.model.load_state_dict(state["model"])
            self._check_bound(state["probe"]["example"], state["probe"]["bound"])
            self._load_optimizer(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
        except Exception:
            self.model.load_state_dict(before)
            raise
        self.history, self.best_model, self.begun_at = history, best_model, len(history)

    def _check_bound(self, example: list[Any], expected: Tensor) -> None:
        bound = self.bound_of(*example)
        if not torch.allclose(bound, expected, rtol=1e-3, atol=1e-6, equal_nan=True):
            raise ValueError(
                f"{self.checkpoint} holds a run of another model: with the same parameters, this "
                "one computes another bound"
            )

    def bound_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The terms of the bound of some examples: of fixed noise, in evaluation mode."""
        like = next(self.model.parameters())
        x, y = x.to(like), None if y is None else y.to(like.device)
        eps = torch.full((1, len(x), noise_dim(self.model)), 0.5, dtype=x.dtype, device=x.device)
        with (
            torch.no_grad(),
            evaluating(self.objective),
            value_checks(False),
            named("train"),
            _seeded(like.device),
        ):
            bound: ELBO = self.objective(x, eps, y)
            return torch.stack([bound.reconstruction, bound.kl.sum(-1)]).cpu().double()

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        try:
            load_optimizer(self.optimizer, state)
        except ValueError as error:
            raise ValueError(
                f"{self.checkpoint} holds a run whose optimizer has other parameter groups: build "
                "it as before, or start a new run in another file"
            ) from error

    def set_learning_rates(self, rates: list[Any]) -> None:
        """Change the learning rate of each of the optimizer's groups."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def remember(self) -> None:
        """Keep the run as it is after a complete epoch, in case the next one fails."""
        self.last_good = _copied(self._changing(), self.last_good)
        self.whole_history = replace(self.history)

    def go_back(self) -> None:
        """Restore model, history, optimizer and scheduler as they were last remembered."""
        assert self.last_good is not None
        self.history = self.whole_history
        self.model.load_state_dict(self.last_good["model"])
        load_optimizer(self.optimizer, self.last_good["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(self.last_good["scheduler"])


def _copied(value: Any, into: Any = None) -> Any:
    """Copy as `copy.deepcopy` does, but into the tensors of an earlier copy if there is one."""
    if isinstance(value, Tensor):
        if isinstance(into, Tensor) and into.shape == value.shape and into.dtype == value.dtype:
            return into.copy_(value)
        return value.detach().clone()
    if isinstance(value, dict):
        before = into if isinstance(into, dict) else {}
        return {key: _copied(part, before.get(key)) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else copy.copy(value)


def fingerprint(model: nn.Module) -> str:
    """A digest of a model's modules, their settings and the shapes of its state."""
    # A module may have a state of its own besides tensors (`get_extra_state`).
    shapes = [
        (name, tuple(value.shape) if isinstance(value, Tensor) else None)
        for name, value in model.state_dict().items()
    ]
    return hashlib.sha256(f"{model} {shapes}".encode()).hexdigest()


@contextlib.contextmanager
def _seeded(device: torch.device) -> Iterator[None]:
    """Seed the global generators for a model that draws from them, and put them back."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(0)  # which leaves GPUs alone
        if on_gpu:
            torch.cuda.manual_seed(0)
        yield
