"""Trained models that come with the library, each with a record of its training.

`pretrained("mnist-vae")` returns a model. `pretrained.available()` lists all models, how each was
trained and what it reached. `python -m recipes.mnist_vae` trains a model again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaelib._checks import check_device
from vaelib.autoencoder import Autoencoder
from vaelib.baselines import GAN, Classifier, PixelCNN
from vaelib.vae import VAE

__all__ = ["Measurement", "Pretrained", "Record", "pretrained", "write_pretrained"]

# Listed by hand, since a class may be withheld where an exercise is graded.
_CLASSES: dict[str, type[nn.Module]] = {
    "VAE": VAE,
    "Autoencoder": Autoencoder,
    "PixelCNN": PixelCNN,
    "GAN": GAN,
    "Classifier": Classifier,
}


@dataclass(frozen=True)
class Measurement:
    """One number that a model reached, and the data on which it was measured.

    Attributes:
        quantity: such as "ELBO" or "log p(x)".
        value: the mean over images.
        standard_error: of the mean, over images unless the record's note says otherwise.
        unit: such as "nats per image".
        data: such as "mnist test".
        convention: of the pixels: "dynamic", "static" or "grey".
        images: number of images.
        samples: draws of z for each image: samples of a bound, importance samples of log p(x).
        beside: a value to compare with, and its source; "" without one.

    Example:
        >>> print(Measurement("log p(x)", -86.76, 0.05, "nats per image", "mnist test", "dynamic",
        ...                   10_000, 5_000))
        log p(x) = -86.76 ± 0.05 nats per image (mnist test, dynamic, 10,000 images, 5,000 samples)
    """

    quantity: str
    value: float
    standard_error: float
    unit: str
    data: str
    convention: str
    images: int
    samples: int = 1
    beside: str = ""

    def __str__(self) -> str:
        samples = f", {self.samples:,} samples" if self.samples > 1 else ""
        beside = f"; for comparison: {self.beside}" if self.beside else ""
        digits = 2 if abs(self.value) >= 1 or self.standard_error >= 0.01 else 4
        return (
            f"{self.quantity} = {self.value:.{digits}f} ± {self.standard_error:.{digits}f} "
            f"{self.unit} ({self.data}, {self.convention}, {self.images:,} images{samples}){beside}"
        )


@dataclass(frozen=True)
class Record:
    """The origin of a trained model, and what it reached.

    Attributes:
        name: as `pretrained` takes it.
        about: a description in one line.
        model: name of its class.
        arguments: of the class.
        parameters: number of parameters.
        dtype: in which parameters are stored; they are loaded as float32.
        recipe: the command that trains the model again.
        commit: of the repository when it was trained.
        seed: of the training.
        device: on which it was trained.
        hours: wall-clock time of training on that device.
        epochs: of training.
        data: on which it was trained.
        convention: of the pixels in training.
        versions: of the packages on which the result depends.
        measurements: what it reached.
        note: remarks, such as how it differs from the published model.

    Example:
        >>> record = pretrained.available()["mnist-classifier"]
        >>> record.recipe, record.convention
        ('python -m recipes.mnist_classifier', 'grey and dynamic in turn')
    """

    name: str
    about: str
    model: str
    arguments: Mapping[str, Any]
    parameters: int
    dtype: str
    recipe: str
    commit: str
    seed: int
    device: str
    hours: float
    epochs: int
    data: str
    convention: str
    versions: Mapping[str, str]
    measurements: tuple[Measurement, ...] = field(default=())
    note: str = ""

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.about}",
            f"  {self.model}, {self.parameters:,} parameters, stored as {self.dtype}",
            f"  trained by {self.recipe} (commit {self.commit}, seed {self.seed}): "
            f"{self.epochs:,} epochs of {self.data} ({self.convention}), "
            f"{self.hours:.2f} hours on {self.device}",
            *(f"  {measurement}" for measurement in self.measurements),
        ]
        return "\n".join([*lines, f"  {self.note}"] if self.note else lines)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record from its JSON file."""
        values = json.loads(path.read_text("utf-8"))
        values["measurements"] = tuple(Measurement(**row) for row in values["measurements"])
        return cls(**values)


class Pretrained:
    """The models in a folder: `NAME.safetensors` holds parameters, `NAME.json` the record.

    `vaelib.pretrained` holds the models that come with vaelib.

    Arguments:
        folder: of the files.

    Example:
        >>> classifier = pretrained("mnist-classifier")
        >>> classifier(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def available(self) -> dict[str, Record]:
        """The record of each model, by name.

        Example:
            >>> "mnist-classifier" in pretrained.available()
            True
        """
        records = [Record.read(path) for path in sorted(self.folder.glob("*.json"))]
        return {record.name: record for record in records}

    def __call__(self, name: str, device: torch.device | str = "cpu") -> Any:
        """Load the trained model of that name, in evaluation mode, with float32 parameters.

        Arguments:
            name: one of `available()`.
            device: for the model.

        Returns:
            A `VAE`, `Autoencoder`, `PixelCNN`, `GAN` or `Classifier`, as its record says.

        Raises:
            ValueError: when the name is unknown or the device cannot be used.
        """
        from safetensors.torch import load_file

        path = self.folder / f"{name}.json"
        names = sorted(path.stem for path in self.folder.glob("*.json"))
        if name not in names:
            raise ValueError(f"name must be one of {', '.join(names)}, not {name!r}")
        device = check_device(device)
        record = Record.read(path)
        # The parameters drawn here are replaced, so the caller's random stream must not advance.
        with torch.random.fork_rng(devices=[]):
            model = _CLASSES[record.model](**record.arguments)
        state = load_file(path.with_suffix(".safetensors"))
        model.load_state_dict(
            {
                name: value.float() if value.is_floating_point() else value
                for name, value in state.items()
            }
        )
        # Whatever dtype torch gives new parameters.
        return model.to(device, torch.float32).eval()


def write_pretrained(folder: Path, record: Record, state: Mapping[str, Tensor]) -> None:
    """Write a model for `Pretrained`: its parameters in the record's dtype, and the record.

    Raises:
        OSError: when the folder does not exist or the disk is full.

    Example:
        >>> import tempfile
        >>> name = "mnist-classifier"
        >>> record, model = pretrained.available()[name], pretrained(name)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_pretrained(Path(folder), record, model.state_dict())
        ...     list(Pretrained(Path(folder)).available())
        ['mnist-classifier']
    """
    from safetensors.torch import save

    dtype = getattr(torch, record.dtype)
    stored = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in state.items()
    }
    (folder / f"{record.name}.safetensors").write_bytes(save(stored))
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False)
    (folder / f"{record.name}.json").write_text(text + "\n", "utf-8")


pretrained = Pretrained(Path(__file__).parent / "weights")
"""The models that come with vaelib."""
