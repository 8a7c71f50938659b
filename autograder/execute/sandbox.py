"""The sandbox around a warm parent: what bubblewrap binds, and what it does not.

A process inside sees the system and the interpreter read-only, the packages that were asked for,
and nothing else: no network, no home, no course, no other process.
"""

from __future__ import annotations

import functools
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from autograder.inside.confine import HOME

__all__ = ["NAMESPACES", "SandboxError", "command", "environment", "fingerprint", "problem"]

_PACKAGES = Path("/packages")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32")
_OF_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "fonts", "localtime"),
    *("ssl/certs", "pki/tls/certs", "pki/ca-trust/extracted"),  # whom everybody trusts
)
_OF_GRADER = ("__init__.py", "job.py", "inside", "link")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_INSTALL = (
    "Install bubblewrap (on Debian and Ubuntu: sudo apt-get install bubblewrap), or run without a "
    "sandbox by isolated=False, where nothing keeps a submission from the rest of this machine."
)
_OWN_BWRAP = "/opt/autograder/bwrap"
_PROFILE = Path(__file__).parents[1] / "system" / "apparmor-profile"
NAMESPACES = (
    "In a container, allow user namespaces (docker run --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt systempaths=unconfined, or --privileged); "
    f"on Ubuntu 23.10 and later do what {_PROFILE} says; "
    "or run without a sandbox by isolated=False."
)


class SandboxError(RuntimeError):
    """No sandbox can be had, or what was to run in it cannot start; the message says what to do."""


def environment(role: str) -> dict[str, str]:
    """The environment variables of a process in the sandbox: nothing of the caller's."""
    one = "1"  # threads would not survive the fork, and submissions run side by side
    backend = "module://matplotlib_inline.backend_inline" if role == "student" else "agg"
    return {
        "HOME": HOME,
        "IPYTHONDIR": "/tmp/ipython",
        "LANG": "C.UTF-8",
        "LOGNAME": "student",
        "MALLOC_ARENA_MAX": "2",  # each reserves 64 MiB of the address space, which is limited
        "MKL_NUM_THREADS": one,
        "MPLBACKEND": backend,
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "NBGRADER_EXECUTION": "autograde",  # as nbgrader sets it
        "NUMEXPR_NUM_THREADS": one,
        "OMP_NUM_THREADS": one,
        "OPENBLAS_NUM_THREADS": one,
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "TERM": "dumb",
        "USER": "student",
    }


def _bwrap() -> str | None:
    """The grader's own bubblewrap, which may have a profile of its own, or the system's."""
    return shutil.which(_OWN_BWRAP) or shutil.which("bwrap")


def _prefixes() -> list[Path]:
    """What of the interpreter and its installed packages lies outside the system's folders."""
    inside_prefix = ("bin", "lib", "lib64", "pyvenv.cfg")
    found = [
        Path(prefix) / part for prefix in {sys.base_prefix, sys.prefix} for part in inside_prefix
    ]
    found += [Path(path) for path in [*site.getsitepackages(), site.getusersitepackages()]]
    system = [Path(path) for path in _SYSTEM]
    kept: list[Path] = []
    for path in sorted({path for path in found if path.exists()}):
        if not any(path.is_relative_to(other) for other in [*system, *kept]):
            kept.append(path)
    return kept


def _location(name: str) -> Path:
    """The folder of a package or the file of a module, found without importing anything."""
    spec: ModuleSpec | None = find_spec(name.partition(".")[0])
    reached, *parts = name.split(".")
    for part in parts:
        folders = spec.submodule_search_locations if spec else None
        reached = f"{reached}.{part}"
        spec = PathFinder.find_spec(reached, folders) if folders else None
    if spec is None:
        raise SandboxError(f"There is no module {name!r} here: install it or take it off the list.")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin or "")


def _packages(names: Iterable[str], bound: list[Path]) -> dict[str, Path]:
    """By top-level name, the packages that no bound folder has (those installed as editable)."""
    found = {}
    for name in sorted({name.partition(".")[0] for name in names} - set(sys.builtin_module_names)):
        path = _location(name)
        if path.exists() and not any(path.is_relative_to(folder) for folder in bound):
            found[name] = path
    return found


def fingerprint(names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """When the files of packages outside the interpreter's folders were last written.

    Warm parents that have imported other versions of them are out of date.
    """
    packages = _packages(names, [*_prefixes(), *map(Path, _SYSTEM)]).values()
    files = (file for path in packages for file in ([path], path.rglob("*.py"))[path.is_dir()])
    return tuple(sorted((str(file), file.stat().st_mtime_ns) for file in files))


def _masked(name: str) -> list[Path]:
    """The source files of a module, or of everything in a package."""
    path = _location(name)
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    if any(file.suffix != ".py" for file in files):
        raise SandboxError(f"withheld: {name!r} is not written in Python and cannot be masked.")
    return files


def command(
    role: str,
    fd: int,
    *,
    imports: tuple[str, ...] = (),
    withheld: tuple[str, ...] = (),
    isolated: bool = True,
) -> list[str]:
    """The command line of a warm parent.

    Args:
        role: `"student"` or `"tests"`.
        fd: the inherited file descriptor by which it takes requests.
        imports: modules that it imports before the first request.
        withheld: modules that are replaced by `autograder.inside.withheld` for the student.
        isolated: whether bubblewrap is put around it.

    Raises:
        SandboxError: bubblewrap is not installed, or a module does not exist.
    """
    own = Path(__file__).parent.parent
    bound = _prefixes()
    packages = _packages([*imports, *withheld], [*bound, *map(Path, _SYSTEM)])
    path = [str(_PACKAGES)] if isolated else sorted({str(p.parent) for p in packages.values()})
    start = (
        f"import sys; sys.path[:0] = {path if isolated else [str(own.parent), *path]!r}; "
        "from autograder.inside.start import main; "
        f"main({fd}, {role!r}, {imports!r}, {withheld!r}, {isolated!r})"
    )
    # Without `..`, as where one calls `../env/bin/python`: the sandbox lacks what stands before it.
    python = [os.path.normpath(sys.executable), "-s", "-P", "-c", start]
    if not isolated:
        return python
    bwrap = _bwrap()
    if bwrap is None:
        raise SandboxError(f"There is no sandbox: bwrap was not found. {_INSTALL}")

    line = [bwrap, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc"]
    line += ["--unshare-uts", "--unshare-net", "--unshare-cgroup-try", "--hostname", "sandbox"]
    if os.geteuid() == 0:  # the worker becomes nobody, for which it keeps these two for a moment
        line += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        line += ["--unshare-user", "--cap-drop", "ALL"]
    for folder in (
        "/dev",
        "/dev/pts",
        "/dev/shm",
        str(Path(HOME).parent),
        HOME,
        "/mnt",
        "/etc",
        "/sys",
    ):
        line += ["--perms", "0755", "--dir", folder]
    for system in map(Path, _SYSTEM):
        if system.is_symlink():
            line += ["--symlink", str(system.readlink()), str(system)]
        elif system.is_dir():
            line += ["--ro-bind", str(system), str(system)]
    for name in _OF_ETC:
        line += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    line += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    for name in _DEVICES:
        line += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for link, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        line += ["--symlink", f"/proc/self/fd{target}", f"/dev/{link}"]
    line += ["--symlink", "pts/ptmx", "/dev/ptmx", "--proc", "/proc"]
    line += ["--perms", "1777", "--tmpfs", "/tmp"]
    for above in sorted({parent for path in bound for parent in path.parents}):
        if above not in (Path("/"), Path("/tmp")) and not above.is_relative_to("/usr"):
            line += ["--perms", "0755", "--dir", str(above)]
    for prefix in bound:
        line += ["--ro-bind", str(prefix), str(prefix)]
    for ours in (_PACKAGES, _PACKAGES / "autograder"):
        line += ["--perms", "0755", "--dir", str(ours)]
    for part in _OF_GRADER:
        line += ["--ro-bind", str(own / part), str(_PACKAGES / "autograder" / part)]
    for package in packages.values():
        line += ["--ro-bind", str(package), str(_PACKAGES / package.name)]
    masked = withheld if role == "student" else ()
    for file in (file for name in masked for file in _masked(name)):
        inside = file
        for package in packages.values():
            if file.is_relative_to(package):
                inside = _PACKAGES / file.relative_to(package.parent)
        line += ["--ro-bind", str(own / "inside" / "withheld.py"), str(inside)]
        if (file.parent / "__pycache__").exists():
            line += ["--tmpfs", str(inside.parent / "__pycache__")]
    return [*line, "--remount-ro", "/", "--chdir", "/", "--", *python]


@functools.cache
def problem() -> str | None:
    """What keeps this machine from having a sandbox, and what to do; `None` where it has one."""
    try:
        line = command("tests", 0)
    except SandboxError as error:
        return str(error)
    line[-1] = (
        f"import sys; sys.path[:0] = [{str(_PACKAGES)!r}]; "
        "from autograder.inside.probe import main; main()"
    )
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=60, env=environment("tests"), cwd="/"
    )
    if done.returncode == 0:
        return None
    told = done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"]
    return f"bwrap cannot make a sandbox here: {told[-1]}. {NAMESPACES}"
