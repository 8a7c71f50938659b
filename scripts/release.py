"""Release every assignment by nbgrader, and pack what students get.

    python -m scripts.release [COURSE]

COURSE is the folder with `nbgrader_config.py`, by default the repository's. Writes `release/`
(nbgrader's own), and `build/vae-exercises.zip`: the notebooks, a wheel of `vaelib`, the
requirements, and a page that says how to start.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nbgrader.apps import NbGraderAPI
from traitlets.config import Config, PyFileConfigLoader

ROOT = Path(__file__).parents[1]
START = Path(__file__).with_name("start.html")
NEEDED = ("jupyterlab", "matplotlib", "mlxtend", "nbgrader", "numpy", "torch")


def assignments(course: Path) -> list[str]:
    """The names, in order."""
    return sorted(folder.name for folder in (course / "solutions").iterdir() if folder.is_dir())


def release(course: Path) -> None:
    """Make `release/` anew, and note the hidden checks in the gradebook."""
    # nbgrader starts alembic by its bare name, also where the environment is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    config: Config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    api = NbGraderAPI(config=config)
    for name in assignments(course):
        result = api.generate_assignment(name, force=True, create=True)
        if not result["success"]:
            sys.exit(f"nbgrader could not release {name}:\n{result['log']}")
        print(f"  {name}", flush=True)


def course_apart(folder: Path, *names: str, more: str = "") -> None:
    """Make a course with the repository's settings and some of its assignments, all by default.

    `more` are settings of its own.
    """
    for name in names or assignments(ROOT):
        shutil.copytree(ROOT / "solutions" / name, folder / "solutions" / name)
    (folder / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        f'load_subconfig("nbgrader_config.py", path={str(ROOT)!r})\n'
        f"c.CourseDirectory.root = {str(folder)!r}\n{more}",
        "utf-8",
    )


def wheel(folder: Path) -> str:
    """Build the wheel of `vaelib` into `folder`, and return its name."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    with tempfile.TemporaryDirectory() as temporary:
        # From a copy: what setuptools leaves behind does not stay in the repository.
        source = Path(temporary)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        shutil.copytree(
            ROOT / "vaelib", source / "vaelib", ignore=shutil.ignore_patterns("__pycache__")
        )
        options = ["--no-build-isolation", "--disable-pip-version-check", "--wheel-dir"]
        subprocess.run([*command, *options, str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built.name


def requirements(wheel_name: str) -> str:
    """What a student installs: the course's own pins, and the wheel."""
    pins = (ROOT / "requirements.txt").read_text("utf-8")
    lines = [re.search(rf"^{name}==.+$", pins, re.M) for name in NEEDED]
    return "\n".join([*(line[0] for line in lines if line), f"./{wheel_name}", ""])


def pack(course: Path) -> Path:
    """Pack the students' folder; the old one stays until the new one is whole."""
    build = course / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as temporary:
        folder = Path(temporary, "vae-exercises")
        folder.mkdir()
        for name in assignments(course):
            shutil.copytree(course / "release" / name, folder / name)
        (folder / "requirements.txt").write_text(requirements(wheel(folder)), "utf-8")
        shutil.copy(START, folder / "start.html")
        packed = shutil.make_archive(
            str(Path(temporary, "vae-exercises")), "zip", temporary, "vae-exercises"
        )
        return Path(packed).replace(build / "vae-exercises.zip")


def main() -> None:
    """Release and pack."""
    course = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    release(course)
    print(f"The students' folder: {pack(course)}")


if __name__ == "__main__":
    main()
