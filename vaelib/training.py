"""Training: forward through encoder, sample and decoder for a minibatch, then backwards.

`fit` maximises the mean ELBO by Adam, as the training chapter does by hand: a `training_step` for
each minibatch, and around it what a long run needs (history, validation, checkpoints, processes).
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib._checks import (
    check_at_least,
    check_device,
    check_finite,
    check_floating,
    check_not_negative,
    check_positive,
    value_checks,
)
from vaelib.checkpoint import read_checkpoint, write_checkpoint
from vaelib.data import Images
from vaelib.elbo import ELBO
from vaelib.evaluation import _convention, active_units, evaluate_elbo
from vaelib.parallel import Processes, processes

__all__ = ["History", "NonFiniteError", "fit", "training_step"]


class NonFiniteError(FloatingPointError):
    """A term of the bound became NaN or infinite; the message says which, when and what is safe.

    Example:
        >>> from vaelib import VAE
        >>> try:
        ...     fit(VAE(shape=(2,), likelihood="gaussian"), 1e30 * torch.ones(2, 2), progress=False)
        ... except NonFiniteError as error:
        ...     print(str(error).split(";")[0])
        reconstruction and KL became NaN or infinite in step 1 (epoch 1)
    """


@dataclass(repr=False)
class History:
    """What `fit` saw, one row an epoch (E); CPU tensors, all bounds in nats an example.

    Attributes:
        convention: what the pixels are, for example "dynamic binarisation".
        reconstruction: (E,) mean E_q[log p(x given z)] over the epoch's training examples, each
            with the parameters of its own step.
        kl: (E, K) mean KL to the prior for each latent dimension, likewise.
        beta: (E,) the KL's weight in the epoch's last step: 1 unless asked otherwise.
        active_units: (E,) latent dimensions that the encoder uses (Burda et al. 2015, section 5.2).
        validation_elbo: (E,) mean ELBO, always with β = 1, on the validation set; (0,) without.

    Example:
        >>> from vaelib import VAE, load_dataset
        >>> _ = torch.manual_seed(0)
        >>> digits = load_dataset("digits", "validation").binarise("dynamic")
        >>> vae = VAE(digits.shape, latent_dim=2, hidden=[16])
        >>> history = fit(vae, digits, digits, epochs=3, progress=False)
        >>> history.kl.shape, history.best_epoch
        (torch.Size([3, 2]), 3)
    """

    convention: str
    reconstruction: Tensor
    kl: Tensor
    beta: Tensor
    active_units: Tensor
    validation_elbo: Tensor

    @classmethod
    def empty(cls, latent_dim: int, convention: str) -> History:
        """Before the first epoch."""
        none = torch.zeros(0, dtype=torch.float64)
        units = torch.zeros(0, dtype=torch.int64)
        return cls(convention, none, torch.zeros(0, latent_dim).double(), none, units, none)

    @property
    def elbo(self) -> Tensor:
        """(E,) reconstruction − KL on the training examples."""
        return self.reconstruction - self.kl.sum(-1)

    @property
    def epochs(self) -> Tensor:
        """(E,) 1, 2, …"""
        return torch.arange(1, len(self) + 1)

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the highest validation ELBO; `None` without validation."""
        return int(self.validation_elbo.argmax()) + 1 if len(self.validation_elbo) else None

    def __len__(self) -> int:
        return len(self.reconstruction)

    def __repr__(self) -> str:
        if not len(self):
            return f"History(0 epochs, {self.convention})"
        text = f"History({len(self)} epochs, {self.convention}: ELBO {self.elbo[-1]:.2f} nats"
        if len(self.validation_elbo):
            text += f", validation {self.validation_elbo[-1]:.2f}"
        return text + ")"

    def append(self, **row: Tensor | float) -> None:
        """Add an epoch: one value for each attribute that has rows."""
        for name, value in row.items():
            column: Tensor = getattr(self, name)
            added = torch.as_tensor(value, dtype=column.dtype, device="cpu").unsqueeze(0)
            setattr(self, name, torch.cat([column, added]))


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    eps: Tensor,
    *,
    beta: float = 1.0,
    clip_norm: float | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    size: float | None = None,
) -> ELBO:
    """One step of gradient ascent on the mean ELBO of a minibatch.

    Kingma & Welling 2013, algorithm 1.

    Arguments:
        model: `model(x, eps)` gives the `ELBO`.
        optimizer: makes exactly one step; stale gradients have no part in it.
        x: (N, …) the minibatch.
        eps: (S, N, K) its noise.
        beta: weight of the KL term.
        clip_norm: largest norm of the gradient; a longer one is shortened to it.
        precision: of the matrix products; parameters and sums keep their own.
        size: what the sum over examples is divided by; N unless x is a part of a minibatch.

    Returns:
        the bound before the step, detached.

    Raises:
        ValueError: for a number out of range, another precision, or what the model refuses.

    Example:
        >>> from vaelib import VAE
        >>> _ = torch.manual_seed(0)
        >>> vae = VAE(shape=(6,), latent_dim=2, hidden=[8])
        >>> adam = torch.optim.Adam(vae.parameters(), lr=0.01)
        >>> x, eps = torch.ones(4, 6), torch.randn(1, 4, 2)
        >>> bounds = [training_step(vae, adam, x, eps).mean() for _ in range(20)]
        >>> bool(bounds[-1] > bounds[0])
        True
    """
    check_floating(x=x, eps=eps)
    size = len(x) if size is None else size
    check_positive(size=size)
    if clip_norm is not None:
        check_positive(clip_norm=clip_norm)
    _check_precision(precision)
    check_not_negative(beta=beta)
    bound, loss = _loss(model, x, eps, beta, precision, size)
    _forget_gradients(model, optimizer)
    loss.backward()
    _update(optimizer, clip_norm)
    return ELBO(bound.reconstruction.detach(), bound.kl.detach())


def fit(
    model: nn.Module,
    train: Images | Tensor,
    validation: Images | Tensor | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    samples: int = 1,
    seed: int = 0,
    device: torch.device | str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    beta: float = 1.0,
    warmup_epochs: float = 0,
    clip_norm: float | None = None,
    patience: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    compile: bool = False,
) -> History:
    """Train by maximising the mean ELBO with Adam; the model is changed in place.

    Kingma & Welling 2013, algorithm 1; Adam is of Kingma & Ba 2015.

    Under `torchrun` every process takes its part of each minibatch, which then holds `batch_size`
    examples a process: two processes reach what one reaches with twice the batch size.

    Arguments:
        model: a `LatentVariableModel` whose `model(x, eps)` is its `ELBO`, such as `VAE`.
        train, validation: `Images`, read by their convention, or floating-point tensors (N, …).
        epochs: of the whole run, those before a resumption included.
        batch_size: examples a step (and process).
        learning_rate: of Adam (its other numbers are PyTorch's).
        samples: draws of z for each example and step.
        seed: of the order, the noise and dynamic pixels; not of the parameters, which the model
            brings along. The global generator is left alone, so what a model draws from it by
            itself, as dropout does, is not replayed.
        device: CUDA where there is one, else the CPU.
        precision: of the matrix products. `"auto"` is bfloat16 on a CPU that has instructions for
            it, else float32.
        beta: weight of the KL term; only 1 maximises the ELBO (Higgins et al. 2017).
        warmup_epochs: over which that weight rises linearly from 0 (Bowman et al. 2016).
        clip_norm: largest norm of the gradient.
        patience: stop after so many epochs without a better validation ELBO, and leave the model
            with the parameters of the best epoch.
        optimizer: over `model.parameters()`, in place of Adam; keeps its state from call to call.
            Not together with `compile`.
        checkpoint: file that holds the run as it was after its last whole epoch.
        resume: continue the run in `checkpoint` where there is one. N + M epochs equal N, then M,
            bit for bit on the same machine.
        progress: whether to draw a bar.
        compile: whether `torch.compile` makes one graph of a step, forwards, backwards and Adam. It
            takes some seconds, and on the CPU a C++ compiler and Python's headers; then steps are
            faster, and parameters agree with those of a run without it to rounding. Hooks on
            gradients are not called.

    Returns:
        `History`.

    Raises:
        ValueError: for an argument out of range, data that the likelihood refuses, or a checkpoint
            of another run.
        RuntimeError: when compile is asked for and fails.
        FileExistsError: when `checkpoint` is there and `resume` is not asked for.
        NonFiniteError: when the bound becomes NaN or infinite.

    Example:
        >>> from vaelib import VAE, load_dataset
        >>> _ = torch.manual_seed(0)
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=2, hidden=[32])
        >>> digits = load_dataset("digits").binarise("dynamic")
        >>> history = fit(vae, digits, epochs=3, progress=False)
        >>> bool(history.elbo[2] > history.elbo[0])
        True
    """
    check_at_least(1, epochs=epochs, batch_size=batch_size, samples=samples)
    check_at_least(0, seed=seed)
    if patience is not None:
        check_at_least(1, patience=patience)
    check_positive(learning_rate=learning_rate)
    if clip_norm is not None:
        check_positive(clip_norm=clip_norm)
    check_not_negative(beta=beta, warmup_epochs=warmup_epochs)
    if compile and optimizer is not None:
        raise ValueError("compile makes a graph of fit's own Adam: leave optimizer out")
    if resume and checkpoint is None:
        raise ValueError("resume needs a checkpoint to continue from")
    if patience is not None and validation is None:
        raise ValueError("patience needs a validation set to wait for")
    _check_data(train=train)
    if validation is not None:
        _check_data(validation=validation)
    device = _choose_device(device)
    with processes(device) as group:
        if compile and group.count > 1:
            raise ValueError("compile trains in one process, not under torchrun")
        model.to(device)
        train = train.to(device)
        validation = None if validation is None else validation.to(device)
        run = _Run(
            model,
            optimizer or _adam(model, learning_rate),
            torch.Generator(device).manual_seed(seed),
            _empty_history(model, train),
            settings={
                "data": _name(train),
                "examples": len(train),
                "validation": _name(validation),
                "validation examples": 0 if validation is None else len(validation),
                "parameters": str(next(model.parameters()).dtype),
                "batch_size": batch_size * group.count,
                "optimizer": "Adam" if optimizer is None else type(optimizer).__name__,
                "learning_rate": learning_rate if optimizer is None else None,
                "samples": samples,
                "seed": seed,
                "precision": _choose_precision(precision, device),
                "beta": beta,
                "warmup_epochs": warmup_epochs,
                "clip_norm": clip_norm,
                "compile": compile,
            },
        )
        if checkpoint is not None:
            run.begin(Path(checkpoint), resume, group, any_precision=precision == "auto")
        step_model = group.wrap(model)
        with _progress_bar(run, epochs, progress and group.is_first) as bar, _compiler(compile):
            while len(run.history) < epochs and not _has_waited(run.history, patience):
                _train_epoch(run, step_model, train, group, bar)
                run.validate(train, validation)
                if checkpoint is not None and group.is_first:
                    write_checkpoint(checkpoint, run.state())
        if patience is not None and run.best_model is not None:
            model.load_state_dict(run.best_model)
    return run.history


def _loss(
    model: nn.Module,
    x: Tensor,
    eps: Tensor,
    beta: float | Tensor,
    precision: str,
    size: float | Tensor,
) -> tuple[ELBO, Tensor]:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        bound: ELBO = model(x, eps)
    return bound, -bound.weighted(beta).sum() / size


def _compiled_step(
    model: nn.Module,
    adam: torch.optim.Optimizer,
    clip_norm: float | None,
    precision: str,
    count: int,
) -> Callable[[Tensor, Tensor, float, float], Tensor]:
    """`training_step` with fit's own Adam, of which it is step `count` + 1, as one graph.

    To be called inside `_compiler`; gives the `_sums` of the bound. Adam is written out, since in
    the graph its pass over the parameters is one with the last pass over the gradients, which saves
    a sixth of a small step; torch's own, as the compiler finds it, saves nothing.
    """
    state = _adam_state(model, adam, count)
    moments = [(kept["exp_avg"], kept["exp_avg_sq"]) for kept in state]
    (group,) = adam.param_groups
    (beta1, beta2), epsilon, clips = group["betas"], group["eps"], clip_norm is not None

    def step(x: Tensor, eps: Tensor, beta: float, size: float) -> Tensor:
        nonlocal count
        count += 1
        for kept in state:
            kept["step"].fill_(count)
        # In a tensor, since numbers by themselves would be constants of the graph.
        numbers = eps.new_tensor(
            [
                beta,
                size,
                group["lr"] / (1 - beta1**count),
                (1 - beta2**count) ** -0.5,
                clip_norm or 0.0,
            ]
        )
        return _graph()(model, x, eps, numbers, moments, beta1, beta2, epsilon, clips, precision)

    return step


def _adam_state(
    model: nn.Module, adam: torch.optim.Optimizer, count: int
) -> list[dict[str, Tensor]]:
    """What Adam knows, after `count` steps, of each parameter that is trained."""
    trained = _trained(model)
    if not adam.state:
        # A step with gradients of 0 moves nothing, and makes the state as torch lays it out.
        model.zero_grad()
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        adam.step()
        for parameter in trained:
            adam.state[parameter]["step"].fill_(count)
    model.zero_grad()
    return [adam.state[parameter] for parameter in trained]


@cache
def _graph() -> Callable[..., Tensor]:
    # A graph for each shape: one for all of them is slower by a fifth.
    return torch.compile(_ascend, dynamic=False)


def _ascend(
    model: nn.Module,
    x: Tensor,
    eps: Tensor,
    numbers: Tensor,
    moments: list[tuple[Tensor, Tensor]],
    beta1: float,
    beta2: float,
    epsilon: float,
    clips: bool,
    precision: str,
) -> Tensor:
    """Kingma & Ba 2015, algorithm 1, with the numbers that change from step to step in a tensor."""
    beta, size, rate, scale, clip_norm = numbers.unbind()
    bound, loss = _loss(model, x, eps, beta, precision, size)
    trained = _trained(model)
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    if clips:
        norm = nn.utils.get_total_norm([g for g in gradients if g is not None])
        shrink = (clip_norm / (norm + 1e-6)).clamp(max=1)
        gradients = tuple(None if g is None else g * shrink for g in gradients)
    with torch.no_grad():
        for parameter, gradient, (mean, square) in zip(trained, gradients, moments, strict=True):
            if gradient is not None:
                mean.lerp_(gradient, 1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                parameter.sub_(rate * mean / (square.sqrt() * scale + epsilon))
    return _sums(bound)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _forget_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    # Neither need hold all parameters of the other.
    model.zero_grad()
    optimizer.zero_grad()


def _update(optimizer: torch.optim.Optimizer, clip_norm: float | None) -> None:
    if clip_norm is not None:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, clip_norm)
    optimizer.step()


@contextlib.contextmanager
def _compiler(on: bool) -> Iterator[None]:
    if not on:
        yield
        return
    # Compiling turns it off, and for the whole process: in a graph nobody can read a value.
    before = Distribution._validate_args
    import torch._dynamo

    Distribution.set_default_validate_args(False)
    # Gradients belong into the graph that gives the bound, which is not yet torch's default; and a
    # session may train more than the eight models after which torch stops to compile.
    config = torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=64)
    try:
        with config:
            yield
    except torch._dynamo.exc.BackendCompilerFailed as error:
        reason = str(error).splitlines()[0]
        raise RuntimeError(
            f"compile=True failed ({reason}): torch.compile needs a C++ compiler such as g++, and "
            "Python's headers; without compile, fit trains to the same parameters, if slower"
        ) from error
    finally:
        Distribution.set_default_validate_args(before)


@dataclass
class _Run:
    """All that the next epoch depends on, and so all that a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    history: History
    settings: dict[str, Any]
    best_model: dict[str, Tensor] | None = None
    checkpoint: Path | None = None
    checked: bool = False  # whether the values of a minibatch have been read

    def begin(self, path: Path, resume: bool, group: Processes, any_precision: bool) -> None:
        """Continue the run at `path`, or make it so that even the first epoch can be resumed.

        With `any_precision` the run goes on in its own, whatever this processor would be given.
        """
        self.checkpoint = path
        # Summed, so that all have looked before the first one writes.
        found = group.total(torch.tensor(float(path.exists()), device=self.generator.device))
        if found > 0:
            if not resume:
                raise FileExistsError(
                    f"{path} holds a run already: continue it with resume=True, or name another"
                )
            state = read_checkpoint(path)
            try:
                if any_precision:
                    self.settings["precision"] = dict(state["settings"])["precision"]
                self.restore(state)
            except (KeyError, TypeError, AttributeError, RuntimeError) as error:
                raise ValueError(
                    f"{path} holds no whole run to resume, or one of another kind of device"
                ) from error
        elif group.is_first:
            write_checkpoint(path, self.state())

    def state(self) -> dict[str, Any]:
        """Tensors and plain values alone."""
        return {
            "arguments": getattr(self.model, "arguments", None),
            "settings": self.settings,
            "model": self.model.state_dict(),
            "best_model": self.best_model,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "history": {field.name: getattr(self.history, field.name) for field in fields(History)},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become the run that `state` was taken of."""
        mine = {**(getattr(self.model, "arguments", None) or {}), **self.settings}
        theirs = {**(state.get("arguments") or {}), **state["settings"]}
        for name, value in mine.items():
            if theirs.get(name) != value:
                raise ValueError(
                    f"{self.checkpoint} holds a run with {name} = {theirs.get(name)}, not {value}: "
                    "resume with the same, or start a new run in another file"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.history = History(**state["history"])
        self.best_model = state["best_model"]

    def validate(self, train: Images | Tensor, validation: Images | Tensor | None) -> None:
        """Measure the epoch that has just ended."""
        # The same noise each time, so that two epochs differ by their parameters alone; and none
        # of the training's own stream.
        noise = torch.Generator(self.generator.device).manual_seed(self.settings["seed"])
        model: Any = self.model
        # A unit is far above the threshold or far below it: a hundred images tell.
        measured = train[:: len(train) // 100 + 1] if validation is None else validation
        x = measured.floats(noise) if isinstance(measured, Images) else measured
        x = x.to(model.prior.mean)
        few = x[:: len(x) // 100 + 1]
        last_step = len(self.history) * _steps_per_epoch(self) - 1
        with _divergence_named(self, last_step, lambda: evaluate_elbo(model, x, noise)):
            with torch.no_grad():
                self.history.append(active_units=active_units(model.encoder(few)).sum())
            if validation is not None:
                self.history.append(validation_elbo=evaluate_elbo(model, x, noise).mean())
        if self.history.best_epoch == len(self.history):
            self.best_model = copy.deepcopy(self.model.state_dict())


def _train_epoch(
    run: _Run, step_model: nn.Module, train: Images | Tensor, group: Processes, bar: Any
) -> None:
    settings, dtype = run.settings, next(run.model.parameters()).dtype
    latent_dim = run.history.kl.shape[1]
    n_steps = _steps_per_epoch(run)
    warmup_steps = settings["warmup_epochs"] * n_steps
    first = len(run.history) * n_steps
    beta, seen = settings["beta"], []
    compiled_step = (
        _compiled_step(
            step_model, run.optimizer, settings["clip_norm"], settings["precision"], count=first
        )
        if settings["compile"]
        else None
    )
    for step, whole in enumerate(_minibatches(train, settings["batch_size"], run.generator), first):
        if warmup_steps:
            beta = settings["beta"] * min(1.0, step / warmup_steps)
        eps = torch.randn(
            (settings["samples"], len(whole), latent_dim),
            generator=run.generator,
            dtype=dtype,
            device=whole.device,
        )
        x, noise = group.part(whole).to(dtype), group.part(eps, dim=1)
        size = len(whole) / group.count
        # Checked once: later minibatches are of the same kind, and a check makes a GPU wait.
        with (
            value_checks(not run.checked),
            # Of the model itself: processes that see no fault would not take part in another step.
            _divergence_named(run, step, partial(run.model, x, noise)),
        ):
            if compiled_step is not None and len(whole) == settings["batch_size"]:
                if not run.checked:
                    with torch.no_grad():
                        step_model(x, noise)  # since a graph reads no values
                sums = compiled_step(x, noise, beta, size)
            else:
                bound = training_step(
                    step_model,
                    run.optimizer,
                    x,
                    noise,
                    beta=beta,
                    clip_norm=settings["clip_norm"],
                    precision=settings["precision"],
                    size=size,
                )
                sums = _sums(bound)
        run.checked = True
        seen.append(sums)
        if whole.device.type == "cpu" and group.count == 1:
            _check_sums(seen[-1].unsqueeze(0), step, run)
        bar.update()
    # Summed first, so that all processes see, and stop for, what one of them saw.
    totals = group.total(torch.stack(seen))
    _check_sums(totals, first, run)
    mean = totals.sum(0) / len(train)
    run.history.append(reconstruction=mean[0], kl=mean[1:], beta=beta)
    bar.set_postfix_str(f"ELBO {run.history.elbo[-1]:.2f} nats")


def _minibatches(
    data: Images | Tensor, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    if isinstance(data, Images):
        yield from data.batches(batch_size, generator)
        return
    order = torch.randperm(len(data), generator=generator, device=generator.device)
    for chosen in order.split(batch_size):
        yield data[chosen]


@contextlib.contextmanager
def _divergence_named(run: _Run, step: int, bound: Callable[[], ELBO]) -> Iterator[None]:
    """Where a value is refused, tell whether it is the bound that is no number any more."""
    try:
        yield
    except ValueError:
        with value_checks(False), torch.no_grad():
            _check_sums(_sums(bound()).unsqueeze(0), step, run)
        raise


def _sums(bound: ELBO) -> Tensor:
    """Its terms, summed over examples: the reconstruction, then the KL of each dimension."""
    terms = torch.cat([bound.reconstruction.unsqueeze(1), bound.kl], 1).detach()
    return terms.sum(0, dtype=torch.float64)


def _check_sums(sums: Tensor, first_step: int, run: _Run) -> None:
    if math.isfinite(sums.sum()):
        return
    bad = ~sums.isfinite()
    row = int(bad.any(1).nonzero()[0])
    terms = ["reconstruction"] if bad[row, 0] else []
    terms += ["KL"] if bad[row, 1:].any() else []
    step = first_step + row
    remedy = (
        f"the run before this epoch is safe in {run.checkpoint}"
        if run.checkpoint
        else "no checkpoint was asked for"
    )
    raise NonFiniteError(
        f"{' and '.join(terms)} became NaN or infinite in step {step + 1} "
        f"(epoch {step // _steps_per_epoch(run) + 1}); {remedy}. "
        "A lower learning_rate or clip_norm=1 often helps"
    )


def _progress_bar(run: _Run, epochs: int, on: bool) -> Any:
    from tqdm import tqdm

    # To standard output, since notebooks show standard error as if something had gone wrong; and
    # only where somebody watches, since a log would hold every state of the bar.
    watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    return tqdm(
        total=epochs * _steps_per_epoch(run),
        initial=len(run.history) * _steps_per_epoch(run),
        disable=not (on and watched),
        file=sys.stdout,
        unit="step",
        mininterval=0.2,
    )


def _steps_per_epoch(run: _Run) -> int:
    steps: int = math.ceil(run.settings["examples"] / run.settings["batch_size"])
    return steps


def _has_waited(history: History, patience: int | None) -> bool:
    best = history.best_epoch
    return patience is not None and best is not None and len(history) - best >= patience


def _name(data: Images | Tensor | None) -> list[str] | None:
    return [data.name, data.convention] if isinstance(data, Images) else None


def _empty_history(model: Any, train: Images | Tensor) -> History:
    return History.empty(model.prior.event_shape[0], _convention(model, train))


def _adam(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)


def _choose_device(device: torch.device | str | None) -> torch.device:
    if device is not None:
        return check_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _choose_precision(precision: str, device: torch.device) -> str:
    if precision != "auto":
        _check_precision(precision, '"auto", ')
        return precision
    # Without such instructions bfloat16 is emulated and slower.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bfloat16" if device.type == "cpu" and native else "float32"


def _check_precision(precision: str, besides: str = "") -> None:
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'precision must be {besides}"float32" or "bfloat16", not {precision!r}')


def _check_data(**data: Images | Tensor) -> None:
    for name, value in data.items():
        if not isinstance(value, Images):
            check_floating(**{name: value})
            check_finite(**{name: value})
        if isinstance(value, Tensor) and value.dim() < 2:
            raise ValueError(
                f"{name} must be (N, …), an example a row, but is {tuple(value.shape)}"
            )
        if len(value) < 2:
            raise ValueError(f"{name} must hold at least two examples, not {len(value)}")
