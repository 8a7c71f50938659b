"""The history of a training, one row per epoch, kept even if the run fails."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["History", "Interrupted", "NonFiniteError"]


@dataclass(repr=False)
class History:
    """The history of `fit`: CPU tensors with one row per epoch (E), bounds in nats per example.

    Attributes:
        convention: of the pixels, for example "dynamic binarisation".
        reconstruction: (E,) mean E_q[log p(x|z)] over the epoch's training examples. Each example
            counts with the parameters of its own step.
        kl: (E, K) mean KL to the prior for each latent dimension, likewise; (E, 1) if the KL does
            not split into dimensions.
        beta: (E,) the KL's weight in the epoch's last step, 1 by default.
        learning_rate: (E,) of the epoch.
        active_units: (E,) number of latent dimensions that the encoder uses (Burda et al. 2015,
            section 5.2); −1 if q(z|x) has no mean, or there is only one example.
        validation_elbo: (E,) mean bound on the validation set, always with β = 1; (0,) without a
            validation set.

    Example:
        >>> from vaelib import VAE, fit, load_dataset
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
    learning_rate: Tensor
    active_units: Tensor
    validation_elbo: Tensor

    @classmethod
    def empty(cls, convention: str) -> History:
        """A history without epochs."""
        none = torch.zeros(0, dtype=torch.float64)
        units = torch.zeros(0, dtype=torch.int64)
        return cls(convention, none, torch.zeros(0, 1).double(), none, none, units, none)

    @property
    def elbo(self) -> Tensor:
        """(E,) the ELBO on the training examples: reconstruction − KL, in nats."""
        return self.reconstruction - self.kl.sum(-1)

    @property
    def epochs(self) -> Tensor:
        """(E,) the numbers of the epochs: 1, 2, …"""
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
            value = value.cpu() if isinstance(value, Tensor) else value
            added = torch.as_tensor(value, dtype=column.dtype).unsqueeze(0)
            # The number of the KL's columns is known from the first epoch on.
            setattr(self, name, torch.cat([column, added]) if len(column) else added)


class _WithHistory(BaseException):
    """An error with a message and the history of the run, both of which `pickle` keeps."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message, history)
        self.history = history

    def __str__(self) -> str:
        return str(self.args[0])


class NonFiniteError(_WithHistory, FloatingPointError):
    """A term of the bound became NaN or infinite; the message says which one, and in which step.

    Attributes:
        history: of the complete epochs. The model is as it was after the last of them.

    Example:
        >>> from vaelib import VAE, fit
        >>> try:
        ...     fit(VAE(shape=(2,), likelihood="gaussian"), 1e30 * torch.ones(2, 2), progress=False)
        ... except NonFiniteError as error:
        ...     print(str(error).split(";")[0])
        reconstruction and KL became NaN or infinite in step 1 (epoch 1)
    """


class Interrupted(_WithHistory, KeyboardInterrupt):
    """Ctrl-C during `fit`: a `KeyboardInterrupt` that carries the history.

    Attributes:
        history: of the complete epochs. The model is as the last step left it.

    Example:
        >>> from vaelib import VAE, fit
        >>> def stop(history, model):
        ...     raise KeyboardInterrupt
        >>> try:
        ...     _ = fit(VAE((2,)), torch.ones(4, 2), on_epoch=stop, progress=False)
        ... except Interrupted as interrupted:
        ...     print(interrupted, len(interrupted.history))
        stopped after 1 of 10 epochs 1
    """
