"""Put the exercises that are not there yet into `exercises/`: `python -m scripts.exercises`.

The notebooks are those that `make release` hands out, made without the gradebook. A notebook that
is there already may be somebody's work, and stays.
"""

from __future__ import annotations

from pathlib import Path

import nbformat

from book.exercises import released, sources
from scripts.release import ROOT


def fill(folder: Path) -> list[str]:
    """Write the notebooks that `folder` lacks, each whole or not at all, and return their names."""
    written = []
    for source in sources(ROOT):
        notebook = folder / source.parent.name / source.name
        if notebook.exists():
            continue
        notebook.parent.mkdir(parents=True, exist_ok=True)
        unfinished = notebook.with_name(f".{notebook.name}.part")
        nbformat.write(released(source), unfinished)
        unfinished.replace(notebook)
        written.append(source.stem)
    return written


def main() -> None:
    """Fill the repository's `exercises/`."""
    if written := fill(ROOT / "exercises"):
        print("New in exercises/:", *written)


if __name__ == "__main__":
    main()
