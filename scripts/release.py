"""Release every assignment by nbgrader, and pack what students get.

    python -m scripts.release [COURSE]

COURSE is the folder with `nbgrader_config.py`, by default the repository's. Writes `release/`
(nbgrader's own), and `build/vae-exercises.zip`: the notebooks, the book, a wheel of `vaelib`, what
uv and pip install, and a page that says how to start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from nbgrader.apps import NbGraderAPI
from packaging.requirements import Requirement
from packaging.version import Version
from traitlets.config import Config, PyFileConfigLoader

ROOT = Path(__file__).parents[1]
START = Path(__file__).with_name("start.html")
PACKAGES = ("vaelib", "vae_exercises")
NOTEBOOKS = ("jupyterlab", "nbgrader")  # what students work in, beside what the wheel needs
# Of the book's files, those that reading it does not need.
UNREAD = shutil.ignore_patterns("*.map", "*.pdf", "*.epub", "locales", ".buildinfo", "objects.inv")
# Of nbgrader's parts of JupyterLab, students keep Validate and the list of assignments.
INSTRUCTORS = ("course-list", "create-assignment", "formgrader")
NEWS = "@jupyterlab/apputils-extension:announcements"  # asks over the notebook whether to fetch it
CPU = "https://download.pytorch.org/whl/cpu"
GPU = """\
# PyTorch for the processor. For an NVIDIA GPU on Windows or Linux, write cu130 instead of cpu in
# the next address; https://pytorch.org/get-started says which cu… is the newest. No exercise needs
# it, and it takes several gigabytes.
"""
PROJECT = """\
# What the exercises need. `uv run jupyter lab` installs it the first time.
[project]
name = "vae-exercises"
version = "1"
requires-python = "{python}"
dependencies = {dependencies}

[tool.uv]
environments = [
  "sys_platform == 'linux'",
  "sys_platform == 'win32'",
  "sys_platform == 'darwin' and platform_machine == 'arm64'", # PyTorch left the Intel Macs at 2.2
]

[tool.uv.sources]
vaelib = {{ path = "{wheel}" }}
torch = {{ index = "pytorch", marker = "sys_platform != 'darwin'" }}

[[tool.uv.index]]
name = "pytorch"
explicit = true
{gpu}url = "{cpu}"
"""
REQUIREMENTS = """\
# What the exercises need, for pip and conda: pip install -r requirements.txt
{gpu}--extra-index-url {cpu}
./{wheel}
{dependencies}
"""


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
    """Build the students' wheel of `vaelib` into `folder`, and return its name.

    Where it is installed, JupyterLab does without the instructors' parts of nbgrader and news.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    with tempfile.TemporaryDirectory() as temporary:
        # From a copy: what setuptools leaves behind does not stay in the repository.
        source = Path(temporary)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        for name in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        disabled = {f"@jupyter/nbgrader:{part}": True for part in INSTRUCTORS}
        page_config = json.dumps({"disabledExtensions": disabled | {NEWS: True}})
        (source / "page_config.json").write_text(page_config, "utf-8")
        with (source / "pyproject.toml").open("a", encoding="utf-8") as settings:
            settings.write("\n[tool.setuptools.data-files]\n")
            settings.write('"etc/jupyter/labconfig" = ["page_config.json"]\n')
        options = ["--no-build-isolation", "--disable-pip-version-check", "--wheel-dir"]
        subprocess.run([*command, *options, str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built.name


def ranges() -> list[str]:
    """What a student installs beside the wheel: from the bounds to the major version of the pins.

    A pin would lack a wheel on some system or Python, now or after a year.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = project["optional-dependencies"]["course"]
    notebooks = [line for line in extra if Requirement(line).name in NOTEBOOKS]
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {pin.name: Version(next(iter(pin.specifier)).version) for pin in pins}
    wanted = [*project["dependencies"], *notebooks]
    return [f"{line},<{after(pinned[Requirement(line).name])}" for line in wanted]


def after(version: Version) -> str:
    """The next version that may break what works with this one."""
    return str(version.major + 1) if version.major else f"0.{version.minor + 1}"


def write_requirements(folder: Path, wheel_name: str) -> None:
    """Write what uv reads, and what pip reads."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    dependencies = ranges()
    shared = {"wheel": wheel_name, "gpu": GPU, "cpu": CPU}
    project = PROJECT.format(
        python=settings["project"]["requires-python"],
        dependencies=json.dumps(["vaelib", *dependencies], indent=2),
        **shared,
    )
    (folder / "pyproject.toml").write_text(project, "utf-8")
    listed = REQUIREMENTS.format(dependencies="\n".join(dependencies), **shared)
    (folder / "requirements.txt").write_text(listed, "utf-8")


def pack(course: Path) -> Path:
    """Pack the students' folder; the old one stays until the new one is whole."""
    build = course / "build"
    build.mkdir(exist_ok=True)
    book = course / "_build" / "html"
    with tempfile.TemporaryDirectory(dir=build) as temporary:
        folder = Path(temporary, "vae-exercises")
        folder.mkdir()
        for name in assignments(course):
            shutil.copytree(course / "release" / name, folder / name)
        start = START.read_text("utf-8").splitlines(keepends=True)
        if (book / "index.html").exists():
            shutil.copytree(book, folder / "book", ignore=UNREAD)
        else:
            print("  without the book, which is not built: make book, and then make release again")
            start = [line for line in start if 'href="book/' not in line]
        (folder / "start.html").write_text("".join(start), "utf-8")
        write_requirements(folder, wheel(folder))
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
