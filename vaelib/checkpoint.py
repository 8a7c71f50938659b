"""Checkpoints, written completely or not at all, and read without running code from the file."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._checks import check_device
from vaelib._optimizers import plain
from vaelib.vae import VAE

__all__ = [
    "class_name",
    "description",
    "load_vae",
    "read_checkpoint",
    "save_vae",
    "write_checkpoint",
]


def write_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write tensors and plain values to a temporary file, then rename it to `path`.

    A crash or a full disk leaves either the old file or the new one, never half a file.

    Raises:
        OSError: when the folder does not exist or the disk is full; the old file is kept.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_checkpoint(f"{folder}/run.pt", {"model": {"weight": torch.ones(2)}})
        ...     read_checkpoint(f"{folder}/run.pt")
        {'model': {'weight': tensor([1., 1.])}}
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    # To memory first: when torch itself writes to a file, it hides that the disk is full.
    content = io.BytesIO()
    torch.save(state, content)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote, to the CPU: see its example.

    Code in the file is refused, not run.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is truncated or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Without torch's own message, which advises the user to run the code in the file.
        raise ValueError(f"{path} is damaged, or not a checkpoint of vaelib") from error
    if not isinstance(state, dict) or "model" not in state:
        raise ValueError(f"{path} is not a checkpoint of vaelib: it holds no model")
    return state


def class_name(model: object) -> str:
    """The name of a model's class, with its module: all that a checkpoint holds of code.

    Example:
        >>> class_name(VAE(shape=(2,)))
        'vaelib.vae.VAE'
    """
    return f"{type(model).__module__}.{type(model).__qualname__}"


def save_vae(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Save a model: the name of its class, its arguments and its parameters.

    Arguments:
        model: a `VAE`, or any other module, which has to be built again for `load_vae`.
        path: of the file.

    Raises:
        ValueError: when model is not a module.
        OSError: when the folder does not exist or the disk is full; an old file is kept.

    Example:
        >>> import tempfile
        >>> vae = VAE(shape=(4,), latent_dim=1, hidden=[3])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_vae(vae, f"{folder}/vae.pt")
        ...     copy = load_vae(f"{folder}/vae.pt")
        >>> x, eps = torch.ones(2, 4), torch.zeros(1, 2, 1)
        >>> torch.equal(vae(x, eps).per_example, copy(x, eps).per_example)
        True
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a module (nn.Module), but is {type(model).__name__}")
    write_checkpoint(path, {**description(model), "model": model.state_dict()})


def description(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint says about a model besides its parameters: its class and arguments.

    Example:
        >>> description(torch.nn.Linear(2, 1))
        {'class': 'torch.nn.modules.linear.Linear', 'arguments': None}
    """
    return {"class": class_name(model), "arguments": plain(getattr(model, "arguments", None))}


def load_vae(
    path: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    *,
    into: nn.Module | None = None,
) -> Any:
    """Load a model from `save_vae` or from a checkpoint of `fit`.

    A file holds numbers and names, never code. So a `VAE` made of vaelib's networks is rebuilt from
    its arguments. A model with classes of your own has to be built again, and is accepted if its
    classes have the names in the file.

    Arguments:
        path: of the checkpoint. If it holds the best epoch, the model of that epoch is loaded.
        device: for the model.
        into: a model of your own, built as the saved one was; it receives the parameters.

    Returns:
        A `VAE`, or `into` itself if it is given.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, is not a checkpoint, or holds another model; or when
            the device cannot be used.

    Example:
        >>> import tempfile
        >>> class Small(nn.Sequential):
        ...     def __init__(self) -> None:
        ...         super().__init__(nn.Linear(4, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_vae(VAE((4,), latent_dim=1, encoder=Small()), f"{folder}/vae.pt")
        ...     model = load_vae(f"{folder}/vae.pt", into=VAE((4,), latent_dim=1, encoder=Small()))
        >>> model.latent_dim
        1
    """
    state = read_checkpoint(path)
    model = _rebuilt(path, state) if into is None else into
    if into is not None:
        _check_same(path, state, description(into))
    parameters = state.get("best_model") or state["model"]
    try:
        # In the dtype in which they were saved; integers are counters.
        floats = (p for p in parameters.values() if isinstance(p, Tensor) and p.is_floating_point())
        model.to(next(floats).dtype).load_state_dict(parameters)
    except (RuntimeError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"{path} holds parameters that do not fit its model") from error
    return model.to(check_device(device))


def _rebuilt(path: str | os.PathLike[str], state: dict[str, Any]) -> VAE:
    ours = f"{VAE.__module__}.{VAE.__qualname__}"
    if state.get("class", ours) != ours:
        raise ValueError(
            f"{path} holds a {state['class']}: build it as it was, and pass it as into=…"
        )
    if not state.get("arguments"):
        raise ValueError(
            f"{path} does not say how its model was built: build it again, and pass it as into=…"
        )
    # The parameters drawn here are replaced, so the caller's random stream must not advance.
    with torch.random.fork_rng(devices=[]):
        return VAE.from_arguments(state["arguments"])


def _check_same(path: str | os.PathLike[str], state: dict[str, Any], mine: dict[str, Any]) -> None:
    if state.get("class") != mine["class"]:
        raise ValueError(f"{path} holds a {state.get('class')}, but into is a {mine['class']}")
    theirs, given = state["arguments"] or {}, mine["arguments"] or {}
    for name in {**theirs, **given}:
        if theirs.get(name) != given.get(name):
            raise ValueError(
                f"{path} holds a model with {name} = {theirs.get(name)}, but into has "
                f"{given.get(name)}"
            )
