"""Whether everything is there for the exercises: `python -m vae_exercises`."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

OLDEST, NEWEST = (3, 11), (3, 14)
INSTALL = "Install again, as start.html says."


def python() -> str:
    """Its version, if it is one that the course supports."""
    here = sys.version_info[:2]
    found = "{}.{}.{}".format(*sys.version_info[:3])
    if not OLDEST <= here <= NEWEST:
        raise RuntimeError(
            f"This is Python {found}, and the course needs 3.{OLDEST[1]} to 3.{NEWEST[1]}. Install "
            "one of these, delete the folder .venv, and install again, as start.html says."
        )
    return f"Python {found}"


def pytorch() -> str:
    """Its version, and what it computes on."""
    try:
        import torch
    except ModuleNotFoundError:
        raise RuntimeError(f"PyTorch is not installed here. {INSTALL}") from None
    except (ImportError, OSError) as error:  # a library of the system that it needs
        visual = "https://aka.ms/vs/17/release/vc_redist.x64.exe"
        raise RuntimeError(
            f"PyTorch is installed, but does not start: {error}\n"
            f"  On Windows, install Microsoft's Visual C++ files ({visual}) and try again."
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise RuntimeError(f"PyTorch {torch.__version__} is too old: 2.6 is the oldest. {INSTALL}")
    if torch.cuda.is_available():
        device = f"on the GPU {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available():
        device = "on the processor (Apple's GPU is there, too)"
    else:
        device = "on the processor"
    return f"PyTorch {torch.__version__} {device}"


def library() -> str:
    """The course's library, and its data."""
    try:
        import vaelib

        vaelib.load_dataset("mnist5k")
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{error.name} is not installed here. {INSTALL}") from None
    return f"vaelib {vaelib.__version__}"


def jupyter() -> str:
    """JupyterLab, and nbgrader for its Validate button."""
    if "google.colab" in sys.modules or _version("google-colab"):
        return "Colab"
    if not (lab := _version("jupyterlab")):
        raise RuntimeError(f"JupyterLab is not installed here. {INSTALL}")
    if not _version("nbgrader"):
        raise RuntimeError(f"nbgrader, which brings Validate, is not installed here. {INSTALL}")
    return f"JupyterLab {lab}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def main() -> int:
    """Print one line if all is well, otherwise what is missing, and return the exit code."""
    found, missing = [], []
    for part in (python, pytorch, library, jupyter):
        try:
            found.append(part())
        except RuntimeError as problem:
            missing.append(str(problem))
            if part is not jupyter:
                break  # what comes next needs it
    if missing:
        print("Not ready yet.", *missing, sep="\n")
        return 1
    print("Ready: " + ", ".join(found) + ".")
    return 0


if __name__ == "__main__":
    sys.exit(main())
