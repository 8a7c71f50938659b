"""Training: forward through encoder, sample and decoder for a minibatch, then backwards.

`fit` maximises the mean ELBO with Adam, as the training chapter does by hand: one `training_step`
per minibatch, with everything that a long run needs around it. The module `history` holds what
`fit` returns, `resumption` how runs resume, `steps` how steps are made faster.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vaelib._checks import (
    check_at_least,
    check_device,
    check_floating,
    check_not_negative,
    check_positive,
    check_seed,
    value_checks,
)
from vaelib._modes import evaluating, gradients, training
from vaelib._optimizers import held_parameters, learning_rate_of
from vaelib._trainable import check_functions, check_model, check_optimizer
from vaelib.captured import CapturedStep
from vaelib.compiled import CompiledStep, compiler
from vaelib.cuda_graph import repeatable, stream
from vaelib.data import Images
from vaelib.divergence import check_finite_terms, divergence_named
from vaelib.elbo import ELBO, noise_dim
from vaelib.evaluation import convention_of
from vaelib.history import History, Interrupted, NonFiniteError
from vaelib.minibatches import (
    Data,
    Minibatch,
    Minibatches,
    first_minibatch,
    minibatches,
    named,
    to_device,
)
from vaelib.objective import Objective, Precision, bound_in, slopes, term_sums
from vaelib.parallel import Processes, processes
from vaelib.precision import check_precision, faster_precision
from vaelib.progress import Progress
from vaelib.reparameterization import noise
from vaelib.resumption import Run, fingerprint
from vaelib.steps import Step, step_for
from vaelib.validation import has_waited, validate

__all__ = ["fit", "training_step"]

LEARNING_RATE = 1e-3


@gradients()
def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None = None,
    *,
    beta: float = 1.0,
    precision: Precision = "float32",
    size: float | None = None,
) -> ELBO:
    """Make one step of gradient ascent on the mean ELBO of a minibatch.

    Kingma & Welling 2013, algorithm 1.

    Arguments:
        model: `model(x, eps)`, or `model(x, eps, y)` with labels, returns the `ELBO`.
        optimizer: makes exactly one step. Earlier gradients are discarded.
        x: (N, …) the minibatch, N ≥ 1.
        eps: (S, N, K) standard normal noise.
        y: (N, …) labels, for a model that takes them.
        beta: weight of the KL term.
        precision: of the matrix products; parameters and sums keep their own.
        size: divisor of the sum over examples; by default N. Give it if x is a part of a minibatch.

    Returns:
        The bound before the step, detached, in nats.

    Raises:
        ValueError: when a number is out of range, the precision is unknown, x is empty, or the
            model refuses its input.

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
    if not x.dim() or not len(x):
        raise ValueError(f"x must hold at least one example, (N ≥ 1, …), but is {tuple(x.shape)}")
    size = len(x) if size is None else size
    check_positive(size=size)
    check_precision(precision)
    check_not_negative(beta=beta)
    held = held_parameters(model, optimizer)
    bound = _ascend(model, optimizer, held, precision, x, eps, y, beta, size)
    return ELBO(bound.reconstruction.detach(), bound.kl.detach())


@gradients()
def fit(
    model: nn.Module,
    train: Data,
    validation: Data | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float | None = None,
    samples: int = 1,
    objective: Callable[..., ELBO] | None = None,
    beta: float | Callable[[float], float] = 1.0,
    patience: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    on_epoch: Callable[[History, nn.Module], object] | None = None,
    progress: bool = True,
) -> History:
    """Train a model in place by maximising the mean ELBO with Adam.

    Kingma & Welling 2013, algorithm 1; Adam is by Kingma & Ba 2015.

    The model trains in training mode and is validated in evaluation mode. Afterwards each of its
    modules is in its original mode again. On CUDA a whole step is replayed as one graph; if the
    model does something that a graph cannot hold, a printed line says what. Under `torchrun` each
    process takes its part of a minibatch, which then holds `batch_size` examples per process.

    Arguments:
        model: a module with a `prior`, such as `VAE`, for which `model(x, eps)`, or
            `model(x, eps, y)` with labels, returns its `ELBO`.
        train, validation: `Images`, read by their convention; floating-point tensors (N, …); or a
            `Dataset` or `DataLoader` of such examples, alone or with labels. A model that takes
            labels does without them if its `y` has a default.
        epochs: of the whole run, including those before a resumption.
        batch_size: examples per step (and process); a single last example joins the step before it.
            A `DataLoader` has its own minibatches.
        learning_rate: of fit's own Adam, by default 0.001; Adam's other settings are PyTorch's
            defaults. A resumed run keeps its rate unless another is given.
        samples: draws of z for each example and step.
        objective: maximised instead of the model's own bound. `objective(model, x, eps)`, or
            `objective(model, x, eps, y)` with labels, returns an `ELBO`; an example is
            `importance_weighted_elbo`.
        beta: weight of the KL term, or a function of the epoch that returns it, such as
            `lambda epoch: min(1.0, epoch / 10)` (Bowman et al. 2016). Epoch 0.5 is half-way through
            the first. Only 1 maximises the ELBO (Higgins et al. 2017).
        patience: stop after this many epochs without a better validation ELBO, and restore the
            parameters of the best epoch.
        optimizer: over the model's parameters, used instead of Adam. It keeps its state from call
            to call. A resumed run restores this state, but the rate only with a scheduler.
        scheduler: of the optimizer's learning rate, from `torch.optim.lr_scheduler`. It makes one
            step per epoch (`ReduceLROnPlateau` with −ELBO), and is kept in the checkpoint.
        seed: of the order, the noise and dynamic pixels; not of the initial parameters, which are
            the model's. The global generator is not seeded, so what a model draws from it, as
            dropout does, is not reproduced.
        device: by default CUDA if available, otherwise the CPU.
        precision: of the matrix products. If the processor has instructions for bfloat16, `"auto"`
            takes the faster precision: by the size of the layers, or, with convolutions or on a
            GPU, by measurement. Set it if a run has to be reproduced in another process.
        compile: whether `torch.compile` makes one graph of forward pass, backward pass and Adam.
            Compilation takes from ten seconds to minutes, and on the CPU it needs a C++ compiler
            and Python's headers. Then steps are faster, and parameters agree to rounding with those
            of a run without it. Hooks on gradients are not called.
        checkpoint: file for the run as it was after a complete epoch. It also holds two of the
            training examples, to tell whether a run is resumed with the same model.
        checkpoint_every: number of epochs between two writings of the checkpoint.
        resume: continue the run in `checkpoint` if it exists. N epochs and then M more equal N + M
            epochs bit for bit on the same machine, except with a `DataLoader`, which has its own
            order. Other data are refused, told by all labels and a thousand examples; of a
            `Dataset` by ten; of a `DataLoader`, or if they are drawn anew each time, as by random
            crops, by their number and shape alone.
        on_epoch: called after every epoch with the history so far and the model.
        progress: whether to show a bar or, without a terminal, one line per epoch.

    Returns:
        `History`.

    Raises:
        ValueError: when an argument is out of range, the model cannot be trained or returns
            anything but one bound per example, the likelihood refuses the data, or the checkpoint
            is of another run.
        RuntimeError: when compilation fails.
        FileExistsError: when `checkpoint` exists and `resume` is false.
        NonFiniteError: when the bound becomes NaN or infinite. The model is then as it was after
            the last complete epoch.
        Interrupted: on Ctrl-C. Like `NonFiniteError`, it carries the history.

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
    check_at_least(1, checkpoint_every=checkpoint_every)
    check_seed(seed=seed)
    if patience is not None:
        check_at_least(1, patience=patience)
    if not callable(beta):
        check_not_negative(beta=beta)
    if resume and checkpoint is None:
        raise ValueError("resume needs a checkpoint to continue from")
    if checkpoint is not None and Path(checkpoint).is_dir():
        raise ValueError(f"checkpoint must be a file, but {checkpoint} is a folder")
    if patience is not None and validation is None:
        raise ValueError("patience needs a validation set to wait for")
    check_model(model)
    check_functions(objective=objective, on_epoch=on_epoch)
    check_optimizer(model, optimizer, scheduler, learning_rate, compile)
    # PyTorch does not take NumPy's integers everywhere.
    batch_size, samples, seed = int(batch_size), int(samples), int(seed)
    device = _choose_device(device)
    maximised = Objective(model, objective)
    data = _labelled_for(maximised, minibatches("train", train))
    validated = None
    if validation is not None:
        validated = _labelled_for(maximised, minibatches("validation", validation))
    model.to(device)
    data = to_device(data, device)
    with processes(device) as group, stream(device), repeatable():
        if compile and group.count > 1:
            raise ValueError("compile trains in one process, not under torchrun")
        example = first_minibatch(data, batch_size, next(model.parameters()))
        run = Run(
            maximised,
            optimizer or _adam(model, learning_rate),
            scheduler,
            torch.Generator(device).manual_seed(seed),
            History.empty(convention_of(train if isinstance(train, Images) else example[0], model)),
            settings={
                "data": _name(train),
                "examples": len(data),
                "validation": _name(validation),
                "validation examples": 0 if validated is None else len(validated),
                "parameters": str(example[0].dtype),
                "batch_size": batch_size * group.count,
                "optimizer": "Adam" if optimizer is None else type(optimizer).__name__,
                "scheduler": None if scheduler is None else type(scheduler).__name__,
                "samples": samples,
                "objective": maximised.name,
                "seed": seed,
                "precision": _choose_precision(precision, maximised, example, samples),
                "compile": compile,
                **_first_betas(beta, epochs),
            },
            contents={
                "model": fingerprint(model),
                "training set": data.fingerprint(),
                "validation set": None if validated is None else validated.fingerprint(),
            },
            example=_first_two(*example),
        )
        if checkpoint is not None:
            rates = [options["lr"] for options in run.optimizer.param_groups]
            run.begin(Path(checkpoint), resume, group, any_precision=precision == "auto")
            if learning_rate is not None or (optimizer is not None and scheduler is None):
                run.set_learning_rates(rates)  # the caller's, not those of the checkpoint
        steps = data.steps(batch_size * group.count)
        with (
            Progress(epochs, steps, len(run.history), progress and group.is_first) as shown,
            compiler() if compile else contextlib.nullcontext(),
            training(model),
            step_for(run, _plain_step, data, group, shown.say) as step,
        ):
            run.remember()
            try:
                while len(run.history) < epochs and not has_waited(run.history, patience):
                    _train_epoch(run, step, data, beta, group, shown)
                    validate(run, data, validated)
                    _adapt_learning_rate(scheduler, run.history)
                    run.remember()
                    shown.epoch(run.history)
                    if group.is_first and len(run.history) % checkpoint_every == 0:
                        run.save()
                    if on_epoch is not None:
                        on_epoch(run.history, model)
            except NonFiniteError as error:
                run.go_back()
                error.history = run.history
                raise
            except KeyboardInterrupt as stop:
                seen = run.whole_history
                raise Interrupted(f"stopped after {len(seen)} of {epochs} epochs", seen) from stop
        if group.is_first and len(run.history) % checkpoint_every:
            run.save()
        if patience is not None and run.best_model is not None:
            model.load_state_dict(run.best_model)
    return run.history


def _train_epoch(
    run: Run,
    step: Step | CapturedStep,
    data: Minibatches,
    beta: float | Callable[[float], float],
    group: Processes,
    shown: Progress,
) -> None:
    steps = data.steps(run.settings["batch_size"])
    done = len(run.history)
    betas = [_beta_at(done + i / steps, beta) for i in range(steps)]
    # In each epoch, since `on_epoch` may have set another mode.
    with named("train"), training(run.model):
        if isinstance(step, CapturedStep):
            rows, seen = step.epoch(betas, shown.step), len(data)
        else:
            rows, seen = _make_steps(run, step, data, betas, group, shown)
    # Summed first, so that all processes stop if one of them diverges.
    totals = group.total(rows).cpu().double()
    check_finite_terms(totals, done * steps, run)
    mean = totals.sum(0) / seen
    run.history.append(
        reconstruction=mean[0],
        kl=mean[1:],
        beta=betas[min(len(totals), steps) - 1],
        learning_rate=learning_rate_of(run.optimizer),
    )


def _beta_at(epoch: float, beta: float | Callable[[float], float]) -> float:
    if not callable(beta):
        return beta
    value = float(beta(epoch))
    check_not_negative(**{f"beta({epoch:g})": value})
    return value


def _first_betas(beta: float | Callable[[float], float], epochs: int) -> dict[str, float]:
    """The weights of the first ten epochs, but of none that the run does not reach."""
    halves = [half / 2 for half in range(min(20, 2 * epochs))]
    return {f"beta({t:g})": float(beta(t) if callable(beta) else beta) for t in halves}


def _make_steps(
    run: Run,
    step: Step,
    data: Minibatches,
    betas: list[float],
    group: Processes,
    shown: Progress,
) -> tuple[Tensor, int]:
    """Make one step per minibatch: the `term_sums` of each, (steps, terms), and the examples seen.

    A `DataLoader` may leave out examples of its data set, or give some of them twice.
    """
    like, latent_dim = next(run.model.parameters()), noise_dim(run.model)
    samples, done = run.settings["samples"], len(run.history)
    on_cpu = like.device.type == "cpu"
    # Values are checked when they are first used; on a GPU, which would have to wait, only those of
    # the first minibatch. Pixels need no check.
    is_first = done == run.begun_at
    reads_all = on_cpu and not data.is_vouched_for and (is_first or not data.is_in_memory)
    rows: list[Tensor] = []
    seen = 0
    for x, y in data.shuffled(run.settings["batch_size"], run.generator):
        i, beta = done * len(betas) + len(rows), betas[min(len(rows), len(betas) - 1)]
        x, size = x.to(like), len(x) / group.count
        seen += len(x)
        eps = noise((samples, len(x), latent_dim), run.generator, like)
        x, eps = group.part(x), group.part(eps, dim=1)
        y = None if y is None else group.part(y).to(like.device)
        reads = reads_all or (is_first and not rows)
        with value_checks(reads), divergence_named(run, i, x, eps, y):
            if reads and isinstance(step, CompiledStep):
                _read_values(run.objective, x, eps, y)
            row = step(x, eps, y, beta, size)
        if on_cpu and group.count == 1 and not math.isfinite(row.sum()):
            check_finite_terms(row.unsqueeze(0), i, run)
        rows.append(row)
        shown.step()
    if isinstance(step, CompiledStep):
        step.finish()
    return torch.stack(rows), seen


def _read_values(objective: nn.Module, x: Tensor, eps: Tensor, y: Tensor | None) -> None:
    # Because a compiled graph cannot check values.
    with torch.no_grad(), evaluating(objective):
        objective(x, eps, y)


def _ascend(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    held: list[Tensor],
    precision: Precision,
    x: Tensor,
    eps: Tensor,
    y: Tensor | None,
    beta: float,
    size: float,
) -> ELBO:
    bound = bound_in(precision, objective, x, eps, y)
    for parameter in held:
        parameter.grad = None
    torch.autograd.backward(*slopes(bound, -1 / size, beta / size))
    optimizer.step()
    return bound


def _plain_step(*arguments: Any) -> Tensor:
    return term_sums(_ascend(*arguments))


def _adapt_learning_rate(scheduler: Any | None, history: History) -> None:
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        bounds = history.validation_elbo if len(history.validation_elbo) else history.elbo
        scheduler.step(-bounds[-1].item())
    elif scheduler is not None:
        scheduler.step()


def _name(data: Data | None) -> list[str] | None:
    return [data.name, data.convention] if isinstance(data, Images) else None


def _adam(model: nn.Module, learning_rate: float | None) -> torch.optim.Optimizer:
    rate = LEARNING_RATE if learning_rate is None else learning_rate
    return torch.optim.Adam(model.parameters(), lr=rate, fused=True)


def _choose_device(device: torch.device | str | None) -> torch.device:
    if device is not None:
        return check_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _choose_precision(
    precision: str, objective: Objective, example: Minibatch, samples: int
) -> Precision:
    if precision != "auto":
        return check_precision(precision, '"auto", ')
    x, y = example
    eps = noise((samples, len(x), noise_dim(objective.model)), 0, like=x)
    with named("train"):
        return faster_precision(objective, x, eps, y)


def _first_two(x: Tensor, y: Tensor | None) -> Minibatch:
    # Copied, since a view would be saved with all that it is a view of.
    return x[:2].clone(), None if y is None else y[:2].clone()


def _labelled_for(objective: Objective, data: Minibatches) -> Minibatches:
    if objective.needs_labels and not data.is_labelled:
        raise ValueError(f"{data.name} must have labels, because the model takes them as y")
    return data
