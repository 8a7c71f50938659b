"""Checkpoints: written whole or not at all, read without running code from the file."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from vaelib._checks import check_device
from vaelib.vae import VAE

__all__ = ["load_vae", "read_checkpoint", "save_vae", "write_checkpoint"]


def write_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`: beside it first, then renamed.

    A crash or a full disk at any moment leaves the old file or the new one, never half of one.

    Raises:
        OSError: when the folder is not there or the disk is full; the old file is untouched.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    # In memory first: writing to a file itself, torch hides that the disk is full.
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
    """Read what `write_checkpoint` wrote, to the CPU; code in the file is refused, not run.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is truncated or is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Without torch's own text, which advises to load such a file by running its code.
        raise ValueError(f"{path} is damaged, or no checkpoint of vaelib") from error
    if not isinstance(state, dict) or "model" not in state:
        raise ValueError(f"{path} is no checkpoint of vaelib: it holds no model")
    return state


def save_vae(model: VAE, path: str | os.PathLike[str]) -> None:
    """Save a model alone: what it was built from and its parameters.

    Raises:
        ValueError: when model is no `VAE`.
        OSError: when the folder is not there or the disk is full; an old file is untouched.

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
    if not isinstance(model, VAE):
        raise ValueError(f"model must be a VAE, but is {type(model).__name__}")
    write_checkpoint(path, {"arguments": model.arguments, "model": model.state_dict()})


def load_vae(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> VAE:
    """Rebuild a model from `save_vae` or from a checkpoint of `fit`.

    Arguments:
        path: of the checkpoint; of one that knows its best epoch, that is the one taken.
        device: to put the model on.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged or is no checkpoint of a `VAE`, or for an unusable
            device.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_vae(VAE(shape=(4,), latent_dim=1, hidden=[3]), f"{folder}/vae.pt")
        ...     load_vae(f"{folder}/vae.pt").latent_dim
        1
    """
    state = read_checkpoint(path)
    if not state.get("arguments"):
        raise ValueError(f"{path} does not say how its model is built; load its state_dict instead")
    # The parameters drawn at construction are replaced: the caller's random stream stays untouched.
    with torch.random.fork_rng(devices=[]):
        model = VAE.from_arguments(state["arguments"])
    parameters = state.get("best_model") or state["model"]
    try:
        # As they were saved: a model of doubles stays one.
        model.to(next(iter(parameters.values())).dtype).load_state_dict(parameters)
    except (RuntimeError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"{path} holds other parameters than its model has") from error
    return model.to(check_device(device))
