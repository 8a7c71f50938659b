"""The data of a run on the command line: a data set by name, or a folder of pictures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vaelib.data import DatasetInfo, Images, available_datasets, load_dataset

__all__ = ["RunData", "named"]

SPLITS = ("train", "validation", "test")


def named(data: str) -> DatasetInfo | None:
    """The data set of that name, or None."""
    return {info.name: info for info in available_datasets()}.get(data)


@dataclass
class RunData:
    """Images, as the options of the command line describe them.

    Arguments:
        data: a data set's name, or the path of a folder.
        size: of the pictures in a folder.
        pixels: "dynamic", "static" or "grey".
        content: a digest of the folder's pictures, set when they are read. The split depends on
            the number of pictures, so a changed folder would mix training and test images.
    """

    data: str
    size: int | None
    pixels: str
    content: str | None = None

    def load(self, *splits: str) -> list[Images]:
        """Load these splits, with their pixels binarised as the options say."""
        if named(self.data) is None and Path(self.data).exists():
            images = self._from_folder(splits)
        elif self.content is not None:
            raise FileNotFoundError(f"the folder {self.data} does not exist any more")
        elif self.size is not None:
            raise ValueError(f"--size is for a folder of pictures, and {self.data} is not a folder")
        else:
            try:
                images = [load_dataset(self.data, split) for split in splits]
            except ValueError as error:
                if named(self.data) is not None:
                    raise
                raise ValueError(f"--data is not a folder, and as a data set its {error}") from None
        if self.pixels == "dynamic":
            return [part.binarise("dynamic") for part in images]
        if self.pixels == "static":
            # The same draw for every run, whatever its seed, so that results can be compared.
            return [part.binarise("static", generator=0) for part in images]
        return images

    def _from_folder(self, splits: tuple[str, ...]) -> list[Images]:
        images = Images.from_folder(self.data, size=self.size)
        if len(images) < 10:
            raise ValueError(
                f"{self.data} holds too few pictures ({len(images)}): training, validation and "
                "test need at least ten"
            )
        self.data = str(Path(self.data).resolve())
        self.content = hashlib.sha256(images.pixels.numpy().data).hexdigest()
        # The same split for every run too, so that no run is tested on its training images.
        parts = dict(zip(SPLITS, images.random_split(0), strict=True))
        return [parts[split] for split in splits]

    def write(self, path: Path) -> None:
        """Write this description to a file beside the checkpoint."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> RunData:
        """Read what `write` wrote."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(
                f"{path} does not say what the run was trained on: {path.parent} was not made by "
                "`train`"
            ) from error

    def check_same(self, path: Path) -> None:
        """Refuse images other than those that the run in this file was trained on."""
        mine, theirs = asdict(self), asdict(RunData.read(path))
        for name in ("data", "size", "pixels"):
            if mine[name] != theirs[name]:
                raise ValueError(
                    f"{path.parent} holds a run with {name} {theirs[name]}, not {mine[name]}: "
                    "give the same, or --out for another folder"
                )
        if mine["content"] != theirs["content"]:
            raise ValueError(f"the pictures in {self.data} have changed since the run began")
